"""The stack of layers: attention, cross-attention, feed-forward, language adapter, all with residuals.

Shapes: B sequences, S tokens per sequence as given, T tokens that are worked on, in the order of the plan. States are
*(T, hidden)* in the packed layout and *(B, S, hidden)* in the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from xmodular.configuration import XmodConfig
from xmodular.modeling.adapters import Adapters, activation, are_neutral, sources
from xmodular.modeling.attention import XmodAttention, add
from xmodular.modeling.attention_inputs import AttentionInputs
from xmodular.modeling.products import MOST, linear, sizes
from xmodular.modeling.routing import Routes
from xmodular.modeling.shortcuts import tracing

CHUNK_ROWS = MOST  # tokens at a time in inference on a CPU


class XmodIntermediate(nn.Module):
    """First half of the feed-forward layer."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = activation(config)

    def forward(self, states: Tensor) -> Tensor:
        """*(..., hidden)* to *(..., intermediate)*."""
        return linear(self.dense, states, self.activation)


class XmodOutput(nn.Module):
    """Second half of the feed-forward layer, then the language adapters.

    Three flags of the configuration determine the adapters' input. With `adapter_layer_norm`, a LayerNorm of their own
    comes first, shared by the languages; otherwise, with `adapter_reuse_layer_norm`, the layer's output LayerNorm; else
    none. Their residual starts after that LayerNorm (`ln_before_adapter`) or before it.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.adapter_layer_norm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.adapter_layer_norm else None
        )
        self.reuse_layer_norm = config.adapter_reuse_layer_norm
        self.residual_after_norm = config.ln_before_adapter
        self.adapter_modules = Adapters(config)

    def adapt(self, states: Tensor, routes: Routes) -> Tensor:
        """The adapters with their LayerNorm and residual: *(..., hidden)* to the same."""
        neutral = are_neutral(self.adapter_modules, routes)
        if neutral and not self.residual_after_norm:
            return states
        if self.adapter_layer_norm is not None:
            normed = self.adapter_layer_norm(states)
        elif self.reuse_layer_norm:
            normed = self.LayerNorm(states)
        else:
            normed = states
        if neutral:
            return normed
        residual = normed if self.residual_after_norm else states
        adapted = self.dropout(self.adapter_modules(normed, routes))
        return add(adapted, residual, self.dropout, *sources(self.adapter_modules, routes))


class XmodLayer(GradientCheckpointingLayer):
    """One layer, post-norm (after each block) or pre-norm (before each block)."""

    def __init__(self, config: XmodConfig, layer: int) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.chunk_size = config.chunk_size_feed_forward
        self.attention = XmodAttention(config, layer)
        if config.add_cross_attention:
            self.crossattention = XmodAttention(config, layer, cross=True)
        self.intermediate = XmodIntermediate(config)
        self.output = XmodOutput(config)

    def forward(
        self,
        states: Tensor,
        inputs: AttentionInputs,
        head_mask: Tensor | None = None,
        kept: bool = False,
        cross_states: Tensor | None = None,
    ) -> tuple[Tensor, Any, Any]:
        """Runs the layer.

        Args:
            states: *Shape: (T, hidden)* in the packed layout, *(B, S, hidden)* in the grid.
            inputs: plan, masks and caches.
            head_mask: *Shape: (heads,)*.
            kept: whether to continue after attention with the plan's kept tokens only (in the last layer).
            cross_states: *Shape: (B, K, hidden)*, the encoder's states, for cross-attention. A separate argument, as
                reentrant checkpointing computes gradients only for arguments.

        Returns:
            The new states, of the same shape, or *(kept, hidden)*; the attention probabilities and those of
            cross-attention, each None if not requested.
        """
        plan, routes = inputs.plan, inputs.plan.routes
        context, weights = self.attention.attend(states, inputs, head_mask)
        if kept and plan.kept is not None and plan.kept_routes is not None:
            context, states, routes = context[plan.kept], states[plan.kept], plan.kept_routes
        cross_weights = None
        if cross_states is not None:
            states = self.attention.close(context, states)
            context, cross_weights = self.crossattention.attend(states, inputs, head_mask, cross_states)
        block = self.attention if cross_states is None else self.crossattention
        if plan.packed and self._in_chunks(states, routes) and len(chunks := sizes(len(states), CHUNK_ROWS)) > 1:
            # The rest works token by token: in chunks that fit into the processor's cache.
            done = torch.empty_like(states)
            parts = (each.split(chunks) for each in (done, context, states))
            for made, read, before, part in zip(*parts, routes.chunks(chunks), strict=True):
                made.copy_(self._token_by_token(block, read, before, part, plan.batch_size))
            return done, weights, cross_weights
        return self._token_by_token(block, context, states, routes, plan.batch_size), weights, cross_weights

    def _in_chunks(self, states: Tensor, routes: Routes) -> bool:
        """Whether chunks can pay: tokens on a CPU, sorted by language, and no gradient to keep their states for."""
        return (
            not tracing()  # first, as reading a number of tokens would fix it in a graph
            and states.device.type == "cpu"
            and routes.order is None
            and not torch.is_grad_enabled()
            and not self.training  # reentrant checkpointing runs the layer again, with the same dropout
            and not torch.is_autocast_enabled("cpu")
        )

    def _token_by_token(
        self, block: XmodAttention, context: Tensor, states: Tensor, routes: Routes, batch_size: int
    ) -> Tensor:
        """All of the layer that follows attention."""
        states = block.close(context, states)
        adapted = self.output.adapt(self._feed_forward(states, batch_size), routes)
        return adapted if self.pre_norm else self.output.LayerNorm(adapted)

    def _feed_forward(self, states: Tensor, batch_size: int) -> Tensor:
        """The feed-forward block with its residual, `chunk_size` columns of the batch at a time if requested."""
        if not self.chunk_size or tracing():  # the number of chunks would be fixed
            return self._feed_forward_chunk(states)
        dim, rows = (0, self.chunk_size * batch_size) if states.dim() == 2 else (1, self.chunk_size)
        return torch.cat([self._feed_forward_chunk(chunk) for chunk in states.split(rows, dim)], dim)

    def _feed_forward_chunk(self, states: Tensor) -> Tensor:
        normed = self.output.LayerNorm(states) if self.pre_norm else states
        out = self.output
        return add(out.dropout(linear(out.dense, self.intermediate(normed))), states, out.dense, out.dropout)


@dataclass
class Encoded:
    """The outputs of the stack.

    Attributes:
        states: *Shape: (T, hidden)*, or *(kept, hidden)* if the plan keeps only some tokens, in the plan's order; in
            the grid layout *(B, S, hidden)*.
        hidden_states: *(B, S, hidden)*, the input of every layer, if requested.
        attentions, cross_attentions: *(B, heads, Q, K)* of every layer, if requested.
    """

    states: Tensor
    hidden_states: list[Tensor]
    attentions: list[Tensor]
    cross_attentions: list[Tensor]


class XmodEncoder(nn.Module):
    """All layers, and with pre-norm a final LayerNorm."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(XmodLayer(config, index) for index in range(config.num_hidden_layers))
        if config.pre_norm:
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pre_norm = config.pre_norm

    def forward(
        self,
        states: Tensor,
        inputs: AttentionInputs,
        head_mask: Tensor | None = None,
        want_hidden_states: bool = False,
        cross_states: Tensor | None = None,
    ) -> Encoded:
        """Runs all layers.

        Args:
            states: *Shape: (T, hidden)* in the packed layout, *(B, S, hidden)* in the grid.
            inputs: plan, masks and caches.
            head_mask: *Shape: (layers, heads)*.
            want_hidden_states: whether to keep the states between layers.
            cross_states: *Shape: (B, K, hidden)*, for cross-attention.
        """
        done = Encoded(states, [], [], [])
        last = len(self.layer) - 1
        for index, layer in enumerate(self.layer):
            if want_hidden_states:
                # Layers read the very states that are returned, so that these have gradients.
                if inputs.padding is not None:
                    states = states.masked_fill(inputs.padding[:, :, None], 0)
                done.hidden_states.append(inputs.plan.unpack(states))
                if inputs.plan.packed and torch.is_grad_enabled():
                    states = inputs.plan.pack(done.hidden_states[-1])
            mask = None if head_mask is None else head_mask[index]
            kept = index == last and inputs.plan.kept is not None
            states, weights, cross_weights = layer(states, inputs, mask, kept, cross_states)
            if weights is not None:
                done.attentions.append(weights)
            if cross_weights is not None:
                done.cross_attentions.append(cross_weights)
        done.states = self.LayerNorm(states) if self.pre_norm else states
        return done
