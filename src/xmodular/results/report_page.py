"""Results as one page of HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

from xmodular.charts import (
    COLOURS,
    Bar,
    Cell,
    Heat,
    Line,
    Mark,
    Scale,
    card,
    chart,
    document,
    facts,
    heat,
    legend,
    panels,
    ramp,
    section,
    table,
)
from xmodular.charts.svg_charts import Sample
from xmodular.console import counted
from xmodular.language_conditions import CONDITIONS, GUESSES, OWN
from xmodular.languages import english_name
from xmodular.results.by_label import labels_section
from xmodular.results.score_tables import (
    by_pair,
    compared_in,
    gate_lines,
    grid,
    interval,
    long,
    matrix_lines,
    means_over,
    named,
    not_parallel,
    number,
    p_value,
    signed,
    unit,
    with_spread,
    with_unit,
)
from xmodular.results.scores import Matrix, Scores
from xmodular.results.values import GEOMETRIC, LOWER_IS_BETTER, Comparison, Score
from xmodular.results.verdicts import verdict

_SIGNIFICANT = 0.05


def html(scores: Scores, title: str | None = None) -> str:
    """The page: summary, a chart and a table per metric, matrix, differences, provenance."""
    runs, languages = scores.runs(), scores.languages()
    task = scores.rows[0].task
    names = ", ".join(runs) if len(runs) <= 3 else f"{len(runs)} models"
    parts = [counted(len(languages), "language"), f"{_rows(scores):,} rows"]
    if date := scores.about.get("date"):
        parts.append(str(date))
    body = [_summary(scores)]
    if scores.gates:
        body.append(_gates(scores))
    metrics = {named(metric): _metric(scores, metric) for metric in scores.metrics()}
    lead = "In all charts and tables, the source language comes first; the others have the same order everywhere."
    body.append(section("By language", panels(metrics, always_named=True), lead=lead))
    body.append(labels_section(scores.details, scores.languages(), {c: _name(c) for c in scores.languages()}))
    if (matrix := scores.matrix()) is not None:
        body.append(_matrix(matrix))
    if scores.pairs:
        body.append(_pairs(scores))
    if scores.comparisons:
        body.append(_differences(scores))
    body.append(_notes(scores))
    if scores.about:
        body.append(section("What was run", facts(dict(scores.about))))
    return document(title or f"{names}: {task}", " · ".join(parts), "\n".join(body))


def _rows(scores: Scores) -> int:
    return sum({row.language: row.rows for row in scores.rows}.values())


def _name(code: str) -> str:
    """The language's English name, if it adds to the code."""
    name = english_name(code)
    return "" if name == code else name


def _summary(scores: Scores) -> str:
    metric = scores.metrics()[0]
    return f'<div class="cards">{"".join(_card(scores, metric, run) for run in scores.runs())}</div>'


def _card(scores: Scores, metric: str, run: str) -> str:
    source, codes = scores.source_of(run), [c for c in scores.languages() if scores.own(c, metric, run=run)]
    others = scores.others(metric=metric)
    trained = scores.trained(metric, run=run)
    gap = scores.gap(metric, run=run, languages=others)
    mean = scores.transfer(metric, run=run, languages=others)
    more = []
    if trained is not None:
        more.append((f"{_name(str(source)) or source}, own adapter", with_unit(trained.value, metric)))
    if gap is not None:
        points = " points" if unit(metric) == "%" else ""
        more.append(("transfer gap", f"{signed(gap, metric)}{points}"))
    for adapter in scores.adapters(metric, run=run):
        value = scores.mean(adapter, metric, run=run, languages=others)
        if adapter != "right" and value is not None:
            more.append((CONDITIONS[adapter].heading, with_unit(value, metric)))
    worst = [f"{code}\N{NO-BREAK SPACE}{number(value, metric)}" for code, value in scores.worst(3, metric, run=run)]
    if len(codes) > 3:
        more.append(("worst", ", ".join(worst)))
    seeds = len(scores.seeds(run))
    note = f"source language {_name(source) or source}" if source else "source language unknown"
    if seeds > 1:
        note += f", {seeds} seeds"
    if mean is None:
        figure, caption = (with_unit(trained.value, metric) if trained is not None else "–"), named(metric)
    else:
        other = "other " if source in codes else ""
        kind = "geometric mean" if metric in GEOMETRIC else "mean"
        name = metric if unit(metric) == "%" else named(metric)
        caption = f"{name}, {kind} over {counted(len(others), f'{other}language')}"
        figure = with_unit(mean, metric)
    return card(run, note, figure, caption, more, warning=verdict(scores, metric, run))


def _metric(scores: Scores, metric: str) -> str:
    """One metric: a chart and a table."""
    runs = scores.runs()
    if len(runs) == 1:
        return _run_chart(scores, metric, runs[0]) + _table(scores, metric, runs[0])
    parts = {"all models": _runs_chart(scores, metric) + _table(scores, metric)}
    parts |= {run: _run_chart(scores, metric, run) + _table(scores, metric, run) for run in runs}
    return panels(parts)


