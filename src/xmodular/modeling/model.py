"""The X-MOD model without a head.

Shapes: B sequences, S tokens per sequence as given (padding included), T tokens that are worked on.
"""

from __future__ import annotations

import copy
import difflib
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError, InputError
from xmodular.modeling.attention import PACKED_BACKENDS, AttentionInputs
from xmodular.modeling.base import XmodPreTrainedModel
from xmodular.modeling.embeddings import TiedGradient, XmodEmbeddings
from xmodular.modeling.encoder import XmodEncoder
from xmodular.modeling.labels import first_states, first_tokens
from xmodular.modeling.routing import Plan, check_lang_ids, make_plan
from xmodular.modeling.shortcuts import is_plain, tracing


class XmodPooler(nn.Module):
    """A dense layer with tanh over the state of the first token."""

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, states: Tensor, first: Tensor | None = None) -> Tensor:
        """*Shape: (B, S, hidden)* to *(B, hidden)*; `first` (B,) is where the first tokens are, 0 if None."""
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
            lang_ids: *Shape: (B,)* or *(B, S)*, integers: the language of each sequence or of each token, as indices
                into `config.languages`; *(1,)* for the whole batch. None means the default language.
            attention_mask: *Shape: (B, S)*, nonzero at real tokens; *(B, Q, K)*, nonzero where a query sees a key; or
                *(B, 1, Q, K)*, prepared for the attention backend.
            token_type_ids: *Shape: (B, S)*, int64.
            position_ids: *Shape: (B, S)*, int64; counted from `pad_token_id + 1` if None.
            head_mask: *Shape: (heads,)* or *(layers, heads)*, factors of the heads' probabilities.
            inputs_embeds: *Shape: (B, S, hidden)*, in place of `input_ids`.
            encoder_hidden_states: *Shape: (B, K, hidden)*, for cross-attention.
            encoder_attention_mask: *Shape: (B, K)*, nonzero at real tokens of the encoder.
            past_key_values: keys and values of earlier tokens: a cache object, or a tuple of tuples of 2 or 4 tensors
                per layer (then the same form is returned). An encoder attends to them and leaves them as they are.
            use_cache: whether a decoder returns its keys and values; `config.use_cache` if None.
            output_attentions: whether to return the attention probabilities (computed by the eager backend).
            output_hidden_states: whether to return the states of all layers.
            return_dict: whether to return an object (True) or a tuple.
            kept_positions: *Shape: (B, S)*, bool: the positions whose last state is needed; the other states are
                zeros, and the last layer saves its work there. Ignored where all states are asked for.
            tied_gradient: collects the word embeddings' gradient, if a head uses the same weight.
            kwargs: options that transformers passes along and that need no action here; others are refused.

        Returns:
            `BaseModelOutputWithPoolingAndCrossAttentions`, or a tuple of the same. Where `attention_mask` *(B, S)*
            marks padding, states are zeros.

        Raises:
            InputError: if shapes or types do not fit.
            LanguageError: if a language id is out of range, or no language is given and there is no default.
        """
        config, traced = self.config, tracing()
        if output_attentions is None:
            output_attentions = bool(config.output_attentions)
        if output_hidden_states is None:
            output_hidden_states = bool(config.output_hidden_states)
        if return_dict is None:
            return_dict = config.return_dict
        self.check_backend()
        batch_size, length, device = _input_shape(input_ids, inputs_embeds, config.hidden_size)
        if kwargs:
            _check_keywords(kwargs)
        _check_cross(encoder_hidden_states, encoder_attention_mask, batch_size, config)
        use_cache = config.is_decoder and bool(config.use_cache if use_cache is None else use_cache)
        if use_cache and self.training and self.gradient_checkpointing:
            use_cache = False  # the layers run twice, and would fill the cache twice
        cache = as_cache(past_key_values, config)
        if cache is not None and not config.is_decoder and cache.is_compileable:
            raise InputError(
                f"past_key_values is a {type(cache).__name__} of a fixed size: an encoder takes a DynamicCache or a "
                "tuple of tuples."
            )
        # Layers that run twice would fill a cache twice.
        extend_cache = config.is_decoder and not (self.training and self.gradient_checkpointing)
        if use_cache and cache is None:
            cache = _new_cache(config)
        past_length: Any = cache.get_seq_length() if cache is not None else 0
        if isinstance(past_length, Tensor):  # a static cache's own counter, which the first layer moves on
            past_length = past_length.clone() if traced else int(past_length)
        fixed_size = cache is not None and cache.is_compileable
        _check_mask(attention_mask, batch_size, length, past_length, fixed_size)
        vocabulary = self.vocabulary_of(lang_ids, attention_mask)
        rows = config.vocab_size if vocabulary is None else self.embeddings.words(vocabulary).num_embeddings
        field = "vocab_size" if vocabulary is None else f"the vocabulary of {vocabulary},"
        _check_ids(input_ids, "input_ids", batch_size, length, rows, field)
        _check_ids(token_type_ids, "token_type_ids", batch_size, length, config.type_vocab_size, "type_vocab_size")
        rows = config.max_position_embeddings
        _check_ids(position_ids, "position_ids", batch_size, length, rows, "max_position_embeddings")
        head_mask = _check_head_mask(head_mask, config)
        self._check_length(length + past_length, input_ids, position_ids)
        if lang_ids is None:
            ids: Tensor | int = self.default_lang_id()
        else:
            ids = check_lang_ids(lang_ids, batch_size, length, config.languages).to(device)

        backend = str(config._attn_implementation)
        pack = (
            (backend in PACKED_BACKENDS or output_attentions)
            and cache is None
            and encoder_hidden_states is None
            and (attention_mask is None or attention_mask.dim() == 2)
            and config.layout == "packed"
            and not (output_attentions and torch.is_grad_enabled())  # the grid's probabilities are part of the graph
            and not traced
        )
        real = attention_mask.to(device) if pack and attention_mask is not None else None
        padding = None  # (B, S), bool, where the grid layout has tokens that the packed one leaves out
        if not pack and isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
            slots = torch.arange(length, device=device) + past_length
            padding = attention_mask.to(device).index_select(1, slots) == 0
            if isinstance(ids, Tensor) and ids.dim() == 2:
                ids = ids.masked_fill(padding, 0)  # ids at padding are not read
        plan = make_plan(ids, real, batch_size, length, config.languages, pack=pack, static=traced)
        if kept_positions is not None and pack and not output_hidden_states:
            plan = plan.keep(kept_positions)
        embedded = self.embeddings(
            input_ids,
            token_type_ids,
            position_ids,
            inputs_embeds,
            past_length,
            plan=plan if is_plain(self.embeddings, XmodEmbeddings) else None,  # hooks see (B, S, hidden)
            tied=tied_gradient,
            vocabulary=vocabulary,
        )
        if embedded.dim() == 3:
            embedded = plan.pack(embedded)
        inputs = AttentionInputs(
            plan,
            backend,
            padding=padding,
            cache=cache,
            extend_cache=extend_cache,
            past_length=past_length,
            causal=config.is_decoder,
            want_weights=output_attentions,
        )
        if pack:
            inputs.cumulative = _cumulative(plan, device) if "flash" in backend and not output_attentions else None
        else:
            embedded = embedded.view(batch_size, length, config.hidden_size)
            mask_config = _mask_config(config, eager=output_attentions)
            inputs.mask = _self_mask(mask_config, embedded, attention_mask, cache)
            if encoder_hidden_states is not None and encoder_attention_mask is not None:
                inputs.cross_mask = create_bidirectional_mask(
                    mask_config, embedded, _square(encoder_attention_mask, embedded.dtype), encoder_hidden_states
                )
        encoded = self.encoder(embedded, inputs, head_mask, output_hidden_states, encoder_hidden_states)

        states = plan.unpack_kept(encoded.states)
        if padding is not None:  # zeros in either layout
            states = states.masked_fill(padding[:, :, None], 0)
        hidden_states = (*encoded.hidden_states, states) if output_hidden_states else None
        output = BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=states,
            pooler_output=self.pooler(states, first_tokens(attention_mask, length))
            if self.pooler is not None
            else None,
            past_key_values=_as_given(cache, past_key_values) if use_cache else None,
            hidden_states=hidden_states,
            attentions=tuple(encoded.attentions) if output_attentions else None,
            cross_attentions=tuple(encoded.cross_attentions) if encoded.cross_attentions else None,
        )
        return output if return_dict else output.to_tuple()

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
                f"a sequence of {needed - pad - 1} tokens is too long: this model has positions for "
                f"{rows - pad - 1} (max_position_embeddings {rows}). Truncate or split the text."
            )


_ARGUMENTS = [name for name in inspect.signature(XmodModel.forward).parameters if name not in ("self", "kwargs")]


def _input_shape(
    input_ids: Tensor | None, inputs_embeds: Tensor | None, hidden_size: int
) -> tuple[int, int, torch.device]:
    if (input_ids is None) == (inputs_embeds is None):
        raise InputError("give exactly one of input_ids and inputs_embeds.")
    if input_ids is not None:
        if input_ids.dim() != 2:
            raise InputError(f"input_ids has shape {tuple(input_ids.shape)}: it must be (batch, sequence).")
        if not torch.jit.is_tracing() and not input_ids.shape[1]:
            raise InputError("input_ids has no tokens: a sequence has one at least.")
        return *input_ids.shape, input_ids.device
    assert inputs_embeds is not None
    if inputs_embeds.dim() != 3 or (not torch.jit.is_tracing() and inputs_embeds.shape[2] != hidden_size):
        raise InputError(
            f"inputs_embeds has shape {tuple(inputs_embeds.shape)}: it must be (batch, sequence, {hidden_size})."
        )
    return *inputs_embeds.shape[:2], inputs_embeds.device


# What callers of transformers models pass along: options of attention kernels and of generation that need no action.
_UNUSED_KEYWORDS = (
    "cache_position",
    "num_items_in_batch",
    "logits_to_keep",
    "is_first_iteration",
)


def _check_keywords(keywords: dict[str, Any]) -> None:
    for name, value in keywords.items():
        if name not in _UNUSED_KEYWORDS and value is not None:
            near = difflib.get_close_matches(name, _ARGUMENTS, n=1)
            hint = f": did you mean {near[0]!r}?" if near else f"; it takes {', '.join(_ARGUMENTS)}."
            raise InputError(f"forward got {name!r}, which it does not take{hint}")


def _check_cross(states: Tensor | None, mask: Tensor | None, batch_size: int, config: XmodConfig) -> None:
    if states is None:
        return
    if not config.add_cross_attention:
        raise InputError(
            "encoder_hidden_states are given, but this model has no cross-attention: make it with is_decoder=True and "
            "add_cross_attention=True."
        )
    if torch.jit.is_tracing():
        return  # lengths are not known here
    if states.dim() != 3 or states.shape[0] != batch_size or states.shape[2] != config.hidden_size:
        raise InputError(
            f"encoder_hidden_states have shape {tuple(states.shape)}: they must be (batch, encoder sequence, hidden) = "
            f"({batch_size}, ..., {config.hidden_size})."
        )
    if mask is not None and (
        mask.dim() not in (2, 3, 4) or mask.shape[0] not in (1, batch_size) or mask.shape[-1] != states.shape[1]
    ):
        raise InputError(
            f"encoder_attention_mask has shape {tuple(mask.shape)}: it must be ({batch_size}, {states.shape[1]}), one "
            "entry per token of the encoder."
        )


def _check_ids(ids: Tensor | None, name: str, batch_size: int, length: int, rows: int, field: str) -> None:
    if ids is None:
        return
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise InputError(f"{name} has dtype {ids.dtype}: it must be integers.")
    # Where reading values costs nothing; elsewhere the device's own check has to do.
    if ids.device.type == "cpu" and not tracing() and ids.numel():
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= rows:
            raise InputError(
                f"{name} has {low if low < 0 else high}: it must be from 0 to {rows - 1} ({field} {rows})."
            )
    if not torch.jit.is_tracing() and tuple(ids.shape) not in ((batch_size, length), (1, length)):
        raise InputError(f"{name} has shape {tuple(ids.shape)}: it must be ({batch_size}, {length}), one per token.")


def _check_mask(mask: Tensor | None, batch_size: int, length: int, past_length: int, fixed_size: bool) -> None:
    if mask is None:
        return
    if isinstance(mask, list | tuple):
        raise InputError(f"attention_mask is a {type(mask).__name__}: it must be a tensor, such as torch.tensor(mask).")
    if not isinstance(mask, Tensor):
        return  # prepared by and for an attention backend, such as flex attention's block masks
    if isinstance(past_length, Tensor) or torch.jit.is_tracing():
        return  # lengths are not known here
    keys = length + past_length
    columns = mask.shape[-1]
    fits = mask.dim() == 2 and mask.shape[0] == batch_size and (columns == keys or (columns > keys and fixed_size))
    if mask.dim() == 3:
        fits = mask.shape[0] in (1, batch_size) and mask.shape[1] == length and columns >= keys
    if mask.dim() == 4:
        fits = mask.shape[0] in (1, batch_size)
    if not fits:
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}: it must be ({batch_size}, {keys}), one entry per token, or "
            f"({batch_size}, {length}, {keys}), one per query and key."
        )


def _check_head_mask(mask: Tensor | None, config: XmodConfig) -> Tensor | None:
    """The mask as *(layers, heads)*."""
    if mask is None:
        return None
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    if tuple(mask.shape) == (heads,):
        return mask.expand(layers, heads)
    if tuple(mask.shape) == (layers, heads):
        return mask
    raise InputError(
        f"head_mask has shape {tuple(mask.shape)}: it must be (heads,) = ({heads},) or (layers, heads) = "
        f"({layers}, {heads})."
    )


def _mask_config(config: XmodConfig, *, eager: bool) -> XmodConfig:
    """The configuration whose backend decides the form of the masks."""
    if not eager and config.position_embedding_type == "absolute":
        return config
    config = copy.copy(config)
    config._attn_implementation_internal = "eager"
    return config


def _square(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of three dimensions (nonzero: visible) as one to add, *(B, 1, Q, K)*; others as they are."""
    if not isinstance(mask, Tensor) or mask.dim() != 3:
        return mask
    visible = mask[:, None] != 0
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def _self_mask(config: XmodConfig, grid: Tensor, mask: Tensor | None, cache: Cache | None) -> Any:
    """The self-attention mask of the grid layout, in the form that the backend wants."""
    if isinstance(mask, Tensor) and mask.dim() == 3 and config._attn_implementation not in ("eager", "sdpa"):
        raise ConfigurationError(
            f"attention_mask has three dimensions, which attn_implementation {config._attn_implementation!r} cannot "
            "take: use 'sdpa' or 'eager'."
        )
    mask = None if mask is None else _square(mask, grid.dtype)
    if config.is_decoder:
        return create_causal_mask(config, grid, mask, cache)
    return create_bidirectional_mask(config, grid, mask, past_key_values=cache)


