"""How often intervals hold the true value, and how often p is below 0.05 where there is no difference.

Both are counted over many made-up test sets whose true values are known. `python -m tests.evaluation.test_coverage`
prints the table.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import pytest

from xmodular.evaluation.intervals import Measured, compare, mean_of, measure
from xmodular.perplexity import perplexity_metrics
from xmodular.tasks import TASKS, Example

Random = np.random.Generator
Result = tuple[float, float, float | None]  # low, high and p
Truth = float | Callable[[], float]  # what takes a while is found out when it is needed
Case = tuple[Truth, Callable[[Random, int], Result]]  # the true value; from rows to a result


def of(task: str, metric: str, statistics: np.ndarray, units: np.ndarray | None = None) -> Measured:
    labels = {"tag": ["O", "B-X", "I-X"], "classify": ["a", "b", "c"]}.get(task, [])
    units = np.arange(len(statistics)) if units is None else units
    if task == "perplexity":
        return measure(statistics, perplexity_metrics, units)[metric]
    return measure(statistics.astype(float), lambda sums: TASKS[task].metrics(sums, labels), units)[metric]


def accuracy(right: np.ndarray, units: np.ndarray | None = None) -> Measured:
    return of("choice", "accuracy", np.stack([np.ones(len(right)), right], 1), units)


def difference(a: Measured, b: Measured) -> Result:
    found = compare(a, b)
    return found.low, found.high, found.p


def alone(measured: Measured) -> Result:
    return *measured.interval(), None


# Rows. What two models make of the same rows has to do with each other.


def spans(random: Random, rows: int, slips: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Two models tag sentences, some without spans, some harder than others; the second makes `slips` up."""
    gold, skill = random.poisson(1.2, rows), random.beta(4, 1.5, rows)
    words = 3 * gold + random.poisson(8, rows)
    both = []
    for more in (0.3, slips):
        found = random.binomial(gold, skill)
        both.append(np.stack([words, words - gold + found, gold, found + random.poisson(more, rows), found], 1))
    return both[0], both[1]


def answers(random: Random, rows: int) -> np.ndarray:
    """Most answers right or wrong, some in part."""
    kind = random.random(rows)
    f1 = np.where(kind < 0.55, 1.0, np.where(kind < 0.8, 0.0, random.beta(2, 2, rows)))
    return np.stack([np.ones(rows), f1, f1 == 1], 1)


