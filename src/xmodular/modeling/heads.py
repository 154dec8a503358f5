"""The task models: sequence and token classification, multiple choice.

Shapes: B sequences, S tokens per sequence, C choices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling.labels import (
    IGNORED,
    check_labels,
    check_padding,
    counted_labels,
    first_states,
    first_tokens,
    in_full,
    mean_states,
    number_of_items,
    shape_of,
    summed_cross_entropy,
    warn_of_uncounted,
)
from xmodular.modeling.model import XmodModel
from xmodular.modeling.pretrained import XmodPreTrainedModel
from xmodular.modeling.products import linear

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def head_dropout(config: XmodConfig) -> nn.Dropout:
    """Dropout of a task head: `classifier_dropout`, or `hidden_dropout_prob` if that is None."""
    chosen = config.classifier_dropout
    return nn.Dropout(config.hidden_dropout_prob if chosen is None else chosen)


def number_of_labels(config: XmodConfig) -> int:
    """`num_labels`, which the base class may leave unset."""
    return 2 if config.num_labels is None else config.num_labels


def only_first(
    input_ids: Tensor | None, inputs_embeds: Tensor | None, attention_mask: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """*Shape: (B,)*: the place of each sequence's first token; *(B, S)*, bool: True there, where the head reads."""
    like = input_ids if input_ids is not None else None if inputs_embeds is None else inputs_embeds[..., 0]
    if like is None:
        return None, None
    check_padding(attention_mask, like.shape)
    first = first_tokens(attention_mask, like.shape[1])
    place = 0 if first is None else first[:, None].to(like.device)
    return first, (torch.arange(like.shape[1], device=like.device) == place).expand(like.shape)


class XmodClassificationHead(nn.Module):
    """Dense layer with tanh and a projection, over the state of the first token or the mean of all states."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.config = config
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = head_dropout(config)
        self.out_proj = nn.Linear(config.hidden_size, number_of_labels(config))

    def forward(self, states: Tensor, first: Tensor | None = None, attention_mask: Tensor | None = None) -> Tensor:
        """*Shape: (B, S, hidden)* to *(B, num_labels)*.

        Args:
            states: the last states.
            first: *Shape: (B,)*, positions of the first tokens; 0 if None.
            attention_mask: *Shape: (B, S)*, the tokens to average over; all if None.
        """
        if self.config.classifier_pooling == "mean":
            read = mean_states(states, attention_mask)
        else:
            read = first_states(states, first)
        pooled = torch.tanh(linear(self.dense, self.dropout(read)))
        return self.out_proj(self.dropout(pooled))


class XmodForSequenceClassification(XmodPreTrainedModel):
    """X-MOD with a head over the whole sequence: classification (one label or several) or regression.

    Args:
        config: its configuration; `num_labels` and `problem_type` determine what is predicted.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        self.num_labels = number_of_labels(config)
        self.roberta = XmodModel(config, add_pooling_layer=False)
        self.classifier = XmodClassificationHead(config)
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
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Classifies sequences. Arguments as for `XmodModel`, and:

        Args:
            labels: *Shape: (B,)*, int64, for one label; *(B, num_labels)*, floats, for several; *(B,)* or
                *(B, num_labels)*, floats, for regression. `config.problem_type` is derived from them if unset. -100
                is ignored, except in regression.
            num_items_in_batch: number of labels over all accumulated batches, counting all labels of a sequence;
                the loss is the sum divided by it.

        Returns:
            `SequenceClassifierOutput` with the loss and `logits` *(B, num_labels)*.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        first, kept = only_first(input_ids, inputs_embeds, attention_mask)
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
            kept_positions=kept if self.config.classifier_pooling == "first" else None,
            **kwargs,
        )
        logits = self.classifier(outputs.last_hidden_state, first, attention_mask)
        loss = None
        if labels is not None:
            loss = self._loss(logits, labels.to(logits.device), num_items_in_batch)
        output = SequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return output if return_dict else output.to_tuple()

    def _loss(self, logits: Tensor, labels: Tensor, items: Tensor | int | None) -> Tensor:
        if self.config.problem_type is None:
            if self.num_labels == 1:
                self.config.problem_type = "regression"
            elif labels.is_floating_point():
                self.config.problem_type = "multi_label_classification"
            else:
                self.config.problem_type = "single_label_classification"
        problem, batch_size = self.config.problem_type, len(logits)
        if problem == "single_label_classification":
            check_labels(labels.view(-1) if labels.numel() == batch_size else labels, (batch_size,), self.num_labels)
            total = summed_cross_entropy(logits, labels.view(-1).long())
            return total / number_of_items((labels != IGNORED).sum(), items)
        if problem not in PROBLEM_TYPES:
            raise InputError(f"config.problem_type is {problem!r}: choose one of {', '.join(PROBLEM_TYPES)}.")
        if labels.numel() != logits.numel():
            raise InputError(
                f"labels have shape {tuple(labels.shape)}: for {problem} they must have {tuple(logits.shape)}, floats."
            )
        targets, logits = in_full(labels.view(logits.shape)), in_full(logits)
        if problem == "regression":  # where -100 is an ordinary value
            count = torch.tensor(logits.numel(), device=logits.device)
            return F.mse_loss(logits, targets, reduction="sum") / number_of_items(count, items)
        counted = targets != IGNORED
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return each.where(counted, 0).sum() / number_of_items(counted.sum(), items)


