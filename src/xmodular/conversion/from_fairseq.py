"""Convert a fairseq checkpoint to a model folder, without building a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmodular.configuration import XmodConfig
from xmodular.console import console, quiet_transformers
from xmodular.conversion.dictionary import keep_tokenizer, read_tokenizer
from xmodular.conversion.outcome import CLASSIFIER, MASKED_LM, Converted
from xmodular.conversion.pickles import kind_of, shown
from xmodular.conversion.settings import Sizes, model_settings, to_config
from xmodular.conversion.stored import StoredTensor
from xmodular.conversion.streaming import DTYPES, Entry, write_safetensors
from xmodular.conversion.table import NO_LM_HEAD, fairseq_parts, ignored, modern, weights
from xmodular.conversion.unpickle import load
from xmodular.errors import ConfigurationError, DataError, listed
from xmodular.files import folder_beside
from xmodular.options import ConvertOptions
from xmodular.outputs import check_model_folder
from xmodular.weight_names import LM_BIAS, LM_BIAS_TOO, LM_WEIGHT, TYPES, WORDS


def from_fairseq(options: ConvertOptions) -> Converted:
    """Convert from fairseq's format; see `convert`."""
    path = _find(Path(options.source))
    check = partial(check_model_folder, options.output_dir, overwrite=options.overwrite, sources=[path, path.parent])
    check()
    console.print(f"Converting {path} to {options.output_dir}")
    content = load(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        held = ", ".join(map(shown, content)) if isinstance(content, dict) else kind_of(content)
        raise DataError(f"{path} has no table of weights named 'model', which fairseq writes; it holds: {held:.300}.")
    state, left = _mapped(path, content["model"])
    head = _choose_head(path, state, left, options.head)
    told = model_settings(content)
    config, derived = to_config(told, _sizes(path, state), options.preset, head is not None)
    if head is not None:
        config.num_labels = _shape(path, state, f"classification_heads.{head}.out_proj.weight", 2)[0]
        config.fairseq_head = head
    config.architectures = [MASKED_LM if head is None else CLASSIFIER]
    entries = _checked(path, state, config, head, lm_head=head is None or not _without_lm_head(state, left))
    config.tie_word_embeddings = _tied(path, entries, told)
    config.dtype = _widest(entries)
    tokenizer = read_tokenizer(path.parent, config.vocab_size) if options.tokenizer else None
    if tokenizer is None:
        why = "there is no sentencepiece.bpe.model next to the checkpoint" if options.tokenizer else "as requested"
        derived.append(f"no tokenizer: {why}")
    left |= {
        name if isinstance(name, str) else shown(name): "part of the training state"
        for name, part in content.items()
        if name not in ("model", "args", "cfg") and part is not None
    }
    with folder_beside(options.output_dir, check) as folder:
        if tokenizer is not None:
            keep_tokenizer(tokenizer, path.parent, folder, config)
        with quiet_transformers():
            config.save_pretrained(folder)
        write_safetensors(folder / "model.safetensors", _stored(entries, config))
        files = tuple(sorted(each.name for each in folder.iterdir()))
    architecture = config.architectures[0]
    return Converted(options.output_dir, architecture, config, len(entries), left, tuple(derived), files)


def _find(source: Path) -> Path:
    """The checkpoint that `source` is, or that lies in it."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"There is no file or folder {source}.")
    if (source / "model.pt").is_file():
        return source / "model.pt"
    found = sorted(source.glob("*.pt"))
    if not found:
        hint = ": it is a model folder; --to fairseq converts it" if (source / "config.json").is_file() else ""
        raise DataError(f"{source} has no fairseq checkpoint, a file that ends in .pt{hint}.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{source} has no model.pt; choose one of its .pt files: {names}.")
    return found[0]


def _mapped(path: Path, model: Mapping[Any, Any]) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors by fairseq's newest names, and what is ignored; anything unknown is an error."""
    state: dict[str, StoredTensor] = {}
    spelled: dict[str, str] = {}
    left: dict[str, str] = {}
    unknown, wrong = [], []
    for given, value in model.items():
        name = modern(given) if isinstance(given, str) else ""
        if name and (reason := ignored(name)):
            left[given] = reason
        elif not name or fairseq_parts(name) is None:
            unknown.append(f"{given:.200}" if isinstance(given, str) else shown(given))
        elif not isinstance(value, StoredTensor):
            wrong.append(f"{given} is a {kind_of(value)}, not a tensor")
        elif value.dtype not in DTYPES:
            wrong.append(f"{given} holds {value.dtype}, not floating-point numbers")
        elif name in state:
            wrong.append(f"{given} and {spelled[name]} are the same weight")
        else:
            state[name], spelled[name] = value, given
    if unknown or wrong:
        lines = [f"unknown weight {name}" for name in unknown] + wrong
        raise DataError(f"{path} cannot be converted:{listed(lines, most=40)}")
    return state, left


def _choose_head(path: Path, state: dict[str, StoredTensor], left: dict[str, str], asked: str | None) -> str | None:
    """The classification head to convert; the weights of the others leave `state` for `left`."""
    parts = {name: fairseq_parts(name) for name in state if name.startswith("classification_heads.")}
    heads = {name: found.values["head"] for name, found in parts.items() if found is not None}
    there = sorted(set(heads.values()))
    if asked is not None and asked not in there:
        raise ConfigurationError(f"{path} has no classification head {asked!r}; it has: {', '.join(there) or 'none'}.")
    if asked is None and len(there) > 1:
        raise ConfigurationError(
            f"{path} has several classification heads: {', '.join(there)}; choose one with --head."
        )
    chosen = asked or (there[0] if there else None)
    for name, head in heads.items():
        if head != chosen:
            del state[name]
            left[name] = "a head that was not chosen"
    return chosen


def _shape(path: Path, state: Mapping[str, StoredTensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise DataError(f"{path} lacks the weight {name}.")
    if len(state[name].shape) != dimensions or 0 in state[name].shape:
        raise DataError(f"{path}: {name} has shape {state[name].shape}; it must have {dimensions} dimensions, none 0.")
    return state[name].shape


def _sizes(path: Path, state: Mapping[str, StoredTensor]) -> Sizes:
    """What the weights tell about the model."""
    stack = "encoder.sentence_encoder"
    layers: set[int] = set()
    languages: dict[str, None] = {}
    for name in state:
        values = found.values if (found := fairseq_parts(name)) is not None else {}
        if "layer" in values:
            layers.add(int(values["layer"]))
        if "language" in values:
            languages.setdefault(values["language"])
    if not languages:
        raise DataError(f"{path} has no language adapters ({stack}.layers.N.adapter_modules), so it is not X-MOD.")
    first = f"{stack}.layers.0"
    rows, hidden = _shape(path, state, f"{stack}.embed_tokens.weight", 2)
    fields = {
        "vocab_size": rows,
        "hidden_size": hidden,
        "max_position_embeddings": _shape(path, state, f"{stack}.embed_positions.weight", 2)[0],
        "num_hidden_layers": max(layers) + 1,
        "intermediate_size": _shape(path, state, f"{first}.fc1.weight", 2)[0],
        "pre_norm": any(name.startswith(f"{stack}.layer_norm.") for name in state),
        "adapter_layer_norm": any(".adapter_layer_norm." in name for name in state),
    }
    bottleneck = _shape(path, state, f"{first}.adapter_modules.{next(iter(languages))}.fc1.weight", 2)[0]
    return Sizes(fields, tuple(languages), bottleneck)


def _without_lm_head(state: Mapping[str, StoredTensor], left: Mapping[str, str]) -> bool:
    """Whether the file says that it has no language-model head, and has none."""
    marked = any(modern(name) == NO_LM_HEAD for name in left)
    return marked and not any(name.startswith("encoder.lm_head.") for name in state)


def _checked(
    path: Path, state: Mapping[str, StoredTensor], config: XmodConfig, head: str | None, *, lm_head: bool
) -> dict[str, StoredTensor]:
    """The tensors by our names: all that the model needs, and no others."""
    entries: dict[str, StoredTensor] = {}
    wrong = []
    needed = set()
    for weight in weights(config, head, lm_head=lm_head):
        needed.add(weight.fairseq)
        tensor = state.get(weight.fairseq)
        if tensor is None:
            wrong.append(f"{weight.fairseq} is missing")
        elif tensor.shape != weight.shape:
            wrong.append(f"{weight.fairseq} has shape {tensor.shape}, the others require {weight.shape}")
        else:
            entries[weight.ours] = tensor
    wrong += [f"{name} belongs to no part of the model" for name in state if name not in needed]
    if wrong:
        raise DataError(f"{path} cannot be converted:{listed(wrong, most=40)}")
    return entries


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, NaN included."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def _tied(path: Path, entries: Mapping[str, StoredTensor], told: Mapping[str, Any] | None) -> bool:
    """Whether the LM head's weight is the word embeddings; without one, whether the file says so."""
    if LM_WEIGHT not in entries:
        return (told or {}).get("untie_weights_roberta") is not True
    words, projection = entries[WORDS], entries[LM_WEIGHT]
    same = words.same_place(projection) or _same_bytes(words.read(), projection.read())
    if not same and (told or {}).get("untie_weights_roberta") is False:
        raise ConfigurationError(
            f"{path} says untie_weights_roberta=False, but encoder.lm_head.weight differs from embed_tokens.weight."
        )
    return same


def _widest(entries: Mapping[str, StoredTensor]) -> torch.dtype:
    """The dtype that holds all weights exactly."""
    widest = entries[WORDS].dtype
    for tensor in entries.values():
        widest = torch.promote_types(widest, tensor.dtype)
    return widest


def _stored(entries: Mapping[str, StoredTensor], config: XmodConfig) -> list[Entry]:
    """What the model file holds: the names that `save_pretrained` writes."""
    stored = [
        Entry(name, tensor.dtype, tensor.shape, tensor.read)
        for name, tensor in entries.items()
        if name != LM_WEIGHT or not config.tie_word_embeddings
    ]
    if LM_BIAS in entries and not config.tie_word_embeddings:
        bias = entries[LM_BIAS]
        stored.append(Entry(LM_BIAS_TOO, bias.dtype, bias.shape, bias.read))
    dtype, types = entries[WORDS].dtype, (1, config.hidden_size)
    return [*stored, Entry(TYPES, dtype, types, lambda: torch.zeros(types, dtype=dtype))]
