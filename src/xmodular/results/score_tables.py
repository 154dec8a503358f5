"""Results as tables: lines of text for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.table import Column, Table
from rich.text import Text

from xmodular.console import compact, counted
from xmodular.language_conditions import CONDITIONS
from xmodular.model_cards import markdown_table
from xmodular.results.scores import Matrix, Scores
from xmodular.results.values import CORRELATIONS, LOWER_IS_BETTER, Comparison, GateOutcome, Score

_MINUS = "\N{MINUS SIGN}"
_Lines = tuple[list[str], list[list[str]]]  # heading, lines


def number(value: float | None, metric: str) -> str:
    """A value as text: shares in per cent; empty if there is none."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if metric in ("RMSE", "bits per character"):
        return f"{value:.3f}"
    return compact(value) if metric in LOWER_IS_BETTER else f"{100 * value:.1f}"


def unit(metric: str) -> str:
    """The unit of a metric's numbers as shown; empty if they have none."""
    if metric == "bits per character":
        return "bits"
    return "" if metric in LOWER_IS_BETTER else "× 100" if metric in CORRELATIONS else "%"


def named(metric: str) -> str:
    """A metric with the unit of its numbers, unless its name includes it."""
    return metric if unit(metric) in ("", "bits") else f"{metric}, {unit(metric)}"


def with_unit(value: float, metric: str) -> str:
    """A value as text, with its unit if it has one."""
    behind = unit(metric) if unit(metric) in ("%", "bits") and math.isfinite(value) else ""
    return f"{number(value, metric)} {behind}".rstrip()


def signed(value: float, metric: str) -> str:
    """A difference as text."""
    text = number(abs(value), metric)
    return text if math.isnan(value) or not float(text) else f"{'+' if value > 0 else _MINUS}{text}"


def interval(each: Comparison, form: str = "[{}, {}]") -> str:
    """A difference's interval as text; a missing end is infinite."""
    low, high = -math.inf if each.low is None else each.low, math.inf if each.high is None else each.high
    return form.format(signed(low, each.metric), signed(high, each.metric))


