"""The labels of examples: how often each occurs, and which rows have none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from xmodular.console import console
from xmodular.errors import DataError, first_of
from xmodular.tasks.task import Example
from xmodular.tasks.text_fields import whole

_NO_LABEL = ("-", "-1")  # SNLI's rows without agreement, and how data sets on the Hub mark them
_WHOLE = re.compile("-?[0-9]{1,18}")
_SHOWN = 10  # labels in a message
_COUNTED = 30  # labels with their counts in one


def is_no_label(value: Any) -> bool:
    """Whether a value may mark a missing label."""
    value = whole(value)
    return isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip() in _NO_LABEL


def no_labels(examples: Iterable[Example], known: Collection[str] | None = None) -> frozenset[str]:
    """Those of the values ``-`` and ``-1`` that mark a missing label.

    They are ordinary labels if they are in `known`. Without `known`, ``-`` is a label if ``+`` is one, and
    ``-1`` if all numbers are 0, 1 or negative; and both are labels if fewer than two others remain.

    Args:
        examples: all examples of a set.
        known: the labels of a model or of training data; None for training data.
    """
    names = {example.gold for example in examples if isinstance(example.gold, str)}
    marks = names.intersection(_NO_LABEL)
    if known is not None or not marks:
        return frozenset(marks.difference(known or ()))
    rest = names - marks
    if len(rest) < 2:
        return frozenset()
    if "+" in rest:
        marks.discard("-")
    if all(_WHOLE.fullmatch(name) for name in rest):
        numbers = [int(name) for name in rest]
        if min(numbers) < 0 or max(numbers) < 2:
            marks.discard("-1")
    return frozenset(marks)


def labelled(examples: Sequence[Example], source: str, marks: Collection[str] = ()) -> list[Example]:
    """The examples that have a label; prints how many have none.

    Args:
        examples: of one source.
        source: its name.
        marks: the values that mark a missing label.

    Raises:
        DataError: no example has a label.
    """
    found = [each for each in examples if each.gold is not None and not (marks and each.gold in marks)]
    if not found:
        raise DataError(f"{source} has no row with a label: all {len(examples):,} have '-' or -1, for no label.")
    if count := len(examples) - len(found):
        console.print(f"{source}: {count:,} of {len(examples):,} rows have no label ('-' or -1) and are skipped.")
    return found


def label_names_of(example: Example) -> tuple[str, ...]:
    """An example's gold labels by name: one, or one per word; none if gold has no names."""
    if isinstance(example.gold, str):
        return (example.gold,)
    if isinstance(example.gold, tuple) and all(isinstance(name, str) for name in example.gold):
        return example.gold
    return ()


def label_counts(examples: Iterable[Example]) -> Counter[str]:
    """Counts of each label: rows, words for tags, positions of the right choice; empty for other gold."""
    counts: Counter[str] = Counter()
    for example in examples:
        if isinstance(example.gold, int):
            counts[f"choice {example.gold}"] += 1
        else:
            counts.update(label_names_of(example))
    return counts


def spread(examples: Sequence[Example]) -> str:
    """A summary of the gold of some examples in one line: labels with their counts, or the range of numbers.

    Empty for answers in texts.
    """
    if counts := label_counts(examples):
        return first_of([f"{name} {count:,}" for name, count in counts.most_common()], _COUNTED)
    numbers = [example.gold for example in examples if isinstance(example.gold, float)]
    if not numbers:
        return ""
    return f"numbers from {min(numbers):g} to {max(numbers):g}, mean {sum(numbers) / len(numbers):.4g}"


def some(names: Iterable[str]) -> str:
    """Some of the names, sorted, and the number of further ones."""
    return first_of(sorted(names), _SHOWN)
