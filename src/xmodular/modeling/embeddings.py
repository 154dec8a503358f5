"""Word, token type and absolute position embeddings, as in RoBERTa.

Shapes: B sequences, S tokens per sequence as given, T tokens that are worked on.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from xmodular.configuration import XmodConfig
from xmodular.modeling.routing import Plan


class TiedGradient:
    """Collects the gradient of a weight that both ends of the model use, in one buffer.

    The language-model head, first in the backward pass, leaves its gradient here; the embeddings, last, add theirs to
    its rows and hand it on. Otherwise each end makes a table of the vocabulary's size, and adding them costs a third.
    """

    def __init__(self) -> None:
        self.gradient: Tensor | None = None


class _TiedLookup(torch.autograd.Function):
    """`weight[ids]`, whose backward pass adds to a collected gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding_idx: int, tied: TiedGradient) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.padding_idx, ctx.tied = weight.shape, padding_idx, tied
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (ids,) = ctx.saved_tensors
        gradient, ctx.tied.gradient = ctx.tied.gradient, None
        if gradient is None:
            gradient = grads[0].new_zeros(ctx.shape)
        rows = grads[0].masked_fill((ids == ctx.padding_idx)[:, None], 0)
        return gradient.index_add_(0, ids, rows.to(gradient.dtype)), None, None, None


class XmodEmbeddings(nn.Module):
    """Sum of word, token type and position embeddings, then LayerNorm and dropout.

    Positions count from `pad_token_id + 1` and skip padding tokens. With relative position types the absolute table is
    kept out of the sum, as in BERT.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.padding_idx = config.pad_token_id
        self.absolute = config.position_embedding_type == "absolute"
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=self.padding_idx)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=self.padding_idx
        )
        # Of the languages with a vocabulary of their own; their tokenizers, as the text of tokenizer.json, go along.
        self.language_embeddings = nn.ModuleDict(
            {
                language: nn.Embedding(rows, config.hidden_size, padding_idx=self.padding_idx)
                for language, rows in config.vocabularies.items()
            }
        )
        self.tokenizers: dict[str, str] = {}
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def words(self, vocabulary: str | None) -> nn.Embedding:
        """The word embeddings of a language with a vocabulary of its own; None: those that all others share."""
        return self.word_embeddings if vocabulary is None else cast(nn.Embedding, self.language_embeddings[vocabulary])

    def forward(
        self,
        plan: Plan,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        past_length: int = 0,
        tied: TiedGradient | None = None,
        vocabulary: str | None = None,
    ) -> Tensor:
        """Embeds the tokens that the plan works on.

        Args:
            plan: the plan of this forward.
            input_ids: *Shape: (B, S)*, int64; or
            inputs_embeds: *Shape: (B, S, hidden)*.
            token_type_ids: *Shape: (B, S)* or *(1, S)*, int64; zeros if None.
            position_ids: *Shape: (B, S)* or *(1, S)*, int64; counted if None.
            past_length: tokens that a cache holds already.
            tied: collector of the word embeddings' gradient, shared with the language-model head.
            vocabulary: the language whose own vocabulary the ids are of; None: the shared one.

        Returns:
            *Shape: (T, hidden)*.
        """
        if input_ids is None:
            assert inputs_embeds is not None
            words = plan.pack(inputs_embeds)
        elif tied is not None:
            words = _TiedLookup.apply(self.words(vocabulary).weight, plan.pack(input_ids), self.padding_idx, tied)
        else:
            words = self.words(vocabulary)(plan.pack(input_ids))
        if token_type_ids is None:
            states = words + self.token_type_embeddings.weight[0]
        else:
            types = token_type_ids.expand(plan.batch_size, plan.length)
            states = words + self.token_type_embeddings(plan.pack(types))
        if self.absolute:
            if position_ids is None:
                position_ids = self.count_positions(plan, input_ids, words.device, past_length)
            positions = position_ids.expand(plan.batch_size, plan.length)
            states = states + self.position_embeddings(plan.pack(positions))
        return self.dropout(self.LayerNorm(states))

    def count_positions(self, plan: Plan, input_ids: Tensor | None, device: torch.device, past_length: int) -> Tensor:
        """Position ids, *Shape: (B, S)*: counted over tokens that are no padding, from `pad_token_id + 1`.

        Embedded inputs show no padding, so with them every token counts.
        """
        first = self.padding_idx + 1
        if input_ids is None:
            counted = torch.arange(past_length, past_length + plan.length, device=device)
            return (counted + first).expand(plan.batch_size, -1)
        no_padding = (input_ids != self.padding_idx).long()
        return (no_padding.cumsum(1) + past_length) * no_padding + self.padding_idx
