"""A column of vectors: base64 in a line of JSON, lists of fixed size in Parquet, an array in .npy."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

WRITTEN = ("parquet", "npy", "jsonl")  # the formats for rows with vectors


@dataclass(frozen=True)
class Vectors:
    """A column of vectors in files of JSON lines that `line_of` wrote.

    Attributes:
        name: the column.
        dimension: number of values of a vector.
        dtype: what they are written as: "float32" or "float16".
    """

    name: str
    dimension: int
    dtype: str = "float32"

    @staticmethod
    def packed(vector: np.ndarray | None) -> str | None:
        """A vector as a value of a line."""
        return None if vector is None else base64.b64encode(vector.astype("<f4").tobytes()).decode()

    @staticmethod
    def unpacked(value: str | None) -> np.ndarray | None:
        """The vector of a value, float32."""
        return None if value is None else np.frombuffer(base64.b64decode(value), "<f4")

    @property
    def type(self) -> pa.DataType:
        """The type of the column in Parquet."""
        return pa.list_(pa.from_numpy_dtype(self.dtype), self.dimension)

    def array(self, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
        """The column of some rows."""
        found = [self.unpacked(row.get(self.name)) for row in rows]
        empty = np.zeros(self.dimension, np.float32)
        values = np.stack([empty if each is None else each for each in found]) if found else empty[:0]
        flat = pa.array(values.astype(self.dtype).ravel())
        missing = pa.array([each is None for each in found], pa.bool_())
        return pa.FixedSizeListArray.from_arrays(flat, type=self.type, mask=missing)

    def lists(self, line: bytes) -> dict[str, Any]:
        """The row of a line, with the vector as a list of numbers of eight digits."""
        row: dict[str, Any] = json.loads(line)
        vector = self.unpacked(row.get(self.name))
        row[self.name] = None if vector is None else rounded(vector)
        return row

    def write_npy(self, parts: Sequence[Path], out: IO[bytes]) -> None:
        """Write the vectors of files of lines as one array, (rows, dimension); a missing one is NaN."""
        count = 0
        for part in parts:
            with open(part, "rb") as file:
                count += sum(1 for _ in file)
        kind = np.dtype(self.dtype).newbyteorder("<")
        np.lib.format.write_array_header_1_0(
            out, {"descr": kind.str, "fortran_order": False, "shape": (count, self.dimension)}
        )
        nothing = np.full(self.dimension, np.nan, kind)
        for row in _rows(parts):
            vector = self.unpacked(row.get(self.name))
            out.write((nothing if vector is None else vector.astype(kind)).tobytes())


def rounded(vector: np.ndarray) -> list[float]:
    """The values of a vector with eight significant digits."""
    return [float(f"{value:.8g}") for value in vector.tolist()]


def _rows(parts: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for part in parts:
        with open(part, "rb") as file:
            for line in file:
                yield json.loads(line)
