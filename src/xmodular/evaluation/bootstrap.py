"""Intervals and p-values from per-row statistics, by resampling rows.

Two things measured on the same rows are resampled alike, and so are sets with equally many rows: the values under one
resampling belong together. Where the rows of several languages are translations of each other that is as it should be;
where they are not, it changes nothing, for rows that have nothing to do with each other do not covary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xmodular.results.rows import GEOMETRIC

_MOST = 2**24  # counts in memory at once: 128 MiB
_TIE = 1e-12


@dataclass(frozen=True)
class Measured:
    """A metric's value, and what it is under each resampling.

    Attributes:
        value: of all rows.
        resampled: (resamplings,).
        rows: how many there are.
    """

    value: float
    resampled: np.ndarray
    rows: int

    def interval(self) -> tuple[float, float]:
        """95 %, by the percentile bootstrap (Efron 1979)."""
        low, high = np.percentile(self.resampled, [2.5, 97.5])
        return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """A difference with its 95 % interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float
    rows: int


def measure(
    statistics: np.ndarray,
    metrics: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    resamplings: int,
    seed: int,
) -> dict[str, Measured]:
    """Each metric over the rows, and over resamplings of the rows.

    Args:
        statistics: (rows, statistics), sums of a row.
        metrics: from (..., statistics) sums to values (...) by name.
        resamplings: bootstrap samples.
        seed: of the resampling.
    """
    rows = len(statistics)
    draw, shares = np.random.default_rng(seed), np.full(rows, 1 / rows)
    sums = np.empty((resamplings, statistics.shape[1]))
    step = max(1, _MOST // rows)
    for start in range(0, resamplings, step):
        part = sums[start : start + step]
        part[:] = draw.multinomial(rows, shares, size=len(part)) @ statistics
    values, resampled = metrics(statistics.sum(0)), metrics(sums)
    return {name: Measured(float(value), np.asarray(resampled[name]), rows) for name, value in values.items()}


def mean_of(parts: Sequence[Measured], metric: str | None = None) -> Measured:
    """The mean of several: over the seeds of a run, on the same rows; or over languages, on all their rows.

    Args:
        parts: what is measured.
        metric: its name; the mean of perplexities is the geometric one.
    """
    values, resampled = np.array([part.value for part in parts]), np.stack([part.resampled for part in parts])
    rows = sum(part.rows for part in parts)
    if metric in GEOMETRIC:
        return Measured(float(np.exp(np.log(values).mean())), np.exp(np.log(resampled).mean(0)), rows)
    return Measured(float(values.mean()), resampled.mean(0), rows)


def compare(a: Measured, b: Measured) -> Difference:
    """The paired bootstrap test: a's value less b's, measured on the same rows.

    Resampled differences, moved by the observed one, stand for those that there would be without a true difference;
    p is the share of them that is as far from zero as the observed one or farther, that one counted in. Koehn (2004),
    Statistical significance tests for machine translation evaluation; Berg-Kirkpatrick et al. (2012), An empirical
    investigation of statistical significance in NLP, with both sides counted here.
    """
    value, resampled = a.value - b.value, a.resampled - b.resampled
    low, high = np.percentile(resampled, [2.5, 97.5])
    within = int((np.abs(resampled - value) < abs(value) - _TIE).sum())  # values that are no numbers never are
    extreme = len(resampled) - within
    return Difference(value, float(low), float(high), (1 + extreme) / (1 + len(resampled)), a.rows)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979, A simple sequentially rejective multiple test procedure)."""
    corrected, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = least
    return corrected
