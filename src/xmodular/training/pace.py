"""The speed of a run and its remaining time, on the terminal only: a run's files contain no timings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from xmodular.console import console, progress_bar

_SILENCE = 30  # seconds between lines about the progress of a run


class Pace:
    """Tokens per second and the time left, since training started or was resumed.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began: float | None = None
        self.first = 0

    def begin(self, step: int) -> None:
        """Start the clock before the first step; later calls have no effect.

        Args:
            step: number of finished steps, in this process or before an interruption.
        """
        if self.began is None:
            self.began, self.first = self.clock(), step

    def said(self, step: int, steps: int, tokens: int) -> tuple[str, str]:
        """The pace and the time left, as text.

        Args:
            step: number of finished steps.
            steps: number of steps of the run.
            tokens: tokens read since `begin` by all processes, without padding.

        Returns:
            For example "1,966 tokens/s" and "25 min left"; empty before the first step is finished.
        """
        passed = 0.0 if self.began is None else self.clock() - self.began
        if passed <= 0 or step <= self.first:
            return "", ""
        left = (steps - step) * passed / (step - self.first)
        return f"{tokens / passed:,.0f} tokens/s", f"{duration(left)} left"


def duration(seconds: float) -> str:
    """A time in its two largest units: "40 s", "25 min", "2 h 05 min", "3 d 4 h"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


class Progress(TrainerCallback):
    """A bar with step, loss, pace and time; a line per validation. Without a terminal, a line per log or half minute.

    Args:
        tokens: returns the tokens read so far, as for `Pace.said`.
    """

    def __init__(self, tokens: Callable[[], int]) -> None:
        self.tokens = tokens
        self.pace = Pace()
        self.spoke = self.pace.clock()
        self.bar = progress_bar()
        self.task = self.bar.add_task("training", total=None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A reset, so that the bar does not count the steps before an interruption as one quick step.
        self.bar.reset(self.task, total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pace.begin(state.global_step)  # not earlier: a resumed run skips its first batches

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)
        if not console.is_terminal and self.pace.clock() - self.spoke > _SILENCE:
            left = self.pace.said(state.global_step, state.max_steps, 0)[1]
            self._say(f"step {state.global_step}/{state.max_steps}  {left}")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs:
            return
        step = f"step {state.global_step}/{state.max_steps}"
        if "loss" in logs:
            loss = f"loss {logs['loss']:.3f}"
            pace, left = self.pace.said(state.global_step, state.max_steps, self.tokens())
            self.bar.update(self.task, description=", ".join(filter(None, ("training", loss, pace))))
            if not console.is_terminal:
                rate = f"learning rate {logs['learning_rate']:.2e}"
                self._say("  ".join(filter(None, (step, loss, rate, pace, left))))
        elif any(name.startswith("eval_") for name in logs):
            shown = [
                f"{name.removeprefix('eval_')} {value:.4g}"
                for name, value in logs.items()
                if name.startswith("eval_") and ":" not in name
            ]
            console.print(f"{step}  validation: {', '.join(shown)}")

    def _say(self, line: str) -> None:
        console.print(line, soft_wrap=True)
        self.spoke = self.pace.clock()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()
