"""Batches for language modelling, masked and causal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from xmodular.errors import ConfigurationError
from xmodular.pieces import Notation

_LONGEST_WORD = 10  # pieces; longer ones are web addresses, numbers or lines without spaces
# How Unicode's names of characters begin in scripts that put no spaces between words.
_NO_SPACES = re.compile(
    "(HALFWIDTH )?(CJK|IDEOGRAPHIC|HIRAGANA|KATAKANA|BOPOMOFO|YI|THAI|LAO|KHMER|MYANMAR|TIBETAN|TAI|NEW TAI|JAVANESE|"
    "BALINESE)[ -]"
)
# The first byte of Chinese and Japanese characters, as `Spelled` has it.
_FIRST_BYTES = "".join(chr(0xDC00 + byte) for byte in range(0xE3, 0xEA))


class MaskedLMCollator:
    """Turns blocks into a batch with masks, as in BERT (Devlin et al. 2019, section 3.1, task 1).

    Each token that is not special is chosen with `probability`; of the chosen, 80 % become ``<mask>``, 10 % a random
    token, 10 % stay. With `word_starts`, the tokens of a word are chosen together, each word with `probability`; a word
    of more than ten tokens, or a third of its row, does not count as one: its tokens are chosen one by one, so that a
    row's share of chosen tokens varies no more than without `word_starts`. The masks of a row are a function of the
    seed and the row's draw: the same in any process and any batch, with any number of workers, and after resuming.

    Args:
        special_ids: ids that are never chosen and never inserted at random.
        mask_id: id of ``<mask>``.
        pad_id: id of ``<pad>``.
        vocab_size: rows of the vocabulary.
        probability: share of tokens to choose.
        word_starts: (vocabulary,) bool: pieces that begin a word; None chooses tokens one by one.
        seed: seed that determines the masks, together with the draws.
    """

    def __init__(
        self,
        *,
        special_ids: Sequence[int],
        mask_id: int,
        pad_id: int,
        vocab_size: int,
        probability: float = 0.15,
        word_starts: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        self.is_special = np.zeros(vocab_size, dtype=bool)
        self.is_special[list(special_ids)] = True
        self.ordinary = np.flatnonzero(~self.is_special)
        self.mask_id = mask_id
        self.pad_id = pad_id
        self.probability = probability
        self.word_starts = word_starts
        self.seed = seed

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate.

        Args:
            rows: each with ``input_ids`` (sequence,), ``lang_id`` and ``draw``; ``chosen`` (sequence,) bool
                optionally says which tokens are predicted, as returned by `choose`.

        Returns:
            ``input_ids``, ``attention_mask`` and ``labels`` (batch, sequence) int64, labels -100 where nothing is
            predicted; ``lang_ids`` (batch,) int64; ``sparse_prediction`` True.
        """
        ids = np.stack([row["input_ids"] for row in rows]).astype(np.int64)  # (batch, sequence)
        randoms = [np.random.default_rng([self.seed, row["draw"]]) for row in rows]
        chosen = np.stack([row["chosen"] for row in rows]) if "chosen" in rows[0] else None
        inputs, labels = self.mask(ids, randoms, chosen)
        return _batch(rows, ids, inputs, labels, self.pad_id)

    def choose(self, blocks: np.ndarray) -> np.ndarray:
        """The tokens to predict when a model is measured on a whole text; at least one, if possible.

        All tokens (with `word_starts`, all words) have the same chance, and a short row may have none: if every row
        had to have one, tokens of short rows would be predicted too often.

        Args:
            blocks: (blocks, sequence) ids.

        Returns:
            (blocks, sequence) bool, determined by the seed and the blocks. If tokens are chosen singly, their share is
            `probability`, rounded to a whole number of tokens.
        """
        places = np.flatnonzero(~self.is_special[blocks])
        chosen = np.zeros(blocks.shape, dtype=bool)
        if self.word_starts is not None:
            for number, row in enumerate(blocks):
                chosen[number] = self._choose(row, np.random.default_rng([self.seed, 1, number]))
        if len(places) and not chosen.any():
            count = max(1, round(self.probability * len(places))) if self.word_starts is None else 1
            random = np.random.default_rng([self.seed, 2, len(places)])
            chosen.flat[random.choice(places, count, replace=False)] = True
        return chosen

    def mask(
        self, ids: np.ndarray, randoms: Sequence[np.random.Generator], chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels for token ids (batch, sequence) int64, each row by its generator; both have that shape."""
        if chosen is None:
            chosen = np.stack([self._choose(row, random) for row, random in zip(ids, randoms, strict=True)])
            if not chosen.any() and len(places := np.flatnonzero(~self.is_special[ids])):
                # A short batch may have no chosen token, and then no loss.
                chosen.flat[places[randoms[0].integers(len(places))]] = True
        labels = np.where(chosen, ids, -100)
        fate = np.stack([random.random(ids.shape[1]) for random in randoms])
        instead = np.stack([random.integers(len(self.ordinary), size=ids.shape[1]) for random in randoms])
        inputs = np.where(chosen & (fate < 0.8), self.mask_id, ids)
        replaced = chosen & (fate >= 0.8) & (fate < 0.9)
        return np.where(replaced, self.ordinary[instead], inputs), labels

    def _choose(self, row: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Which tokens of a row (sequence,) are chosen."""
        ordinary = ~self.is_special[row]
        if self.word_starts is None:
            return ordinary & (random.random(len(row)) < self.probability)
        after_special = np.concatenate([[True], ~ordinary[:-1]])
        begins = ordinary & (self.word_starts[row] | after_special)
        words = begins.cumsum() - 1  # each token's word
        if words[-1] < 0:
            return ordinary
        long = np.bincount(words[ordinary]) > min(_LONGEST_WORD, np.count_nonzero(ordinary) // 3)
        if long.any():
            words = (begins | (ordinary & long[words])).cumsum() - 1
        # A systematic sample of the words in random order: each has its probability, and their number hardly varies.
        order = random.permutation(int(words[-1]) + 1)
        start = random.random()
        steps = np.floor((order + 1) * self.probability + start) - np.floor(order * self.probability + start)
        return ordinary & (steps > 0)[words]


class CausalLMCollator:
    """Turns blocks into a batch whose labels are its tokens, each to be predicted from those before it.

    Args:
        pad_id: id of ``<pad>``, which is not predicted.
    """

    def __init__(self, *, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows as `MaskedLMCollator` does; labels are -100 at padding and at the first token."""
        ids = np.stack([row["input_ids"] for row in rows]).astype(np.int64)  # (batch, sequence)
        labels = np.where(ids == self.pad_id, -100, ids)
        labels[:, 0] = -100
        return _batch(rows, ids, ids, labels, self.pad_id)


def collator_of(
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    causal: bool = False,
    probability: float = 0.15,
    whole_words: bool = False,
) -> MaskedLMCollator | CausalLMCollator:
    """The collator for blocks of a tokenizer's ids.

    Args:
        tokenizer: the tokenizer.
        seed: of the masks.
        causal: predict every next token, and mask none.
        probability: share of tokens to choose.
        whole_words: choose the tokens of a word together.

    Raises:
        ConfigurationError: as for `word_starts`.
    """
    if causal:
        return CausalLMCollator(pad_id=tokenizer.pad_token_id)
    return MaskedLMCollator(
        special_ids=tokenizer.all_special_ids,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
        probability=probability,
        word_starts=word_starts(tokenizer) if whole_words else None,
        seed=seed,
    )


def word_starts(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Which pieces begin a word, (vocabulary,) bool.

    They follow a space, or WordPiece does not mark them as continuing a word, or they are in a script without
    spaces, such as Chinese or Thai, where a piece is the best available approximation of a word.

    Raises:
        ConfigurationError: no piece is marked.
    """
    notation = Notation.of(tokenizer.backend_tokenizer)
    pieces = [notation.read(piece) for piece in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    if not any(begins for begins, _ in pieces):
        raise ConfigurationError("--whole-words: the tokenizer's pieces do not show where a word begins.")
    return np.array([begins or begins_word(text) for begins, text in pieces])


def begins_word(text: str) -> bool:
    """Whether the text of a piece begins a word in any position, judged by its first character."""
    first = text[:1] or " "
    return first in _FIRST_BYTES or _NO_SPACES.match(unicodedata.name(first, "")) is not None


def _batch(
    rows: Sequence[Mapping[str, Any]], ids: np.ndarray, inputs: np.ndarray, labels: np.ndarray, pad_id: int
) -> dict[str, Any]:
    return {
        "input_ids": torch.from_numpy(inputs),
        "attention_mask": torch.from_numpy((ids != pad_id).astype(np.int64)),
        "lang_ids": torch.tensor([row["lang_id"] for row in rows]),
        "labels": torch.from_numpy(labels),
        "sparse_prediction": True,
    }
