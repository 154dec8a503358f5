"""Counts by label: how often each is in the gold data, predicted and right, and which are confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Breakdown:
    """Counts by label.

    Attributes:
        unit: what is counted: "rows", "words" or "spans".
        labels: the model's label names, then those that are only in the gold data.
        gold, predicted, right: for each label, how often it is in the gold data, is predicted, and both.
        confused: (gold, predicted, count) of confusions, by position in `labels`. Instead of a
            span's type, the number of labels means that no span has these ends.
    """

    unit: str
    labels: tuple[str, ...]
    gold: tuple[int, ...]
    predicted: tuple[int, ...]
    right: tuple[int, ...]
    confused: tuple[tuple[int, int, int], ...]


def breakdown(unit: str, pairs: Iterable[tuple[str | None, str | None]], labels: Sequence[str]) -> Breakdown:
    """Count pairs of gold and predicted label.

    Args:
        unit: as of a `Breakdown`.
        pairs: None means that there is no label on that side; never on both sides.
        labels: the model's.
    """
    counts = Counter(pairs)
    seen = {name for pair in counts for name in pair if name is not None}
    names = (*labels, *sorted(seen.difference(labels)))
    place: dict[str | None, int] = {None: len(names), **{name: number for number, name in enumerate(names)}}
    gold, predicted, right = ([0] * (len(names) + 1) for _ in range(3))
    for (true, said), count in counts.items():
        gold[place[true]] += count
        predicted[place[said]] += count
        right[place[true]] += count * (true == said)
    confused = sorted((place[a], place[b], count) for (a, b), count in counts.items() if a != b)
    return Breakdown(unit, names, tuple(gold[:-1]), tuple(predicted[:-1]), tuple(right[:-1]), tuple(confused))


def added(parts: Sequence[Breakdown]) -> Breakdown:
    """The sum of several counts, with the same unit and the same model's labels."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.labels))
    place = {name: number for number, name in enumerate(names)}
    gold, predicted, right = ([0] * len(names) for _ in range(3))
    confused: Counter[tuple[int, int]] = Counter()
    for part in parts:
        moved = [*(place[name] for name in part.labels), len(names)]
        for total, counts in ((gold, part.gold), (predicted, part.predicted), (right, part.right)):
            for own, count in enumerate(counts):
                total[moved[own]] += count
        for true, said, count in part.confused:
            confused[moved[true], moved[said]] += count
    listed = tuple((*pair, count) for pair, count in sorted(confused.items()))
    return Breakdown(parts[0].unit, names, tuple(gold), tuple(predicted), tuple(right), listed)
