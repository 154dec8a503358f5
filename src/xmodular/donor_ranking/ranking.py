"""A ranking of languages and of averages of them, as data, JSON and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xmodular.console import counted, table
from xmodular.donor_ranking.evidence import Evidence
from xmodular.files import write_json
from xmodular.languages import english_name
from xmodular.options import NEUTRAL

# Rows of the table; the JSON file has all.
_AVERAGES, _SINGLES = 3, 10
# The columns of the table that say what else is known of a language.
_CELLS: dict[str, Callable[[Evidence], float | int | str | None]] = {
    "kin": lambda found: None if found.closeness is None else _groups(found.closeness.groups),
    "distance": lambda found: None if found.closeness is None else found.closeness.distance,
    "script": lambda found: found.script,
    "lines": lambda found: found.read_as,
    "pieces": lambda found: found.pieces,
}


@dataclass(frozen=True)
class Candidate:
    """A language of a model, or an average of several, and what speaks for it.

    Attributes:
        shares: the languages and their shares, which sum to 1; none for an adapter that adds nothing.
        bits_per_character: of the text under this adapter; None if the model cannot measure it.
        characters: of the text it was measured on.
        evidence: of a single language, what else is known; None for an average.
    """

    shares: Mapping[str, float]
    bits_per_character: float | None
    characters: int
    evidence: Evidence | None

    @property
    def init_from(self) -> str:
        """The value of `init_from` of `extend` that starts an adapter from it."""
        if len(set(self.shares.values())) <= 1:
            return ",".join(self.shares) or NEUTRAL
        return ",".join(f"{code}={share:.3f}" for code, share in self.shares.items())

    @property
    def name(self) -> str:
        """The candidate in words."""
        if not self.shares:
            return "an adapter that adds nothing"
        if len(self.shares) == 1:
            return f"{self.init_from} ({english_name(self.init_from)})"
        if len(set(self.shares.values())) == 1:
            return f"the average of {', '.join(self.shares)}"
        return ", ".join(f"{share:.0%} {code}" for code, share in self.shares.items())

    @property
    def bits(self) -> float:
        """Bits per character of a candidate that was measured."""
        assert self.bits_per_character is not None
        return self.bits_per_character

    def record(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "shares": dict(self.shares), "init_from": self.init_from}


@dataclass(frozen=True)
class Donors:
    """What a text may be read with, and what an adapter for it may start from.

    Attributes:
        model: the model's name.
        language: the text's language, if it was given.
        measured: whether candidates are ranked by bits per character; if not, by kinship, script and words.
        candidates: all of them, the best start first.
        reader: the best single language: its adapter reads the text best without training.
        why: sentences on how the first candidate and the reader were found.
    """

    model: str
    language: str | None
    measured: bool
    candidates: tuple[Candidate, ...]
    reader: str
    why: tuple[str, ...]

    @property
    def init_from(self) -> str:
        """The best start, as `init_from` of `extend`."""
        return self.candidates[0].init_from

    def record(self) -> dict[str, Any]:
        """The ranking as JSON values."""
        return {
            "model": self.model,
            "language": self.language,
            "measured": self.measured,
            "init_from": self.init_from,
            "reader": self.reader,
            "why": list(self.why),
            "candidates": [each.record() for each in self.candidates],
        }

    def to_json(self, path: str | Path) -> None:
        """Write the ranking to a JSON file."""
        write_json(Path(path), self.record())

    def table(self) -> RenderableType:
        """The ranking for the terminal."""
        averages = [each for each in self.candidates if len(each.shares) != 1][:_AVERAGES]
        singles = [each for each in self.candidates if len(each.shares) == 1][:_SINGLES]
        shown = [each for each in self.candidates if each in averages or each in singles]
        columns = {
            "start from": [each.name for each in shown],
            "bits": ["" if each.bits_per_character is None else f"{each.bits:.3f}" for each in shown],
            **{name: [_cell(name, each.evidence) for each in shown] for name in _CELLS},
        }
        columns = {name: cells for name, cells in columns.items() if any(cells)}
        title = f"Donors for {self.language or 'the text'}, best first"
        left = len(self.candidates) - len(shown)
        more = [f"Not shown: {counted(left, 'candidate')}; --output writes all to a file."] if left > 0 else []
        rows = zip(*columns.values(), strict=True)
        return Group(table(title, tuple(columns), rows), *(Text(line) for line in (*more, *self.why)))


def _cell(name: str, evidence: Evidence | None) -> str:
    """What is known of a language, in a column; empty if nothing is."""
    if evidence is None or (value := _CELLS[name](evidence)) is None:
        return ""
    return f"{value:.0%}" if isinstance(value, float) else str(value)


def _groups(count: int) -> str:
    return "same language" if count > 50 else str(count)
