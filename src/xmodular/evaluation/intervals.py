"""Intervals and p-values from per-row statistics, by leaving rows out.

Rows that are not independent form a unit: a single row, or all rows about one paragraph; in a mean over languages, with
their translations. A unit's pull is the change when it is left out (the jackknife, Efron and Stein 1981);
the squares of the pulls add up to the variance. Pulls add up too: over seeds, over languages, and with opposite sign
in a difference. So rows that two values share are treated as shared, in sets of any size, and clusters as clusters.

The width comes from Student's t, with one degree of freedom less than units, on a scale that suits the metric:
shares get Wilson's interval (1927) with the number of rows that gives the same variance (Korn and Graubard 1998),
correlations use Fisher's z, and unbounded values the logarithm. A difference of shares counts
half a row more of each kind of outcome (Agresti and Min 2005); otherwise a few rows that differ look too certain.
Unbounded values are compared by their ratio; the interval of the difference comes from both intervals and
their correlation (Zou and Donner 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from xmodular.results.values import CORRELATIONS, GEOMETRIC, LOWER_IS_BETTER

Scale = Literal["share", "correlation", "positive"]
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.975)
_NOISE = 1e-12  # of sums in floating point
_FAR = 500.0  # on the logarithmic scale: there is no end to an interval that reaches beyond


@dataclass(frozen=True)
class Measured:
    """A metric's value with the pulls of its units.

    Attributes:
        value: the value over all rows.
        units: (units,) numbers of the units that the value depends on, each once.
        joined: (units,) the number of each one's unit in means over languages.
        pulls: (units,) their pulls; NaN if the value depends on a single unit.
        rows: number of rows.
        scale: of the metric.
    """

    value: float
    units: np.ndarray
    joined: np.ndarray
    pulls: np.ndarray
    rows: int
    scale: Scale

    @property
    def error(self) -> float:
        """The standard error."""
        return float(np.sqrt((self.pulls**2).sum()))

    def interval(self) -> tuple[float, float]:
        """The 95 % interval; as wide as the scale, possibly unbounded, if the rows give no information."""
        if self.scale == "share":
            return self._share()
        turn, back = (math.atanh, math.tanh) if self.scale == "correlation" else (math.log, math.exp)
        least, most = (-1.0, 1.0) if self.scale == "correlation" else (0.0, math.inf)
        if not math.isfinite(self.value):
            return math.nan, math.nan
        if not least < self.value < most:  # an end of the scale, on which every unit agrees
            return self.value, self.value
        if self.scale == "correlation" and self.error == 0:  # one side is constant
            return least, most
        slope = 1 - self.value**2 if self.scale == "correlation" else self.value
        wide = quantile(len(self.units) - 1) * self.error / slope
        if not math.isfinite(wide):
            return least, most
        middle = turn(self.value)
        return back(middle - wide), back(middle + wide) if middle + wide < _FAR else most

    def _share(self) -> tuple[float, float]:
        value, count = self.value, len(self.units)
        if not math.isfinite(value):
            return math.nan, math.nan
        if count < 2:
            return (0.0, 1.0)
        q = quantile(count - 1) ** 2
        spread = value * (1 - value)
        rows = spread / self.error**2 * count / (count - 1) if self.error > 0 and spread > 0 else count
        middle, wide = value + q / (2 * rows), math.sqrt(q * (max(spread, 0.0) + q / (4 * rows)) / rows)
        low, high = (middle - wide) / (1 + q / rows), (middle + wide) / (1 + q / rows)
        return max(0.0, min(low, value)), min(1.0, max(high, value))


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
    units: np.ndarray,
    joined: np.ndarray | None = None,
) -> dict[str, Measured]:
    """Each metric over the rows, and the pull of every unit.

    Args:
        statistics: (rows, statistics), sums of a row.
        metrics: from (..., statistics) sums to values (...) by name.
        units: (rows,) the number of each row's unit.
        joined: (rows,) that of its unit in means over languages, which contains the other unit; default: the same.
    """
    numbers, first, places = np.unique(units, return_index=True, return_inverse=True)
    wider = (units if joined is None else joined)[first]
    sums = np.zeros((len(numbers), statistics.shape[1]))
    np.add.at(sums, places, statistics)
    total = statistics.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):  # if there is only one unit, nothing is left without it
        values, without, alone = metrics(total), metrics(total - sums), metrics(sums)
    found = {}
    for name, value in values.items():
        telling, pulls = _pulls(float(value), np.asarray(without[name]), np.asarray(alone[name]))
        found[name] = Measured(float(value), numbers[telling], wider[telling], pulls, len(statistics), _scale_of(name))
    return found


def _scale_of(metric: str) -> Scale:
    return "correlation" if metric in CORRELATIONS else "positive" if metric in LOWER_IS_BETTER else "share"


def _pulls(value: float, without: np.ndarray, alone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The units that affect a value, and their pulls; from the value without each unit and of each unit alone."""
    moved = value - without
    telling = (np.abs(moved) > _NOISE * max(1.0, abs(value))) | ~np.isfinite(moved)
    if not telling.any():  # at the end of a scale: those units count that have this value alone
        telling = np.isclose(alone, value)
    count = int(telling.sum())
    return telling, moved[telling] * math.sqrt((count - 1) / count) if count > 1 else np.full(count, np.nan)


