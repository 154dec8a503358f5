"""The encoder with its states pooled: one vector per text.

Shapes: B sequences, S tokens per sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.utils import ModelOutput

from xmodular.configuration import XmodConfig
from xmodular.modeling.heads import lang_ids_of_choices, only_first
from xmodular.modeling.labels import first_states, in_full, mean_states
from xmodular.modeling.model import XmodModel
from xmodular.modeling.pretrained import XmodPreTrainedModel


@dataclass
class SentenceEmbeddingOutput(ModelOutput):
    """The vectors of a batch.

    Attributes:
        embeddings: *Shape: (B, hidden)*, float32.
        last_hidden_state: *Shape: (B, S, hidden)*: with the mean, the states that it was taken of.
    """

    embeddings: Tensor | None = None
    last_hidden_state: Tensor | None = None


class XmodForSentenceEmbedding(XmodPreTrainedModel):
    """X-MOD as an encoder of sentences: the mean of a text's states or the state of its first token, of length 1.

    It has no weights of its own. `config.sentence_embedding` says how states become vectors.

    Args:
        config: its configuration.

    Attributes:
        settings: how states become vectors; a change does not change the configuration.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        self.roberta = XmodModel(config, add_pooling_layer=False)
        self.settings = config.embedding_settings
        self.post_init()

    @classmethod
    def around(cls, model: XmodPreTrainedModel) -> XmodForSentenceEmbedding:
        """A model whose encoder is that of another: the same modules, not a copy."""
        with torch.device("meta"):
            made = cls(model.config)
        made.roberta = cast(Any, model.base_model)
        made.config = model.config
        return made.train(model.training)

    def forward(
        self,
        input_ids: Tensor | None = None,
        lang_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embeds texts, or groups of C texts. Arguments as for `XmodModel`, or for groups as for multiple choice.

        Returns:
            `SentenceEmbeddingOutput` with `embeddings` *(B, hidden)*, of groups *(B, C, hidden)*; a text without tokens
            has zeros.
        """
        keeps = self.config.return_dict if return_dict is None else return_dict
        if input_ids is not None and input_ids.dim() == 3:
            shape = input_ids.shape
            grids = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "position_ids": position_ids}
            flat = {name: None if grid is None else grid.flatten(0, 1) for name, grid in grids.items()}
            lang_ids = lang_ids_of_choices(lang_ids, *shape)
            output = self(input_ids.flatten(0, 1), lang_ids, **flat, return_dict=True, **kwargs)
            output.embeddings = output.embeddings.unflatten(0, shape[:2])
            output.last_hidden_state = output.last_hidden_state.unflatten(0, shape[:2])
            return output if keeps else output.to_tuple()
        pooling = self.settings.pooling
        first, kept = only_first(input_ids, inputs_embeds, attention_mask)
        outputs = self.roberta(
            input_ids,
            lang_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            kept_positions=kept if pooling == "first" else None,
            **kwargs,
        )
        states = outputs.last_hidden_state
        vectors = in_full(first_states(states, first) if pooling == "first" else mean_states(states, attention_mask))
        vectors = F.normalize(vectors, dim=-1) if self.settings.normalize else vectors
        output = SentenceEmbeddingOutput(vectors, states)
        return output if keeps else output.to_tuple()
