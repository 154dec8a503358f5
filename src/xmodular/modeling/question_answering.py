"""The model for extractive question answering.

Shapes: B sequences, S tokens per sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling.heads import number_of_labels
from xmodular.modeling.labels import IGNORED, check_labels, number_of_items, real_positions, summed_cross_entropy
from xmodular.modeling.model import XmodModel
from xmodular.modeling.pretrained import XmodPreTrainedModel


class XmodForQuestionAnswering(XmodPreTrainedModel):
    """X-MOD with a head that predicts the first and the last token of an answer.

    Args:
        config: its configuration.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        self.num_labels = number_of_labels(config)
        if self.num_labels != 2:
            raise InputError(
                f"num_labels is {config.num_labels}: question answering needs 2, the answer's start and end."
            )
        self.roberta = XmodModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, number_of_labels(config))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        lang_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        p_mask: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Finds answers. Arguments as for `XmodModel`, and:

        Args:
            start_positions, end_positions: *Shape: (B,)*, int64: first and last token of the answer. Positions outside
                the sequence, and those that cannot be an answer, are ignored.
            p_mask: *Shape: (B, S)*, nonzero at tokens that cannot be an answer, such as the question's. Padding never
                can.
            num_items_in_batch: number of answers over all accumulated batches, or of starts and ends, *(2,)*; the
                loss is the sum divided by it.

        Returns:
            `QuestionAnsweringModelOutput` with the mean of both losses, `start_logits` and `end_logits` *(B, S)*: where
            no answer is possible, the lowest number of the dtype, so that a softmax ignores these positions.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        outputs = self.roberta(
            input_ids,
            lang_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            head_mask,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **kwargs,
        )
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(-1)
        possible = _possible_answers(attention_mask, p_mask, start_logits)
        if possible is not None:
            lowest = torch.finfo(start_logits.dtype).min
            start_logits, end_logits = (each.masked_fill(~possible, lowest) for each in (start_logits, end_logits))
        loss = None
        if (start_positions is None) != (end_positions is None):
            raise InputError("give start_positions and end_positions together, or neither.")
        if start_positions is not None and end_positions is not None:
            items: Any = (None, None)
            if num_items_in_batch is not None:
                items = torch.as_tensor(num_items_in_batch).expand(2)
            start = _edge_loss(start_logits, start_positions, possible, items[0])
            loss = (start + _edge_loss(end_logits, end_positions, possible, items[1])) / 2
        output = QuestionAnsweringModelOutput(
            loss, start_logits.contiguous(), end_logits.contiguous(), outputs.hidden_states, outputs.attentions
        )
        return output if return_dict else output.to_tuple()


def _possible_answers(attention_mask: Tensor | None, p_mask: Tensor | None, logits: Tensor) -> Tensor | None:
    """*Shape: (B, S)*, bool: the tokens that can be an answer; None for all."""
    if p_mask is not None and p_mask.shape != logits.shape:
        raise InputError(f"p_mask has shape {tuple(p_mask.shape)}: it must have {tuple(logits.shape)}.")
    real = real_positions(attention_mask, logits.shape[1])
    allowed = None if p_mask is None else p_mask == 0
    possible = real if allowed is None else allowed if real is None else real & allowed.to(real.device)
    return None if possible is None else possible.to(logits.device)


def _edge_loss(logits: Tensor, positions: Tensor, possible: Tensor | None, items: Tensor | None) -> Tensor:
    """Cross entropy of one edge of the answer; impossible positions are ignored."""
    positions = positions.to(logits.device).view(-1)
    outside = (positions < 0) | (positions >= logits.shape[1])
    if possible is not None and len(positions) == len(logits):
        outside = outside | ~possible.gather(1, positions.masked_fill(outside, 0)[:, None]).squeeze(1)
    targets = positions.masked_fill(outside, IGNORED)
    check_labels(targets, (len(logits),), logits.shape[1])
    return summed_cross_entropy(logits, targets) / number_of_items((~outside).sum(), items)
