"""Convert a model folder to a fairseq checkpoint."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmodular.configuration import XmodConfig, read_config
from xmodular.console import console, progress
from xmodular.conversion.dictionary import write_dictionary
from xmodular.conversion.outcome import CLASSIFIER, MASKED_LM, Converted
from xmodular.conversion.settings import problems, to_settings
from xmodular.conversion.streaming import DTYPES
from xmodular.conversion.table import DEFAULT_HEAD, NO_LM_HEAD, OURS_ALONE, VERSION, VERSION_NOW, to_fairseq, weights
from xmodular.errors import ConfigurationError, DataError, listed
from xmodular.files import folder_beside
from xmodular.options import ConvertOptions
from xmodular.outputs import check_model_folder
from xmodular.weight_names import LM_BIAS, LM_BIAS_TOO, LM_HEAD, LM_WEIGHT, POSITIONS, TYPES, WORDS
from xmodular.weights import Weights, open_weights


def write_fairseq(options: ConvertOptions) -> Converted:
    """Convert to fairseq's format; see `convert`."""
    source = Path(options.source)
    check = partial(check_model_folder, options.output_dir, overwrite=options.overwrite, sources=[source])
    check()
    config = read_config(options.source)
    architecture = _architecture(config, options.source)
    unheld = problems(config)
    if architecture not in (MASKED_LM, CLASSIFIER):
        unheld.append(f"the model is an {architecture}; fairseq has {MASKED_LM} and {CLASSIFIER} only.")
    head = None
    if architecture == CLASSIFIER:
        head = options.head or config.fairseq_head or DEFAULT_HEAD
        if not isinstance(head, str) or not head or "." in head:
            unheld.append(f"the head's name is {head!r}, which must be a name without dots.")
    elif options.head is not None:
        unheld.append(f"--head is {options.head!r}, but the model has no classification head.")
    console.print(f"Converting {source} to {options.output_dir}")
    with open_weights(options.source) as stored:
        unheld += _unheld(stored)
        if unheld:
            raise ConfigurationError(f"{source} cannot be converted to fairseq's format:{listed(unheld, most=40)}")
        state, derived, left = _foreign(stored, config, head)
        with folder_beside(options.output_dir, check) as folder:
            files: list[str] = []
            if options.tokenizer and source.is_dir():
                files = write_dictionary(source, folder, config.vocab_size)
            if not files:
                derived.append("no dict.txt: the source has no tokenizer files, or they were not requested")
            if source.is_dir() and (source / "tokenizer.json").is_file() and "sentencepiece.bpe.model" not in files:
                left["tokenizer.json"] = "fairseq reads sentencepiece.bpe.model, which does not exist"
            content = {
                "args": None,
                "cfg": _sections(config, head),
                "model": state,
                # Required by fairseq's loader in addition to the model.
                "optimizer_history": [
                    {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
                ],
                "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "val_loss": None},
            }
            with progress("Writing model.pt", None):
                torch.save(content, folder / "model.pt")
    files = [*files, "model.pt"]
    count = sum(name not in (VERSION, NO_LM_HEAD) for name in state)
    return Converted(options.output_dir, architecture, config, count, left, tuple(derived), tuple(files))


def _architecture(config: XmodConfig, source: str) -> str:
    """The model's class, as its configuration names it."""
    names = config.architectures
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise ConfigurationError(f"{source} must name one class in 'architectures' of config.json; it has {names!r}.")
    return names[0]


def _unheld(stored: Weights) -> list[str]:
    """Weights that fairseq has no name for."""
    return [
        f"fairseq has no counterpart for the weight {name}."
        for name in stored.names
        if name not in OURS_ALONE and to_fairseq(name) is None
    ]


def _foreign(
    stored: Weights, config: XmodConfig, head: str | None
) -> tuple[OrderedDict[str, Tensor], list[str], dict[str, str]]:
    """The state dict by fairseq's names, in its order; messages about it; names that were left out."""
    state: OrderedDict[str, Tensor] = OrderedDict()
    derived, wrong = [], []
    used = set(OURS_ALONE)
    words, positions = str(to_fairseq(WORDS)), str(to_fairseq(POSITIONS))
    lm_head = head is None or any(name.startswith(LM_HEAD) for name in stored.names)
    for weight in weights(config, head, lm_head=lm_head):
        name = weight.ours
        if name == LM_WEIGHT and config.tie_word_embeddings and words in state:
            state[weight.fairseq] = state[words]  # the same storage, so it is written once
            used.add(name)
            continue
        if name == LM_BIAS and LM_BIAS_TOO in stored and not (config.tie_word_embeddings and name in stored):
            name = LM_BIAS_TOO  # the one that is added if they are not tied
        used |= {name, weight.ours}
        if name not in stored:
            wrong.append(f"{name} is missing")
        elif stored.shape(name) != weight.shape:
            wrong.append(f"{name} has shape {stored.shape(name)}, its config.json requires {weight.shape}")
        else:
            state[weight.fairseq] = stored[name]
            if state[weight.fairseq].dtype not in DTYPES:
                wrong.append(f"{name} holds {state[weight.fairseq].dtype}, not floating-point numbers")
    wrong += [f"{name} is not in its config.json" for name in stored.names if name not in used]
    if wrong:
        raise DataError(f"{stored.source} cannot be converted:{listed(wrong, most=40)}")
    left = {name: reason for name, reason in OURS_ALONE.items() if name in stored}
    if TYPES in stored and not bool(stored[TYPES].any()):
        left[TYPES] = "zeros"
    elif TYPES in stored:
        state[positions] = state[positions] + stored[TYPES].to(state[positions].dtype)
        derived.append("the embedding of token type 0 is added to the position embeddings")
    if not lm_head:
        state[NO_LM_HEAD] = torch.zeros(0)
        derived.append("the model has no language-model head; fairseq creates a new one")
    state[VERSION] = torch.tensor([VERSION_NOW], dtype=state[words].dtype)
    state.move_to_end(VERSION, last=False)
    return state, derived, left


def _sections(config: XmodConfig, head: str | None) -> dict[str, Any]:
    """fairseq's settings, as plain values."""
    task = "multilingual_masked_lm" if head is None else "sentence_prediction_adapters"
    model = to_settings(config, head)
    return {
        "_name": None,
        "model": model,
        "task": {"_name": task, "data": ".", "tokens_per_sample": model["max_positions"]},
    }
