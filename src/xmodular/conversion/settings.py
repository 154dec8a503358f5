"""The configuration: read from fairseq's checkpoints, and written for its loader.

Sources for the fields: fairseq's `models/xmod/model.py` and the architectures of `models/roberta/model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmodular.catalogue import RELEASES
from xmodular.configuration import XmodConfig
from xmodular.conversion.pickles import StandIn, shown
from xmodular.errors import ConfigurationError, listed

# fairseq's dictionary: <s> 0, <pad> 1, </s> 2, <unk> 3. Positions count from the id of <pad> plus one.
PAD = 1
# Romanised and Zawgyi text has language names of its own, which share the modules of the name without the suffix.
SHARED_SUFFIXES = ("_rom", "_zaw")

# fairseq's field: ours, and its type.
_FIELDS: dict[str, tuple[str, type]] = {
    "encoder_layers": ("num_hidden_layers", int),
    "encoder_embed_dim": ("hidden_size", int),
    "encoder_ffn_embed_dim": ("intermediate_size", int),
    "encoder_attention_heads": ("num_attention_heads", int),
    "max_positions": ("max_position_embeddings", int),
    "encoder_normalize_before": ("pre_norm", bool),
    "bottleneck": ("adapter_reduction_factor", int),
    "adapter_layer_norm": ("adapter_layer_norm", bool),
    "adapter_reuse_layer_norm": ("adapter_reuse_layer_norm", bool),
    "ln_before_adapter": ("ln_before_adapter", bool),
    "dropout": ("hidden_dropout_prob", float),
    "attention_dropout": ("attention_probs_dropout_prob", float),
    "pooler_dropout": ("classifier_dropout", float),
}
# What this library computes in one way only.
_FIXED: dict[str, Any] = {
    "activation_fn": "gelu",
    "pooler_activation_fn": "tanh",
    "adapter_modules": True,
    "ffn_modules": False,
    "layernorm_embedding": True,
    "encoder_learned_pos": True,
    "no_scale_embedding": True,
    "no_token_positional_embeddings": False,
    "adaptive_input": False,
    "spectral_norm_classification_head": False,
}
# Also read by fairseq's loader; without effect on the model's outputs.
_REST: dict[str, Any] = {
    "activation_dropout": 0.0,
    "relu_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "encoder_layers_to_keep": None,
    "quant_noise_pq": 0,
    "quant_noise_pq_block_size": 8,
    "quant_noise_scalar": 0,
    "checkpoint_activations": False,
    "offload_activations": False,
    "min_params_to_wrap": 100_000_000,
    "load_checkpoint_heads": True,
}


@dataclass(frozen=True)
class Sizes:
    """The settings that follow from the weights themselves.

    Attributes:
        fields: fields of the configuration that are certain.
        languages: those with adapters, in the order of the file.
        bottleneck: width of the adapters.
    """

    fields: Mapping[str, Any]
    languages: Sequence[str]
    bottleneck: int


def model_settings(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section of a checkpoint that describes the model; None if it has none.

    Older files have one namespace ``args``, newer ones a ``cfg`` with a section ``model``.
    """
    if (args := content.get("args")) is not None:
        return _fields(args)
    whole = _fields(content.get("cfg"))
    return _fields(whole.get("model")) if whole else None


def _fields(value: Any) -> dict[str, Any] | None:
    """Names and values of a dictionary, of a namespace, or of OmegaConf's containers."""
    if isinstance(value, StandIn):
        value = value.state
        if isinstance(value, dict) and "_content" in value:
            value = value["_content"]
    if not isinstance(value, dict):
        return None
    return {name: _plain(field) for name, field in value.items() if isinstance(name, str)}


def _plain(value: Any) -> Any:
    """The value in an OmegaConf node, the values in its list, or an enumeration's member; others as they are."""
    if isinstance(value, StandIn) and isinstance(value.state, dict) and isinstance(value.state.get("_content"), list):
        return [_scalar(each) for each in value.state["_content"]]  # lists of lists mean nothing here
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, StandIn):
        if isinstance(value.state, dict) and "_val" in value.state:
            return value.state["_val"]
        if len(value.args) == 1 and isinstance(value.args[0], str):
            return value.args[0]
    return value


