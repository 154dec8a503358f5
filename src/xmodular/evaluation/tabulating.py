"""Turn measurements into rows of results and differences between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from xmodular.evaluation.conditions import Job
from xmodular.evaluation.intervals import compare, holm, mean_of
from xmodular.evaluation.scoring import Scored
from xmodular.evaluation.subjects import Subject
from xmodular.language_conditions import ASKED, OWN
from xmodular.results import Comparison, Detail, Row
from xmodular.tasks import Breakdown, added

Guesses = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]  # run, language, guess, metric


class Key(NamedTuple):
    """The key of a value: run, language, metric and so on."""

    run: str
    language: str
    condition: str


def rows_of(
    task: str,
    subjects: Sequence[Subject],
    scored: Sequence[Mapping[Job, Scored]],
    guesses: Guesses,
    name_of: Callable[[str], str | None],
) -> tuple[list[Row], dict[Key, Scored]]:
    """All rows, by run and language, and the combined value over each run's seeds.

    Args:
        task: its name.
        subjects: the models.
        scored: the measurements of each model.
        guesses: the scores of baselines without a model, by run, language, guess and metric.
        name_of: the name in the results of a model's language code.
    """
    rows: list[Row] = []
    pooled: dict[Key, Scored] = {}
    for run in dict.fromkeys(subject.run for subject in subjects):
        members = [(subject, each) for subject, each in zip(subjects, scored, strict=True) if subject.run == run]
        source = members[0][0].source and name_of(members[0][0].source)
        jobs = list(dict.fromkeys(job for _, each in members for job in each))
        for code in dict.fromkeys(job.reading.language for job in jobs):
            count = 0
            for job in (job for job in jobs if job.reading.language == code):
                parts = [(subject.seed, each[job]) for subject, each in members]
                together = parts[0][1] if len(parts) == 1 else _mean([part for _, part in parts])
                pooled[Key(run, code, job.condition)] = together
                if len(parts) > 1:
                    parts.append((None, together))
                for metric in together.metrics:
                    rows += [_row(run, task, job, metric, seed, source, part) for seed, part in parts]
                    count = together.metrics[metric].rows
            for guess, values in guesses[run].get(code, {}).items():
                rows += [
                    Row(run, task, code, metric, guess, value, None, None, count, source=source)
                    for metric, value in values.items()
                ]
    return rows, pooled


def _row(run: str, task: str, job: Job, metric: str, seed: int | None, source: str | None, scored: Scored) -> Row:
    measured = scored.metrics[metric]
    low, high = map(end_of, measured.interval())
    reader = job.reading.adapter if job.reading.adapted else None
    return Row(
        *(run, task, job.reading.language, metric, job.condition, measured.value, low, high, measured.rows),
        seed=seed,
        source=source,
        reader=reader or None,  # each row has its own
    )


def end_of(value: float) -> float | None:
    """An end of an interval; None if it is unbounded."""
    return value if math.isfinite(value) else None


def details_of(subjects: Sequence[Subject], scored: Sequence[Mapping[Job, Scored]]) -> list[Detail]:
    """Counts by label of every run in every language, with its own adapter or its relative's; all seeds together.

    Args:
        subjects, scored: as for `rows_of`.
    """
    found: dict[tuple[str, str], list[Breakdown]] = {}
    for subject, each in zip(subjects, scored, strict=True):
        for code in dict.fromkeys(job.reading.language for job in each):
            by_condition = {job.condition: one for job, one in each.items() if job.reading.language == code}
            one = next((by_condition[name] for name in OWN if name in by_condition), None)
            if one is not None and one.breakdown is not None:
                found.setdefault((subject.run, code), []).append(one.breakdown)
    return [Detail(run, code, **vars(added(parts))) for (run, code), parts in found.items()]


def _mean(parts: Sequence[Scored]) -> Scored:
    """The mean over a run's seeds, which were measured on the same rows."""
    metrics = {name: mean_of([part.metrics[name] for part in parts], name) for name in parts[0].metrics}
    rows = {name: measured.rows for name, measured in parts[0].metrics.items()}
    return Scored({name: replace(each, rows=rows[name]) for name, each in metrics.items()}, parts[0].rows)


def comparisons_of(task: str, pooled: Mapping[Key, Scored], sources: Mapping[str, str | None]) -> list[Comparison]:
    """Compare later runs with the first one, and each run's own adapters with its other conditions.

    Args:
        task: its name.
        pooled: the value of each run.
        sources: the language that each run was trained in.
    """
    runs = list(dict.fromkeys(key.run for key in pooled))
    by_language = dict.fromkeys(key.language for key in pooled)
    found = []
    trained = set(sources.values())  # one set of languages for all runs, so that their means can be compared
    everywhere = {code for code in by_language if all(any((run, code, c) in pooled for c in OWN) for run in runs)}
    for run in runs[1:]:
        found += _compared(task, pooled, (run, OWN), (runs[0], OWN), everywhere - trained)
    for run in runs:
        for other in ASKED[1:]:
            found += _compared(task, pooled, (run, ("right",)), (run, (other,)), set(by_language) - {sources[run]})
    return found


def _compared(
    task: str,
    pooled: Mapping[Key, Scored],
    one: tuple[str, Sequence[str]],
    other: tuple[str, Sequence[str]],
    averaged: Collection[str],
) -> list[Comparison]:
    """One pair in all languages that both read alike, and the mean over those of them that are `averaged`."""

    def get(run: str, conditions: Sequence[str], code: str) -> tuple[str, Scored] | None:
        keys = (Key(run, code, condition) for condition in conditions)
        return next(((key.condition, pooled[key]) for key in keys if key in pooled), None)

    pairs = {}
    for code in dict.fromkeys(key.language for key in pooled):
        a, b = get(*one, code), get(*other, code)
        if a is not None and b is not None and a[1].rows == b[1].rows:
            pairs[code] = (a[1], b[1])
    if not pairs:
        return []
    metric = next(iter(next(iter(pairs.values()))[0].metrics))
    sides = [(a.metrics[metric], b.metrics[metric]) for a, b in pairs.values()]
    found = [compare(a, b) for a, b in sides]
    corrected: list[float | None] = [*holm([each.p for each in found])]
    languages: list[str | None] = [*pairs]
    others = {code: side for code, side in zip(pairs, sides, strict=True) if code in averaged}
    if len(pairs) > 1 and others:
        means = [mean_of(side, metric, languages=True) for side in zip(*others.values(), strict=True)]
        found.append(compare(*means))
        corrected.append(None)
        languages.append(None)
    pair = (one[0], one[1][0], other[0], other[1][0], task, metric)
    return [
        Comparison(
            *(*pair, code, d.value, end_of(d.low), end_of(d.high), d.p, p, d.rows),
            languages=len(others) if code is None else None,
            over=tuple(others) if code is None else None,
        )
        for code, d, p in zip(languages, found, corrected, strict=True)
    ]
