"""What a run over rows says: how fast it is, and of which rows its predictions are in doubt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xmodular.console import console, counted, progress_bar
from xmodular.prediction.predictor import Predictor
from xmodular.prediction.windows import Work


def say_doubts(predictor: Predictor) -> None:
    """Say how many rows were read by a default's adapter, were cut, and have no prediction."""
    adapters = predictor.adapters
    if adapters.unsure and adapters.default is not None:
        console.print(
            f"The language of {counted(adapters.unsure, 'text')} is uncertain; read with the adapter of "
            f"{adapters.default.adapter}."
        )
    if predictor.cut:
        were = "was" if predictor.cut == 1 else "were"
        console.print(
            f"{counted(predictor.cut, 'row')} {were} truncated to {predictor.room.max_length} tokens (--max-length)."
        )
    if predictor.strange:
        console.print(
            f"{predictor.strange:,} rows have no prediction: the model's outputs for them are infinite or NaN."
        )


@contextmanager
def speed(predictor: Predictor, work: Work) -> Iterator[Callable[[float], None]]:
    """Show rows and tokens per second, on a terminal always, elsewhere once a minute; yields the progress callback."""
    doing, done = ("embedding", "Embedded") if predictor.task.name == "embed" else ("predicting", "Predicted")
    start = told = time.monotonic()

    def pace(rows: float) -> str:
        seconds = max(time.monotonic() - start, 1e-9)
        return f"{rows / seconds:,.0f} rows/s, {predictor.tokens / seconds:,.0f} tokens/s"

    with progress_bar() as bar:
        shown = bar.add_task(doing, total=None)
        read = 0.0

        def advance(count: float) -> None:
            nonlocal read, told
            read += count
            bar.update(shown, advance=count, description=f"{doing}, {pace(read)}")
            if not console.is_terminal and time.monotonic() - told > 60:
                told = time.monotonic()
                console.print(f"{work.rows:,} rows, {pace(work.rows)}")

        yield advance
    if work.rows:
        console.print(f"{done} {counted(work.rows, 'row')}, {pace(work.rows)}")
