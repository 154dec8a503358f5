"""Score a model in many languages: each with its own adapter, without switching, beside constant guesses."""

from __future__ import annotations

import glob
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.console import console, progress
from xmodular.data import BlockCache, CausalLMCollator, MaskedLMCollator, TextFiles
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.languages import resolve, resolve_all
from xmodular.modeling import XmodForCausalLM, XmodPreTrainedModel
from xmodular.options import EvaluateOptions, build
from xmodular.report import plot
from xmodular.results import Results, Row
from xmodular.tasks import (
    TASKS,
    Task,
    block_statistics,
    given_model,
    load_saved,
    longest,
    perplexity_metrics,
    predict_logits,
    tokenizer_of,
    with_intervals,
)

_PERPLEXITY = ("XmodForMaskedLM", "XmodForCausalLM")


def evaluate(
    model: XmodPreTrainedModel | str | Path, data: Mapping[str, str | Path] | str | Path, **options: Any
) -> Results:
    """Score a model on test files, all languages mixed in the batches.

    Args:
        model: a fine-tuned model as an object, a folder or a name on the Hub; or a masked language model, for
            perplexities.
        data: a file by language; or a folder or glob of ``<language>.<split>.<ext>`` files, of which those in the
            model's languages are read, and with `fallback` those in their relatives too.
        options: the other fields of `EvaluateOptions`.

    Returns:
        Rows of values with 95 % intervals by the bootstrap, saved in `output_dir` if one is given.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
    """
    given, source = given_model(model)
    files = {name: Path(path) for name, path in data.items()} if isinstance(data, Mapping) else None
    described = "; ".join(map(str, files.values())) if files is not None else data
    return _evaluate(build(EvaluateOptions, {"model": source, "data": described, **options}), given, files)


def _evaluate(
    options: EvaluateOptions, given: XmodPreTrainedModel | None = None, files: Mapping[str, Path] | None = None
) -> Results:
    model = given if given is not None else load_saved(options.model)
    architecture = type(model).__name__
    task = next((task for task in TASKS.values() if task.architecture == architecture), None)
    if task is None and architecture not in _PERPLEXITY:
        raise ConfigurationError(f"There is no evaluation for a {architecture}.")
    suffixes = task.suffixes if task else (".txt",)
    if files is None:
        files, readers = _find(options, suffixes, model)
    else:
        named, files, readers = files, {}, {}
        for spelled, path in named.items():
            _add(files, readers, path, *_reader(spelled, model, options))
    if options.languages:
        files = {name: files[name] for name in resolve_all(options.languages, files)}
    source = None if options.source is None else resolve(options.source, model.languages)
    if source is None and getattr(model.config, "task_language", None) in model.languages:
        source = model.config.task_language
    conditions = [name for name in options.adapter if name == "right" or source is not None]
    if not conditions:
        raise ConfigurationError(f"{options.model} does not say which language it was trained in; --source does.")
    if "source" in options.adapter and source is None:
        console.print("No source language is known or there, so each language's own adapter only; --source names one.")
    jobs = _jobs({name: readers[name] for name in files}, conditions, source)
    name = Path(options.model).name or "model"
    console.print(
        f"Evaluating {name} ({task.name if task else 'perplexity'}) in {len(files)} languages"
        + (f"; source language {source}" if source else "")
    )
    for language, path in files.items():
        if readers[language] != language:
            console.print(f"{path.name} is read by the adapter of {readers[language]}, the nearest relative.")
    if task is not None:
        rows = _score_task(model, task, files, jobs, options, name)
    else:
        rows = _score_text(model, files, jobs, options, name)
    results = Results(tuple(rows), source)
    console.print(results.table())
    if options.output_dir is not None:
        results.save(options.output_dir)
        plot(results, options.output_dir / "results.png")
        console.print(f"Saved results.json, results.md and results.png in {options.output_dir}")
    return results


def _reader(name: str, model: XmodPreTrainedModel, options: EvaluateOptions) -> tuple[str, str]:
    """What a language is called in the results, and whose adapter reads it: its own, or its nearest relative's."""
    try:
        code = resolve(name, model.languages)
    except LanguageError:
        if options.fallback is None:
            raise
        return name, resolve(name, model.languages, fallback=options.fallback)
    return code, code


