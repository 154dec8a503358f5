"""Products of linear layers in single precision on a CPU, by the faster of the two libraries that torch has for them.

torch calls MKL, which uses AVX2 where a processor is not Intel's, even if it has AVX-512. oneDNN uses AVX-512 there,
which on a Zen 5 is twice as fast. It builds a program for each number of rows, in about a millisecond and half a
megabyte, and keeps it, so rows are worked on in parts of few sizes.

Shapes: N rows, I inputs, O outputs of a layer.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode
from transformers.activations import GELUActivation

from xmodular.modeling.shortcuts import is_plain, tracing

MOST = 1024  # rows of a part; as many as fit into a core's cache
LARGE, SMALL = 128, 16  # parts are multiples of one number of rows, smaller ones of the other
WORK = 2**21  # multiplications below which MKL's shorter way there counts more
_ZEN_5 = 26  # family


def linear(layer: nn.Linear, states: Tensor, activation: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """What a linear layer gives, *(..., I)* to *(..., O)*; a layer that something wraps or hooks into is called.

    Args:
        layer: the layer.
        states: its input.
        activation: is applied to its output.
    """
    known = type(layer) is nn.Linear  # others may lack `out_features`
    if not known or not _pays(states, layer.out_features) or not is_plain(layer, nn.Linear):
        made = layer(states)
    elif (
        isinstance(activation, GELUActivation) and is_plain(activation, GELUActivation) and not torch.is_grad_enabled()
    ):
        return product(states, layer.weight, layer.bias, gelu=True)
    else:
        made = product(states, layer.weight, layer.bias)
    return made if activation is None else activation(made)


def product(states: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """states·weightᵀ + bias, with gradients.

    Args:
        states: *Shape: (..., I)*.
        weight: *Shape: (O, I)*.
        bias: *Shape: (O,)*.
        gelu: apply GELU, without gradients.
    """
    if not _pays(states, len(weight)) or not _fits(states, weight, bias):
        made = F.linear(states, weight, bias)
        return F.gelu(made) if gelu else made
    rows = states.flatten(0, -2)
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (states, weight, bias)):
        made = _Product.apply(rows, weight, bias)
    else:
        made = _by_rows(rows, weight, bias, "gelu" if gelu else "none")
    return made.unflatten(0, states.shape[:-1])


def product_over_rows(one: Tensor, other: Tensor) -> Tensor:
    """oneᵀ·other, for any number of rows: *(N, O)* and *(N, I)* to *(O, I)*."""
    if torch.is_grad_enabled() or not _pays(one, other.shape[1]) or not _fits(one.T, other.T):
        return one.T @ other
    made: Any = None
    parts = sizes(len(one))
    for a, b in zip(one.split(parts), other.split(parts), strict=True):
        if lacking := -len(a) % SMALL:
            a, b = F.pad(a, (0, 0, 0, lacking)), F.pad(b, (0, 0, 0, lacking))
        part = _onednn(a.T, b.T, None)
        made = part if made is None else made.add_(part)
    return made


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        for_rows, for_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(rows if for_weight else None, weight if for_rows else None)
        return _by_rows(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        return (
            None if weight is None else product(grad, weight.T),
            None if rows is None else product_over_rows(grad, rows),
            grad.sum(0) if ctx.needs_input_grad[2] else None,
        )


def sizes(rows: int, most: int = MOST) -> list[int]:
    """In what numbers rows are best worked on, one after the other, when several layers follow each other."""
    found = [most] * (rows // most)
    left = rows % most
    if left >= LARGE and faster():
        found.append(left // LARGE * LARGE)
    return [*found, rest] if (rest := rows - sum(found)) else found


def _by_rows(rows: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """rows·weightᵀ + bias: *(N, I)* and *(O, I)* to *(N, O)*."""
    count = len(rows)
    step = SMALL if count < LARGE else LARGE
    lacking = -count % step
    if not lacking and count <= MOST:
        return _onednn(rows, weight, bias, then)
    # A copy of the input with some rows more, or one of the output, put together from parts.
    if count < LARGE or (count <= MOST and len(weight) > rows.shape[1] and 8 * lacking <= count):
        return _onednn(F.pad(rows, (0, 0, 0, lacking)), weight, bias, then)[:count]
    made, start = rows.new_empty(count, len(weight)), 0
    for size in sizes(count):
        end = start + size
        start -= -size % SMALL  # the last part repeats a few rows
        made[start:end] = _onednn(rows[start:end], weight, bias, then)
        start = end
    return made


def _onednn(rows: Tensor, weight: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, then, [], "none" if then == "gelu" else "")


def _pays(states: Tensor, outputs: int) -> bool:
    """Whether a product is large enough; a graph must not depend on that, so none is there."""
    return not tracing() and states.numel() * outputs >= WORK


def _fits(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether oneDNN can be called here, and is faster."""
    return (
        faster()
        and states.device.type == weight.device.type == "cpu"
        and states.dtype == weight.dtype == torch.float32
        and states.layout == weight.layout == torch.strided
        and states.dim() > 1
        and weight.shape[1:] == states.shape[-1:]
        # oneDNN reads a bias as if its numbers were one after the other, and as many as are needed.
        and (bias is None or (bias.dtype, bias.shape, bias.is_contiguous()) == (torch.float32, weight.shape[:1], True))
        and 2 * states.numel() > SMALL * states.shape[-1]
        and type(states) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._functorch.is_legacy_batchedtensor(states)
        and forward_ad._current_level < 0
        and _get_current_dispatch_mode() is None
        and torch._C._get_mkldnn_enabled()
    )


@lru_cache(maxsize=1)
def faster() -> bool:
    """Whether oneDNN is known to be faster: on AMD's processors with whole units for AVX-512, from Zen 5 on."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and all(hasattr(torch._C, name) for name in ("_are_functorch_transforms_active", "_get_mkldnn_enabled"))
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and _family() >= _ZEN_5
    )


def _family() -> int:
    """The family of a processor of AMD; 0 of any other."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        told = platform.processor()  # on Windows: AMD64 Family 26 Model 2 Stepping 1, AuthenticAMD
    found = re.search(r"family\s*:?\s*(\d+)", told, re.IGNORECASE)
    return int(found[1]) if found and "AuthenticAMD" in told else 0
