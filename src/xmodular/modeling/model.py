"""The X-MOD model without a head.

Shapes: B sequences, S tokens per sequence as given (padding included), T tokens that are worked on.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling import kernels
from xmodular.modeling.attention import PACKED_BACKENDS
from xmodular.modeling.attention_inputs import AttentionInputs
from xmodular.modeling.attention_masks import config_of_masks, cross_mask, self_mask
from xmodular.modeling.caches import Past, past_of
from xmodular.modeling.embeddings import TiedGradient, XmodEmbeddings
from xmodular.modeling.encoder import XmodEncoder
from xmodular.modeling.input_checks import (
    check_cross,
    check_head_mask,
    check_ids,
    check_keywords,
    check_mask,
    input_shape,
)
from xmodular.modeling.labels import first_states, first_tokens
from xmodular.modeling.pretrained import XmodPreTrainedModel
from xmodular.modeling.routing import Plan, check_lang_ids, make_plan
from xmodular.modeling.shortcuts import is_plain, tracing


class XmodPooler(nn.Module):
    """A dense layer with tanh over the state of the first token."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, states: Tensor, first: Tensor | None = None) -> Tensor:
        """*Shape: (B, S, hidden)* to *(B, hidden)*; `first` (B,) are the positions of the first tokens, 0 if None."""
        return torch.tanh(self.dense(first_states(states, first)))


