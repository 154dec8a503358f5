"""The data of a fine-tuning run: read, checked, in their languages, and as a model reads them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from xmodular.console import console, counted, progress
from xmodular.errors import ConfigurationError, DataError
from xmodular.files import sha256_of
from xmodular.languages import resolve, resolve_or_none
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import FinetuneOptions
from xmodular.rows import InMemory, hash_of_rows
from xmodular.tasks import Encoding, Example, Room, Task, collate, longest, predict_logits, tokenizer_of
from xmodular.tasks.labels import label_names_of, labelled, no_labels
from xmodular.tasks.loading import content_hash, load

_AT_ONCE = 1000  # examples that are tokenised together


@dataclass(frozen=True)
class Rows:
    """What was read from some sources.

    Attributes:
        examples: the examples, in order.
        sources: each source's name with its number of rows and, of a file, the SHA-256 of its bytes.
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
        task: what they are for.
        sources: files and data sets.
        options: say which column is which, and whether bad rows are left out.
        languages: the model's.
        known: the labels of the training data, for others.
        own: labels that the model has already, so that none of them stands for no label.

    Raises:
        DataError: a source cannot be read, has no rows, or a row is wrong.
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
    """Training rows and validation rows, parted by what the texts are: the order of the rows does not matter.

    Rows that share a text (`Task.topic`) stay together. A row in whose language, or with whose label, none would be
    left to train on stays in training.

    Args:
        task: what they are for.
        rows: all of them.
        share: of the rows, which is held out; a little more where rows stay together.

    Raises:
        DataError: no row can be held out, or none is left.
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
    """The SHA-256 of a file, or of rows in memory; None of what is neither, such as a data set on the Hub."""
    if isinstance(source, InMemory):
        return hash_of_rows(source)
    return sha256_of(Path(source)) if Path(source).is_file() else None


def training_codes(rows: Rows, language: str | None, model: XmodPreTrainedModel) -> list[str]:
    """Whose adapter reads each training row: the language's that is asked for, or the row's own.

    Raises:
        LanguageError: the model lacks the language.
        DataError: no language is asked for, and a row does not say its own.
    """
    if language is None:
        unknown = next((each for each in rows.examples if each.language is None), None)
        if unknown is not None:
            raise DataError(
                f"{unknown.place}: the row's language is unknown. Say it with --language, in a column 'language', or "
                "begin the file's name with it (en_XX.train.jsonl). The model's languages are "
                f"{', '.join(model.languages)}."
            )
        names = {str(each.language): "" for each in rows.examples}
        names = {name: resolve(name, model.languages) for name in names}
        return [names[str(each.language)] for each in rows.examples]
    code = resolve(language, model.languages)
    others = {each.language for each in rows.examples if each.language is not None}
    if others := {name for name in others if _meant(name, model) != code}:
        console.print(f"Rows in {', '.join(sorted(others))} are read by the adapter of {code}.")
    return [code] * len(rows.examples)


def validation_codes(
    dev: Rows, train: Rows, codes: Sequence[str], language: str | None, model: XmodPreTrainedModel
) -> list[str]:
    """Whose adapter reads each validation row.

    Raises:
        ConfigurationError: a row is in a language that the training data are not in: what is best for a test language
            is not to be chosen by looking at it.
        DataError: a row does not say its language, and the training data are in several.
    """
    trained = dict.fromkeys(codes)
    known = {_meant(each.language, model): code for each, code in zip(train.examples, codes, strict=True)}
    known |= {code: code for code in trained}
    answer = []
    for each in dev.examples:
        meant = _meant(each.language, model)
        if meant is not None and meant not in known:
            raise ConfigurationError(
                f"{each.place} is in {each.language}, the training data are in {', '.join(trained)}: the best weights "
                "and the end of training are chosen in the training language. Other languages are for `evaluate`."
            )
        if meant is None and len(trained) > 1:
            raise DataError(f"{each.place}: the row's language is unknown; the training data are in several.")
        answer.append(known[meant] if meant is not None and language is None else next(iter(trained)))
    return answer


def _meant(name: str | None, model: XmodPreTrainedModel) -> str | None:
    """The model's code for a language, or what it was called if the model lacks it."""
    return None if name is None else resolve_or_none(name, model.languages) or name


