"""What results consist of: values, what a language's seeds come to, and differences."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Metrics that are no shares; less of them is better.
LOWER_IS_BETTER = frozenset({"perplexity", "bits per character", "RMSE"})
# From -1 to 1, and shown a hundredfold, as shares are.
CORRELATIONS = frozenset({"Pearson", "Spearman"})
# Their mean is the geometric one: of perplexities that is e to the mean loss.
GEOMETRIC = frozenset({"perplexity"})


def mean(values: Sequence[float], metric: str) -> float:
    """The mean of a metric's values: the geometric one of perplexities, else the arithmetic one."""
    return statistics.geometric_mean(values) if metric in GEOMETRIC else statistics.fmean(values)


@dataclass(frozen=True)
class Row:
    """One value.

    Attributes:
        run: the model's name; the models of several seeds share it.
        task: name of the task, or "perplexity".
        language: code of the test data, or its name where a relative's adapter reads it.
        metric: such as "accuracy".
        adapter: one of `CONDITIONS`: "right" (the language's own), "relative" (the nearest relative's), "source" (the
            training language's), "none" (the bottlenecks add nothing), "majority" or "uniform" (no model).
        value: of the metric; shares lie in [0, 1]; NaN if it is no number, null in JSON.
        low, high: 95 % interval; None where there is no chance in it, or no end to it.
        rows: how many rows were read.
        seed: of the model's training; None where it is unknown, and where the value is the mean over a run's seeds.
        source: language that the model was trained in; None if unknown.
        reader: the language whose adapter read; None where none did.
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
    """What a run reaches in a language: the value of one model, or the mean over seeds.

    Attributes:
        value, low, high, rows: as of a `Row`.
        seeds: how many models it is the mean of.
        spread: standard deviation over the seeds (with n - 1); None of one model.
        reader: the language whose adapter read; None where none did.
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
    """What a run makes of each label of a language, which its own adapter reads, or its relative's.

    Attributes:
        run, language: as of a `Row`.
        unit: what is counted: "rows", "words" or "spans". Of a run with several seeds, those of all seeds.
        labels: their names.
        gold, predicted, right: of each label, how often it is there, is predicted, and both.
        confused: (gold, predicted, count) of what was taken for something else, by place in `labels`. In place of a
            span's type, the number of labels stands for no span with these ends.
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
        """F1 of a label, by place; None where it is neither there nor predicted."""
        occurring = self.gold[place] + self.predicted[place]
        return 2 * self.right[place] / occurring if occurring else None

    def f1_of(self, label: str) -> float | None:
        """F1 of a label, by name; None also where there is no such label."""
        return self.f1(self.labels.index(label)) if label in self.labels else None

    def precision(self, place: int) -> float | None:
        """Precision of a label, by place; None where it is not predicted."""
        return self.right[place] / self.predicted[place] if self.predicted[place] else None

    def recall(self, place: int) -> float | None:
        """Recall of a label, by place; None where it is not there."""
        return self.right[place] / self.gold[place] if self.gold[place] else None


@dataclass(frozen=True)
class Comparison:
    """A difference on the same rows.

    Attributes:
        run, adapter: what is compared.
        baseline, baseline_adapter: with what; the difference is the run's value less the baseline's.
        task, metric: as of a `Row`.
        language: code; None for the mean over languages that neither side was trained in.
        difference: of the metric; NaN if one side is no number.
        low, high: its 95 % interval, of these models on other rows; None where there is no end to it.
        p: two-sided, by Student's t over the rows.
        p_holm: corrected for the number of languages (Holm 1979); None for the mean.
        rows: how many rows were read.
        languages: how many the mean is over; None for one language.
        over: which these are; None for one language.
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
