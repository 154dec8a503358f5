"""Tensors in a file of `torch.save`: descriptions that read their bytes from the mapped file on demand."""

from __future__ import annotations

import mmap
import pickle
from dataclasses import dataclass, field

import torch
from torch import Tensor

_MOST_DIMENSIONS = 64  # torch's own limit


@dataclass(eq=False)
class Storage:
    """A block of numbers in the file; its position is known once the file's table is read."""

    file: mmap.mmap
    dtype: torch.dtype
    numel: int
    start: int | None = None

    def read(self) -> Tensor:
        """All numbers of the storage."""
        if not self.numel or self.start is None:
            return torch.empty(0, dtype=self.dtype)
        if self.start % self.dtype.itemsize:  # files that are not archives do not align
            stop = self.start + self.numel * self.dtype.itemsize
            return torch.frombuffer(bytearray(self.file[self.start : stop]), dtype=self.dtype)
        return torch.frombuffer(self.file, dtype=self.dtype, count=self.numel, offset=self.start)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in the file: shape, strides and offset in elements of its storage."""

    storage: Storage = field(repr=False)
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes, strides = len(self.shape), len(self.stride)
        if sizes != strides or sizes > _MOST_DIMENSIONS:
            raise pickle.UnpicklingError(f"a tensor has a shape of {sizes} sizes and {strides} strides")
        if any(type(number) is not int or number < 0 for number in (self.offset, *self.shape, *self.stride)):
            raise pickle.UnpicklingError("a tensor has a shape, strides or an offset that are not natural numbers")
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
        """The dtype of its numbers."""
        return self.storage.dtype

    def same_place(self, other: StoredTensor) -> bool:
        """Whether both refer to the same elements of the same storage."""
        mine, its = ((t.offset, t.shape, t.stride) for t in (self, other))
        return self.storage is other.storage and mine == its

    def read(self) -> Tensor:
        """The tensor, mapped: memory holds the pages that are in use."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        return self.storage.read().as_strided(self.shape, self.stride, self.offset)
