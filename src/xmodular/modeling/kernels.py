"""What a GPU does in one call: attention over sequences of several lengths, and products with several matrices.

A loop over runs or languages launches a few small kernels for each; these launch one for all. Whether they can be used
is known without asking the device for any value. Nothing here is needed on a CPU, where a launch costs little.

Shapes: T tokens, end to end; H heads of size d; G languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

GROUPED_FROM = 4  # languages; with fewer, their own kernels are no more than those around the grouped product
_ALIGNED = 8  # numbers of 16 bits in the 16 bytes that these kernels read at once


@lru_cache
def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU: (8, 0) is an A100, (9, 0) an H100 or H200; (0, 0) if it is none of NVIDIA's."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" and torch.version.hip is None else (0, 0)


def calls_cost(device: torch.device) -> bool:
    """Whether a call for each run takes longer than the work itself, as it must be launched first."""
    return device.type == "cuda"


def computing_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type in which linear layers with weights of that type compute: autocast's, if it is on."""
    casts = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if casts else dtype


def attends(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether `attention` runs here: torch 2.10 or later, 16 bits, an A100 or a later GPU."""
    return (
        dtype in (torch.float16, torch.bfloat16)
        and capability(device) >= (8, 0)
        and head_size <= 256
        and head_size % _ALIGNED == 0
        and _varlen() is not None
    )


@lru_cache
def _varlen() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def attention(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, *, causal: bool, scaling: float
) -> Tensor:
    """Attention within each of several sequences, in one call; without dropout.

    Args:
        query, key, value: *Shape: (T, H, d)*.
        ends: *Shape: (sequences + 1,)*, int32: where each begins, and where the last one ends.
        longest: the length of the longest sequence.
        causal: whether a query attends only to keys up to its own position.
        scaling: factor of the scores.

    Returns:
        *Shape: (T, H, d)*.
    """
    window = (-1, 0) if causal else (-1, -1)
    found: Tensor = _varlen()(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=window)
    return found


def groups(device: torch.device, dtype: torch.dtype, *sizes: int) -> bool:
    """Whether `grouped_linear` pays here: torch 2.10 or later, bfloat16, a GPU with a kernel of its own for it.

    Those are compute capabilities 9.x and, since torch 2.13, 10.x; elsewhere torch's own is a loop that waits for the
    device.

    Args:
        device, dtype: where and in which type it computes.
        sizes: the sizes of the matrices.
    """
    newest = 10 if _torch_version() >= (2, 13) else 9
    return (
        dtype == torch.bfloat16
        and 9 <= capability(device)[0] <= newest
        and all(size % _ALIGNED == 0 for size in sizes)
        and hasattr(F, "grouped_mm")
    )


@lru_cache
def _torch_version() -> tuple[int, ...]:
    return tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


def grouped_linear(
    states: Tensor, ends: Tensor, owners: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    """A linear layer for each group of tokens, in one product: of group g, x·weights[g]ᵀ + biases[g].

    Args:
        states: *Shape: (T, in)*, the groups one after the other, in the type to compute in.
        ends: *Shape: (G,)*, int32: where each group ends.
        owners: *Shape: (T, G)*, of the same type: 1 where a token is of a group, else 0.
        weights: of each group, *(out, in)*.
        biases: of each group, *(out,)*.

    Returns:
        *Shape: (T, out)*.
    """
    found: Tensor = _GroupedLinear.apply(states, ends, owners, *weights, *biases)
    return found


def _stacked(parts: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    return torch.stack(parts).to(dtype)


class _GroupedLinear(torch.autograd.Function):
    """Stacks the weights for the moment of a product only: every language keeps its own, and no copy can get old.

    The biases go through a product with `owners`, whose gradient is again a product, in full precision and always in
    the same order.
    """

    @staticmethod
    def forward(states: Tensor, ends: Tensor, owners: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        product = F.grouped_mm(states, _stacked(weights, states.dtype).transpose(1, 2), offs=ends)
        return product.addmm_(owners, _stacked(biases, states.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        states, ends, owners, *parameters = ctx.saved_tensors
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        grad = grads[0].contiguous()
        needed = ctx.needs_input_grad
        d_states = d_weights = d_biases = None
        if needed[0]:
            d_states = F.grouped_mm(grad, _stacked(weights, grad.dtype), offs=ends)
        if any(needed[3 : 3 + len(weights)]):
            d_weights = F.grouped_mm(grad.t(), states, offs=ends)
        if any(needed[3 + len(weights) :]):
            d_biases = owners.t() @ grad
        of_parameters = [
            gradient[place % len(weights)].to(parameter.dtype) if gradient is not None and wanted else None
            for place, (parameter, wanted) in enumerate(zip((*weights, *biases), needed[3:], strict=True))
            for gradient in (d_weights if place < len(weights) else d_biases,)
        ]
        return d_states, None, None, *of_parameters