def numbers(random: Random, rows: int, correlation: float, grades: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Two models' numbers, which miss the gold ones in part alike."""
    gold = random.normal(size=rows)
    miss = random.normal(size=(3, rows))
    examples = [Example(("a",), score, "") for score in (np.clip(gold.round(), -2, 2) if grades else gold).tolist()]
    both = []
    for own in miss[1:]:
        said = correlation * gold + np.sqrt(1 - correlation**2) * (miss[0] + own) / np.sqrt(2)
        both.append(TASKS["regress"].statistics(examples, [{"score": score} for score in said.tolist()], []))
    return both[0], both[1]


def topics(random: Random, rows: int) -> np.ndarray:
    """Three classes; a quarter of the rows is a guess."""
    gold = random.choice(3, rows, p=[0.5, 0.3, 0.2])
    said = np.where(random.random(rows) < 0.75, gold, random.choice(3, rows))
    truth, predicted = np.eye(3)[gold], np.eye(3)[said]
    return np.concatenate([truth, predicted, truth * predicted], 1)


def large(task: str, metric: str, draw: Callable[[Random, int], np.ndarray]) -> Truth:
    """The value of very many rows."""

    def truth() -> float:
        return of(task, metric, draw(np.random.default_rng(1), 500_000), np.arange(500_000) % 2).value

    return truth


# Cases.


def shares() -> Iterator[tuple[str, Case]]:
    def one(share: float) -> Case:
        return share, lambda random, rows: alone(accuracy(random.random(rows) < share))

    def two(won: float, lost: float) -> Case:
        def case(random: Random, rows: int) -> Result:
            kind = random.choice(4, rows, p=[won, lost, 0.6 - won, 0.4 - lost])
            return difference(accuracy((kind == 0) | (kind == 2)), accuracy((kind == 1) | (kind == 2)))

        return won - lost, case

    def apart(random: Random, rows: int) -> Result:
        a, b = random.random((2, rows)) < 0.7
        return difference(accuracy(a), accuracy(b, np.arange(rows, 2 * rows)))

    for share in (0.05, 0.3, 0.5, 0.8, 0.95, 0.98):
        yield f"accuracy {share}", one(share)
    for won, lost in ((0.1, 0.1), (0.2, 0.2), (0.05, 0.05), (0.15, 0.05), (0.1, 0.0)):
        yield f"accuracy, difference, {won} won, {lost} lost", two(won, lost)
    yield "accuracy, difference, other rows", (0.0, apart)
    yield (
        "macro-F1",
        (large("classify", "macro-F1", topics), lambda r, n: alone(of("classify", "macro-F1", topics(r, n)))),
    )


def ratios() -> Iterator[tuple[str, Case]]:
    for metric in ("F1", "precision"):
        truth = large("tag", metric, lambda random, rows: spans(random, rows)[0])
        yield f"span {metric}", (truth, lambda r, n, m=metric: alone(of("tag", m, spans(r, n)[0])))
    both = (large("tag", "F1", lambda r, n: spans(r, n)[0]), large("tag", "F1", lambda r, n: spans(r, n, 0.6)[1]))
    for slips, lost in ((0.3, 0.0), (0.6, lambda: both[0]() - both[1]())):

        def case(random: Random, rows: int, slips: float = slips) -> Result:
            a, b = spans(random, rows, slips)
            return difference(of("tag", "F1", a), of("tag", "F1", b))

        yield f"span F1, difference{', real' if slips > 0.3 else ''}", (lost, case)
    truth = large("qa", "F1", answers)
    yield "QA F1", (truth, lambda random, rows: alone(of("qa", "F1", answers(random, rows))))


def regressions() -> Iterator[tuple[str, Case]]:
    def one(metric: str, correlation: float) -> Callable[[Random, int], Result]:
        return lambda random, rows: alone(of("regress", metric, numbers(random, rows, correlation)[0]))

    def two(metric: str, correlation: float, grades: bool) -> Callable[[Random, int], Result]:
        def case(random: Random, rows: int) -> Result:
            a, b = numbers(random, rows, correlation, grades)
            return difference(of("regress", metric, a), of("regress", metric, b))

        return case

    for correlation in (0.0, 0.5, 0.9):
        yield f"Pearson {correlation}", (correlation, one("Pearson", correlation))
        yield f"Spearman {correlation}", (6 / np.pi * np.arcsin(correlation / 2), one("Spearman", correlation))
    yield "RMSE", (1.0, one("RMSE", 0.5))
    for metric in ("Pearson", "Spearman", "RMSE"):
        yield f"{metric}, difference", (0.0, two(metric, 0.8, False))
        yield f"{metric}, difference, grades", (0.0, two(metric, 0.8, True))


def lines(random: Random, rows: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Lines of 2 to 20 tokens, some hard and a few <unk>; 15 % are predicted, in many lines none. The first model's
    losses are higher by `gain`."""
    tokens, hard = random.integers(2, 21, rows), random.gamma(9.0, 3 / 9, rows)
    unknown = random.binomial(tokens, 0.03)
    line = np.repeat(np.arange(rows), tokens - unknown)
    chosen = random.choice(len(line), round(0.15 * len(line)), replace=False)
    predicted = np.bincount(line[chosen], minlength=rows)
    losses = [np.bincount(line[chosen], random.gamma(1.0, hard[line[chosen]]), rows) for _ in range(2)]
    both = [
        np.stack([loss, predicted // 2, predicted, tokens - unknown, unknown, 5 * tokens, 4 * unknown], 1)
        for loss in (losses[0] * (1 + gain), losses[1])
    ]
    return both[0], both[1]


def perplexities() -> Iterator[tuple[str, Case]]:
    def truth(metric: str, gain: float = 0.0) -> Truth:
        return large("perplexity", metric, lambda random, rows: lines(random, rows, gain)[0])

    for metric in ("perplexity", "bits per character"):
        yield metric, (truth(metric), lambda r, n, m=metric: alone(of("perplexity", m, lines(r, n)[0])))
    both = truth("perplexity", 0.3), truth("perplexity")
    for gain, more in ((0.0, 0.0), (0.3, lambda: both[0]() - both[1]())):

        def case(random: Random, rows: int, gain: float = gain) -> Result:
            return difference(*(of("perplexity", "perplexity", each) for each in lines(random, rows, gain)))

        yield f"perplexity, difference{', real' if gain else ''}", (more, case)


def clusters() -> Iterator[tuple[str, Case]]:
    """Five questions about each paragraph, `rows` in all; a paragraph is hard for both models, or more for one."""

    def draw(random: Random, rows: int) -> tuple[Measured, Measured]:
        units = np.repeat(np.arange(rows // 5), 5)
        hard = random.beta(3, 2, rows // 5)[units]
        both = []
        for _ in range(2):
            own = np.clip(hard + random.normal(0, 0.1, rows // 5)[units], 0, 1)
            right = random.random(rows) < own
            f1 = np.where(right, 1.0, random.random(rows) < 0.3) * np.where(random.random(rows) < 0.3, 0.5, 1.0)
            both.append(of("qa", "F1", np.stack([np.ones(rows), f1, f1 == 1], 1), units))
        return both[0], both[1]

    def truth() -> float:
        random = np.random.default_rng(2)
        hard = np.clip(random.beta(3, 2, 10**6) + random.normal(0, 0.1, 10**6), 0, 1).mean()
        return float((hard + (1 - hard) * 0.3) * 0.85)

    yield "QA F1, paragraphs", (truth, lambda r, n: alone(draw(r, n)[0]))
    yield "QA F1, paragraphs, difference", (0.0, lambda r, n: difference(*draw(r, n)))


def languages() -> Iterator[tuple[str, Case]]:
    """Means over 12 languages, in which the same rows are harder or easier, each for each of two models."""
    level = np.linspace(-0.5, 1.5, 12)[:, None]

    def draw(random: Random, rows: int, kind: str, real: float) -> tuple[Measured, Measured]:
        shape = (12, rows) if kind == "apart" else (1, rows)
        shared, sides = random.normal(size=shape), []
        sizes = [rows * (6 + n % 7) // 12 if kind == "unequal" else rows for n in range(12)]
        kept = [np.sort(random.choice(rows, size, replace=False)) for size in sizes]
        for gain in (real, 0.0):
            own = random.normal(0, 0.7, shape)  # a row suits a model in all languages
            right = level + gain + shared + own + random.normal(0, 0.7, (12, rows)) > 0
            units = [place + (n * rows if kind == "apart" else 0) for n, place in enumerate(kept)]
            sides.append(
                mean_of([accuracy(right[n][kept[n]], units[n]) for n in range(12)], "accuracy", languages=True)
            )
        return sides[0], sides[1]

    normal, wide = NormalDist(), np.sqrt(1 + 2 * 0.7**2)
    share = [float(np.mean([normal.cdf((each + gain) / wide) for each in level[:, 0]])) for gain in (0.0, 0.2)]
    for kind in ("parallel", "unequal", "apart"):
        yield f"12 languages, {kind}", (share[0], lambda r, n, k=kind: alone(draw(r, n, k, 0.0)[0]))
        yield f"12 languages, {kind}, difference", (0.0, lambda r, n, k=kind: difference(*draw(r, n, k, 0.0)))
        yield (
            f"12 languages, {kind}, difference, real",
            (
                share[1] - share[0],
                lambda r, n, k=kind: difference(*draw(r, n, k, 0.2)),
            ),
        )


def seeds() -> Iterator[tuple[str, Case]]:
    """Three models a side, as they are: all sides' mean accuracy is 0.7."""

    def case(random: Random, rows: int) -> Result:
        hard = random.random(rows)
        noise = random.random((6, rows)) * 0.5 - 0.25

        def side(levels: tuple[float, ...], first: int) -> Measured:
            return mean_of(
                [accuracy((hard + noise[first + n]) % 1.0 < level) for n, level in enumerate(levels)], "accuracy"
            )

        return difference(side((0.66, 0.7, 0.74), 0), side((0.7, 0.69, 0.71), 3))

    yield "three seeds, difference", (0.0, case)


CASES: dict[str, Case] = {}
for group in (shares, ratios, regressions, perplexities, clusters, languages, seeds):
    CASES |= dict(group())


def simulate(name: str, rows: int, rounds: int) -> tuple[float, float | None]:
    """Coverage, and the share of p-values below 0.05 where there is no difference."""
    known, case = CASES[name]
    truth = known() if callable(known) else known
    random = np.random.default_rng(zlib.crc32(f"{name} {rows}".encode()))
    found = [case(random, rows) for _ in range(rounds)]
    held = sum(low <= truth <= high for low, high, _ in found) / rounds
    wrong = None if found[0][2] is None or truth else sum(p < 0.05 for _, _, p in found if p is not None) / rounds
    return held, wrong


_CAUTIOUS_OR_COARSE = {
    ("accuracy 0.98", 50): (0.92, 0.98),  # one wrong row is expected: these are possible, and nothing between
    ("accuracy, difference, 0.05 won, 0.05 lost", 50): (0.93, 0.98),  # five rows that differ are expected
    ("Spearman, difference", 50): (0.93, 0.985),  # the error is some per cent too large, by every known formula
}


def check(name: str, rows: int, rounds: int) -> None:
    held, wrong = simulate(name, rows, rounds)
    least, most = _CAUTIOUS_OR_COARSE.get((name, rows), (0.93, 0.97))
    noise = 1.5 * (0.05 * 0.95 / rounds) ** 0.5
    assert least - noise <= held <= most + noise, (held, wrong)
    assert wrong is None or 1 - most - noise <= wrong <= 1 - least + noise, (held, wrong)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("accuracy 0.95", 200),
        ("span F1", 50),
        ("QA F1, paragraphs", 200),
        ("12 languages, unequal, difference", 50),
        ("perplexity, difference", 50),
        ("bits per character", 200),
    ],
)
def test_a_few_intervals_hold_the_truth(name: str, rows: int) -> None:
    check(name, rows, 300)


def test_a_difference_of_perplexities_is_found() -> None:
    """On their own scale, where few tokens leave a perplexity uncertain, hardly any of these would be."""
    _, case = CASES["perplexity, difference, real"]
    random = np.random.default_rng(0)
    assert sum(p < 0.05 for _, _, p in (case(random, 50) for _ in range(200)) if p is not None) > 50


@pytest.mark.slow
@pytest.mark.parametrize("rows", [50, 200, 1000])
@pytest.mark.parametrize("name", CASES)
def test_intervals_hold_the_truth_and_chance_is_seldom_significant(name: str, rows: int) -> None:
    check(name, rows, 800 if rows < 1000 else 200)


if __name__ == "__main__":
    print("| of 95 % intervals, those that hold the truth; of p-values, those below 0.05 | 50 rows | 200 | 1,000 |")
    for case in CASES:
        cells = [simulate(case, rows, 2000 if rows < 1000 else 1000) for rows in (50, 200, 1000)]
        shown = [f"{held:.3f}" + ("" if wrong is None else f", {wrong:.3f}") for held, wrong in cells]
        print("|", " | ".join([case, *shown]), "|", flush=True)