def _cumulative(plan: Plan, device: torch.device) -> Tensor:
    """Where each packed sequence begins, and where the last one ends: *(sequences + 1,)*, int32."""
    ends = [0]
    for count, length in plan.runs or ():
        ends.extend(ends[-1] + length * (index + 1) for index in range(count))
    return torch.tensor(ends, dtype=torch.int32, device=device)


def _new_cache(config: XmodConfig) -> Cache:
    if config.add_cross_attention:
        return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
    return DynamicCache(config=config)


def as_cache(past: Any, config: XmodConfig) -> Cache | None:
    """A cache object from what users pass as `past_key_values`.

    Args:
        past: None; a cache object; or one tuple per layer of 2 tensors (keys and values) or 4 (those of
            cross-attention after them), each *(B, heads, tokens, head size)*.

    Raises:
        InputError: if it is none of these.
    """
    if past is None or isinstance(past, Cache):
        return past
    layers = list(past) if isinstance(past, list | tuple) else []
    sizes = {len(layer) for layer in layers if isinstance(layer, list | tuple)}
    if len(layers) != config.num_hidden_layers or len(sizes) != 1 or not sizes <= {2, 4}:
        raise InputError(
            f"past_key_values is a {type(past).__name__}"
            + (f" of {len(layers)} layers with {sorted(sizes)} tensors" if layers else "")
            + f": it must be a cache, or a tuple of {config.num_hidden_layers} layers of 2 or 4 tensors each."
        )
    own = DynamicCache([(layer[0], layer[1]) for layer in layers])
    if not config.add_cross_attention:
        return own
    crossed = DynamicCache([(layer[2], layer[3]) for layer in layers]) if sizes == {4} else DynamicCache(config=config)
    return EncoderDecoderCache(own, crossed)


def _as_given(cache: Cache | None, past: Any) -> Any:
    """The cache as a tuple of tuples if the user passed one."""
    if cache is None or past is None or isinstance(past, Cache):
        return cache
    layers: Any = cache.layers if not isinstance(cache, EncoderDecoderCache) else cache.self_attention_cache.layers
    if isinstance(cache, EncoderDecoderCache):
        crosses: Any = cache.cross_attention_cache.layers
        return tuple(
            (own.keys, own.values, crossed.keys, crossed.values) for own, crossed in zip(layers, crosses, strict=True)
        )
    return tuple((layer.keys, layer.values) for layer in layers)
