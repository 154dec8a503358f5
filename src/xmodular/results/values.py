"""The parts of results: values, means over seeds, and differences."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Metrics that are not shares; lower is better.
LOWER_IS_BETTER = frozenset({"perplexity", "bits per character", "RMSE"})
# From -1 to 1, and shown a hundredfold, as shares are.
CORRELATIONS = frozenset({"Pearson", "Spearman"})
# Their mean is geometric: for perplexities, e to the mean loss.
GEOMETRIC = frozenset({"perplexity"})


def mean(values: Sequence[float], metric: str) -> float:
    """The mean of a metric's values: geometric for perplexities, otherwise arithmetic."""
    return statistics.geometric_mean(values) if metric in GEOMETRIC else statistics.fmean(values)


@dataclass(frozen=True)
class Row:
    """One value.

    Attributes:
        run: the model's name; the models of several seeds share it.
        task: name of the task, or "perplexity".
        language: code of the test data, or its name if it is read with a relative's adapter.
        metric: such as "accuracy".
        adapter: one of `CONDITIONS`: "right" (the language's own), "relative" (the nearest relative's), "source" (the
            training language's), "none" (the bottlenecks add nothing), "majority" or "uniform" (no model).
        value: value of the metric; shares lie in [0, 1]; NaN if it is not a number (null in JSON).
        low, high: 95 % interval; None if nothing in it is random, or if it is unbounded.
        rows: number of rows.
        seed: seed of the model's training; None if unknown, or if the value is the mean over a run's seeds.
        source: the language that the model was trained in; None if unknown.
        reader: the language whose adapter was used; None without one.
    """

    run: str
    task: str
    language: str
    metric: str
    adapter: str
    value: float
    low: float | None
    high: float | None
    rows: int
    seed: int | None = None
    source: str | None = None
    reader: str | None = None


@dataclass(frozen=True)
class Score:
    """A run's result in a language: the value of one model, or the mean over seeds.

    Attributes:
        value, low, high, rows: as for a `Row`.
        seeds: number of models in the mean.
        spread: standard deviation over the seeds (with n - 1); None for one model.
        reader: the language whose adapter was used; None without one.
    """

    value: float
    low: float | None
    high: float | None
    rows: int
    seeds: int = 1
    spread: float | None = None
    reader: str | None = None


@dataclass(frozen=True)
class Detail:
    """A run's counts by label in one language, read with its own adapter or its relative's.

    Attributes:
        run, language: as for a `Row`.
        unit: what is counted: "rows", "words" or "spans". For a run with several seeds, over all seeds.
        labels: their names.
        gold, predicted, right: for each label, how often it is in the gold data, is predicted, and both.
        confused: (gold, predicted, count) of confusions, by position in `labels`. Instead of a
            span's type, the number of labels means that no span has these ends.
    """

    run: str
    language: str
    unit: str
    labels: tuple[str, ...]
    gold: tuple[int, ...]
    predicted: tuple[int, ...]
    right: tuple[int, ...]
    confused: tuple[tuple[int, int, int], ...]

    def f1(self, place: int) -> float | None:
        """F1 of a label, by position; None if it is neither in the gold data nor predicted."""
        occurring = self.gold[place] + self.predicted[place]
        return 2 * self.right[place] / occurring if occurring else None

    def f1_of(self, label: str) -> float | None:
        """F1 of a label, by name; None also where there is no such label."""
        return self.f1(self.labels.index(label)) if label in self.labels else None

    def precision(self, place: int) -> float | None:
        """Precision of a label, by position; None if it is not predicted."""
        return self.right[place] / self.predicted[place] if self.predicted[place] else None

    def recall(self, place: int) -> float | None:
        """Recall of a label, by position; None if it is not in the gold data."""
        return self.right[place] / self.gold[place] if self.gold[place] else None


@dataclass(frozen=True)
class Comparison:
    """A difference on the same rows.

    Attributes:
        run, adapter: the first side.
        baseline, baseline_adapter: the second side; the difference is the run's value minus the baseline's.
        task, metric: as for a `Row`.
        language: code; None for the mean over languages that neither side was trained in.
        difference: difference of the metric; NaN if one side is not a number.
        low, high: its 95 % interval, for these models on new rows; None where it is unbounded.
        p: two-sided, by Student's t over the rows.
        p_holm: corrected for the number of languages (Holm 1979); None for the mean.
        rows: number of rows.
        languages: number of languages in the mean; None for one language.
        over: these languages; None for one language.
    """

    run: str
    adapter: str
    baseline: str
    baseline_adapter: str
    task: str
    metric: str
    language: str | None
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float | None
    rows: int
    languages: int | None = None
    over: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PairScore:
    """How well sentences in one language find their translations in another, each with its own adapter.

    Attributes:
        run: the model's name; the value of several seeds is their mean.
        one, other: the languages: of the sentence, and of the translations among which it finds its own.
        value, low, high, rows: as for a `Row`, of the accuracy.
    """

    run: str
    one: str
    other: str
    value: float
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True)
class GateOutcome:
    """What a gate says of one value.

    Attributes:
        run, task, language, metric, adapter: as for a `Row`; the language may be "mean".
        kind: "floor", "ceiling" or "drop".
        limit: the limit.
        passed: whether the value keeps it.
        value: the value; None if there is none.
        before: for a drop: the value that it is compared with.
        low, high: for a drop: the 95 % interval of how much worse the value is; None where it is unbounded or unknown.
        note: why it passed or failed, where the numbers do not say it.
    """

    run: str
    task: str
    language: str
    metric: str
    adapter: str
    kind: str
    limit: float
    passed: bool
    value: float | None = None
    before: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
