"""The language-model head, its loss over few logits at a time, and the masked and causal language models.

Shapes: B sequences, S tokens per sequence, N tokens with a label, V pieces of the vocabulary.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions, MaskedLMOutput

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling.base import XmodPreTrainedModel
from xmodular.modeling.embeddings import TiedGradient
from xmodular.modeling.model import XmodModel
from xmodular.modeling.routing import tracing

logger = logging.getLogger(__name__)

IGNORED = -100  # label of tokens that do not count
LOGITS_PER_CHUNK = 2**25  # 128 MiB of fp32 logits at a time in the chunked loss


class XmodLMHead(nn.Module):
    """Dense layer, GELU, LayerNorm, and the projection to the vocabulary (tied to the word embeddings)."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        # Of the languages with a vocabulary of their own, whose embeddings are their projection.
        self.language_bias = nn.ParameterDict(
            {language: nn.Parameter(torch.zeros(rows)) for language, rows in config.vocabularies.items()}
        )

    def transform(self, states: Tensor) -> Tensor:
        """All but the projection: *Shape: (..., hidden)* to the same."""
        return self.layer_norm(F.gelu(self.dense(states)))

    def forward(self, states: Tensor, own: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """*Shape: (..., hidden)* to *(..., V)*, by the shared vocabulary or by weight and bias of another."""
        return self.project(self.transform(states), own)

    def project(self, states: Tensor, own: tuple[Tensor, Tensor] | None) -> Tensor:
        """The projection alone."""
        return self.decoder(states) if own is None else F.linear(states, *own)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross entropies of softmax(states·weightᵀ + bias), summed and divided, with the logits of a few rows at a time.

    The gradients are computed in the forward pass, while a chunk's logits are there: with p = softmax(z), the
    gradient of the loss by the logits z is p minus the one-hot target.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        divisor: Tensor,
        dtype: torch.dtype,
        tied: TiedGradient | None,
    ) -> Tensor:
        want_states, want_weight, want_bias = ctx.needs_input_grad[:3]
        rows = max(1, LOGITS_PER_CHUNK // weight.shape[0])
        cast_states, cast_weight, cast_bias = states.to(dtype), weight.to(dtype), bias.to(dtype)
        d_states = torch.empty_like(cast_states) if want_states else None
        d_weight: Tensor | None = None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if want_bias else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(labels), rows):
            part, target = cast_states[start : start + rows], labels[start : start + rows]
            logits = F.linear(part, cast_weight, cast_bias).float()
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - logits.gather(1, target[:, None])).sum()
            if not (want_states or want_weight or want_bias):
                continue
            gradient = logits.sub_(normaliser).exp_()
            gradient[torch.arange(len(target), device=target.device), target] -= 1
            gradient /= divisor
            if d_bias is not None:
                d_bias += gradient.sum(0)
            gradient = gradient.to(dtype)
            if d_states is not None:
                torch.mm(gradient, cast_weight, out=d_states[start : start + rows])
            if want_weight:
                if d_weight is None:
                    d_weight = torch.mm(gradient.T, part).to(weight.dtype)
                elif dtype == weight.dtype:
                    d_weight.addmm_(gradient.T, part)
                else:
                    d_weight += torch.mm(gradient.T, part)
        if want_weight and d_weight is None:
            d_weight = torch.zeros_like(weight)
        ctx.gradients = [
            None if d_states is None else d_states.to(states.dtype),
            d_weight,
            None if d_bias is None else d_bias.to(bias.dtype),
        ]
        ctx.tied = tied
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss are gone after the first backward pass.")
        scale = grads[0]
        gradients, ctx.gradients = ctx.gradients, None
        if scale.device.type != "cpu" or scale != 1:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(scale.to(gradient.dtype))
        d_states, d_weight, d_bias = gradients
        if ctx.tied is not None:
            ctx.tied.gradient, d_weight = d_weight, None
        return d_states, d_weight, d_bias, None, None, None, None