def _scale(scores: Scores, metric: str) -> Scale:
    values = [value for row in scores.rows if row.metric == metric for value in (row.value, row.low, row.high)]
    there = [value for value in values if value is not None]
    if metric == "perplexity":
        return Scale.log(there)
    return Scale.of(there, low=0.0, high=None if metric in LOWER_IS_BETTER else 1.0)


def _tick_text(value: float, metric: str) -> str:
    text = f"{value:g}" if metric in LOWER_IS_BETTER else f"{100 * value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _run_chart(scores: Scores, metric: str, run: str) -> str:
    """A line per language: a bar for its own adapter, marks for all else."""
    adapters, lines = scores.adapters(metric, run=run), []
    for code in scores.languages():
        found = {a: score for a in adapters if (score := scores.value(code, a, metric, run=run))}
        if not found:
            continue
        main = next((a for a in OWN if a in found), None)
        bars: tuple[Bar, ...] = ()
        if main is not None:
            bars = (_bar(CONDITIONS[main].colour, found[main], metric, CONDITIONS[main].heading),)
        marks = tuple(
            Mark(CONDITIONS[a].colour, score.value, f"{_said(a, score)}: {long(score, metric)}", CONDITIONS[a].mark)
            for a, score in reversed(found.items())
            if a != main
        )
        text = number(found[main].value, metric) if main is not None else ""
        lines.append(Line(code, _name(code), bars, marks, text))
    main = next((a for a in OWN if a in adapters), None)
    meaning: dict[str, Sample] = {
        CONDITIONS[a].heading: (CONDITIONS[a].colour, "bar" if a == main else CONDITIONS[a].mark) for a in adapters
    }
    drawn = chart(lines, _scale(scores, metric), lambda value: _tick_text(value, metric))
    return f"{legend(meaning)}{drawn}"


def _said(adapter: str, score: Score) -> str:
    heading = CONDITIONS[adapter].heading
    return f"{heading} ({score.reader})" if adapter in ("relative", "source") and score.reader else heading


def _bar(colour: str, score: Score, metric: str, name: str) -> Bar:
    return Bar(colour, score.value, score.low, score.high, f"{name}: {long(score, metric)}")


def _runs_chart(scores: Scores, metric: str) -> str:
    """A line per language, a bar per run."""
    runs, lines = scores.runs(), []
    colours = dict(zip(runs, cycle(COLOURS), strict=False))
    for code in scores.languages():
        found = {run: score for run in runs if (score := scores.own(code, metric, run=run))}
        if found:
            bars = tuple(_bar(colours[run], score, metric, run) for run, score in found.items())
            text = number(next(iter(found.values())).value, metric) if len(found) == 1 else ""
            lines.append(Line(code, _name(code), bars, (), text))
    drawn = chart(lines, _scale(scores, metric), lambda value: _tick_text(value, metric))
    return f"{legend({run: (colour, 'bar') for run, colour in colours.items()})}{drawn}"


def _cell(score: Score | None, metric: str, *, strong: bool = False, reader: bool = False) -> Cell:
    if score is None:
        return Cell("", key="")
    text, notes = with_spread(score, metric), []
    if score.low is not None and score.high is not None:
        notes.append(f"{number(score.low, metric)} – {number(score.high, metric)}")
    if reader and score.reader:
        notes.append(score.reader)
    return Cell(text, " · ".join(notes), score.value, strong)


def _table(scores: Scores, metric: str, run: str | None = None) -> str:
    found, lines = grid(scores, metric, run), []
    for code, count, values in found.lines:
        best = _best([None if a in GUESSES else score for a, score in zip(found.adapters, values, strict=True)], metric)
        cells = [
            _cell(score, metric, strong=place == best, reader=adapter == "relative")
            for place, (adapter, score) in enumerate(zip(found.adapters, values, strict=True))
        ]
        lines.append([_language(code, found.source), Cell(f"{count:,}", key=count), *cells])
    foot = [Cell(found.mean, means_over(found.over) if found.over else ""), Cell("")]
    foot += [Cell(number(mean, metric)) for mean in found.means]
    return table(["language", "rows", *found.heading], lines, foot if len(lines) > 1 else ())


def _best(scores: Sequence[Score | None], metric: str) -> int | None:
    there = [(score.value, place) for place, score in enumerate(scores) if score is not None]
    if len(there) < 2:
        return None
    return (min(there) if metric in LOWER_IS_BETTER else max(there, key=lambda pair: (pair[0], -pair[1])))[1]


def _language(code: str, source: str | None) -> Cell:
    name = _name(code)
    return Cell(code, f"{name}, source".lstrip(", ") if code == source else name)


def _gates(scores: Scores) -> str:
    heading, lines = gate_lines(scores.gates)
    failed = sum(not each.passed for each in scores.gates)
    cells = [
        [Cell(text, strong=line[0] != "passed" and not place) for place, text in enumerate(line)] for line in lines
    ]
    lead = f"{failed} of {len(lines)} failed." if failed else f"All {len(lines)} passed."
    return section("Gates", table(heading, cells), lead=lead)


