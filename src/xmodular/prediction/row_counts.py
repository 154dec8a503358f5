"""What a run counts of its rows, and says of them: its speed; cut, uncertain and strange rows at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from xmodular.console import console, counted, progress_bar
from xmodular.prediction.predictor import Predictor
from xmodular.prediction.windows import Work

# Rows of the output; rows that could not be read; texts whose language is uncertain; rows that were truncated; rows
# without a prediction, as the model's outputs are no finite numbers; tokens; and of all workers together seconds by the
# clock, and seconds of processor cores.
COUNTS = ("rows", "bad", "uncertain", "cut", "strange", "tokens", "seconds", "core_seconds")


def counts_of(predictor: Predictor) -> dict[str, int]:
    """What a predictor has counted so far."""
    adapters = predictor.adapters
    return {
        "uncertain": adapters.unsure,
        "cut": predictor.cut,
        "strange": predictor.strange,
        "tokens": predictor.tokens,
    }


def sums(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several counts together."""
    total: dict[str, Any] = dict.fromkeys(COUNTS, 0)
    for each in counts:
        total = {name: total[name] + each[name] for name in COUNTS}
    return {name: round(count, 3) for name, count in total.items()}


def speed(rows: float, tokens: int, start: float) -> str:
    """Rows and tokens per second since a time of `time.monotonic`."""
    seconds = max(time.monotonic() - start, 1e-9)
    return f"{rows / seconds:,.0f} rows/s, {tokens / seconds:,.0f} tokens/s"


def say_doubts(counts: Mapping[str, Any], default: str | None, max_length: int | None = None) -> None:
    """Say how many rows were read by a default's adapter, were truncated, and have no prediction.

    Args:
        counts: the counts.
        default: the adapter of uncertain texts; None if there is none, or if it is not known here.
        max_length: the length at which rows were truncated; None if it is not known here.
    """
    if counts["uncertain"] and default is not None:
        console.print(
            f"The language of {counted(counts['uncertain'], 'text')} is uncertain; read with the adapter of {default}."
        )
    if cut := counts["cut"]:
        were, to = "was" if cut == 1 else "were", "" if max_length is None else f" to {max_length} tokens"
        console.print(f"{counted(cut, 'row')} {were} truncated{to} (--max-length).")
    if counts["strange"]:
        console.print(
            f"{counts['strange']:,} rows have no prediction: the model's outputs for them are infinite or NaN."
        )


@contextmanager
def showing_speed(predictor: Predictor, work: Work) -> Iterator[Callable[[float], None]]:
    """Show rows and tokens per second, on a terminal always, elsewhere once a minute; yields the progress callback."""
    doing, done = ("embedding", "Embedded") if predictor.task.name == "embed" else ("predicting", "Predicted")
    start = told = time.monotonic()

    with progress_bar() as bar:
        shown = bar.add_task(doing, total=None)
        read = 0.0

        def advance(count: float) -> None:
            nonlocal read, told
            read += count
            bar.update(shown, advance=count, description=f"{doing}, {speed(read, predictor.tokens, start)}")
            if not console.is_terminal and time.monotonic() - told > 60:
                told = time.monotonic()
                console.print(f"{work.rows:,} rows, {speed(work.rows, predictor.tokens, start)}")

        yield advance
    if work.rows:
        console.print(f"{done} {counted(work.rows, 'row')}, {speed(work.rows, predictor.tokens, start)}")
