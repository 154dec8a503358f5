"""Files of `torch.save`, read as data: nothing that the file names is imported, nothing in it is called.

A pickle is a program that names functions and calls them. Here every name leads to a stand-in of ours that keeps what
it is given, but for those few that make up tensors; these become descriptions (`StoredTensor`) that read their bytes
from the mapped file when asked. Sizes are checked against the file before anything is read, so a false size costs no
memory, and the archive's checksums are checked, so a flipped bit is found.
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from xmodular.console import progress
from xmodular.errors import DataError

_CHUNK = 2**24  # bytes of a checksum at a time
# The first two pickles of a file from before torch 1.6, which is no archive (torch.serialization).
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class StandIn:
    """An object of a class, or the result of a function, that the file names: it keeps what the file gave.

    Attributes:
        kind: the name in the file, such as "argparse.Namespace".
        args: arguments of the call.
        state: what the file sets as the object's state.
    """

    kind = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> StandIn:
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *args: Any) -> StandIn:
        """Where the file calls what it was given, that stays what it is."""
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of mappings are dropped: no field that is read here comes that way."""

    def append(self, value: Any) -> None:
        """Items of lists are dropped likewise."""

    add = append

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class _Table(dict[Any, Any]):
    """What an ordered dictionary becomes; its attributes (a state dict's metadata) are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Named:
    """What a name of torch's becomes: a function of ours, or a dtype. The file cannot change it."""

    def __init__(self, make: Any = None, dtype: torch.dtype | None = None) -> None:
        self._make, self.dtype = make, dtype

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a function")


@dataclass(eq=False)
class _Storage:
    """A block of numbers in the file; where it lies is known once the file's table is read."""

    file: mmap.mmap
    dtype: torch.dtype
    numel: int
    start: int | None = None

    def read(self) -> Tensor:
        if not self.numel or self.start is None:
            return torch.empty(0, dtype=self.dtype)
        if self.start % self.dtype.itemsize:  # files that are no archives do not align
            stop = self.start + self.numel * self.dtype.itemsize
            return torch.frombuffer(bytearray(self.file[self.start : stop]), dtype=self.dtype)
        return torch.frombuffer(self.file, dtype=self.dtype, count=self.numel, offset=self.start)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file: shape, strides and offset in elements of its storage."""

    storage: _Storage = field(repr=False)
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        if len(self.shape) != len(self.stride) or any(type(number) is not int or number < 0 for number in numbers):
            raise pickle.UnpicklingError("a tensor has a shape, strides or an offset that are no natural numbers")
        count, last = 1, self.offset
        for size, step in zip(self.shape, self.stride, strict=True):
            count *= size
            last += (size - 1) * step
        if count and (last >= self.storage.numel or count > self.storage.numel):
            raise pickle.UnpicklingError(
                f"a tensor of shape {self.shape} claims more than its storage of {self.storage.numel} elements"
            )

    @property
    def dtype(self) -> torch.dtype:
        return self.storage.dtype

    def same_place(self, other: StoredTensor) -> bool:
        """Whether both are the same elements of the same storage."""
        mine, its = ((t.offset, t.shape, t.stride) for t in (self, other))
        return self.storage is other.storage and mine == its

    def read(self) -> Tensor:
        """The tensor, mapped: memory holds the pages that are in use."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        return self.storage.read().as_strided(self.shape, self.stride, self.offset)


