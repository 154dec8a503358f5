"""Word, token type and absolute position embeddings, as in RoBERTa.

Shapes: B sequences, S tokens per sequence as given, T tokens that are worked on.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling.routing import Plan
from xmodular.modeling.shortcuts import is_plain


class TiedGradient:
    """Collects the gradient of a weight that embeddings and language-model head share, in one buffer.

    The language-model head, first in the backward pass, stores its gradient here; the embeddings, last, add theirs to
    its rows and pass it on. Otherwise each would create a table of the vocabulary's size, and their sum a third one.
    """

    def __init__(self) -> None:
        self.gradient: Tensor | None = None


class _TiedLookup(torch.autograd.Function):
    """`weight[ids]`, whose backward pass adds to a collected gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding_idx: int | None, tied: TiedGradient) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.dtype, ctx.padding_idx, ctx.tied = weight.shape, weight.dtype, padding_idx, tied
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (ids,), rows = ctx.saved_tensors, grads[0]
        gradient, ctx.tied.gradient = ctx.tied.gradient, None
        if gradient is None:
            gradient = rows.new_zeros(ctx.shape)
        if ctx.padding_idx is not None:
            rows = rows.masked_fill((ids == ctx.padding_idx)[:, None], 0)
        return gradient.index_add_(0, ids, rows.to(gradient.dtype)).to(ctx.dtype), None, None, None


def _look_up(table: nn.Module, ids: Tensor, plan: Plan | None) -> Tensor:
    """What a table has for ids *(B, S)*: of all, or of the tokens that a plan works on.

    What wraps or hooks the table meets *(B, S)* and *(B, S, hidden)*, as in transformers.
    """
    if plan is None:
        return cast(Tensor, table(ids))
    return cast(Tensor, table(plan.pack(ids))) if is_plain(table, nn.Embedding) else plan.pack(table(ids))


class XmodEmbeddings(nn.Module):
    """Sum of word, token type and position embeddings, then LayerNorm and dropout.

    Positions count from `pad_token_id + 1` and skip padding tokens. With relative position types, the absolute table is
    not part of the sum, as in BERT.
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
        """The word embeddings of a language with its own vocabulary; for None, the shared ones."""
        return self.word_embeddings if vocabulary is None else cast(nn.Embedding, self.language_embeddings[vocabulary])

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values_length: int = 0,
        *,
        plan: Plan | None = None,
        tied: TiedGradient | None = None,
        vocabulary: str | None = None,
    ) -> Tensor:
        """Embeds tokens.

        Args:
            input_ids: *Shape: (B, S)*, int64.
            token_type_ids: *Shape: (B, S)* or *(1, S)*, int64; zeros if None.
            position_ids: *Shape: (B, S)* or *(1, S)*, int64; counted if None.
            inputs_embeds: *Shape: (B, S, hidden)*, instead of `input_ids`.
            past_key_values_length: number of tokens already in a cache.
            plan: the plan of this forward; None embeds all tokens.
            tied: collector of the word embeddings' gradient, shared with the language-model head.
            vocabulary: the language whose own vocabulary the ids belong to; None: the shared one.

        Returns:
            *Shape: (B, S, hidden)*; with a plan, *(T, hidden)*.

        Raises:
            InputError: if not exactly one of `input_ids` and `inputs_embeds` is given.
        """
        if input_ids is not None and inputs_embeds is None:
            shape, table = input_ids.shape, self.words(vocabulary)
            if tied is not None:
                ids = input_ids.flatten() if plan is None else plan.pack(input_ids)
                words = _TiedLookup.apply(table.weight, ids, table.padding_idx, tied)
                words = words.view(*shape, -1) if plan is None else words
            else:
                words = _look_up(table, input_ids, plan)
        elif input_ids is None and inputs_embeds is not None:
            shape, words = inputs_embeds.shape[:2], inputs_embeds if plan is None else plan.pack(inputs_embeds)
        else:
            raise InputError("give exactly one of input_ids and inputs_embeds.")
        if token_type_ids is None and is_plain(self.token_type_embeddings, nn.Embedding):
            states = words + self.token_type_embeddings.weight[0]
        else:
            if token_type_ids is None:
                token_type_ids = torch.zeros(shape, dtype=torch.long, device=words.device)
            states = words + _look_up(self.token_type_embeddings, token_type_ids.expand(shape), plan)
        if self.absolute:
            if position_ids is None:
                position_ids = self.count_positions(shape, input_ids, words.device, past_key_values_length)
            states = states + _look_up(self.position_embeddings, position_ids.expand(shape), plan)
        return self.dropout(self.LayerNorm(states))

    def count_positions(
        self, shape: tuple[int, ...], input_ids: Tensor | None, device: torch.device, past_length: int
    ) -> Tensor:
        """Position ids, *Shape: (B, S)*: counted over non-padding tokens, from `pad_token_id + 1`.

        Padding cannot be recognised in `inputs_embeds`, so with them every token counts.
        """
        first = self.padding_idx + 1
        if input_ids is None:
            counted = torch.arange(past_length, past_length + shape[1], device=device)
            return (counted + first).expand(shape)
        no_padding = (input_ids != self.padding_idx).long()
        return (no_padding.cumsum(1) + past_length) * no_padding + self.padding_idx
