"""All tasks. A new one needs its own file, and an entry in the table here."""

from __future__ import annotations

import difflib

from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError
from xmodular.exported_models import ExportedModel
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks.choice import CHOICE
from xmodular.tasks.classify import CLASSIFY
from xmodular.tasks.qa import QA
from xmodular.tasks.regress import REGRESS
from xmodular.tasks.sentence_vectors import EMBED
from xmodular.tasks.tag import TAG
from xmodular.tasks.task import Task
from xmodular.tasks.task_heads import names_in

TASKS = {task.name: task for task in (CLASSIFY, REGRESS, TAG, QA, CHOICE, EMBED)}


def task_named(name: str) -> Task:
    """The task of this name.

    Raises:
        ConfigurationError: there is no such task.
    """
    if name not in TASKS:
        spelled = name.strip().casefold().replace("_", "-").replace(" ", "-")
        called = {word: task.name for task in TASKS.values() for word in (*task.aliases.split(), task.name)}
        near = [called[each] for each in difflib.get_close_matches(spelled, called, n=1)]
        hint = f"did you mean {near[0]}? The tasks" if near else "the tasks"
        raise ConfigurationError(f"There is no task {name!r}; {hint} are {', '.join(TASKS)}.")
    return TASKS[name]


def task_of(model: XmodPreTrainedModel) -> Task | None:
    """The task that a model was fine-tuned for, from its configuration or its head; None if it is unknown."""
    return task_for(model.config, model.architecture if isinstance(model, ExportedModel) else type(model).__name__)


def task_for(config: XmodConfig, architecture: str) -> Task | None:
    """As `task_of`, for a model that is not loaded: from its configuration and the name of its class."""
    problem = config.problem_type
    if problem is None and architecture == "XmodForSequenceClassification":
        problem = "regression" if config.num_labels == 1 else "single_label_classification"
    fitting = [
        task for task in TASKS.values() if task.architecture == architecture and task.problem_type in (None, problem)
    ]
    said = (task for task in fitting if task.name == config.finetuning_task)
    return next(said, fitting[0] if fitting else None)


def read_labels(model: XmodPreTrainedModel) -> list[str]:
    """The names of a model's labels, in the order of their ids; empty for question answering and choices."""
    task = task_of(model)
    return [] if task is not None and not task.has_labels else names_in(model.config)
