"""Regression: rows, correlations."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from tests.support import example_of
from xmodular.evaluation.intervals import measure
from xmodular.tasks import TASKS, Room

REGRESS = TASKS["regress"]


def scores(gold, predicted):
    examples = [example_of(REGRESS, text="a", score=float(g)) for g in gold]
    return REGRESS.statistics(examples, [{"score": float(p)} for p in predicted], ["score"])


def test_rows(scripts_tokenizer):
    assert REGRESS.parse({"text": "a", "score": "2.5"}) == (("a",), 2.5)
    assert REGRESS.parse({"premise": "a", "hypothesis": "b", "score": 3}) == (("a", "b"), 3.0)
    assert REGRESS.parse({"text": "a"}) == (("a",), None)
    assert REGRESS.fields["score"] == ("score", "label")
    for wrong in ("much", True, float("nan"), float("inf"), "nan", [1], 10**400):
        with pytest.raises(ValueError, match="'score' must be a number"):
            REGRESS.parse({"text": "a", "score": wrong})
    (encoding,) = REGRESS.encode(scripts_tokenizer, [example_of(REGRESS, text="a", score=2.5)], ["score"], Room(9))
    assert REGRESS.targets([encoding], 3)["labels"].tolist() == [2.5]
    assert REGRESS.decode(None, [(encoding, np.array([0.25], dtype=np.float32))], ["score"]) == {"score": 0.25}


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_correlations_are_scipys(offset):
    random = np.random.default_rng(0)
    for rows in (3, 10, 200):
        gold = offset + random.integers(0, 6, rows)  # equal values too
        predicted = gold + random.normal(size=rows).round(1)
        gold[0] += 1
        values = REGRESS.metrics(scores(gold, predicted).sum(0), ["score"])
        assert list(values) == ["Pearson", "Spearman", "RMSE"]
        assert values["Pearson"] == pytest.approx(pearsonr(gold, predicted)[0], abs=1e-9)
        assert values["Spearman"] == pytest.approx(spearmanr(gold, predicted)[0], abs=1e-9)
        assert values["RMSE"] == pytest.approx(np.sqrt(np.mean((gold - predicted) ** 2)))


def test_a_constant_correlates_with_nothing():
    varied, constant = [1.0, 2.0, 4.5], [0.1, 0.1, 0.1]
    for gold, predicted in ((varied, constant), (constant, varied), (constant, constant), ([1.0], [2.0])):
        values = REGRESS.metrics(scores(gold, predicted).sum(0), ["score"])
        assert values["Pearson"] == values["Spearman"] == 0
    assert values["RMSE"] == 1


def test_resamples_keep_to_the_definition():
    """Pearson of a resampled file, from the sums of its rows, is that of its values; equal rows only give 0."""
    random = np.random.default_rng(1)
    gold, predicted = random.normal(size=(2, 40)) + 1000
    statistics = scores(gold, predicted)
    chosen = random.integers(0, 40, (30, 40))
    values = REGRESS.metrics(statistics[chosen].sum(1), ["score"])
    expected = [pearsonr(gold[rows], predicted[rows])[0] for rows in chosen]
    np.testing.assert_allclose(values["Pearson"], expected, atol=1e-9)
    assert REGRESS.metrics(statistics[[7] * 40].sum(0), ["score"])["Pearson"] == 0
    few = scores([1.0, 2.0, 2.5], [1.1, 2.3, 2.2])
    for measured in measure(few, lambda sums: REGRESS.metrics(sums, []), np.arange(3)).values():
        assert np.isfinite([measured.value, *measured.interval()]).all()


@pytest.mark.parametrize("ties", [False, True])
def test_a_rows_part_of_spearman_is_what_it_changes(ties):
    """Against the jackknife, by ranking all other rows anew."""
    random = np.random.default_rng(2)
    gold = random.normal(size=600)
    predicted = gold + random.normal(size=600)
    if ties:
        gold = np.clip(gold.round(), -1, 2)
    parts = scores(gold, predicted)[:, 7]
    whole = spearmanr(gold, predicted)[0]
    assert parts.mean() == pytest.approx(whole)
    left_out = np.array([spearmanr(np.delete(gold, row), np.delete(predicted, row))[0] for row in range(600)])
    np.testing.assert_allclose(parts - whole, 599 * (whole - left_out), atol=0.03)
    assert (parts - whole).std() == pytest.approx(599 * left_out.std(), rel=0.02)


def test_the_mean_is_the_best_constant():
    examples = [example_of(REGRESS, text="a", score=score) for score in (1, 2, 6)]
    assert REGRESS.guesses(examples, ["score"]) == {"majority": [{"score": 3.0}] * 3}


@pytest.mark.parametrize("score", ["1_0", "1,5", "", True, [1]])
def test_what_is_no_number(score):
    with pytest.raises(ValueError, match="'score' must be a number"):
        REGRESS.parse({"text": "a", "score": score})
