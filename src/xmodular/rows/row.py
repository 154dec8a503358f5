"""A row with its location, and the handling of bad rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from xmodular.errors import DataError
from xmodular.languages import names_of

_MOST_SHOWN = 60  # columns in a message
_SHOWN = 5  # bad rows that a summary names
_LONGEST_REASON = 300  # characters
LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*")
_MARK = re.compile(r"[_-](rom|zaw)$", re.IGNORECASE)  # romanised text, Burmese in the Zawgyi encoding
# Region and script as codes spell them. In small letters they may be words: to_do is Tongan in the Dominican Republic.
_SPECIFIC = re.compile(r"[A-Z]{2}|[A-Z][a-z]{3}")
_HALF = re.compile("[\ud800-\udfff]")

Knows = Callable[[str], bool]  # whether a model has a language of that name


@dataclass(frozen=True)
class DataRow:
    """One row of a file or data set.

    Attributes:
        values: its values by column.
        place: file and line, or file and row, for messages.
        language: the language that the file's name begins with (see `language_of`); None if there is none.
        without_class: the class columns whose number, -1, means that the row has no class.
    """

    values: Mapping[str, Any]
    place: str
    language: str | None = None
    without_class: frozenset[str] = frozenset()


class BadRows:
    """Handles unreadable rows: an error at the first one, or they are skipped and counted.

    Args:
        skip: whether to skip and count them.
        told: called with the location and the reason for every skipped row.

    Attributes:
        count: number of rows skipped so far.
    """

    def __init__(self, skip: bool = False, told: Callable[[str, str], None] | None = None) -> None:
        self.skip = skip
        self.told = told
        self.count = 0
        self._first: list[str] = []

    def report(self, place: str, reason: str) -> None:
        """Report a bad row.

        Args:
            place: file and line.
            reason: the problem, without a full stop at the end.

        Raises:
            DataError: bad rows are not skipped.
        """
        reason = _printable(reason.rstrip("."), _LONGEST_REASON)
        if not self.skip:
            raise DataError(f"{place}: {reason}.")
        self.count += 1
        if len(self._first) < _SHOWN:
            self._first.append(f"{place}: {reason}")
        if self.told is not None:
            self.told(place, reason)

    def summary(self) -> str:
        """The number of skipped rows, and the first of them with reasons, in one line; empty if there are none."""
        if not self.count:
            return ""
        more = self.count - len(self._first)
        shown = [*self._first, f"and {more:,} more"] if more else self._first
        return f"{self.count:,} bad {'row was' if self.count == 1 else 'rows were'} skipped: {'; '.join(shown)}."


def language_of(path: str | Path, knows: Knows | None = None) -> str | None:
    """The language that a file's name begins with, such as ``de_DE`` in ``de_DE.test.jsonl``; None if there is none.

    Any word of two or three letters may be a language code (``med`` is Medumba), so it counts only if the model
    has it; a code with a region or a script always counts, even if the model lacks it.

    Args:
        path: the file.
        knows: tells whether the model has a language; None: it has none.
    """
    code = Path(path).name.split(".", 1)[0]
    if not LANGUAGE_CODE.fullmatch(code):
        return None
    if knows is not None and knows(code):
        return code
    specific = any(_SPECIFIC.fullmatch(part) for part in re.split("[_-]", code)[1:])
    return code if specific and names_of(_MARK.sub("", code))["english"] is not None else None


def is_numbered(column: object) -> bool:
    """Whether a column's name is that of rows' ids, in letters of any size; Indonesian is id_ID in parallel texts."""
    return str(column).strip().casefold() == "id"


def check_letters(place: object, column: object, code: str, texts: Iterable[str]) -> None:
    """Refuse a column that is called like a language and has no word, as one of numbers that is called no.

    Raises:
        DataError: no text has a letter.
    """
    if not any(each.isalpha() for text in texts for each in text):
        raise DataError(
            f"{place}: the column {column!r} is taken for {code}, but no text in it has a letter: rename it if it is "
            "not in a language."
        )


def half_surrogate(values: Mapping[str, Any]) -> str | None:
    """The first column with an unpaired surrogate in a text, which JSON and Python allow but no encoding does."""
    return next((name for name, value in values.items() if _has_half(name) or _has_half(value)), None)


def is_absent(value: Any) -> bool:
    """Whether a value is missing: null, or an empty text, as in tables."""
    return value is None or (isinstance(value, str) and not value)


def columns_of(values: Mapping[str, Any]) -> str:
    """The names of a row's columns, for messages."""
    shown = [f"{name!r:.80}{_state(value)}" for name, value in islice(values.items(), _MOST_SHOWN)]
    more = [f"{len(values) - _MOST_SHOWN:,} more"] if len(values) > _MOST_SHOWN else []
    return ", ".join([*shown, *more]) or "none"


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that appears twice; None if all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _state(value: Any) -> str:
    return " (null)" if value is None else " (empty)" if is_absent(value) else ""


def _has_half(value: Any) -> bool:
    waiting = [value]  # not recursive: rows may nest deeply
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if not value.isascii() and _HALF.search(value):
                return True
        elif isinstance(value, Mapping):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return False


def _printable(text: str, most: int) -> str:
    """A text in one line, without characters that a terminal would not show or would act on."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
