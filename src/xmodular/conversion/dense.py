"""Convert a dense encoder to a modular one that computes the same (sparse upcycling, Komatsuzaki et al. 2023).

An X-MOD layer is x + f(x), then a LayerNorm, as in BERT, with the language's adapter between the two. If the
adapter's up-projection is zero, it adds nothing, provided that its residual is the state before any LayerNorm of the
adapter: with `ln_before_adapter=True` the state would be normalised twice, which is not the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from xmodular.configuration import MOST_LABELS, XmodConfig
from xmodular.conversion.families import FAMILIES, SUPPORTED, UNFIT, Family, our_name, why_left
from xmodular.errors import ConfigurationError, DataError, listed
from xmodular.modeling import XmodPreTrainedModel
from xmodular.weight_names import ADAPTER, ADAPTER_NORM, LM_BIAS, LM_BIAS_TOO, LM_WEIGHT, POSITIONS, PREFIX, bare
from xmodular.weights import Weights

# The adapters' own LayerNorm, and a residual that starts before it: the flags of xmod-large-prenorm.
EXACT = {"adapter_layer_norm": True, "adapter_reuse_layer_norm": False, "ln_before_adapter": False}

# What the configurations have in common, by the same name and meaning.
_KEPT = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "position_embedding_type",
    "is_decoder",
    "add_cross_attention",
    "tie_word_embeddings",
    "classifier_dropout",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
)
_WITHOUT_HEAD = "--no-head (head=False) converts the encoder alone"


@dataclass(frozen=True)
class Dense:
    """A dense encoder as its config.json describes it.

    Attributes:
        source: its folder or name.
        family: its architecture.
        config: its configuration.
        architecture: the class here that holds the same.
    """

    source: str
    family: Family
    config: PretrainedConfig
    architecture: str


def recognise(source: str, content: Mapping[str, Any], *, head: bool) -> Dense:
    """The dense encoder of a config.json, if X-MOD can represent it exactly.

    Args:
        source: where it lies.
        content: of the file.
        head: whether to convert the head.

    Raises:
        ConfigurationError: another architecture, or a part that X-MOD does not have.
    """
    kind = str(content.get("model_type"))
    if kind not in FAMILIES:
        why = f": {UNFIT[kind]}" if kind in UNFIT else ""
        raise ConfigurationError(
            f"{source} is a {kind} model, which X-MOD cannot represent exactly{why}. Supported: {SUPPORTED}."
        )
    family = FAMILIES[kind]
    names = content.get("architectures") or list(family.classes)[:1]
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    if head and name not in family.classes:
        raise ConfigurationError(
            f"{source} names the class {names!r} in config.json, for which X-MOD has no head. It has the heads of "
            f"{', '.join(family.classes)}; {_WITHOUT_HEAD}."
        )
    architecture = family.classes[str(name)] if head else "XmodModel"
    labels = content.get("num_labels")
    if isinstance(labels, int) and labels > MOST_LABELS:  # each gets a name
        raise ConfigurationError(f"{source} has num_labels {labels!r:.40}; at most {MOST_LABELS:,} labels are allowed.")
    config = AutoConfig.for_model(**content)
    if content.get("pruned_heads"):
        raise ConfigurationError(f"{source} has pruned attention heads, which cannot be converted.")
    if architecture in ("XmodForMaskedLM", "XmodForCausalLM") and not _is_gelu(config):
        raise ConfigurationError(
            f"{source} has the activation {config.hidden_act!r} in its language-model head, where X-MOD has gelu; "
            f"{_WITHOUT_HEAD}."
        )
    return Dense(source, family, config, architecture)


def _is_gelu(config: PretrainedConfig) -> bool:
    return bool(config.hidden_act == "gelu") or config.model_type != "bert"


def to_config(
    dense: Dense, languages: Sequence[str], tokenizer: PreTrainedTokenizerFast | None, reduction: float
) -> XmodConfig:
    """The configuration here.

    Raises:
        ConfigurationError: the tokenizer's padding id is not the one from which the encoder counts its positions.
    """
    theirs = dense.config
    fields = {name: getattr(theirs, name) for name in _KEPT if getattr(theirs, name, None) is not None}
    special = {name: getattr(theirs, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    if tokenizer is not None:
        special = {
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id,
        }
    pad, positions = special["pad_token_id"] or 0, theirs.max_position_embeddings
    if dense.family.counts_padding:
        positions += pad + 1  # rows before the table, since positions here count from there
    elif pad != theirs.pad_token_id:
        raise ConfigurationError(
            f"{dense.source} counts positions from pad_token_id {theirs.pad_token_id}, but its tokenizer's padding is "
            f"{pad}: they do not match."
        )
    config = XmodConfig(
        **{
            **fields,
            **special,
            **EXACT,
            "pad_token_id": pad,
            "max_position_embeddings": positions,
            "pre_norm": dense.family.pre_norm,
            # transformers' own X-MOD reads whole numbers only.
            "adapter_reduction_factor": int(reduction) if reduction.is_integer() else reduction,
            "languages": list(languages),
            "default_language": languages[0] if len(languages) == 1 else None,
        }
    )
    config.architectures = [dense.architecture]
    return config


def fill(model: XmodPreTrainedModel, dense: Dense, stored: Weights) -> dict[str, str]:
    """Load the source's weights into a new model; its adapters do not change.

    Args:
        model: the new model, with the class and configuration for the source.
        dense: the source.
        stored: its weights.

    Returns:
        The weights of the source that were left out, with the reason.

    Raises:
        DataError: a weight is missing, unknown or of the wrong shape.
    """
    places, architecture = model.state_dict(), type(model).__name__
    left: dict[str, str] = {}
    wrong: list[str] = []
    taken: dict[str, str] = {}
    for name in stored.names:
        ours = our_name(name, dense.family, architecture)
        place = places.get(ours if architecture != "XmodModel" else bare(ours))
        if place is None:
            reason = why_left(name, ours, architecture)
            wrong += [f"{name} is unknown"] if reason is None else []
            left |= {} if reason is None else {name: reason}
        elif ours in taken:
            wrong.append(f"{taken[ours]} and {name} are the same weight")
        else:
            taken[ours] = name
            tensor = _shifted(stored[name], ours, place, model.config, dense.family)
            if tensor.shape != place.shape or not tensor.is_floating_point():
                shape = f"{tuple(tensor.shape)} of {tensor.dtype}"
                wrong.append(f"{name} has shape {shape}; its config.json requires {tuple(place.shape)}, floats")
            else:
                place.copy_(tensor)
    needed = (PREFIX + name if architecture == "XmodModel" else name for name in places)
    wrong += [f"{name} is missing" for name in needed if name not in taken and not _derived(name, taken, model.config)]
    if wrong:
        raise DataError(f"{dense.source} cannot become modular:{listed(wrong, most=40)}")
    model.tie_weights()
    return left


def _derived(name: str, taken: Mapping[str, str], config: XmodConfig) -> bool:
    """Whether a weight here has no counterpart in a dense source, or is the same as another."""
    if ADAPTER in name or ADAPTER_NORM in name:
        return True
    if name == LM_WEIGHT:
        return config.tie_word_embeddings
    return name in (LM_BIAS, LM_BIAS_TOO) and bool({LM_BIAS, LM_BIAS_TOO} & taken.keys())


def _shifted(tensor: Tensor, ours: str, place: Tensor, config: XmodConfig, family: Family) -> Tensor:
    """A position table with the rows of zeros before it that no real token reads; other weights as they are.

    Tables of relative positions grow at both ends, as their middle is distance 0.
    """
    extra = config.pad_token_id + 1
    if not family.counts_padding or tensor.dim() != 2:
        return tensor
    if ours == POSITIONS:
        return F.pad(tensor, (0, 0, extra, 0))
    if ours.endswith(".distance_embedding.weight"):
        return F.pad(tensor, (0, 0, extra, extra))
    return tensor
