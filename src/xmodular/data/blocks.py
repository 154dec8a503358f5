"""Blocks: a language's text as token ids, packed to one length and kept on disk.

A language's lines become one stream of tokens, each line closed by ``</s>``. A block is ``<s>`` and the next
``block_size - 1`` tokens of the stream, across line ends; the last one is filled up with ``<pad>``:

    lines     A1 A2 A3 | B1 B2 | C1 C2 C3 C4             (block_size 6)
    stream    A1 A2 A3 </s> B1 B2 </s> C1 C2 C3 C4 </s>
    blocks    <s> A1 A2 A3 </s> B1
              <s> B2 </s> C1 C2 C3
              <s> C4 </s> <pad> <pad> <pad>

With packing "lines" every line starts a block of its own, so that positions count from the line's start; a longer
line goes on in the next block, each with its ``<s>`` and ``</s>``:

              <s> A1 A2 A3 </s> <pad>
              <s> B1 B2 </s> <pad> <pad>
              <s> C1 C2 C3 C4 </s>

One language a block, so that a block has one adapter. On disk a language is a folder named after the hash of all that
decides its content, with ``blocks.npy`` (blocks, block_size) and ``index.json``; it is read by memory mapping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from xmodular.data.sampling import Draw
from xmodular.data.text import LineCounts, TextFiles
from xmodular.errors import DataError
from xmodular.files import written_beside
from xmodular.vocabulary import fingerprint

_FORMAT = 1
_LINES_A_STEP = 2_000


@dataclass(frozen=True)
class LanguageBlocks:
    """The blocks of one language.

    Attributes:
        language: its code.
        blocks: (blocks, block_size) token ids, uint16 or int32, memory-mapped.
        tokens: tokens of the stream, ``</s>`` included, ``<s>`` and ``<pad>`` not.
        lines: what became of the text's lines.
    """

    language: str
    blocks: np.ndarray
    tokens: int
    lines: LineCounts


class BlockCache:
    """Makes blocks, or finds those made before from the same text with the same tokenizer.

    Args:
        folder: where languages' folders lie.
        tokenizer: the tokenizer.
        block_size: tokens a block.
        packing: "fill" or "lines", as drawn at the head of this module.
    """

    def __init__(
        self, folder: Path, tokenizer: PreTrainedTokenizerFast, block_size: int, packing: str = "fill"
    ) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.block_size = block_size
        self.packing = packing
        self.tokenizer_hash = fingerprint(tokenizer)

    def get(self, text: TextFiles, advance: Callable[[int], None] = lambda lines: None) -> LanguageBlocks:
        """The blocks of one language's text.

        Args:
            text: its lines.
            advance: told how many lines were done, again and again.

        Raises:
            DataError: there is not one line in the files.
        """
        place = self.folder / f"{text.language}-{text.part}-{self._key(text)[:16]}"
        if not (place / "index.json").is_file():
            try:
                self._make(text, place, advance)
            except OSError:
                # Another process may have made the same blocks meanwhile.
                if not (place / "index.json").is_file():
                    raise
        index = json.loads((place / "index.json").read_text(encoding="utf-8"))
        return LanguageBlocks(
            language=text.language,
            blocks=np.load(place / "blocks.npy", mmap_mode="r"),
            tokens=index["tokens"],
            lines=LineCounts(**index["lines"]),
        )

    def _key(self, text: TextFiles) -> str:
        parts: list[Any] = [_FORMAT, self.tokenizer_hash, self.block_size, self.packing, text.part, text.dev_fraction]
        for path in text.files:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
            parts.append(digest.hexdigest())
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _make(self, text: TextFiles, place: Path, advance: Callable[[int], None]) -> None:
        dtype = np.dtype(np.uint16 if len(self.tokenizer) <= 2**16 else np.int32)
        ids = {f"{name}_id": getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        with written_beside(self.folder) as beside:
            made = beside / place.name
            made.mkdir()
            stream = beside / "stream.bin"
            count = 0
            with stream.open("wb") as file:
                for tokens in token_stream(text, self.tokenizer, advance):
                    count += len(tokens)
                    if self.packing == "lines":
                        tokens = pack_lines(tokens, self.block_size, **ids)
                    file.write(tokens.astype(dtype).tobytes())
            if count == 0:
                raise DataError(f"No text for {text.language} in {', '.join(map(str, text.files))}: {text.counts}.")
            written = np.memmap(stream, dtype, "r")
            by_line = self.packing == "lines"
            rows = len(written) // self.block_size if by_line else -(-count // (self.block_size - 1))
            out = np.lib.format.open_memmap(made / "blocks.npy", "w+", dtype, (rows, self.block_size))
            if by_line:
                out[:] = written.reshape(rows, self.block_size)
            else:
                pack(written, self.block_size, bos_id=ids["bos_id"], pad_id=ids["pad_id"], out=out)
            out.flush()
            stream.unlink()
            index = {
                "format": _FORMAT,
                "language": text.language,
                "tokens": count,
                "block_size": self.block_size,
                "tokenizer": self.tokenizer_hash,
                "lines": asdict(text.counts),
            }
            (made / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def token_stream(
    lines: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    advance: Callable[[int], None] = lambda lines: None,
) -> Iterator[np.ndarray]:
    """The ids (int64) of the lines, each line closed by ``</s>``, in pieces of some thousand lines.

    A line that spells a special token (``<mask>``) loses it: in text it has no special meaning.
    """
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    end = tokenizer.eos_token_id
    iterator = iter(lines)
    while batch := list(islice(iterator, _LINES_A_STEP)):
        ids: list[int] = []
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            ids.extend(token for token in encoding.ids if token not in special)
            ids.append(end)
        yield np.array(ids, dtype=np.int64)
        advance(len(batch))


def pack(tokens: np.ndarray, block_size: int, *, bos_id: int, pad_id: int, out: np.ndarray | None = None) -> np.ndarray:
    """Cut a stream into blocks, as drawn at the head of this module.

    Args:
        tokens: (tokens,) ids.
        block_size: tokens a block.
        bos_id: first token of every block.
        pad_id: what fills up the last block.
        out: (blocks, block_size) array to write to.

    Returns:
        (blocks, block_size), blocks = ceil(tokens / (block_size - 1)).
    """
    width = block_size - 1
    rows, full = -(-len(tokens) // width), len(tokens) // width
    if out is None:
        out = np.empty((rows, block_size), dtype=tokens.dtype)
    out[:, 0] = bos_id
    out[:full, 1:] = tokens[: full * width].reshape(full, width)
    if rows > full:
        rest = tokens[full * width :]
        out[full, 1:] = pad_id
        out[full, 1 : 1 + len(rest)] = rest
    return out


def pack_lines(tokens: np.ndarray, block_size: int, *, bos_id: int, eos_id: int, pad_id: int) -> np.ndarray:
    """Give every line of a stream blocks of its own, as drawn at the head of this module.

    Args:
        tokens: (tokens,) ids, every line closed by `eos_id`.
        block_size: tokens a block.
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


class MixedBlocks(Dataset):
    """The blocks of several languages under one count, as the training sampler draws them.

    Args:
        languages: the languages' blocks; block ids count through them in this order.
        lang_ids: the model's id of each language.
    """

    def __init__(self, languages: Sequence[LanguageBlocks], lang_ids: Mapping[str, int]) -> None:
        self.languages = tuple(languages)
        self.lang_ids = [lang_ids[each.language] for each in self.languages]
        self.ends = np.cumsum([len(each.blocks) for each in self.languages])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """The block of a draw: ``input_ids`` (block_size,), ``lang_id``, and the draw's number as ``draw``."""
        language = int(np.searchsorted(self.ends, draw.block, side="right"))
        blocks = self.languages[language].blocks
        row = draw.block - int(self.ends[language])  # negative: counts from this language's end
        return {"input_ids": blocks[row], "lang_id": self.lang_ids[language], "draw": draw.number}
