"""Score encoders by retrieval: a sentence's nearest sentence in another language should be its translation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xmodular.console import console, counted, progress
from xmodular.embeddings import Embedder
from xmodular.errors import DataError
from xmodular.evaluation.base_evaluation import BaseEvaluation
from xmodular.evaluation.conditions import EACH_ROW, Job, jobs_of
from xmodular.evaluation.identifying import check_identifying
from xmodular.evaluation.intervals import Measured, mean_of
from xmodular.evaluation.parallel_texts import Parallel, ParallelFinder, chosen
from xmodular.evaluation.scoring import Scored, identifying
from xmodular.evaluation.subjects import Subject
from xmodular.evaluation.tabulating import end_of
from xmodular.evaluation.test_data import TestSet
from xmodular.evaluation.translations import METRICS, Bitext, by_chance, measured, one_way
from xmodular.languages import resolve, resolve_or_none
from xmodular.options import EvaluateOptions
from xmodular.results import PairScore, Results
from xmodular.results.gates import Gate
from xmodular.tasks import Example
from xmodular.tasks.readers import Reading

_AT_ONCE = 4096  # texts between two steps of the progress bar


@dataclass(frozen=True)
class _Test:
    """A language's sentences with those of the pivot.

    Attributes:
        parallel: where they are from.
        pivot: the other language.
        bitext: the sentences of the language, and those of the pivot.
        joined: (pairs,) the number of each pivot sentence over all languages.
    """

    parallel: Parallel
    pivot: str
    bitext: Bitext
    joined: np.ndarray


class Retrieval(BaseEvaluation):
    """Encoders, sentences with translations, and the adapters to use.

    Raises:
        ConfigurationError, DataError, LanguageError: as `evaluate`.
    """

    use = "retrieval"

    def __init__(
        self,
        options: EvaluateOptions,
        subjects: Sequence[Subject],
        named: Mapping[str, str] | None,
        gates: Sequence[Gate] = (),
    ) -> None:
        super().__init__(options, subjects, named)
        check_identifying(options, subjects, inside=False)
        self.pivot = self._pivot()
        found = ParallelFinder(options, self.languages, self._name, self.pivot).read(named)
        self.data = chosen(found, options, self.pivot)
        self.tests = self._tests()
        self.jobs = [[job for code in self.tests for job in self._jobs(subject, code)] for subject in self.subjects]
        self.gates = self._checked(gates, METRICS, list(self.tests), options.adapter) if gates else []
        pivots = ", ".join(dict.fromkeys(test.pivot for test in self.tests.values()))
        console.print(
            f"Evaluating {', '.join(self.runs)} ({self.use}) in {counted(len(self.tests), 'language')}, by "
            f"translations into and out of {pivots}"
        )

    def run(self, check: Callable[[], None]) -> Results:
        """Score the models one after the other; show and save the results if `check` allows it."""
        scored: list[dict[Job, Scored]] = []
        pairs: dict[tuple[str, str, str], list[Measured]] = {}
        settings, warnings = [], []
        for subject, jobs in zip(self.subjects, self.jobs, strict=True):
            embedder = self._embedder(subject)
            settings.append({"run": subject.run, **vars(embedder.settings), "max_length": embedder.room.max_length})
            readings: dict[Reading, Scored] = {}
            for data in self.data:
                readings |= self._score(subject, embedder, data, jobs, pairs)
            scored.append({job: readings[job.reading] for job in jobs})
            if embedder.cut:
                said = f"{subject.run}: {embedder.cut:,} texts were truncated to {embedder.room.max_length} tokens."
                warnings.append(said)
                console.print(said)
        guesses = {
            run: {code: {"uniform": by_chance(test.bitext)} for code, test in self.tests.items()} for run in self.runs
        }
        sets = [
            TestSet(code, (test.parallel.files[code],), units=tuple(test.bitext.units), parallel=True)
            for code, test in self.tests.items()
        ]
        found = [_pair_score(*key, measures) for key, measures in pairs.items()]
        pivots = {code: test.pivot for code, test in self.tests.items()}
        results = self._results(scored, guesses, sets, warnings, pairs=found, pivot=pivots, vectors=settings)
        return self._finish(results, check)

    def _pivot(self) -> str | None:
        """The language that the others are matched with, as far as it is known without the data."""
        if self.options.pivot is not None:
            return resolve(self.options.pivot, self.languages)
        return resolve_or_none("en", self.languages) or next(
            (each.source for each in self.subjects if each.source), None
        )

    def _tests(self) -> dict[str, _Test]:
        """The pairs of every language."""
        tests: dict[str, _Test] = {}
        numbers: dict[str, int] = {}
        for data in self.data:
            pivot = self.pivot if self.pivot in data.texts else None
            if pivot is None and len(data.texts) == 2 and self.options.pivot is None:
                pivot = data.languages[0]
            if pivot is None:
                raise DataError(
                    f"{next(iter(data.files.values()))} has {', '.join(data.languages)}, but not {self.pivot or 'en'}, "
                    "to match them with: choose one of them with --pivot."
                )
            for code in data.languages:
                if code == pivot:
                    continue
                if code in tests:
                    raise DataError(f"Two files for {code}: {tests[code].parallel.files[code]} and {data.files[code]}.")
                bitext = self._bitext(data, code, pivot)
                if len(bitext.pairs) < 2:
                    raise DataError(f"{data.files[code]} has fewer than two sentences of {code} with one of {pivot}.")
                joined = [numbers.setdefault(bitext.other[place], len(numbers)) for place in bitext.pairs[:, 1]]
                tests[code] = _Test(data, pivot, bitext, np.array(joined))
        return tests

    def _bitext(self, data: Parallel, one: str, other: str) -> Bitext:
        return Bitext.of(data.texts[one], data.texts[other], unpaired=self.options.candidates == "all")

    def _jobs(self, subject: Subject, language: str) -> list[Job]:
        """The ways in which a model reads a language; none if it lacks it, or the pivot."""
        reader, pivot = (self._reader(subject, name) for name in (language, self.tests[language].pivot))
        if reader is None or pivot is None:
            return []
        source = subject.source or pivot.adapter
        return jobs_of(language, reader, self.options.adapter, source, subject.config.languages)

    def _embedder(self, subject: Subject) -> Embedder:
        options = self.options
        return Embedder(
            subject.given if subject.given is not None else subject.where,
            options.tokenizer,
            pooling=options.pooling,
            normalize=True,
            prefix=options.prefix,
            max_length=options.max_length,
            batch_tokens=options.batch_tokens,
            precision="keep" if options.precision == "auto" else options.precision,
        )

    def _score(
        self,
        subject: Subject,
        embedder: Embedder,
        data: Parallel,
        jobs: Sequence[Job],
        pairs: dict[tuple[str, str, str], list[Measured]],
    ) -> dict[Reading, Scored]:
        """The scores of each reading of some data, and those of all pairs of its languages, put into `pairs`."""
        own = {code: found for code in data.languages if (found := self._reader(subject, code)) is not None}
        wanted: dict[Reading, Reading] = {}  # of the pivot, by that of the language
        for reading in dict.fromkeys(job.reading for job in jobs):
            if self.tests[reading.language].parallel is data:
                pivot = own[self.tests[reading.language].pivot]
                adapter = EACH_ROW if reading.adapter == EACH_ROW else pivot.adapter
                wanted[reading] = Reading(pivot.language, adapter, adapted=reading.adapted)
        in_pairs = [*own] if self.options.pairs == "all" and len(own) > 2 else []
        needed = dict.fromkeys([*wanted, *wanted.values(), *(own[code] for code in in_pairs)])
        identify = None
        if any(reading.adapter == EACH_ROW for reading in needed):
            identify = identifying(embedder.model, subject.source, self.options)
        vectors = _vectors(embedder, data, list(needed), identify)
        scored: dict[Reading, Scored] = {}
        for reading, pivot in wanted.items():
            test = self.tests[reading.language]
            sides = vectors[reading].of(test.bitext.one), vectors[pivot].of(test.bitext.other)
            values = measured(test.bitext, *sides, test.joined)
            told = vectors[reading].told_of(test.bitext.one)
            scored[reading] = Scored(values, (reading.language, test.bitext.digest), told=told)
        for place, one in enumerate(in_pairs):
            for other in in_pairs[place + 1 :]:
                bitext = self._bitext(data, one, other)
                if len(bitext.pairs) > 1:
                    ways = one_way(bitext, vectors[own[one]].of(bitext.one), vectors[own[other]].of(bitext.other))
                    for key, way in zip(((one, other), (other, one)), ways, strict=True):
                        pairs.setdefault((subject.run, *key), []).append(way)
        return scored


@dataclass(frozen=True)
class _Vectors:
    """The vectors of a language's texts under one reading; `told` if each has its own, that of its identification."""

    rows: Mapping[str, int]
    values: np.ndarray
    told: Sequence[Reading] = ()

    def of(self, texts: Sequence[str]) -> np.ndarray:
        return self.values[[self.rows[text] for text in texts]]

    def told_of(self, texts: Sequence[str]) -> Sequence[Reading]:
        return [self.told[self.rows[text]] for text in texts] if self.told else ()


