"""The language conditions: which adapter a language is read with, and how results name and show it.

`xmodular.evaluation` runs the conditions; everything else about them is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

# What can be requested: the own adapter and those to compare it with, in this order. Files call the own one "right".
LanguageCondition = Literal["right", "source", "relative", "none", "identified"]
ASKED: tuple[LanguageCondition, ...] = get_args(LanguageCondition)
AskedCondition = Literal["own", "right", "source", "relative", "none", "identified"]


@dataclass(frozen=True)
class Condition:
    """How a language condition, or a guess that needs no model, is described and drawn.

    Attributes:
        heading: heading of its column.
        meaning: how its values are obtained.
        colour: a name in `xmodular.charts.COLOURS`.
        mark: its shape in a chart.
        asked: its meaning in ``--adapter``.
        guess: for a guess: what it does, as part of a sentence.
    """

    heading: str
    meaning: str
    colour: str
    mark: Literal["circle", "square", "diamond", "tick"]
    asked: str = ""
    guess: str = ""


# In the order of columns.
CONDITIONS = {
    "right": Condition(
        "own adapter", "every language is read with its own adapter", "c1", "circle", asked="the language's own adapter"
    ),
    "identified": Condition(
        "identified",
        "every row is read with the adapter of the language that it is identified as; an unsure one with the source's",
        "c6",
        "square",
        asked="that of the language that each row is identified as",
    ),
    "relative": Condition(
        "relative's adapter",
        "every language is read with the adapter of its nearest relative",
        "c3",
        "square",
        asked="that of the most closely related language",
    ),
    "source": Condition(
        "source adapter",
        "every language is read with the source language's adapter",
        "c2",
        "circle",
        asked="the training language's, for all languages",
    ),
    "none": Condition("no adapter", "no adapter: the bottlenecks are turned off", "c4", "diamond", asked="no adapter"),
    "majority": Condition(
        "majority",
        "always the most frequent answer in the file; no model",
        "c7",
        "tick",
        guess="always the most frequent answer",
    ),
    "uniform": Condition("random", "a random answer; no model", "c8", "tick", guess="a random guess"),
}
GUESSES = tuple(name for name, condition in CONDITIONS.items() if condition.guess)
OWN = ("right", "relative")  # either counts as the language's own adapter; the first available one is used


def stored_name(condition: str) -> str:
    """What files call a condition: "own" is "right" there."""
    return "right" if condition == "own" else condition
