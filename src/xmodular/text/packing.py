"""Packing: one language's stream of tokens becomes blocks of one length.

A language's lines become one stream of tokens, with ``</s>`` after each line. With "fill", a block is ``<s>`` and the
next ``block_size - 1`` tokens of the stream, across line ends; the last block is padded with ``<pad>``:

    lines     A1 A2 A3 | B1 B2 | C1 C2 C3 C4             (block_size 6)
    stream    A1 A2 A3 </s> B1 B2 </s> C1 C2 C3 C4 </s>
    blocks    <s> A1 A2 A3 </s> B1
              <s> B2 </s> C1 C2 C3
              <s> C4 </s> <pad> <pad> <pad>

With "documents", every document starts a new block and fills its blocks in that way, so that no block mixes
documents. If A and B are lines of one document and C is another:

              <s> A1 A2 A3 </s> B1
              <s> B2 </s> <pad> <pad> <pad>
              <s> C1 C2 C3 C4 </s>

With "lines", every line starts a new block, so that positions count from the line's start; a longer line continues
in the next block; each block has its own ``<s>`` and ``</s>``:

              <s> A1 A2 A3 </s> <pad>
              <s> B1 B2 </s> <pad> <pad>
              <s> C1 C2 C3 C4 </s>
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from transformers import PreTrainedTokenizerFast


def packing_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The ids that packing needs: those of the tokens that begin, end and pad a text."""
    return {
        "bos_id": tokenizer.cls_token_id,
        "eos_id": tokenizer.sep_token_id,
        "pad_id": tokenizer.pad_token_id,
    }


class Packer:
    """Packs a stream that arrives in pieces of any size.

    Args:
        packing: "fill", "documents" or "lines", as shown at the top of this module.
        block_size: tokens per block.
        bos_id, eos_id, pad_id: ids of ``<s>``, ``</s>`` and ``<pad>``.
    """

    def __init__(self, packing: str, block_size: int, *, bos_id: int, eos_id: int, pad_id: int) -> None:
        self.packing = packing
        self.block_size = block_size
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
        self._rest = np.empty(0, dtype=np.int64)  # tokens that do not fill a block yet

    def add(self, tokens: np.ndarray, documents: Sequence[int] = ()) -> np.ndarray:
        """Add whole lines to the stream.

        Args:
            tokens: (tokens,) int64 ids, with ``</s>`` after every line.
            documents: the places in `tokens` where a document begins, ascending; used by "documents" only.

        Returns:
            (blocks, block_size) int64: the blocks that are full now.
        """
        if self.packing == "lines":
            return pack_lines(tokens, self.block_size, bos_id=self.bos_id, eos_id=self.eos_id, pad_id=self.pad_id)
        if self.packing == "fill":
            return self._fill(tokens)
        edges = [*documents, len(tokens)]
        blocks = [self._fill(tokens[: edges[0]])]
        for start, end in pairwise(edges):
            blocks += [self.end(), self._fill(tokens[start:end])]
        return np.concatenate(blocks)

    def end(self) -> np.ndarray:
        """The last block of the stream, (0 or 1, block_size) int64."""
        rest, self._rest = self._rest, self._rest[:0]
        return pack(rest, self.block_size, bos_id=self.bos_id, pad_id=self.pad_id)

    def _fill(self, tokens: np.ndarray) -> np.ndarray:
        stream = np.concatenate([self._rest, tokens])
        full = len(stream) - len(stream) % (self.block_size - 1)
        self._rest = stream[full:]
        return pack(stream[:full], self.block_size, bos_id=self.bos_id, pad_id=self.pad_id)


def pack(tokens: np.ndarray, block_size: int, *, bos_id: int, pad_id: int) -> np.ndarray:
    """Cut a stream into blocks, as "fill" does.

    Args:
        tokens: (tokens,) ids.
        block_size: tokens per block.
        bos_id: first token of every block.
        pad_id: what fills up the last block.

    Returns:
        (blocks, block_size), blocks = ceil(tokens / (block_size - 1)).
    """
    width = block_size - 1
    rows, full = -(-len(tokens) // width), len(tokens) // width
    out = np.empty((rows, block_size), dtype=tokens.dtype)
    out[:, 0] = bos_id
    out[:full, 1:] = tokens[: full * width].reshape(full, width)
    if rows > full:
        rest = tokens[full * width :]
        out[full, 1:] = pad_id
        out[full, 1 : 1 + len(rest)] = rest
    return out


def pack_lines(tokens: np.ndarray, block_size: int, *, bos_id: int, eos_id: int, pad_id: int) -> np.ndarray:
    """Give every line of a stream blocks of its own, as "lines" does.

    Args:
        tokens: (tokens,) ids, every line closed by `eos_id`.
        block_size: tokens per block.
        bos_id, eos_id, pad_id: ids of ``<s>``, ``</s>`` and ``<pad>``.

    Returns:
        (blocks, block_size).
    """
    width = block_size - 2
    rows = []
    for line in np.split(tokens, np.flatnonzero(tokens == eos_id) + 1)[:-1]:
        for start in range(0, max(len(line) - 1, 1), width):
            part = line[:-1][start : start + width]
            row = np.full(block_size, pad_id, dtype=tokens.dtype)
            row[0], row[1 : 1 + len(part)], row[1 + len(part)] = bos_id, part, eos_id
            rows.append(row)
    return np.stack(rows)
