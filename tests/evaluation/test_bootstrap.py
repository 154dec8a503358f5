"""Intervals, differences and p-values against references and by hand."""

import numpy as np
import pytest

from xmodular.evaluation import bootstrap
from xmodular.evaluation.bootstrap import compare, holm, mean_of, measure


def accuracy(sums):
    return {"accuracy": sums[..., 0] / sums[..., 1]}


def measured(right, *, resamplings=4000, seed=0):
    statistics = np.stack([right, np.ones(len(right))], 1).astype(float)
    return measure(statistics, accuracy, resamplings=resamplings, seed=seed)["accuracy"]


def answers(rows, share, seed):
    return np.random.default_rng(seed).random(rows) < share


def test_intervals_are_those_of_the_binomial():
    right = answers(400, 0.7, 0)
    low, high = measured(right).interval()
    share = right.mean()
    wide = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert low == pytest.approx(share - wide, abs=0.008)
    assert high == pytest.approx(share + wide, abs=0.008)


def test_parts_of_the_resamplings_give_the_same(monkeypatch):
    whole = measured(answers(50, 0.6, 1), resamplings=37)
    monkeypatch.setattr(bootstrap, "_MOST", 200)
    assert np.array_equal(measured(answers(50, 0.6, 1), resamplings=37).resampled, whole.resampled)


@pytest.mark.parametrize("gain", [0.0, 0.02, 0.05, 0.1])
def test_p_values_are_close_to_the_exact_sign_test(gain):
    stats = pytest.importorskip("scipy.stats")
    a = answers(600, 0.6, 2)
    b = a ^ (np.random.default_rng(3).random(600) < 0.15)  # the same, but for some rows
    worse = np.flatnonzero(a & b)[: int(gain * 600)]
    b[worse] = False
    found = compare(measured(a), measured(b))
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    exact = stats.binomtest(wins, wins + losses).pvalue  # McNemar's test, exact
    assert found.value == pytest.approx((wins - losses) / 600)
    assert found.p == pytest.approx(exact, abs=0.06)
    assert (found.p < 0.05) == (exact < 0.05)


def test_p_values_are_uniform_without_a_difference():
    draws = np.random.default_rng(4)
    ps = []
    for _ in range(200):
        a, b = draws.random((2, 80)) < 0.6
        ps.append(compare(measured(a, resamplings=300), measured(b, resamplings=300)).p)
    assert 0.005 <= np.mean(np.array(ps) < 0.05) <= 0.11
    assert np.mean(ps) == pytest.approx(0.5, abs=0.08)


def test_pairing_sees_what_unpaired_intervals_do_not():
    a = answers(300, 0.5, 5)
    b = a.copy()
    b[np.flatnonzero(a)[:12]] = False  # never better, twelve times worse
    one, other = measured(a), measured(b)
    assert one.interval()[0] < other.interval()[1]  # the intervals overlap by far
    assert compare(one, other).p < 0.01
    assert compare(one, other).low > 0


def test_the_same_answers_do_not_differ():
    found = compare(measured(answers(40, 0.5, 6)), measured(answers(40, 0.5, 6)))
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_no_numbers_differ_from_nothing():
    found = compare(measured(np.full(20, np.nan)), measured(answers(20, 0.5, 8)))
    assert np.isnan(found.value)
    assert found.p == 1.0


def test_one_row():
    found = compare(measured(np.array([True])), measured(np.array([False])))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_parallel_rows_are_resampled_together():
    right = answers(200, 0.5, 7)
    alike, opposed = (mean_of([measured(right), measured(other)]) for other in (right, ~right))
    assert np.ptp(alike.interval()) == pytest.approx(np.ptp(measured(right).interval()))
    assert np.ptp(opposed.interval()) == pytest.approx(0, abs=1e-12)


def test_holm():
    # Holm (1979) by hand: 0.01 x 4, 0.02 x 3, 0.03 x 2, never less than the one before.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
