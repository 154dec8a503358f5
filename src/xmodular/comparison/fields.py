"""Configurations and tokenizers, compared field by field.

All fields count as deciding outputs except those listed here as harmless, so an unforeseen field counts as a
difference. `docs/guides/diff.md` has the same lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerFast

from xmodular.comparison.certificate import CONFIGURATION, FieldChange
from xmodular.configuration import XmodConfig
from xmodular.vocabulary import fingerprint, positions_of, suited

# The origin of a model, and fields that are read under another name: not even listed.
BOOKKEEPING = frozenset(
    (
        *("transformers_version", "_name_or_path", "name_or_path", "_commit_hash"),
        *("torch_dtype", "num_labels"),  # read as dtype and labels
        *("languages", "vocabularies", "id2label"),  # compared language by language, and as labels
    )
)
# What only training or making a new model reads, and notes that decide nothing; `language` is a pack's code.
HARMLESS = frozenset(
    (
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "initializer_range"),
        *("task_data", "task_columns", "language"),
    )
)
# Attributes of a tokenizer without effect: its origin, its messages, what no X-MOD reads. The core
# (`_tokenizer`) and what is built into it are compared by `fingerprint`.
_HARMLESS_OF_TOKENIZERS = frozenset(
    (
        *("_tokenizer", "_add_bos_token", "_add_eos_token", "_should_update_post_processor", "add_prefix_space"),
        *("init_inputs", "init_kwargs", "name_or_path", "files_loaded", "vocab_file", "backend", "_processor_class"),
        *("verbose", "deprecation_warnings", "_in_target_context_manager"),
        *("chat_template", "response_template", "chat_control_tokens"),
    )
)
# Fields of a part other than the configuration: whoever allows that part to differ allows these.
_PARTS = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "type_vocab_size"), "embeddings"),
    **dict.fromkeys(("problem_type", "labels", "label2id", "classifier_pooling", "finetuning_task"), "task head"),
    **dict.fromkeys(("task_language", "task_max_length", "task_stride"), "task head"),
    "tie_word_embeddings": "lm head",
}
_ARCHITECTURES = "architectures"


def fields_of(config: XmodConfig, written: Mapping[str, Any], dtype: str, architecture: Any) -> dict[str, Any]:
    """The fields of a configuration as JSON values, so that one in memory equals the one in a file.

    Args:
        config: the configuration.
        written: the content of its file, empty without one. Some entries, such as `attn_implementation`,
            decide how a model is loaded and are not part of the configuration afterwards.
        dtype: the dtype in which the weights are loaded.
        architecture: the class of the model.
    """
    fields = {**written, **config.to_dict(), "dtype": dtype, _ARCHITECTURES: architecture}
    fields["model_type"] = written.get("model_type", config.model_type)
    fields["labels"] = {str(number): label for number, label in (fields.get("id2label") or {}).items()}
    return dict(json.loads(json.dumps(fields, default=str)))


def generation_of(generation: GenerationConfig) -> dict[str, Any]:
    """The settings that decide how a causal model generates."""
    fields = json.loads(generation.to_json_string(use_diff=True))
    return {name: value for name, value in fields.items() if name not in ("transformers_version", "_from_model_config")}


def reading_of(tokenizer: PreTrainedTokenizerFast, config: XmodConfig) -> dict[str, Any]:
    """Everything that decides the ids of a text for a model of that configuration, by name."""
    tokenizer = suited(tokenizer, config)
    found = {name: value for name, value in vars(tokenizer).items() if name not in _HARMLESS_OF_TOKENIZERS}
    if tokenizer.model_max_length > (positions := positions_of(config)):
        # Any such value: texts are not truncated to the model's length.
        found["model_max_length"] = f"more than the {positions} positions"
    found["_special_tokens_map"] = {role: str(token) for role, token in tokenizer._special_tokens_map.items()}
    found["_extra_special_tokens"] = [str(token) for token in tokenizer._extra_special_tokens]
    named = {f"tokenizer {name.strip('_').replace('_', ' ')}": value for name, value in found.items()}
    named |= {"tokenizer": fingerprint(tokenizer), "tokenizer class": type(tokenizer).__name__}
    return dict(json.loads(json.dumps(named, default=str)))


def compare_fields(a: Mapping[str, Any], b: Mapping[str, Any], differing: Set[str]) -> Iterator[FieldChange]:
    """The fields that differ, each with the part it belongs to.

    Args:
        a, b: fields of both sides, see `fields_of`.
        differing: parts whose weights differ.
    """
    for name in dict.fromkeys([*a, *b]):
        if name not in BOOKKEEPING and not _same(left := a.get(name), right := b.get(name)):
            yield FieldChange(name, left, right, _part(name, a, b, differing))
    codes = [list(side.get("languages", ())) for side in (a, b)]
    rows = [side.get("vocabularies") or {} for side in (a, b)]
    for code in codes[0]:
        if code in codes[1] and not _same(left := rows[0].get(code), right := rows[1].get(code)):
            yield FieldChange(f"vocabulary of {code}", left, right, code)
    orders = [[code for code in own if code in other] for own, other in (codes, codes[::-1])]
    if orders[0] != orders[1]:
        yield FieldChange("order of languages", orders[0], orders[1])
    ids = [{code: id_ for id_, code in enumerate(own)} for own in codes]
    for code in dict.fromkeys([*ids[0], *ids[1]]):
        if ids[0].get(code) != ids[1].get(code):  # with the same order, other languages were added or removed
            yield FieldChange(f"language id of {code}", ids[0].get(code), ids[1].get(code), None)


def _part(name: str, a: Mapping[str, Any], b: Mapping[str, Any], differing: Set[str]) -> str | None:
    """The part that a field which differs belongs to; None if the difference decides nothing that the parts do not."""
    if name in HARMLESS:
        return None
    if name == _ARCHITECTURES and differing & {"lm head", "task head"}:
        return None  # another head, which is seen in its weights
    if name == "default_language":
        for side, other in ((a, b), (b, a)):
            if other.get(name) is None and side.get(name) not in other.get("languages", ()):
                return None  # unset, as that language is not there
    return _PARTS.get(name, CONFIGURATION)


def _same(a: Any, b: Any) -> bool:
    """Whether two values are written alike: 64 and 64.0 are not, as a length is an integer."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
