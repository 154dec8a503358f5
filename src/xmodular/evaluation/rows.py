"""Task data through a model: predictions, and sums of them per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xmodular.console import console, progress
from xmodular.evaluation.conditions import Job, Reading, without_adapters
from xmodular.evaluation.intervals import Measured, measure
from xmodular.evaluation.sets import TestSet
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EvaluateOptions
from xmodular.tasks import (
    Breakdown,
    Encoding,
    Prediction,
    Room,
    Task,
    guessed,
    predict_logits,
    read_labels,
    tokenizer_of,
)


@dataclass(frozen=True)
class Scored:
    """What one model makes of one language in one way.

    Attributes:
        metrics: by name, the main one first.
        rows: what it was measured on: two of equal `rows` can be compared.
        predictions: one per row; none of text.
        cut: how many rows are longer than what the model reads of them.
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
) -> dict[Reading, Scored]:
    """Every reading once: predictions and metrics.

    Args:
        model: has the task's head.
        task: what the rows are for.
        sets: by language.
        jobs: what is read how.
        room: how much the model reads at once.
        options: batch size, tokenizer.
    """
    labels, found = read_labels(model), {}
    readings = list(dict.fromkeys(job.reading for job in jobs))
    with progress("predicting", sum(len(sets[reading.language].examples) for reading in readings)) as advance:
        for vocabulary, adapted, part in by_pass(model, readings):
            tokenizer = tokenizer_of(model, options.tokenizer, vocabulary)
            encodings = {}
            for code in dict.fromkeys(reading.language for reading in part):
                unseen = [replace(example, gold=None) for example in sets[code].examples]  # it may be none of `labels`
                encodings[code] = task.encode(tokenizer, unseen, labels, room)
            rows = [(reading, encoding) for reading in part for encoding in encodings[reading.language]]
            share = sum(len(sets[reading.language].examples) for reading in part) / max(1, len(rows))  # of an encoding
            with without_adapters(model, left_out=not adapted):
                logits = predict_logits(
                    model,
                    [encoding for _, encoding in rows],
                    [model.languages.index(reading.reader) for reading, _ in rows],
                    pad_id=tokenizer.pad_token_id,
                    batch_tokens=options.batch_tokens,
                    advance=partial(_advance, advance, share),
                )
            if strange := sum(not np.isfinite(values).all() for values in logits):
                console.print(
                    f"The model's outputs are infinite or no numbers for {strange:,} of {len(logits):,} inputs: what "
                    "they are scored as means nothing."
                )
            windows: dict[Reading, list[list[tuple[Encoding, np.ndarray]]]] = {
                reading: [[] for _ in sets[reading.language].examples] for reading in part
            }
            for (reading, encoding), values in zip(rows, logits, strict=True):
                windows[reading][encoding.example].append((encoding, values))
            for reading in part:
                found[reading] = _score(task, sets[reading.language], windows[reading], labels)
    return found


def _advance(advance: Callable[[int], None], share: float, encodings: int) -> None:
    """Tell in rows how many encodings were done."""
    advance(round(share * encodings))


def _score(
    task: Task,
    data: TestSet,
    windows: Sequence[Sequence[tuple[Encoding, np.ndarray]]],
    labels: Sequence[str],
) -> Scored:
    predictions = [task.decode(example, own, labels) for example, own in zip(data.examples, windows, strict=True)]
    metrics = measure(
        task.statistics(data.examples, predictions, labels),
        lambda sums: task.metrics(sums, labels),
        np.array(data.units),
        np.array(data.joined),
    )
    cut = sum(any(encoding.cut for encoding, _ in own) for own in windows)
    counts = None if task.breakdown is None else task.breakdown(data.examples, predictions, labels)
    return Scored(metrics, (data.language,), predictions, cut, counts)


def guess(task: Task, data: TestSet, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """What needs no model: metric values by the guess's name."""
    return guessed(task, data.examples, labels)


def by_pass(
    model: XmodPreTrainedModel, readings: Sequence[Reading]
) -> Iterator[tuple[str | None, bool, list[Reading]]]:
    """The readings that can go through the model together.

    Yields:
        The language whose own vocabulary is read, None for the shared one; whether adapters are on; the readings.
    """
    grouped: dict[tuple[str | None, bool], list[Reading]] = {}
    for reading in readings:
        own = reading.reader if reading.reader in model.config.vocabularies else None
        grouped.setdefault((own, reading.adapted), []).append(reading)
    for (own, adapted), part in grouped.items():
        yield own, adapted, part
