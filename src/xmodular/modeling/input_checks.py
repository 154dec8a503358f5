"""Check the arguments of a forward pass; messages name the argument, its value and what is allowed.

Shapes: B sequences, S tokens per sequence as given. Nothing here waits for a device; a traced forward pass is
checked as far as its sizes are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError, did_you_mean
from xmodular.modeling.caches import Past
from xmodular.modeling.shortcuts import tracing

# Options that transformers passes along, for attention kernels and generation; they have no effect here.
_UNUSED_KEYWORDS = (
    "cache_position",
    "num_items_in_batch",
    "logits_to_keep",
    "is_first_iteration",
)


def check_keywords(keywords: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Raise an error for unknown keywords; `arguments` are the known ones."""
    for name, value in keywords.items():
        if name not in _UNUSED_KEYWORDS and value is not None:
            hint = did_you_mean(name, arguments, f"the arguments are {', '.join(arguments)}.")
            raise InputError(f"forward got an unknown argument {name!r}: {hint}")


def input_shape(
    input_ids: Tensor | None, inputs_embeds: Tensor | None, hidden_size: int
) -> tuple[int, int, torch.device]:
    """B, S and the device of the input."""
    if (input_ids is None) == (inputs_embeds is None):
        raise InputError("give exactly one of input_ids and inputs_embeds.")
    if input_ids is not None:
        if input_ids.dim() != 2:
            raise InputError(f"input_ids has shape {tuple(input_ids.shape)}: it must be (batch, sequence).")
        if not torch.jit.is_tracing() and not input_ids.shape[1]:
            raise InputError("input_ids has no tokens: a sequence needs at least one.")
        return *input_ids.shape, input_ids.device
    assert inputs_embeds is not None
    if inputs_embeds.dim() != 3 or (not torch.jit.is_tracing() and inputs_embeds.shape[2] != hidden_size):
        raise InputError(
            f"inputs_embeds has shape {tuple(inputs_embeds.shape)}: it must be (batch, sequence, {hidden_size})."
        )
    return *inputs_embeds.shape[:2], inputs_embeds.device


def check_cross(states: Tensor | None, mask: Tensor | None, batch_size: int, config: XmodConfig) -> None:
    """The states of the encoder, *(B, K, hidden)*, and their mask."""
    if states is None:
        return
    if not config.add_cross_attention:
        raise InputError(
            "encoder_hidden_states are given, but this model has no cross-attention: set is_decoder=True and "
            "add_cross_attention=True."
        )
    if torch.jit.is_tracing():
        return  # lengths are not known here
    if states.dim() != 3 or states.shape[0] != batch_size or states.shape[2] != config.hidden_size:
        raise InputError(
            f"encoder_hidden_states have shape {tuple(states.shape)}: they must be (batch, encoder sequence, hidden) = "
            f"({batch_size}, ..., {config.hidden_size})."
        )
    if mask is not None and (
        mask.dim() not in (2, 3, 4) or mask.shape[0] not in (1, batch_size) or mask.shape[-1] != states.shape[1]
    ):
        raise InputError(
            f"encoder_attention_mask has shape {tuple(mask.shape)}: it must be ({batch_size}, {states.shape[1]}), one "
            "entry per token of the encoder."
        )


def check_ids(ids: Tensor | None, name: str, batch_size: int, length: int, rows: int, field: str) -> None:
    """Check row numbers of a table, *(B, S)* or *(1, S)*; `field` is the configuration field with the table's size."""
    if ids is None:
        return
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise InputError(f"{name} has dtype {ids.dtype}: it must be integers.")
    # Only where reading values costs nothing; elsewhere the device itself checks.
    if ids.device.type == "cpu" and not tracing() and ids.numel():
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= rows:
            raise InputError(
                f"{name} has {low if low < 0 else high}: it must be from 0 to {rows - 1} ({field} {rows})."
            )
    if not torch.jit.is_tracing() and tuple(ids.shape) not in ((batch_size, length), (1, length)):
        raise InputError(f"{name} has shape {tuple(ids.shape)}: it must be ({batch_size}, {length}), one per token.")


def check_mask(mask: Tensor | None, batch_size: int, length: int, past: Past) -> None:
    """Check a mask over the tokens of this forward pass and those before them."""
    if mask is None:
        return
    if isinstance(mask, list | tuple):
        raise InputError(f"attention_mask is a {type(mask).__name__}: it must be a tensor, such as torch.tensor(mask).")
    if not isinstance(mask, Tensor):
        return  # prepared by and for an attention backend, such as flex attention's block masks
    if isinstance(past.length, Tensor) or torch.jit.is_tracing():
        return  # lengths are not known here
    keys = length + past.length
    columns = mask.shape[-1]
    fits = (
        mask.dim() == 2
        and mask.shape[0] == batch_size
        and (columns == keys or (columns > keys and past.has_fixed_size))
    )
    if mask.dim() == 3:
        fits = mask.shape[0] in (1, batch_size) and mask.shape[1] == length and columns >= keys
    if mask.dim() == 4:
        fits = mask.shape[0] in (1, batch_size)
    if not fits:
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}: it must be ({batch_size}, {keys}), one entry per token, or "
            f"({batch_size}, {length}, {keys}), one per query and key."
        )


def check_head_mask(mask: Tensor | None, config: XmodConfig) -> Tensor | None:
    """The mask as *(layers, heads)*."""
    if mask is None:
        return None
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    if tuple(mask.shape) == (heads,):
        return mask.expand(layers, heads)
    if tuple(mask.shape) == (layers, heads):
        return mask
    raise InputError(
        f"head_mask has shape {tuple(mask.shape)}: it must be (heads,) = ({heads},) or (layers, heads) = "
        f"({layers}, {heads})."
    )
