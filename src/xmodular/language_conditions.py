"""The language conditions: by whose adapter a language may be read, and what results say of each.

How a condition is read stands in `xmodular.evaluation`, and all else here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

# What may be asked for: the own adapter, and what it is compared with, in this order. Files call the own one "right".
LanguageCondition = Literal["right", "source", "relative", "none"]
ASKED: tuple[LanguageCondition, ...] = get_args(LanguageCondition)
AskedCondition = Literal["own", "right", "source", "relative", "none"]


@dataclass(frozen=True)
class Condition:
    """What is said of a language condition, or of a guess that needs no model.

    Attributes:
        heading: of its column.
        meaning: how its numbers came about.
        colour: of `xmodular.charts.COLOURS`.
        mark: its shape in a chart.
        asked: what ``--adapter`` means by it.
        guess: of a guess: what is done, in a sentence.
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
    "relative": Condition(
        "relative's adapter",
        "every language is read with the adapter of its nearest relative",
        "c3",
        "square",
        asked="that of the nearest relative",
    ),
    "source": Condition(
        "source adapter",
        "every language is read with the source language's adapter",
        "c2",
        "circle",
        asked="the training language's for all (no switching)",
    ),
    "none": Condition("no adapter", "no adapter: the bottlenecks are turned off", "c4", "diamond", asked="no adapter"),
    "majority": Condition(
        "majority",
        "always the most frequent answer in the file; no model",
        "c7",
        "tick",
        guess="always the most frequent answer",
    ),
    "uniform": Condition("blind draw", "a random answer; no model", "c8", "tick", guess="a blind draw"),
}
GUESSES = tuple(name for name, condition in CONDITIONS.items() if condition.guess)
OWN = ("right", "relative")  # what stands for a language's own adapter, the first that there is


def stored_name(condition: str) -> str:
    """What files call a condition: "own" is "right" there."""
    return "right" if condition == "own" else condition
