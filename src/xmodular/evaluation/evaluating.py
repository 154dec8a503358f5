"""The verb `evaluate`: from models and data to results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xmodular.console import console, counted
from xmodular.errors import ConfigurationError
from xmodular.evaluation.base_evaluation import BaseEvaluation
from xmodular.evaluation.conditions import Job, jobs_of
from xmodular.evaluation.identifying import check_identifying
from xmodular.evaluation.provenance import write_predictions
from xmodular.evaluation.retrieving import Retrieval
from xmodular.evaluation.scoring import Scored, score_task
from xmodular.evaluation.subjects import Subject, is_for_perplexity, subjects_of, use_of
from xmodular.evaluation.test_data import Finder, TestSet, check_known_labels
from xmodular.evaluation.text_scoring import score_text
from xmodular.evaluation.units import with_units
from xmodular.exported_models import ExportedModel
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EvaluateOptions
from xmodular.outputs import check_results_folder, check_writable, held
from xmodular.perplexity import PERPLEXITY_METRICS
from xmodular.results import Results
from xmodular.results.gates import Gate, read_gates
from xmodular.rows import InMemory, files_in, sources_of
from xmodular.saved_models import home_of
from xmodular.signatures import verb
from xmodular.tasks import TASKS, Task, given_model, guessed, longest, metrics_of, read_labels, room_of, task_of
from xmodular.tasks.examples import columns_of_training
from xmodular.tasks.qa import squad_statistics
from xmodular.tasks.readers import Reading
from xmodular.tasks.task_heads import names_in

_BLOCK = 128  # tokens of text, by default


def _source(name: str, place: Any) -> str:
    """The file, or the rows, of one language."""
    found = sources_of(place, name)
    if len(found) != 1:
        raise ConfigurationError(f"data names {len(found)} files for {name}: give one.")
    return found[0]


def _models(
    model: XmodPreTrainedModel | str | Path | Sequence[XmodPreTrainedModel | str | Path],
) -> tuple[list[XmodPreTrainedModel | str | Path], list[str]]:
    """The models and their names."""
    models = [model] if isinstance(model, str) or not isinstance(model, Sequence) else list(model)
    given = [given_model(each) for each in models]
    return models, [name if each is None else home_of(each) or "model" for each, name in given]


def _data(data: Any) -> tuple[dict[str, str] | None, list[str]]:
    """The sources by language, if they are given that way, and all sources."""
    if not isinstance(data, Mapping):
        return None, sources_of(data, "data")
    named = {name: _source(name, place) for name, place in data.items()}
    return named, list(named.values())


def _gates(gate: str | Path | Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str | Path | None]:
    """Gates that are given as a table, or the name of their file."""
    return (gate, None) if isinstance(gate, Mapping) else (None, gate)


@verb(EvaluateOptions, "model", "data", objects={"model": _models, "data": _data, "gate": _gates})
def evaluate(
    options: EvaluateOptions,
    models: Sequence[XmodPreTrainedModel | str | Path],
    named: Mapping[str, str] | None,
    table: Mapping[str, Any] | None,
) -> Results:
    """Score one or more models on test data in many languages, with all languages mixed in the batches.

    Args:
        model: a fine-tuned model as an object, a folder or a name on the Hub; the folder of a run with several seeds;
            a language model, for perplexities; or several of these with the same task. The first is the baseline with
            which the others are compared.
        data: a file, or rows as for `finetune`, by language; rows with a column ``language``; or one or several of:
            folders or globs of ``<language>.<split>.<ext>`` files, of which those in the models' languages are read,
            and with `fallback` those in related languages; files with a column ``language``; ``<language>=<file>``;
            ``hub:<data set>:<configuration>:<split>`` with ``{language}`` in it.
        gate: a file of gates, or a table of the same form: least values by language, and largest drops against earlier
            results. The results have their outcomes as ``gates``, and ``passed``; one that fails is no error.

    Returns:
        Values with 95 % intervals, and differences with p-values, saved in `output_dir` if one is given.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
    """
    source = options.gate if table is None else table
    gates = [] if source is None else read_gates(source)
    if options.output_dir is None:
        return _evaluation(options, models, named, gates).run(lambda: None)
    check_writable(options.output_dir)
    sources = [*options.model, *options.data, options.tokenizer, options.gate]
    check = partial(check_results_folder, options.output_dir, overwrite=options.overwrite, sources=sources)
    with held(options.output_dir):
        check()
        return _evaluation(options, models, named, gates).run(check)


def _evaluation(
    options: EvaluateOptions,
    models: Sequence[XmodPreTrainedModel | str | Path],
    named: Mapping[str, str] | None,
    gates: Sequence[Gate],
) -> _Evaluation | Retrieval:
    """The evaluation that the models are for."""
    subjects = subjects_of(models, options.source, alike=options.task is None)
    use = options.task or use_of(subjects[0])
    task = TASKS.get(use)
    kinds = task.kinds if task is not None else {use, *(["rows"] if use == "retrieval" else [])}
    options.check_kind(kinds, f"this is an evaluation by {use}" if task is None else f"the task is {use}")
    if options.split != EvaluateOptions.split and not any(map(_is_folder, options.data)):
        options.refuse(("split",), "chooses among the files of a folder; --data names none.")
    if use == "retrieval":
        return Retrieval(options, subjects, named, gates)
    return _Evaluation(options, subjects, named, gates)


def _is_folder(place: str) -> bool:
    return not isinstance(place, InMemory) and files_in(Path(place)) is not None


class _Evaluation(BaseEvaluation):
    """Models, test data, and the adapters to use.

    Raises:
        ConfigurationError, DataError, LanguageError: as `evaluate`.
    """

    def __init__(
        self,
        options: EvaluateOptions,
        subjects: Sequence[Subject],
        named: Mapping[str, str] | None,
        gates: Sequence[Gate] = (),
    ) -> None:
        super().__init__(options, subjects, named)
        self.loaded = [self.subjects[0].load(options.precision)]  # only the first, and no longer than the others
        self.task = self._task(self.loaded[0])
        self.use = "perplexity" if self.task is None else self.task.name
        self.sets = self._sets(named)
        conditions = self._conditions()
        if "identified" in conditions and self.task is None:
            raise ConfigurationError(
                "Perplexity is of blocks of text, not of rows whose language can be identified: leave out --identify."
            )
        inside = self.task is not None and self.task.name != "embed"
        check_identifying(options, self.subjects, inside=inside)
        self.jobs = [
            [job for code in self.sets for job in self._jobs(subject, code, conditions)] for subject in self.subjects
        ]
        if self.task is not None and self.task.label_names(next(iter(self.sets.values())).examples[:1]):
            self._check_labels()
        self.gates = self._checked(gates, self._metrics(), list(self.sets), conditions) if gates else []
        self._announce()
        self.warnings = self._seen_before()
        self.scored: list[dict[Job, Scored]] = []
        self.guesses: dict[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = {}
        self.precisions: list[str] = []  # of each model, and why, with --precision auto

    def run(self, check: Callable[[], None]) -> Results:
        """Score the models one after the other; show and save the results if `check` allows it."""
        for subject, jobs in zip(self.subjects, self.jobs, strict=True):
            by_reading = self._score(subject, jobs)
            self.scored.append({job: by_reading[job.reading] for job in jobs})
        sets = list(self.sets.values())
        results = self._results(self.scored, self.guesses, sets, self.warnings, precisions=self.precisions)
        return self._finish(results, check)

    def _write_more(self, folder: Path) -> list[str]:
        """Write the predictions, if they are asked for."""
        if not self.options.predictions:
            return []
        write_predictions(folder, self.subjects, self.scored, self.sets)
        return ["predictions.jsonl"]

    def _task(self, model: XmodPreTrainedModel) -> Task | None:
        """The task of the models, scored as asked; None of language models."""
        task = task_of(model)
        if task is None and not is_for_perplexity(self.subjects[0]):
            raise ConfigurationError(
                f"The model has no head for a task or for masked words (it is a bare {type(model).__name__}), so there "
                "is nothing to score: fine-tune it first."
            )
        if task is None and isinstance(model, ExportedModel):
            raise ConfigurationError(
                f"{self.options.model[0]} is an exported language model; for perplexity, use the model that it was "
                "exported from."
            )
        if task is not None and task.name == "qa" and self.options.answers == "squad":
            return replace(task, statistics=squad_statistics)
        return task

    def _sets(self, named: Mapping[str, str] | None) -> dict[str, TestSet]:
        """The test data by language, with their dependent rows grouped."""
        labels = {name for subject in self.subjects for name in names_in(subject.config)}
        task, usual = self.task, {}
        if task is not None:  # the columns of the first model that knows those it was trained with
            usual = next((names for each in self.subjects if (names := columns_of_training(each.config, task))), {})
        found = Finder(self.options, task, self.languages, self._name, labels, usual).sets(named)
        return {each.language: each for each in (found if task is None else with_units(task, found))}

    def _jobs(self, subject: Subject, language: str, conditions: Sequence[str]) -> list[Job]:
        """The ways in which a model reads a language; none if it lacks it."""
        reader = self._reader(subject, language)
        return jobs_of(language, reader, conditions, subject.source, subject.config.languages) if reader else []

    def _conditions(self) -> list[str]:
        """The requested conditions, as far as the source language is known."""
        asked, known = self.options.adapter, any(subject.source for subject in self.subjects)
        conditions: list[str] = [name for name in asked if name != "source" or known]
        if not conditions:
            place = self.options.model[0]
            raise ConfigurationError(f"{place} does not record its training language: give it with --source.")
        if len(conditions) < len(asked):
            console.print(
                "The source language is unknown or missing, so its adapter is not scored; give it with --source."
            )
        return conditions

    def _metrics(self) -> list[str]:
        """The metrics, the main one first."""
        if self.task is None:
            return list(PERPLEXITY_METRICS)
        labels = names_in(self.subjects[0].config) if self.task.has_labels else []
        return metrics_of(self.task, next(iter(self.sets.values())).examples, labels)

    def _check_labels(self) -> None:
        """Warn once per run about labels in its files that it lacks; an error if it lacks all."""
        checked = set()
        for subject, jobs in zip(self.subjects, self.jobs, strict=True):
            labels = tuple(names_in(subject.config))
            if (subject.run, labels) not in checked:
                checked.add((subject.run, labels))
                read = dict.fromkeys(job.reading.language for job in jobs)
                check_known_labels([self.sets[code] for code in read], labels, subject.run)

    def _announce(self) -> None:
        """Print what is evaluated, and which adapters are used."""
        sources = list(dict.fromkeys(subject.source for subject in self.subjects if subject.source))
        seeds = f" ({len(self.subjects)} models)" if len(self.subjects) > len(self.runs) else ""
        console.print(
            f"Evaluating {', '.join(self.runs)}{seeds} ({self.use}) in "
            f"{counted(len(self.sets), 'language')}" + (f"; source language {', '.join(sources)}" if sources else "")
        )
        said: list[str] = []
        for subject in self.subjects:
            which = f" of {subject.run}" if len(self.runs) > 1 else ""
            readers = {language: self._reader(subject, language) for language in self.sets}
            said += [
                f"{Path(self.sets[language].files[0]).name} uses the adapter{which} of {reader.adapter}, its nearest "
                "relative."
                for language, reader in readers.items()
                if reader is not None and not reader.own
            ]
            if lacking := [language for language, reader in readers.items() if reader is None]:
                said.append(f"{subject.run} lacks {', '.join(lacking)}.")
        _say(said)

    def _seen_before(self) -> list[str]:
        """Say, and give back, which files hold the very rows that a run was trained on, or was chosen by."""
        said: list[str] = []
        for subject in self.subjects:
            train, dev = subject.config.noted_rows("train"), subject.config.noted_rows("dev")
            for each in self.sets.values():
                file, run = each.files[0], subject.run
                if each.content in train:
                    said.append(f"{file} has training rows of {run}: its scores say nothing about new text.")
                elif each.content in dev:
                    said.append(f"{file} contains the validation rows of {run}: scores on new text may be lower.")
        return _say(said)

    def _score(self, subject: Subject, jobs: Sequence[Job]) -> dict[Reading, Scored]:
        """The scores of a model and, once per run, those of the guesses."""
        options, task, sets = self.options, self.task, self.sets
        model = self.loaded.pop() if self.loaded else subject.load(options.precision)
        if task is None:
            block = longest(model, options.max_length or _BLOCK)
            found, blind = score_text(model, sets, jobs, block, options)
            if options.precision == "auto":
                kept = str(model.dtype).removeprefix("torch.")
                self._say_precision(subject, f"{kept}: perplexity is measured in the precision of the weights")
            self.guesses[subject.run] = {code: {"uniform": values} for code, values in blind.items()}
            return found
        room = room_of(model, options.max_length, options.stride)
        found, chosen = score_task(model, task, sets, jobs, room, options, subject.source)
        if chosen is not None:
            self._say_precision(subject, str(chosen))
        cut = {reading.language: scored.cut for reading, scored in found.items()}
        if count := sum(cut.values()):
            rows = sum(len(sets[code].examples) for code in cut)
            sentence = (
                f"{subject.run}: {count:,} of {rows:,} rows are truncated to {room.max_length} tokens (--max-length)."
            )
            if sentence not in self.warnings:
                self.warnings += _say([sentence])
        if subject.run not in self.guesses:
            labels = read_labels(model)
            self.guesses[subject.run] = {code: guessed(task, each.examples, labels) for code, each in sets.items()}
        return found

    def _say_precision(self, subject: Subject, chosen: str) -> None:
        """Say, and note for the results, in which precision a model was run, and why."""
        seed = f", seed {subject.seed}" if len(self.subjects) > 1 and subject.seed is not None else ""
        console.print(f"{subject.run}{seed}: precision {chosen}")
        self.precisions.append(chosen)


def _say(sentences: Sequence[str]) -> list[str]:
    """Print sentences, and give them back, each once."""
    said = list(dict.fromkeys(sentences))
    for sentence in said:
        console.print(sentence)
    return said
