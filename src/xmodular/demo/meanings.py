"""The meanings of the embedded corpus, independent of language: drawn, compared, asked about, and split.

A meaning is a frame with an option for each of its slots. The slots that all topics share have one capital letter:
P a person, S a person who says so, O an organisation of the topic, Q one that reports, L a place (C: a city),
T a time (Y: months and years; A: years), N a number, R what the person is by trade.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TypeVar

from xmodular.demo.grammar import LANGUAGES, Frame, Grammar, Question, Slot, load

LABELS = ("contradiction", "entailment", "neutral")
SPLITS = ("train", "dev", "test")

_KEEP = 0.6  # share of optional slots that are filled
_WRAP = 0.2  # share of sentences with a source
_OWN = 0.75  # share of organisations that belong to the topic alone
_OWN_NAMES = 6  # a topic's own organisations; in O, those of all topics come after them

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Meaning:
    """The meaning of a sentence, in no particular language.

    Attributes:
        topic: one of TOPICS.
        frame: name of a frame of the topic.
        values: the filled slots, sorted by name, with their options.
        wrap: "" or the name of what surrounds the frame.
    """

    topic: str
    frame: str
    values: tuple[tuple[str, int], ...]
    wrap: str = ""

    @cached_property
    def number(self) -> int:
        """48 bits that identify this meaning, the same in every language and on every machine."""
        key = f"{self.topic} {self.frame} {self.values} {self.wrap}"
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest(), "big")

    @property
    def id(self) -> str:
        """The number in hexadecimal digits."""
        return f"{self.number:012x}"

    @property
    def split(self) -> str:
        """The part of the data for this meaning: 6 of 10 in train, 2 in dev, 2 in test."""
        part = self.number % 10
        return "train" if part < 6 else "dev" if part < 8 else "test"

    def with_values(self, values: dict[str, int]) -> Meaning:
        """The same frame with other options."""
        return replace(self, values=tuple(sorted(values.items())))


def _joined(name: str, kind: str, slots: Sequence[tuple[Slot, float]], groups: Sequence[Sequence[int]]) -> Slot:
    """One slot with the options of several; `groups` says which of `slots` rule out each other's options."""
    forms: dict[tuple[str, str], tuple[str, ...]] = {}
    for key in sorted({key for slot, _ in slots for key in slot.forms if key[1] not in ("name", "g")}):
        texts: list[str] = []
        for slot, _ in slots:
            texts += slot.forms.get(key) or slot.forms[key[0], ""]
        forms[key] = tuple(texts)
    starts = [0]
    for slot, _ in slots:
        starts.append(starts[-1] + slot.groups[0][0].stop)
    ranges = tuple(
        (range(starts[group[0]], starts[group[-1] + 1]), sum(slots[member][1] for member in group)) for group in groups
    )
    return Slot(name, kind, forms, ranges)


def _persons(name: str, shared: Grammar) -> Slot:
    """First names and surnames in all combinations: women first, then men."""
    forms: dict[tuple[str, str], tuple[str, ...]] = {}
    for language in LANGUAGES:
        firsts = [first for which in ("woman", "man") for first in shared.slots[which].forms[language, ""]]
        surnames = shared.slots["surname"].forms[language, ""]
        forms[language, ""] = tuple(f"[{first} {last}]" for first in firsts for last in surnames)
        women = len(shared.slots["woman"].forms[language, ""]) * len(surnames)
        forms[language, "g"] = ("f",) * women + ("m",) * (len(forms[language, ""]) - women)
    endings = shared.slots["surname"].forms["tr_TR", "dat"]
    forms["tr_TR", "dat"] = tuple(text + endings[index % len(endings)] for index, text in enumerate(forms["tr_TR", ""]))
    forms["fr_XX", "que"] = tuple(("qu'~" if text[1] in "AEIOU" else "que ") + text for text in forms["fr_XX", ""])
    forms["ru_RU", "latin"] = forms["en_XX", ""]
    return Slot(name, "", forms, ((range(len(forms["en_XX", ""])), 1.0),))


@cache
def slots_of(topic: str) -> dict[str, Slot]:
    """All slots that the frames of a topic may use."""
    shared, own = load("shared"), load(topic)
    basic = shared.slots
    shares = {"weekday": 0.35, "month": 0.25, "year": 0.25, "lastyear": 0.08, "yesterday": 0.07}
    times = [(basic[name], share) for name, share in shares.items()]
    slots = {
        "P": _persons("P", shared),
        "S": _persons("S", shared),
        "O": _joined("O", "", [(own.slots["organisation"], _OWN), (basic["organisation"], 1 - _OWN)], [(0,), (1,)]),
        "Q": replace(basic["organisation"], name="Q"),
        "L": _joined("L", "exclusive", [(basic["city"], 0.65), (basic["country"], 0.35)], [(0,), (1,)]),
        "C": replace(basic["city"], name="C", kind="exclusive"),
        "T": _joined("T", "exclusive", times, [(0,), (1,), (2,), (3, 4)]),
        "Y": _joined("Y", "exclusive", times, [(1,), (2,), (3,)]),
        "A": _joined("A", "exclusive", times, [(2,), (3,)]),
        "N": replace(basic["number"], name="N", kind="exclusive"),
        "R": own.slots["role"],
        "W": _joined("W", "", [(basic["when"], 0.5), (basic["where"], 0.5)], [(0, 1)]),
    }
    return slots | {name: slot for name, slot in own.slots.items() if name not in ("organisation", "role")}


