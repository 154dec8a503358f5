"""Tensors of safetensors files, each read when it is asked for.

Unlike a mapped file (`weights.py`), what was read once does not stay in the process's resident memory. The layout: 8
bytes with the length of a JSON header, the header with each tensor's dtype, shape and place, then the bytes
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import ctypes
import json
import mmap
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmodular.errors import DataError, StorageError, of_system
from xmodular.weights import open_weights

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_ALIGNED = 64  # bytes, as torch allocates
_LARGE = 2**16  # bytes, from which a tensor has pages of its own
_TRIMMED = 2**25  # bytes that are read before the allocator gives back what it does not use


class StoredTensors:
    """The tensors of some files, which stay open: a file that is replaced meanwhile is read as it was.

    May be used by several threads. A copy shares the files; one that was pickled opens them again.

    Args:
        files: paths of safetensors files.

    Raises:
        DataError: a file is not a safetensors file.
        StorageError: it cannot be read.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = tuple(files)
        self._lock = threading.Lock()
        self._read = 0
        self._places: dict[str, tuple[Any, torch.dtype, tuple[int, ...], int, int]] = {}
        for path in self.files:
            try:
                file = path.open("rb", buffering=0)
                weakref.finalize(self, file.close)
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))
            except OSError as error:
                raise StorageError(f"The weights cannot be read: {of_system(error)}") from error
            except (ValueError, OverflowError, MemoryError) as error:
                raise DataError(f"{path} is damaged or not a safetensors file.") from error
            for name, entry in header.items():
                if name != "__metadata__" and entry["dtype"] in _DTYPES:
                    start, end = entry["data_offsets"]
                    place = (file, _DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + size + start, end - start)
                    self._places[name] = place

    @classmethod
    def of_model(cls, source: str | Path, **where: Any) -> StoredTensors:
        """The floating-point weights of a model folder, or a repository on the Hub.

        Args:
            where: as for `open_weights`.

        Raises:
            DataError: the weights are damaged, or not in safetensors files.
        """
        with open_weights(source, **where) as weights:  # checks the files, and which of them count
            files = [path for path in weights.files if path.suffix != ".json"]
        if other := next((path for path in files if path.suffix != ".safetensors"), None):
            raise DataError(
                f"{other} cannot be read one language at a time: load the model and save it again "
                "(save_pretrained), which writes safetensors."
            )
        return cls(files)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._places[name][2]

    def __getitem__(self, name: str) -> Tensor:
        """A tensor, read now, on the CPU, in the file's precision.

        Raises:
            DataError: there is none of that name, or the file ends before it does.
            StorageError: it cannot be read.
        """
        if name not in self._places:
            raise DataError(f"{self.files[0].parent} has no weight {name!r}.")
        file, dtype, shape, start, size = self._places[name]
        room = _room(size + _ALIGNED)
        # As far from a multiple of 64 as in a mapped file: the last bits of matrix products depend on it.
        shift = (start - room.data_ptr()) % _ALIGNED
        content = room[shift - shift % dtype.itemsize :][:size]
        view, done = memoryview(content.numpy().data), 0
        try:
            with self._lock:
                file.seek(start)
                while done < size and (count := file.readinto(view[done:])):
                    done += count
        except OSError as error:
            raise StorageError(f"The weight {name!r} cannot be read: {of_system(error)}") from error
        self._read += size
        if self._read >= _TRIMMED:
            self._read = 0
            _trim()
        if done < size:
            raise DataError(f"{file.name} is shorter than when it was opened: the weight {name!r} cannot be read.")
        return content.view(dtype).view(shape)

    def __deepcopy__(self, memo: Any) -> StoredTensors:
        return self

    def __reduce__(self) -> Any:
        return (type(self), (self.files,))


def _trim() -> None:
    """Let glibc give free pages back; other allocators do so themselves.

    The small parts of tensors that are read live long between the large ones of a forward pass, so that its heap would
    grow by some tens of MB.
    """
    with suppress(AttributeError, TypeError, OSError):  # musl, Windows
        ctypes.CDLL(None).malloc_trim(0)


def _room(size: int) -> Tensor:
    """Memory for a tensor, *(size,)*, uint8. Large ones get pages of their own, which the system has back at once.

    The allocator would keep the holes that dropped tensors leave, some tens of MB.
    """
    if size < _LARGE:
        return torch.empty(size, dtype=torch.uint8)
    return torch.frombuffer(mmap.mmap(-1, size, access=mmap.ACCESS_COPY), dtype=torch.uint8)
