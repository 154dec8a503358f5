"""Read files of `torch.save` as data: nothing that the file names is imported, nothing in it is called.

`pickles` reads the pickle inside; tensors become descriptions (`StoredTensor`) that read their bytes from the
mapped file on demand. Sizes are checked against the file before anything is read, so a false size costs no memory,
and the archive's checksums are checked, so a flipped bit is found.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from xmodular.console import progress
from xmodular.conversion.pickles import read_pickle, shown
from xmodular.errors import DataError

_CHUNK = 2**24  # bytes of a checksum at a time
# The first two pickles of a file from before torch 1.6, which is not an archive (torch.serialization).
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def load(path: Path) -> Any:
    """Read a file of `torch.save` without running anything in it.

    Args:
        path: an archive (torch 1.6 and later) or a file in the older format.

    Returns:
        What was saved: plain containers and values, `StoredTensor` for tensors, `StandIn` for objects of all other
        classes.

    Raises:
        DataError: the file does not exist, is damaged or truncated, or is not a file of `torch.save`.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        with path.open("rb") as opened:
            # A private mapping: its tensors may be written to without changing the file.
            file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
            return _load_archive(opened, file) if file[:4] == b"PK\x03\x04" else _load_old(file)
    except Exception as error:  # damaged bytes can end in any of them
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is damaged or not a file of torch.save: {reason:.300}") from error


def _load_archive(opened: BinaryIO, file: mmap.mmap) -> Any:
    records = _records(opened, file)
    pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it is a zip archive with {len(pickles)} data.pkl; a file of torch.save has one")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in records:
        start, size = records[f"{root}byteorder"]
        order = file[start : start + min(size, 20)]
        if order != b"little":
            raise ValueError(f"its byte order is {order!r}; only b'little' can be read")
    start, size = records[pickles[0]]
    content, storages = read_pickle(io.BytesIO(file[start : start + size]), file)
    for key, storage in storages.items():
        if f"{root}data/{key}" not in records:
            raise ValueError(f"the storage {shown(key)} is missing")
        storage.start, size = records[f"{root}data/{key}"]
        if size != storage.numel * storage.dtype.itemsize:
            raise ValueError(f"the storage {shown(key)} has {size} bytes, not {storage.numel} of {storage.dtype}")
    return content


def _records(opened: BinaryIO, file: mmap.mmap) -> dict[str, tuple[int, int]]:
    """Start and size in bytes of the records of an archive, their checksums checked."""
    with zipfile.ZipFile(opened) as archive:
        found = archive.infolist()
    if sum(info.compress_size for info in found) > len(file):
        raise ValueError("its records claim more bytes than the file has")
    records: dict[str, tuple[int, int]] = {}
    with memoryview(file) as content, progress("Checking the file", len(found)) as advance:
        for info in found:
            header = file[info.header_offset : info.header_offset + 30]
            signature, flags, method, name_size, extra_size = struct.unpack("<4s2xHH16xHH", header)
            name = file[info.header_offset + 30 : info.header_offset + 30 + name_size]
            start = info.header_offset + 30 + name_size + extra_size
            if signature != b"PK\x03\x04" or name != info.orig_filename.encode() or info.filename in records:
                raise ValueError(f"its table of contents is wrong at {info.filename!r}")
            if flags & 1 or method or info.compress_type or info.compress_size != info.file_size:
                raise ValueError(
                    f"the record {info.filename!r} is compressed or encrypted, which torch.save never does"
                )
            records[info.filename] = start, info.file_size
            checksum, stop = 0, start + info.file_size
            for place in range(start, stop, _CHUNK):
                checksum = zlib.crc32(content[place : min(place + _CHUNK, stop)], checksum)
            if stop > len(file) or checksum != info.CRC:
                raise ValueError(f"the checksum of {info.filename!r} is wrong")
            advance(1)
    return records


def _load_old(file: mmap.mmap) -> Any:
    """The form before torch 1.6: pickles one after the other, then the storages. It has no checksums."""
    stream = cast(BinaryIO, file)
    if read_pickle(stream, file)[0] != _MAGIC or read_pickle(stream, file)[0] != _PROTOCOL:
        raise ValueError("it is neither an archive nor in the older format")
    read_pickle(stream, file)  # sizes of types on the machine that wrote it
    content, storages = read_pickle(stream, file)
    keys = read_pickle(stream, file)[0]
    known = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not known or set(keys) != storages.keys() or len(keys) != len(storages):
        raise ValueError("its list of storages does not match its tensors")
    place = file.tell()
    for key in keys:
        storage = storages[key]
        size = storage.numel * storage.dtype.itemsize
        if file[place : place + 8] != storage.numel.to_bytes(8, "little") or place + 8 + size > len(file):
            raise ValueError(f"the storage {shown(key)} is truncated or has another size")
        storage.start = place + 8
        place += 8 + size
    if place != len(file):
        raise ValueError(f"{len(file) - place} bytes follow after its end")
    return content
