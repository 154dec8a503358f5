"""A run's scores for each label, as a section of the page: F1 by label and language, and the confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xmodular.charts import Cell, Heat, heat, panels, ramp, section, table
from xmodular.results.values import Detail

_MOST_CELLS = 6000  # of all languages' confusion matrices; more make the page slow
_MOST_LABELS = 40  # of one matrix
_MOST_PAIRS = 20
_NOTHING = "(none)"


def labels_section(details: Sequence[Detail], languages: Sequence[str], names: Mapping[str, str]) -> str:
    """The section; empty without counts by label.

    Args:
        details: the counts of all runs.
        languages: their codes, in the page's order.
        names: the English names of the languages.
    """
    by_run: dict[str, dict[str, Detail]] = {}
    for each in details:
        by_run.setdefault(each.run, {})[each.language] = each
    parts = {}
    for run, found in by_run.items():
        there = {code: found[code] for code in languages if code in found}
        parts[run] = _f1(there, names) + _confusions(there, names)
    if not parts:
        return ""
    unit = details[0].unit
    what = {"rows": "label", "words": "tag", "spans": "type of span"}[unit]
    lead = (
        f"Each language is read with its own adapter; counts are {unit}. F1 is the harmonic mean of precision (how "
        "many predicted ones are right) and recall (how many of the gold ones are found)."
    )
    return section(f"By {what}", panels(parts), lead=lead)


def _f1(found: Mapping[str, Detail], names: Mapping[str, str]) -> str:
    """F1 by label and language."""
    labels = list(dict.fromkeys(name for each in found.values() for name in each.labels))
    shares = [[each.f1_of(name) for each in found.values()] for name in labels]
    content = Heat(
        "F1, %",
        [(code, names.get(code, "")) for code in found],
        [(name, "") for name in labels],
        shares,
        [["" if share is None else f"{100 * share:.1f}" for share in line] for line in shares],
    )
    return f"<h3>F1, %</h3>{ramp('0', '100')}{heat(content)}"


def _confusions(found: Mapping[str, Detail], names: Mapping[str, str]) -> str:
    """The confusions of labels in each language."""
    cells = sum((len(each.labels) + 1) ** 2 for each in found.values())
    small = cells <= _MOST_CELLS and all(len(each.labels) <= _MOST_LABELS for each in found.values())
    parts = {}
    for code, each in found.items():
        title = f"{code} {names[code]}".strip() if names.get(code) else code
        parts[title] = _scores(each) + (_matrix(each) if small else _pairs(each))
    return "<h3>Scores and confusions by language</h3>" + panels(parts, always_named=True)


def _scores(each: Detail) -> str:
    """Precision, recall and F1 of each label of a language."""
    lines = []
    for place, name in enumerate(each.labels):
        values = (each.precision(place), each.recall(place), each.f1(place))
        counts = (each.gold[place], each.predicted[place], each.right[place])
        lines.append(
            [
                Cell(name),
                *(Cell(f"{count:,}", key=count) for count in counts),
                *(Cell("", key="") if value is None else Cell(f"{100 * value:.1f}", key=value) for value in values),
            ]
        )
    heading = ["label", each.unit, "predicted", "right", "precision, %", "recall, %", "F1, %"]
    return table(heading, lines)


def _matrix(each: Detail) -> str:
    """Gold labels by predicted ones, in shares of the gold ones."""
    names = list(each.labels)
    if each.unit == "spans":
        names.append(_NOTHING)
    counts = [[0] * len(names) for _ in names]
    for place, right in enumerate(each.right):
        counts[place][place] = right
    for gold, predicted, count in each.confused:
        counts[gold][predicted] = count
    content = Heat(
        "is ↓  predicted →",
        [(name, "") for name in names],
        [(name, "") for name in names],
        [[count / sum(line) if count else None for count in line] for line in counts],
        [[f"{count:,}" for count in line] for line in counts],
        frozenset((place, place) for place in range(len(each.labels))),
    )
    return f"{ramp('0', '100 % of the line')}{heat(content)}"


def _pairs(each: Detail) -> str:
    """The most frequent confusions, if a matrix would be too large."""
    names = [*each.labels, _NOTHING]
    most = sorted(each.confused, key=lambda entry: -entry[2])[:_MOST_PAIRS]
    lines = [[Cell(names[gold]), Cell(names[said]), Cell(f"{count:,}", key=count)] for gold, said, count in most]
    return table(["is", "predicted", each.unit], lines) if lines else ""
