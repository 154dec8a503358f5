"""Which test rows belong together: a row and its translations in other languages, all rows about one paragraph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from xmodular.console import console
from xmodular.evaluation.sets import TestSet
from xmodular.tasks import Example, Task

_LEAST = 0.5  # of a set's paragraphs that stay apart when it is joined with others, of its units found elsewhere


def with_units(task: Task, sets: Sequence[TestSet]) -> list[TestSet]:
    """The sets with the unit of each row, and a line on the terminal about those that are not parallel to another.

    Rows of one language with one text in common (`Task.topic`: the paragraph, the premise) are a unit. Across
    languages rows are taken for translations of each other if they have the same ``id``; or stand in the same place of
    sets with the same gold answers, or, where ids are lacking and gold answers are not comparable, of the same size.
    A set whose paragraphs would be thrown together by that has ids by accident, and stays apart.

    Args:
        task: what the rows are for.
        sets: one per language.
    """
    links = _Links()
    for each in sets:
        names, topics = _names(each.examples), [(each.language, task.topic(example)) for example in each.examples]
        tried = links.copy()
        for topic, own in zip(topics, names, strict=True):
            for name in own:
                tried.join(topic, name)
        if len({tried.of(topic) for topic in topics}) >= _LEAST * len(set(topics)):
            links = tried
    numbers: dict[Hashable, int] = {}
    found = []
    for each in sets:
        topics = [(each.language, task.topic(example)) for example in each.examples]
        units, joined = (
            tuple(numbers.setdefault(name, len(numbers)) for name in names)
            for names in (topics, [("joined", links.of(topic)) for topic in topics])
        )
        found.append(replace(each, units=units, joined=joined))
    languages = Counter(unit for each in found for unit in set(each.joined))
    found = [replace(each, parallel=_is_parallel(each, languages)) for each in found]
    if len(found) > 1 and (alone := [each.language for each in found if not each.parallel]):
        console.print(
            f"Not parallel, so that means over languages take their rows for independent: {', '.join(alone)}. "
            "Translations of a row are known by the same id."
        )
    return found


def _is_parallel(each: TestSet, languages: Mapping[int, int]) -> bool:
    units = set(each.joined)
    return sum(languages[unit] > 1 for unit in units) >= _LEAST * len(units)


def _names(examples: Sequence[Example]) -> list[list[Hashable]]:
    """What a row may be called in every language: its id, its place."""
    ids = [example.id for example in examples]
    known = None not in ids and len(set(ids)) == len(ids)
    golds = tuple(example.gold for example in examples)
    comparable = all(isinstance(gold, (str, int, float)) for gold in golds)
    names: list[list[Hashable]] = [[("id", each)] if known else [] for each in ids]
    if comparable or not known:
        whole = (len(golds), hash(golds) if comparable else None)
        for place, own in enumerate(names):
            own.append(("place", whole, place))
    return names


class _Links:
    """What is joined with what."""

    def __init__(self) -> None:
        self._next: dict[Hashable, Hashable] = {}

    def copy(self) -> _Links:
        new = _Links()
        new._next = dict(self._next)
        return new

    def of(self, name: Hashable) -> Hashable:
        """What stands for all that a name is joined with."""
        path = []
        while (following := self._next.get(name, name)) != name:
            path.append(name)
            name = following
        for passed in path:
            self._next[passed] = name
        return name

    def join(self, one: Hashable, other: Hashable) -> None:
        self._next[self.of(other)] = self.of(one)
