"""Rows of CSV and TSV: a header, then records whose quoted fields may contain separators and line ends (RFC 4180)."""

from __future__ import annotations

import csv
import re
import threading
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from xmodular.errors import DataError
from xmodular.rows.lines import LONE_RETURN, TOO_LONG, lines
from xmodular.rows.row import BadRows, DataRow, first_repeated, half_surrogate

_QUOTED = re.compile(b'"[^"]*("|$)')
_SEPARATOR = re.compile(rb'"?sep=([,;\t])"?[,;\t]*\s*')  # a line that spreadsheets write before the header
_LARGEST_FIELD = 2**24  # characters; also how far the other end of a quote is looked for


def csv_rows(
    file: Any, place: str, language: str | None, bad: BadRows, columns: Collection[str] = ()
) -> Iterator[DataRow]:
    """Records separated by commas; all values are texts, or None for empty fields.

    If the header has no comma, the separators are semicolons or tabs, as in countries with decimal commas. If all
    `columns` are numbers, and the first line does not have them, it is no header: the columns are called 1, 2, ...
    """
    return _rows(_Records(file, None), place, language, bad, columns)


def tsv_rows(
    file: Any, place: str, language: str | None, bad: BadRows, columns: Collection[str] = ()
) -> Iterator[DataRow]:
    """Records separated by tabs, quoted as in CSV or, as many programs write them, not quoted at all.

    A line is read literally, with its quotes, if its quotes are not balanced, or if they would join it with
    lines below and all of these lines have as many fields as the header; but quotes always join lines if the
    first name of the header is quoted. Columns may have numbers, as in CSV.
    """
    return _rows(_Records(file, "\t"), place, language, bad, columns)


class _Limit:
    """How long a field may be, which csv knows for the whole process only: lifted while any thread reads here."""

    _lock = threading.Lock()
    _reading = 0
    _before = 0

    @classmethod
    def lift(cls) -> None:
        with cls._lock:
            if not cls._reading:
                cls._before = csv.field_size_limit()
                csv.field_size_limit(max(cls._before, _LARGEST_FIELD))
            cls._reading += 1

    @classmethod
    def put_back(cls) -> None:
        with cls._lock:
            cls._reading -= 1
            if not cls._reading:
                csv.field_size_limit(cls._before)


class _Record(NamedTuple):
    line: int
    fields: list[str]
    wrong: str = ""


class _Records:
    """Records with the numbers of their first lines; blank lines are none.

    Bytes that are not UTF-8 become half surrogates, so that they spoil only the record they stand in.

    Args:
        file: read as bytes.
        separator: None to take it from the header.
    """

    def __init__(self, file: Any, separator: str | None) -> None:
        self._file = lines(file)
        self._again: deque[tuple[int, str | None]] = deque()
        self._used: list[tuple[int, str | None]] = []
        self._taken = 0  # characters of the record at hand
        self._separator = separator or self._found()
        self._quoted = False  # whether the header's first name is
        self._reader = csv.reader(self, delimiter=self._separator, strict=True)

    def _found(self) -> str:
        """The separator of the names in the first line that is not blank."""
        for number, raw in self._file:
            if raw is not None and (said := _SEPARATOR.fullmatch(raw)):
                return said[1].decode()
            self._again.append((number, None if raw is None else raw.decode("utf-8", "surrogateescape")))
            if raw is None or raw.strip():
                bare = _QUOTED.sub(b"", raw or b"")
                return next((separator for separator in ",;\t" if separator.encode() in bare), ",")
        return ","

    def __iter__(self) -> _Records:
        return self

    def __next__(self) -> str:
        """The next line, for the reader."""
        if self._again:
            number, line = self._again.popleft()
        else:
            number, raw = next(self._file)
            line = None if raw is None else raw.decode("utf-8", "surrogateescape")
        self._used.append((number, line))
        if line is None:
            raise csv.Error(TOO_LONG)
        self._taken += len(line)
        if self._taken > _LARGEST_FIELD + len(line):  # without its last line; whatever limit the process has
            raise csv.Error(f"field larger than field limit ({_LARGEST_FIELD})")
        return line

    def read(self, columns: int | None = None) -> _Record | None:
        """The next record; None at the end.

        Args:
            columns: how many fields it should have, if that is known.
        """
        fields: list[str] | None = []
        while not fields:
            self._used.clear()
            self._taken = 0
            wrong = ""
            _Limit.lift()
            try:
                fields = next(self._reader, None)
            except csv.Error as error:
                wrong = LONE_RETURN if f"{error}".startswith("new-line character") else f"{error}"
                fields = []
                break
            finally:
                _Limit.put_back()
            if fields is None:
                return None
        (first, line), *below = self._used
        if columns is None:
            self._quoted = line is not None and line.startswith('"')
        if self._separator == "\t" and line is not None and (wrong or below):
            literal = line.rstrip("\r\n").split("\t")
            alike = all(each is not None and each.count("\t") + 1 == columns for _, each in self._used)
            if wrong != LONE_RETURN and (wrong or (alike and columns != 1 and not self._quoted)):
                self._again.extendleft(reversed(below))
                return _Record(first, literal)
        if wrong not in ("", TOO_LONG, LONE_RETURN):
            until = f", in lines {first} to {below[-1][0]}" if below else ""
            wrong = f"its quotes are not balanced ({wrong}{until})"
        return _Record(first, fields or [], wrong)


def header(file: Any, format: str) -> list[str]:
    """The names of the columns of a "csv" or "tsv" file."""
    record = _Records(file, "\t" if format == "tsv" else None).read()
    return [] if record is None else list(dict.fromkeys(record.fields))


def _rows(
    records: _Records, place: str, language: str | None, bad: BadRows, columns: Collection[str]
) -> Iterator[DataRow]:
    header = records.read()
    if header is None:
        return  # an empty file
    names = header.fields
    if columns and all(map(str.isdecimal, columns)) and not set(columns) <= set(names):
        first, header = header, _Record(header.line, [f"{number + 1}" for number in range(len(names))])
        names = header.fields
    else:
        first = None
    twice = first_repeated(filter(None, names))
    if header.wrong or twice is not None or half_surrogate(dict.fromkeys(names)) is not None:
        reason = header.wrong or ("it is not UTF-8" if twice is None else f"the column {twice!r} appears twice")
        raise DataError(f"{place}:{header.line}: the first line names the columns, but {reason}.")
    nameless = names.count("")
    if nameless < 2:  # spreadsheets write several, with nothing in them
        nameless = 0
    # GermEval 2014 is called .tsv: its first line is a comment.
    hint = "; if its lines are words, give it a name that ends in .conll" if names[0] == "#" else ""
    while (record := first or records.read(len(names))) is not None:
        first = None
        here = f"{place}:{record.line}"
        if record.wrong:
            bad.report(here, record.wrong)
        elif len(record.fields) != len(names):
            fields = "1 field" if len(record.fields) == 1 else f"{len(record.fields)} fields"
            bad.report(here, f"{fields}, but the header has {len(names)} columns{hint}")
        else:
            values = {name: value or None for name, value in zip(names, record.fields, strict=True)}
            if nameless and any(value for name, value in zip(names, record.fields, strict=True) if not name):
                bad.report(here, f"it has a value in one of {nameless} columns without a name")
            elif (column := half_surrogate(values)) is not None:
                bad.report(here, f"{column!r} is not UTF-8")
            else:
                yield DataRow(values, here, language)
