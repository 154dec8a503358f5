"""The language-model head, its loss over few logits at a time, and the masked language model.

Shapes: B sequences, S tokens per sequence, N tokens with a label, V pieces of the vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import MaskedLMOutput

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling.embeddings import TiedGradient, XmodEmbeddings
from xmodular.modeling.labels import (
    IGNORED,
    check_labels,
    counted_labels,
    number_of_items,
    real_positions,
    shape_of,
    summed_cross_entropy,
    warn_of_uncounted,
)
from xmodular.modeling.model import XmodModel
from xmodular.modeling.pretrained import XmodPreTrainedModel
from xmodular.modeling.products import linear, product, product_over_rows
from xmodular.modeling.shortcuts import is_plain, tracing
from xmodular.weight_names import LM_BIAS, LM_BIAS_TOO, TIED

logger = logging.getLogger(__name__)

LOGITS_PER_CHUNK = 2**25  # 128 MiB of fp32 logits at a time in the chunked loss


class LanguageBiases(nn.ParameterDict):
    """Biases of the projections to single languages' vocabularies; a callable module, so that offloading works."""

    __call__ = nn.Module.__call__  # torch's dictionaries refuse to be called

    def forward(self, language: str) -> Tensor:
        """*Shape: (rows of that vocabulary,)*."""
        return cast(Tensor, self[language])


class XmodLMHead(nn.Module):
    """Dense layer, GELU, LayerNorm, and the projection to the vocabulary (tied to the word embeddings)."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        # Of the languages with a vocabulary of their own, whose embeddings are their projection.
        self.language_bias = LanguageBiases(
            {language: nn.Parameter(torch.zeros(rows)) for language, rows in config.vocabularies.items()}
        )

    def transform(self, states: Tensor) -> Tensor:
        """Everything before the projection: *Shape: (..., hidden)* to the same."""
        return self.layer_norm(F.gelu(linear(self.dense, states)))

    def forward(self, states: Tensor, own: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """*Shape: (..., hidden)* to *(..., V)*, for the shared vocabulary, or with the weight and bias of another."""
        transformed = self.transform(states)
        return linear(self.decoder, transformed) if own is None else product(transformed, *own)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross entropies of softmax(states·weightᵀ + bias), summed and divided, with the logits of a few rows at a time.

    The gradients are computed in the forward pass, while a chunk's logits are there: with p = softmax(z), the
    gradient of the loss by the logits z is p minus the one-hot target. Only the backward pass knows by what the loss
    is scaled, so the products are of p minus target as it is, and divisor and scale are applied to their sums.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        divisor: Tensor,
        dtype: torch.dtype,
        tied: TiedGradient | None,
    ) -> Tensor:
        want_states, want_weight, want_bias = ctx.needs_input_grad[:3]
        rows = max(1, LOGITS_PER_CHUNK // weight.shape[0])
        cast_states, cast_weight = states.to(dtype), weight.to(dtype)
        cast_bias = None if bias is None else bias.to(dtype)
        full = torch.promote_types(dtype, torch.float32)
        d_states = torch.empty_like(states, dtype=full) if want_states else None
        few = dtype == weight.dtype == torch.bfloat16 and len(labels) <= 8 * rows  # so few sums may round in between
        kind, d_weight = weight.dtype if few else full, cast(Tensor | None, None)
        d_bias = torch.zeros_like(bias, dtype=full) if bias is not None and want_bias else None
        total = torch.zeros((), dtype=full, device=states.device)
        for start in range(0, len(labels), rows):
            part, target = cast_states[start : start + rows], labels[start : start + rows]
            logits = product(part, cast_weight, cast_bias).to(full)
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - logits.gather(1, target[:, None])).sum()
            if not (want_states or want_weight or want_bias):
                continue
            gradient = logits.sub_(normaliser).exp_()
            gradient[torch.arange(len(target), device=target.device), target] -= 1
            if d_bias is not None:
                d_bias += gradient.sum(0)
            if d_states is not None:
                d_states[start : start + rows] = _add_product(None, gradient, cast_weight, full)
            if want_weight:
                d_weight = _add_product(d_weight, gradient.T, part, kind, over_rows=True)
        if want_weight and d_weight is None:
            d_weight = torch.zeros_like(weight)
        ctx.gradients = [d_states, d_weight, d_bias]
        ctx.dtypes = [states.dtype, weight.dtype, None if bias is None else bias.dtype]
        ctx.divisor, ctx.tied = divisor, tied
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.gradients is None:
            raise RuntimeError("this loss supports only one backward pass.")
        gradients, ctx.gradients = ctx.gradients, None
        factor = grads[0] / ctx.divisor
        for gradient in gradients:
            if gradient is not None:
                gradient.mul_(factor)
        if ctx.tied is not None:
            ctx.tied.gradient, gradients[1] = gradients[1], None
        cast = [None if found is None else found.to(dtype) for found, dtype in zip(gradients, ctx.dtypes, strict=True)]
        return *cast, None, None, None, None


def _add_product(
    total: Tensor | None, left: Tensor, right: Tensor, dtype: torch.dtype, *, over_rows: bool = False
) -> Tensor:
    """total + left·right, a sum in `dtype`, of a product in the precision of `right`, which may be over any rows.

    fp16 has neither room for the sum of many rows nor for the share of an unlikely piece: there each row of `left` is
    scaled so that its products with `right` fill the range and cannot leave it.
    """
    if total is not None and right.dtype == dtype:
        return total.addmm_(left.to(dtype), right)
    if right.dtype != torch.float16:
        left = left.to(right.dtype)
        made = product_over_rows(left.T, right) if over_rows else product(left, right.T)
        return made.to(dtype) if total is None else total.add_(made)
    largest = torch.linalg.vector_norm(right, torch.inf, dtype=left.dtype).clamp(min=1)
    most = torch.linalg.vector_norm(left, 1, dim=1, keepdim=True).mul_(largest).clamp_(min=1e-30)
    scale = 2**15 / most
    made = torch.mm(torch.mul(left, scale, out=torch.empty_like(left, dtype=right.dtype)), right)
    return made / scale if total is None else total.addcdiv_(made, scale)


def chunked_cross_entropy(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    divisor: Tensor,
    tied: TiedGradient | None = None,
) -> Tensor:
    """Sum of the cross entropies of a projection's outputs over a divisor, with only a chunk of the logits in memory.

    Args:
        states: *Shape: (N, hidden)*.
        weight: the projection to the vocabulary, *Shape: (V, hidden)*.
        bias: *Shape: (V,)*.
        labels: *Shape: (N,)*, int64, each below V.
        divisor: the divisor of the sum.
        tied: collects the gradient of the projection's weight, if the embeddings share it.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return _ChunkedCrossEntropy.apply(states, weight, bias, labels, divisor, dtype, tied)


