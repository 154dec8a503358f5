"""The run's log: a JSON line for every logged loss and every validation. A resumed run writes the same log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from xmodular.files import json_text, write_text
from xmodular.training.checkpoints import saving

_NAMES = ("loss", "grad_norm", "learning_rate")


class RunLog(TrainerCallback):
    """Writes ``log.jsonl``: ``step`` with loss, gradient norm and learning rate, or with validation metrics.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the lines of steps that will be repeated."""
        kept = [line for line in self._lines() if _step(line) <= state.global_step]
        write_text(self.path, "".join(kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write a line."""
        if not logs:
            return
        values = {name: logs[name] for name in _NAMES if name in logs} if "loss" in logs else {}
        values |= {name: value for name, value in logs.items() if name.startswith("eval_")}
        if values:
            with saving("A line of the log", self.path.parent), self.path.open("a", encoding="utf-8") as file:
                file.write(json_text({"step": state.global_step, **values}))

    def _lines(self) -> list[str]:
        return (
            self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            if self.path.is_file()
            else []
        )


def _step(line: str) -> float:
    """The step of a line; that of a line cut off while it was written is infinite."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
