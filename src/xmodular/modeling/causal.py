"""The causal language model: predicts each token from those before it; supports generation.

Shapes: B sequences, S tokens per sequence, V pieces of the vocabulary.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling.labels import (
    IGNORED,
    check_labels,
    counted_labels,
    number_of_items,
    shape_of,
    summed_cross_entropy,
    warn_of_uncounted,
)
from xmodular.modeling.lm import XmodLM

logger = logging.getLogger(__name__)


class XmodForCausalLM(XmodLM, GenerationMixin):
    """X-MOD with a language-model head for prediction from left to right.

    Args:
        config: its configuration, usually with `is_decoder=True`.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        if not config.is_decoder:
            logger.warning("XmodForCausalLM attends in both directions unless config.is_decoder is True.")

    def forward(
        self,
        input_ids: Tensor | None = None,
        lang_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        sparse_prediction: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Predicts the next tokens. Arguments as for `XmodModel`, and:

        Args:
            labels: *Shape: (B, S)*, int64, usually the input itself: each is predicted from the tokens before it; -100
                for tokens to ignore.
            shift_labels: *Shape: (B, S)*, int64, instead of `labels`: the label of each position, already shifted.
            logits_to_keep: only compute the logits of this many last positions, or of these positions; 0 for all.
            sparse_prediction: with `labels`, only compute the loss, a few logits at a time: `logits` is None.
            num_items_in_batch: number of labels over all accumulated batches; the loss is the sum divided by it.

        Returns:
            `CausalLMOutputWithCrossAttentions` with the mean loss, `logits` *(B, S, V)* and the cache.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        targets, tied = None, None
        shift_labels = kwargs.pop("shift_labels", None)  # no argument by name, or Trainer would expect it in each batch
        vocabulary = self.vocabulary_of(lang_ids, attention_mask)
        if labels is not None or shift_labels is not None:
            shape, pieces = shape_of(input_ids, inputs_embeds), self._pieces(vocabulary)
            targets = _next_labels(labels, shift_labels, attention_mask, shape, pieces, num_items_in_batch)
            if getattr(past_key_values, "is_compileable", False):
                raise InputError(
                    f"labels are given with a {type(past_key_values).__name__} of fixed size, which does not record "
                    "their position: use a DynamicCache or none."
                )
            use_cache = False
            tied = self._tied_gradient(input_ids, vocabulary) if sparse_prediction else None
        elif sparse_prediction:
            raise InputError("sparse_prediction is True, but labels are not given.")
        outputs = self.roberta(
            input_ids,
            lang_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            head_mask,
            inputs_embeds,
            encoder_hidden_states,
            encoder_attention_mask,
            past_key_values,
            use_cache,
            output_attentions,
            output_hidden_states,
            return_dict=True,
            tied_gradient=tied,
            **kwargs,
        )
        states = outputs.last_hidden_state
        own = self._own_projection(vocabulary, states.device)
        loss, logits = None, None
        if not sparse_prediction:
            wanted = logits_to_keep if isinstance(logits_to_keep, Tensor) else slice(-logits_to_keep, None)  # -0: all
            logits = self.lm_head(states[:, wanted], own)
        if logits is not None and targets is not None and logits.shape[1] != targets.shape[1]:
            raise InputError(
                f"logits_to_keep is {logits_to_keep}: with labels, the logits of all positions are needed (0)."
            )
        if targets is not None:
            targets = targets.to(states.device)
            labelled = targets != IGNORED
            items = number_of_items(labelled.sum(), num_items_in_batch)
            if logits is None:
                loss = self._sparse_loss(states[labelled], targets[labelled], items, vocabulary, own, tied)
            else:
                loss = summed_cross_entropy(logits[labelled], targets[labelled]) / items
        output = CausalLMOutputWithCrossAttentions(
            loss, logits, outputs.past_key_values, outputs.hidden_states, outputs.attentions, outputs.cross_attentions
        )
        return output if return_dict else output.to_tuple()

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The inputs of one step of `generate`: new tokens get the language of the last token before them."""
        lang_ids = kwargs.pop("lang_ids", None)
        kwargs["inputs_embeds"] = inputs_embeds
        inputs = GenerationMixin.prepare_inputs_for_generation(cast(Any, self), cast(Any, input_ids), *args, **kwargs)
        if lang_ids is not None:
            if isinstance(lang_ids, Tensor) and lang_ids.dim() == 2:
                given = inputs.get("input_ids")
                new = (inputs["inputs_embeds"] if given is None else given).shape[1]
                cache = inputs.get("past_key_values")
                start = 0 if cache is None else int(cache.get_seq_length())
                missing = max(0, start + new - lang_ids.shape[1])
                lang_ids = torch.cat((lang_ids, lang_ids[:, -1:].expand(-1, missing)), 1)[:, start : start + new]
            inputs["lang_ids"] = lang_ids
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **kwargs: Any
    ) -> Any:
        lang_ids = kwargs.get("lang_ids")
        if isinstance(lang_ids, Tensor) and lang_ids.shape == (1,) and input_ids is not None:
            kwargs["lang_ids"] = lang_ids.expand(len(input_ids))  # of the whole batch, before it grows
        expand = GenerationMixin._expand_inputs_for_generation
        return expand(cast(Any, self), expand_size, is_encoder_decoder, input_ids, **kwargs)

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        # The library counts from 0; here positions count from pad_token_id + 1.
        positions = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        return positions + self.config.pad_token_id + 1


def _next_labels(
    labels: Tensor | None,
    shift_labels: Tensor | None,
    attention_mask: Tensor | None,
    shape: tuple[int, ...],
    pieces: int,
    num_items_in_batch: Tensor | int | None,
) -> Tensor:
    """What each position predicts, *(B, S)*: labels moved to the left, or those that are moved already.

    Padding neither is predicted nor predicts.
    """
    if shift_labels is not None:
        check_labels(shift_labels, shape, pieces, "shift_labels")
        given = counted = shift_labels
    else:
        assert labels is not None
        check_labels(labels, shape, pieces)
        given, counted = (
            F.pad(each[:, 1:], (0, 1), value=IGNORED) for each in (labels, counted_labels(labels, attention_mask))
        )
    counted = counted_labels(counted, attention_mask)
    warn_of_uncounted(given, counted, num_items_in_batch)
    return counted
