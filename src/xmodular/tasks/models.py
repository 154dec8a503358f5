"""Find the model that a verb is asked for, and its tokenizer."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import xmodular.modeling
from xmodular.configuration import read_config
from xmodular.console import quiet_transformers
from xmodular.errors import ConfigurationError, DataError, InputError, XmodularError, in_one_line
from xmodular.hub import hub_source
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.loaded import check_loaded
from xmodular.options import PRECISIONS, WeightPrecision
from xmodular.tasks.heads import fit_head, names_in, new_last_layer, set_names
from xmodular.tasks.registry import task_of
from xmodular.tasks.task import Room, Task
from xmodular.vocabulary import from_json, is_with_tokenizer, load_tokenizer, suited
from xmodular.weights import open_weights

_LENGTH = 512  # tokens, where nothing says how a model was fine-tuned


def given_model(model: XmodPreTrainedModel | str | Path) -> tuple[XmodPreTrainedModel | None, str]:
    """The model, if it is an object, and what to call it.

    Raises:
        InputError: it is neither that nor the name of one.
    """
    if isinstance(model, XmodPreTrainedModel):
        return model, str(model.config._name_or_path or "model object")
    if isinstance(model, (str, Path)):
        return None, str(model)
    kind = type(model).__name__
    if hasattr(model, "merge_and_unload"):  # of PEFT
        raise InputError(f"The model is a {kind} of PEFT: give model.merge_and_unload(), its adapters in the weights.")
    if isinstance(inside := getattr(model, "_orig_mod", getattr(model, "module", None)), XmodPreTrainedModel):
        raise InputError(f"The model is a {kind} around a {type(inside).__name__}: give that model itself.")
    if isinstance(model, PreTrainedModel):
        raise InputError(f"The model is a {kind}, which has no adapters: xmodular.upcycle makes it modular.")
    raise InputError(f"A model is an X-MOD model, a folder or a name on the Hub; this is a {kind}.")


def hash_of(model: XmodPreTrainedModel) -> str:
    """The SHA-256 of a model object's weights: a run goes on only with those that it began with."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_model(source: str | Path, task: Task, labels: Sequence[str]) -> XmodPreTrainedModel:
    """A model with a head for the task: new where the source has none for it, else fitted to the labels.

    Args:
        source: model folder or Hub repository.
        task: decides the head.
        labels: names of the labels, in the order of a new head; none for a task without. See `fit_head`.
    """
    config = read_config(source)
    goes_on = bool(labels) and (config.architectures or [task.architecture]) == [task.architecture]
    if not goes_on:
        # Without labels, what an earlier task left goes too: two is the number that a head has by default.
        set_names(config, labels or ["LABEL_0", "LABEL_1"])
        config.problem_type = task.problem_type
    model, new = _load(task.architecture, source, new_head=True, config=config, ignore_mismatched_sizes=True)
    if goes_on and new:  # the file has no head after all
        new_last_layer(model, labels)
        set_names(model.config, labels)
        model.config.problem_type = task.problem_type
    elif goes_on:
        fit_head(model, task, labels)
    return model


def read_labels(model: XmodPreTrainedModel) -> list[str]:
    """The names of a model's labels, in the order of their ids; none for answers in texts and for choices."""
    task = task_of(model)
    return [] if task is not None and not task.has_labels else names_in(model.config)


def load_saved(source: str | Path, precision: WeightPrecision = "keep", **fields: Any) -> XmodPreTrainedModel:
    """A model as it was saved: its class is the one that its configuration names.

    Args:
        source: model folder or Hub repository.
        precision: of the weights; "keep" takes that of the files.
        fields: of the configuration, in place of those that were saved, where no weight depends on them.

    Raises:
        ConfigurationError: there is no X-MOD model, it names no class with a head, or weights are missing from its
            file, those of the head included.
    """
    names = read_config(source).architectures or []
    if not isinstance(names, list) or len(names) != 1 or names[0] not in xmodular.modeling.__all__:
        raise ConfigurationError(f"{source} names no X-MOD model class in its config.json; it has {names}.")
    if precision != "keep":
        fields["dtype"] = PRECISIONS[precision]
    return _load(names[0], source, **fields)[0]