def p_value(p: float) -> str:
    """A p-value to three places."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def with_spread(score: Score, metric: str) -> str:
    """A value as text, with its spread over seeds if there are several."""
    text = number(score.value, metric)
    return text if score.spread is None else f"{text} ±{number(score.spread, metric)}"


def short(score: Score | None, metric: str) -> str:
    """A value with its spread over seeds, or else with half the width of its interval."""
    if score is None:
        return ""
    text = with_spread(score, metric)
    if score.spread is not None or score.low is None or score.high is None:
        return text
    return f"{text} ±{number((score.high - score.low) / 2, metric)}"


def long(score: Score | None, metric: str) -> str:
    """A value with its interval, and with its spread over seeds if there are several."""
    if score is None:
        return ""
    text = with_spread(score, metric)
    if score.low is None or score.high is None:
        return text
    return f"{text} [{number(score.low, metric)}, {number(score.high, metric)}]"


def means_over(codes: Sequence[str]) -> str:
    """The languages of a mean."""
    return f"over {counted(len(codes), 'language')}: {', '.join(codes)}"


def not_parallel(scores: Scores) -> str:
    """A sentence about test sets not known to be parallel to others, if that is recorded; empty if none."""
    data = [each for each in scores.about.get("data", ()) if "parallel" in each]
    alone = [str(each["language"]) for each in data if not each["parallel"]]
    if len(data) < 2 or not alone:
        return ""
    return f"Not known to be parallel to the others: {', '.join(alone)}."


def terminal(scores: Scores, metric: str, run: str | None = None) -> Table:
    """One metric: a row per language; a column per condition of one run, or a column per run."""
    runs = scores.runs()
    found = grid(scores, metric, runs[0] if run is None and len(runs) == 1 else run)
    heading, lines = _text(found, metric, short)
    of = CONDITIONS["right"].heading if None in found.adapters else run
    title = f"{scores.rows[0].task}: {metric}" + (f", {of}" if of is not None else "")
    cells = "".join(cell for line in lines for cell in line)
    seeds = any(len(scores.seeds(each)) > 1 for each in runs)
    # As Text, because a console of the user's would take brackets in the names of runs for markup.
    columns = [Column(Text(name), justify="right" if place else "left") for place, name in enumerate(heading)]
    table = Table(*columns, title=Text(title, style="table.title"), title_justify="left", caption_justify="left")
    captions = []
    if "±" in cells:
        captions.append(f"±: {'standard deviation over seeds, else ' if seeds else ''}half the 95 % interval")
    if _has_mean(lines):
        captions.append(f"{lines[-1][0]}: {means_over(found.over)}")
    table.caption = Text("\n".join(captions)) if captions else None
    for line in lines:
        table.add_row(*map(Text, line), style="bold" if _is_mean(line) else None)
    return table


def gate_lines(outcomes: Iterable[GateOutcome]) -> _Lines:
    """A row per gate and language, those that failed first."""
    lines = []
    for each in sorted(outcomes, key=lambda outcome: outcome.passed):
        of = f"{each.metric}, {CONDITIONS[each.adapter].heading}"
        worse = "" if each.before is None or each.value is None else signed(each.value - each.before, each.metric)
        compared = f"{number(each.before, each.metric)} \N{RIGHTWARDS ARROW} " if each.before is not None else ""
        ends = f" [{number(each.low, each.metric)}, {number(each.high, each.metric)}]" if each.low is not None else ""
        sign = {"floor": "at least", "ceiling": "at most", "drop": "drop at most"}[each.kind]
        lines.append(
            [
                "passed" if each.passed else "FAILED",
                each.run,
                each.language,
                of,
                f"{sign} {number(each.limit, each.metric)}",
                f"{compared}{number(each.value, each.metric)}",
                ", ".join(
                    part for part in (worse and f"{worse}, worse by{ends}" if ends else worse, each.note) if part
                ),
            ]
        )
    return ["gate", "run", "language", "of", "limit", "value", "difference"], lines


def gate_table(scores: Scores) -> Table:
    """The outcomes of the gates for the terminal."""
    heading, lines = gate_lines(scores.gates)
    failed = sum(not each.passed for each in scores.gates)
    title = f"Gates: {failed} of {len(scores.gates)} failed" if failed else f"Gates: all {len(scores.gates)} passed"
    columns = [Column(Text(name)) for name in heading]
    table = Table(*columns, title=Text(title, style="table.title"), title_justify="left")
    for line in lines:
        table.add_row(*map(Text, line), style=None if line[0] == "passed" else "bold red")
    return table


def markdown(scores: Scores) -> str:
    """All metrics as Markdown tables, then gaps, matrix and differences of the main one."""
    parts = []
    runs = scores.runs()
    for metric in scores.metrics():
        title = f"{scores.rows[0].task}: {metric}"
        for run in (None, *runs) if len(runs) > 1 else runs:
            found = grid(scores, metric, run)
            lines = _text(found, metric, long)
            name = f"{title}, {run}" if run is not None and len(runs) > 1 else title
            parts += [f"### {name}\n", *_markdown_table(lines), *_said_over(found.over, lines)]
    main = scores.metrics()[0]
    if heads := summary_lines(scores, main):
        parts += [f"### Transfer: {main}\n", *_markdown_table(heads), *_said_over(scores.others(metric=main))]
    for run in runs if scores.details else ():
        name = f", {run}" if len(runs) > 1 else ""
        parts += [f"### By label{name}: F1, %\n", *_markdown_table(label_lines(scores, run))]
    if (matrix := scores.matrix()) is not None:
        parts += [f"### Trained in (row), tested in (column): {main}\n", *_markdown_table(matrix_lines(matrix))]
    for run in runs:
        if (pairs := scores.pair_matrix(run)) is not None:
            title = "Sentence in (row) finds translation in (column): accuracy, own adapters"
            parts += [f"### {title}{f', {run}' if len(runs) > 1 else ''}\n"]
            parts += _markdown_table(matrix_lines(pairs, "sentence in"))
    for title, group in by_pair(scores.comparisons).items():
        parts += [f"### {title}\n", *_markdown_table(comparison_lines(scores, group))]
        parts += [line for each in group if each.over for line in _said_over(each.over)]
    if scores.gates:
        parts += [f"### Gates: {'all passed' if scores.passed else 'not passed'}\n"]
        parts += _markdown_table(gate_lines(scores.gates))
    parts += [f"{note}\n" for note in (*reading(scores), not_parallel(scores)) if note]
    return "\n".join(parts)


def reading(scores: Scores) -> list[str]:
    """Notes on intervals and p-values, and on how answers were normalised."""
    notes = ["Intervals and p-values are for these models on new test rows."]
    if (answers := scores.about.get("answers")) is not None:
        notes.append(f"Answers are {answers}.")
    return notes


def _said_over(codes: Sequence[str], lines: _Lines | None = None) -> list[str]:
    """A sentence on the means, if there are any; added to a table if one is given."""
    return [f"Mean {means_over(codes)}.\n"] if codes and (lines is None or _has_mean(lines[1])) else []


class Grid(NamedTuple):
    """One metric: a line per language; a column per way to read of one run, or a column per run.

    Attributes:
        heading: of the columns with scores.
        adapters: how each column was read; None of a run's, which is its own.
        source: the language that is the source's.
        lines: language, number of rows, and the scores; only of languages with some.
        mean: what the means are called.
        over: the languages that they are over.
        means: by column.
    """

    heading: list[str]
    adapters: list[str | None]
    source: str | None
    lines: list[tuple[str, int, list[Score | None]]]
    mean: str
    over: list[str]
    means: list[float | None]


def grid(scores: Scores, metric: str, run: str | None = None) -> Grid:
    """One metric of a run, with a column per way to read; or of all, with a column per run and their own adapters."""
    if run is None:
        heading, source, over = scores.runs(), scores.source, scores.others(metric=metric)
        adapters: list[str | None] = [None] * len(heading)
        mean = scores.mean_name(metric=metric)
        # Over the same languages for all: one run's own would be other languages than another's.
        means = [scores.transfer(metric, run=each, languages=over) for each in heading]
    else:
        names, source, over = scores.adapters(metric, run=run), scores.source_of(run), scores.averaged(run)
        heading, adapters = [CONDITIONS[name].heading for name in names], [*names]
        mean = scores.mean_name(run, metric=metric)
        means = [scores.mean(name, metric, run=run) for name in names]
    lines = []
    for code in scores.languages():
        if run is None:
            found = [scores.own(code, metric, run=each) for each in heading]
        else:
            found = [scores.value(code, name, metric, run=run) for name in names]
        if (count := max((score.rows for score in found if score is not None), default=None)) is not None:
            lines.append((code, count, found))
    return Grid(heading, adapters, source, lines, mean, over, means)


def _text(found: Grid, metric: str, cell: Callable[[Score | None, str], str]) -> _Lines:
    lines = [
        [f"{code} (source)" if code == found.source else code, str(count), *(cell(score, metric) for score in values)]
        for code, count, values in found.lines
    ]
    if len(lines) > 1 and (None in found.adapters or any(mean is not None for mean in found.means)):
        lines.append([found.mean, "", *(number(mean, metric) for mean in found.means)])
    return ["language", "rows", *found.heading], lines


def summary_lines(scores: Scores, metric: str) -> _Lines | None:
    """A row per run: its source language's value, the mean over the others, the gap between them, the worst."""
    lines, shared = [], scores.others(metric=metric)
    for run in scores.runs():
        others, gap = (each(metric, run=run, languages=shared) for each in (scores.transfer, scores.gap))
        trained = scores.trained(metric, run=run)
        worst = ", ".join(f"{code} {number(value, metric)}" for code, value in scores.worst(3, metric, run=run))
        lines.append(
            [
                run,
                "" if trained is None else f"{scores.source_of(run)} {number(trained.value, metric)}",
                number(others, metric),
                "" if gap is None else signed(gap, metric),
                worst,
            ]
        )
    heading = ["run", "source", scores.mean_name(metric=metric), "transfer gap", "worst languages"]
    return (heading, lines) if any(line[2] for line in lines) else None


