"""Write rows as lines of JSON, and join files of such lines into one file of any format."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmodular.rows.opening import kind_of, packed
from xmodular.rows.vectors import Vectors

Tagged = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]
_WHOLE = 2.0**53  # up to here, a float can represent every whole number


def line_of(row: Mapping[str, Any]) -> bytes:
    """One line of JSON in UTF-8. Text that UTF-8 cannot encode (lone surrogates) is escaped, so nothing is lost."""
    try:
        return (json.dumps(row, ensure_ascii=False, default=_plain) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(row, default=_plain) + "\n").encode()


def _plain(value: Any) -> Any:
    """Values that JSON cannot represent, as text or lists; bytes in base64, dates in ISO 8601."""
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
    """A line with an object to which new names and values are added."""
    return b"{" + line_of(more)[1:] if line == b"{}\n" else line[:-2] + b", " + line_of(more)[1:]


def is_with_more(line: bytes, before: bytes) -> bool:
    """Whether a line is the result of `with_more` for another line."""
    return line.startswith(b"{" if before == b"{}\n" else before[:-2] + b", ")


def bad_lines(noted: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Lines for rows that could not be read; without the row itself if it cannot be written either."""
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


def write_as(
    parts: Sequence[Path], target: Path, name: str, none: Mapping[str, Any], tagged: Tagged | None = None
) -> None:
    """Join files of JSON lines into one file, in the format of a name's suffix, possibly compressed.

    The columns are those of all rows, in order of first appearance; missing values are empty.

    Args:
        parts: the files of lines.
        target: the file to write.
        name: a name that ends in one of `WRITTEN`, possibly compressed.
        none: without rows: the columns to write, with values of their types.
        tagged: for CoNLL: returns the words of a row with their tags.
    """
    with packed(target, name) as out:
        _WRITERS[kind_of(name)](parts, out, none, tagged)


def write_vectors(parts: Sequence[Path], target: Path, name: str, vectors: Vectors) -> None:
    """Join files of JSON lines with packed vectors into one file, .npy or .jsonl (see `Vectors`)."""
    with packed(target, name) as out:
        if kind_of(name) == "npy":
            vectors.write_npy(parts, out)
            return
        for part in parts:
            with open(part, "rb") as file:
                out.writelines(line_of(vectors.lists(line)) for line in file)


