"""The data of a fine-tuning run: reading, checks, languages, and encodings for the model."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from xmodular.console import counted, progress
from xmodular.errors import DataError
from xmodular.files import sha256_of
from xmodular.languages import resolve_or_none
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import FinetuneOptions
from xmodular.rows import InMemory, hash_of_rows
from xmodular.tasks import Example, Room, Task, collate, longest, scores_of, tokenizer_of
from xmodular.tasks.examples import content_hash, load
from xmodular.tasks.label_counts import label_names_of, labelled, no_labels
from xmodular.tasks.readers import Reading
from xmodular.tasks.running import Encoded, encode_examples, predict_examples


@dataclass(frozen=True)
class Rows:
    """The examples read from some sources.

    Attributes:
        examples: the examples, in order.
        sources: each source's name with its number of rows and, for a file, the SHA-256 of its bytes.
        contents: a checksum of each source's examples (see `content_hash`).
    """

    examples: tuple[Example, ...]
    sources: tuple[dict[str, Any], ...]
    contents: tuple[str, ...]


def read(
    task: Task,
    sources: Sequence[str],
    options: FinetuneOptions,
    languages: Sequence[str],
    known: Sequence[str] | None = None,
    own: Collection[str] = (),
) -> Rows:
    """All examples of some sources that have a label.

    Args:
        task: their task.
        sources: files and data sets.
        options: options for columns, and whether to skip bad rows.
        languages: the model's.
        known: the labels of the training data, if these are other data.
        own: labels that the model already has, which are never treated as missing labels.

    Raises:
        DataError: a source cannot be read, has no rows, or has a bad row.
    """
    loaded = [
        load(
            task,
            source,
            columns=options.columns or {},
            skip_bad_rows=options.skip_bad_rows,
            knows=lambda name: resolve_or_none(name, languages) is not None,
        )
        for source in sources
    ]
    marks = no_labels((each for found in loaded for each in found), known).difference(own)
    examples: list[Example] = []
    facts, contents = [], []
    for source, found in zip(sources, loaded, strict=True):
        found = labelled(found, source, marks)
        examples += found
        contents.append(content_hash(found))
        facts.append({"source": source, "rows": len(found), "sha256": source_hash(source)})
    return Rows(tuple(examples), tuple(facts), tuple(contents))


def held_out(task: Task, rows: Rows, share: float) -> tuple[Rows, Rows]:
    """Training rows and validation rows, split by the content of the texts, independent of the order of rows.

    Rows that share a text (`Task.topic`) stay together. A row stays in training if no other row with its language
    or label would be left there.

    Args:
        task: their task.
        rows: all of them.
        share: share of the rows to hold out; slightly more if rows stay together.

    Raises:
        DataError: no row can be held out, or none is left for training.
    """
    groups: dict[bytes, list[int]] = {}
    for index, each in enumerate(rows.examples):
        text = task.topic(each).encode("utf-8", "surrogatepass")
        groups.setdefault(hashlib.sha256(text).digest(), []).append(index)
    held: list[int] = []
    for _, own in sorted(groups.items()):
        if len(held) >= share * len(rows.examples):
            break
        held += own

    def traits(index: int) -> set[tuple[str, str | None]]:
        example = rows.examples[index]
        return {("", example.language), *(("label", name) for name in label_names_of(example))}

    chosen = set(held)
    left = {trait for index in range(len(rows.examples)) if index not in chosen for trait in traits(index)}
    chosen = {index for index in held if traits(index) <= left}
    if not chosen or len(chosen) == len(rows.examples):
        raise DataError(
            f"{', '.join(each['source'] for each in rows.sources)}: of {counted(len(rows.examples), 'row')}, "
            f"--dev-fraction {share:g} leaves nothing to {'train' if chosen else 'validate'} on."
        )
    sources, start = [], 0
    for source in rows.sources:
        end = start + source["rows"]
        sources.append({**source, "rows": sum(index not in chosen for index in range(start, end))})
        start = end
    train = tuple(each for index, each in enumerate(rows.examples) if index not in chosen)
    dev = tuple(each for index, each in enumerate(rows.examples) if index in chosen)
    fact = {"source": f"held out of the training rows (dev_fraction {share:g})", "rows": len(dev), "sha256": None}
    return Rows(train, tuple(sources), rows.contents), Rows(dev, (fact,), ())


def source_hash(source: str) -> str | None:
    """The SHA-256 of a file, or of rows in memory; None for other sources, such as a data set on the Hub."""
    if isinstance(source, InMemory):
        return hash_of_rows(source)
    return sha256_of(Path(source)) if Path(source).is_file() else None


class EncodedData(Dataset[int]):
    """A data set of encodings, for training and validation.

    Args:
        encoded: examples as the model reads them.
        model: the model with the adapters.

    Attributes:
        examples: the examples.
        by_vocabulary: places of the encodings in each vocabulary, which cannot share a batch.
    """

    def __init__(self, encoded: Encoded, model: XmodPreTrainedModel) -> None:
        self.examples = encoded.examples
        self._encoded = encoded
        self._encodings, self._lang_ids = encoded.inputs(model, range(len(encoded.examples)))
        self._pad_id = model.config.pad_token_id
        own = model.config.vocabularies
        readers = (each.adapter for each, made in zip(encoded.readings, encoded.windows, strict=True) for _ in made)
        places: dict[str | None, list[int]] = {}
        for place, reader in enumerate(readers):
            places.setdefault(reader if reader in own else None, []).append(place)
        self.by_vocabulary = list(places.values())

    @property
    def cut(self) -> int:
        """The number of truncated examples."""
        return sum(self._encoded.cut)

    def __len__(self) -> int:
        return len(self._encodings)

    def __getitem__(self, index: int) -> int:
        return index

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch of encodings for the model, with targets."""
        return collate(
            [self._encodings[index] for index in indices],
            [self._lang_ids[index] for index in indices],
            self._pad_id,
            task=self._encoded.task,
        )

    def scores(self, model: XmodPreTrainedModel, labels: Sequence[str]) -> dict[str, float]:
        """The task's metrics, the main one also as ``score``.

        The examples are divided among the processes, and all processes get the same result.
        """
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        own = self._encoded.part(rank, ranks)
        with progress("validating", len(own.examples)) as advance:
            predictions, _ = predict_examples(model, own, labels, advance=advance)
        parts: list[Any] = [predictions] * ranks
        if ranks > 1:
            dist.all_gather_object(parts, predictions)
        in_order = [parts[number % ranks][number // ranks] for number in range(len(self.examples))]
        metrics = scores_of(self._encoded.task, self.examples, in_order, labels)
        return {"score": next(iter(metrics.values())), **metrics}


def encoded_data(
    task: Task,
    examples: Sequence[Example],
    readings: Sequence[Reading],
    labels: Sequence[str],
    model: XmodPreTrainedModel,
    options: FinetuneOptions,
) -> EncodedData:
    """Encode examples for a model, each with the tokenizer of its language, which is also used for scoring.

    Args:
        task: their task.
        examples: the examples.
        readings: the reading (language and adapter) of each.
        labels: the names of the labels.
        model: reads them.
        options: tokenizer and room.

    Raises:
        DataError: a label is not among `labels`.
    """
    examples = tuple(
        example if example.language else replace(example, language=reading.adapter)
        for example, reading in zip(examples, readings, strict=True)
    )
    length = longest(model, options.max_length)
    room = Room(length, length // 4 if options.stride is None else options.stride)
    tokenizers = partial(tokenizer_of, model, options.tokenizer)
    with progress("tokenising", len(examples)) as advance:
        return EncodedData(encode_examples(model, task, examples, readings, labels, room, tokenizers, advance), model)
