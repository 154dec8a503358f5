"""Token ids of texts, and the special tokens around them. Text itself never becomes a special token.

The tokenizer's own truncation is not used: truncation depends on the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tokenizers import Encoding as Tokens
from transformers import PreTrainedTokenizerFast

from xmodular.tasks.task import Stretch
from xmodular.vocabulary import text_backend


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a sequence: ``<s> A </s>`` for one text, ``<s> A </s></s> B </s>`` for two.

    BERT's are ``[CLS] A [SEP]`` and ``[CLS] A [SEP] B [SEP]``, in which ``B [SEP]`` has the type 1.

    Attributes:
        before, between, after: ids; `between` is empty for one text.
        kinds: the types of the tokens before, of the first text, between, of the second text, after; one for each text.
            Empty where all are 0.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    kinds: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        """The number of special tokens."""
        return len(self.before) + len(self.between) + len(self.after)

    def around(self, first: Sequence[int], second: Sequence[int] = ()) -> tuple[int, ...]:
        """The sequence for the ids of one or two texts."""
        return (*self.before, *first, *self.between, *second, *self.after)

    def stretches(self, first: int, second: int | None = None, start: int = 0) -> tuple[Stretch, ...]:
        """Where the texts of these lengths are in a sequence; of the last one, the tokens from `start` on."""
        before = len(self.before)
        if second is None:
            return (Stretch(before, 0, start, start + first),)
        return Stretch(before, 0, 0, first), Stretch(before + first + len(self.between), 1, start, start + second)

    def types(self, first: int, second: int = 0) -> tuple[int, ...]:
        """The token types for one or two texts of these lengths; empty if all are 0."""
        if not self.kinds:
            return ()
        before, one, between, other, after = self.kinds
        return (*before, *one * first, *between, *other * second, *after)


def special_tokens_of(tokenizer: PreTrainedTokenizerFast, texts: int) -> SpecialTokens:
    """The special tokens that the tokenizer adds around one or two texts."""
    encoding = text_backend(tokenizer).encode("a", "a" if texts == 2 else None)
    ids, kinds, sides = encoding.ids, encoding.type_ids, encoding.sequence_ids
    edges = [0]
    for side in range(texts):  # "a" may be several tokens
        inside = [place for place, found in enumerate(sides) if found == side]
        edges += [inside[0], inside[-1] + 1]
    before, one, *more, after = [slice(*pair) for pair in pairwise([*edges, len(ids)])]
    between, other = more or [slice(0), slice(0)]
    told = "token_type_ids" in tokenizer.model_input_names and any(kinds)
    types = (kinds[before], kinds[one][:1], kinds[between], kinds[other][:1], kinds[after])
    return SpecialTokens(
        tuple(ids[before]), tuple(ids[between]), tuple(ids[after]), tuple(map(tuple, types)) if told else ()
    )


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without special tokens."""
    return [
        encoding.ids for encoding in text_backend(tokenizer).encode_batch_fast(list(texts), add_special_tokens=False)
    ]


def tokens_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Tokens]:
    """Tokens of each text with their positions in it, without special tokens."""
    return text_backend(tokenizer).encode_batch(list(texts), add_special_tokens=False)


def words_of(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sequence[str]]) -> list[Tokens]:
    """Tokens of each sentence, given as words, with the word of each token; without special tokens.

    If the space before a word is part of its tokens, as in byte-level BPE, each word except the first has one.
    """
    backend = text_backend(tokenizer)
    alone, spaced = (backend.encode(text, add_special_tokens=False).ids for text in ("a", " a"))
    space = " " if alone != spaced else ""
    words = [[space * (place > 0) + word for place, word in enumerate(sentence)] for sentence in sentences]
    return backend.encode_batch(words, is_pretokenized=True, add_special_tokens=False)


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """The numbers of tokens to keep of two texts so that both fit; the longer one is truncated first."""
    shorter = min(first, second, room // 2)
    if first <= second:
        return shorter, min(second, room - shorter)
    return min(first, room - shorter), shorter


def windows(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Windows of at most `room` tokens over `tokens` tokens; neighbours share `stride`, at most half of `room`.

    Returns:
        (start, end) of each; at least one.
    """
    step = room - min(stride, room // 2)
    starts = range(0, max(1, tokens - room + step), step)
    return [(start, min(start + room, tokens)) for start in starts]
