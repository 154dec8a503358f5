"""Read rows from all kinds of files, from streams and from data sets on the Hub, one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from xmodular.addresses import spelled
from xmodular.errors import DataError
from xmodular.rows.conll import conll, conllu
from xmodular.rows.csv_rows import csv_rows, header, tsv_rows
from xmodular.rows.hub_rows import hub_rows
from xmodular.rows.json_rows import json_file, json_lines
from xmodular.rows.memory import InMemory, memory_rows
from xmodular.rows.opening import is_file, kind_of, name_of, opened
from xmodular.rows.parquet import parquet_rows, parquet_schema
from xmodular.rows.plain_text import text_rows
from xmodular.rows.row import BadRows, DataRow, Knows, language_of

_Reader = Callable[..., Iterator[DataRow]]  # of an open file, its place, its language and what receives bad rows
_READERS: dict[str, _Reader] = {
    "jsonl": json_lines,
    "json": json_file,
    "csv": csv_rows,
    "tsv": tsv_rows,
    "conll": conll,
    "conllu": conllu,
    "parquet": parquet_rows,
    "txt": text_rows,
}
FORMATS = tuple(_READERS)
# Formats for rows with labels; plain text has none, and is only read if it is requested by name.
_LABELLED = [name for name in FORMATS if name != "txt"]
SUFFIXES = (*(f".{name}" for name in _LABELLED), *(f".{name}.gz" for name in _LABELLED if name != "parquet"))


def format_of(path: str | Path) -> str | None:
    """Which of `FORMATS` a file's name ends in, apart from how it is packed; None if in none of them."""
    kind = kind_of(path)
    return kind if kind in _LABELLED else None


def parquet_files(source: str | Path) -> list[Path]:
    """A Parquet file itself, or the Parquet files in a folder, sorted by name; may be empty."""
    path = Path(source)
    if path.is_dir():
        inside = (each for each in sorted(path.iterdir()) if each.is_file() and not each.name.startswith((".", "_")))
        return [each for each in inside if format_of(each) == "parquet"]
    return [path] if path.is_file() and format_of(path) == "parquet" else []


def columns_in(source: str | Path) -> list[str]:
    """The columns of a file without rows: from a table's header or from Parquet; otherwise none."""
    if files := parquet_files(source):
        return list(parquet_schema(files[:1]).names)
    path, format = Path(source), format_of(source)
    if not path.is_file() or format not in ("csv", "tsv"):
        return []
    with opened(path, str(path)) as file:
        return header(file, format)


def read_rows(
    source: str | Path | IO[Any],
    bad: BadRows,
    *,
    format: str | None = None,
    knows: Knows | None = None,
    columns: Collection[str] = (),
) -> Iterator[DataRow]:
    """The rows of a file or data set, in order. Only a few are in memory at once, except for ``.json``.

    Every record is either yielded or reported to `bad`. A record is a line of JSON Lines that is not blank, an object
    of a JSON list, a question of SQuAD's layout, a record of CSV or TSV below the header, a row of Parquet or of a data
    set, a sentence of CoNLL or CoNLL-U, a line of text that is not blank.

    Args:
        source: a file whose suffix says what it is, also with ``.gz`` or ``.zst`` behind it, by its path or by an
            address that fsspec understands, such as ``s3://bucket/rows.jsonl``; a folder of Parquet files, which are
            read in the order of their names; "-" for standard input; an open file; rows in memory; or
            ``hub:<data set>:<configuration>:<split>``, where the last two may be left out if the data set has
            only one.
        bad: receives the bad rows.
        format: one of `FORMATS`, if the suffix does not tell; default for standard input and open files: JSON Lines.
        knows: tells whether the model has a language; used for the file name's language (see `language_of`).
        columns: the columns that will be read, if they are known; numbers number those of a table without a header.

    Raises:
        DataError: there is no such file or data set, it is damaged or of an unknown kind; or a row is bad
            and `bad` does not skip it.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"There is no format {format!r}; the formats are {', '.join(FORMATS)}.")
    if isinstance(source, InMemory):
        return memory_rows(source.rows, bad, f"{source} ")
    if isinstance(source, str) and source.startswith("hub:"):
        if format is not None:
            raise DataError(f"A data set has its own format: {source} is not read as {format}.")
        return hub_rows(source, bad)
    if isinstance(source, str) and source == "-":
        return _read(getattr(sys.stdin, "buffer", sys.stdin), "<stdin>", None, _READERS[format or "jsonl"], bad)
    if not isinstance(source, (str, Path)):
        return _read(source, name_of(source), None, _READERS[format or "jsonl"], bad)
    path = Path(source)
    place = spelled(source)
    found = format or format_of(path)
    if path.is_dir():
        if format not in (None, "parquet") or not (inside := parquet_files(path)):
            raise DataError(f"{path} is a folder without Parquet files; name a file in it.")
        return chain.from_iterable(
            _read(each, str(each), language_of(each, knows), parquet_rows, bad) for each in inside
        )
    if not (path.exists() or is_file(source)):
        raise DataError(f"There is no file {place}.")
    if found is None:
        raise DataError(f"{place} has an unknown suffix; the known ones are {', '.join(SUFFIXES)}.")
    reader = _READERS[found]
    if found in ("csv", "tsv"):
        reader = partial(reader, columns=columns)
    return _read(source, place, language_of(path, knows), reader, bad)


def _read(
    source: str | Path | IO[Any], place: str, language: str | None, reader: _Reader, bad: BadRows
) -> Iterator[DataRow]:
    with opened(source, place) as file:
        yield from reader(file, place, language, bad)
