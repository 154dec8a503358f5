"""The head of a task: new, or adapted to other labels, where common labels keep their rows of the last layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xmodular.configuration import XmodConfig, read_config
from xmodular.console import console
from xmodular.errors import ConfigurationError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.peft_layers import replace_trained_module, trained_module
from xmodular.saved_models import load_architecture
from xmodular.tasks.label_counts import some
from xmodular.tasks.task import Task

_UNNAMED = re.compile("LABEL_[0-9]+")  # transformers' names for unnamed labels
_REGRESSION = "regression"


def names_in(config: XmodConfig) -> list[str]:
    """The names of a configuration's labels, in the order of their ids."""
    named = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return [named[index] for index in sorted(named)]


def set_names(config: XmodConfig, labels: Sequence[str]) -> None:
    """Name the labels of a configuration, in the order of their ids."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: index for index, name in enumerate(labels)}


def is_regression(config: XmodConfig) -> bool:
    """Whether a model of this configuration predicts a number."""
    problem = config.problem_type
    return problem == _REGRESSION or (problem is None and config.num_labels == 1)


def load_model(source: str | Path, task: Task, labels: Sequence[str]) -> XmodPreTrainedModel:
    """A model with a head for the task: a new one if the source has none for it, else adapted to the labels.

    Args:
        source: model folder or Hub repository.
        task: the task, which determines the head.
        labels: label names, in the order of a new head; empty for a task without labels. See `fit_head`.
    """
    config = read_config(source)
    goes_on = bool(labels) and (config.architectures or [task.architecture]) == [task.architecture]
    if not goes_on:
        # Without labels, those of an earlier task are removed too: a head has two by default.
        set_names(config, labels or ["LABEL_0", "LABEL_1"])
        config.problem_type = task.problem_type
    model, new = load_architecture(
        task.architecture, source, new_head=True, config=config, ignore_mismatched_sizes=True
    )
    if goes_on and new:  # the file has no head after all
        new_last_layer(model, labels)
        set_names(model.config, labels)
        model.config.problem_type = task.problem_type
    elif goes_on:
        fit_head(model, task, labels)
    return model


def fit_head(model: XmodPreTrainedModel, task: Task, labels: Sequence[str], *, as_many: bool = False) -> None:
    """Adapt a model's trained head to new labels, and report what happens to its old labels.

    If the labels are the same, the model's order stays. Otherwise, common labels keep their rows of the last layer, new
    ones start untrained, and the model's others are dropped. Unnamed labels (``LABEL_0``) are the numbers from 0 if
    the new labels are these numbers; otherwise their meaning is unknown, and all start untrained.

    Args:
        model: a model with the task's head, which is changed in place.
        task: the task to train.
        labels: label names in the order of a new head; empty for a task without labels.
        as_many: whether the number of unnamed labels must match.

    Raises:
        ConfigurationError: the number does not match.
    """
    was_number, is_number = is_regression(model.config), task.problem_type == _REGRESSION
    model.config.problem_type = task.problem_type
    if not labels:
        return
    names = names_in(model.config)
    rows = _last_layer(model).out_features
    if len(names) != rows or len(set(names)) < rows:
        names = [f"LABEL_{index}" for index in range(rows)]
    unnamed = all(_UNNAMED.fullmatch(name) for name in names) and not any(_UNNAMED.fullmatch(label) for label in labels)
    if unnamed and as_many and rows != len(labels):
        raise ConfigurationError(
            f"The model has a head for {rows} labels, but the training data have {len(labels)}: "
            f"{', '.join(labels)}. Load the model with num_labels={len(labels)}."
        )
    if was_number and is_number and rows == len(labels):
        names = list(labels)
    elif was_number != is_number and not unnamed:
        console.print("The model's head was trained for another kind of task: its last layer is newly initialised.")
        names = []
    elif unnamed:
        names = _numbered(names, labels)
    elif set(names) != set(labels):
        _say(names, labels)
    if set(names) != set(labels):
        new_last_layer(model, labels, names)
        names = list(labels)
    set_names(model.config, names)


def _numbered(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The names of labels that have none: numbers, if the data have them; else none."""
    numbers = [str(index) for index in range(len(names))]
    if set(numbers) == set(labels):
        return numbers
    console.print(
        f"The labels of the model's head have no names ({some(names)}), so its last layer is newly initialised for "
        f"{some(labels)}. If the head is trained, name its labels first, in config.id2label."
    )
    return []


def _say(names: Sequence[str], labels: Sequence[str]) -> None:
    """Print what happens to a head's labels."""
    kept, gone, new = set(names) & set(labels), set(names) - set(labels), set(labels) - set(names)
    if not kept:
        console.print(
            f"None of the model's labels ({some(names)}) is in the training data: its last layer is initialised for "
            f"{some(labels)}."
        )
        return
    parts = [f"Labels kept from the model: {some(kept)}"]
    if new:
        parts.append(f"new and untrained: {some(new)}")
    if gone:
        parts.append(f"dropped, as not in the training data: {some(gone)}")
    console.print(f"{'; '.join(parts)}.")


def _last_layer(model: XmodPreTrainedModel) -> nn.Linear:
    head: Any = trained_module(model.classifier)
    last: nn.Linear = getattr(head, "out_proj", head)
    return last


@torch.no_grad()
def new_last_layer(model: XmodPreTrainedModel, labels: Sequence[str], names: Sequence[str] = ()) -> None:
    """Replace the last layer for `names` by one for `labels`; common labels keep their rows."""
    last = _last_layer(model)
    made = nn.Linear(last.in_features, len(labels), device=last.weight.device, dtype=last.weight.dtype)
    model._init_weights(made)
    rows = [(labels.index(name), names.index(name)) for name in dict.fromkeys(names) if name in labels]
    for new, old in rows:
        made.weight[new] = last.weight[old]
        made.bias[new] = last.bias[old]
    made.train(last.training)
    made.requires_grad_(last.weight.requires_grad)
    whole: Any = model
    if last is not (head := trained_module(whole.classifier)):
        head.out_proj = made
    elif head is whole.classifier:
        whole.classifier = made
    else:
        replace_trained_module(whole.classifier, made)
    whole.num_labels = len(labels)
