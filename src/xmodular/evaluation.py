"""Score a model in many languages: each with its own adapter, without switching, beside constant guesses."""

from __future__ import annotations

import glob
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xmodular.console import console, progress
from xmodular.data import BlockCache, MaskedLMCollator, TextFiles
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.languages import resolve, resolve_all
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EvaluateOptions, build
from xmodular.report import plot
from xmodular.results import Results, Row
from xmodular.tasks import (
    TASKS,
    Task,
    block_statistics,
    load_saved,
    longest,
    perplexity_metrics,
    predict_logits,
    tokenizer_of,
    with_intervals,
)

_PERPLEXITY = "XmodForMaskedLM"


def evaluate(
    model: XmodPreTrainedModel | str | Path, data: Mapping[str, str | Path] | str | Path, **options: Any
) -> Results:
    """Score a model on test files, all languages mixed in the batches.

    Args:
        model: a fine-tuned model as an object, a folder or a name on the Hub; or a masked language model, for
            perplexities.
        data: a file by language; or a folder or glob of ``<language>.<split>.<ext>`` files, of which those in the
            model's languages are read.
        options: the other fields of `EvaluateOptions`.

    Returns:
        Rows of values with 95 % intervals by the bootstrap, saved in `output_dir` if one is given.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
    """
    given = model if isinstance(model, XmodPreTrainedModel) else None
    source = str(given.config._name_or_path or "model object") if given is not None else model
    files = {name: Path(path) for name, path in data.items()} if isinstance(data, Mapping) else None
    described = "; ".join(map(str, files.values())) if files is not None else data
    return _evaluate(build(EvaluateOptions, {"model": source, "data": described, **options}), given, files)


def _evaluate(
    options: EvaluateOptions, given: XmodPreTrainedModel | None = None, files: Mapping[str, Path] | None = None
) -> Results:
    model = given if given is not None else load_saved(options.model)
    architecture = type(model).__name__
    task = next((task for task in TASKS.values() if task.architecture == architecture), None)
    if task is None and architecture != _PERPLEXITY:
        raise ConfigurationError(f"There is no evaluation for a {architecture}.")
    suffixes = task.suffixes if task else (".txt",)
    if files is None:
        files = _find(options.data, options.split, suffixes, model)
    else:
        named, files = files, {}
        for spelled, path in named.items():
            code = resolve(spelled, model.languages)
            if code in files:
                raise DataError(f"Two files for {code}: {files[code]} and {path}.")
            files[code] = path
    if options.languages:
        files = {code: files[code] for code in resolve_all(options.languages, files)}
    source = options.source or getattr(model.config, "task_language", None)
    source = resolve(source, model.languages) if source is not None else None
    conditions = [name for name in options.adapter if name == "right" or source is not None]
    if not conditions:
        raise ConfigurationError(f"{options.model} does not say which language it was trained in; --source does.")
    if "source" in options.adapter and source is None:
        console.print("No source language is known, so each language's own adapter only; --source names one.")
    name = Path(options.model).name or "model"
    console.print(
        f"Evaluating {name} ({task.name if task else 'perplexity'}) in {len(files)} languages"
        + (f"; source language {source}" if source else "")
    )
    if task is not None:
        rows = _score_task(model, task, files, conditions, source, options, name)
    else:
        rows = _score_text(model, files, conditions, source, options, name)
    results = Results(tuple(rows), source)
    console.print(results.table())
    if options.output_dir is not None:
        results.save(options.output_dir)
        plot(results, options.output_dir / "results.png")
        console.print(f"Saved results.json, results.md and results.png in {options.output_dir}")
    return results


def _find(data: str, split: str, suffixes: Sequence[str], model: XmodPreTrainedModel) -> dict[str, Path]:
    """Files in the model's languages, by code."""
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
    left_out = []
    for path in sorted(paths):
        try:
            code = resolve(path.name.split(".", 1)[0], model.languages)
        except LanguageError:
            left_out.append(path.name.split(".", 1)[0])
            continue
        if code in found:
            raise DataError(f"Two files for {code}: {found[code]} and {path}.")
        found[code] = path
    if left_out:
        console.print(f"Left out, not among the model's languages: {', '.join(left_out)}")
    if not found:
        raise DataError(f"None of the files is in one of the model's languages: {', '.join(model.languages)}.")
    return found


def _score_task(
    model: XmodPreTrainedModel,
    task: Task,
    files: Mapping[str, Path],
    conditions: Sequence[str],
    source: str | None,
    options: EvaluateOptions,
    run: str,
) -> list[Row]:
    names = model.config.id2label or {}
    labels = [str(name) for _, name in sorted(names.items())]
    ids = {label: index for index, label in enumerate(labels)}
    tokenizer = tokenizer_of(model, options.tokenizer)
    cut = longest(model, options.max_length)
    encodings = {code: task.encode(tokenizer, task.load(path), ids, cut) for code, path in files.items()}
    jobs = [(code, condition) for code in files for condition in conditions if condition == "right" or code != source]
    rows = [(code, condition, encoding) for code, condition in jobs for encoding in encodings[code]]
    read_as = [model.languages.index(code if condition == "right" else str(source)) for code, condition, _ in rows]
    with progress("predicting", len(rows)) as advance:
        logits = predict_logits(
            model,
            [encoding.input_ids for _, _, encoding in rows],
            read_as,
            pad_id=tokenizer.pad_token_id,
            batch_size=options.batch_size,
            advance=advance,
        )
    predicted: dict[tuple[str, str], list[tuple[int, ...]]] = {job: [] for job in jobs}
    for (code, condition, encoding), values in zip(rows, logits, strict=True):
        predicted[code, condition].append(task.decode(encoding, values))

    answer = []
    for code, own in encodings.items():
        gold = [encoding.labels for encoding in own]
        for condition in conditions:
            if (code, condition) in predicted:
                statistics = task.statistics(gold, predicted[code, condition], labels)
                answer += _rows(run, task, code, condition, statistics, labels, options)
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
    conditions: Sequence[str],
    source: str | None,
    options: EvaluateOptions,
    run: str,
) -> list[Row]:
    tokenizer = tokenizer_of(model, options.tokenizer)
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = BlockCache(Path(folder), tokenizer, longest(model, options.max_length), options.packing)
        blocks = {code: np.array(cache.get(TextFiles(code, (path,))).blocks) for code, path in files.items()}
    jobs = [(code, condition) for code in files for condition in conditions if condition == "right" or code != source]
    rows = [(code, condition, number) for code, condition in jobs for number in range(len(blocks[code]))]
    with progress("reading", len(rows)) as advance:
        sums = block_statistics(
            model,
            [blocks[code][number] for code, _, number in rows],
            [model.languages.index(code if condition == "right" else str(source)) for code, condition, _ in rows],
            [number for _, _, number in rows],  # the same masks under either adapter
            collator,
            batch_size=options.batch_size,
            advance=advance,
        )
    answer = []
    for job in jobs:
        own = sums[[row[:2] == job for row in rows]]
        values = with_intervals(own, perplexity_metrics, resamplings=options.bootstrap, seed=options.seed)
        for metric, value in values.items():
            answer.append(Row(run, "perplexity", job[0], metric, job[1], *value, len(own)))
    for code in files:
        size = len(blocks[code])
        answer.append(Row(run, "perplexity", code, "perplexity", "uniform", float(len(tokenizer)), None, None, size))
    return answer