def mean_of(parts: Sequence[Measured], metric: str, *, languages: bool = False) -> Measured:
    """The mean of several values: over the seeds of a run, on the same rows; or over languages, on all their rows.

    Args:
        parts: the values.
        metric: its name; the mean of perplexities is the geometric one.
        languages: whether they belong to different languages.
    """
    numbers = [part.joined if languages else part.units for part in parts]
    values = [part.value for part in parts]
    value, weights = float(np.mean(values)), np.ones(len(parts))
    if metric in GEOMETRIC:
        value = float(np.exp(np.mean(np.log(values))))
        weights = value / np.array(values)  # the derivative by each, times their number
    pulled = [part.pulls * weight / len(parts) for part, weight in zip(parts, weights, strict=True)]
    units, first, pulls = _sum(numbers, pulled)
    joined = units if languages else np.concatenate([part.joined for part in parts])[first]
    return Measured(value, units, joined, pulls, sum(part.rows for part in parts), parts[0].scale)


def compare(a: Measured, b: Measured) -> Difference:
    """The difference a - b, with Student's t over the units of both; NaN with p = 1 if a value is not a number."""
    units, _, pulls = _sum([a.units, b.units], [a.pulls, -b.pulls])
    value, error = a.value - b.value, float(np.sqrt((pulls**2).sum()))
    most = {"share": 1.0, "correlation": 2.0, "positive": math.inf}[a.scale]
    if not math.isfinite(value):
        return Difference(value, math.nan, math.nan, 1.0, a.rows)
    if len(units) < 2 or not math.isfinite(error):
        return Difference(value, -most, most, 1.0, a.rows)
    if a.scale == "positive" and min(a.value, b.value) > 0:
        return Difference(value, *_between(a, b, error), _p_of_ratio(a, b), a.rows)
    middle = value
    if a.scale == "share":
        middle, error = _with_half_a_row_more(value, error, a.rows)
    wide = quantile(len(units) - 1) * error
    low, high = min(value, max(middle - wide, -most)), max(value, min(middle + wide, most))
    return Difference(value, low, high, p_of(middle, error, len(units) - 1), a.rows)


def _between(a: Measured, b: Measured, error: float) -> tuple[float, float]:
    """95 % of a's value less b's, whose difference has that standard error, from the ends of their own intervals."""
    (a_low, a_high), (b_low, b_high) = a.interval(), b.interval()
    both = 2 * a.error * b.error
    correlation = (a.error**2 + b.error**2 - error**2) / both if both > 0 else 0.0

    def reach(one: float, other: float) -> float:
        far = max(one, other)
        if math.isinf(far):
            return far
        near = min(one, other) / far if far > 0 else 0.0
        return far * math.sqrt(max(0.0, 1 + near * near - 2 * correlation * near))

    value = a.value - b.value
    return value - reach(a.value - a_low, b_high - b.value), value + reach(a_high - a.value, b.value - b_low)


def _p_of_ratio(a: Measured, b: Measured) -> float:
    units, _, pulls = _sum([a.units, b.units], [a.pulls / a.value, -b.pulls / b.value])
    return p_of(math.log(a.value / b.value), float(np.sqrt((pulls**2).sum())), len(units) - 1)


def _with_half_a_row_more(value: float, error: float, rows: int) -> tuple[float, float]:
    """Difference and standard error, had there been two rows more: one a tie, half a row won and half a row lost."""
    variance = error**2 * rows * (rows - 1) + 1 + 2 * rows * value**2 / (rows + 2)
    return value * rows / (rows + 2), math.sqrt(variance / ((rows + 2) * (rows + 1)))


def _sum(units: Sequence[np.ndarray], pulls: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The units of several values, the first position of each, and the sum of its pulls."""
    numbers, first, places = np.unique(np.concatenate(units), return_index=True, return_inverse=True)
    return numbers, first, np.bincount(places, np.concatenate(pulls), len(numbers))


def quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by Wallace's approximation (1959), inverted; infinite for 0 degrees."""
    if freedom < 1:
        return math.inf
    z = _Z * (8 * freedom + 3) / (8 * freedom + 1)
    return math.sqrt(freedom * math.expm1(z * z / freedom))


def p_of(value: float, error: float, freedom: int) -> float:
    """Two-sided p-value of a value with a standard error, by Student's t in Wallace's approximation (1959)."""
    if value == 0:
        return 1.0
    if error == 0:
        return 0.0
    z = math.sqrt(freedom * math.log1p((value / error) ** 2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return math.erfc(z / math.sqrt(2))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979, A simple sequentially rejective multiple test procedure)."""
    corrected, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = least
    return corrected
