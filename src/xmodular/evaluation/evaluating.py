"""The verb: models and data in, results out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xmodular.console import console, counted
from xmodular.errors import ConfigurationError
from xmodular.evaluation.assembling import comparisons_of, details_of, rows_of
from xmodular.evaluation.conditions import Job, Reader, Reading, jobs_of, reader_of
from xmodular.evaluation.record import about, write_predictions
from xmodular.evaluation.rows import Scored, guess, score_task
from xmodular.evaluation.sets import TestSet, check_labels, find_sets
from xmodular.evaluation.subjects import Subject, is_for_perplexity, subjects_of
from xmodular.evaluation.text import score_text
from xmodular.evaluation.units import with_units
from xmodular.files import written_beside
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EvaluateOptions
from xmodular.outputs import RESULTS, check_results_folder, held
from xmodular.results import Results
from xmodular.results.verdicts import verdict
from xmodular.rows import InMemory, sources_of
from xmodular.signatures import verb
from xmodular.tasks import Room, Task, given_model, longest, read_labels, room_of, task_of
from xmodular.tasks.heads import names_in
from xmodular.tasks.loading import columns_of_training
from xmodular.tasks.qa import squad_statistics

_BLOCK = 128  # tokens of text, where nothing else is asked for


def _source(name: str, place: Any) -> str:
    """The file, or the rows, of one language."""
    found = sources_of(place, name)
    if len(found) != 1:
        raise ConfigurationError(f"data has {len(found)} files for {name}: give one.")
    return found[0]


def _models(
    model: XmodPreTrainedModel | str | Path | Sequence[XmodPreTrainedModel | str | Path],
) -> tuple[list[XmodPreTrainedModel | str | Path], list[str]]:
    """The models, and what to call them."""
    models = [model] if isinstance(model, str) or not isinstance(model, Sequence) else list(model)
    given = [given_model(each) for each in models]
    return models, [name if each is None else str(each.config._name_or_path or "model") for each, name in given]


def _data(data: Any) -> tuple[dict[str, str] | None, list[str]]:
    """The sources by language, where data are given so, and all of them."""
    if not isinstance(data, Mapping):
        return None, sources_of(data, "data")
    named = {name: _source(name, place) for name, place in data.items()}
    return named, list(named.values())


@verb(EvaluateOptions, "model", "data", objects={"model": _models, "data": _data})
def evaluate(
    options: EvaluateOptions,
    models: Sequence[XmodPreTrainedModel | str | Path],
    named: Mapping[str, str] | None,
) -> Results:
    """Score one model or several on test data in many languages, all languages mixed in the batches.

    Args:
        model: a fine-tuned model as an object, a folder or a name on the Hub; the folder of a run with several seeds;
            a language model, for perplexities; or several of these with one task. The first is the baseline with
            which others are compared.
        data: a file, or rows as for `finetune`, by language; rows with a column ``language``; or one or several of:
            folders or globs of ``<language>.<split>.<ext>`` files, of which those in the models' languages are read,
            and with `fallback` those in their relatives too; files with a column ``language``; ``<language>=<file>``;
            ``hub:<data set>:<configuration>:<split>`` with ``{language}`` in it.

    Returns:
        Rows of values with 95 % intervals, and differences with p-values, saved in `output_dir` if one is given.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
    """
    if options.output_dir is None:
        return _evaluated(options, models, named, lambda: None)
    _check_folder(options.output_dir)
    sources = [*options.model, *options.data, options.tokenizer]
    check = partial(check_results_folder, options.output_dir, overwrite=options.overwrite, sources=sources)
    with held(options.output_dir):
        check()
        return _evaluated(options, models, named, check)


def _evaluated(
    options: EvaluateOptions,
    models: Sequence[XmodPreTrainedModel | str | Path],
    named: Mapping[str, str] | None,
    check: Callable[[], None],
) -> Results:
    started = time.monotonic()
    subjects = subjects_of(models, options.source)
    model = subjects[0].load(options.precision)
    task = task_of(model)
    if task is None and not is_for_perplexity(subjects[0]):
        raise ConfigurationError(
            f"The model has no head for a task or for masked words (it is a bare {type(model).__name__}), so there is "
            "nothing to score: fine-tune it first."
        )
    if task is None and options.predictions:
        raise ConfigurationError("--predictions are those of a task; perplexity has none.")
    known = _Known(subjects, options.fallback)
    labels = {name for subject in subjects for name in names_in(subject.config)}
    usual = {} if task is None else _usual(task, subjects)
    found = find_sets(options, task, known.languages, known.name, named, labels, usual)
    if task is not None:
        found = with_units(task, found)
        if task.name == "qa" and options.answers == "squad":
            task = replace(task, statistics=squad_statistics)
    sets = {each.language: each for each in found}
    conditions = _conditions(options, subjects)
    work = [[job for code in sets for job in known.jobs(place, code, conditions)] for place in range(len(subjects))]
    if task is not None and task.label_names(found[0].examples[:1]):
        _check_labels(subjects, sets, work)
    _announce(subjects, task, sets, known)
    warnings = _seen_before(subjects, found)

    scored: list[dict[Job, Scored]] = []
    guesses: dict[str, dict[str, dict[str, dict[str, float]]]] = {}  # run, language, guess, metric
    for place, subject in enumerate(subjects):
        model = model if place == 0 else subject.load(options.precision)
        if task is not None:
            room = room_of(model, options.max_length, options.stride)
            by_reading = score_task(model, task, sets, work[place], room, options)
            _say_cut(by_reading, sets, subject.run, room, warnings)
            if subject.run not in guesses:
                guesses[subject.run] = {code: guess(task, each, read_labels(model)) for code, each in sets.items()}
        else:
            by_reading, blind = score_text(
                model, sets, work[place], longest(model, options.max_length or _BLOCK), options
            )
            guesses[subject.run] = {code: {"uniform": values} for code, values in blind.items()}
        scored.append({job: by_reading[job.reading] for job in work[place]})
    name = task.name if task is not None else "perplexity"
    rows, pooled = rows_of(name, subjects, scored, guesses, known.name)
    sources = {row.source for row in rows}
    repeatable = named is None and not any(isinstance(place, InMemory) for place in options.data)
    results = Results(
        tuple(rows),
        sources.pop() if len(sources) == 1 else None,
        tuple(comparisons_of(name, pooled, {row.run: row.source for row in rows})),
        about(options, subjects, found, rows, repeatable, round(time.monotonic() - started, 1), warnings),
        tuple(details_of(subjects, scored)),
    )
    console.print(results.table())
    for run in results.runs():
        if said := verdict(results, results.metrics()[0], run):
            console.print(f"{run}: {said}")
    if options.output_dir is not None:
        check()
        with written_beside(options.output_dir, gone=RESULTS) as beside:
            written = results.save(beside)
            if options.predictions:
                write_predictions(beside, subjects, scored, sets)
                written.append("predictions.jsonl")
        console.print(f"Saved {', '.join(written)} in {options.output_dir}")
    return results


def _usual(task: Task, subjects: Sequence[Subject]) -> dict[str, str]:
    """The columns that the models were trained with; those of the first model that knows its own."""
    return next((names for each in subjects if (names := columns_of_training(each.config, task))), {})


def _seen_before(subjects: Sequence[Subject], sets: Sequence[TestSet]) -> list[str]:
    """Say, and give back, which files hold the very rows that a run was trained on, or was chosen by."""
    said: dict[str, None] = {}
    for subject in subjects:
        used = getattr(subject.config, "task_data", None) or {}
        for each in sets:
            file = each.files[0]
            if each.content in used.get("train", ()):
                said[f"{file} has the rows that {subject.run} was trained on: it says nothing about new text."] = None
            elif each.content in used.get("dev", ()):
                said[f"{file} has the rows by which {subject.run}'s weights were chosen: new text may do worse."] = None
    for sentence in said:
        console.print(sentence)
    return list(said)


def _say_cut(
    found: Mapping[Reading, Scored], sets: Mapping[str, TestSet], run: str, room: Room, warnings: list[str]
) -> None:
    """Say once of each run how many rows are longer than what it reads of them, and add it to the warnings."""
    cut = {reading.language: scored.cut for reading, scored in found.items()}
    rows = sum(len(sets[code].examples) for code in cut)
    if count := sum(cut.values()):
        sentence = f"{run}: {count:,} of {rows:,} rows are cut to {room.max_length} tokens (--max-length)."
        if sentence not in warnings:
            console.print(sentence)
            warnings.append(sentence)


def _check_labels(subjects: Sequence[Subject], sets: Mapping[str, TestSet], work: Sequence[Sequence[Job]]) -> None:
    """Say once for every run what it lacks of the labels in the files that it reads; an error if that is all."""
    checked = set()
    for subject, jobs in zip(subjects, work, strict=True):
        labels = tuple(names_in(subject.config))
        if (subject.run, labels) not in checked:
            checked.add((subject.run, labels))
            check_labels(
                [sets[code] for code in dict.fromkeys(job.reading.language for job in jobs)], labels, subject.run
            )


def _check_folder(folder: Path) -> None:
    """Raises ConfigurationError if nothing can be written there, while no work is lost by it."""
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
    if not there.is_dir():
        raise ConfigurationError(f"--output-dir {folder}: {there} is a file, not a folder.")
    if not os.access(there, os.W_OK):
        raise ConfigurationError(f"--output-dir {folder}: {there} cannot be written to.")


def _conditions(options: EvaluateOptions, subjects: Sequence[Subject]) -> list[str]:
    """What is asked for, as far as the source language is known."""
    known = any(subject.source for subject in subjects)
    conditions: list[str] = [name for name in options.adapter if name != "source" or known]
    if not conditions:
        raise ConfigurationError(f"{options.model[0]} does not say which language it was trained in; --source does.")
    if len(conditions) < len(options.adapter):
        console.print("No source language is known or there, so none is read by its adapter; --source names one.")
    return conditions


class _Known:
    """Which languages the models have, and what these are called in the results."""

    def __init__(self, subjects: Sequence[Subject], fallback: str | None) -> None:
        self._subjects, self._fallback = subjects, fallback
        self._readers: dict[tuple[int, str], Reader | None] = {}
        self.languages = list(dict.fromkeys(code for s in subjects for code in s.config.languages))

    def reader(self, place: int, name: str) -> Reader | None:
        """Whose adapter of a model reads a language."""
        if (place, name) not in self._readers:
            languages = self._subjects[place].config.languages
            self._readers[place, name] = reader_of(name, languages, self._fallback)
        return self._readers[place, name]

    def name(self, name: str) -> str | None:
        """The code that the first model with the language has for it; the name itself where none has it."""
        readers = [self.reader(place, name) for place in range(len(self._subjects))]
        own = next((reader.code for reader in readers if reader is not None and reader.own), None)
        return own or (name if any(readers) else None)

    def jobs(self, place: int, language: str, conditions: Sequence[str]) -> list[Job]:
        """The ways in which a model reads a language; none if it lacks it."""
        subject, reader = self._subjects[place], self.reader(place, language)
        return jobs_of(language, reader, conditions, subject.source, subject.config.languages) if reader else []


def _announce(subjects: Sequence[Subject], task: Task | None, sets: Mapping[str, TestSet], known: _Known) -> None:
    """Say what is evaluated, and what is read by whom."""
    runs = list(dict.fromkeys(subject.run for subject in subjects))
    sources = list(dict.fromkeys(subject.source for subject in subjects if subject.source))
    models = f"{', '.join(runs)} ({len(subjects)} models)" if len(subjects) > len(runs) else ", ".join(runs)
    console.print(
        f"Evaluating {models} ({task.name if task else 'perplexity'}) in {counted(len(sets), 'language')}"
        + (f"; source language {', '.join(sources)}" if sources else "")
    )
    said: dict[str, None] = {}  # once for all seeds of a run
    for place, subject in enumerate(subjects):
        which = f" of {subject.run}" if len(runs) > 1 else ""
        lacking = []
        for language, each in sets.items():
            reader = known.reader(place, language)
            if reader is None:
                lacking.append(language)
            elif not reader.own:
                name = Path(each.files[0]).name
                said[f"{name} is read by the adapter{which} of {reader.code}, the nearest relative."] = None
        if lacking:
            said[f"{subject.run} lacks {', '.join(lacking)}."] = None
    for sentence in said:
        console.print(sentence)
