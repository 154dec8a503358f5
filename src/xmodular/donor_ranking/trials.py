"""Bits per character of a sample under the adapters of a model, and under averages of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from xmodular.languages import resolve_or_none
from xmodular.modeling import XmodForMaskedLM
from xmodular.perplexity import block_statistics, perplexity_metrics, text_statistics, to_predict
from xmodular.text import MeasuredText, collator_of

_FIRST = 0.25  # share of the blocks on which all languages are measured


class Trials:
    """Measures a sample under one adapter after the other, always with the same masks.

    Args:
        model: the model; it gets a language and loses it again while an average is measured.
        text: the sample.
        tokenizer: of the model.
        probability: share of tokens to predict.
        batch_size: blocks per forward pass.
        seed: of the masks.
        advance: called with the number of blocks done since the last call.

    Attributes:
        first: numbers of the blocks of a first, smaller measurement, drawn from all.
        rest: the other ones.
    """

    def __init__(
        self,
        model: XmodForMaskedLM,
        text: MeasuredText,
        tokenizer: PreTrainedTokenizerFast,
        *,
        probability: float,
        batch_size: int,
        seed: int,
        advance: Callable[[int], None] = lambda blocks: None,
    ) -> None:
        self.model, self.text, self.batch_size, self.advance = model, text, batch_size, advance
        self.unk_id = tokenizer.unk_token_id
        self.collator = collator_of(tokenizer, seed=seed, probability=probability)
        blocks, chosen = to_predict(text, self.collator)
        self.chosen = dict(zip(blocks.tolist(), chosen, strict=True))
        drawn = np.random.default_rng(seed).permutation(len(text.blocks))
        few = max(1, round(_FIRST * len(drawn)))
        # Blocks without a token to predict count too: with their characters, and what is lost in them.
        self.first, self.rest = np.sort(drawn[:few]), np.sort(drawn[few:])
        if not any(block in self.chosen for block in self.first.tolist()):
            self.first, self.rest = np.arange(len(drawn)), drawn[:0]

    def sums(self, codes: Sequence[str], blocks: np.ndarray) -> dict[str, np.ndarray]:
        """The sums of `text_statistics` over some blocks under each language's adapter.

        Args:
            codes: languages of the model.
            blocks: numbers of the blocks.

        Returns:
            (7,) sums by code.
        """
        here = [block for block in blocks.tolist() if block in self.chosen]
        # Languages are mixed in a batch; the masks of a block are a function of its number alone.
        ids = [self.model.languages.index(code) for code in codes]
        predicted = block_statistics(
            self.model,
            [self.text.blocks[block] for block in here] * len(codes),
            [each for each in ids for _ in here],
            here * len(codes),
            self.collator,
            chosen=[self.chosen[block] for block in here] * len(codes),
            unk_id=self.unk_id,
            batch_size=self.batch_size,
            advance=self.advance,
        ).reshape(len(codes), len(here), 3)
        places = np.array(here, dtype=np.int64)
        return {
            code: text_statistics(self.text, places, rows, causal=False)[blocks].sum(0)
            for code, rows in zip(codes, predicted, strict=True)
        }

    def sums_of_average(self, shares: Mapping[str, float], blocks: np.ndarray) -> np.ndarray:
        """(7,) sums under the weighted average of the adapters of some languages, as `add_language` makes it."""
        with _lent(self.model, shares) as code:
            return self.sums([code], blocks)[code]


def bits_per_character(sums: np.ndarray) -> float:
    """Bits per character, from (7,) sums."""
    return float(perplexity_metrics(sums)["bits per character"])


@contextmanager
def _lent(model: XmodForMaskedLM, shares: Mapping[str, float]) -> Iterator[str]:
    """A language that a model has for a moment: the average of others."""
    # ISO 639-2 reserves these codes for local use.
    free = (f"qa{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")
    code = next(each for each in free if resolve_or_none(each, model.languages) is None)
    with torch.random.fork_rng(devices=[]):  # a new adapter draws weights, before it gets the average
        model.add_language(code, dict(shares))
    try:
        yield code
    finally:
        model.remove_language(code)
