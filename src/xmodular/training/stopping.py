"""The best weights so far are saved, and training stops when none better come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


def without_gain(scores: Sequence[float]) -> int:
    """How many scores have passed since the best one (the first of equals)."""
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def validation_scores(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """The scores in a Trainer's log."""
    return [line["eval_score"] for line in history if "eval_score" in line]


class Best(TrainerCallback):
    """Saves a checkpoint at each validation that is the best so far, and ends training after too many that are not.

    The last step needs no checkpoint: its weights are there. What it knows is Trainer's log, which a checkpoint brings
    along, so a resumed run ends where an unbroken one does.

    Args:
        patience: validations without a better one until training ends; None: never.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        waited = without_gain(validation_scores(state.log_history))
        if waited == 0:
            control.should_save = state.global_step < state.max_steps
        elif self.patience is not None and waited >= self.patience:
            control.should_training_stop = True


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: steps done.
        best: step of the best validation, None if there was none.
        scores: of the validations.
        train_loss: mean over the steps.
    """

    step: int
    best: int | None
    scores: tuple[float, ...]
    train_loss: float

    @classmethod
    def at(cls, checkpoint: Path, rank: int) -> Progress:
        """At a checkpoint, as the process of that rank left it."""
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        sums = json.loads((checkpoint / f"loss-{rank}.json").read_text(encoding="utf-8"))
        step = int(state["global_step"])
        return cls(
            step,
            state["best_global_step"],
            tuple(validation_scores(state["log_history"])),
            (sums["before"] + sums["since_last_log"]) / step,
        )

    def is_over(self, steps: int, patience: int | None) -> bool:
        """Whether nothing is left to do."""
        return self.step >= steps or (patience is not None and without_gain(self.scores) >= patience)