class XmodForMultipleChoice(XmodPreTrainedModel):
    """X-MOD with a head that scores each of several choices.

    Args:
        config: its configuration.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        self.roberta = XmodModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        lang_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Scores choices. Arguments as for `XmodModel`, each with a dimension for the choices, and:

        Args:
            input_ids: *Shape: (B, C, S)*, int64. Masks, token types and positions likewise; `inputs_embeds`
                *(B, C, S, hidden)*.
            lang_ids: *Shape: (B,)*, *(B, C)* or *(B, C, S)*, integers; *(1,)* for the whole batch.
            labels: *Shape: (B,)*, int64: the right choice.
            num_items_in_batch: number of questions over all accumulated batches; the loss is the sum divided by it.

        Returns:
            `MultipleChoiceModelOutput` with the loss and `logits` *(B, C)*.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        source, name, dims = (
            (input_ids, "input_ids", 3) if input_ids is not None else (inputs_embeds, "inputs_embeds", 4)
        )
        if source is None:
            raise InputError("give exactly one of input_ids and inputs_embeds.")
        if source.dim() != dims:
            form = "(batch, choices, sequence)" if dims == 3 else "(batch, choices, sequence, hidden)"
            raise InputError(f"{name} has shape {tuple(source.shape)}: it must be {form}.")
        batch_size, choices, length = source.shape[:3]

        def flat(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.flatten(0, 1)

        outputs = self.roberta(
            flat(input_ids),
            lang_ids_of_choices(lang_ids, batch_size, choices, length),
            flat(attention_mask),
            flat(token_type_ids),
            flat(position_ids),
            head_mask,
            flat(inputs_embeds),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            kept_positions=only_first(flat(input_ids), flat(inputs_embeds), flat(attention_mask))[1],
            **kwargs,
        )
        logits = self.classifier(self.dropout(outputs.pooler_output)).view(batch_size, choices)
        loss = None
        if labels is not None:
            check_labels(labels, (batch_size,), choices)
            labels = labels.to(logits.device)
            loss = summed_cross_entropy(logits, labels) / number_of_items((labels != IGNORED).sum(), num_items_in_batch)
        output = MultipleChoiceModelOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return output if return_dict else output.to_tuple()


def lang_ids_of_choices(lang_ids: Any, batch_size: int, choices: int, length: int) -> Any:
    """Language ids with batch and choices as one dimension: *(B·C,)* or *(B·C, S)*."""
    if not isinstance(lang_ids, Tensor):
        return lang_ids  # None, or something that the model refuses by name
    shape = tuple(lang_ids.shape)
    if lang_ids.dim() == 1 and (torch.jit.is_tracing() or shape[0] in (1, batch_size)):
        return lang_ids.expand(batch_size)[:, None].expand(batch_size, choices).flatten()
    if lang_ids.dim() > 1 and (
        torch.jit.is_tracing() or shape in ((batch_size, choices), (batch_size, choices, length))
    ):
        return lang_ids.flatten(0, 1)
    raise InputError(
        f"lang_ids has shape {shape}: it must be (batch,) = ({batch_size},), (batch, choices) = ({batch_size}, "
        f"{choices}) or (batch, choices, sequence) = ({batch_size}, {choices}, {length})."
    )


class XmodForTokenClassification(XmodPreTrainedModel):
    """X-MOD with a head over every token, for example for named entities or parts of speech.

    Args:
        config: its configuration; `num_labels` is the number of classes.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        self.num_labels = number_of_labels(config)
        self.roberta = XmodModel(config, add_pooling_layer=False)
        self.dropout = head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, number_of_labels(config))
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
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Classifies tokens. Arguments as for `XmodModel`, and:

        Args:
            labels: *Shape: (B, S)*, int64; -100 for tokens to ignore.
            num_items_in_batch: number of labels over all accumulated batches; the loss is the sum divided by it.

        Returns:
            `TokenClassifierOutput` with the loss and `logits` *(B, S, num_labels)*.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if labels is not None:
            check_labels(labels, shape_of(input_ids, inputs_embeds), self.num_labels)
            given, labels = labels, counted_labels(labels, attention_mask)
            warn_of_uncounted(given, labels, num_items_in_batch)
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
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            labels = labels.to(logits.device)
            total = summed_cross_entropy(logits.flatten(0, 1), labels.flatten())
            loss = total / number_of_items((labels != IGNORED).sum(), num_items_in_batch)
        output = TokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return output if return_dict else output.to_tuple()
