"""What was converted, in either direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xmodular.configuration import XmodConfig
from xmodular.console import console

MASKED_LM, CLASSIFIER = "XmodForMaskedLM", "XmodForSequenceClassification"


@dataclass(frozen=True)
class Converted:
    """What was converted.

    Attributes:
        output_dir: folder of the converted model.
        architecture: the model's class here.
        config: its configuration here.
        weights: number of weights.
        ignored: names of weights that were left out, with the reason.
        derived: settings that the source does not specify, and where they were taken from.
        files: names of the files that were written.
    """

    output_dir: Path
    architecture: str
    config: XmodConfig
    weights: int
    ignored: Mapping[str, str]
    derived: tuple[str, ...]
    files: tuple[str, ...]


def say(converted: Converted, headline: str) -> None:
    """Print what was converted, derived and left out."""
    console.print(headline)
    for line in converted.derived:
        console.print(f"  derived: {line}")
    for name, reason in converted.ignored.items():
        console.print(f"  left out: {name} ({reason})")
