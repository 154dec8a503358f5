"""Blocks on disk: a language's text as token ids, packed to one length (`packing`) and cached.

A block has one language, so it needs one adapter. On disk, a language is a folder named after the hash of everything
that determines its content, with ``blocks.bin``, the ids of (blocks, block_size) row by row, ``lengths.bin``, how many
of them are not padding, and ``index.json``; it is read by memory mapping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from xmodular.errors import DataError, NoTextError
from xmodular.files import folder_beside
from xmodular.outputs import LOCK, beside, held
from xmodular.text.counts import LineCounts
from xmodular.text.packing import Packer, packing_ids
from xmodular.text.sampling import Draw, block_lengths
from xmodular.text.text_files import TextFiles
from xmodular.text.tokenising import Encoder, tokenise
from xmodular.vocabulary import fingerprint

_FORMAT = 3
_LENGTH = np.dtype("<i4")


@dataclass(frozen=True)
class LanguageBlocks:
    """The blocks of one language.

    Attributes:
        language: its code.
        blocks: (blocks, block_size) token ids, uint16 or int32, memory-mapped.
        tokens: tokens of the stream, ``</s>`` included, ``<s>`` and ``<pad>`` not.
        lines: counts of the text's lines.
        characters: characters of the lines kept, line ends not counted.
        lengths: (blocks,) int32, number of non-padding tokens of each block, memory-mapped.
    """

    language: str
    blocks: np.ndarray
    tokens: int
    lines: LineCounts
    characters: int = 0
    lengths: np.ndarray = field(default_factory=lambda: np.empty(0, _LENGTH))


class BlockCache:
    """Creates blocks, or reuses those created before from the same text with the same tokenizer.

    Args:
        folder: parent of the languages' folders.
        tokenizer: the tokenizer.
        block_size: tokens per block.
        packing: "fill", "documents" or "lines", as shown at the top of `packing`.
    """

    def __init__(
        self, folder: Path, tokenizer: PreTrainedTokenizerFast, block_size: int, packing: str = "fill"
    ) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.block_size = block_size
        self.packing = packing
        self.tokenizer_hash = fingerprint(tokenizer)
        self.encode = Encoder(tokenizer)

    def get(self, text: TextFiles, advance: Callable[[int], None] = lambda lines: None) -> LanguageBlocks:
        """The blocks of one language's text.

        Args:
            text: its lines.
            advance: called with the number of lines done since the last call.

        Raises:
            NoTextError: there is no line in the files.
            DataError: the files cannot be read, or the cache folder cannot be written.
        """
        place = self.folder / f"{text.language}-{text.part}-{self._key(text)[:16]}"
        if not (place / "index.json").is_file() or beside(LOCK, place).exists():  # which may be a killed process's
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with held(place, wait=True):  # another process may be making the same blocks
                    if not (place / "index.json").is_file():
                        self._make(text, place, advance)
            except OSError as error:
                raise DataError(
                    f"The blocks of {text.language} cannot be written to {self.folder}: "
                    f"{error.strerror or error}. No incomplete files are left; "
                    f"free some space, or choose another folder with --cache-dir."
                ) from error
        index = json.loads((place / "index.json").read_text(encoding="utf-8"))
        shape = (index["blocks"], index["block_size"])
        return LanguageBlocks(
            language=text.language,
            blocks=np.memmap(place / "blocks.bin", index["dtype"], "r", shape=shape),
            tokens=index["tokens"],
            lines=LineCounts(**index["lines"]),
            characters=index["characters"],
            lengths=np.memmap(place / "lengths.bin", _LENGTH, "r", shape=shape[:1]),
        )

    def _key(self, text: TextFiles) -> str:
        parts = [_FORMAT, self.tokenizer_hash, self.block_size, self.packing, *text.content()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _make(self, text: TextFiles, place: Path, advance: Callable[[int], None]) -> None:
        dtype = np.dtype("<u2" if len(self.tokenizer) <= 2**16 else "<i4")
        ids = packing_ids(self.tokenizer)
        packer = Packer(self.packing, self.block_size, **ids)
        tokens = characters = size = 0
        with folder_beside(place) as made:
            # Written, not memory-mapped: on a full disk this is an error, not the end of the process.
            with (made / "blocks.bin").open("wb") as file, (made / "lengths.bin").open("wb") as lengths:

                def write(blocks: np.ndarray) -> int:
                    lengths.write(block_lengths([blocks], ids["pad_id"]).astype(_LENGTH).tobytes())
                    return file.write(blocks.astype(dtype).tobytes())

                units = text.units(documents=self.packing == "documents")
                for step in tokenise(units, self.encode, advance):
                    tokens += len(step.tokens)
                    characters += step.characters
                    size += write(packer.add(step.tokens, step.documents))
                size += write(packer.end())
            if tokens == 0:
                raise NoTextError(f"No text for {text.language} in {', '.join(map(str, text.files))}: {text.counts}.")
            index = {
                "format": _FORMAT,
                "language": text.language,
                "blocks": size // (self.block_size * dtype.itemsize),
                "block_size": self.block_size,
                "dtype": dtype.str,
                "tokens": tokens,
                "characters": characters,
                "tokenizer": self.tokenizer_hash,
                "lines": asdict(text.counts),
            }
            (made / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


class MixedBlocks(Dataset):
    """The blocks of several languages under one count, as the training sampler draws them.

    Args:
        languages: the languages' blocks; block ids count through them in this order.
        lang_ids: the model's id of each language.

    Attributes:
        lengths: (blocks,) number of non-padding tokens of every block, by block id.
    """

    def __init__(self, languages: Sequence[LanguageBlocks], lang_ids: Mapping[str, int]) -> None:
        self.languages = tuple(languages)
        self.lang_ids = [lang_ids[each.language] for each in self.languages]
        self.ends = np.cumsum([len(each.blocks) for each in self.languages])
        self.lengths = np.concatenate([each.lengths for each in self.languages])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """The block of a draw: ``input_ids`` (block_size,), ``lang_id``, and the draw's number as ``draw``."""
        language = int(np.searchsorted(self.ends, draw.block, side="right"))
        blocks = self.languages[language].blocks
        row = draw.block - int(self.ends[language])  # negative: counts from this language's end
        return {"input_ids": blocks[row], "lang_id": self.lang_ids[language], "draw": draw.number}
