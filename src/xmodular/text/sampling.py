"""How often each language is sampled: exponentially smoothed shares, a sampler with these shares, and its batches.

With n the tokens of a language and p = n / sum(n) its natural share, its share of the tokens read is q, proportional to
p^alpha (Conneau & Lample 2019, section 3.1). Its text is then repeated q / p times as often as under natural
shares. Alpha may change linearly from the first draw of a run to the last.

Shares count tokens, but blocks are drawn. With m the mean number of tokens in a language's blocks, without padding, a
language is drawn with a probability proportional to q / m; if all blocks are full, that is q.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from xmodular.errors import ConfigurationError, DataError

_CHUNK = 4096  # draws, or runs of draws, made at a time


@dataclass(frozen=True)
class Share:
    """One language's part in the mix: its tokens, natural share p and sampled share q."""

    tokens: int
    natural: float
    drawn: float

    @property
    def ratio(self) -> float:
        """How many times more often the language is sampled than under natural shares."""
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
    """One draw: the block, and the draw's number, which is unique in the run."""

    block: int
    number: int


class LanguageSampler(Sampler[Draw]):
    """Samples the blocks of a whole run so that each language has its share of tokens; determined by the seed.

    The languages of the draws (or of runs of `run` draws) are a stratified sample, a few thousand at a time: closer to
    the shares than independent draws would be. A language's blocks come in shuffled order, reshuffled after each
    pass, so every block of a language is seen before any is seen twice.

    Args:
        sizes: number of blocks of each language; block ids count through the languages in this order.
        tokens: tokens of each language's blocks, without padding, each positive; they determine its share.
        draws: number of draws of the run.
        seed: random seed; it determines the draws.
        alpha: exponent of the smoothing, at the first draw.
        alpha_end: exponent at the last draw, linear in between; None keeps `alpha`.
        run: this many consecutive draws have the same language.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        tokens: Sequence[int],
        draws: int,
        seed: int,
        *,
        alpha: float = 0.3,
        alpha_end: float | None = None,
        run: int = 1,
    ) -> None:
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.log_shares = np.log(np.asarray(tokens, dtype=np.float64) / np.sum(tokens))
        self.log_rows = np.log(self.sizes / np.asarray(tokens, dtype=np.float64))  # blocks a token
        self.draws = draws
        self.seed = seed
        self.alpha = alpha
        self.alpha_end = alpha if alpha_end is None else alpha_end
        self.run = run

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[Draw]:
        return islice(self.stream(), self.draws)

    def stream(self) -> Iterator[Draw]:
        """The run's draws, and then as many more as requested, with the last alpha."""
        for chunk, blocks in enumerate(self.chunks()):
            first = chunk * _CHUNK * self.run
            for position, block in enumerate(blocks.tolist()):
                yield Draw(block, first + position)

    def blocks(self) -> np.ndarray:
        """The blocks of the run, (draws,) int64."""
        chunks = -(-self.draws // (_CHUNK * self.run))
        return np.concatenate([np.empty(0, np.int64), *islice(self.chunks(), chunks)])[: self.draws]

    def chunks(self) -> Iterator[np.ndarray]:
        """The blocks of the draws, a few thousand at a time, endlessly."""
        starts = np.cumsum(self.sizes) - self.sizes
        taken = np.zeros(len(self.sizes), dtype=np.int64)  # draws of each language so far
        orders: dict[int, np.ndarray] = {}  # the shuffled blocks of each language's present pass
        chunk = 0
        while True:
            languages = self._languages(chunk)
            blocks = np.empty(len(languages), dtype=np.int64)
            by_language = np.split(languages.argsort(kind="stable"), np.bincount(languages).cumsum())
            for language, places in enumerate(by_language[:-1]):
                size = int(self.sizes[language])
                done = 0
                while done < len(places):
                    number, within = divmod(int(taken[language]), size)
                    if within == 0:
                        orders[language] = np.random.default_rng([self.seed, 1, language, number]).permutation(size)
                    part = orders[language][within : within + len(places) - done]
                    blocks[places[done : done + len(part)]] = starts[language] + part
                    done += len(part)
                    taken[language] += len(part)
            yield blocks
            chunk += 1

    def _languages(self, chunk: int) -> np.ndarray:
        """The language of each draw of a chunk."""
        first = (chunk * _CHUNK + np.arange(_CHUNK)) * self.run
        progress = np.minimum(first / max(self.draws - 1, 1), 1.0)
        if self.alpha == self.alpha_end:
            progress = progress[:1]  # all rows are one
        alphas = self.alpha + (self.alpha_end - self.alpha) * progress
        sums = np.exp(alphas[:, None] * self.log_shares + self.log_rows).cumsum(1)  # (draws, languages)
        # One draw from each of many equal parts of the interval, in random order: the shares hardly vary by chance.
        random = np.random.default_rng([self.seed, 0, chunk])
        chance = ((random.permutation(_CHUNK) + random.random(_CHUNK)) / _CHUNK)[:, None]
        chosen = (sums[:, :-1] <= chance * sums[:, -1:]).sum(1)
        return np.repeat(chosen, self.run)


class Batches(Sampler[list[Draw]]):
    """The batches of one process: every n-th batch of the run, for n processes.

    Args:
        draws: the draws of the run, endless.
        batches: number of batches of the run, over all processes.
        rows: draws per batch; ignored with `budget`.
        budget: tokens per batch: as many draws as fit, at least one.
        lengths: (blocks,) tokens of every block, by block id; needed for a budget, and to count the tokens read.
        rank: number of this process.
        ranks: number of processes.
    """

    def __init__(
        self,
        draws: LanguageSampler,
        batches: int,
        rows: int,
        *,
        budget: int | None = None,
        lengths: np.ndarray | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.draws = draws
        self.batches = batches
        self.rows = rows
        self.budget = budget
        self.lengths = lengths
        self.rank = rank
        self.ranks = ranks

    def __len__(self) -> int:
        return len(range(self.rank, self.batches, self.ranks))

    def __iter__(self) -> Iterator[list[Draw]]:
        made = self._by_rows() if self.budget is None else self._by_tokens(self.budget)
        return islice(made, self.rank, self.batches, self.ranks)

    def _by_rows(self) -> Iterator[list[Draw]]:
        stream = self.draws.stream()
        while True:
            yield list(islice(stream, self.rows))

    def _by_tokens(self, budget: int) -> Iterator[list[Draw]]:
        stream = self.draws.stream()
        for rows in self._sizes(budget):
            yield list(islice(stream, rows))

    def _sizes(self, budget: int) -> Iterator[int]:
        """How many draws each batch takes, without end."""
        assert self.lengths is not None
        rows = tokens = 0
        for blocks in self.draws.chunks():
            for length in self.lengths[blocks].tolist():
                if rows and tokens + length > budget:
                    yield rows
                    rows = tokens = 0
                rows += 1
                tokens += length

    def mean_rows(self) -> float:
        """Average number of draws per batch, over as many draws as a run of `draws` has."""
        if self.budget is None:
            return float(self.rows)
        rows = batches = 0
        for size in self._sizes(self.budget):
            rows, batches = rows + size, batches + 1
            if rows >= self.draws.draws:
                break
        return rows / batches

    def tokens(self) -> np.ndarray:
        """Tokens of each language in all batches of the run, over all processes, (languages,) int64."""
        assert self.lengths is not None
        left = self.batches * self.rows
        if self.budget is not None:
            left = sum(islice(self._sizes(self.budget), self.batches))
        ends = np.cumsum(self.draws.sizes)
        read = np.zeros(len(ends), dtype=np.int64)
        chunks = self.draws.chunks()
        while left > 0:
            blocks = next(chunks)[:left]
            np.add.at(read, np.searchsorted(ends, blocks, side="right"), self.lengths[blocks])
            left -= len(blocks)
        return read


def block_lengths(languages: Iterable[np.ndarray], pad_id: int) -> np.ndarray:
    """Number of non-padding tokens of every block, (blocks,) int64, in the order of block ids."""
    counts = [np.empty(0, np.int64)]
    for blocks in languages:
        for start in range(0, len(blocks), _CHUNK):
            counts.append((blocks[start : start + _CHUNK] != pad_id).sum(1))
    return np.concatenate(counts)
