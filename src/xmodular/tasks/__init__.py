"""Tasks: each is a record of functions; and the code that runs models over rows."""

from xmodular.saved_models import given_model, given_plain_model, hash_of, load_saved, longest, to_run, tokenizer_of
from xmodular.tasks.breakdown import Breakdown, added
from xmodular.tasks.registry import TASKS, read_labels, task_for, task_named, task_of
from xmodular.tasks.running import collate, predict_logits
from xmodular.tasks.task import Encoding, Example, Prediction, Room, Task, guessed, metrics_of, room_of, scores_of
from xmodular.tasks.task_heads import fit_head, load_model

__all__ = [
    "TASKS",
    "Breakdown",
    "Encoding",
    "Example",
    "Prediction",
    "Room",
    "Task",
    "added",
    "collate",
    "fit_head",
    "given_model",
    "given_plain_model",
    "guessed",
    "hash_of",
    "load_model",
    "load_saved",
    "longest",
    "metrics_of",
    "predict_logits",
    "read_labels",
    "room_of",
    "scores_of",
    "task_for",
    "task_named",
    "task_of",
    "to_run",
    "tokenizer_of",
]
