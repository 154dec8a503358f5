"""How often each language is drawn: exponentially smoothed shares, and the sampler that keeps to them.

With n the tokens of a language and p = n / sum(n) its natural share, it is drawn with probability q proportional to
p^alpha (Conneau & Lample 2019, section 3.1). Its text is then repeated q / p times as often as its size alone would
have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from xmodular.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class Share:
    """One language's part in the mix: its tokens, natural share p and drawn share q."""

    tokens: int
    natural: float
    drawn: float

    @property
    def ratio(self) -> float:
        """How many times more often than by its size the language is drawn."""
        return self.drawn / self.natural


def language_shares(tokens: Mapping[str, int], alpha: float) -> dict[str, Share]:
    """Natural and smoothed shares.

    Args:
        tokens: tokens by language, each positive.
        alpha: 1 keeps the natural shares, 0 makes all equal.

    Raises:
        ConfigurationError: alpha is outside [0, 1].
        DataError: a language has no tokens.
    """
    if not 0 <= alpha <= 1:
        raise ConfigurationError(f"alpha must be between 0 (all languages equal) and 1 (natural shares); got {alpha}.")
    if empty := [language for language, count in tokens.items() if count <= 0]:
        raise DataError(f"No text for {', '.join(empty)}: leave the language out or add text.")
    total = sum(tokens.values())
    weights = {language: (count / total) ** alpha for language, count in tokens.items()}
    scale = sum(weights.values())
    return {language: Share(count, count / total, weights[language] / scale) for language, count in tokens.items()}


class Draw(NamedTuple):
    """One draw: which block, and the draw's number, which no other draw of the run has."""

    block: int
    number: int


class LanguageSampler(Sampler[Draw]):
    """Draws blocks so that each language has its share; a pure function of (seed, epoch).

    The language of every draw is drawn independently; its blocks come in a shuffled order and start over in a new one
    when they are through. So every block of a language is seen before one is seen twice.

    Args:
        sizes: number of blocks of each language; block ids count through the languages in this order.
        probabilities: share of each language; sums to 1.
        draws: draws an epoch.
        seed: what the draws are a function of, with the epoch (`set_epoch`).
    """

    def __init__(self, sizes: Sequence[int], probabilities: Sequence[float], draws: int, seed: int) -> None:
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        self.draws = draws
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draws

    def blocks(self) -> np.ndarray:
        """The blocks of this epoch, (draws,) int64."""
        random = np.random.default_rng([self.seed, self.epoch])
        languages = random.choice(len(self.sizes), size=self.draws, p=self.probabilities)
        blocks = np.empty(self.draws, dtype=np.int64)
        starts = np.cumsum(self.sizes) - self.sizes
        for language, (start, size) in enumerate(zip(starts, self.sizes, strict=True)):
            places = np.flatnonzero(languages == language)
            rounds = -(-len(places) // size)
            orders = [random.permutation(size) for _ in range(rounds)]
            blocks[places] = start + np.concatenate([*orders, np.empty(0, dtype=np.int64)])[: len(places)]
        return blocks

    def __iter__(self) -> Iterator[Draw]:
        first = self.epoch * self.draws
        for position, block in enumerate(self.blocks().tolist()):
            yield Draw(block, first + position)
