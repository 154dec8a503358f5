"""Train a model to the end of its run, from the beginning or a checkpoint, and pick the weights to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainingArguments

from xmodular.console import console, quiet_transformers
from xmodular.errors import TrainingError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import FinetuneOptions, LanguageModelOptions
from xmodular.training.checkpoint_weights import read_weights
from xmodular.training.checkpoints import damage
from xmodular.training.log import RunLog
from xmodular.training.optimising import schedule
from xmodular.training.runs import Start
from xmodular.training.trainer import RoutedTrainer


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        model: the whole model with the weights to keep, in evaluation mode.
        step: number of steps of the run.
        best: the step of the best validation; None without validation, or if validation does not choose the weights.
        train_loss: mean loss over the steps.
    """

    model: XmodPreTrainedModel
    step: int
    best: int | None
    train_loss: float


def fit(
    model: Any,
    dataset: Dataset[Any],
    collate: Callable[[list[Any]], dict[str, Any]],
    batches: Iterable[list[Any]],
    options: LanguageModelOptions | FinetuneOptions,
    arguments: TrainingArguments,
    start: Start,
    steps: int,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    **how: Any,
) -> Fit:
    """Train a model, unless its run is already complete, and load the weights to keep.

    Args:
        model, dataset, collate, batches: as for `RoutedTrainer`.
        options: options of the run.
        arguments: made from the options by `training_arguments`.
        start: how the run starts.
        steps: number of steps of the whole run.
        callbacks: called with the events of the training loop.
        how: further arguments of `RoutedTrainer`.

    Raises:
        TrainingError: the loss or a weight is no longer finite, or a checkpoint cannot be written or read.
    """
    decay = options.decay if isinstance(options, LanguageModelOptions) else 0.0
    for name, value in {"max_steps": steps, **schedule(options.schedule, steps, decay)}.items():
        setattr(arguments, name, value)
    told = [RunLog(options.output_dir / "log.jsonl"), *callbacks]
    trainer = RoutedTrainer(
        model, arguments, dataset, collate, batches, checkpoint=start.checkpoint, callbacks=told, **how
    )
    state = trainer.state
    if was_over := trainer.is_over:
        if state.global_step >= steps:
            console.print(f"All {steps} steps are already done.")
    else:
        with quiet_transformers():
            trainer.train()
        model = trainer.whole_model()
        if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            raise TrainingError(
                f"After the last step, {state.global_step}, a weight is not finite, so the model was not saved. "
                f"Try a lower learning rate than {arguments.learning_rate:g}, or a longer warm-up."
            )
    kept = state.best_global_step or state.global_step
    if was_over or kept != state.global_step:
        saved = options.output_dir / "checkpoints" / f"checkpoint-{kept}"
        if (wrong := damage(saved)) is not None:
            raise TrainingError(f"The best weights, in {saved}, are damaged: {wrong}. Run the same command again.")
        read_weights(model, saved)
    return Fit(model.eval(), state.global_step, state.best_global_step, trainer.mean_loss)
