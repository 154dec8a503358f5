"""Plain text: one text per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xmodular.rows.lines import decoded
from xmodular.rows.row import BadRows, DataRow


def text_rows(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[DataRow]:
    """``{"text": ...}`` for each line that is not blank."""
    for number, text, wrong in decoded(file):
        if wrong:
            bad.report(f"{place}:{number}", wrong)
        elif text.strip():
            yield DataRow({"text": text}, f"{place}:{number}", language)
