"""What a task is: a record of functions from file to score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.errors import DataError


@dataclass(frozen=True)
class Example:
    """One row of a task's file.

    Attributes:
        parts: the texts of a row to classify (one or two), or the words of a sentence to tag.
        labels: one label, or one a word.
        place: file and line, for messages.
    """

    parts: tuple[str, ...]
    labels: tuple[str, ...]
    place: str


@dataclass(frozen=True)
class Encoding:
    """One row as the model reads it.

    Attributes:
        input_ids: token ids, special tokens included.
        labels: label ids, one for each of the example's labels.
        positions: the token that carries each label; -1 where it was cut off or has no token.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A task.

    Scores come from per-row statistics that add up over rows, so that an interval costs no more than sums.

    Attributes:
        name: its name on the command line.
        architecture: name of the model class with the head for it.
        suffixes: of its files.
        load: reads a file. Raises DataError that names file, line and reason.
        label_names: the labels of some examples, in the order of their ids.
        encode: examples to token ids, given label ids by name and the longest length.
        target: the ``labels`` value of an encoding for the loss: an int, or one int a token.
        decode: logits of one row, (labels,) or (tokens, labels), to one label id for each of its labels; -1 where the
            model said nothing.
        statistics: gold and predicted label ids of some rows, and the label names, to (rows, statistics) sums.
        metrics: (..., statistics) sums and the label names to metric values (...) by name; the first is the main one.
    """

    name: str
    architecture: str
    suffixes: tuple[str, ...]
    load: Callable[[Path], list[Example]]
    label_names: Callable[[Sequence[Example]], list[str]]
    encode: Callable[[PreTrainedTokenizerFast, Sequence[Example], Mapping[str, int], int], list[Encoding]]
    target: Callable[[Encoding], int | list[int]]
    decode: Callable[[Encoding, np.ndarray], tuple[int, ...]]
    statistics: Callable[[Sequence[tuple[int, ...]], Sequence[tuple[int, ...]], Sequence[str]], np.ndarray]
    metrics: Callable[[np.ndarray, Sequence[str]], dict[str, np.ndarray]]


def label_ids(example: Example, ids: Mapping[str, int]) -> tuple[int, ...]:
    """The ids of an example's labels.

    Raises:
        DataError: a label that is not among `ids`.
    """
    for label in example.labels:
        if label not in ids:
            raise DataError(f"{example.place}: the label {label!r} is not one of the model's: {', '.join(ids)}.")
    return tuple(ids[label] for label in example.labels)


def open_text(path: Path) -> list[str]:
    """The lines of a UTF-8 file.

    Raises:
        DataError: no such file, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from None
