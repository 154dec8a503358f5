"""Messages and progress bars on the terminal: on stderr, from the first process only."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table

from xmodular.errors import visible


class Terminal(Console):
    """Shows messages and tables; control characters in paths and data are escaped."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments to show, with control characters escaped."""
        for part in super().render(renderable, options):
            yield part if part.control else part._replace(text=visible(part.text))

    @contextmanager
    def kept(self) -> Iterator[io.StringIO]:
        """Yield a text that gets what is said meanwhile, in long lines and without progress bars."""
        before, width = self._file, self._width
        heard = io.StringIO()
        self._file, self._width = heard, 1000
        try:
            yield heard
        finally:
            self._file, self._width = before, width


def terminal(**more: bool | int | None) -> Terminal:
    """A console that does not interpret brackets as markup or colons as emoji."""
    return Terminal(markup=False, emoji=False, highlight=False, **more)  # type: ignore[arg-type]


console = terminal(stderr=True, quiet=os.environ.get("RANK", "0") != "0")


def compact(value: float) -> str:
    """A number with one decimal place; very large ones in scientific notation."""
    return f"{value:.1f}" if abs(value) < 1e6 else f"{value:.2e}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, such as "1 row" or "1,200 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """A table whose first columns, `left` of them, hold names, and the others numbers."""
    made = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        made.add_column(name, justify="left" if place < left else "right")
    for row in rows:
        made.add_row(*row)
    return made


def progress_bar() -> Progress:
    """A progress display in this project's style, not yet started."""
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
def progress(description: str, total: int | None) -> Iterator[Callable[[float], None]]:
    """Show a bar; yields the function that advances it by a count."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' own progress bars and reports."""
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