def _called_cross_entropy(
    head: Callable[[Tensor], Tensor], states: Tensor, labels: Tensor, divisor: Tensor, pieces: int
) -> Tensor:
    """The same for a head that must be called, because it is wrapped; the backward pass recomputes a chunk's logits."""
    rows = max(1, LOGITS_PER_CHUNK // pieces)
    chunks = list(zip(states.split(rows), labels.split(rows), strict=True))
    again = len(chunks) > 1 and torch.is_grad_enabled()

    def loss(part: Tensor, target: Tensor) -> Tensor:
        return summed_cross_entropy(head(part), target)

    parts = [checkpoint(loss, *chunk, use_reentrant=False) if again else loss(*chunk) for chunk in chunks]
    return torch.stack(parts).sum() / divisor


class XmodLM(XmodPreTrainedModel):
    """A language model: the encoder or decoder, and the head tied to its word embeddings."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__(config)
        self.roberta = XmodModel(config, add_pooling_layer=False)
        self.lm_head = XmodLMHead(config)
        self.post_init()

    @property
    def _tied_weights_keys(self) -> dict[str, str]:  # type: ignore[override]  # a class attribute there
        """The tied weights, target to source; the source is saved. The head always has a single bias."""
        if not self.config.tie_word_embeddings:
            return {LM_BIAS: LM_BIAS_TOO}
        return dict(TIED)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """As in transformers, which ties weights only if embeddings are tied; here the bias is always shared."""
        if all_submodels or self.config.tie_word_embeddings:
            return cast(dict[str, str], super().get_expanded_tied_weights_keys(all_submodels))
        there = {name for name, _ in self.named_parameters(remove_duplicate=False)}  # a wrapped head has other names
        return {target: source for target, source in self._tied_weights_keys.items() if {target, source} <= there}

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Ties weights; if a file has two biases, the one in use there is kept."""
        super().tie_weights(*args, **kwargs)
        head = self.lm_head
        working = getattr(head.decoder, "bias", None)  # a wrapped projection may not show its bias
        if head.bias is not working and working is not None and not working.is_meta:  # meta: not in any file
            head.bias = head.decoder.bias
            target = next(name for name in self._tied_weights_keys if name.endswith("bias"))
            self.all_tied_weights_keys[target] = self._tied_weights_keys[target]

    def get_output_embeddings(self) -> nn.Linear:
        """The projection to the vocabulary."""
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replaces the projection to the vocabulary."""
        self.lm_head.decoder = new_embeddings
        if new_embeddings.bias is not None:
            self.lm_head.bias = new_embeddings.bias

    def _own_projection(self, vocabulary: str | None, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Weight and bias of the projection to a language's own vocabulary; None for the shared one."""
        if vocabulary is None:
            return None
        words = self.roberta.embeddings.words(vocabulary)
        rows = self._pieces(vocabulary)
        weight = words.weight if is_plain(words, nn.Embedding) else words(torch.arange(rows, device=device))
        return weight, self.lm_head.language_bias(vocabulary)

    def _pieces(self, vocabulary: str | None) -> int:
        return self.config.vocab_size if vocabulary is None else self.config.vocabularies[vocabulary]

    def _readable(self, vocabulary: str | None) -> bool:
        """Whether the loss may read the weights of the head past its modules, which nothing wraps."""
        head = self.lm_head
        return is_plain(head, XmodLMHead) and (vocabulary is not None or is_plain(head.decoder, nn.Linear))

    def _tied_gradient(self, input_ids: Tensor | None, vocabulary: str | None) -> TiedGradient | None:
        """The collector of the tied weight's gradient, if there is one and it is trainable."""
        embeddings = self.roberta.embeddings
        words = embeddings.words(vocabulary)
        collects = (
            self.training
            and torch.is_grad_enabled()
            and input_ids is not None
            and not torch.compiler.is_compiling()
            and is_plain(embeddings, XmodEmbeddings)
            and is_plain(words, nn.Embedding)
            and not (words.max_norm or words.scale_grad_by_freq or words.sparse)
            and self._readable(vocabulary)
            and words.weight.requires_grad
            and (vocabulary is not None or self.lm_head.decoder.weight is words.weight)
        )
        return TiedGradient() if collects else None

    def _sparse_loss(
        self,
        states: Tensor,
        targets: Tensor,
        items: Tensor,
        vocabulary: str | None,
        own: tuple[Tensor, Tensor] | None,
        tied: TiedGradient | None,
    ) -> Tensor:
        """The loss of states *(N, hidden)*, a few logits at a time."""
        head = self.lm_head
        if not self._readable(vocabulary):
            return _called_cross_entropy(lambda part: head(part, own), states, targets, items, self._pieces(vocabulary))
        weight, bias = own or (head.decoder.weight, head.decoder.bias)
        return chunked_cross_entropy(head.transform(states), weight, bias, targets, items, tied)

    def _logits(self, states: Tensor, mask: Tensor | None, own: tuple[Tensor, Tensor] | None) -> Tensor:
        """Logits of all tokens, *Shape: (B, S, V)*; zeros where the mask says that there is padding."""
        real = real_positions(mask, states.shape[1])
        if real is not None and tracing():
            return self.lm_head(states, own).masked_fill(~real.to(states.device)[:, :, None], 0)
        if real is None or bool(real.all()):
            return self.lm_head(states, own)
        logits = self.lm_head(states[real], own)
        return logits.new_zeros(*states.shape[:2], logits.shape[-1]).index_put((real,), logits)


class XmodForMaskedLM(XmodLM):
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
            labels: *Shape: (B, S)*, int64: the pieces to predict; -100 for tokens to ignore.
            sparse_prediction: with `labels`, predict only at positions with a label: the head, and the last layer after
                its attention, skip all others. The loss is the same.
            num_items_in_batch: number of labels over all accumulated batches; the loss is the sum divided by it.

        Returns:
            `MaskedLMOutput` with the mean loss and `logits` *(B, S, V)*, zeros at padding. With `sparse_prediction`,
            logits are *(N, V)* in evaluation mode, in the order of the labels, and None in training mode.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        labelled, tied = None, None
        vocabulary = self.vocabulary_of(lang_ids, attention_mask)
        if labels is not None:
            check_labels(labels, shape_of(input_ids, inputs_embeds), self._pieces(vocabulary))
            given, labels = labels, counted_labels(labels, attention_mask)
            warn_of_uncounted(given, labels, num_items_in_batch)
            labelled = labels != IGNORED
            tied = self._tied_gradient(input_ids, vocabulary) if sparse_prediction else None
        elif sparse_prediction:
            raise InputError("sparse_prediction is True, but labels, which say where to predict, are not given.")
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
        own = self._own_projection(vocabulary, states.device)
        loss = None
        logits = None if sparse_prediction else self._logits(states, attention_mask, own)
        if labels is not None and labelled is not None:
            targets = labels[labelled].to(states.device)
            items = number_of_items(labelled.sum(), num_items_in_batch).to(states.device)
            if logits is not None:
                loss = summed_cross_entropy(logits[labelled], targets) / items
            elif self.training:
                loss = self._sparse_loss(states[labelled], targets, items, vocabulary, own, tied)
            else:
                logits = self.lm_head(states[labelled], own)
                loss = summed_cross_entropy(logits, targets) / items
        output = MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)
        return output if return_dict else output.to_tuple()
