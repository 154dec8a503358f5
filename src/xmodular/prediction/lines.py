"""A row as a line of JSON, and files of such lines as CSV or Parquet."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")


def line_of(row: Mapping[str, Any]) -> bytes:
    """One line of JSON in UTF-8. Text that UTF-8 cannot hold (lone surrogates) is escaped, so that nothing is lost."""
    try:
        return (json.dumps(row, ensure_ascii=False, default=_plain) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(row, default=_plain) + "\n").encode()


def _plain(value: Any) -> Any:
    """What JSON has no form for, as text or lists; bytes in base64, dates in ISO 8601."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    return str(value)


def with_more(line: bytes, more: Mapping[str, Any]) -> bytes:
    """A line of an object with further names and values, which it has not yet."""
    return b"{" + line_of(more)[1:] if line == b"{}\n" else line[:-2] + b", " + line_of(more)[1:]


def is_with_more(line: bytes, before: bytes) -> bool:
    """Whether a line is what `with_more` makes of another."""
    return line.startswith(b"{" if before == b"{}\n" else before[:-2] + b", ")


def bad_lines(noted: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Lines for rows that could not be read; without the row itself where it cannot be written either."""
    lines = []
    for each in noted:
        try:
            lines.append(line_of(each))
        except (RecursionError, ValueError):
            lines.append(line_of({"place": each["place"], "reason": each["reason"]}))
    return lines


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of `line_of` lines."""
    with open(path, "rb") as file:
        for line in file:
            yield json.loads(line)


def write_as(parts: Sequence[Path], target: Path, suffix: str) -> None:
    """Put files of JSON lines together into one file, in the format of a suffix.

    Columns are those of all rows, in the order in which they first appear; a row without one has it empty.
    """
    if suffix == ".parquet":
        _write_parquet(parts, target)
    elif suffix == ".jsonl":
        with open(target, "wb") as out:
            for part in parts:
                with open(part, "rb") as file:
                    while block := file.read(1 << 20):
                        out.write(block)
    else:
        _write_table(parts, target, "\t" if suffix == ".tsv" else ",")


def _rows(parts: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from read_lines(part)


def _write_table(parts: Sequence[Path], target: Path, delimiter: str) -> None:
    """Lists and mappings are written as JSON, truth values as true and false, nothing as an empty field."""
    columns = list(dict.fromkeys(name for row in _rows(parts) for name in row))
    with open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_LineEnds(file), delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(columns)
        for row in _rows(parts):
            writer.writerow([_cell(row.get(name)) for name in columns])


class _LineEnds:
    """A file whose records end in a line feed alone.

    The writer quotes a field with a carriage return in it (without quotes, it would end the record) only where its own
    line ends have one.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, record: str) -> int:
        return self._file.write(record.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> Any:
    if isinstance(value, (list, dict, bool)):
        return json.dumps(value, ensure_ascii=False)
    return value


def _write_parquet(parts: Sequence[Path], target: Path) -> None:
    """One row group per part; a column whose values have no common type is written as JSON text."""
    columns = list(dict.fromkeys(name for row in _rows(parts) for name in row))
    fields: dict[str, pa.Field | None] = {name: pa.field(name, pa.null()) for name in columns}  # None: as text
    widened: set[str] = set()
    for number, part in enumerate(parts):
        rows = list(read_lines(part))
        for name, field in fields.items():
            if field is not None:
                found = fields[name] = _common(field, [row.get(name) for row in rows])
                if number and found is not None and found.type != field.type:
                    widened.add(name)
    # What came before a type was widened may not fit: no float equals 2**60 + 1.
    for part in parts if widened else ():
        rows = list(read_lines(part))
        for name in widened:
            field = fields[name]
            if field is not None and not _fits(field.type, [row.get(name) for row in rows]):
                fields[name] = None
    schema = pa.schema([pa.field(name, pa.string()) if field is None else field for name, field in fields.items()])
    with pq.ParquetWriter(target, schema) as writer:
        for part in parts:
            rows = list(read_lines(part))
            made = []
            for name, field in fields.items():
                values = [row.get(name) for row in rows]
                if field is None:
                    values = [None if each is None else json.dumps(each, ensure_ascii=False) for each in values]
                made.append(pa.array(values, schema.field(name).type))
            writer.write_table(pa.Table.from_arrays(made, schema=schema))


def _fits(kind: pa.DataType, values: Sequence[Any]) -> bool:
    try:
        pa.array(values, kind)
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
        return False
    return True


def _common(field: pa.Field, values: Sequence[Any]) -> pa.Field | None:
    """The type of a column once it has these values too; None if there is none that Parquet can hold."""
    try:
        found = pa.field(field.name, pa.array(values).type)
        one = pa.unify_schemas([pa.schema([field]), pa.schema([found])], promote_options="permissive")
        pa.array(values, one.field(0).type)
        pq.write_table(one.empty_table(), io.BytesIO())
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
        return None
    answer: pa.Field = one.field(0)
    return answer