def to_run(model: XmodPreTrainedModel | str | Path, precision: WeightPrecision = "keep") -> XmodPreTrainedModel:
    """A model to run and not to train.

    Args:
        model: a folder or a name on the Hub, which goes to the GPU where there is one; or an object, which stays on its
            device, and as it is: for another precision it is copied.
        precision: of the weights, and so of the computation; "keep" takes that which they have.

    Raises:
        ConfigurationError: there is no such precision; or as `load_saved`.
    """
    if precision not in ("keep", *PRECISIONS):
        raise ConfigurationError(f"precision is {precision!r}: it must be one of keep, {', '.join(PRECISIONS)}.")
    given, source = given_model(model)
    if given is None:
        loaded = load_saved(source, precision)
        return torch.nn.Module.to(loaded, "cuda") if torch.cuda.is_available() else loaded
    if precision == "keep" or given.dtype == (dtype := getattr(torch, PRECISIONS[precision])):
        return given
    return copy.deepcopy(given).to(dtype)


def tokenizer_of(
    model: XmodPreTrainedModel, source: str | Path | None, language: str | None = None
) -> PreTrainedTokenizerFast:
    """The tokenizer at `source`, or the one saved with the model.

    Args:
        language: a code of the model; one with a vocabulary of its own has its own tokenizer, whatever `source` says.

    Raises:
        DataError: there is none, or it has more pieces than the model has embeddings.
    """
    if language is not None and language in model.config.vocabularies:
        own = model.tokenizers.get(language)
        if own is None:
            raise DataError(f"{language} has a vocabulary of its own, but tokenizer.{language}.json is not there.")
        return suited(from_json(own, model.config.vocabularies[language]), model.config)
    where = source or model.config._name_or_path
    if not where:
        raise DataError("This model comes from no folder, so its tokenizer is unknown: say where with `tokenizer`.")
    if source is None and not is_with_tokenizer(where):
        raise DataError(
            f"There is no tokenizer with the model in {where}: --tokenizer names one, such as the folder or the name "
            "on the Hub of the model that this one was made from."
        )
    tokenizer = load_tokenizer(where)
    if len(tokenizer) > model.config.vocab_size:
        raise DataError(
            f"The tokenizer at {where} has {len(tokenizer)} pieces, the model {model.config.vocab_size}: "
            "they do not belong together."
        )
    return suited(tokenizer, model.config)


def longest(model: XmodPreTrainedModel, asked: int) -> int:
    """The most tokens a row may have: what is asked for, or what the model has positions for."""
    return min(asked, model.config.max_position_embeddings - model.config.pad_token_id - 1)


def room_of(model: XmodPreTrainedModel, max_length: int | None = None, stride: int | None = None) -> Room:
    """How much a model reads at once: as asked, else as it was fine-tuned, so that what is served is what was scored.

    Args:
        model: its configuration says how it was fine-tuned.
        max_length: tokens a sequence, 512 where nothing is known; no model reads more than it has positions for.
        stride: tokens that neighbouring windows share, a quarter of the length where nothing is known.
    """
    if stride is None:
        stride = _trained(model, "task_stride", 0)
    length = longest(model, max_length or _trained(model, "task_max_length", 1) or _LENGTH)
    return Room(length, length // 4 if stride is None else stride)


def _trained(model: XmodPreTrainedModel, name: str, least: int) -> int | None:
    """A number that fine-tuning left in the configuration; None if there is none."""
    value = getattr(model.config, name, None)
    return value if isinstance(value, int) and value >= least else None


def _load(
    architecture: str, source: str | Path, *, new_head: bool = False, **more: Any
) -> tuple[XmodPreTrainedModel, bool]:
    """The model, and whether weights of its head are new, which they may be; all others must be in the files."""
    if Path(source).is_dir():
        with open_weights(source) as weights:
            wrong = [name for name in weights.names if not weights.dtype(name).is_floating_point]
        if wrong := [name for name in wrong if not name.endswith("position_ids")]:
            raise DataError(f"The model at {source} has weights that are no floats, among them {wrong[0]}.")
    name, where = hub_source(source)
    try:
        with quiet_transformers():
            model, report = getattr(xmodular.modeling, architecture).from_pretrained(
                name, output_loading_info=True, **where, **more
            )
        model.config._name_or_path = str(source)  # where its tokenizer is found
    except XmodularError:
        raise
    except (
        SafetensorError,
        UnpicklingError,
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise DataError(f"The model at {source} cannot be loaded: {in_one_line(error)}") from error
    return model, check_loaded(source, model, report, new_head=new_head)
