"""Token ids of texts, and what the tokenizer puts around them. What a text spells is never a special token.

The tokenizer's own truncation is not used: a task knows better what to cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding as Tokens
from transformers import PreTrainedTokenizerFast

from xmodular.vocabulary import text_backend


@dataclass(frozen=True)
class Frame:
    """The special tokens of a sequence: ``<s> A </s>`` for one text, ``<s> A </s></s> B </s>`` for two.

    Attributes:
        before, between, after: ids; `between` is empty for one text.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its number of tokens."""
        return len(self.before) + len(self.between) + len(self.after)

    def around(self, first: Sequence[int], second: Sequence[int] = ()) -> tuple[int, ...]:
        """The sequence of one text's ids or two."""
        return (*self.before, *first, *self.between, *second, *self.after)


def frame_of(tokenizer: PreTrainedTokenizerFast, texts: int) -> Frame:
    """What the tokenizer puts around one text or two."""
    encoding = text_backend(tokenizer).encode("a", "a" if texts == 2 else None)
    groups: list[list[int]] = [[]]
    inside = False
    for token, sequence in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            groups[-1].append(token)
        elif not inside:
            groups.append([])
        inside = sequence is not None
    before, *between, after = map(tuple, groups)
    return Frame(before, between[0] if between else (), after)


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without special tokens."""
    return [
        encoding.ids for encoding in text_backend(tokenizer).encode_batch_fast(list(texts), add_special_tokens=False)
    ]


def tokens_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Tokens]:
    """Tokens of each text with their places in it, without special tokens."""
    return text_backend(tokenizer).encode_batch(list(texts), add_special_tokens=False)


def words_of(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sequence[str]]) -> list[Tokens]:
    """Tokens of each sentence, given as words; they know their words. Without special tokens."""
    words = [list(sentence) for sentence in sentences]
    return text_backend(tokenizer).encode_batch(words, is_pretokenized=True, add_special_tokens=False)


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens two texts may keep so that both fit: the longer one is cut first."""
    shorter = min(first, second, room // 2)
    if first <= second:
        return shorter, min(second, room - shorter)
    return min(first, room - shorter), shorter


def windows(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Windows of at most `room` tokens over `tokens` of them, neighbours sharing `stride`, half of `room` at most.

    Returns:
        (start, end) of each; one at least.
    """
    step = room - min(stride, room // 2)
    starts = range(0, max(1, tokens - room + step), step)
    return [(start, min(start + room, tokens)) for start in starts]
