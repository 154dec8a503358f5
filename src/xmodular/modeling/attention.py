"""Multi-head attention over the tokens of a plan.

Shapes: B sequences, S tokens per sequence as given, T tokens that are worked on, H heads of size d, Q queries and K
keys of a sequence. States are *(T, hidden)* in the packed layout and *(B, S, hidden)* in the grid.

The packed layout attends run by run, without masks, on a GPU in one call for all runs (`AttentionInputs.one_call`). The
grid layout goes through transformers' attention interface, with its masks and caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from xmodular.configuration import XmodConfig
from xmodular.modeling import kernels
from xmodular.modeling.adapters import Adapters, XmodAdapter
from xmodular.modeling.attention_inputs import AttentionInputs
from xmodular.modeling.products import linear
from xmodular.modeling.shortcuts import is_plain, tracing

# Backends that the packed layout has a way for; with any other, the grid layout and the backend's own masks are used.
PACKED_BACKENDS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3")


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    factor: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(q·kᵀ·scaling + mask)·v, computed explicitly; the only backend that returns probabilities.

    The context is computed from the returned probabilities, so that these have gradients.

    Args:
        module: the attention module (its `training` flag is read).
        query: *Shape: (B, H, Q, d)*.
        key, value: *Shape: (B, H, K, d)*.
        attention_mask: added to the scores, or True where a key is visible; broadcast to *(B, H, Q, K)*.
        scaling: factor of the scores.
        dropout: probability of dropping a weight.
        factor: multiplied with the probabilities; broadcast to *(B, H, Q, K)*.

    Returns:
        The context, *Shape: (B, Q, H, d)*, and the probabilities, *Shape: (B, H, Q, K)*.
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask[..., : key.shape[-2]], torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[-2]]
    weights = F.dropout(scores.softmax(-1), dropout, module.training)
    if factor is not None:
        weights = weights * factor.to(weights.dtype)
    return torch.matmul(weights, value).transpose(1, 2), weights


class XmodSelfAttention(nn.Module):
    """Projections to heads, attention, and optional relative positions.

    Relative positions (BERT's form): a table with a row for each distance between two slots gives a term that is added
    to the scores before their division by √d. "relative_key" (Shaw et al. 2018) multiplies it with the query;
    "relative_key_query" (Huang et al. 2020, method 4) adds the product with the key.
    """

    def __init__(self, config: XmodConfig, layer: int, *, cross: bool = False) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer
        self.cross = cross
        self.is_causal = config.is_decoder and not cross
        self.head_size = config.hidden_size // config.num_attention_heads
        pruned = (config.pruned_heads or {}).get(layer, []) if not cross else []
        self.heads = [head for head in range(config.num_attention_heads) if head not in pruned]
        self.scaling = self.head_size**-0.5
        self.dropout_prob = config.attention_probs_dropout_prob
        width = len(self.heads) * self.head_size
        self.query = nn.Linear(config.hidden_size, width)
        self.key = nn.Linear(config.hidden_size, width)
        self.value = nn.Linear(config.hidden_size, width)
        # Between decoder and encoder there is no distance: cross-attention is always without.
        self.relative = (
            None if cross or config.position_embedding_type == "absolute" else config.position_embedding_type
        )
        if self.relative:
            self.max_distance = config.max_position_embeddings - 1
            self.distance_embedding = nn.Embedding(2 * self.max_distance + 1, self.head_size)

    def forward(
        self,
        states: Tensor,
        inputs: AttentionInputs,
        head_mask: Tensor | None = None,
        cross_states: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Computes attention.

        Args:
            states: *Shape: (T, hidden)* or *(B, S, hidden)*.
            inputs: plan, masks and caches.
            head_mask: *Shape: (H of the configuration,)*; each head's probabilities are multiplied with its entry.
            cross_states: *Shape: (B, K, hidden)*, the encoder's states, for cross-attention.

        Returns:
            The context, *Shape: (T, H·d)* or *(B, S, H·d)*, and the probabilities if requested: *(B, H, Q, K)*.
        """
        if head_mask is not None and len(self.heads) < len(head_mask):
            head_mask = torch.stack([head_mask[head] for head in self.heads])  # a list would be sent to the device
        if inputs.plan.packed and not self.cross:
            return self._packed(states, inputs, head_mask)
        return self._grid(states, inputs, head_mask, cross_states)

    def _packed(self, states: Tensor, inputs: AttentionInputs, head_mask: Tensor | None) -> tuple[Tensor, Any]:
        plan = inputs.plan
        query, key, value = (
            linear(projection, states).unflatten(-1, (len(self.heads), self.head_size))
            for projection in (self.query, self.key, self.value)
        )  # (T, H, d)
        weights: list[Tensor | None] = []
        one_call = None if self.relative or inputs.want_weights else self._in_one_call(query, key, value, inputs)
        if one_call is not None:
            context = one_call
        elif plan.runs is not None and len(plan.runs) == 1:
            context, probabilities = self._run(query, key, value, plan.slots, plan.runs[0], inputs, head_mask)
            weights.append(probabilities)
        else:
            context, weights = self._runs(query, key, value, inputs, head_mask)
        if head_mask is not None:
            context = context * head_mask.to(context.dtype)[:, None]
        asked = [part for part in weights if part is not None] if inputs.want_weights else None
        return context.flatten(1), None if asked is None else plan.unpack_attention(asked)

    def _runs(
        self, query: Tensor, key: Tensor, value: Tensor, inputs: AttentionInputs, head_mask: Tensor | None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Run by run; each is a view of the packed tokens."""
        plan = inputs.plan
        sizes = plan.run_tokens
        slots = [None] * len(sizes) if plan.slots is None else plan.slots.split(sizes)
        # One split each, so that the gradient is put together once and not once per run.
        parts = zip(query.split(sizes), key.split(sizes), value.split(sizes), slots, plan.runs or (), strict=True)
        done = [self._run(q, k, v, slot, run, inputs, head_mask) for q, k, v, slot, run in parts]
        if not done:
            return query, []
        return torch.cat([context for context, _ in done]), [weights for _, weights in done]

    def _run(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        slots: Tensor | None,
        run: tuple[int, int],
        inputs: AttentionInputs,
        head_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention within sequences of equal length: *(tokens of the run, H, d)* in and out."""
        q, k, v = (part.unflatten(0, run).transpose(1, 2) for part in (query, key, value))  # (n, H, L, d)
        bias = None
        if self.relative:
            columns = torch.arange(run[1], device=q.device).expand(run) if slots is None else slots.view(run)
            bias = self._relative_bias(q, k, columns, columns, inputs.plan.length) * self.scaling
        dropout = self.dropout_prob if self.training else 0.0
        if inputs.backend == "eager" or inputs.want_weights:
            if inputs.causal:
                future = torch.ones(run[1], run[1], dtype=torch.bool, device=q.device).triu(1)
                hidden = q.new_zeros(future.shape).masked_fill(future, torch.finfo(q.dtype).min)
                bias = hidden if bias is None else bias + hidden
            context, weights = eager_attention(self, q, k, v, bias, self.scaling, dropout)
            if head_mask is not None:
                weights = weights * head_mask.to(weights.dtype)[:, None, None]
            return context.flatten(0, 1), weights
        if bias is not None and inputs.causal:
            future = torch.ones(run[1], run[1], dtype=torch.bool, device=q.device).triu(1)
            bias = bias.masked_fill(future, torch.finfo(bias.dtype).min)
        context = F.scaled_dot_product_attention(
            q, k, v, bias, dropout, is_causal=inputs.causal and bias is None, scale=self.scaling
        )
        return context.transpose(1, 2).flatten(0, 1), None

    def _in_one_call(self, query: Tensor, key: Tensor, value: Tensor, inputs: AttentionInputs) -> Tensor | None:
        """All runs in one call, *(T, H, d)* in and out; None if there is no way for that."""
        dropout = self.dropout_prob if self.training else 0.0
        if "flash" in inputs.backend:
            return self._package(query, key, value, inputs, dropout)
        ends = inputs.cumulative
        if ends is not None and not dropout and kernels.attends(query.device, query.dtype, self.head_size):
            longest = max(length for _, length in inputs.plan.runs or ())
            return kernels.attention(query, key, value, ends, longest, causal=inputs.causal, scaling=self.scaling)
        if inputs.padded is None or (inputs.padded.mask is not None and inputs.padded.mask.dtype != query.dtype):
            return None
        shape, places, mask = inputs.padded.shape, inputs.padded.places, inputs.padded.mask
        three = torch.stack((query, key, value), 1)
        grid = three.new_zeros(shape[0] * shape[1], *three.shape[1:]).index_copy_(0, places, three)
        q, k, v = grid.unflatten(0, shape).permute(2, 0, 3, 1, 4)  # (sequences, H, longest, d) each
        context = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=inputs.causal, scale=self.scaling)
        return context.transpose(1, 2).flatten(0, 1).index_select(0, places)

    def _package(self, query: Tensor, key: Tensor, value: Tensor, inputs: AttentionInputs, dropout: float) -> Tensor:
        """The kernels of the flash-attention package, through transformers."""
        longest = max((length for _, length in inputs.plan.runs or ()), default=0)
        heads_first = (part.transpose(0, 1)[None] for part in (query, key, value))  # (1, H, T, d)
        context, _ = ALL_ATTENTION_FUNCTIONS.get_interface(inputs.backend, eager_attention)(
            self,
            *heads_first,
            None,
            dropout=dropout,
            scaling=self.scaling,
            is_causal=inputs.causal,
            cu_seq_lens_q=inputs.cumulative,
            cu_seq_lens_k=inputs.cumulative,
            max_length_q=longest,
            max_length_k=longest,
        )
        return context[0]

    def _grid(
        self, states: Tensor, inputs: AttentionInputs, head_mask: Tensor | None, cross_states: Tensor | None
    ) -> tuple[Tensor, Any]:
        query = self._heads(linear(self.query, states))
        key, value = self._keys_and_values(states, inputs, cross_states)
        mask = inputs.cross_mask if self.cross else inputs.mask
        if self.relative:
            if mask is not None and mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
            batch = query.shape[0]
            rows = torch.arange(query.shape[2], device=query.device) + inputs.past.length
            columns = torch.arange(key.shape[2], device=query.device)
            bias = self._relative_bias(query, key, rows.expand(batch, -1), columns.expand(batch, -1), key.shape[2])
            bias = bias * self.scaling
            mask = bias if mask is None else mask + bias
        dropout = self.dropout_prob if self.training else 0.0
        if inputs.want_weights:
            factor = None if head_mask is None else head_mask[:, None, None]
            if inputs.padding is not None:  # queries that are none look nowhere, as in the packed layout
                real = (~inputs.padding)[:, None, :, None].to(query.dtype)
                factor = real if factor is None else factor * real
            context, weights = eager_attention(self, query, key, value, mask, self.scaling, dropout, factor)
            return context.flatten(2), weights
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(inputs.backend, eager_attention)
        context, _ = attend(self, query, key, value, mask, dropout=dropout, scaling=self.scaling)
        if head_mask is not None:
            context = context * head_mask.to(context.dtype)[:, None]
        return context.flatten(2), None

    def _keys_and_values(
        self, states: Tensor, inputs: AttentionInputs, cross_states: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the grid layout, *Shape: (B, H, K, d)*, through the cache if there is one."""
        cache: Any = inputs.past.cache
        if self.cross:
            assert cross_states is not None
            if isinstance(cache, EncoderDecoderCache) and cache.is_updated.get(self.layer_idx):
                layer: Any = cache.cross_attention_cache.layers[self.layer_idx]
                return layer.keys, layer.values
            states = cross_states
        key, value = (self._heads(linear(projection, states)) for projection in (self.key, self.value))
        if isinstance(cache, EncoderDecoderCache):
            half: Any = cache.cross_attention_cache if self.cross else cache.self_attention_cache
        else:
            half = None if self.cross else cache
        if half is None:
            return key, value
        if not inputs.past.extends:
            if self.cross or len(half.layers) <= self.layer_idx:
                return key, value
            before = half.layers[self.layer_idx]
            return torch.cat((before.keys, key), 2), torch.cat((before.values, value), 2)
        key, value = half.update(key, value, self.layer_idx)
        if self.cross:
            cache.is_updated[self.layer_idx] = True
        return key, value

    def _heads(self, states: Tensor) -> Tensor:
        """*(B, N, H·d)* to *(B, H, N, d)*."""
        return states.reshape(*states.shape[:2], len(self.heads), self.head_size).transpose(1, 2)

    def _relative_bias(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor, longest: int) -> Tensor:
        """The term of relative positions, before the division by √d.

        Args:
            query: *Shape: (n, H, Q, d)*.
            key: *Shape: (n, H, K, d)*.
            rows, columns: *Shape: (n, Q)* and *(n, K)*, the slots of queries and keys.
            longest: a number that all slots are below.

        Returns:
            *Shape: (n, H, Q, K)*.
        """
        # Products with all rows of the table that can occur, then a choice by distance: (n, H, Q, distances).
        span = min(self.max_distance, longest - 1)
        occurring = torch.arange(self.max_distance - span, self.max_distance + span + 1, device=query.device)
        table = self.distance_embedding(occurring).to(query.dtype)
        distance = rows[:, :, None] - columns[:, None, :] + span  # (n, Q, K)
        heads = query.shape[1]
        index = distance[:, None].expand(-1, heads, -1, -1)
        bias = torch.matmul(query, table.T).gather(3, index)
        if self.relative == "relative_key_query":
            bias = bias + torch.matmul(key, table.T).gather(3, index.transpose(2, 3)).transpose(2, 3)
        return bias


class XmodAttentionOutput(nn.Module):
    """The projection after attention, and the LayerNorm of the block."""

    def __init__(self, config: XmodConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)


class XmodAttention(nn.Module):
    """The attention block: attention, projection, residual, and LayerNorm before (pre-norm) or after (post-norm)."""

    def __init__(self, config: XmodConfig, layer: int, *, cross: bool = False) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.self = XmodSelfAttention(config, layer, cross=cross)
        self.output = XmodAttentionOutput(config, len(self.self.heads) * self.self.head_size)

    def attend(
        self,
        states: Tensor,
        inputs: AttentionInputs,
        head_mask: Tensor | None = None,
        cross_states: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """First half, attention between tokens: *(..., hidden)* to *(..., H·d)*, and the probabilities if requested."""
        return self.self(self.output.LayerNorm(states) if self.pre_norm else states, inputs, head_mask, cross_states)

    def close(self, context: Tensor, states: Tensor) -> Tensor:
        """Second half, token by token: *(..., H·d)* and the block's input *(..., hidden)* to *(..., hidden)*."""
        out = self.output
        states = add(out.dropout(linear(out.dense, context)), states, out.dense, out.dropout)
        return states if self.pre_norm else self.output.LayerNorm(states)


def add(update: Tensor, residual: Tensor, *sources: nn.Module) -> Tensor:
    """The sum of both; computed in place of the update if neither gradients nor wrapped modules need it."""
    untouched = all(is_plain(source, nn.Linear, nn.Dropout, XmodAdapter, Adapters) for source in sources)
    if torch.is_grad_enabled() or tracing() or update.dtype != residual.dtype or not untouched:
        return update + residual
    return update.add_(residual)