class XmodModel(XmodPreTrainedModel):
    """The X-MOD encoder (or decoder) without a head.

    Args:
        config: its configuration.
        add_pooling_layer: whether to add the pooling layer over the first token.
    """

    def __init__(self, config: XmodConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = XmodEmbeddings(config)
        self.encoder = XmodEncoder(config)
        self.pooler = XmodPooler(config) if add_pooling_layer else None
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the word embeddings."""
        self.embeddings.word_embeddings = cast(nn.Embedding, value)

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
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        kept_positions: Tensor | None = None,
        tied_gradient: TiedGradient | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encodes a batch.

        Args:
            input_ids: *Shape: (B, S)*, int64.
            lang_ids: *Shape: (B,)* or *(B, S)*, integers: the language of each sequence or each token, as indices
                into `config.languages`; *(1,)* for the whole batch. None means the default language.
            attention_mask: *Shape: (B, S)*, nonzero at real tokens; *(B, Q, K)*, nonzero where a query sees a key; or
                *(B, 1, Q, K)*, prepared for the attention backend.
            token_type_ids: *Shape: (B, S)*, int64.
            position_ids: *Shape: (B, S)*, int64; counted from `pad_token_id + 1` if None.
            head_mask: *Shape: (heads,)* or *(layers, heads)*, factors for the heads' probabilities.
            inputs_embeds: *Shape: (B, S, hidden)*, instead of `input_ids`.
            encoder_hidden_states: *Shape: (B, K, hidden)*, for cross-attention.
            encoder_attention_mask: *Shape: (B, K)*, nonzero at real tokens of the encoder.
            past_key_values: keys and values of earlier tokens: a cache object, or a tuple of tuples of 2 or 4 tensors
                per layer (then the same form is returned). An encoder attends to them and does not change them.
            use_cache: whether a decoder returns its keys and values; `config.use_cache` if None.
            output_attentions: whether to return the attention probabilities (computed by the eager backend).
            output_hidden_states: whether to return the states of all layers.
            return_dict: whether to return an object (True) or a tuple.
            kept_positions: *Shape: (B, S)*, bool: the positions whose last state is needed; the other states are
                zeros, and the last layer skips them. Ignored if all states are requested.
            tied_gradient: collects the word embeddings' gradient, if a head uses the same weight.
            kwargs: options that transformers passes and that have no effect here; others are an error.

        Returns:
            `BaseModelOutputWithPoolingAndCrossAttentions`, or a tuple of the same. Where `attention_mask` *(B, S)*
            marks padding, states are zeros.

        Raises:
            InputError: if shapes or types are wrong.
            LanguageError: if a language id is out of range, or no language is given and there is no default.
        """
        config = self.config
        want_weights = bool(config.output_attentions if output_attentions is None else output_attentions)
        want_states = bool(config.output_hidden_states if output_hidden_states is None else output_hidden_states)
        self.check_backend()
        batch_size, length, device = input_shape(input_ids, inputs_embeds, config.hidden_size)
        check_keywords(kwargs, _ARGUMENTS)
        check_cross(encoder_hidden_states, encoder_attention_mask, batch_size, config)
        past = past_of(past_key_values, config, use_cache, runs_twice=self.training and self.gradient_checkpointing)
        check_mask(attention_mask, batch_size, length, past)
        vocabulary = self.vocabulary_of(lang_ids, attention_mask)
        self._check_ids(input_ids, token_type_ids, position_ids, batch_size, length, vocabulary)
        self._check_length(length + past.length, input_ids, position_ids)
        head_mask = check_head_mask(head_mask, config)
        lang_ids = None if lang_ids is None else check_lang_ids(lang_ids, batch_size, length, config.languages)

        pack = encoder_hidden_states is None and self._packs(attention_mask, past, want_weights=want_weights)
        padding = None if pack else _padding(attention_mask, length, past, device)
        plan = self._plan(lang_ids, attention_mask if pack else None, padding, (batch_size, length), device, pack=pack)
        if kept_positions is not None and pack and not want_states:
            plan = plan.keep(kept_positions)
        dtype = kernels.computing_dtype(device, self.dtype)
        if not tracing() and kernels.groups(device, dtype, config.hidden_size):
            plan = plan.grouped(device, dtype, kernels.GROUPED_FROM)
        embedded = self.embeddings(
            input_ids,
            token_type_ids,
            position_ids,
            inputs_embeds,
            past.length,
            plan=plan if is_plain(self.embeddings, XmodEmbeddings) else None,  # hooks see (B, S, hidden)
            tied=tied_gradient,
            vocabulary=vocabulary,
        )
        if embedded.dim() == 3:
            embedded = plan.pack(embedded)
        inputs = AttentionInputs(plan, past, str(config._attn_implementation), padding=padding)
        inputs.causal, inputs.want_weights = config.is_decoder, want_weights
        if not pack:
            embedded = embedded.view(batch_size, length, config.hidden_size)
            mask_config = config_of_masks(config, eager=want_weights)
            inputs.mask = self_mask(mask_config, embedded, attention_mask, past.cache)
            inputs.cross_mask = cross_mask(mask_config, embedded, encoder_attention_mask, encoder_hidden_states)
        elif not want_weights and config.position_embedding_type == "absolute":
            size = config.hidden_size // config.num_attention_heads
            inputs.one_call(device, dtype, size, dropout=self.training and config.attention_probs_dropout_prob > 0)
        encoded = self.encoder(embedded, inputs, head_mask, want_states, encoder_hidden_states)

        states = plan.unpack_kept(encoded.states)
        if padding is not None:  # zeros in either layout
            states = states.masked_fill(padding[:, :, None], 0)
        pooled = None if self.pooler is None else self.pooler(states, first_tokens(attention_mask, length))
        output = BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=states,
            pooler_output=pooled,
            past_key_values=past.to_return(),
            hidden_states=(*encoded.hidden_states, states) if want_states else None,
            attentions=tuple(encoded.attentions) if want_weights else None,
            cross_attentions=tuple(encoded.cross_attentions) if encoded.cross_attentions else None,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _check_ids(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        batch_size: int,
        length: int,
        vocabulary: str | None,
    ) -> None:
        """Raises InputError if ids of pieces, types or positions are outside their tables."""
        config = self.config
        rows = config.vocab_size if vocabulary is None else self.embeddings.words(vocabulary).num_embeddings
        field = "vocab_size" if vocabulary is None else f"the vocabulary of {vocabulary},"
        check_ids(input_ids, "input_ids", batch_size, length, rows, field)
        check_ids(token_type_ids, "token_type_ids", batch_size, length, config.type_vocab_size, "type_vocab_size")
        rows = config.max_position_embeddings
        check_ids(position_ids, "position_ids", batch_size, length, rows, "max_position_embeddings")

    def _packs(self, mask: Any, past: Past, *, want_weights: bool) -> bool:
        """Whether the layers only see real tokens, not the grid of all tokens."""
        return (
            (self.config._attn_implementation in PACKED_BACKENDS or want_weights)
            and past.cache is None
            and (mask is None or mask.dim() == 2)
            and self.config.layout == "packed"
            and not (want_weights and torch.is_grad_enabled())  # the grid's probabilities are part of the graph
            and not tracing()
        )

    def _plan(
        self,
        lang_ids: Tensor | None,
        mask: Tensor | None,
        padding: Tensor | None,
        shape: tuple[int, int],
        device: torch.device,
        *,
        pack: bool,
    ) -> Plan:
        """The plan of a forward, whose language ids are checked; `mask` is that of the packed layout."""
        ids: Tensor | int = self.default_lang_id() if lang_ids is None else lang_ids.to(device)
        if padding is not None and isinstance(ids, Tensor) and ids.dim() == 2:
            ids = ids.masked_fill(padding, 0)  # ids at padding are not read
        real = None if mask is None else mask.to(device)
        return make_plan(ids, real, *shape, self.config.languages, pack=pack, static=tracing())

    def _check_length(self, length: int, input_ids: Tensor | None, position_ids: Tensor | None) -> None:
        """Raises InputError if a token would stand beyond the position table."""
        rows = self.config.max_position_embeddings
        pad = self.config.pad_token_id
        if tracing() or length <= rows - pad - 1:
            return
        if position_ids is not None:
            needed = int(position_ids.max()) + 1
        elif input_ids is None:
            needed = length + pad + 1
        else:  # padding does not count
            needed = length - int((input_ids == pad).sum(1).min()) + pad + 1
        if needed > rows:
            raise InputError(
                f"a sequence of {needed - pad - 1} tokens is too long: this model supports at most "
                f"{rows - pad - 1} (max_position_embeddings {rows}). Truncate or split the text."
            )


_ARGUMENTS = [name for name in inspect.signature(XmodModel.forward).parameters if name not in ("self", "kwargs")]


def _padding(mask: Any, length: int, past: Past, device: torch.device) -> Tensor | None:
    """*Shape: (B, S)*, bool: the tokens of the grid layout that the packed one leaves out; None if there are none."""
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return None
    slots = torch.arange(length, device=device) + past.length
    return mask.to(device).index_select(1, slots) == 0
