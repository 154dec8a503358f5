"""The definition of a task: a record of functions from row to score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xmodular.errors import ConfigurationError, DataError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.saved_models import longest
from xmodular.tasks.breakdown import Breakdown

_SHORTEST = 6  # <s> A </s></s> B </s>
_LENGTH = 512  # tokens, if the length in fine-tuning is unknown

# What a model says about one row, as named values that JSON can hold: {"label": "sports", "score": 0.93}.
Prediction = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """One row of a task's data.

    Attributes:
        texts: the input: one or two texts to classify, the words of a sentence, question and context ...
        gold: the right answer, in the task's own form; None if the row has none.
        place: file and line, for messages.
        id: the row's id; None if it has none.
        language: its language from the row, the file's name or an option; None if unknown.
    """

    texts: tuple[str, ...]
    gold: Any
    place: str
    id: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Room:
    """The input length of a model: `max_length` tokens per sequence, and windows that overlap by `stride` tokens.

    Raises:
        ConfigurationError: the sequence is too short for a pair with its special tokens, or the overlap is negative.
    """

    max_length: int
    stride: int = 128

    def __post_init__(self) -> None:
        if self.max_length < _SHORTEST:
            raise ConfigurationError(f"max_length is {self.max_length}: a sequence needs at least {_SHORTEST} tokens.")
        if self.stride < 0:
            raise ConfigurationError(f"stride is {self.stride}: it must be at least 0.")


def room_of(model: XmodPreTrainedModel, max_length: int | None = None, stride: int | None = None) -> Room:
    """The input length of a model: as requested, or as in fine-tuning, so that serving matches evaluation.

    Args:
        model: the model, whose configuration records the fine-tuning options.
        max_length: tokens per sequence, 512 if unknown; never more than the model has positions for.
        stride: tokens shared by neighbouring windows, a quarter of the length if unknown.
    """
    if stride is None:
        stride = _noted(model.config.task_stride, 0)
    length = longest(model, max_length or _noted(model.config.task_max_length, 1) or _LENGTH)
    return Room(length, length // 4 if stride is None else stride)


def _noted(value: object, least: int) -> int | None:
    """A number that fine-tuning left in the configuration; None if there is none, or it cannot be one."""
    return value if isinstance(value, int) and value >= least else None


class Stretch(NamedTuple):
    """Tokens of an example's text in a sequence: their place in it, the text's number, its first token and the end."""

    at: int
    text: int
    first: int
    end: int


@dataclass(frozen=True)
class Encoding:
    """One model input for an example. Most examples have one; a long context has one per window.

    Attributes:
        example: index among the examples given to `Task.encode`.
        sequences: token ids with special tokens; one sequence, or one per choice.
        target: the target of the loss, in the task's own form; None if the example has no gold.
        places: the alignment of tokens and text, in the task's own form.
        cut: whether the example's texts were truncated.
        types: the token types of each sequence, by which BERT distinguishes two texts; empty if all are 0.
        stretches: of each sequence, which of its tokens are which tokens of which text; the others are special.
        adapters: of each sequence, the language of each token's adapter; empty if the example has one.
        languages: the code of each sequence's language, None for the row's own; empty if all are in that.
    """

    example: int
    sequences: tuple[tuple[int, ...], ...]
    target: Any = None
    places: tuple[Any, ...] = ()
    cut: bool = False
    types: tuple[tuple[int, ...], ...] = ()
    stretches: tuple[tuple[Stretch, ...], ...] = ()
    adapters: tuple[tuple[str, ...], ...] = ()
    languages: tuple[str | None, ...] = ()


# The encodings of an example, each with the model's float32 logits.
Outputs = Sequence[tuple[Encoding, np.ndarray]]


def _first_text(example: Example) -> str:
    return example.texts[0]


@dataclass(frozen=True)
class Task:
    """A task.

    Scores come from per-row statistics that add up over rows, so that intervals need only sums.

    Attributes:
        name: its name on the command line.
        architecture: name of the model class with the head for it.
        fields: the fields of a row, each with its possible column names in order of preference.
            The last field is the gold. All tasks also have ``id`` and ``language``, which are not listed.
        parse: from the available values of a row by field to texts and gold (None without gold).
            Raises ValueError with the reason if the row is bad.
        label_names: the labels of some examples, in the order of their ids; empty for tasks without labels.
        encode: from examples, label names and room to encodings, in that order. Raises DataError for a gold
            label that is not among the names.
        targets: from encodings of a batch and its longest sequence to arguments of the model: ``labels``, or
            ``start_positions``, ``end_positions`` and ``p_mask``.
        columns: label names to what a prediction holds: its names in their order, each with a value of its kind;
            ``probabilities`` among them where the task has such.
        decode: from an example, its encodings with their float32 logits, and label names to a prediction. Logits are
            (labels,), (tokens, labels), (tokens, 2: start and end) or (choices,).
        statistics: from examples with gold, predictions and label names to (rows, statistics) sums. Gold labels not
            among the names occur, but are never predicted.
        metrics: from (..., statistics) sums and label names to metric values (...) by name; the first is the main one.
        guesses: baselines without a model by name ("majority", "uniform"): predictions, or metric values.
        does: what a model for the task does, after "This model"; with "a text" if it may also be a pair.
        pipeline: the Hub's name for the task.
        sample: a sample row.
        has_labels: whether what it predicts has names, which the model's configuration holds.
        aliases: what other programs call it, with a space between two.
        telling: columns that no other task has.
        in_windows: whether long rows are read in overlapping windows; otherwise they are truncated.
        problem_type: transformers' name for the loss, if one architecture serves several tasks.
        alternatives: groups of fields, one of which a row must have. If columns are named for one group, the others are
            ignored.
        topic: the text that several rows may share, which makes them dependent on each other.
        breakdown: from examples with gold, predictions and label names to counts by label; None without labels.
        probabilities: from the arguments of `decode` to the probabilities of all candidates, as JSON values;
            None if there is no list of candidates.
        of_words: whether the texts after the first are its words, which are what is tokenised.
    """

    name: str
    architecture: str
    fields: Mapping[str, tuple[str, ...]]
    parse: Callable[[Mapping[str, Any]], tuple[tuple[str, ...], Any]]
    label_names: Callable[[Sequence[Example]], list[str]]
    encode: Callable[[PreTrainedTokenizerFast, Sequence[Example], Sequence[str], Room], list[Encoding]]
    targets: Callable[[Sequence[Encoding], int], dict[str, Tensor]]
    columns: Callable[[Sequence[str]], Prediction]
    decode: Callable[[Example, Outputs, Sequence[str]], Prediction]
    statistics: Callable[[Sequence[Example], Sequence[Prediction], Sequence[str]], np.ndarray]
    metrics: Callable[[np.ndarray, Sequence[str]], dict[str, np.ndarray]]
    guesses: Callable[[Sequence[Example], Sequence[str]], dict[str, Sequence[Prediction] | dict[str, float]]]
    does: str
    pipeline: str
    sample: Mapping[str, Any]
    has_labels: bool = True
    aliases: str = ""
    telling: tuple[str, ...] = ()
    in_windows: bool = False
    problem_type: Literal["regression", "single_label_classification"] | None = None
    alternatives: tuple[tuple[str, ...], ...] = ()
    topic: Callable[[Example], str] = _first_text
    breakdown: Callable[[Sequence[Example], Sequence[Prediction], Sequence[str]], Breakdown] | None = None
    probabilities: Callable[[Example, Outputs, Sequence[str]], Any] | None = None
    of_words: bool = False

    @property
    def kinds(self) -> set[str]:
        """The kinds of tasks that it is of, as far as options are for some only (see `Options.only_for`)."""
        found = {self.name, "task", "rows"}
        if self.in_windows:
            found.add("windows")
        if self.architecture in ("XmodForSequenceClassification", "XmodForSentenceEmbedding"):
            found.add("whole texts")
        if self.architecture != "XmodForSentenceEmbedding":
            found.add("head")
        return found


def scores_of(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, float]:
    """What a task's metrics make of predictions for examples with gold, by name."""
    sums = task.statistics(examples, predictions, labels).sum(0)
    return {name: float(value) for name, value in task.metrics(sums, labels).items()}


