"""Write safetensors files one tensor at a time, so that only one is in memory.

The format: eight bytes with the header's length, a JSON header with dtype, shape and place of every tensor, and the
tensors' bytes without gaps (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from xmodular.console import progress

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class Entry:
    """One tensor to write; `read` is called just before it is written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def write_safetensors(path: Path, entries: Sequence[Entry]) -> None:
    """Write tensors to a file.

    Args:
        path: the file; it must not be in use.
        entries: tensors of the dtypes in `DTYPES`.
    """
    # The widest first, so that all are aligned.
    entries = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for entry in entries:
        end = place + prod(entry.shape) * entry.dtype.itemsize
        header[entry.name] = {"dtype": DTYPES[entry.dtype], "shape": entry.shape, "data_offsets": (place, end)}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file, progress("Writing weights", len(entries)) as advance:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            tensor = entry.read()
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            advance(1)
