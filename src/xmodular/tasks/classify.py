"""Classification of a text or of a pair of texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.tasks.breakdown import Breakdown, breakdown
from xmodular.tasks.task import Encoding, Example, Outputs, Prediction, Room, Task, label_id, likeliest, softmax
from xmodular.tasks.text_fields import TEXT_ALTERNATIVES, TEXT_FIELDS, encode_rows, label_targets, texts_of, whole


def parse(values: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """One or two texts, and the label's name."""
    texts = texts_of(values)
    label = whole(values.get("label"))
    if label is None:
        return texts, None
    if isinstance(label, bool):
        label = "true" if label else "false"  # as CSV spells JSON's
    if not isinstance(label, (str, int)) or not str(label).strip():
        hint = " For numbers, use --task regress." if isinstance(label, float) else ""
        raise ValueError(f"'label' must be a name or a whole number; it is {label!r:.60}.{hint}")
    return texts, str(label).strip()


def label_names(examples: Sequence[Example]) -> list[str]:
    """The labels, sorted by name; numbers by size."""
    names = {example.gold for example in examples}
    numbers = all(re.fullmatch("-?[0-9]{1,18}", name) for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], labels: Sequence[str], room: Room
) -> list[Encoding]:
    """``<s> A </s>``, or ``<s> A </s></s> B </s>`` for a pair; the longer text is truncated first."""
    ids = [None if example.gold is None else label_id(example, example.gold, labels) for example in examples]
    return encode_rows(tokenizer, examples, ids, room)


def columns(labels: Sequence[str]) -> dict[str, Any]:
    """A label and its probability; the probabilities of all."""
    return {"label": "", "score": 0.0, "probabilities": dict.fromkeys(labels, 0.0)}


def decode(example: Example, outputs: Outputs, labels: Sequence[str]) -> dict[str, Any]:
    """The most probable label and its probability."""
    best, probability = likeliest(outputs[0][1])
    return {"label": labels[best], "score": probability}


def probabilities(example: Example, outputs: Outputs, labels: Sequence[str]) -> dict[str, float]:
    """The probability of each label."""
    return dict(zip(labels, softmax(outputs[0][1]).tolist(), strict=True))


def statistics(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> np.ndarray:
    """(rows, 3 * names): for each label, whether it is gold, whether it is predicted, and whether both.

    Gold labels that the model lacks come after its own: they occur, but are never predicted.
    """
    ids = {name: index for index, name in enumerate(dict.fromkeys((*labels, *(each.gold for each in examples))))}
    gold = np.array([ids[example.gold] for example in examples])
    predicted = np.array([ids[prediction["label"]] for prediction in predictions])
    each = np.arange(len(ids))
    truth, said = gold[:, None] == each, predicted[:, None] == each
    return np.concatenate((truth, said, truth & said), axis=1).astype(np.float64)


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Accuracy, and F1 averaged over the labels that occur in gold data or predictions."""
    truth, said, both = np.split(sums, 3, axis=-1)  # (..., names) each
    occurring = truth + said
    f1 = 2 * both / np.maximum(occurring, 1)
    return {
        "accuracy": both.sum(-1) / truth.sum(-1),
        "macro-F1": f1.sum(-1) / (occurring > 0).sum(-1),
    }


def by_label(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> Breakdown:
    """Rows by label."""
    pairs = ((one.gold, two["label"]) for one, two in zip(examples, predictions, strict=True))
    return breakdown("rows", pairs, labels)


def guesses(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, Sequence[Prediction] | dict[str, float]]:
    """Two guesses: always the most frequent label of the file, and a random one of the model's."""
    counts = Counter(example.gold for example in examples)
    commonest = counts.most_common(1)[0][0]
    drawn = sum(counts[label] for label in set(labels)) / len(examples) / len(labels)
    return {"majority": [{"label": commonest}] * len(examples), "uniform": {"accuracy": drawn}}


CLASSIFY = Task(
    name="classify",
    architecture="XmodForSequenceClassification",
    fields={**TEXT_FIELDS, "label": ("label", "gold_label")},
    parse=parse,
    label_names=label_names,
    encode=encode,
    targets=label_targets,
    columns=columns,
    decode=decode,
    statistics=statistics,
    metrics=metrics,
    guesses=guesses,
    does="gives a text a label",
    pipeline="text-classification",
    aliases="classification text-classification sequence-classification sentiment topic nli xnli pair pairs",
    sample={"text": "..."},
    alternatives=TEXT_ALTERNATIVES,
    problem_type="single_label_classification",
    breakdown=by_label,
    probabilities=probabilities,
)
