"""Tasks: a record of functions each, and the code that runs models over their rows."""

from xmodular.tasks.classify import CLASSIFY
from xmodular.tasks.inference import pad_batch, predict_logits
from xmodular.tasks.models import given_model, load_model, load_saved, longest, tokenizer_of
from xmodular.tasks.perplexity import block_statistics, perplexity_metrics, piece_characters
from xmodular.tasks.scoring import with_intervals
from xmodular.tasks.tag import TAG
from xmodular.tasks.task import Encoding, Example, Task

TASKS = {task.name: task for task in (CLASSIFY, TAG)}

__all__ = [
    "TASKS",
    "Encoding",
    "Example",
    "Task",
    "block_statistics",
    "given_model",
    "load_model",
    "load_saved",
    "longest",
    "pad_batch",
    "perplexity_metrics",
    "piece_characters",
    "predict_logits",
    "tokenizer_of",
    "with_intervals",
]