def chunked_cross_entropy(
    states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, divisor: Tensor, tied: TiedGradient | None = None
) -> Tensor:
    """Cross entropies of a projection's outputs, summed and divided, never holding more than a chunk of the logits.

    Args:
        states: *Shape: (N, hidden)*.
        weight: the projection to the vocabulary, *Shape: (V, hidden)*.
        bias: *Shape: (V,)*.
        labels: *Shape: (N,)*, int64, each below V.
        divisor: what the sum is divided by.
        tied: where the gradient of the projection's weight goes, if the embeddings collect it.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return _ChunkedCrossEntropy.apply(states, weight, bias, labels, divisor, dtype, tied)


def check_labels(labels: Tensor, shape: tuple[int, ...], count: int) -> None:
    """Raises InputError if labels have another shape, no integer type, or (on a CPU) values out of range."""
    if tuple(labels.shape) != shape:
        raise InputError(f"labels have shape {tuple(labels.shape)}: they must have {shape}.")
    if labels.is_floating_point():
        raise InputError(
            f"labels have dtype {labels.dtype}: they must be integers from 0 to {count - 1}, or {IGNORED} where a "
            "position does not count."
        )
    if labels.device.type == "cpu" and labels.numel() and not torch.compiler.is_compiling():
        counted = labels[labels != IGNORED]
        if len(counted) and (int(counted.min()) < 0 or int(counted.max()) >= count):
            wrong = int(counted.min()) if int(counted.min()) < 0 else int(counted.max())
            raise InputError(f"labels have {wrong}: they must be from 0 to {count - 1}, or {IGNORED} to be ignored.")


def number_of_items(count: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    """What a summed loss is divided by: the items counted here, or those of all accumulated batches if given.

    Without any item it is 1 and the loss 0, so that a batch without labels does not end a training run.
    """
    items = count if num_items_in_batch is None else torch.as_tensor(num_items_in_batch, device=count.device)
    return items.clamp(min=1)


def real_positions(attention_mask: Tensor | None) -> Tensor | None:
    """*Shape: (B, S)*, bool: the tokens that are no padding, if the mask says so."""
    return None if attention_mask is None or attention_mask.dim() != 2 else attention_mask != 0


def counted_labels(labels: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The labels, -100 at padding: what stands there does not count."""
    real = real_positions(attention_mask)
    return labels if real is None else labels.masked_fill(~real.to(labels.device), IGNORED)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the cross entropies of logits *(N, classes)* in fp32."""
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")


def _shape(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, ...]:
    """*(B, S)* of an input, as far as it can be read: the model itself checks it."""
    given = input_ids if input_ids is not None else inputs_embeds
    return () if given is None else tuple(given.shape[:2])


class _XmodLM(XmodPreTrainedModel):
    """A language model: the encoder or decoder, and the head tied to its word embeddings."""

    _tied_weights_keys = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        self.roberta = XmodModel(config, add_pooling_layer=False)
        self.lm_head = XmodLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The projection to the vocabulary."""
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replaces the projection to the vocabulary."""
        self.lm_head.decoder = new_embeddings
        if new_embeddings.bias is not None:
            self.lm_head.bias = new_embeddings.bias

    def _own_projection(self, vocabulary: str | None) -> tuple[Tensor, Tensor] | None:
        """Weight and bias of the projection to a language's own vocabulary; None for the shared one."""
        if vocabulary is None:
            return None
        return self.roberta.embeddings.words(vocabulary).weight, self.lm_head.language_bias[vocabulary]

    def _tied_gradient(self, input_ids: Tensor | None, vocabulary: str | None) -> TiedGradient | None:
        """The collector of the tied weight's gradient, if there is such a weight and it trains."""
        words = self.roberta.embeddings.words(vocabulary).weight
        weight = self.lm_head.decoder.weight if vocabulary is None else words
        collects = (
            self.training
            and torch.is_grad_enabled()
            and input_ids is not None
            and weight.requires_grad
            and weight is words
            and not torch.compiler.is_compiling()
        )
        return TiedGradient() if collects else None

    def _logits(self, states: Tensor, real: Tensor | None, own: tuple[Tensor, Tensor] | None) -> Tensor:
        """Logits of all tokens, *Shape: (B, S, V)*; zeros where `real` says that there is padding."""
        if real is not None and tracing():
            return self.lm_head(states, own).masked_fill(~real.to(states.device)[:, :, None], 0)
        if real is None or bool(real.all()):
            return self.lm_head(states, own)
        logits = self.lm_head(states[real], own)
        return logits.new_zeros(*states.shape[:2], logits.shape[-1]).index_put((real,), logits)


