"""Intervals by the bootstrap."""

import numpy as np
import pytest

from xmodular.tasks import with_intervals


def test_interval_of_a_share_is_close_to_the_binomial_one():
    right = np.zeros((400, 1))
    right[:300] = 1
    values = with_intervals(right, lambda sums: {"share": sums[..., 0] / 400}, resamplings=4000, seed=0)
    value, low, high = values["share"]
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert value == 0.75
    assert low == pytest.approx(0.75 - half, abs=0.004)
    assert high == pytest.approx(0.75 + half, abs=0.004)


def test_interval_is_a_function_of_the_seed():
    rows = np.random.default_rng(0).random((50, 2))

    def interval(seed: int) -> tuple[float, float, float]:
        return with_intervals(rows, lambda s: {"r": s[..., 0] / s[..., 1]}, resamplings=200, seed=seed)["r"]

    assert interval(1) == interval(1)
    assert interval(1) != interval(2)
