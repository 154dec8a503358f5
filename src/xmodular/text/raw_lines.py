"""Read raw lines from files (text, JSON Lines and Parquet), never a whole file in memory.

A reader yields lines as strings, and None where a document ends: after a blank line of a text file, after a row of
JSON Lines or Parquet (a row's text may have several lines), and at the end of a file. Anything that is not text is
counted and skipped.
"""

from __future__ import annotations

import hashlib
import json
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from xmodular.addresses import spelled
from xmodular.errors import DataError
from xmodular.rows.lines import BYTE_ORDER_MARK, UTF_16_MARKS, lines
from xmodular.rows.opening import kind_of, opened, reaching, state_of, stored
from xmodular.rows.parquet import TEXT_TYPES, batches, opened_parquet
from xmodular.text.counts import LineCounts

_KINDS = ("txt", "jsonl", "parquet")
_BYTES_A_CHARACTER = 4
_GZIP = b"\x1f\x8b\x08"
_HEAD = 4096  # bytes that show the kind of a file
_DIGESTS: dict[tuple[str, int, object], str] = {}  # of files, by their `state_of`


def is_text(path: Path) -> bool:
    """Whether a file is of one of the kinds that can be read: .txt and .jsonl, packed or not, and .parquet."""
    return kind_of(path) in _KINDS


def read_file(path: Path, field: str, counts: LineCounts, max_line: int) -> Iterator[str | None]:
    """The raw lines of a file, and None at the ends of documents.

    Args:
        path: the file, or the address of one; its suffix, in capitals or not, says what it is.
        field: the field, or column, that has the text of a row.
        counts: counts what cannot be read.
        max_line: most characters per line; longer lines are split, at a space if possible.

    Raises:
        DataError: the file is missing or damaged, is UTF-16, is compressed under another name, or no row has the field.
    """
    place = spelled(path)
    with opened(path, place) as file:
        if kind_of(path) == "parquet":
            yield from _parquet(file, place, field, counts, max_line)
            return
        if wrong := _no_utf8(file.peek(_HEAD)[:_HEAD]):
            raise DataError(f"{place} {wrong}.")
        if kind_of(path) == "jsonl":
            yield from _json_lines(file, place, field, counts, max_line)
        else:
            yield from _text(file, counts, max_line)


