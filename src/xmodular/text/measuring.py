"""Text to measure a language model on: its blocks, and how much of the text their tokens represent.

Measures refer to the text as read, for any vocabulary: its characters, with a line end as one, are divided among the
tokens. Characters that no token represents are counted as UTF-8 bytes: those behind ``<unk>``, those that gave no
token, and those that the tokenizer changes (lower case for upper), except for NFKC and white space:
``ﬁ`` may be read as ``fi``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from xmodular.console import console
from xmodular.errors import NoTextError
from xmodular.text.counts import LineCounts
from xmodular.text.packing import Packer, packing_ids
from xmodular.text.text_files import TextFiles
from xmodular.text.tokenising import Encoder, steps

_WARNED = 0.01  # share of tokens or characters


@dataclass(frozen=True)
class MeasuredText:
    """One language's text, tokenised with one vocabulary.

    Attributes:
        language: its code.
        blocks: (blocks, block_size) int32 token ids.
        ordinary: (blocks,) tokens that are not special.
        unknown: (blocks,) number of ``<unk>`` tokens.
        characters: (blocks,) characters of the text, line ends included.
        untold: (blocks,) characters that no token represents.
        untold_bytes: (blocks,) their bytes in UTF-8.
        lines: counts of the text's lines.
    """

    language: str
    blocks: np.ndarray
    ordinary: np.ndarray
    unknown: np.ndarray
    characters: np.ndarray
    untold: np.ndarray
    untold_bytes: np.ndarray
    lines: LineCounts

    @property
    def unknown_share(self) -> float:
        """The share of ``<unk>`` among all tokens that are not special."""
        return float(self.unknown.sum() / max(1, self.unknown.sum() + self.ordinary.sum()))

    @property
    def untold_share(self) -> float:
        """The share of the characters that no token represents."""
        return float(self.untold.sum() / max(1, self.characters.sum()))


def measured_text(
    text: TextFiles,
    tokenizer: PreTrainedTokenizerFast,
    block_size: int,
    packing: str = "fill",
    advance: Callable[[int], None] = lambda lines: None,
) -> MeasuredText:
    """Read a text into memory.

    Args:
        text: its lines.
        tokenizer: reads them.
        block_size: tokens per block.
        packing: "fill", "documents" or "lines", as in `packing`.
        advance: called with the number of lines done since the last call.

    Raises:
        NoTextError: it gives no tokens.
        DataError: a file cannot be read.
    """
    reader = _Reader(tokenizer)
    packer = Packer(packing, block_size, **packing_ids(tokenizer))
    blocks: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    for lines, starts in steps(text.units(documents=packing == "documents")):
        tokens, line_starts = reader(lines, sizes)
        blocks.append(packer.add(tokens, line_starts[starts].tolist()).astype(np.int32))
        advance(len(lines))
    blocks.append(packer.end().astype(np.int32))
    packed = np.concatenate(blocks)
    by_token = np.concatenate([np.empty((0, 3), np.int64), *sizes])
    if not len(by_token):
        raise NoTextError(f"No text for {text.language} in {', '.join(map(str, text.files))}: {text.counts}.")
    special = np.isin(packed, [index for index in tokenizer.all_special_ids if index != tokenizer.unk_token_id])
    tokens_of = (~special).sum(1)
    # Packing keeps the order of the tokens, and adds and repeats special ones only.
    sums = np.concatenate([np.zeros((1, 3), np.int64), by_token.cumsum(0)])
    ends = tokens_of.cumsum()
    characters, untold, untold_bytes = (sums[ends] - sums[ends - tokens_of]).T
    unknown = (packed == tokenizer.unk_token_id).sum(1)
    return MeasuredText(
        text.language, packed, tokens_of - unknown, unknown, characters, untold, untold_bytes, text.counts
    )


def say_unknown(texts: Iterable[MeasuredText]) -> None:
    """Report the share of ``<unk>`` in some texts, and advise what to do if it is above 1 %."""
    found = [text for text in texts if text.untold_bytes.any()]
    if found:
        shares = ", ".join(f"{text.language} {text.unknown_share:.2%}" for text in found)
        console.print(f"Share of <unk> among the tokens: {shares}")
    for text in found:
        if max(text.unknown_share, text.untold_share) > _WARNED:
            console.print(
                f"Warning: the vocabulary does not suit {text.language}. {text.unknown_share:.1%} of the tokens are "
                f"<unk>, and {text.untold_share:.1%} of the characters are lost in the tokens; each of their "
                "UTF-8 bytes counts as 8 bits. `xmodular extend --new-vocabulary` gives a language its own vocabulary."
            )


class _Reader:
    """Lines → tokens, and the text that each represents."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        encoder = Encoder(tokenizer)
        self.backend = encoder.backend
        self.end_id = encoder.end_id
        self.unk_id = tokenizer.unk_token_id
        self.left_out = [index for index in tokenizer.all_special_ids if index != self.unk_id]
        self._altered: dict[str, bool] = {}

    def __call__(self, lines: list[str], sizes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenise lines.

        Args:
            lines: clean ones.
            sizes: gets (tokens, 3) int64 appended: characters, those untold, and the bytes of these, of every token
                but ``</s>``.

        Returns:
            (tokens,) int64 ids, every line closed by ``</s>``; (lines + 1,) places where lines begin.
        """
        rows = []
        left_over = np.zeros(3, np.int64)  # of lines without a token
        for line, encoding in zip(lines, self.backend.encode_batch(lines, add_special_tokens=False), strict=True):
            ids, own = self._read(line, encoding)
            rows.append(np.append(ids, self.end_id))
            if len(ids):
                own[0] += left_over
                left_over = np.zeros(3, np.int64)
                sizes.append(own)
            else:
                left_over += own.sum(0)
        if left_over.any() and sizes:
            sizes[-1][-1] += left_over
        return np.concatenate(rows), np.cumsum([0, *map(len, rows)])

    def _read(self, line: str, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a line, and (tokens, 3) sizes; (1, 3) of the whole line where there is no token."""
        ids = np.array(encoding.ids, dtype=np.int64)
        spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        kept = ~np.isin(ids, self.left_out)
        ids, spans = ids[kept], spans[kept]
        unknown = ids == self.unk_id
        covered = _covered(spans[~unknown], len(line))
        covered |= [character.isspace() or unicodedata.category(character)[0] in "CZ" for character in line]
        covered &= ~_covered(spans[unknown], len(line))
        if altered := {character for character in set(line) if self._is_altered(character)}:
            covered &= [character not in altered for character in line]
        weights = np.zeros((len(line) + 2, 3), np.int64)  # a zero, as sums begin; the characters; the line end
        weights[1:, 0] = 1
        for place in np.flatnonzero(~covered):
            weights[place + 1, 1:] = 1, len(line[place].encode())
        # A character belongs to the last token that begins at it or before, those before the first one to that.
        edges = np.maximum.accumulate(np.concatenate([[0], spans[1:, 0], [len(line) + 1]]))
        return ids, np.diff(weights.cumsum(0)[edges], axis=0)

    def _is_altered(self, character: str) -> bool:
        """Whether the tokenizer reads a character as another one, except for NFKC and white space."""
        if character not in self._altered:
            normalizer = self.backend.normalizer
            # Bytes as characters are only another spelling.
            if normalizer is None or "ByteLevel" in str(normalizer) or unicodedata.category(character)[0] in "CZ":
                self._altered[character] = False
            else:
                self._altered[character] = _plain(normalizer.normalize_str(character)) != _plain(character)
        return self._altered[character]


def _covered(spans: np.ndarray, length: int) -> np.ndarray:
    """Which of `length` characters are in one of the spans, (length,) bool."""
    edges = np.zeros(length + 1, np.int64)
    np.add.at(edges, spans[:, 0], 1)
    np.add.at(edges, spans[:, 1], -1)
    return edges.cumsum()[:-1] > 0


def _plain(text: str) -> str:
    """A text without the differences that do not count."""
    return unicodedata.normalize("NFKC", text.replace("▁", " ")).strip()
