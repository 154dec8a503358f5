"""Word, token type and absolute position embeddings, as in RoBERTa.

Shapes: B sequences, S tokens per sequence as given, T tokens that are worked on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xmodular.configuration import XmodConfig
from xmodular.modeling.routing import Plan


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
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        plan: Plan,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        past_length: int = 0,
    ) -> Tensor:
        """Embeds the tokens that the plan works on.

        Args:
            plan: the plan of this forward.
            input_ids: *Shape: (B, S)*, int64; or
            inputs_embeds: *Shape: (B, S, hidden)*.
            token_type_ids: *Shape: (B, S)* or *(1, S)*, int64; zeros if None.
            position_ids: *Shape: (B, S)* or *(1, S)*, int64; counted if None.
            past_length: tokens that a cache holds already.

        Returns:
            *Shape: (T, hidden)*.
        """
        words = self.word_embeddings(plan.pack(input_ids)) if inputs_embeds is None else plan.pack(inputs_embeds)
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
