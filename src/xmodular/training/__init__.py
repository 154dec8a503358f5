"""Training: pretrain language models on text, add languages to them, and fine-tune them on tasks."""

from xmodular.training.extending import extend
from xmodular.training.finetuning import finetune
from xmodular.training.pretraining import pretrain
from xmodular.training.runs import Run

__all__ = ["Run", "extend", "finetune", "pretrain"]