def _matrix(matrix: Matrix) -> str:
    lead = f"{named(matrix.metric)}, each language read with its own adapter. Framed: same training and test language."
    drawn = _heat(matrix, "trained in \N{DOWNWARDS ARROW}  tested in \N{RIGHTWARDS ARROW}")
    return section("Training language by test language", drawn, lead=lead)


def _pairs(scores: Scores) -> str:
    found = {run: pairs for run in scores.runs() if (pairs := scores.pair_matrix(run)) is not None}
    corner = "sentence in \N{DOWNWARDS ARROW}  translation in \N{RIGHTWARDS ARROW}"
    lead = "Share of sentences whose nearest sentence of the other language is their translation, in %; own adapters."
    return section(
        "All pairs of languages", panels({run: _heat(each, corner) for run, each in found.items()}), lead=lead
    )


def _heat(matrix: Matrix, corner: str) -> str:
    values = [value for line in matrix.values for value in line if value is not None and math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = (high - low) or 1.0
    less = matrix.metric in LOWER_IS_BETTER

    def share(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return 0.05 + 0.9 * ((high - value) if less else (value - low)) / span

    content = Heat(
        corner,
        [(code, _name(code)) for code in matrix.languages],
        [(code, _name(code)) for code in matrix.sources],
        [[share(value) for value in line] for line in matrix.values],
        [line[1:] for line in matrix_lines(matrix)[1]],
        frozenset(
            (row, column)
            for row, source in enumerate(matrix.sources)
            for column, code in enumerate(matrix.languages)
            if source == code
        ),
    )
    ends = [number(each, matrix.metric) for each in ((high, low) if less else (low, high))]
    return f"{ramp(*ends)}{heat(content)}"


def _differences(scores: Scores) -> str:
    parts = {title: _difference(scores, group) for title, group in by_pair(scores.comparisons).items()}
    lead = (
        "Both sides are scored on the same rows. p-values are two-sided, for these models on new rows, with Holm's "
        f"correction for the number of languages. {not_parallel(scores)}"
    ).strip()
    return section("Differences", panels(parts, always_named=True), lead=lead)


def _difference(scores: Scores, comparisons: Sequence[Comparison]) -> str:
    metric = comparisons[0].metric
    ends = [end for each in comparisons for end in (each.low, each.high, each.difference) if end is not None]
    scale = Scale.of(ends, low=min(0.0, *ends), high=max(0.0, *ends))
    lines, rows = [], []
    order = {code: place for place, code in enumerate(scores.languages())}
    for each in sorted(comparisons, key=lambda c: -1 if c.language is None else order.get(c.language, len(order))):
        p = each.p if each.p_holm is None else each.p_holm
        better = (each.difference < 0) == (metric in LOWER_IS_BETTER)
        colour = "c7" if p >= _SIGNIFICANT else "c1" if better else "c5"
        code, over = compared_in(scores, each)
        text = f"{code}: {signed(each.difference, metric)} {interval(each)}, p {p_value(p)}"
        mark = Mark(colour, each.difference, text, "circle", each.low, each.high)
        note = (means_over(each.over) if each.over else over) if each.language is None else _name(code)
        lines.append(Line(code, note, (), (mark,), signed(each.difference, metric)))
        rows.append(
            [
                Cell(code, note),
                Cell(f"{each.rows:,}", key=each.rows),
                Cell(signed(each.difference, metric), interval(each, "{} to {}"), each.difference, p < _SIGNIFICANT),
                Cell(p_value(each.p), key=each.p),
                Cell("", key="") if each.p_holm is None else Cell(p_value(each.p_holm), key=each.p_holm),
            ]
        )
    heading = ["language", "rows", f"difference{', points' if unit(metric) == '%' else ''}", "p", "p (Holm)"]
    colours: dict[str, Sample] = {
        "better": ("c1", "circle"),
        "worse": ("c5", "circle"),
        f"not significant: p (Holm; for a mean, p) is {_SIGNIFICANT} or more": ("c7", "circle"),
    }
    drawn = chart(lines, scale, lambda value: _tick_text(value, metric), origin=0.0)
    return f"{legend(colours)}{drawn}{table(heading, rows)}"


def _notes(scores: Scores) -> str:
    """What the columns mean."""
    adapters = list(dict.fromkeys(a for run in scores.runs() for a in scores.adapters(run=run)))
    listed = {CONDITIONS[adapter].heading: CONDITIONS[adapter].meaning for adapter in adapters}
    if "perplexity" in scores.metrics():
        listed["geometric mean"] = "the mean of perplexities: e to the mean of the losses"
    listed["coloured numbers"] = "the best value in the row; for differences, p-values below 0.05"
    listed["intervals"] = (
        "95 % intervals for these models on new test rows. Rows about the same paragraph, and translations of a "
        "row, count as one unit"
    )
    if (answers := scores.about.get("answers")) is not None:
        listed["answers"] = str(answers)
    if any(len(scores.seeds(run)) > 1 for run in scores.runs()):
        listed["±"] = "standard deviation over the seeds of a run; the interval is for their mean"
    if any(scores.gap(run=run) is not None for run in scores.runs()):
        listed["transfer gap"] = "the source language's value minus the mean over the other languages"
    return section("How to read it", facts(listed))
