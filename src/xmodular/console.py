"""What long work says on the terminal: messages and progress bars, on stderr, from the first process only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Messages name paths and data: what has brackets or colons in it is no markup and no emoji.
console = Console(stderr=True, markup=False, emoji=False, highlight=False, quiet=os.environ.get("RANK", "0") != "0")


def progress_bar() -> Progress:
    """A progress display in this project's form, not yet started."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        speed_estimate_period=600,  # seconds: a step may take more than the 30 by default
        disable=not console.is_terminal,
    )


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar; yields the function that advances it by a count."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own bars and reports, where we say ourselves what there is to say."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
