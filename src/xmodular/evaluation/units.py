"""Which test rows belong together: a row and its translations in other languages, all rows about one paragraph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from xmodular.console import console
from xmodular.evaluation.test_data import TestSet
from xmodular.tasks import Example, Task

_LEAST = 0.5  # of a set's paragraphs that stay apart when it is joined with others, of its units found elsewhere


def with_units(task: Task, sets: Sequence[TestSet]) -> list[TestSet]:
    """The sets with the unit of each row; prints a line about sets that are not parallel to any other.

    Rows of one language that share a text (`Task.topic`: the paragraph, the premise) are a unit. Across
    languages, rows count as translations of each other if they have the same ``id``, or the same position in
    sets with the same gold answers or, without ids and comparable gold answers, in sets of the same size:
    if they are not translations, this changes nothing, because they do not covary.
    A set whose paragraphs would be merged by this has the same ids by accident, and is kept separate.

    Args:
        task: what the rows are for.
        sets: one per language.
    """
    links = _Links()
    for each in sets:
        names, topics = _names(each.examples), [(each.language, task.topic(example)) for example in each.examples]
        for known in (names, [own[:1] for own in names]):  # only ids if positions contradict them
            tried = links.copy()
            for topic, own in zip(topics, known, strict=True):
                for name in own:
                    tried.join(topic, name)
            if len({tried.of(topic) for topic in topics}) >= _LEAST * len(set(topics)):
                links = tried
                break
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
            f"Not known to be parallel to the others: {', '.join(alone)}. Translations are recognised by the same "
            "id, or by the same gold answers in the same order."
        )
    return found


def _is_parallel(each: TestSet, languages: Mapping[int, int]) -> bool:
    if not (_has_ids(each.examples) or _is_comparable(each.examples)):  # of one size with others, perhaps by accident
        return False
    units = set(each.joined)
    return sum(languages[unit] > 1 for unit in units) >= _LEAST * len(units)


def _names(examples: Sequence[Example]) -> list[list[Hashable]]:
    """What a row may be called in every language: its id, its place."""
    ids, comparable = _has_ids(examples), _is_comparable(examples)
    names: list[list[Hashable]] = [[("id", example.id)] if ids else [] for example in examples]
    if comparable or not ids:
        golds = hash(tuple(example.gold for example in examples)) if comparable else None
        for place, own in enumerate(names):
            own.append(("place", len(examples), golds, place))
    return names


def _has_ids(examples: Sequence[Example]) -> bool:
    ids = {example.id for example in examples}
    return None not in ids and len(ids) == len(examples)


def _is_comparable(examples: Sequence[Example]) -> bool:
    """Whether gold answers are the same in every language: labels, numbers, choices; not words and their tags."""
    return all(isinstance(example.gold, (str, int, float)) for example in examples)


class _Links:
    """The groups of joined items."""

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
