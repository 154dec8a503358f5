"""Rows and summaries of them: means, transfer gap, worst languages, a matrix of languages."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from xmodular.language_conditions import CONDITIONS, GUESSES, OWN, stored_name
from xmodular.results.values import (
    GEOMETRIC,
    LOWER_IS_BETTER,
    Comparison,
    Detail,
    GateOutcome,
    PairScore,
    Row,
    Score,
    mean,
)


@dataclass(frozen=True)
class Matrix:
    """Values by training language and test language.

    Attributes:
        metric: its name.
        sources: training languages.
        languages: test languages.
        values: one tuple per source, in the order of `languages`; None for missing values.
    """

    metric: str
    sources: tuple[str, ...]
    languages: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Scores:
    """Rows, with their provenance.

    Attributes:
        rows: the values.
        source: the language all models were fine-tuned in, or whose adapter is "source"; None if it is unknown
            or differs.
        comparisons: differences between runs and between adapters.
        about: provenance, as JSON names and values.
        details: counts by label, where the task has labels.
        gates: what the gates say, if there were some.
        pairs: of retrieval: all pairs of languages.
    """

    rows: tuple[Row, ...]
    source: str | None = None
    comparisons: tuple[Comparison, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    details: tuple[Detail, ...] = ()
    gates: tuple[GateOutcome, ...] = ()
    pairs: tuple[PairScore, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all gates passed; true without gates."""
        return all(gate.passed for gate in self.gates)

    def metrics(self) -> list[str]:
        """Names of the metrics, the main one first."""
        return list(dict.fromkeys(row.metric for row in self.rows))

    def runs(self) -> list[str]:
        """Names of the models, in the order given."""
        return list(dict.fromkeys(row.run for row in self.rows))

    def seeds(self, run: str | None = None) -> list[int]:
        """The seeds of a run's models, if known."""
        name = self._run(run)
        return list(dict.fromkeys(row.seed for row in self.rows if row.run == name and row.seed is not None))

    def languages(self) -> list[str]:
        """Codes of the languages, the source first."""
        codes = dict.fromkeys(row.language for row in self.rows)
        return sorted(codes, key=lambda code: code != self.source)

    def source_of(self, run: str | None = None) -> str | None:
        """The language that a run was trained in; default: the first run."""
        name = self._run(run)
        return next((row.source for row in self.rows if row.run == name and row.source), self.source)

    def mean_name(self, *runs: str, metric: str | None = None) -> str:
        """The name of the mean of some runs (default: all), which tells whether it leaves out a source language.

        Args:
            runs: their names.
            metric: default: the main one; the mean of perplexities is geometric.
        """
        sources = {self.source_of(run) for run in runs or self.runs()}
        kind = "geometric mean" if (metric or self._metric) in GEOMETRIC else "mean"
        return f"{kind}, others" if sources & set(self.languages()) else kind

    def value(
        self, language: str, adapter: str = "right", metric: str | None = None, *, run: str | None = None
    ) -> Score | None:
        """A run's result in a language, or None.

        Args:
            language: its code.
            adapter: the condition; "own" is another name of "right".
            metric: default: the main one.
            run: default: the first one.
        """
        rows = self._by_key.get((self._run(run), language, stored_name(adapter), metric or self._metric), [])
        if not rows:
            return None
        seeds = [row for row in rows if row.seed is not None]
        spread = _deviation([row.value for row in seeds]) if len(seeds) > 1 else None
        pooled = next((row for row in rows if row.seed is None), rows[0] if len(rows) == 1 else None)
        if pooled is None:  # seeds that were never brought together
            value = mean([row.value for row in rows], rows[0].metric)
            return Score(value, None, None, rows[0].rows, len(rows), spread, rows[0].reader)
        return Score(
            pooled.value, pooled.low, pooled.high, pooled.rows, max(1, len(seeds)), spread, reader=pooled.reader
        )

    def own(self, language: str, metric: str | None = None, *, run: str | None = None) -> Score | None:
        """The value with the language's own adapter, or with its relative's if the model lacks the language."""
        found = (self.value(language, adapter, metric, run=run) for adapter in OWN)
        return next((score for score in found if score), None)

    def trained(self, metric: str | None = None, *, run: str | None = None) -> Score | None:
        """The value of `own` in the language that a run was trained in, or None."""
        source = self.source_of(run)
        return None if source is None else self.own(source, metric, run=run)

    def others(self, *runs: str, metric: str | None = None) -> list[str]:
        """The languages over which some runs (default: all) are compared: those in which all have a value of `own`, and
        none was trained.
        """
        names = runs or tuple(self.runs())
        trained = {self.source_of(run) for run in names}
        return [
            code
            for code in self.languages()
            if code not in trained and all(self.own(code, metric, run=run) is not None for run in names)
        ]

    def averaged(self, run: str | None = None) -> list[str]:
        """The languages of a run's `mean`: all its languages except the source."""
        source = self.source_of(run)
        return [code for code in self._codes(run) if code != source]

    def mean(
        self,
        adapter: str = "right",
        metric: str | None = None,
        *,
        run: str | None = None,
        transfer: bool = True,
        languages: Sequence[str] | None = None,
    ) -> float | None:
        """Mean over the given languages; default: the run's, without its source if `transfer`. None if one of them
        lacks the value.

        For perplexities, it is the geometric mean.
        """
        codes = languages if languages is not None else self.averaged(run) if transfer else self._codes(run)
        found = [self.value(code, adapter, metric, run=run) for code in codes]
        values = [score.value for score in found if score is not None]
        return mean(values, metric or self._metric) if values and len(values) == len(codes) else None

    def transfer(
        self, metric: str | None = None, *, run: str | None = None, languages: Sequence[str] | None = None
    ) -> float | None:
        """Mean of `own` over the languages that a run was not trained in; None if there are none.

        Runs are only comparable over the same languages: give those of `others`.
        """
        codes = self.others(self._run(run), metric=metric) if languages is None else languages
        values = [score.value for code in codes if (score := self.own(code, metric, run=run))]
        return mean(values, metric or self._metric) if values else None

    def gap(
        self, metric: str | None = None, *, run: str | None = None, languages: Sequence[str] | None = None
    ) -> float | None:
        """Transfer gap: the source language's value minus `transfer`; None without a source or other languages."""
        trained, others = self.trained(metric, run=run), self.transfer(metric, run=run, languages=languages)
        return None if trained is None or others is None else trained.value - others

    def worst(self, count: int = 3, metric: str | None = None, *, run: str | None = None) -> list[tuple[str, float]]:
        """The languages with a run's worst values, the worst first, with the values."""
        name = metric or self._metric
        scores = ((code, self.own(code, name, run=run)) for code in self._codes(run))
        values = [(code, score.value) for code, score in scores if score is not None]
        return sorted(values, key=lambda pair: pair[1], reverse=name in LOWER_IS_BETTER)[:count]

    def matrix(self, metric: str | None = None) -> Matrix | None:
        """Training languages by test languages, each with its own adapter; None for fewer than two training languages.

        If several runs were trained in a language, their mean.
        """
        name = metric or self._metric
        by_source: dict[str, list[str]] = {}
        for run in self.runs():
            if (source := self.source_of(run)) is not None:
                by_source.setdefault(source, []).append(run)
        if len(by_source) < 2:
            return None
        languages = self.languages()
        order = [code for code in by_source if code in languages] + [c for c in languages if c not in by_source]

        def cell(runs: list[str], code: str) -> float | None:
            found = [score.value for run in runs if (score := self.own(code, name, run=run))]
            return mean(found, name) if found else None

        values = tuple(tuple(cell(runs, code) for code in order) for runs in by_source.values())
        return Matrix(name, tuple(by_source), tuple(order), values)

    def pair_matrix(self, run: str | None = None) -> Matrix | None:
        """Of retrieval: accuracy by the language of the sentence and that of the translations; None without pairs."""
        found = {(each.one, each.other): each.value for each in self.pairs if each.run == self._run(run)}
        codes = tuple(dict.fromkeys(one for one, _ in found))
        values = tuple(tuple(found.get((one, other)) for other in codes) for one in codes)
        return Matrix("accuracy", codes, codes, values) if found else None

    def adapters(self, metric: str | None = None, *, run: str | None = None, guesses: bool = True) -> list[str]:
        """The conditions of a run, in the order of columns."""
        name, wanted = self._run(run), metric or self._metric
        found = {row.adapter for row in self.rows if row.run == name and row.metric == wanted}
        return [name for name in CONDITIONS if name in found and (guesses or name not in GUESSES)]

    def _codes(self, run: str | None) -> list[str]:
        """The languages of a run."""
        name = self._run(run)
        there = {row.language for row in self.rows if row.run == name}
        return [code for code in self.languages() if code in there]

    def _run(self, run: str | None) -> str:
        return self.rows[0].run if run is None else run

    @property
    def _metric(self) -> str:
        return self.rows[0].metric

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, str, str], list[Row]]:
        found: dict[tuple[str, str, str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.run, row.language, row.adapter, row.metric), []).append(row)
        return found


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation (with n - 1); NaN if a value is infinite or no number."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
