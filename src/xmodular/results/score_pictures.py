"""Pictures of results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from xmodular.charts import COLOURS
from xmodular.charts.pictures import Point, bar_picture, heat_picture
from xmodular.language_conditions import CONDITIONS
from xmodular.results.score_tables import matrix_lines, named
from xmodular.results.scores import Matrix, Scores
from xmodular.results.values import LOWER_IS_BETTER, Score


def draw(scores: Scores, path: Path, metric: str | None = None) -> None:
    """Bars by language: for one run, a bar per adapter and guess; for several, a bar per run."""
    name = metric or scores.metrics()[0]
    languages, runs = scores.languages(), scores.runs()
    if len(runs) > 1:
        series = {
            run: (colour, _points([scores.own(code, name, run=run) for code in languages], name))
            for run, colour in zip(runs, cycle(COLOURS.values()), strict=False)
        }
        title = scores.rows[0].task
    else:
        series = {
            CONDITIONS[adapter].heading: (
                COLOURS[CONDITIONS[adapter].colour],
                _points([scores.value(code, adapter, name) for code in languages], name),
            )
            for adapter in scores.adapters(name)
        }
        title = f"{runs[0]}: {scores.rows[0].task}"
    values = [point.value for _, points in series.values() for point in points if point is not None]
    limits: tuple[float, float] | None = (min([0.0, *values]), 100.0)
    if values and name in LOWER_IS_BETTER:
        limits = None if name == "perplexity" else (0.0, 1.05 * max(values) or 1.0)
    bar_picture(path, title, languages, series, axis=named(name), limits=limits)


def draw_matrix(matrix: Matrix, path: Path, axes: tuple[str, str] = ("trained in", "tested in")) -> None:
    """A matrix of languages, by default of training and test languages."""
    texts = [line[1:] for line in matrix_lines(matrix)[1]]
    places = matrix.sources, matrix.languages
    heat_picture(path, named(matrix.metric), *places, matrix.values, texts, axes_names=axes)


def _points(scores: Sequence[Score | None], metric: str) -> list[Point | None]:
    """What can be drawn, as tables show it: values that are numbers, and not infinite; shares in per cent."""
    factor = 1.0 if metric in LOWER_IS_BETTER else 100.0

    def shown(value: float | None) -> float | None:
        return None if value is None else factor * value

    return [
        None
        if score is None or not math.isfinite(score.value)
        else Point(factor * score.value, shown(score.low), shown(score.high))
        for score in scores
    ]
