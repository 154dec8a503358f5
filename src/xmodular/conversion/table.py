"""The table of weights: their names in fairseq and in this library, and their shapes.

One row per weight; ``{layer}``, ``{language}`` and ``{head}`` stand for any number, code or name. Reading and writing
both go by these rows. Rows follow the order of fairseq's state dict (its `fairseq/models/xmod`).

Shapes: V pieces of the vocabulary, P rows of the position table, H hidden size, F feed-forward size, B bottleneck,
C classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from xmodular.configuration import XmodConfig
from xmodular.weight_names import LM_BIAS, LM_BIAS_TOO, LM_WEIGHT, POSITION_IDS, POSITIONS, PREFIX, TYPES, WORDS

DEFAULT_HEAD = "sentence_classification_head"  # fairseq's own default name


@dataclass(frozen=True)
class Rule:
    """One weight: its name in fairseq, its name here, its shape as letters."""

    fairseq: str
    ours: str
    shape: str


def _linear(fairseq: str, ours: str, shape: str) -> tuple[Rule, Rule]:
    """Weight (out, in) and bias (out) of a linear layer."""
    return Rule(f"{fairseq}.weight", f"{ours}.weight", shape), Rule(f"{fairseq}.bias", f"{ours}.bias", shape[0])


def _norm(fairseq: str, ours: str) -> tuple[Rule, Rule]:
    """Weight and bias of a LayerNorm."""
    return Rule(f"{fairseq}.weight", f"{ours}.weight", "H"), Rule(f"{fairseq}.bias", f"{ours}.bias", "H")


_STACK, _LAYER = "encoder.sentence_encoder", "encoder.sentence_encoder.layers.{layer}"
_OURS = "roberta.encoder.layer.{layer}"

EMBEDDINGS = (
    Rule(f"{_STACK}.embed_tokens.weight", WORDS, "VH"),
    Rule(f"{_STACK}.embed_positions.weight", POSITIONS, "PH"),
    *_norm(f"{_STACK}.layernorm_embedding", "roberta.embeddings.LayerNorm"),
)
LAYER = (
    *_linear(f"{_LAYER}.self_attn.k_proj", f"{_OURS}.attention.self.key", "HH"),
    *_linear(f"{_LAYER}.self_attn.v_proj", f"{_OURS}.attention.self.value", "HH"),
    *_linear(f"{_LAYER}.self_attn.q_proj", f"{_OURS}.attention.self.query", "HH"),
    *_linear(f"{_LAYER}.self_attn.out_proj", f"{_OURS}.attention.output.dense", "HH"),
    *_norm(f"{_LAYER}.self_attn_layer_norm", f"{_OURS}.attention.output.LayerNorm"),
    *_linear(f"{_LAYER}.fc1", f"{_OURS}.intermediate.dense", "FH"),
    *_linear(f"{_LAYER}.fc2", f"{_OURS}.output.dense", "HF"),
    *_norm(f"{_LAYER}.final_layer_norm", f"{_OURS}.output.LayerNorm"),
)
ADAPTER_NORM = _norm(f"{_LAYER}.adapter_layer_norm", f"{_OURS}.output.adapter_layer_norm")
ADAPTER = (
    *_linear(f"{_LAYER}.adapter_modules.{{language}}.fc1", f"{_OURS}.output.adapter_modules.{{language}}.dense1", "BH"),
    *_linear(f"{_LAYER}.adapter_modules.{{language}}.fc2", f"{_OURS}.output.adapter_modules.{{language}}.dense2", "HB"),
)
LAST_NORM = _norm(f"{_STACK}.layer_norm", "roberta.encoder.LayerNorm")
LM_HEAD = (
    Rule("encoder.lm_head.weight", LM_WEIGHT, "VH"),
    Rule("encoder.lm_head.bias", LM_BIAS, "V"),
    *_linear("encoder.lm_head.dense", "lm_head.dense", "HH"),
    *_norm("encoder.lm_head.layer_norm", "lm_head.layer_norm"),
)
HEAD = (
    *_linear("classification_heads.{head}.dense", "classifier.dense", "HH"),
    *_linear("classification_heads.{head}.out_proj", "classifier.out_proj", "CH"),
)
RULES = (*EMBEDDINGS, *LAYER, *ADAPTER_NORM, *ADAPTER, *LAST_NORM, *LM_HEAD, *HEAD)

# fairseq's names without a counterpart here, and why none is needed.
IGNORED = {
    rf"{re.escape(_STACK)}\.version": "the version of fairseq's layout; written again when converting back",
    rf"{re.escape(_STACK)}\.embed_positions\._float_tensor": "a placeholder without content",
    r"encoder\._ema(\..*)?": "left by another training method, or the sign of a missing language-model head",
    r"encoder\.regression_head\..*": "the head of another training method",
}
VERSION = f"{_STACK}.version"
# Below 2, or without this, fairseq takes the last LayerNorm of a pre-norm encoder away.
VERSION_NOW = 3.0

# If this name exists, fairseq creates a missing language-model head (RobertaModel's
# upgrade_state_dict_named, for data2vec's checkpoints); else a missing one is an error.
NO_LM_HEAD = "encoder._ema"

# Names here without a counterpart in fairseq, and why they are left out.
OURS_ALONE = {
    TYPES: "folded into the positions",
    PREFIX + POSITION_IDS: "computed again",
    LM_BIAS_TOO: f"the same as {LM_BIAS}",
}

# Older spellings, which fairseq itself reads as the newer ones.
_ALIASES = (
    (re.compile(r"^decoder\."), "encoder."),
    (re.compile(r"\.emb_layer_norm\."), ".layernorm_embedding."),
    (re.compile(r"(\.layers\.[0-9]+)\.layer_norms\.0\."), r"\1.self_attn_layer_norm."),
    (re.compile(r"(\.layers\.[0-9]+)\.layer_norms\.1\."), r"\1.final_layer_norm."),
)
_VARIABLES = (
    ("layer", re.compile(r"(?<=\.layers\.)(?:0|[1-9][0-9]{0,5})(?=\.)")),
    ("layer", re.compile(r"(?<=\.layer\.)(?:0|[1-9][0-9]{0,5})(?=\.)")),
    ("language", re.compile(r"(?<=\.adapter_modules\.)[^.]+(?=\.)")),
    ("head", re.compile(r"(?<=^classification_heads\.)[^.]+(?=\.)")),
)
_TO_OURS = {rule.fairseq: rule for rule in RULES}
_TO_FAIRSEQ = {rule.ours: rule for rule in RULES}


@dataclass(frozen=True)
class Parts:
    """A parsed name: its row in the table, and the values of its placeholders."""

    rule: Rule
    values: dict[str, str]


def _take_apart(name: str, rows: dict[str, Rule]) -> Parts | None:
    if "{" in name:  # a placeholder itself
        return None
    values: dict[str, str] = {}
    for variable, pattern in _VARIABLES:
        if found := pattern.search(name):
            values[variable] = found.group()
            name = f"{name[: found.start()]}{{{variable}}}{name[found.end() :]}"
    return Parts(rows[name], values) if name in rows else None


def modern(name: str) -> str:
    """A fairseq name in its newest spelling."""
    for pattern, replacement in _ALIASES:
        name = pattern.sub(replacement, name)
    return name


def fairseq_parts(name: str) -> Parts | None:
    """A fairseq name in its newest spelling, parsed; None if no row matches."""
    return _take_apart(name, _TO_OURS)


def to_fairseq(name: str, head: str = DEFAULT_HEAD) -> str | None:
    """The name in fairseq of a weight here; None if no row matches.

    Args:
        name: name of the weight.
        head: name of the classification head in fairseq.
    """
    parts = _take_apart(name, _TO_FAIRSEQ)
    return parts.rule.fairseq.format(**{"head": head, **parts.values}) if parts else None


def ignored(name: str) -> str | None:
    """Why a fairseq name in its newest spelling needs no counterpart; None if it needs one."""
    return next((reason for pattern, reason in IGNORED.items() if re.fullmatch(pattern, name)), None)


@dataclass(frozen=True)
class Weight:
    """One weight of a model: both names, and its shape."""

    fairseq: str
    ours: str
    shape: tuple[int, ...]


def weights(config: XmodConfig, head: str | None, *, lm_head: bool = True) -> Iterator[Weight]:
    """All weights that a model of this configuration has.

    Args:
        config: sizes, flags and languages.
        head: name of the classification head in fairseq; None for a model without one.
        lm_head: whether there is a language-model head.
    """
    sizes = {
        "V": config.vocab_size,
        "P": config.max_position_embeddings,
        "H": config.hidden_size,
        "F": config.intermediate_size,
        "B": config.bottleneck_size,
        "C": config.num_labels or 0,
    }

    def made(rules: tuple[Rule, ...], **values: object) -> Iterator[Weight]:
        for rule in rules:
            shape = tuple(sizes[letter] for letter in rule.shape)
            yield Weight(rule.fairseq.format(**values), rule.ours.format(**values), shape)

    yield from made(EMBEDDINGS)
    for layer in range(config.num_hidden_layers):
        yield from made(LAYER, layer=layer)
        if config.adapter_layer_norm:
            yield from made(ADAPTER_NORM, layer=layer)
        for language in config.languages:
            yield from made(ADAPTER, layer=layer, language=language)
    if config.pre_norm:
        yield from made(LAST_NORM)
    if lm_head:
        yield from made(LM_HEAD)
    if head is not None:
        yield from made(HEAD, head=head)
