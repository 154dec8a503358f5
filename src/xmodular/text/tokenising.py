"""Lines → token ids, on the tokenizer's own threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.vocabulary import text_backend

_LINES_A_STEP = 2_000
_CHARACTERS_A_STEP = 1_000_000


@dataclass(frozen=True)
class Step:
    """Some lines, tokenised.

    Attributes:
        tokens: (tokens,) int64 ids, with ``</s>`` after each line.
        documents: places in `tokens` where a unit of the text (a document, or a line) begins.
        lines: number of lines.
        characters: number of their characters.
    """

    tokens: np.ndarray
    documents: list[int]
    lines: int
    characters: int


class Encoder:
    """A tokenizer without special tokens: their names in a text are ordinary text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.backend = text_backend(tokenizer)
        self.end_id = tokenizer.sep_token_id

    def __call__(self, lines: list[str]) -> np.ndarray:
        rows = [encoding.ids for encoding in self.backend.encode_batch_fast(lines, add_special_tokens=False)]
        ends = np.fromiter(map(len, rows), np.int64, len(rows)).cumsum()
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(ends[-1]))
        return np.insert(ids, ends, self.end_id)


def tokenise(
    units: Iterable[list[str]],
    encode: Encoder,
    advance: Callable[[int], None] = lambda lines: None,
) -> Iterator[Step]:
    """Tokenise a text, a few thousand lines at a time, in order.

    It uses the tokenizer's own threads, one per core (change it with ``RAYON_NUM_THREADS``).

    Args:
        units: lists of lines: documents, or lines one by one.
        encode: the tokenizer.
        advance: called with the number of lines done since the last call.

    Yields:
        The lines as ids; a unit with very many lines may continue in the next step.
    """
    for lines, starts in steps(units):
        tokens = encode(lines)
        places = np.concatenate([[0], np.flatnonzero(tokens == encode.end_id) + 1])
        yield Step(tokens, places[np.array(starts, dtype=np.int64)].tolist(), len(lines), sum(map(len, lines)))
        advance(len(lines))


def steps(units: Iterable[list[str]]) -> Iterator[tuple[list[str], list[int]]]:
    """Some thousand lines, and the numbers of those that begin a unit."""
    lines: list[str] = []
    starts: list[int] = []
    characters = 0
    for unit in units:
        starts.append(len(lines))
        for line in unit:
            lines.append(line)
            characters += len(line)
            if len(lines) >= _LINES_A_STEP or characters >= _CHARACTERS_A_STEP:
                yield lines, starts
                lines, starts, characters = [], [], 0
    if lines:
        yield lines, starts
