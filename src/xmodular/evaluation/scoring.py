"""Run a model over task data: predictions, and their statistics per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from xmodular.console import console, progress
from xmodular.evaluation.conditions import Job
from xmodular.evaluation.intervals import Measured, measure
from xmodular.evaluation.test_data import TestSet
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EvaluateOptions
from xmodular.tasks import Breakdown, Prediction, Room, Task, read_labels, tokenizer_of
from xmodular.tasks.precision_probe import ChosenPrecision, choose_precision
from xmodular.tasks.readers import Reading
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
    """

    metrics: dict[str, Measured]
    rows: tuple[Any, ...]
    predictions: Sequence[Prediction] = ()
    cut: int = 0
    breakdown: Breakdown | None = None


def score_task(
    model: XmodPreTrainedModel,
    task: Task,
    sets: Mapping[str, TestSet],
    jobs: Sequence[Job],
    room: Room,
    options: EvaluateOptions,
) -> tuple[dict[Reading, Scored], ChosenPrecision | None]:
    """Predictions and metrics, computing each reading once; and the precision, where one was to be chosen.

    Args:
        model: a model with the task's head.
        task: what the rows are for.
        sets: by language.
        jobs: the readings.
        room: length and stride of the model's input.
        options: batch size, tokenizer, precision: "auto" chooses one by some of the rows.
    """
    labels = read_labels(model)
    readings = list(dict.fromkeys(job.reading for job in jobs))
    unseen = {  # a gold label may be none of the model's
        code: [replace(example, gold=None) for example in sets[code].examples]
        for code in dict.fromkeys(reading.language for reading in readings)
    }
    rows = [(example, reading) for reading in readings for example in unseen[reading.language]]
    with progress("predicting", len(rows)) as advance:
        encoded = encode_examples(
            model,
            task,
            [example for example, _ in rows],
            [reading for _, reading in rows],
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
    predicted = zip(predictions, encoded.cut, strict=True)
    found = {}
    for reading in readings:
        data = sets[reading.language]
        own = list(islice(predicted, len(data.examples)))
        found[reading] = _score(task, data, labels, [each for each, _ in own], sum(cut for _, cut in own))
    return found, chosen


def _score(task: Task, data: TestSet, labels: Sequence[str], predictions: Sequence[Prediction], cut: int) -> Scored:
    metrics = measure(
        task.statistics(data.examples, predictions, labels),
        lambda sums: task.metrics(sums, labels),
        np.array(data.units),
        np.array(data.joined),
    )
    counts = None if task.breakdown is None else task.breakdown(data.examples, predictions, labels)
    return Scored(metrics, (data.language,), predictions, cut, counts)