def commonest(codes: Sequence[str]) -> str:
    """The code of most rows."""
    return Counter(codes).most_common(1)[0][0]


@dataclass(frozen=True)
class Readings(Dataset[int]):
    """Encodings of examples with their languages; a data set of them.

    Attributes:
        task: what they are for.
        examples: the examples.
        encodings: of all examples, in their order.
        lang_ids: the model's id of each encoding's language.
        pad_id: id of ``<pad>``.
    """

    task: Task
    examples: tuple[Example, ...]
    encodings: tuple[Encoding, ...]
    lang_ids: tuple[int, ...]
    pad_id: int

    @property
    def cut(self) -> int:
        """How many examples are longer than what the model reads of them."""
        return len({each.example for each in self.encodings if each.cut})

    def __len__(self) -> int:
        return len(self.encodings)

    def __getitem__(self, index: int) -> int:
        return index

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Some encodings as the model takes them, with targets."""
        return collate(
            [self.encodings[index] for index in indices],
            [self.lang_ids[index] for index in indices],
            self.pad_id,
            task=self.task,
        )

    def scores(self, model: XmodPreTrainedModel, labels: Sequence[str]) -> dict[str, float]:
        """The task's metrics, the main one also as ``score``.

        The examples are divided among the processes, and all of them get the same result.
        """
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        own = [index for index, each in enumerate(self.encodings) if each.example % ranks == rank]
        with progress("validating", len(own)) as advance:
            logits = predict_logits(
                model,
                [self.encodings[index] for index in own],
                [self.lang_ids[index] for index in own],
                pad_id=self.pad_id,
                advance=advance,
            )
        read: dict[int, list[Any]] = {number: [] for number in range(rank, len(self.examples), ranks)}
        for index, values in zip(own, logits, strict=True):
            read[self.encodings[index].example].append((self.encodings[index], values))
        predicted = {n: self.task.decode(self.examples[n], found, labels) for n, found in read.items()}
        if ranks > 1:
            parts: list[Any] = [None] * ranks
            dist.all_gather_object(parts, predicted)
            predicted = {number: each for part in parts for number, each in part.items()}
        in_order = [predicted[number] for number in range(len(self.examples))]
        sums = self.task.statistics(self.examples, in_order, labels).sum(0)
        metrics = {name: float(value) for name, value in self.task.metrics(sums, labels).items()}
        return {"score": next(iter(metrics.values())), **metrics}


def readings(
    task: Task,
    examples: Sequence[Example],
    codes: Sequence[str],
    labels: Sequence[str],
    model: XmodPreTrainedModel,
    options: FinetuneOptions,
) -> Readings:
    """Examples as a model reads them, each with the tokenizer of its language, in which it is also scored.

    Raises:
        DataError: a label is not among `labels`.
    """
    examples = [
        example if example.language else replace(example, language=code)
        for example, code in zip(examples, codes, strict=True)
    ]
    length = longest(model, options.max_length)
    room = Room(length, length // 4 if options.stride is None else options.stride)
    found: list[Encoding] = []
    with progress("tokenising", len(examples)) as advance:
        for code in dict.fromkeys(codes):
            tokenizer = tokenizer_of(model, options.tokenizer, code)
            own = [index for index, each in enumerate(codes) if each == code]
            for start in range(0, len(own), _AT_ONCE):
                chosen = own[start : start + _AT_ONCE]
                encodings = task.encode(tokenizer, [examples[index] for index in chosen], labels, room)
                found += [replace(each, example=chosen[each.example]) for each in encodings]
                advance(len(chosen))
    found.sort(key=lambda each: each.example)
    ids = {code: model.languages.index(code) for code in dict.fromkeys(codes)}
    return Readings(
        task,
        tuple(examples),
        tuple(found),
        tuple(ids[codes[each.example]] for each in found),
        model.config.pad_token_id,
    )
