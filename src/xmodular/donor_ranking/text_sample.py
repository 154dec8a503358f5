"""A small sample of a text, to measure every language of a model on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.errors import NoTextError
from xmodular.text import LineCounts, MeasuredText, TextFiles, measured_text

_BY_BLOCK = ("ordinary", "unknown", "characters", "untold", "untold_bytes", "blocks")


@dataclass(frozen=True)
class Sample:
    """The first lines of every file of a text.

    Attributes:
        lines: the lines.
        text: the same, in blocks of one line each.
    """

    lines: tuple[str, ...]
    text: MeasuredText

    @property
    def bytes_per_character(self) -> float:
        """In UTF-8."""
        whole = "\n".join(self.lines)
        return len(whole.encode()) / max(1, len(whole))

    @property
    def spelled(self) -> float:
        """The share of the bytes that the vocabulary has no longer piece for: a token each, or lost."""
        text = self.text
        return float((text.ordinary + text.untold_bytes).sum() / (self.bytes_per_character * text.characters.sum()))


def sample_of(text: TextFiles, tokenizer: PreTrainedTokenizerFast, *, size: int, block_size: int) -> Sample:
    """Read a sample.

    Args:
        text: the text; every file gives the same share, as files are often of different kinds.
        tokenizer: of the model.
        size: bytes to read.
        block_size: tokens per block.

    Raises:
        NoTextError: there is no text.
        DataError: a file cannot be read.
    """
    lines: list[str] = []
    parts: list[MeasuredText] = []
    for file in text.files:
        part = replace(text, files=(file,), most=max(1, size // len(text.files)), counts=LineCounts())
        lines += part
        try:
            parts.append(_cut(measured_text(part, tokenizer, block_size, "lines"), size // len(text.files)))
        except NoTextError:
            continue  # of one file; of all, below
    if not parts:
        raise NoTextError(f"No text for {text.language} in {', '.join(map(str, text.files))}.")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _BY_BLOCK}
    return Sample(tuple(lines), replace(parts[0], **joined))


def _cut(text: MeasuredText, most: int) -> MeasuredText:
    """The first blocks, up to a number of characters; a text may be one endless line."""
    fitting = int(np.searchsorted(text.characters.cumsum(), most, side="right"))
    kept: dict[str, Any] = {name: getattr(text, name)[: max(1, fitting)] for name in _BY_BLOCK}
    return replace(text, **kept)
