"""Lines of a file as bytes, so that one that is not UTF-8 spoils no other."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xmodular.errors import DataError

LONGEST_LINE = 2**25  # bytes; of JSON, they may become twenty times as many
# Of a packed file that is read whole: bytes, and so many times the packed ones; values of JSON, and so many a byte.
_MOST_UNPACKED = (2**25, 20)
_MOST_VALUES = (2**22, 2)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # its marks


@contextmanager
def opened(source: Path | IO[Any], place: str) -> Iterator[Any]:
    """A file, unpacked if its name ends in ``.gz``, in letters of any size; one that is open already stays open.

    Raises:
        DataError: it cannot be read, now or while it is.
    """
    try:
        if not isinstance(source, Path):
            yield _Encoded(source) if isinstance(source.read(0), str) else source
        elif source.name.lower().endswith(".gz"):
            with gzip.open(source) as file:
                yield file
        else:
            with source.open("rb") as file:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def lines(file: Any) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers, from 1, ends included and a byte order mark left out; None for one that is too long."""
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            raw = without_mark(raw)
        if len(raw) <= LONGEST_LINE:
            yield number, raw
            continue
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(LONGEST_LINE)
        yield number, None


def whole(file: Any) -> bytes:
    """All of a file, whose values are to be in memory together.

    Raises:
        OSError: it is packed, and would be far larger than its packed size suggests.
    """
    if not isinstance(file, gzip.GzipFile):
        return bytes(file.read())
    packed = os.fstat(file.fileno()).st_size
    most = _MOST_UNPACKED[0] + _MOST_UNPACKED[1] * packed
    raw = file.read(most + 1)
    values = sum(map(raw.count, (b",", b"[", b"{")))
    if len(raw) > most or values > _MOST_VALUES[0] + _MOST_VALUES[1] * packed:
        raise OSError(f"its {packed:,} bytes unpack to far more than data do; unpack it first")
    return raw


def without_mark(raw: bytes) -> bytes:
    """The beginning of a file without its byte order mark.

    Raises:
        OSError: it is UTF-16.
    """
    if raw.startswith(_UTF_16) and b"\0" in raw[:4]:
        raise OSError("it is UTF-16; save it as UTF-8")
    return raw.removeprefix(BYTE_ORDER_MARK)


LONE_RETURN = "a carriage return stands alone in it; lines end in \\n or \\r\\n"
TOO_LONG = f"the line is longer than {LONGEST_LINE // 2**20} MiB"


def not_utf8(error: UnicodeDecodeError) -> str:
    """What to say of bytes that are not UTF-8."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} is the line's number {error.start + 1})"


class _Encoded:
    """A text file as bytes. Half surrogates become what is not UTF-8, so that they are noticed."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def readline(self, most: int = -1) -> bytes:
        text: str = self.file.readline(most)
        return text.encode("utf-8", "surrogatepass")

    def read(self) -> bytes:
        text: str = self.file.read()
        return text.encode("utf-8", "surrogatepass")


def name_of(file: IO[Any]) -> str:
    """What an open file is called in messages."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"<{'text' if isinstance(file, io.TextIOBase) else 'file'}>"
