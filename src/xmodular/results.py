"""Results as data: rows with values and intervals, in and out of JSON, shown as tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from xmodular.errors import DataError
from xmodular.files import write_json, written_beside

# Columns of the tables, in this order. The last two need no model: always the file's commonest label, and a blind draw.
ADAPTERS = ("right", "relative", "source", "majority", "uniform")
_HEADINGS = {
    "right": "own adapter",
    "relative": "relative's adapter",
    "source": "source adapter",
    "majority": "majority",
    "uniform": "blind draw",
}
_FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One value.

    Attributes:
        run: the model's name.
        task: "classify", "tag" or "perplexity".
        language: code of the test file, or its name where a relative's adapter reads it.
        metric: such as "accuracy".
        adapter: "right" (the language's own), "relative" (the nearest relative's, where the model lacks the language),
            "source" (the training language's), "majority" or "uniform" (no model).
        value: of the metric; shares lie in [0, 1].
        low, high: 95 % interval, None where there is no chance in it.
        rows: rows of the file.
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


@dataclass(frozen=True)
class Results:
    """Rows, with what they came from.

    Attributes:
        rows: the values.
        source: the language the model was fine-tuned in, or whose adapter stands for "source"; None if unknown.
    """

    rows: tuple[Row, ...]
    source: str | None = None

    def metrics(self) -> list[str]:
        """Names of the metrics, the main one first."""
        return list(dict.fromkeys(row.metric for row in self.rows))

    def languages(self) -> list[str]:
        """Codes of the languages, the source first."""
        codes = dict.fromkeys(row.language for row in self.rows)
        return sorted(codes, key=lambda code: code != self.source)

    def value(self, language: str, adapter: str = "right", metric: str | None = None) -> Row | None:
        """The row of a language, or None; `metric` is the main one unless said."""
        name = metric or self.metrics()[0]
        found = (r for r in self.rows if (r.language, r.adapter, r.metric) == (language, adapter, name))
        return next(found, None)

    def mean(self, adapter: str = "right", metric: str | None = None, *, transfer: bool = True) -> float | None:
        """Mean over the languages, without the source if `transfer`; None if a language lacks the value."""
        codes = [code for code in self.languages() if not (transfer and code == self.source)]
        rows = [self.value(code, adapter, metric) for code in codes]
        values = [row.value for row in rows if row is not None]
        return sum(values) / len(values) if values and len(values) == len(codes) else None

    def to_json(self, path: Path | str) -> None:
        """Write the results."""
        write_json(Path(path), {"format": _FORMAT, "source": self.source, "rows": [asdict(row) for row in self.rows]})

    @classmethod
    def from_json(cls, path: Path | str) -> Results:
        """Read results.

        Raises:
            DataError: the file holds no results.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(tuple(Row(**row) for row in content["rows"]), content["source"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} holds no results of xmodular: {error!r}") from error

    def table(self, metric: str | None = None) -> Table:
        """One metric as a table for the terminal: a line per language, a column per adapter or constant guess."""
        heading, lines = self._lines(metric or self.metrics()[0], _short)
        table = Table(*heading, title=f"{self.rows[0].task}: {metric or self.metrics()[0]}", title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for line in lines:
            table.add_row(*line, style="bold" if line[0].startswith("mean") else None)
        return table

    def markdown(self) -> str:
        """All metrics as Markdown tables."""
        parts = []
        for metric in self.metrics():
            heading, lines = self._lines(metric, _long)
            parts.append(f"### {self.rows[0].task}: {metric}\n")
            parts.append(_markdown_row(heading))
            parts.append(_markdown_row(["---", *["---:"] * (len(heading) - 1)]))
            parts += [_markdown_row(line) for line in lines]
            parts.append("")
        return "\n".join(parts)

    def save(self, folder: Path) -> None:
        """Write ``results.json`` and ``results.md``."""
        self.to_json(folder / "results.json")
        with written_beside(folder) as beside:
            (beside / "results.md").write_text(self.markdown(), encoding="utf-8")

    def _lines(self, metric: str, cell: Callable[[Row | None], str]) -> tuple[list[str], list[list[str]]]:
        adapters = [a for a in ADAPTERS if any(row.adapter == a and row.metric == metric for row in self.rows)]
        heading = ["language", "rows", *(_HEADINGS[adapter] for adapter in adapters)]
        lines = []
        for code in self.languages():
            rows = [self.value(code, adapter, metric) for adapter in adapters]
            count = max((row.rows for row in rows if row is not None), default=0)
            name = f"{code} (source)" if code == self.source else code
            lines.append([name, str(count), *map(cell, rows)])
        means = [self.mean(adapter, metric) for adapter in adapters]
        if any(mean is not None for mean in means) and len(lines) > 1:
            label = "mean, others" if self.source in self.languages() else "mean"
            lines.append([label, "", *("" if mean is None else _number(mean, metric) for mean in means)])
        return heading, lines


def _number(value: float, metric: str) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.1f}" if metric == "perplexity" else f"{100 * value:.1f}"


def _short(row: Row | None) -> str:
    """The value with half its interval's width."""
    if row is None:
        return ""
    value = _number(row.value, row.metric)
    return value if row.low is None or row.high is None else f"{value} ±{_number((row.high - row.low) / 2, row.metric)}"


def _long(row: Row | None) -> str:
    """The value with its interval."""
    if row is None:
        return ""
    value, metric = _number(row.value, row.metric), row.metric
    return (
        value
        if row.low is None or row.high is None
        else (f"{value} [{_number(row.low, metric)}, {_number(row.high, metric)}]")
    )


def _markdown_row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
