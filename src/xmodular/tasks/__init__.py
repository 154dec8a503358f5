"""Tasks: a record of functions each, and the code that runs models over their rows."""

import difflib

from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.saved_models import given_model, hash_of, load_saved, longest, to_run, tokenizer_of
from xmodular.tasks.breakdown import Breakdown, added
from xmodular.tasks.choice import CHOICE
from xmodular.tasks.classify import CLASSIFY
from xmodular.tasks.heads import fit_head, load_model, read_labels
from xmodular.tasks.inference import collate, predict_logits
from xmodular.tasks.perplexity import block_statistics, loss_a_token, perplexity_metrics, text_statistics, to_predict
from xmodular.tasks.qa import QA
from xmodular.tasks.regress import REGRESS
from xmodular.tasks.tag import TAG
from xmodular.tasks.task import Encoding, Example, Prediction, Room, Task, guessed, room_of

# What other programs call them.
_ELSEWHERE = {
    "classify": "classification text-classification sequence-classification sentiment topic nli xnli pair pairs",
    "regress": "regression sts stsb similarity",
    "tag": "ner pos upos tagging token-classification entities sequence-labeling sequence-labelling",
    "qa": "question-answering squad mlqa xquad extractive-qa answers",
    "choice": "multiple-choice multichoice copa xcopa swag",
}

TASKS = {task.name: task for task in (CLASSIFY, REGRESS, TAG, QA, CHOICE)}


def task_named(name: str) -> Task:
    """The task of this name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in TASKS:
        spelled = name.strip().casefold().replace("_", "-").replace(" ", "-")
        called = {word: task for task, words in _ELSEWHERE.items() for word in words.split() if task in TASKS}
        called |= {task: task for task in TASKS}
        near = [called[each] for each in difflib.get_close_matches(spelled, called, n=1)]
        hint = f"did you mean {near[0]}? There" if near else "there"
        raise ConfigurationError(f"There is no task {name!r}; {hint} are {', '.join(TASKS)}.")
    return TASKS[name]


def task_of(model: XmodPreTrainedModel) -> Task | None:
    """The task that a model was fine-tuned for, as it says or as its head suggests; None if there is none here."""
    return task_for(model.config, type(model).__name__)


def task_for(config: XmodConfig, architecture: str) -> Task | None:
    """As `task_of`, of a model that is not loaded: its configuration and the name of its class."""
    problem = config.problem_type
    if problem is None and architecture == "XmodForSequenceClassification":
        problem = "regression" if config.num_labels == 1 else "single_label_classification"
    fitting = [
        task for task in TASKS.values() if task.architecture == architecture and task.problem_type in (None, problem)
    ]
    said = (task for task in fitting if task.name == config.finetuning_task)
    return next(said, fitting[0] if fitting else None)


__all__ = [
    "TASKS",
    "Breakdown",
    "Encoding",
    "Example",
    "Prediction",
    "Room",
    "Task",
    "added",
    "block_statistics",
    "collate",
    "fit_head",
    "given_model",
    "guessed",
    "hash_of",
    "load_model",
    "load_saved",
    "longest",
    "loss_a_token",
    "perplexity_metrics",
    "predict_logits",
    "read_labels",
    "room_of",
    "task_for",
    "task_named",
    "task_of",
    "text_statistics",
    "to_predict",
    "to_run",
    "tokenizer_of",
]