def frame_of(meaning: Meaning) -> Frame:
    """The frame of a meaning."""
    return load(meaning.topic).frames[meaning.frame]


def pick(rng: random.Random, items: Sequence[_Item]) -> _Item:
    """One of `items`; uses `random()`, whose sequence Python guarantees."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: random.Random, items: Sequence[_Item]) -> list[_Item]:
    """`items` in random order; uses `random()`, as `pick` does."""
    rest, order = list(items), []
    while rest:
        order.append(rest.pop(int(rng.random() * len(rest))))
    return order


def _option(rng: random.Random, slot: Slot) -> int:
    mark = rng.random() * slot.weight
    for options, weight in slot.groups[:-1]:
        mark -= weight
        if mark < 0:
            return pick(rng, options)
    return pick(rng, slot.groups[-1][0])


def draw(rng: random.Random, topic: str, *, wraps: bool = True) -> Meaning:
    """A random meaning of a topic."""
    slots = slots_of(topic)
    frame = pick(rng, load(topic).frame_list)
    values: dict[str, int] = {}
    for name, optional in frame.references.items():
        keep, option = rng.random() < _KEEP, _option(rng, slots[name])
        if keep or not optional:
            values[name] = option
    wrap = ""
    if wraps and rng.random() < _WRAP:
        wrap = pick(rng, ("person", "organisation"))
        source = "S" if wrap == "person" else "Q"
        values[source] = _option(rng, slots[source])
        about = values.get("P") if source == "S" else values.get("O", 0) - _OWN_NAMES
        if values[source] == about:  # nobody is quoted about themselves
            del values[source]
            wrap = ""
    return Meaning(topic, frame.name, tuple(sorted(values.items())), wrap)


def draw_pair(rng: random.Random, topic: str, label: str) -> tuple[Meaning, Meaning]:
    """A premise and a hypothesis, to be read as statements about the same event.

    The hypothesis is drawn first, in the same way for every label, so that it does not reveal the label; the
    premise is then made to say more (entailment), less (neutral) or something else (contradiction).
    """
    slots = slots_of(topic)
    while True:
        hypothesis = draw(rng, topic, wraps=False)
        frame = frame_of(hypothesis)
        values = dict(hypothesis.values)
        optional = [name for name, may in frame.references.items() if may]
        present = [name for name in optional if name in values]
        absent = [name for name in optional if name not in values]
        kinds = [name for name in values if slots[name].kind == "kinds"]
        general = [name for name in kinds if values[name] == 0]
        special = [name for name in kinds if values[name] != 0]
        rivals = {name: others for name in values if (others := slots[name].rivals(values[name]))}
        if rivals and (absent or general) and (present or special):
            break
    premise = dict(values)
    added = [name for name in absent if rng.random() < 0.5]
    if label == "entailment":
        if not added and not (general and rng.random() < 0.5):
            added = [pick(rng, absent)] if absent else []
        for name in general:
            if not added or rng.random() < 0.5:
                premise[name] = pick(rng, slots[name].groups[0][0][1:])
    elif label == "neutral":
        name = pick(rng, present + special)
        if name in special:
            premise[name] = 0
        else:
            del premise[name]
    else:
        name = pick(rng, sorted(rivals))
        premise[name] = pick(rng, rivals[name])
    for name in added:
        premise[name] = _option(rng, slots[name])
    return hypothesis.with_values(premise), hypothesis


def draw_question(rng: random.Random, meaning: Meaning) -> tuple[Question, str, dict[str, int]] | None:
    """A question about a meaning, the slot of its answer, and the options that the question itself names.

    None if there is nothing to ask about this meaning.
    """
    values = dict(meaning.values)
    frame = frame_of(meaning)
    asks = [(question, slot) for question in frame.questions for slot in question.slots if slot in values]
    if not asks:
        return None
    question, answer = pick(rng, asks)
    optional = frame.references
    named = {name: option for name, option in values.items() if not optional.get(name) or rng.random() < 0.5}
    named.pop(answer, None)
    named["W"] = 1 if answer in ("L", "C") else 0
    return question, answer, named
