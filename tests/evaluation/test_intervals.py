"""Intervals, differences and p-values against references and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from xmodular.evaluation.intervals import compare, holm, mean_of, measure, p_of, quantile
from xmodular.tasks import TASKS, Example


def accuracy(sums):
    return {"accuracy": sums[..., 0] / sums[..., 1]}


def measured(right, units=None):
    statistics = np.stack([right, np.ones(len(right))], 1).astype(float)
    return measure(statistics, accuracy, np.arange(len(right)) if units is None else units)["accuracy"]


def answers(rows, share, seed):
    return np.random.default_rng(seed).random(rows) < share


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 1.0])
def test_intervals_of_shares_are_wilsons(share):
    right = np.arange(400) < 400 * share
    known = stats.binomtest(int(right.sum()), 400).proportion_ci(method="wilson")
    assert measured(right).interval() == pytest.approx((known.low, known.high), abs=4e-4)  # Student's t for 1.96


@pytest.mark.parametrize("freedom", [2, 5, 10, 30, 400])
def test_students_t_is_scipys(freedom):
    close = 0.2 / freedom**2
    assert quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=close)
    for value in (0.1, 1.0, 2.5, 6.0):
        assert p_of(value, 1.0, freedom) == pytest.approx(2 * stats.t.sf(value, freedom), abs=0.01 / freedom)
        assert p_of(-3 * value, 3.0, freedom) == p_of(value, 1.0, freedom)


def test_the_error_of_a_mean_is_that_of_its_rows():
    values = np.random.default_rng(0).random(30)
    found = measured(values)
    assert found.error == pytest.approx(values.std(ddof=1) / math.sqrt(30))


def test_rows_of_one_unit_count_once():
    values = np.random.default_rng(0).random(20)
    three_times = measured(np.repeat(values, 3), np.repeat(np.arange(20), 3))
    assert three_times.error == pytest.approx(measured(values).error)
    assert three_times.rows == 60
    sizes = np.array([1, 2, 3] * 10)
    units, drawn = np.repeat(np.arange(30), sizes), np.random.default_rng(1).random(60)
    sums = np.bincount(units, drawn)
    left = [(sums.sum() - s) / (60 - n) for s, n in zip(sums, sizes, strict=True)]  # the jackknife by its definition
    expected = math.sqrt(29 / 30 * ((np.array(left) - drawn.mean()) ** 2).sum())
    assert measured(drawn, units).error == pytest.approx(expected)


@pytest.mark.parametrize("gain", [0.0, 0.02, 0.05, 0.1])
def test_p_values_are_close_to_the_exact_sign_test(gain):
    a = answers(600, 0.6, 2)
    b = a ^ (np.random.default_rng(3).random(600) < 0.15)  # the same, but for some rows
    worse = np.flatnonzero(a & b)[: int(gain * 600)]
    b[worse] = False
    found = compare(measured(a), measured(b))
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    exact = stats.binomtest(wins, wins + losses).pvalue - stats.binom.pmf(wins, wins + losses, 0.5)  # McNemar, mid-p
    assert found.value == pytest.approx((wins - losses) / 600)
    assert found.p == pytest.approx(exact, abs=0.02)
    assert (found.p < 0.05) == (exact < 0.05) == (not found.low <= 0 <= found.high)


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
    assert (found.value, found.p) == (0.0, 1.0)
    assert -0.06 < found.low == -found.high < -0.04  # one of 20 others could be different


def test_no_numbers_differ_from_nothing():
    found = compare(measured(np.full(20, np.nan)), measured(answers(20, 0.5, 8)))
    assert np.isnan(found.value)
    assert found.p == 1.0


def test_one_row_says_nothing():
    found = compare(measured(np.array([True])), measured(np.array([False])))
    assert (found.value, found.low, found.high, found.p) == (1.0, -1.0, 1.0, 1.0)
    assert measured(np.array([True])).interval() == (0.0, 1.0)
    same_paragraph = measured(answers(9, 0.5, 0), np.zeros(9, dtype=int))
    assert same_paragraph.interval() == (0.0, 1.0)


@pytest.mark.parametrize("gold", [np.full(9, 0.3), np.arange(9.0)])
def test_a_constant_says_nothing_about_a_correlation(gold):
    task = TASKS["regress"]
    examples = [Example(("a",), value, "") for value in gold]
    statistics = task.statistics(examples, [{"score": 2.5}] * 9, ["score"])
    found = measure(statistics, lambda sums: task.metrics(sums, ["score"]), np.arange(9))
    assert found["Pearson"].interval() == found["Spearman"].interval() == (-1.0, 1.0)
    assert found["RMSE"].interval()[1] < 10


def test_f1_is_as_sure_as_there_are_sentences_with_spans():
    """Sentences without spans say nothing of F1, also where all spans are right."""

    def f1(sentences, empty):
        rows = np.array([[5, 5, 1, 1, 1]] * sentences + [[5, 5, 0, 0, 0]] * empty, dtype=float)
        metrics = measure(rows, lambda sums: TASKS["tag"].metrics(sums, ["O", "B-X", "I-X"]), np.arange(len(rows)))
        return metrics["F1"].interval()

    assert f1(10, 990) == f1(10, 0)
    assert f1(10, 990)[0] < 0.75


def test_pulls_of_shared_rows_add_up_in_means_and_differences():
    right = answers(200, 0.5, 7)
    alike, opposed = (
        mean_of([measured(right), measured(other)], "accuracy", languages=True) for other in (right, ~right)
    )
    assert alike.error == pytest.approx(measured(right).error)
    assert opposed.error == pytest.approx(0, abs=1e-12)
    apart = mean_of([measured(right), measured(right, np.arange(200, 400))], "accuracy", languages=True)
    assert apart.error == pytest.approx(measured(right).error / math.sqrt(2))
    # Of half the rows, half is shared; covariances by hand.
    half = measured(right[:100], np.arange(100))
    x, y = right - right.mean(), right[:100] - right[:100].mean()
    variance = (x @ x) / 200 / 199 + (y @ y) / 100 / 99 - 2 * (x[:100] @ y) / math.sqrt(200 * 199 * 100 * 99)
    assert mean_of([measured(right), half], "accuracy").error ** 2 == pytest.approx(
        ((x @ x) / 200 / 199 + (y @ y) / 100 / 99) / 2 - variance / 4
    )


def test_the_geometric_mean_moves_with_its_parts():
    """Leaving a block of text out of one of two languages moves the mean of their perplexities by its pull."""
    draw = np.random.default_rng(3)
    texts = [np.stack([draw.gamma(5.0, scale, 4000), np.ones(4000)], 1) for scale in (0.3, 0.9)]

    def perplexity(rows, units):
        return measure(rows, lambda sums: {"perplexity": np.exp(sums[..., 0] / sums[..., 1])}, units)["perplexity"]

    one, other = perplexity(texts[0], np.arange(4000)), perplexity(texts[1], np.arange(4000, 8000))
    both = mean_of([one, other], "perplexity", languages=True)
    assert both.value == pytest.approx(math.exp((texts[0][:, 0].mean() + texts[1][:, 0].mean()) / 2))
    # The mean's logarithm is the mean of the losses, whose errors are known.
    losses = [rows[:, 0].std(ddof=1) / math.sqrt(4000) for rows in texts]
    assert both.error / both.value == pytest.approx(math.hypot(*losses) / 2, rel=1e-3)


def test_holm():
    # Holm (1979) by hand: 0.01 x 4, 0.02 x 3, 0.03 x 2, never less than the one before.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