def _no_utf8(head: bytes) -> str | None:
    """The kind of a file that does not begin like UTF-8 text, and what to do; None if it does.

    Much of UTF-16 could pass for text: letters, each with a NUL. Without a byte order mark it is recognised by these.
    """
    if head.startswith(_GZIP):
        return "is compressed with gzip: rename it to end in .gz"
    zeros = [head[parity::2].count(0) for parity in (0, 1)]
    if zeros[0] + zeros[1] and (head.startswith(UTF_16_MARKS) or (min(zeros) == 0 and 3 * max(zeros) > len(head) // 2)):
        return "is UTF-16: save it as UTF-8, for instance with iconv -f UTF-16 -t UTF-8"
    return None


def digest(path: Path, advance: Callable[[int], None] = lambda count: None) -> str:
    """A hash of a file's content. A file whose size and time have not changed is read only once per process.

    Args:
        path: the file.
        advance: called with the number of bytes read since the last call.

    Raises:
        DataError: the file cannot be read.
    """
    sha = hashlib.sha256()
    with reaching(spelled(path)):
        known = state_of(path)
        if known in _DIGESTS:
            advance(known[1])
            return _DIGESTS[known]
        with stored(path) as file:
            while chunk := file.read(2**20):
                sha.update(chunk)
                advance(len(chunk))
    return _DIGESTS.setdefault(known, sha.hexdigest())


def row_lines(text: Any, counts: LineCounts, max_line: int) -> Iterator[str | None]:
    """The lines of one row's text, split if they are very long, and then None."""
    if not isinstance(text, str):
        counts.no_text += 1
        return
    for line in text.split("\n"):
        pieces = _cut(line, max_line)
        counts.cut += len(pieces) > 1
        yield from pieces
    yield None


def _cut(line: str, most: int) -> list[str]:
    """Pieces of at most `most` characters, split at a space if there is one."""
    pieces = []
    start = 0
    while len(line) - start > most:
        space = line.rfind(" ", start + 1, start + most + 1)
        end = start + most if space < 0 else space
        pieces.append(line[start:end])
        start = end
    return [*pieces, line[start:]]


def _text(file: IO[bytes], counts: LineCounts, max_line: int) -> Iterator[str | None]:
    most = _BYTES_A_CHARACTER * max_line + 2  # longer ones exceed max_line; 2 for the line end
    decoder = getincrementaldecoder("utf-8")()  # keeps half a character at the end of a part
    long = False  # within a line that did not fit
    carry = ""  # the last piece of such a line
    for raw, ended in _buffers(file, most):
        try:
            line = raw.decode("utf-8") if ended and not long else carry + decoder.decode(raw, ended)
        except UnicodeDecodeError:
            counts.undecodable += 1
            if carry:
                yield carry
            decoder.reset()
            long, carry = not ended, ""
            continue
        pieces = _cut(line.rstrip("\r\n") if ended else line, max_line)
        carry = "" if ended else pieces.pop()
        counts.cut += not long and (len(pieces) > 1 or not ended)
        yield from pieces
        if ended and not long and not line.strip():
            yield None
        long = not ended
    yield None


def _buffers(file: IO[bytes], most: int) -> Iterator[tuple[bytes, bool]]:
    """Lines, or parts of lines longer than `most` bytes, and whether the line ends there."""
    raw = file.readline(most).removeprefix(BYTE_ORDER_MARK)
    while raw:
        following = b"" if raw.endswith(b"\n") else file.readline(most)
        if raw.endswith(b"\n"):
            yield raw, True
            raw = file.readline(most)
        else:
            yield raw, not following
            raw = following


def _json_lines(file: IO[bytes], place: str, field: str, counts: LineCounts, max_line: int) -> Iterator[str | None]:
    found, others = False, None
    for _, raw in lines(file):
        if raw is None:
            counts.too_long += 1
            continue
        if not raw.strip():
            counts.empty += 1
            continue
        try:
            row = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            counts.undecodable += 1
            continue
        except (ValueError, RecursionError):
            counts.broken += 1
            continue
        if isinstance(row, dict) and field in row:
            found = True
            yield from row_lines(row[field], counts, max_line)
        else:
            counts.no_text += 1
            others = others or (list(row) if isinstance(row, dict) else None)
    if not found and others is not None:
        raise DataError(no_field(place, field, others))


def no_field(where: str, field: str, others: list[str]) -> str:
    """The message if no row has the text field."""
    return f"{where} has no field {field!r}; it has {', '.join(map(repr, others))}. Choose one with --text-field."


def _parquet(file: IO[bytes], place: str, field: str, counts: LineCounts, max_line: int) -> Iterator[str | None]:
    import pyarrow

    try:
        with opened_parquet(file, place) as (content, schema):
            if field not in schema.names:
                raise DataError(no_field(place, field, schema.names))
            kind = schema.field(field).type
            values = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
            if not any(getattr(pyarrow.types, f"is_{name}")(values) for name in TEXT_TYPES):
                raise DataError(f"{place}: the column {field!r} holds {kind}, not text. Choose one with --text-field.")
            for batch in batches(content, place, [field]):
                column = batch.column(0)
                if pyarrow.types.is_dictionary(column.type):
                    column = column.dictionary_decode()
                # As bytes: Arrow does not promise that its strings are UTF-8.
                for value in column.cast(pyarrow.large_binary()).to_pylist():
                    yield from _parquet_value(value, counts, max_line)
    except pyarrow.ArrowException as error:
        raise DataError(f"{place} cannot be read as Parquet: {error}") from error


def _parquet_value(value: bytes | None, counts: LineCounts, max_line: int) -> Iterator[str | None]:
    try:
        text = None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        counts.undecodable += 1
        return
    yield from row_lines(text, counts, max_line)