def _write_lines(parts: Sequence[Path], out: IO[bytes], *_: Any) -> None:
    for part in parts:
        with open(part, "rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)


def _write_csv(parts: Sequence[Path], out: IO[bytes], none: Mapping[str, Any], *_: Any, delimiter: str = ",") -> None:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    _write_table(parts, text, delimiter, none)
    text.flush()
    text.detach()


def _write_conll(parts: Sequence[Path], out: IO[bytes], none: Mapping[str, Any], tagged: Tagged | None) -> None:
    """A word and its tag per line, a blank line after each sentence."""
    assert tagged is not None
    for row in _rows(parts):
        out.write("".join(f"{word}\t{tag}\n" for word, tag in tagged(row)).encode() + b"\n")


def _write_parquet(parts: Sequence[Path], out: IO[bytes], none: Mapping[str, Any], *_: Any) -> None:
    write_parquet(parts, [out], none)


_WRITERS: dict[str, Callable[..., None]] = {
    "jsonl": _write_lines,
    "csv": _write_csv,
    "tsv": partial(_write_csv, delimiter="\t"),
    "parquet": _write_parquet,
    "conll": _write_conll,
}
WRITTEN = tuple(_WRITERS)  # the formats for output


def _rows(parts: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from read_lines(part)


def _write_table(parts: Sequence[Path], file: TextIO, delimiter: str, none: Mapping[str, Any]) -> None:
    """Lists and mappings are written as JSON, booleans as true and false, null as an empty field.

    A reader of TSV could mistake a line of a quoted field for a row with as many tabs; a quoted header shows that the
    file uses quotes. It also protects a byte order mark at the beginning of the first name.
    """
    columns: dict[str, None] = {}
    quoted = False
    for row in _rows(parts):
        columns |= dict.fromkeys(row)
        texts = [value for value in row.values() if isinstance(value, str)]
        quoted |= any("\n" in text for text in texts) and any("\t" in text for text in texts)
    names = list(columns or none)
    quoted = (quoted and delimiter == "\t") or (bool(names) and names[0].startswith("\ufeff"))
    out = _LineEnds(file)
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    quoting = csv.writer(out, delimiter=delimiter, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    (quoting if quoted else writer).writerow(names)
    for row in _rows(parts):
        writer.writerow([_cell(row.get(name), row) for name in names])


class _LineEnds:
    """A file whose records end in a line feed only.

    The csv writer only quotes a field with a carriage return (which would end the record otherwise) if its own line
    ends contain one.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, record: str) -> int:
        return self._file.write(record.removesuffix("\r\n") + "\n")


def _cell(value: Any, row: Mapping[str, Any]) -> Any:
    """A value of a row as a cell.

    A list must not equal a text that occurs in another cell, as an answer may occur in a context; JSON may begin with
    any number of spaces.
    """
    if isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False)
        while any(isinstance(each, str) and text in each for each in row.values()):
            text = f" {text}"
        return text
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return int(value)  # labels may be numbers, and the text 1.0 is not the text 1
    return value


def _as_text(value: Any, row: Mapping[str, Any]) -> str | None:
    return None if value is None else str(_cell(value, row))


def write_parquet(
    parts: Sequence[Path],
    targets: Sequence[Path | IO[bytes]],
    none: Mapping[str, Any],
    stored: tuple[pa.Schema, Iterator[pa.Table]] | None = None,
    vectors: Vectors | None = None,
) -> None:
    """Write one row group per part, into one file or into one file per part.

    A column whose values have no common type is written as text, as in CSV.

    Args:
        parts: files of JSON lines.
        targets: one file, or one for each part.
        none: as for `write_as`.
        stored: columns that are already Parquet, as one table of rows per part: they keep their types, and the values
            of the lines in these columns are ignored.
        vectors: a column of vectors, the last one.
    """
    kept = pa.schema([]) if stored is None else stored[0]
    fields = _fields(parts, none, [*kept.names, *([vectors.name] if vectors else [])])
    made = [pa.field(name, pa.string()) if field is None else field for name, field in fields.items()]
    if vectors is not None:
        made.append(pa.field(vectors.name, vectors.type))
    schema = pa.schema([*kept, *made], metadata=kept.metadata)
    writer: pq.ParquetWriter | None = None
    try:
        for number, part in enumerate(parts):
            rows = list(read_lines(part))
            columns = [] if stored is None else next(stored[1]).columns
            for name, field in fields.items():
                values = [row.get(name) if field is not None else _as_text(row.get(name), row) for row in rows]
                columns.append(pa.array(values, schema.field(name).type))
            if vectors is not None:
                columns.append(vectors.array(rows))
            if writer is None or len(targets) > 1:
                if writer is not None:
                    writer.close()
                writer = pq.ParquetWriter(targets[number], schema)
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    finally:
        if writer is not None:
            writer.close()


def _fields(parts: Sequence[Path], none: Mapping[str, Any], kept: Sequence[str]) -> dict[str, pa.Field | None]:
    """The columns without a stored type, with types for all their values; None for text."""
    columns = dict.fromkeys(name for row in _rows(parts) for name in row) or none
    names = [name for name in columns if name not in kept]
    fields: dict[str, pa.Field | None] = {name: pa.field(name, pa.null()) for name in names}
    if columns is none:
        return {name: _common(pa.field(name, pa.null()), [none[name]]) for name in names}
    widened: set[str] = set()
    for number, part in enumerate(parts):
        rows = list(read_lines(part))
        for name, field in fields.items():
            if field is not None:
                found = fields[name] = _common(field, [row.get(name) for row in rows])
                if number and found is not None and found.type != field.type:
                    widened.add(name)
    # Values from before a type was widened may not fit: no float equals 2**60 + 1.
    for part in parts if widened else ():
        rows = list(read_lines(part))
        for name in widened:
            field = fields[name]
            if field is not None and not _fits(field.type, [row.get(name) for row in rows]):
                fields[name] = None
    return fields


def _fits(kind: pa.DataType, values: Sequence[Any]) -> bool:
    try:
        pa.array(values, kind)
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
        return False
    return True


def _common(field: pa.Field, values: Sequence[Any]) -> pa.Field | None:
    """The type of a column once it has these values too; None if Parquet has none."""
    try:
        found = pa.field(field.name, pa.array(values).type)
        one = pa.unify_schemas([pa.schema([field]), pa.schema([found])], promote_options="permissive")
        pa.array(values, one.field(0).type)
        pq.write_table(one.empty_table(), io.BytesIO())
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
        return None
    answer: pa.Field = one.field(0)
    return answer
