"""Read a file's lines as bytes, so that a line that is not UTF-8 does not affect others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xmodular.rows.opening import Unpacked

LONGEST_LINE = 2**25  # bytes; of JSON, they may become twenty times as many
# Limits for a compressed file that is read whole: bytes, and times its size; JSON values, and values per byte.
_MOST_UNPACKED = (2**25, 20)
_MOST_VALUES = (2**22, 2)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")  # its marks


def lines(file: Any) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers from 1, with line ends and without a byte order mark; None for lines too long."""
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
    """Read a whole file into memory.

    Raises:
        OSError: it is compressed, and far larger than its compressed size suggests.
    """
    if not isinstance(file, Unpacked):
        return bytes(file.read())
    packed = file.packed
    most = _MOST_UNPACKED[0] + _MOST_UNPACKED[1] * packed
    raw = file.read(most + 1)
    values = sum(map(raw.count, (b",", b"[", b"{")))
    if len(raw) > most or values > _MOST_VALUES[0] + _MOST_VALUES[1] * packed:
        raise OSError(f"its {packed:,} bytes decompress to far more than usual data; decompress it first")
    return raw


def without_mark(raw: bytes) -> bytes:
    """The beginning of a file without its byte order mark.

    Raises:
        OSError: it is UTF-16.
    """
    if raw.startswith(UTF_16_MARKS) and b"\0" in raw[:4]:
        raise OSError("it is UTF-16; save it as UTF-8")
    return raw.removeprefix(BYTE_ORDER_MARK)


def decoded(file: Any) -> Iterator[tuple[int, str, str]]:
    """Number, text without its line end, and the problem with it, if any."""
    for number, raw in lines(file):
        if raw is None:
            yield number, "", TOO_LONG
            continue
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
            yield number, line, LONE_RETURN if "\r" in line else ""
        except UnicodeDecodeError as error:
            yield number, "", not_utf8(error)


LONE_RETURN = "it contains a single carriage return; lines must end in \\n or \\r\\n"
TOO_LONG = f"the line is longer than {LONGEST_LINE // 2**20} MiB"


def not_utf8(error: UnicodeDecodeError) -> str:
    """The message about bytes that are not UTF-8."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start + 1} of the line)"
