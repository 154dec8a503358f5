"""Map values to positions on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, with marks.

    Attributes:
        low, high: its ends.
        ticks: values to mark.
        logarithmic: whether the scale is logarithmic; both ends are positive then.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    @classmethod
    def of(cls, values: Iterable[float], *, low: float | None = None, high: float | None = None) -> Scale:
        """A linear axis that covers the values, with round ends and at most seven marks.

        Args:
            values: the values to cover; values that are not finite are ignored.
            low, high: a range that it covers in any case.
        """
        there = [value for value in (*values, low, high) if value is not None and math.isfinite(value)] or [0.0, 1.0]
        least, most = min(there), max(there)
        if least == most:
            most = least + 1.0
        step = _round_step((most - least) / 5)
        first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
        ticks = tuple(number * step for number in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks)

    @classmethod
    def log(cls, values: Iterable[float]) -> Scale:
        """A logarithmic axis that covers the positive values, between powers of ten, with at most seven marks."""
        there = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
        first, last = math.floor(math.log10(min(there))), math.ceil(math.log10(max(there)))
        last = max(last, first + 1)
        step = math.ceil((last - first) / 6)
        ticks = tuple(10.0**power for power in range(first, last + 1, step))
        return cls(ticks[0], 10.0**last, ticks, True)

    def at(self, value: float) -> float:
        """The position of a value in per cent of the axis; values outside are put at its ends."""
        if math.isnan(value):
            return 0.0
        if self.logarithmic:
            share = (math.log(max(value, self.low)) - math.log(self.low)) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 5, 10 ... that is not smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