def to_config(
    settings: Mapping[str, Any] | None, sizes: Sizes, preset: str | None, head: bool
) -> tuple[XmodConfig, list[str]]:
    """The configuration of a fairseq checkpoint.

    The file takes precedence, then the preset, then the usual values; the sizes of the weights are certain, and
    contradictions are errors.

    Args:
        settings: the file's settings, from `model_settings`.
        sizes: the sizes of its weights.
        preset: name of a shape or a released checkpoint; None for none.
        head: whether a classification head is converted.

    Returns:
        The configuration, and lines that name the fields missing from the file and where their values come from.

    Raises:
        ConfigurationError: two of the sources contradict each other, or the model computes something ours cannot.
    """
    told = dict(settings or {})
    problems: list[str] = []
    fields: dict[str, Any] = dict(sizes.fields)
    derived: list[str] = []
    if settings is None:
        derived.append("the file has no settings of its own")
    for name, (ours, kind) in _FIELDS.items():
        if (value := told.get(name)) is None:
            continue
        if not (type(value) is kind or (kind is float and type(value) is int)):
            problems.append(f"the file says {name}={shown(value)}, which must be of type {kind.__name__}.")
            continue
        if isinstance(value, int) and name == "max_positions":
            value += PAD + 1
        if ours in sizes.fields and sizes.fields[ours] != value:
            problems.append(f"the file says {name}={told[name]}, its weights say {ours}={sizes.fields[ours]}.")
        fields[ours] = value
    for name, value in _FIXED.items():
        if name in told and told[name] is not None and told[name] != value and (head or "pooler" not in name):
            problems.append(f"the file says {name}={shown(told[name])}; only {value!r} can be converted.")
    problems += _fill(fields, preset, sizes, derived)
    fields["languages"] = _languages(told.get("languages"), preset, sizes, derived, problems)
    factor = fields.get("adapter_reduction_factor")
    if isinstance(factor, int) and (factor < 1 or fields["hidden_size"] // factor != sizes.bottleneck):
        problems.append(
            f"the bottleneck factor is {factor}, but the adapters are {sizes.bottleneck} wide "
            f"at hidden size {fields['hidden_size']}."
        )
    if not head:
        fields.pop("classifier_dropout", None)
    elif "classifier_dropout" not in fields:
        fields["classifier_dropout"] = 0.0  # fairseq's default
    if problems:
        raise ConfigurationError(f"This checkpoint cannot be converted:{listed(problems)}")
    config = XmodConfig(**fields, type_vocab_size=1, layer_norm_eps=1e-5)
    return config, derived


def _fill(fields: dict[str, Any], preset: str | None, sizes: Sizes, derived: list[str]) -> list[str]:
    """Complete `fields` from the preset, then from the sizes; returns contradictions."""
    problems = []
    if preset is not None:
        shape = XmodConfig.preset(preset)
        names = {ours for ours, _ in _FIELDS.values()} - {"classifier_dropout"}
        names -= set() if preset in RELEASES else {"max_position_embeddings"}
        for name in sorted(names):
            value = getattr(shape, name)
            if name in fields and fields[name] != value and not name.endswith("dropout_prob"):
                problems.append(f"the preset {preset} says {name}={value}, the file or its weights {fields[name]}.")
            if name not in fields:
                fields[name] = value
                derived.append(f"{name}={value} (from the preset)")
    hidden, family = fields["hidden_size"], bool(fields["adapter_layer_norm"])
    guesses: dict[str, Any] = {
        "adapter_reuse_layer_norm": not family,
        "ln_before_adapter": not family,
        "adapter_reduction_factor": next((f for f in range(1, hidden + 1) if hidden // f == sizes.bottleneck), None),
        "num_attention_heads": hidden // 64 if hidden % 64 == 0 else None,
    }
    for name, guess in guesses.items():
        if name in fields:
            continue
        if guess is None:
            problems.append(f"{name} is unknown at hidden size {hidden}: the file does not say; give a --preset.")
        else:
            fields[name] = guess
            derived.append(f"{name}={guess} (from the weights)")
    return problems


def _languages(told: Any, preset: str | None, sizes: Sizes, derived: list[str], problems: list[str]) -> list[str]:
    """The languages in the order of their ids."""
    there = list(sizes.languages)
    if isinstance(told, str):
        told = told.split(",")
    if told is not None:
        source = "the file"
        if not isinstance(told, (list, tuple)) or not all(isinstance(code, str) for code in told):
            problems.append(f"the file says languages={shown(told)}, which must be a list of codes.")
            return there
        known = set(there)
        codes = [code for code in told if code in known or not code.endswith(SHARED_SUFFIXES)]
    elif preset in RELEASES:
        source, codes = f"the preset {preset}", list(RELEASES[preset].languages)
        derived.append("the languages' order (from the preset)")
    else:
        derived.append("the languages' order (from the weights)")
        return there
    if len(set(codes)) != len(codes) or set(codes) != set(there):
        differ = ", ".join(sorted(set(codes) ^ set(there))) or "one of them twice"
        counts = f"{len(codes)} languages, {len(there)} have adapters"
        problems.append(f"{source} lists {counts}; they differ in {differ:.400}.")
    return codes


def to_settings(config: XmodConfig, head: str | None) -> dict[str, Any]:
    """The section ``cfg.model`` of a fairseq checkpoint, every field that its loader reads.

    Args:
        config: of a model that fairseq can hold (`problems` is empty).
        head: name of the classification head, or None.
    """
    values: dict[str, Any] = {name: getattr(config, ours) for name, (ours, _) in _FIELDS.items()}
    arch = "xmod_large_prenorm" if config.pre_norm else "xmod_base"
    positions = config.max_position_embeddings - PAD - 1
    dropout = config.classifier_dropout if head is not None else 0.0
    values |= {
        "_name": arch,
        "arch": arch,
        "max_positions": positions,
        "max_source_positions": positions,
        "tokens_per_sample": positions,
        "bottleneck": _integer_factor(config),
        "pooler_dropout": config.hidden_dropout_prob if dropout is None else dropout,
        "untie_weights_roberta": not config.tie_word_embeddings,
        "languages": list(config.languages),
    }
    return {**_REST, **_FIXED, **values}


def _integer_factor(config: XmodConfig) -> int | None:
    """The whole number that gives the adapters' width, as fairseq divides."""
    factors = range(1, config.hidden_size + 1)
    exact = config.adapter_reduction_factor
    if exact in factors:
        return int(exact)
    return next((factor for factor in factors if config.hidden_size // factor == config.bottleneck_size), None)


def problems(config: XmodConfig) -> list[str]:
    """The parts of a configuration that fairseq's format cannot represent, one line each."""
    found = []
    for name, value in {
        "is_decoder": False,
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
        "hidden_act": "gelu",
        "classifier_pooling": "first",
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": PAD,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }.items():
        if getattr(config, name) != value:
            found.append(f"{name} is {getattr(config, name)!r}; fairseq has only {value!r}.")
    if config.pruned_heads:
        found.append(f"attention heads are pruned in the layers {sorted(config.pruned_heads)}.")
    if own := config.vocabularies:
        found.append(f"there are vocabularies of single languages: {', '.join(own)}.")
    if _integer_factor(config) is None:
        found.append(
            f"the adapters are {config.bottleneck_size} wide; fairseq divides {config.hidden_size} by whole numbers."
        )
    if bad := [code for code in config.languages if any(suffix in code for suffix in SHARED_SUFFIXES)]:
        found.append(f"fairseq drops {' and '.join(SHARED_SUFFIXES)} from language names, which {', '.join(bad)} has.")
    return found
