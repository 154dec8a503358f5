"""Plain text: a text a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xmodular.rows.lines import LONE_RETURN, TOO_LONG, lines, not_utf8
from xmodular.rows.row import BadRows, Row


def text_rows(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[Row]:
    """``{"text": ...}`` from each line that is not blank."""
    for number, raw in lines(file):
        here = f"{place}:{number}"
        if raw is None:
            bad.report(here, TOO_LONG)
            continue
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            bad.report(here, not_utf8(error))
            continue
        if "\r" in text:
            bad.report(here, LONE_RETURN)
        elif text.strip():
            yield Row({"text": text}, here, language)