def _add(files: dict[str, Path], readers: dict[str, str], path: Path, language: str, reader: str) -> None:
    if language in files:
        raise DataError(f"Two files for {language}: {files[language]} and {path}.")
    files[language], readers[language] = path, reader


class _Job(NamedTuple):
    """What is read how: the language, the results' name of the condition, and whose adapter reads."""

    language: str
    condition: str
    reader: str


def _jobs(readers: Mapping[str, str], conditions: Sequence[str], source: str | None) -> list[_Job]:
    jobs = []
    for language, reader in readers.items():
        for condition in conditions:
            if condition == "right":
                jobs.append(_Job(language, "right" if reader == language else "relative", reader))
            elif source is not None and reader != source:  # it would be the same
                jobs.append(_Job(language, "source", source))
    return jobs


def _by_vocabulary(model: XmodPreTrainedModel, jobs: Sequence[_Job]) -> dict[str | None, list[_Job]]:
    """The jobs by the vocabulary that the reader reads: a language with its own, or None for the shared one."""
    grouped: dict[str | None, list[_Job]] = {}
    for job in jobs:
        grouped.setdefault(job.reader if job.reader in model.config.vocabularies else None, []).append(job)
    return grouped


def _find(
    options: EvaluateOptions, suffixes: Sequence[str], model: XmodPreTrainedModel
) -> tuple[dict[str, Path], dict[str, str]]:
    """Files in the model's languages and, with a fallback, their relatives; and whose adapter reads each."""
    data, split = options.data, options.split
    folder = Path(data)
    if folder.is_dir():
        patterns = ["*.txt"] if ".txt" in suffixes else [f"*.{split}{suffix}" for suffix in suffixes]
        paths = [path for pattern in patterns for path in folder.glob(pattern)]
        wanted = " or ".join(pattern.replace("*", "<language>") for pattern in patterns)
    else:
        paths = [Path(path) for path in glob.glob(data, recursive=True)]
        wanted = data
    if not paths:
        raise DataError(f"There are no files {wanted}{f' in {folder}' if folder.is_dir() else ''}.")
    found: dict[str, Path] = {}
    readers: dict[str, str] = {}
    left_out = []
    for path in sorted(paths):
        name = path.name.split(".", 1)[0]
        try:
            language, reader = _reader(name, model, options)
        except LanguageError:
            left_out.append(name)
            continue
        _add(found, readers, path, language, reader)
    if left_out:
        console.print(f"Left out, not among the model's languages: {', '.join(left_out)}")
    if not found:
        raise DataError(f"None of the files is in one of the model's languages: {', '.join(model.languages)}.")
    return found, readers


def _score_task(
    model: XmodPreTrainedModel,
    task: Task,
    files: Mapping[str, Path],
    jobs: Sequence[_Job],
    options: EvaluateOptions,
    run: str,
) -> list[Row]:
    names = model.config.id2label or {}
    labels = [str(name) for _, name in sorted(names.items())]
    ids = {label: index for index, label in enumerate(labels)}
    cut = longest(model, options.max_length)
    examples = {code: task.load(path) for code, path in files.items()}
    statistics: dict[_Job, tuple[np.ndarray, list[tuple[int, ...]]]] = {}
    with progress("predicting", sum(len(examples[job.language]) for job in jobs)) as advance:
        for vocabulary, part in _by_vocabulary(model, jobs).items():
            tokenizer = tokenizer_of(model, options.tokenizer, vocabulary)
            encodings = {
                code: task.encode(tokenizer, examples[code], ids, cut) for code in {job.language for job in part}
            }
            rows = [(job, encoding) for job in part for encoding in encodings[job.language]]
            logits = predict_logits(
                model,
                [encoding.input_ids for _, encoding in rows],
                [model.languages.index(job.reader) for job, _ in rows],
                pad_id=tokenizer.pad_token_id,
                batch_size=options.batch_size,
                advance=advance,
            )
            predicted: dict[_Job, list[tuple[int, ...]]] = {job: [] for job in part}
            for (job, encoding), values in zip(rows, logits, strict=True):
                predicted[job].append(task.decode(encoding, values))
            for job in part:
                gold = [encoding.labels for encoding in encodings[job.language]]
                statistics[job] = task.statistics(gold, predicted[job], labels), gold

    answer = []
    for code in dict.fromkeys(job.language for job in jobs):
        for job in (job for job in jobs if job.language == code):
            sums, gold = statistics[job]
            answer += _rows(run, task, code, job.condition, sums, labels, options)
        commonest = Counter(label for row in gold for label in row).most_common(1)[0][0]
        constant = task.statistics(gold, [(commonest,) * len(row) for row in gold], labels).sum(0)
        for metric, value in task.metrics(constant, labels).items():
            answer.append(Row(run, task.name, code, metric, "majority", float(value), None, None, len(gold)))
        answer.append(Row(run, task.name, code, "accuracy", "uniform", 1 / len(labels), None, None, len(gold)))
    return answer


