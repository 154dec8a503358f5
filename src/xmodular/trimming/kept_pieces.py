"""Which pieces of a vocabulary stay: those that a text uses, those of some scripts, and a safety set."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from xmodular.pieces import Notation
from xmodular.text.tokenising import steps
from xmodular.vocabulary import text_backend

_EVERYWHERE = ("Zyyy", "Zinh")  # digits, punctuation, and marks that letters of any script take
_ALWAYS = frozenset(map(chr, range(0x21, 0x7F)))  # ASCII
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_SAFE = ("N", "P", "S")  # categories of Unicode: numbers, punctuation, symbols


@dataclass
class Use:
    """What a text uses.

    Attributes:
        counts: *(pieces,)* int64: how often it uses each piece.
        characters: its characters, as written and as the tokenizer normalises them.
        lines, words: how many; words are parted by white space.
    """

    counts: np.ndarray
    characters: set[str] = field(default_factory=set)
    lines: int = 0
    words: int = 0

    def __add__(self, other: Use) -> Use:
        characters = self.characters | other.characters
        return Use(self.counts + other.counts, characters, self.lines + other.lines, self.words + other.words)


class Reader:
    """A tokenizer as the verbs use it for text: names of special tokens in a text are ordinary text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.backend = text_backend(tokenizer)
        self.unknown: int = tokenizer.unk_token_id
        model: Any = tokenizer.backend_tokenizer.model
        self._mark: str | None = getattr(model, "continuing_subword_prefix", None)
        self._most: int | None = getattr(model, "max_input_chars_per_word", None)
        self._vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False) if self._most else {}

    def __call__(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without special tokens around it."""
        return [row.ids for row in self.backend.encode_batch_fast(list(lines), add_special_tokens=False)]

    def use(self, lines: Iterable[str], advance: Any = lambda count: None) -> Use:
        """What some lines use.

        Args:
            lines: the text.
            advance: called with the number of lines done since the last call.
        """
        found = Use(np.zeros(len(self.tokenizer), dtype=np.int64))
        for block, _ in steps([line] for line in lines):
            rows = self(block)
            for line, ids in zip(block, rows, strict=True):
                if self._most and self.unknown in ids:
                    ids = [*ids, *self._begun(line)]
                np.add.at(found.counts, ids, 1)
                found.words += len(line.split())
            found.characters.update(*block)
            found.lines += len(block)
            advance(len(block))
        normalizer = self.backend.normalizer
        if normalizer is not None:
            found.characters |= {each for one in found.characters for each in normalizer.normalize_str(one)}
        return found

    def _begun(self, line: str) -> Iterable[int]:
        """The pieces with which WordPiece begins the words that it then gives up.

        Without them it could go another way, and not give up.
        """
        normalizer, cutter = self.backend.normalizer, self.backend.pre_tokenizer
        text = line if normalizer is None else normalizer.normalize_str(line)
        words = [text] if cutter is None else [word for word, _ in cutter.pre_tokenize_str(text)]
        for word in words:
            start = 0
            while len(word) <= (self._most or 0) and start < len(word):
                mark = (self._mark or "") if start else ""
                ends = range(len(word), start, -1)
                end = next((end for end in ends if mark + word[start:end] in self._vocabulary), None)
                if end is None:
                    break
                yield self._vocabulary[mark + word[start:end]]
                start = end


def covering(counts: np.ndarray, share: float) -> list[int]:
    """The fewest pieces that make up a share of a text.

    Args:
        counts: *(pieces,)* int64: how often it uses each.
        share: from 0 to 1; 1 gives all that it uses. Of pieces that are equally frequent, those with lower ids come
            first, which were more frequent where the vocabulary was trained.
    """
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    before = np.cumsum(counts[order]) - counts[order]
    return [int(piece) for piece in order[before < share * counts.sum()]]


def safe_ids(backend: Tokenizer, characters: set[str]) -> set[int]:
    """The pieces of one character that stay in any case: bytes, ASCII, numbers, punctuation, and those of a text.

    Args:
        backend: the tokenizer.
        characters: those of the text; their capitals and small letters count too.
    """
    notation = Notation.of(backend)
    letters = characters | _ALWAYS
    letters |= {each for one in letters for each in (*one.upper(), *one.lower())}
    kept = set()
    for piece, index in backend.get_vocab(with_added_tokens=True).items():
        text = notation.read(piece).text
        is_byte = len(piece) == 1 if notation.of_bytes else _BYTE.fullmatch(piece) is not None
        is_safe = len(text) == 1 and (text in letters or unicodedata.category(text).startswith(_SAFE))
        if is_byte or is_safe or not text:
            kept.add(index)
    return kept


def script_ids(backend: Tokenizer, scripts: Iterable[str]) -> set[int]:
    """The pieces that are written in some scripts, with digits, punctuation and marks of any.

    Args:
        backend: the tokenizer.
        scripts: of ISO 15924, as `scripts_of` gives them.
    """
    notation = Notation.of(backend)
    named = "".join(f"\\p{{{script}}}" for script in (*scripts, *_EVERYWHERE))
    rest = normalizers.Replace(Regex(f"[{named}]"), "")
    kept = set()
    for piece, index in backend.get_vocab(with_added_tokens=True).items():
        text = notation.read(piece).text
        if _is_text(text) and not rest.normalize_str(text):
            kept.add(index)
    return kept


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