def guessed(task: Task, examples: Sequence[Example], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """The metric values of a task's guesses on examples, by the guess's name."""
    return {
        name: guess if isinstance(guess, dict) else scores_of(task, examples, guess, labels)
        for name, guess in task.guesses(examples, labels).items()
    }


def metrics_of(task: Task, examples: Sequence[Example], labels: Sequence[str]) -> list[str]:
    """The names of a task's metrics, the main one first: those that its guesses on examples have."""
    return max(map(list, guessed(task, examples, labels).values()), key=len)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, over the last axis, in double precision."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    answer: np.ndarray = shifted / shifted.sum(-1, keepdims=True)
    return answer


def likeliest(logits: np.ndarray) -> tuple[int, float]:
    """The place of the highest of some logits, and its probability."""
    exact = logits.astype(np.float64)
    best = int(exact.argmax())
    return best, float(1 / np.exp(exact - exact[best]).sum())


def short(value: Any) -> Any:
    """A prediction, or part of one, with numbers rounded to six significant digits, about single precision."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: short(each) for name, each in value.items()}
    return [short(each) for each in value] if isinstance(value, list) else value


def label_id(example: Example, name: str, labels: Sequence[str]) -> int:
    """The id of one of an example's labels.

    Raises:
        DataError: it is not among `labels`.
    """
    if name not in labels:
        raise DataError(f"{example.place}: the label {name!r} is not one of the model's: {', '.join(labels)}.")
    return labels.index(name)
