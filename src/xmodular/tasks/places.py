"""The exact characters of a text that each token represents.

The tokenizer's own offsets are inexact in four ways. A space may belong to the token after it; the mark of a
word's beginning, if it is a separate token, points at the word's first letter; characters that the normaliser merges
with others (a letter's accent) or drops belong to no token; and each dropped character at a text's beginning, or after
one that was expanded, shifts all that follow by one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from xmodular.tasks.tokens import tokens_of

_WORD = "\u2581"  # the mark of a word's beginning
_SEEN, _SPACE, _DROPPED = "seen", "space", "dropped"


class Placed(NamedTuple):
    """A text's tokens: ids, and (start, end) in characters, without surrounding white space; equal if it is empty."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Places:
    """Finds the characters of tokens.

    Args:
        tokenizer: the tokenizer of the texts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._normalizer = tokenizer.backend_tokenizer.normalizer
        self._mark = tokenizer.backend_tokenizer.token_to_id(_WORD)
        self._kinds: dict[str, str] = {}

    def __call__(self, texts: Sequence[str]) -> list[Placed]:
        """The tokens of each text, without special tokens."""
        kept = []
        for text in texts:
            dropped = {character for character in set(text) if self._kind(character) == _DROPPED}
            kept.append([place for place, c in enumerate(text) if c not in dropped] if dropped else None)
        # What the normaliser drops is taken out before, so that it shifts nothing.
        plain = [
            text if places is None else "".join(text[place] for place in places)
            for text, places in zip(texts, kept, strict=True)
        ]
        answer = []
        for text, places, tokens in zip(texts, kept, tokens_of(self._tokenizer, plain), strict=True):
            spans = tokens.offsets
            if places is not None:
                spans = [(places[start], places[end - 1] + 1) if start < end else (0, 0) for start, end in spans]
            answer.append(Placed(tokens.ids, self._complete(text, tokens.ids, spans)))
        return answer

    def trim(self, text: str, start: int, end: int) -> tuple[int, int]:
        """A span without surrounding white space, as the tokenizer defines it."""
        while start < end and self._kind(text[start]) != _SEEN:
            start += 1
        while start < end and self._kind(text[end - 1]) != _SEEN:
            end -= 1
        return start, end

    def _complete(self, text: str, ids: Iterable[int], spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The spans trimmed, and with the characters between them that belong to no token but touch one."""
        answer: list[tuple[int, int]] = []
        unseen = {character for character in set(text) if self._kind(character) != _SEEN}
        reach, last = 0, -1  # the end of the covered text, and the token that covers it
        for token, (given, end) in zip(ids, spans, strict=True):
            start = given
            if token == self._mark:
                end = start
            elif start < end and (text[start] in unseen or text[end - 1] in unseen):
                start, end = self.trim(text, start, end)
            if start == end:
                answer.append((start, start))
                continue
            if start > reach:
                before, after = self._split(text, reach, start)
                if last >= 0:
                    answer[last] = (answer[last][0], before)
                start = after if after > before or last < 0 else start
            answer.append((start, end))
            if end >= reach:
                reach, last = end, len(answer) - 1
        if last >= 0:
            answer[last] = (answer[last][0], self._split(text, reach, len(text))[0])
        return answer

    def _split(self, text: str, start: int, end: int) -> tuple[int, int]:
        """In an uncovered stretch, the end of its first part without white space and the beginning of its last one."""
        before, after = start, end
        while before < end and self._kind(text[before]) == _SEEN:
            before += 1
        while after > before and self._kind(text[after - 1]) == _SEEN:
            after -= 1
        return before, after

    def _kind(self, character: str) -> str:
        """The tokenizer's text for a character; accents count as covered in any case."""
        kind = self._kinds.get(character)
        if kind is None:
            kind = self._kinds[character] = self._look(character)
        return kind

    def _look(self, character: str) -> str:
        if character.isspace():
            return _SPACE
        normal = character if self._normalizer is None else self._normalizer.normalize_str(character)
        if normal and not normal.isspace():
            return _SEEN
        if unicodedata.category(character).startswith("M"):
            return _SEEN
        return _SPACE if normal else _DROPPED
