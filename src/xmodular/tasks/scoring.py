"""Point values and intervals from per-row statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


def with_intervals(
    statistics: np.ndarray,
    metrics: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    resamplings: int,
    seed: int,
) -> dict[str, tuple[float, float, float]]:
    """Each metric's value with a 95 % interval by the percentile bootstrap over rows (Efron 1979).

    Args:
        statistics: (rows, statistics), sums of a row.
        metrics: from (..., statistics) sums to values (...) by name.
        resamplings: bootstrap samples.
        seed: of the resampling.

    Returns:
        (value, low, high) by metric.
    """
    rows = len(statistics)
    weights = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=resamplings)
    values = metrics(statistics.sum(0))
    resampled = metrics(weights @ statistics)  # (resamplings, statistics) sums
    answer = {}
    for name, value in values.items():
        low, high = np.percentile(resampled[name], [2.5, 97.5])
        answer[name] = (float(value), float(low), float(high))
    return answer
