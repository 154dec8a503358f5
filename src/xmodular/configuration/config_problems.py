"""Problems of a configuration: one line each, with field, value and what is allowed."""

from __future__ import annotations

import difflib
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from xmodular.errors import first_of
from xmodular.languages import code_problem

_CHOICES = {
    "classifier_pooling": ("first", "mean"),
    "position_embedding_type": ("absolute", "relative_key", "relative_key_query"),
    "layout": ("packed", "grid"),
}
# Beyond these a configuration is damaged, and building a model of it would fill the memory.
_MOST, _MOST_LAYERS, MOST_LABELS, _MOST_LANGUAGES = 2**28, 1000, 2**15, 10_000
_MOST_SHOWN = 100  # codes in it
_SWITCHES = (
    "is_decoder",
    "add_cross_attention",
    "use_cache",
    "tie_word_embeddings",
    "pre_norm",
    "adapter_layer_norm",
    "adapter_reuse_layer_norm",
    "ln_before_adapter",
)


def is_integer(value: object) -> bool:
    """Whether a value is an integer, which a truth value is not meant to be."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object, most: float = sys.float_info.max) -> bool:
    """Whether a value is a number from 0 to `most`."""
    return (is_integer(value) or isinstance(value, float)) and 0 <= value <= most  # type: ignore[operator]


def problems(config: Any) -> Iterator[str]:
    """Yields one line for each problem: field, value, what is allowed."""
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    bad_sizes = False
    for name in (*sizes, "max_position_embeddings", "type_vocab_size"):
        value = getattr(config, name)
        most = _MOST_LAYERS if name == "num_hidden_layers" else _MOST
        if not is_integer(value) or not 1 <= value <= most:
            bad_sizes = True
            yield f"{name} is {value!r:.40}: it must be a positive integer, at most {most:,}."
    for name in ("initializer_range", "layer_norm_eps"):
        if not _is_number(value := getattr(config, name)):
            yield f"{name} is {value!r:.40}: it must be 0 or more."
    for name in _SWITCHES:
        if not isinstance(value := getattr(config, name), bool):
            yield f"{name} is {value!r:.40}: it must be True or False."
    chunk = config.chunk_size_feed_forward
    if not is_integer(chunk) or chunk < 0:
        yield f"chunk_size_feed_forward is {chunk!r:.40}: it must be an integer, 0 (all at once) or more."
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
        value = getattr(config, name)
        if not _is_number(value, 1) and not (name == "classifier_dropout" and value is None):
            yield f"{name} is {value!r}: it must be a probability between 0 and 1."
    pruning = list(pruning_problems(config))
    yield from pruning
    if not bad_sizes:
        yield from _size_problems(config, check_pruning=not pruning)
    yield from _language_problems(config)
    for name, allowed in _CHOICES.items():
        if (value := getattr(config, name)) not in allowed:
            yield f"{name} is {value!r:.40}: allowed are {', '.join(map(repr, allowed))}."
    if not callable(act := config.hidden_act):
        from transformers.activations import ACT2FN

        if not isinstance(act, str) or act not in ACT2FN:
            yield f"hidden_act is {act!r:.40}{_near(act, ACT2FN)}: give a callable or one of {', '.join(ACT2FN)}."
    if config.add_cross_attention and not config.is_decoder:
        yield "add_cross_attention is True but is_decoder is False: cross-attention needs is_decoder=True."


def pruning_problems(config: Any) -> Iterator[str]:
    """Whether `pruned_heads` has the form of one at all."""
    heads_of = config.pruned_heads
    if not isinstance(heads_of, dict) or not all(
        str(layer).isdecimal() and isinstance(heads, list | tuple | set) and all(map(is_integer, heads))
        for layer, heads in heads_of.items()
    ):
        yield f"pruned_heads is {heads_of!r:.40}: it must be a table of layers and lists of heads."


def _size_problems(config: Any, *, check_pruning: bool) -> Iterator[str]:
    if config.hidden_size % config.num_attention_heads:
        yield (
            f"hidden_size is {config.hidden_size}, which num_attention_heads ({config.num_attention_heads}) does not "
            "divide evenly: choose a multiple."
        )
    factor = config.adapter_reduction_factor
    if not _is_number(factor, math.inf) or not factor:
        yield f"adapter_reduction_factor is {factor!r}: it must be a positive number."
    elif config.hidden_size / factor > _MOST:
        yield f"adapter_reduction_factor is {factor!r}: the bottleneck would be wider than {_MOST:,}."
    elif config.hidden_size // factor < 1:
        yield (
            f"adapter_reduction_factor is {factor!r}, which leaves no bottleneck of hidden_size "
            f"{config.hidden_size}: it must be at most {config.hidden_size}."
        )
    pad = config.pad_token_id
    if not is_integer(pad) or not 0 <= pad < config.vocab_size:
        yield (
            f"pad_token_id is {pad!r}: it must be an id below vocab_size ({config.vocab_size}); positions count from "
            "it."
        )
    elif config.max_position_embeddings < pad + 2:
        yield (
            f"max_position_embeddings is {config.max_position_embeddings}; positions start at pad_token_id + 1, so "
            f"at least {pad + 2} rows are needed."
        )
    for layer, heads in (config.pruned_heads or {}).items() if check_pruning else ():
        wrong = [head for head in heads if not 0 <= head < config.num_attention_heads]
        if not 0 <= layer < config.num_hidden_layers or wrong or len(heads) >= config.num_attention_heads:
            yield (
                f"pruned_heads has {layer!s:.40}: {heads!r:.80}: layers are 0 to {config.num_hidden_layers - 1}, "
                f"heads 0 to {config.num_attention_heads - 1}, and at least one head must remain."
            )


def _language_problems(config: Any) -> Iterator[str]:
    languages = config.languages
    if isinstance(languages, str):
        yield f"languages is the string {languages!r}: give a list of codes, such as [{languages!r}]."
        return
    if not isinstance(languages, list):
        yield f"languages is {languages!r:.40}: it must be a list of codes, such as ['en_XX']."
        return
    if not languages:
        yield "languages is empty: give at least one code, such as ['en_XX']."
    if len(languages) > _MOST_LANGUAGES:
        yield f"languages has {len(languages):,} codes: at most {_MOST_LANGUAGES:,} are supported."
        return
    for code in languages:
        if problem := code_problem(code):
            yield f"languages has {problem}"
    if not isinstance(config.vocabularies, dict):
        yield f"vocabularies is {config.vocabularies!r:.40}: it must be a table of languages and numbers of rows."
        return
    for code, rows in config.vocabularies.items():
        if code not in languages:
            yield f"vocabularies has {code!r:.40}, which is not among the languages: {_listed(languages)}."
        elif not is_integer(rows) or not 1 <= rows <= _MOST:
            yield f"vocabularies has {rows!r:.40} for {code!r}: it must be a positive integer, at most {_MOST:,}."
    if duplicates := sorted(code for code, count in Counter(map(str, languages)).items() if count > 1):
        yield f"languages has duplicates: {_listed(duplicates)}. Each code may appear only once."
    if config.default_language is not None and config.default_language not in languages:
        yield (
            f"default_language is {config.default_language!r:.40}{_near(config.default_language, languages)}, which is "
            f"not among the languages: {_listed(languages)}."
        )


def _near(value: object, names: Iterable[object]) -> str:
    """A hint with the names most similar to a value; empty if there are none."""
    near = difflib.get_close_matches(str(value), list(map(str, names)), n=3)
    return f" (near: {', '.join(near)})" if near else ""


def _listed(codes: Sequence[Any]) -> str:
    """Codes for a message: all of a usual model's, else the first and how many more there are."""
    return first_of([f"{code!s:.40}" for code in codes], _MOST_SHOWN)
