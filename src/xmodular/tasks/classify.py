"""Classification of a text or of a pair of texts: JSON lines with ``text`` or ``premise`` and ``hypothesis``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.errors import DataError
from xmodular.tasks.task import Encoding, Example, Task, label_ids, open_text

_TEXTS = (("text",), ("premise", "hypothesis"), ("text1", "text2"), ("sentence1", "sentence2"))


def load(path: Path) -> list[Example]:
    """Read JSON lines, each with a ``label`` and a ``text`` or a pair (``premise``, ``hypothesis``).

    Raises:
        DataError: a row that is not so (with file, line and reason), or no rows.
    """
    examples: list[Example] = []
    for number, line in enumerate(open_text(path), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}: not JSON ({error.msg} at column {error.colno}).") from None
        if not isinstance(row, dict):
            raise DataError(f"{place}: a row is a JSON object with a text and a label; this one is {line:.60}.")
        names = next((names for names in _TEXTS if names[0] in row), None)
        if names is None:
            raise DataError(f"{place}: no text; a row has 'text', or 'premise' and 'hypothesis'. It has {list(row)}.")
        for name in names:
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise DataError(f"{place}: {name!r} must be a text that is not empty; it is {row.get(name)!r}.")
        label = row.get("label")
        if isinstance(label, bool) or not isinstance(label, (str, int)) or label == "":
            raise DataError(f"{place}: 'label' must be a name or a whole number; it is {label!r}.")
        if examples and len(examples[0].parts) != len(names):
            raise DataError(f"{place}: one text here and two elsewhere in the file; all rows must be alike.")
        examples.append(Example(tuple(row[name] for name in names), (str(label),), place))
    if not examples:
        raise DataError(f"{path} has no rows.")
    return examples


def label_names(examples: Sequence[Example]) -> list[str]:
    """The labels, sorted by name."""
    return sorted({example.labels[0] for example in examples})


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], ids: Mapping[str, int], max_length: int
) -> list[Encoding]:
    """``<s> A </s>``, or ``<s> A </s></s> B </s>`` for a pair; the longer text is cut first."""
    texts = [example.parts for example in examples]
    rows = tokenizer(
        [parts[0] for parts in texts],
        [parts[1] for parts in texts] if len(texts[0]) == 2 else None,
        truncation="longest_first",
        max_length=max_length,
        return_attention_mask=False,
    )["input_ids"]
    return [Encoding(tuple(row), label_ids(example, ids), (0,)) for row, example in zip(rows, examples, strict=True)]


def target(encoding: Encoding) -> int:
    """The label id."""
    return encoding.labels[0]


def decode(encoding: Encoding, logits: np.ndarray) -> tuple[int, ...]:
    """The likeliest label."""
    return (int(logits.argmax()),)


def statistics(
    gold: Sequence[tuple[int, ...]], predicted: Sequence[tuple[int, ...]], labels: Sequence[str]
) -> np.ndarray:
    """Each row's confusion matrix, flat: (rows, labels * labels), a one at gold * labels + predicted."""
    cells = np.array([g[0] * len(labels) + p[0] for g, p in zip(gold, predicted, strict=True)])
    return np.eye(len(labels) ** 2)[cells]


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Accuracy, and F1 averaged over the labels that occur in gold or prediction."""
    matrix = sums.reshape(*sums.shape[:-1], len(labels), len(labels))  # (..., gold, predicted)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    occurring = matrix.sum(-1) + matrix.sum(-2)  # (..., labels)
    f1 = 2 * right / np.maximum(occurring, 1)
    return {
        "accuracy": right.sum(-1) / matrix.sum((-2, -1)),
        "macro-F1": f1.sum(-1) / (occurring > 0).sum(-1),
    }


CLASSIFY = Task(
    name="classify",
    architecture="XmodForSequenceClassification",
    suffixes=(".jsonl",),
    load=load,
    label_names=label_names,
    encode=encode,
    target=target,
    decode=decode,
    statistics=statistics,
    metrics=metrics,
)
