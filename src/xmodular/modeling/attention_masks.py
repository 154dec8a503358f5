"""The masks of the grid layout, in the form for the attention backend.

Shapes: B sequences, S tokens per sequence as given, Q queries and K keys of a sequence.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError


def config_of_masks(config: XmodConfig, *, eager: bool) -> XmodConfig:
    """The configuration whose backend decides the form of the masks.

    Args:
        config: the model's configuration.
        eager: whether probabilities are requested, which only the eager backend computes.
    """
    if not eager and config.position_embedding_type == "absolute":
        return config
    config = copy.copy(config)
    config._attn_implementation_internal = "eager"
    return config


def self_mask(config: XmodConfig, grid: Tensor, mask: Tensor | None, cache: Cache | None) -> Any:
    """The mask of self-attention.

    Args:
        config: see `config_of_masks`.
        grid: states, *Shape: (B, S, hidden)*.
        mask: *Shape: (B, S)*, *(B, Q, K)* or *(B, 1, Q, K)*, as the user passes it.
        cache: keys and values of earlier tokens.

    Raises:
        ConfigurationError: if the mask has three dimensions, which this backend does not support.
    """
    if isinstance(mask, Tensor) and mask.dim() == 3 and config._attn_implementation not in ("eager", "sdpa"):
        raise ConfigurationError(
            f"attention_mask has three dimensions, which attn_implementation {config._attn_implementation!r} does not "
            "support: use 'sdpa' or 'eager'."
        )
    mask = _square(mask, grid.dtype)
    if config.is_decoder:
        return create_causal_mask(config, grid, mask, cache)
    return create_bidirectional_mask(config, grid, mask, past_key_values=cache)


def cross_mask(config: XmodConfig, grid: Tensor, mask: Tensor | None, cross_states: Tensor | None) -> Any:
    """The mask over the encoder's states, *Shape: (B, K, hidden)*; None if there are none, or all are visible."""
    if mask is None or cross_states is None:
        return None
    return create_bidirectional_mask(config, grid, _square(mask, grid.dtype), cross_states)


def _square(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask of three dimensions (nonzero: visible) as an additive one, *(B, 1, Q, K)*; others unchanged."""
    if not isinstance(mask, Tensor) or mask.dim() != 3:
        return mask
    visible = mask[:, None] != 0
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
