"""How well sentences find their translations, with intervals."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xmodular.evaluation.intervals import Measured, measure
from xmodular.tasks.nearest import Ranked, ranked, unit_vectors

METRICS = ("accuracy", "accuracy to pivot", "accuracy from pivot", "mean reciprocal rank")


@dataclass(frozen=True)
class Bitext:
    """Two lists of sentences that translate each other, every text once.

    Attributes:
        one, other: the texts of each side; first those in `pairs`, then those that are candidates only.
        pairs: (pairs, 2) places in `one` and `other`.
        places: (pairs,) the lines that they are from.
    """

    one: tuple[str, ...]
    other: tuple[str, ...]
    pairs: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, one: Sequence[str | None], other: Sequence[str | None], *, unpaired: bool = False) -> Bitext:
        """The pairs of which both sides are there; if `unpaired`, the texts of the other lines are candidates."""
        numbers: tuple[dict[str, int], dict[str, int]] = ({}, {})
        pairs, places = [], []
        for place, both in enumerate(zip(one, other, strict=True)):
            if both[0] is not None and both[1] is not None:
                pairs.append([own.setdefault(str(text), len(own)) for own, text in zip(numbers, both, strict=True)])
                places.append(place)
        if unpaired:
            for own, texts in zip(numbers, (one, other), strict=True):
                for text in filter(None, texts):
                    own.setdefault(text, len(own))
        first, second = numbers
        return cls(tuple(first), tuple(second), np.array(pairs, np.int64).reshape(-1, 2), np.array(places, np.int64))

    @cached_property
    def digest(self) -> str:
        """A checksum of the sentences and their order."""
        made = hashlib.sha256(self.pairs.tobytes())
        for text in (*self.one, *self.other):
            made.update(text.encode() + b"\n")
        return made.hexdigest()

    @cached_property
    def units(self) -> np.ndarray:
        """(pairs,) the unit of each pair: pairs that share a sentence are one."""
        group = list(range(len(self.pairs)))
        first: dict[tuple[int, int], int] = {}

        def head(place: int) -> int:
            while group[place] != place:
                group[place] = place = group[group[place]]
            return place

        for place, pair in enumerate(self.pairs.tolist()):
            for side, text in enumerate(pair):
                group[head(place)] = head(first.setdefault((side, text), place))
        return np.array([head(place) for place in range(len(group))])


def measured(bitext: Bitext, one: np.ndarray, other: np.ndarray, joined: np.ndarray) -> dict[str, Measured]:
    """The metrics of a bitext whose second side is the pivot.

    A text that occurs several times is one candidate, and right for all its translations, as a reader could not tell
    its copies apart.

    Args:
        bitext: the sentences.
        one, other: (texts, hidden) the vectors of its sides.
        joined: (pairs,) the number of each pair's unit in means over languages.
    """
    found = _both_ways(bitext, one, other)
    sums = np.stack([np.ones(len(bitext.pairs)), *(each for way in found for each in way)], 1)
    return measure(sums, _metrics, bitext.units, joined[bitext.units])


def one_way(bitext: Bitext, one: np.ndarray, other: np.ndarray) -> tuple[Measured, Measured]:
    """The accuracy with which the first side finds the second, and the second the first.

    Args:
        bitext, one, other: as for `measured`.
    """
    answer = []
    for way in _both_ways(bitext, one, other):
        sums = np.stack([np.ones(len(way.found)), way.found], 1)
        answer.append(measure(sums, lambda sums: {"accuracy": sums[..., 1] / sums[..., 0]}, bitext.units)["accuracy"])
    return answer[0], answer[1]


def by_chance(bitext: Bitext) -> dict[str, float]:
    """The metrics of a random order."""
    sizes = [len(bitext.other), len(bitext.one)]  # of the candidates
    to, back = (1 / size for size in sizes)
    rank = np.mean([np.mean(1 / np.arange(1, size + 1)) for size in sizes])
    return dict(zip(METRICS, ((to + back) / 2, to, back, float(rank)), strict=True))


def _both_ways(bitext: Bitext, one: np.ndarray, other: np.ndarray) -> tuple[Ranked, Ranked]:
    """For each pair, how well its first text finds its second, and its second its first."""
    sides = unit_vectors(one), unit_vectors(other)
    queries = [side[: last + 1] for side, last in zip(sides, bitext.pairs.max(0), strict=True)]  # those with a pair
    there, back = ranked(queries[0], sides[1], bitext.pairs), ranked(queries[1], sides[0], bitext.pairs[:, ::-1])
    return (
        Ranked(*(each[bitext.pairs[:, 0]] for each in there)),
        Ranked(*(each[bitext.pairs[:, 1]] for each in back)),
    )


def _metrics(sums: np.ndarray) -> Mapping[str, np.ndarray]:
    pairs, to, to_rank, back, back_rank = np.moveaxis(sums, -1, 0)
    values = ((to + back) / 2, to, back, (to_rank + back_rank) / 2)
    return {name: value / pairs for name, value in zip(METRICS, values, strict=True)}