def _vectors(
    embedder: Embedder,
    data: Parallel,
    readings: Sequence[Reading],
    identify: Callable[[Sequence[Example]], list[Reading]] | None,
) -> dict[Reading, _Vectors]:
    """The vectors of some data under each reading; every text is read once, and languages share batches."""
    rows = {
        code: {text: n for n, text in enumerate(dict.fromkeys(filter(None, data.texts[code])))} for code in data.texts
    }
    told: dict[Reading, list[Reading]] = {}
    places: dict[tuple[str, str, bool], int] = {}  # of each text by the adapter that reads it
    at: dict[Reading, list[int]] = {}
    for reading in readings:
        texts = list(rows[reading.language])
        if identify is not None and reading.adapter == EACH_ROW:
            told[reading] = identify([Example((text,), None, "") for text in texts])
        keys = zip(texts, told.get(reading, [reading] * len(texts)), strict=True)
        at[reading] = [places.setdefault((text, own.adapter, own.adapted), len(places)) for text, own in keys]
    listed = [(text, Reading(adapter, adapter, adapted=adapted)) for text, adapter, adapted in places]
    values = np.empty((len(listed), embedder.dimension), np.float32)
    with progress("reading", len(listed)) as advance:
        for start in range(0, len(listed), _AT_ONCE):
            part = listed[start : start + _AT_ONCE]
            values[start : start + len(part)] = embedder.read([text for text, _ in part], [each for _, each in part])
            advance(len(part))
    if count := int((~np.isfinite(values).all(1)).sum()):
        console.print(f"The vectors of {count:,} of {len(values):,} texts are infinite or NaN: they find nothing.")
    return {
        reading: _Vectors(rows[reading.language], values[places], told.get(reading, ()))
        for reading, places in at.items()
    }


def _pair_score(run: str, one: str, other: str, found: Sequence[Measured]) -> PairScore:
    """The accuracy of a pair of languages, the mean over seeds."""
    score = found[0] if len(found) == 1 else mean_of(found, "accuracy")
    low, high = map(end_of, score.interval())
    return PairScore(run, one, other, score.value, low, high, found[0].rows)
