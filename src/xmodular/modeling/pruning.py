"""Remove attention heads permanently."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xmodular.errors import ConfigurationError
from xmodular.modeling.attention import XmodAttention
from xmodular.modeling.shortcuts import is_plain


def prune_heads(block: XmodAttention, heads: set[int]) -> None:
    """Removes heads (numbered as in the unpruned layer) from a block's weights.

    Raises:
        ConfigurationError: if no head would be left.
    """
    attention = block.self
    stay = [head for head in attention.heads if head not in heads]
    if not stay:
        raise ConfigurationError(
            f"layer {attention.layer_idx} has heads {attention.heads}: pruning {sorted(heads)} leaves none; one "
            "must remain."
        )
    places = torch.tensor([attention.heads.index(head) for head in stay])
    rows = (places[:, None] * attention.head_size + torch.arange(attention.head_size)).flatten()
    for linear in (attention.query, attention.key, attention.value, block.output.dense):
        if not is_plain(linear, nn.Linear):
            raise ConfigurationError(
                f"layer {attention.layer_idx} has a {type(linear).__name__} instead of a plain linear layer, "
                "or hooks on it: prune heads before layers are wrapped, quantised or hooked."
            )
    for name in ("query", "key", "value"):
        setattr(attention, name, _linear_part(getattr(attention, name), rows, 0))
    block.output.dense = _linear_part(block.output.dense, rows, 1)
    attention.heads = stay


def _linear_part(linear: nn.Linear, index: Tensor, dim: int) -> nn.Linear:
    """A linear layer with some of the outputs (dim 0) or inputs (dim 1) of another."""
    weight = linear.weight.detach().index_select(dim, index.to(linear.weight.device)).clone()
    bias = linear.bias.detach()
    part = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    part.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    part.bias = nn.Parameter(
        (bias.index_select(0, index.to(bias.device)) if dim == 0 else bias).clone(),
        requires_grad=linear.bias.requires_grad,
    )
    return part
