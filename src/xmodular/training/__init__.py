"""Training: masked language models from text, new languages for them, and tasks on top of them."""

from xmodular.training.extending import extend
from xmodular.training.finetuning import finetune
from xmodular.training.pretraining import pretrain
from xmodular.training.runs import Run

__all__ = ["Run", "extend", "finetune", "pretrain"]
