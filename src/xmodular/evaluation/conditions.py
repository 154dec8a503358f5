"""The ways in which a language is read, to compare adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xmodular.languages import relatives
from xmodular.tasks.readers import Reading

EACH_ROW = ""  # in the place of an adapter: each row's own, that of the language that it is identified as


class Job(NamedTuple):
    """A reading, and its name in the results."""

    condition: str
    reading: Reading


def jobs_of(
    language: str, reader: Reading, conditions: Sequence[str], source: str | None, languages: Sequence[str]
) -> list[Job]:
    """The conditions under which one model reads one language.

    Args:
        language: its name in the results.
        reader: the language whose adapter is used as its own.
        conditions: some of "right", "source", "relative", "none" and "identified".
        source: the language that the model was trained in.
        languages: those of the model.
    """
    nearest = next(iter(relatives(language, languages)), None) if reader.own else reader.adapter
    found: dict[str, Reading] = {}
    for condition in conditions:
        if condition == "right":
            found["right" if reader.own else "relative"] = Reading(language, reader.adapter)
        elif condition == "relative" and nearest is not None:
            found["relative"] = Reading(language, nearest)
        elif condition == "source" and source is not None and reader.adapter != source:  # it would be the same
            found["source"] = Reading(language, source)
        elif condition == "identified":
            found["identified"] = Reading(language, EACH_ROW)
        elif condition == "none":
            found["none"] = Reading(language, reader.adapter, adapted=False)
    return [Job(condition, reading) for condition, reading in found.items()]
