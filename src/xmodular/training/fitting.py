"""A fit: a model trained to the end of its run from wherever that stands, with the weights that it is to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainingArguments

from xmodular.console import console, quiet_transformers
from xmodular.errors import TrainingError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import FinetuneOptions, LanguageModelOptions
from xmodular.tasks import load_saved
from xmodular.training.arguments import schedule
from xmodular.training.checkpoints import damage
from xmodular.training.log import RunLog
from xmodular.training.trainer import Intervals, Loss, RoutedTrainer, own_loss


@dataclass(frozen=True)
class Fit:
    """How a fit ended.

    Attributes:
        model: the whole model with the weights to keep, in evaluation mode.
        step: how many steps were done.
        best: the step of the best validation; None where there is none or it decides nothing.
        train_loss: mean over the steps.
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
    checkpoint: Path | None,
    steps: int,
    *,
    intervals: Intervals,
    loss: Loss = own_loss,
    validate: Callable[[], Mapping[str, float]] | None = None,
    sharded: bool = False,
    head_rate: float | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Fit:
    """Train a model, unless its run was done before, and give it the weights to keep.

    Args:
        model: an `XmodPreTrainedModel`, of which what is to train is set; it is trained in place.
        dataset: what the batches are drawn from.
        collate: makes a batch of what is drawn.
        batches: this process's batches of the run.
        options: of the run.
        arguments: as `training_arguments` makes them of the options.
        checkpoint: where the run goes on from; None: at the first step.
        steps: of the whole run.
        intervals: when to validate, save and end.
        loss: of a batch, divided by the items of a step.
        validate: gives metrics of the model in evaluation mode.
        sharded: whether the model is to be sharded over the processes.
        head_rate: peak learning rate of the task head; None takes that of the rest.
        callbacks: are told what happens.

    Raises:
        TrainingError: the loss or a weight is no finite number any more, or a checkpoint cannot be written or read.
    """
    decay = options.decay if isinstance(options, LanguageModelOptions) else 0.0
    for name, value in {"max_steps": steps, **schedule(options.schedule, steps, decay)}.items():
        setattr(arguments, name, value)
    trainer = RoutedTrainer(
        model=model,
        args=arguments,
        dataset=dataset,
        collate=collate,
        batches=batches,
        intervals=intervals,
        loss=loss,
        validate=validate,
        checkpoint=checkpoint,
        sharded=sharded,
        head_rate=head_rate,
        callbacks=[RunLog(options.output_dir / "log.jsonl"), *callbacks],
    )
    state = trainer.state
    if trainer.is_over:
        if state.global_step >= steps:
            console.print(f"All {steps} steps were done before.")
        trained = None
    else:
        with quiet_transformers():
            trainer.train()
        model = trainer.whole_model()
        trained = state.global_step
        if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            raise TrainingError(
                f"After the last step, {trained}, a weight is no finite number, so the model was not saved. Try a "
                f"lower learning rate than {arguments.learning_rate:g}, or a longer warm-up."
            )
    if (kept := state.best_global_step or state.global_step) != trained:
        saved = options.output_dir / "checkpoints" / f"checkpoint-{kept}"
        if (wrong := damage(saved)) is not None:
            raise TrainingError(f"The best weights, in {saved}, are damaged: {wrong}. Start the same command again.")
        model.load_state_dict(load_saved(saved).state_dict())
    return Fit(model.eval(), state.global_step, state.best_global_step, trainer.mean_loss)
