"""Run a model over task data: predictions, and their statistics per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xmodular.console import console, progress
from xmodular.evaluation.conditions import EACH_ROW, Job
from xmodular.evaluation.intervals import Measured, measure
from xmodular.evaluation.test_data import TestSet
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EvaluateOptions
from xmodular.tasks import Breakdown, Example, Prediction, Room, Task, read_labels, tokenizer_of
from xmodular.tasks.precision_probe import ChosenPrecision, choose_precision
from xmodular.tasks.readers import Readers, Reading, default_of
from xmodular.tasks.running import encode_examples, predict_examples


@dataclass(frozen=True)
class Scored:
    """The measurements of one model on one language under one condition.

    Attributes:
        metrics: by name, the main one first.
        rows: identifies the rows it was measured on: values with equal `rows` can be compared.
        predictions: one per row; none for perplexity.
        cut: number of rows that were truncated.
        breakdown: counts by label, where the task has labels.
        told: of rows whose language is identified, how each was read.
    """

    metrics: dict[str, Measured]
    rows: tuple[Any, ...]
    predictions: Sequence[Prediction] = ()
    cut: int = 0
    breakdown: Breakdown | None = None
    told: Sequence[Reading] = ()


def identifying(
    model: XmodPreTrainedModel, source: str | None, options: EvaluateOptions, *, of_words: bool = False
) -> Callable[[Sequence[Example]], list[Reading]]:
    """Reads examples by the languages that they are identified as, whatever they name.

    Args:
        model: the model.
        source: the language whose adapter reads what cannot be identified, unless the model has a default language;
            None: as `default_of`.
        options: how languages are identified.
        of_words: whether examples are sentences, followed by their words.
    """
    readers = Readers(
        model,
        model.config.default_language or source or default_of(model.config),
        identify=options.identify,
        threshold=options.threshold,
        fallback=None,
        among=options.identify_languages,
        of_words=of_words,
    )
    return lambda examples: readers.of([replace(example, language=None) for example in examples])


def score_task(
    model: XmodPreTrainedModel,
    task: Task,
    sets: Mapping[str, TestSet],
    jobs: Sequence[Job],
    room: Room,
    options: EvaluateOptions,
    source: str | None = None,
) -> tuple[dict[Reading, Scored], ChosenPrecision | None]:
    """Predictions and metrics, computing each reading once; and the precision, where one was to be chosen.

    Args:
        model: a model with the task's head.
        task: what the rows are for.
        sets: by language.
        jobs: the readings.
        room: length and stride of the model's input.
        options: batch size, tokenizer, precision: "auto" chooses one by some of the rows.
        source: the language that the model was trained in.
    """
    labels = read_labels(model)
    readings = list(dict.fromkeys(job.reading for job in jobs))
    by_row = any(reading.adapter == EACH_ROW for reading in readings)
    identify = identifying(model, source, options, of_words=task.of_words) if by_row else None
    unseen = {  # a gold label may be none of the model's
        code: [replace(example, gold=None) for example in sets[code].examples]
        for code in dict.fromkeys(reading.language for reading in readings)
    }
    told: dict[Reading, list[Reading]] = {}
    rows: dict[tuple[object, ...], tuple[Example, Reading]] = {}  # one that is read alike twice is computed once
    asked: list[list[tuple[object, ...]]] = []
    for reading in readings:
        examples = unseen[reading.language]
        if identify is not None and reading.adapter == EACH_ROW:
            told[reading] = identify(examples)
        own = told.get(reading, [reading] * len(examples))
        asked.append([_key(*each) for each in zip(examples, own, strict=True)])
        for key, each in zip(asked[-1], zip(examples, own, strict=True), strict=True):
            rows.setdefault(key, each)
    with progress("predicting", len(rows)) as advance:
        encoded = encode_examples(
            model,
            task,
            [example for example, _ in rows.values()],
            [reading for _, reading in rows.values()],
            labels,
            room,
            partial(tokenizer_of, model, options.tokenizer),
        )
        chosen = None
        if options.precision == "auto":
            chosen, model = choose_precision(model, encoded, labels, batch_tokens=options.batch_tokens)
        predictions, strange = predict_examples(
            model, encoded, labels, batch_tokens=options.batch_tokens, advance=advance
        )
    if count := sum(strange):
        console.print(
            f"The model's outputs are infinite or NaN for {count:,} of {sum(map(len, encoded.windows)):,} "
            "inputs: their scores are meaningless."
        )
    predicted = dict(zip(rows, zip(predictions, encoded.cut, strict=True), strict=True))
    found = {}
    for reading, keys in zip(readings, asked, strict=True):
        own_predictions, cut = zip(*(predicted[key] for key in keys), strict=True)
        scored = _score(task, sets[reading.language], labels, own_predictions, sum(cut))
        found[reading] = replace(scored, told=told.get(reading, ()))
    return found, chosen


def _key(example: Example, reading: Reading) -> tuple[object, ...]:
    """What a prediction depends on."""
    return id(example), reading.adapter, reading.adapted, reading.spans if reading.is_mixed else ()


def _score(task: Task, data: TestSet, labels: Sequence[str], predictions: Sequence[Prediction], cut: int) -> Scored:
    metrics = measure(
        task.statistics(data.examples, predictions, labels),
        lambda sums: task.metrics(sums, labels),
        np.array(data.units),
        np.array(data.joined),
    )
    counts = None if task.breakdown is None else task.breakdown(data.examples, predictions, labels)
    return Scored(metrics, (data.language,), predictions, cut, counts)
