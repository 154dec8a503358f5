"""Training: masked language models from text, and tasks on top of them."""

from xmodular.training.finetuning import finetune
from xmodular.training.pretraining import pretrain
from xmodular.training.runs import Run

__all__ = ["Run", "finetune", "pretrain"]
