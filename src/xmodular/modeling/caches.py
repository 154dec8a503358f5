"""Caches: keys and values of earlier tokens, in all supported forms.

Shapes: B sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError
from xmodular.modeling.shortcuts import tracing


@dataclass
class Past:
    """The cache of a forward pass.

    Attributes:
        given: the cache as the user passed it.
        cache: the same as a cache object, or a new one to fill; None if there is neither.
        length: number of tokens in the cache.
        extends: whether the tokens of this forward pass are added, in place.
        returned: whether the cache is returned.
    """

    given: Any
    cache: Cache | None
    length: Any
    extends: bool
    returned: bool

    @property
    def has_fixed_size(self) -> bool:
        """Whether the size of the cache was fixed when it was created."""
        return self.cache is not None and self.cache.is_compileable

    def to_return(self) -> Any:
        """The cache in the form that the user passed; None if it is not returned."""
        if not self.returned:
            return None
        cache: Any = self.cache
        if self.given is None or isinstance(self.given, Cache):
            return cache
        crossed = isinstance(cache, EncoderDecoderCache)
        caches = (cache.self_attention_cache, cache.cross_attention_cache) if crossed else (cache,)
        layers = [each.layers for each in caches]
        return tuple(
            tuple(tensor for part in parts for tensor in (part.keys, part.values))
            for parts in zip(*layers, strict=True)
        )


def past_of(given: Any, config: XmodConfig, use_cache: bool | None, *, runs_twice: bool) -> Past:
    """The cache of a forward pass.

    Args:
        given: None; a cache object; or one tuple per layer of 2 tensors (keys and values) or 4 (those of
            cross-attention after them), each *(B, heads, tokens, head size)*.
        config: the model's configuration.
        use_cache: whether a decoder returns its keys and values; `config.use_cache` if None.
        runs_twice: whether each layer runs twice, which would fill a cache twice.

    Raises:
        InputError: if it is none of these, or an encoder gets a cache of a fixed size.
    """
    extends = config.is_decoder and not runs_twice
    returned = extends and bool(config.use_cache if use_cache is None else use_cache)
    cache = given if given is None or isinstance(given, Cache) else _from_tuples(given, config)
    if cache is not None and not config.is_decoder and cache.is_compileable:
        raise InputError(
            f"past_key_values is a {type(cache).__name__} of fixed size: an encoder needs a DynamicCache or a "
            "tuple of tuples."
        )
    if returned and cache is None:
        cache = DynamicCache(config=config)
        if config.add_cross_attention:
            cache = EncoderDecoderCache(cache, DynamicCache(config=config))
    length: Any = cache.get_seq_length() if cache is not None else 0
    if isinstance(length, Tensor):  # a static cache's own counter, which the first layer advances
        length = length.clone() if tracing() else int(length)
    return Past(given, cache, length, extends, returned)


def _from_tuples(past: Any, config: XmodConfig) -> Cache:
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