class _Reader(pickle.Unpickler):
    """Unpickles with stand-ins for all that the file names."""

    def __init__(self, data: bytes, file: mmap.mmap) -> None:
        super().__init__(io.BytesIO(data))
        self._file = file
        self._classes: dict[str, Any] = {
            "collections.OrderedDict": _Table,
            "torch._utils._rebuild_tensor": _Named(_tensor),
            "torch._utils._rebuild_tensor_v2": _Named(_tensor),
            "torch._utils._rebuild_parameter": _Named(_parameter),
        }
        self._classes |= {f"torch.{name}": _Named(dtype=dtype) for name, dtype in _DTYPES.items()}
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self._classes:
            self._classes[full] = type("StandIn", (StandIn,), {"kind": full})
        return self._classes[full]

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError("it refers to something that is no storage")
        kind, key, numel = pid[1], pid[2], pid[4]
        dtype = kind.dtype if isinstance(kind, _Named) else None
        if dtype is None or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise pickle.UnpicklingError(f"the storage {key!r:.40} has no size, or a type of numbers that is unknown")
        storage = self.storages.setdefault(key, _Storage(self._file, dtype, numel))
        if (storage.dtype, storage.numel) != (dtype, numel):
            raise pickle.UnpicklingError(f"the storage {key!r:.40} has two types or sizes")
        return storage


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise pickle.UnpicklingError("a tensor without a storage, a shape or strides")
    return StoredTensor(storage, offset, shape, stride)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def load(path: Path) -> Any:
    """Read a file of `torch.save` without running anything in it.

    Args:
        path: an archive (torch 1.6 and later) or the older form.

    Returns:
        What was saved: plain containers and values, `StoredTensor` for tensors, `StandIn` for objects of all other
        classes.

    Raises:
        DataError: the file is not there, damaged, cut off, or no such file.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        with path.open("rb") as opened:
            # A private mapping: tensors of it may be written to, the file stays.
            file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
            return _load_archive(opened, file) if file[:4] == b"PK\x03\x04" else _load_old(file)
    except Exception as error:  # damaged bytes can end in any of them
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is damaged, or no file of torch.save: {reason:.300}") from error


def _unpickle(data: bytes, file: mmap.mmap) -> tuple[Any, dict[str, _Storage]]:
    for opcode, argument, _ in pickletools.genops(data):
        # Python makes room for as many memos as the highest number says.
        if "PUT" in opcode.name and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"a memo has the number {argument}")
    reader = _Reader(data, file)
    return reader.load(), reader.storages


def _load_archive(opened: BinaryIO, file: mmap.mmap) -> Any:
    records = _records(opened, file)
    pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it is a zip archive with {len(pickles)} data.pkl; a file of torch.save has one")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in records:
        start, size = records[f"{root}byteorder"]
        if file[start : start + size] != b"little":
            raise ValueError(f"its byte order is {file[start : start + size]!r}; only b'little' can be read")
    start, size = records[pickles[0]]
    content, storages = _unpickle(file[start : start + size], file)
    for key, storage in storages.items():
        if f"{root}data/{key}" not in records:
            raise ValueError(f"the storage {key!r:.40} is missing")
        storage.start, size = records[f"{root}data/{key}"]
        if size != storage.numel * storage.dtype.itemsize:
            raise ValueError(f"the storage {key!r} has {size} bytes, not {storage.numel} elements of {storage.dtype}")
    return content


def _records(opened: BinaryIO, file: mmap.mmap) -> dict[str, tuple[int, int]]:
    """Start and size in bytes of the records of an archive, their checksums checked."""
    with zipfile.ZipFile(opened) as archive:
        found = archive.infolist()
    if sum(info.compress_size for info in found) > len(file):
        raise ValueError("its records claim more bytes than it has")
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

    def following() -> tuple[Any, dict[str, _Storage]]:
        start = file.tell()
        for _ in pickletools.genops(cast(BinaryIO, file)):
            pass
        return _unpickle(file[start : file.tell()], file)

    if following()[0] != _MAGIC or following()[0] != _PROTOCOL:
        raise ValueError("it is neither an archive nor of the older form")
    following()  # sizes of types on the machine that wrote it
    content, storages = following()
    keys = following()[0]
    if not isinstance(keys, list) or set(keys) != storages.keys() or len(keys) != len(storages):
        raise ValueError("its list of storages does not fit its tensors")
    place = file.tell()
    for key in keys:
        storage = storages[key]
        size = storage.numel * storage.dtype.itemsize
        if file[place : place + 8] != storage.numel.to_bytes(8, "little") or place + 8 + size > len(file):
            raise ValueError(f"the storage {key!r:.40} is cut off or of another size")
        storage.start = place + 8
        place += 8 + size
    if place != len(file):
        raise ValueError(f"{len(file) - place} bytes follow after its end")
    return content
