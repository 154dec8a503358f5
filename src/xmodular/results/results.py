"""Results as data: read and written as JSON, shown as tables, pictures and a page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from xmodular.errors import ConfigurationError, DataError
from xmodular.files import write_json, write_text
from xmodular.results import score_tables
from xmodular.results.report_page import html
from xmodular.results.score_pictures import draw, draw_matrix
from xmodular.results.scores import Scores
from xmodular.results.values import Comparison, Detail, GateOutcome, PairScore, Row

_FORMAT = 2
_Part = TypeVar("_Part")


def _made(
    kind: Callable[..., _Part], content: Mapping[str, Any], required: tuple[str, ...] = ("value", "difference")
) -> _Part:
    """A part of results for JSON: tuples become lists, and `required` values that are not numbers null."""
    numbers = {name: math.nan for name in required if content.get(name, 0) is None}
    return kind(**{**{name: _tuples(value) for name, value in content.items()}, **numbers})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Results(Scores):
    """The results of an evaluation.

    For attributes and methods see `Scores`.
    """

    def __str__(self) -> str:
        """The tables, in Markdown."""
        return self.markdown()

    def to_json(self, path: Path | str) -> None:
        """Write the results."""
        write_json(
            Path(path),
            {
                "format": _FORMAT,
                "source": self.source,
                "about": dict(self.about),
                "rows": [asdict(row) for row in self.rows],
                "comparisons": [asdict(comparison) for comparison in self.comparisons],
                **({"details": [asdict(detail) for detail in self.details]} if self.details else {}),
                **({"pairs": [asdict(pair) for pair in self.pairs]} if self.pairs else {}),
                **({"gates": [asdict(gate) for gate in self.gates]} if self.gates else {}),
            },
        )

    @classmethod
    def from_json(cls, path: Path | str) -> Results:
        """Read results, including the first format, which had one model and no comparisons.

        Raises:
            DataError: the file does not contain results.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.get("format", 1) not in (1, _FORMAT):
                raise ValueError(f"format {content['format']!r}; known are 1 and {_FORMAT}")
            return cls(
                tuple(_made(Row, each) for each in content["rows"]),
                content["source"],
                tuple(_made(Comparison, each) for each in content.get("comparisons", ())),
                dict(content.get("about", {})),
                tuple(_made(Detail, each) for each in content.get("details", ())),
                tuple(_made(GateOutcome, each, ()) for each in content.get("gates", ())),
                tuple(_made(PairScore, each) for each in content.get("pairs", ())),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} does not contain results of xmodular: {error!r}") from error

    def table(self, metric: str | None = None, *, run: str | None = None) -> Table:
        """One metric as a table for the terminal: one row per language.

        Args:
            metric: default: the main one.
            run: show a column per adapter and guess for this run; default: with several runs, one column each.
        """
        return score_tables.terminal(self, metric or self.metrics()[0], run)

    def markdown(self) -> str:
        """All metrics as Markdown tables, with transfer gaps, matrix and differences."""
        return score_tables.markdown(self)

    def gate_table(self) -> Table:
        """The outcomes of the gates for the terminal, those that failed first."""
        return score_tables.gate_table(self)

    def report(self, path: Path | str, *, title: str | None = None) -> None:
        """Write one HTML page with everything: summary, charts, tables, differences, provenance.

        The page needs no network and no other file.

        Args:
            path: the page.
            title: its title; default: task and runs.
        """
        self._check_rows()
        write_text(Path(path), html(self, title))

    def plot(self, path: Path | str, *, metric: str | None = None) -> None:
        """Draw one metric as bars with 95 % intervals, a group per language.

        Args:
            path: the picture file; its suffix (.png, .svg, .pdf) decides the format.
            metric: default: the main one. Perplexities are drawn on a logarithmic scale.
        """
        self._check_rows()
        draw(self, Path(path), metric)

    def save(self, folder: Path | str) -> list[str]:
        """Write everything to a folder, and return the file names.

        These are ``results.json``, ``results.md``, ``report.html``, ``results.png``, ``results.svg``, and
        ``matrix.png`` and ``matrix.svg`` where models were trained in several languages, ``pairs.png`` and
        ``pairs.svg`` where translations were found between all languages.
        """
        folder = Path(folder)
        self.to_json(folder / "results.json")
        write_text(folder / "results.md", self.markdown())
        self.report(folder / "report.html")
        names = ["results.json", "results.md", "report.html", "results.png", "results.svg"]
        for name in names[3:]:
            self.plot(folder / name)
        if (matrix := self.matrix()) is not None:
            for name in ("matrix.png", "matrix.svg"):
                draw_matrix(matrix, folder / name)
                names.append(name)
        if (pairs := self.pair_matrix()) is not None:
            for name in ("pairs.png", "pairs.svg"):
                draw_matrix(pairs, folder / name, ("sentence in", "translation in"))
                names.append(name)
        return names

    def _check_rows(self) -> None:
        if not self.rows:
            raise ConfigurationError("These results have no rows: there is nothing to show.")