def label_lines(scores: Scores, run: str) -> _Lines:
    """A row per label, a column per language: F1 with the language's own adapter."""
    found = {each.language: each for each in scores.details if each.run == run}
    codes = [code for code in scores.languages() if code in found]
    lines = []
    for name in dict.fromkeys(label for code in codes for label in found[code].labels):
        values = [found[code].f1_of(name) for code in codes]
        lines.append([name, *("" if value is None else f"{100 * value:.1f}" for value in values)])
    return ["label", *codes], lines


def matrix_lines(matrix: Matrix, corner: str = "trained in") -> _Lines:
    """A row per training language, a column per test language."""
    lines = [
        [source, *(number(value, matrix.metric) for value in values)]
        for source, values in zip(matrix.sources, matrix.values, strict=True)
    ]
    return [corner, *matrix.languages], lines


def by_pair(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Comparisons, grouped by their two sides."""
    found: dict[str, list[Comparison]] = {}
    for each in comparisons:
        if each.run == each.baseline:
            ours, theirs = CONDITIONS[each.adapter].heading, CONDITIONS[each.baseline_adapter].heading
            title = f"{each.run}: {ours} against {theirs}, {each.metric}"
        else:
            title = f"{each.run} against {each.baseline}, {each.metric}"
        found.setdefault(title, []).append(each)
    return found


def compared_in(scores: Scores, each: Comparison) -> tuple[str, str]:
    """The language of a difference, or the mean, with its number of languages if known."""
    if each.language is not None:
        return each.language, ""
    if each.languages is None:  # written by an earlier version
        return "mean", ""
    name = scores.mean_name(each.run, each.baseline, metric=each.metric)
    return name, counted(each.languages, "language")


def comparison_lines(scores: Scores, comparisons: Iterable[Comparison]) -> _Lines:
    """A row per language."""
    lines = [
        [
            "{} ({})".format(*names) if (names := compared_in(scores, each))[1] else names[0],
            str(each.rows),
            signed(each.difference, each.metric),
            interval(each),
            p_value(each.p),
            "" if each.p_holm is None else p_value(each.p_holm),
        ]
        for each in comparisons
    ]
    return ["language", "rows", "difference", "95 % interval", "p", "p (Holm)"], lines


def _is_mean(line: Sequence[str]) -> bool:
    return line[0].startswith(("mean", "geometric mean"))


def _has_mean(lines: Sequence[Sequence[str]]) -> bool:
    return bool(lines) and _is_mean(lines[-1]) and any(lines[-1][2:])


def _markdown_table(table: _Lines) -> list[str]:
    return [markdown_table(*table, right=True), ""]
