"""One text or a pair of texts, as several tasks read them, and fields that are lists.

Where a table has only texts, lists and objects are JSON, as `predict` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xmodular.rows import half_surrogate
from xmodular.tasks.task import Encoding, Example, Room, Stretch
from xmodular.tasks.tokens import ids_of, shares, special_tokens_of

# One text, or two.
TEXT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "sentence"),
    "premise": ("premise", "text1", "sentence1"),
    "hypothesis": ("hypothesis", "text2", "sentence2"),
}
TEXT_ALTERNATIVES = (("text",), ("premise", "hypothesis"))


def texts_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The text of a row, or its premise and hypothesis.

    Raises:
        ValueError: there is neither, there are both, or it is empty or not a text.
    """
    if "text" in values:
        if "premise" in values and "hypothesis" in values:
            raise ValueError(
                "there are both a 'text' and a 'premise' with a 'hypothesis': choose with --columns text=<column> or "
                "--columns premise=<column>,hypothesis=<column>"
            )
        return (text_of(values, "text"),)
    if "premise" not in values and "hypothesis" not in values:
        raise ValueError("there is no 'text', nor a 'premise' with a 'hypothesis'")
    return text_of(values, "premise"), text_of(values, "hypothesis")


def text_of(values: Mapping[str, Any], field: str) -> str:
    """A field that must be a non-empty text.

    Raises:
        ValueError: it is not.
    """
    if field not in values:
        raise ValueError(f"there is no {field!r}, or it is empty; name its column with --columns {field}=<column>")
    text = values[field]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{field!r} must be a non-empty text; it is {text!r:.60}.")
    return text


def listed(value: Any) -> Any:
    """The list or object in a JSON text, None for an empty text; any other value unchanged.

    Raises:
        ValueError: it contains an unpaired surrogate.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    if value.lstrip()[0] not in "[{":
        return value
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if half_surrogate({"": read}) is not None:  # which JSON's escapes can spell
        raise ValueError(f"{value!r:.60} contains an unpaired surrogate, which is not a character.")
    return read


IN_TABLES = ' (in tables, lists are JSON: ["a", "b"])'


def no_list(field: str, value: Any) -> ValueError:
    """The error for a field that is not a list."""
    spelled = IN_TABLES if isinstance(value, str) else ""
    return ValueError(f"{field!r} must be a list; it is {value!r:.60}{spelled}.")


def whole(value: Any) -> Any:
    """An integral float, as in tables with missing values, as an int; any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Read(NamedTuple):
    """A row's token ids, their types (empty if all are 0), whether it was truncated, and its texts in it."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    cut: bool
    stretches: tuple[Stretch, ...]


def encode_rows(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], targets: Sequence[Any], room: Room
) -> list[Encoding]:
    """One sequence for each example, of its text or pair of texts (see `encode_texts`), with its target."""
    rows = encode_texts(tokenizer, [example.texts for example in examples], room)
    return [
        Encoding(index, (row.ids,), target, cut=row.cut, types=(row.types,), stretches=(row.stretches,))
        for index, (row, target) in enumerate(zip(rows, targets, strict=True))
    ]


def label_targets(encodings: Sequence[Encoding], longest: int) -> dict[str, Tensor]:
    """The label ids (batch,), or the right choices."""
    return {"labels": torch.tensor([encoding.target for encoding in encodings])}


def encode_texts(tokenizer: PreTrainedTokenizerFast, rows: Sequence[tuple[str, ...]], room: Room) -> list[Read]:
    """``<s> A </s>`` for each text, ``<s> A </s></s> B </s>`` for each pair; the longer text is truncated first.

    Returns:
        The encoding of each row.
    """
    ids = iter(ids_of(tokenizer, [text for row in rows for text in row]))
    special = {texts: special_tokens_of(tokenizer, texts) for texts in {len(row) for row in rows}}
    answer = []
    for row in rows:
        own = special[len(row)]
        free = room.max_length - own.size
        if len(row) == 1:
            only = next(ids)
            kept = only[:free]
            answer.append(Read(own.around(kept), own.types(len(kept)), len(only) > free, own.stretches(len(kept))))
            continue
        first, second = next(ids), next(ids)
        kept_of = shares(len(first), len(second), free)
        around = own.around(first[: kept_of[0]], second[: kept_of[1]])
        cut = len(first) + len(second) > free
        answer.append(Read(around, own.types(*kept_of), cut, own.stretches(*kept_of)))
    return answer