class XmodForMaskedLM(_XmodLM):
    """X-MOD with a masked language-model head.

    Args:
        config: its configuration.
    """

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        if config.is_decoder:
            logger.warning("XmodForMaskedLM with is_decoder=True attends to the left only; is_decoder=False is usual.")

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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        sparse_prediction: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Predicts masked tokens. Arguments as for `XmodModel`, and:

        Args:
            labels: *Shape: (B, S)*, int64: the pieces to predict; -100 where a token does not count.
            sparse_prediction: with `labels`, predict only where there is a label: the head, and the last layer after
                its attention, do no other work. The loss is the same.
            num_items_in_batch: number of labels over all accumulated batches; the loss is the sum over it.

        Returns:
            `MaskedLMOutput` with the mean loss and `logits` *(B, S, V)*, zeros at padding. With `sparse_prediction`,
            logits are *(N, V)* in evaluation mode, in the order of the labels, and None in training mode.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        labelled, tied = None, None
        vocabulary = self.vocabulary_of(lang_ids, attention_mask)
        own = self._own_projection(vocabulary)
        weight, bias = own or (self.lm_head.decoder.weight, self.lm_head.decoder.bias)
        if labels is not None:
            check_labels(labels, _shape(input_ids, inputs_embeds), len(weight))
            labels = counted_labels(labels, attention_mask)
            labelled = labels != IGNORED
            tied = self._tied_gradient(input_ids, vocabulary) if sparse_prediction else None
        elif sparse_prediction:
            raise InputError("sparse_prediction is True, but there are no labels to say where to predict.")
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
            use_cache=False,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            kept_positions=labelled if sparse_prediction else None,
            tied_gradient=tied,
            **kwargs,
        )
        states = outputs.last_hidden_state
        loss = None
        logits = None if sparse_prediction else self._logits(states, real_positions(attention_mask), own)
        if labels is not None and labelled is not None:
            targets = labels[labelled].to(states.device)
            items = number_of_items(labelled.sum(), num_items_in_batch).to(states.device)
            if logits is not None:
                loss = summed_cross_entropy(logits[labelled], targets) / items
            else:
                transformed = self.lm_head.transform(states[labelled])
                if self.training:
                    loss = chunked_cross_entropy(transformed, weight, bias, targets, items, tied)
                else:
                    logits = self.lm_head.project(transformed, own)
                    loss = summed_cross_entropy(logits, targets) / items
        output = MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return output if return_dict else output.to_tuple()


class XmodForCausalLM(_XmodLM, GenerationMixin):
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
        """Predicts each next token. Arguments as for `XmodModel`, and:

        Args:
            labels: *Shape: (B, S)*, int64, usually the input itself: each is predicted from the tokens before it; -100
                where a token does not count.
            logits_to_keep: compute the logits of the last so many positions only, or of these positions; 0 for all.
            sparse_prediction: with `labels`, compute the loss alone, a few logits at a time: `logits` is None.
            num_items_in_batch: number of labels over all accumulated batches; the loss is the sum over it.

        Returns:
            `CausalLMOutputWithCrossAttentions` with the mean loss, `logits` *(B, S, V)* and the cache.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        tied = None
        vocabulary = self.vocabulary_of(lang_ids, attention_mask)
        own = self._own_projection(vocabulary)
        weight, bias = own or (self.lm_head.decoder.weight, self.lm_head.decoder.bias)
        if labels is not None:
            check_labels(labels, _shape(input_ids, inputs_embeds), len(weight))
            labels = counted_labels(labels, attention_mask)
            use_cache = False
            tied = self._tied_gradient(input_ids, vocabulary) if sparse_prediction else None
        elif sparse_prediction:
            raise InputError("sparse_prediction is True, but there are no labels to predict.")
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
        loss, logits = None, None
        if not sparse_prediction:
            if isinstance(logits_to_keep, Tensor):
                logits = self.lm_head(states[:, logits_to_keep], own)
            else:
                logits = self.lm_head(states[:, -logits_to_keep:] if logits_to_keep else states, own)
        if labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED).to(states.device)  # what each position predicts
            labelled = targets != IGNORED
            items = number_of_items(labelled.sum(), num_items_in_batch)
            if logits is None:
                transformed = self.lm_head.transform(states[labelled])
                loss = chunked_cross_entropy(transformed, weight, bias, targets[labelled], items, tied)
            elif logits.shape[1] != targets.shape[1]:
                raise InputError(
                    f"logits_to_keep is {logits_to_keep}: with labels, the logits of all positions are needed (0)."
                )
            else:
                loss = summed_cross_entropy(logits[labelled], targets[labelled]) / items
        output = CausalLMOutputWithCrossAttentions(
            loss,
            logits,
            outputs.past_key_values,
            outputs.hidden_states,
            outputs.attentions,
            outputs.cross_attentions,
        )
        return output if return_dict else output.to_tuple()

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The inputs of one step of `generate`: new tokens speak the language of the last token before them."""
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