def _rows(
    run: str, task: Task, code: str, condition: str, statistics: np.ndarray, labels: list[str], options: EvaluateOptions
) -> list[Row]:
    values = with_intervals(
        statistics, lambda sums: task.metrics(sums, labels), resamplings=options.bootstrap, seed=options.seed
    )
    return [Row(run, task.name, code, metric, condition, *value, len(statistics)) for metric, value in values.items()]


def _score_text(
    model: XmodPreTrainedModel,
    files: Mapping[str, Path],
    jobs: Sequence[_Job],
    options: EvaluateOptions,
    run: str,
) -> list[Row]:
    answer: list[Row] = []
    firsts = set({job.language: job for job in reversed(jobs)}.values())  # one per language
    for vocabulary, part in _by_vocabulary(model, jobs).items():
        tokenizer = tokenizer_of(model, options.tokenizer, vocabulary)
        answer += _score_blocks(model, tokenizer, files, part, firsts, options, run)
    return answer


def _score_blocks(
    model: XmodPreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    files: Mapping[str, Path],
    jobs: Sequence[_Job],
    firsts: set[_Job],
    options: EvaluateOptions,
    run: str,
) -> list[Row]:
    """Perplexities of text in one vocabulary; of a blind draw too, for the jobs among `firsts`."""
    collator: MaskedLMCollator | CausalLMCollator
    if isinstance(model, XmodForCausalLM):
        collator = CausalLMCollator(pad_id=tokenizer.pad_token_id)
    else:
        collator = MaskedLMCollator(
            special_ids=tokenizer.all_special_ids,
            mask_id=tokenizer.mask_token_id,
            pad_id=tokenizer.pad_token_id,
            vocab_size=len(tokenizer),
            seed=options.seed,
        )
    files = {job.language: files[job.language] for job in jobs}
    with tempfile.TemporaryDirectory() as folder:
        cache = BlockCache(Path(folder), tokenizer, longest(model, options.max_length), options.packing)
        blocks = {code: np.array(cache.get(TextFiles(code, (path,))).blocks) for code, path in files.items()}
    rows = [(job, number) for job in jobs for number in range(len(blocks[job.language]))]
    with progress("reading", len(rows)) as advance:
        sums = block_statistics(
            model,
            [blocks[job.language][number] for job, number in rows],
            [model.languages.index(job.reader) for job, _ in rows],
            [number for _, number in rows],  # the same masks under either adapter
            collator,
            batch_size=options.batch_size,
            advance=advance,
        )
    answer = []
    for job in jobs:
        own = sums[[row[0] == job for row in rows]]
        values = with_intervals(own, perplexity_metrics, resamplings=options.bootstrap, seed=options.seed)
        for metric, value in values.items():
            answer.append(Row(run, "perplexity", job.language, metric, job.condition, *value, len(own)))
    for code in (job.language for job in jobs if job in firsts):
        size = len(blocks[code])
        answer.append(Row(run, "perplexity", code, "perplexity", "uniform", float(len(tokenizer)), None, None, size))
    return answer
