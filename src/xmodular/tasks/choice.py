"""Multiple choice: choose one of several continuations, answers, causes or effects.

An example's texts are pairs, one per choice: the first and the second text for the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.errors import DataError
from xmodular.tasks.label_counts import is_no_label
from xmodular.tasks.task import Encoding, Example, Outputs, Prediction, Room, Task, likeliest, softmax
from xmodular.tasks.text_fields import encode_texts, label_targets, listed, no_list, text_of, whole

_MOST = 10
_LETTERS = "ABCDEFGHIJ"
_CHOICES = tuple(f"choice{number}" for number in range(1, _MOST + 1))


def parse(values: Mapping[str, Any]) -> tuple[tuple[str, ...], int | None]:
    """A pair of texts for each choice, and the number of the right one (from 0).

    A choice follows the context, with the question or the beginning of the choices (SWAG's ``sent2``) between them. In
    COPA's layout, the question is ``cause`` or ``effect``, and the events are in temporal order: a cause before the
    premise, an effect after it. This order works in any language.
    """
    choices, names = _choices(values)
    question = values.get("question")
    if isinstance(question, str) and question.strip().lower() in ("cause", "effect"):
        question = question.strip().lower()
    if question in ("cause", "effect"):
        premise = text_of(values, "context")
        pairs = [(choice, premise) if question == "cause" else (premise, choice) for choice in choices]
    elif "context" not in values:
        asked = text_of(values, "question") if question is not None else None
        if asked is None:
            raise ValueError("there is no 'context' and no 'question'; name the column with --columns context=<column>")
        pairs = [(asked, choice) for choice in choices]
    else:
        between = "" if not question else text_of(values, "question")
        context = text_of(values, "context")
        pairs = [(context, f"{between} {choice}" if between else choice) for choice in choices]
    return tuple(text for pair in pairs for text in pair), _gold(values.get("label"), names)


def _choices(values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The choices, and the names that a label may use for them."""
    names: list[str] = []
    if (texts := listed(values.get("choices"))) is not None:
        if isinstance(texts, Mapping) and isinstance(texts.get("text"), list | tuple):
            given, texts = texts.get("label"), texts["text"]  # {"text": [...], "label": ["A", "B", ...]}
            names = [str(name).strip() for name in given] if isinstance(given, list | tuple) else []
        elif isinstance(texts, Mapping):  # {"A": ..., "B": ...}; Arrow adds the names that only other rows have
            there = {str(name).strip(): text for name, text in texts.items() if text is not None}
            names, texts = list(there), list(there.values())
        if not isinstance(texts, list | tuple):
            raise no_list("choices", values["choices"])
        choices = dict(enumerate(texts))
    else:
        choices = {place: values[field] for place, field in enumerate(_CHOICES) if values.get(field) is not None}
        if list(choices) != list(range(len(choices))):
            raise ValueError(f"'choice{max(choices) + 1}' is given, but an earlier choice is missing.")
    for place, choice in choices.items():
        if not isinstance(choice, str) or not choice.strip():
            raise ValueError(f"choice {place} must be a non-empty text; it is {choice!r:.60}.")
    if len(choices) < 2:
        raise ValueError(
            f"a row needs two choices at least, 'choices' or 'choice1', 'choice2' ...; it has {len(choices)}."
        )
    if names and len(set(names)) != len(choices):
        raise ValueError(f"there are {len(choices)} choices, but the labels {', '.join(names):.60}.")
    return list(choices.values()), names or [str(place) for place in range(len(choices))]


def _gold(label: Any, names: Sequence[str]) -> int | None:
    label = label.strip() if isinstance(label, str) else whole(label)
    if label is None or label == "":
        return None
    if str(label) not in names and is_no_label(label):
        return None
    if isinstance(label, str) and label not in names:
        folded = [name.casefold() for name in names]
        letter = _LETTERS.find(label) if len(label) == 1 else -1
        if folded.count(label.casefold()) == 1:
            return folded.index(label.casefold())
        if 0 <= letter < len(names) and not any(name.isalpha() for name in names):  # they have no letters of their own
            return letter
    if isinstance(label, bool) or not isinstance(label, (str, int)) or str(label) not in names:
        raise ValueError(f"'label' must be the right choice, one of {', '.join(names)}; it is {label!r:.60}.")
    return names.index(str(label))


def label_names(examples: Sequence[Example]) -> list[str]:
    """None: choices have no names.

    Raises:
        DataError: rows have different numbers of choices, which cannot be in one training batch.
    """
    first = examples[0]
    for example in examples:
        if len(example.texts) != len(first.texts):
            counts = f"{len(example.texts) // 2} choices here and {len(first.texts) // 2} at {first.place}"
            raise DataError(f"{example.place}: {counts}; all rows need the same number.")
    return []


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], labels: Sequence[str], room: Room
) -> list[Encoding]:
    """``<s> A </s></s> B </s>`` for every choice; the longer text is truncated first."""
    pairs = [pair for example in examples for pair in zip(example.texts[::2], example.texts[1::2], strict=True)]
    sequences = iter(encode_texts(tokenizer, pairs, room))
    encodings = []
    for index, example in enumerate(examples):
        rows, types, cuts, stretches = zip(*(next(sequences) for _ in example.texts[::2]), strict=True)
        told = tuple(
            tuple(stretch._replace(text=2 * choice + stretch.text) for stretch in own)
            for choice, own in enumerate(stretches)
        )
        encodings.append(Encoding(index, rows, example.gold, cut=any(cuts), types=types, stretches=told))
    return encodings


