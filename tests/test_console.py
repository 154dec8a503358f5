"""Messages, tables and progress bars show names of paths and data as they are."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table

from xmodular import cli
from xmodular.console import console, progress_bar

HOSTILE = "[/b] runs/topic[v2]:key: [red]x"


def test_messages_and_tables_show_data_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.print(HOSTILE)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    assert capsys.readouterr().err.count(HOSTILE) == 4


def test_progress_bars_show_data_as_they_are() -> None:
    bar = progress_bar()
    bar.add_task(HOSTILE)
    (column,) = (each for each in bar.columns if isinstance(each, TextColumn))
    shown = Console(file=io.StringIO(), width=100)
    shown.print(column.render(bar.tasks[0]))
    assert HOSTILE in shown.file.getvalue()  # type: ignore[attr-defined]


def test_what_a_verb_answers_shows_data_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    class Answer:
        def table(self) -> Table:
            return Table(HOSTILE)

    assert cli._show_table(Answer()) == 0
    assert HOSTILE in capsys.readouterr().out
