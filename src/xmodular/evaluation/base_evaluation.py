"""What evaluations by rows, text and translations share: adapters by language, gates, results, and their folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmodular.console import console
from xmodular.errors import LanguageError
from xmodular.evaluation.conditions import Job
from xmodular.evaluation.identifying import identified, say_identified
from xmodular.evaluation.provenance import about
from xmodular.evaluation.scoring import Scored
from xmodular.evaluation.subjects import Subject
from xmodular.evaluation.tabulating import Guesses, comparisons_of, details_of, rows_of
from xmodular.evaluation.test_data import TestSet
from xmodular.files import written_beside
from xmodular.language_conditions import GUESSES
from xmodular.options import EvaluateOptions
from xmodular.outputs import RESULTS
from xmodular.results import PairScore, Results
from xmodular.results.gates import Gate, check_gates, gated
from xmodular.results.verdicts import verdict
from xmodular.rows import InMemory
from xmodular.tasks.readers import Reading, reading_of


class BaseEvaluation:
    """Models, what they are evaluated by, and the gates that judge them.

    Args:
        options: of the verb.
        subjects: the models.
        named: the test data by language, if they are given that way.
    """

    use: str  # a task, "perplexity" or "retrieval"
    gates: Sequence[Gate] = ()

    def __init__(self, options: EvaluateOptions, subjects: Sequence[Subject], named: Mapping[str, str] | None) -> None:
        self.started = time.monotonic()
        self.options = options
        self.subjects = subjects
        self.runs = list(dict.fromkeys(subject.run for subject in subjects))
        self.languages = list(dict.fromkeys(code for subject in subjects for code in subject.config.languages))
        self._is_repeatable = named is None and not any(isinstance(place, InMemory) for place in options.data)
        self._readers: dict[tuple[int, str], Reading | None] = {}

    def _reader(self, subject: Subject, name: str) -> Reading | None:
        """The adapter for a language in a model; None if there is none."""
        key = id(subject), name
        if key not in self._readers:
            try:
                found = reading_of(name, subject.config.languages, self.options.fallback)
            except LanguageError:
                found = None
            self._readers[key] = found
        return self._readers[key]

    def _name(self, name: str) -> str | None:
        """The code for a language in the first model that has it; the name itself if no model has its code."""
        readers = [reader for subject in self.subjects if (reader := self._reader(subject, name)) is not None]
        return next((reader.adapter for reader in readers if reader.own), name if readers else None)

    def _checked(
        self, gates: Sequence[Gate], metrics: Sequence[str], languages: Sequence[str], conditions: Collection[str]
    ) -> list[Gate]:
        """The gates that are for this evaluation, before the work that they judge."""
        return check_gates(
            gates,
            task=self.use,
            metrics=metrics,
            languages=languages,
            runs=self.runs,
            adapters={*conditions, "relative", *GUESSES},
            left_out=lambda name: bool(self.options.languages) and self._name(name) is not None,
        )

    def _results(
        self,
        scored: Sequence[Mapping[Job, Scored]],
        guesses: Guesses,
        sets: Sequence[TestSet],
        warnings: Sequence[str],
        *,
        precisions: Sequence[str] = (),
        pairs: Sequence[PairScore] = (),
        **more: Any,
    ) -> Results:
        """The results of all models; `more` is noted with their provenance."""
        rows, pooled = rows_of(self.use, self.subjects, scored, guesses, self._name)
        sources = {row.run: row.source for row in rows}
        seconds = round(time.monotonic() - self.started, 1)
        noted = about(self.options, self.subjects, sets, rows, self._is_repeatable, seconds, warnings, precisions)
        if told := identified(self.subjects, scored):
            noted["identified"] = told
        return Results(
            tuple(rows),
            next(iter(sources.values())) if len(set(sources.values())) == 1 else None,
            tuple(comparisons_of(self.use, pooled, sources)),
            noted | more,
            tuple(details_of(self.subjects, scored)),
            pairs=tuple(pairs),
        )

    def _finish(self, results: Results, check: Callable[[], None]) -> Results:
        """Judge results by the gates, show them, and save them if `check` does not raise an error."""
        if self.gates:
            results = replace(results, gates=gated(results, self.gates, whole=not self.options.languages))
        console.print(results.table())
        for said in say_identified(results.about.get("identified", ())):
            console.print(said)
        for run in results.runs():
            if said := verdict(results, results.metrics()[0], run):
                console.print(f"{run}: {said}")
        if results.gates:
            console.print(results.gate_table())
        if (folder := self.options.output_dir) is not None:
            check()
            with written_beside(folder, gone=RESULTS) as beside:
                written = results.save(beside) + self._write_more(beside)
            console.print(f"Saved {', '.join(written)} in {folder}")
        return results

    def _write_more(self, folder: Path) -> list[str]:
        """Write further files to a folder; returns their names."""
        return []