def columns(labels: Sequence[str]) -> dict[str, Any]:
    """The choice, from 0, and its probability; the probabilities of all."""
    return {"choice": 0, "score": 0.0, "probabilities": [0.0]}


def decode(example: Example, outputs: Outputs, labels: Sequence[str]) -> dict[str, Any]:
    """The most probable choice (from 0) and its probability."""
    best, probability = likeliest(outputs[0][1])
    return {"choice": best, "score": probability}


def probabilities(example: Example, outputs: Outputs, labels: Sequence[str]) -> list[float]:
    """The probability of each choice, in order."""
    found: list[float] = softmax(outputs[0][1]).tolist()
    return found


def statistics(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> np.ndarray:
    """(rows, 2): 1, and whether the choice is right."""
    right = [prediction["choice"] == example.gold for example, prediction in zip(examples, predictions, strict=True)]
    return np.stack([np.ones(len(right)), np.array(right, dtype=float)], axis=1)


def topic(example: Example) -> str:
    """The text that is paired with every choice, after it if the choice comes first."""
    first, second = example.texts[:2]
    return second if first != example.texts[2] and second == example.texts[3] else first


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Accuracy."""
    return {"accuracy": sums[..., 1] / sums[..., 0]}


def guesses(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, Sequence[Prediction] | dict[str, float]]:
    """Two guesses: always the most frequent position of the right choice in the file, and a random one."""
    commonest = Counter(example.gold for example in examples).most_common(1)[0][0]
    blind = float(np.mean([2 / len(example.texts) for example in examples]))
    return {"majority": [{"choice": commonest}] * len(examples), "uniform": {"accuracy": blind}}


CHOICE = Task(
    name="choice",
    architecture="XmodForMultipleChoice",
    fields={
        "context": ("context", "premise", "sent1", "article"),
        "question": ("question", "sent2"),
        "choices": ("choices", "options", "endings"),
        # A choice a column; SWAG counts them from 0, MMLU has letters.
        **{field: (field, f"ending{place}", _LETTERS[place]) for place, field in enumerate(_CHOICES)},
        "label": ("label", "answer", "answerKey"),
    },
    parse=parse,
    label_names=label_names,
    encode=encode,
    targets=label_targets,
    columns=columns,
    decode=decode,
    statistics=statistics,
    metrics=metrics,
    guesses=guesses,
    does="chooses one of several texts",
    pipeline="multiple-choice",
    has_labels=False,
    aliases="multiple-choice multichoice copa xcopa swag",
    telling=("choices", "choice1"),
    sample={"premise": "...", "choices": ["...", "..."]},
    alternatives=(("choices",), _CHOICES),
    topic=topic,
    probabilities=probabilities,
)
