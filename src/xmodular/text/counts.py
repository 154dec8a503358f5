"""Counts of the lines of a text that were kept or dropped, by reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from rich.table import Table

# Why a line is dropped, by the name of its count.
DROPPED = {
    "empty": "empty",
    "duplicate": "duplicate",
    "undecodable": "not UTF-8",
    "broken": "not JSON",
    "no_text": "no text",
    "too_long": "too long",
}


@dataclass
class LineCounts:
    """Counts of the lines of some files; each line read is in exactly one of `kept`, `other_part` and `DROPPED`.

    Attributes:
        kept: lines that are part of the text.
        empty: lines that are empty after cleaning.
        duplicate: repetitions of a line, or lines of a repeated document.
        undecodable: not UTF-8, or a JSON string with an unpaired surrogate.
        broken: rows that are not JSON.
        no_text: rows without the text field, or with something other than a string in it.
        too_long: JSON rows too long to parse.
        other_part: good lines of the other part, if a part is held out.
        control: lines that lost control characters, kept or not.
        cut: very long lines that were split; each of their pieces counts as a line.
    """

    kept: int = 0
    empty: int = 0
    duplicate: int = 0
    undecodable: int = 0
    broken: int = 0
    no_text: int = 0
    too_long: int = 0
    other_part: int = 0
    control: int = 0
    cut: int = 0

    @property
    def dropped(self) -> int:
        """Lines that were dropped, for any reason."""
        return sum(getattr(self, name) for name in DROPPED)

    @property
    def lost(self) -> int:
        """Lines that could not be read, not counting empty and repeated ones."""
        return self.undecodable + self.broken + self.no_text + self.too_long

    @property
    def read(self) -> int:
        """All lines."""
        return self.kept + self.dropped + self.other_part

    def reset(self) -> None:
        """Set every count to 0."""
        for field in fields(self):
            setattr(self, field.name, 0)

    def __str__(self) -> str:
        dropped = [f"{count} {word}" for name, word in DROPPED.items() if (count := getattr(self, name))]
        return f"{self.kept} lines" + (f" (dropped: {', '.join(dropped)})" if dropped else "")


def lines_table(lines: Mapping[str, LineCounts], title: str = "Lines") -> Table | None:
    """A table of the line counts of each language, with the columns that are not all 0.

    Args:
        lines: counts by language.
        title: of the table.

    Returns:
        The table, or None if nothing was dropped, repaired or split.
    """
    shown = {
        name: word
        for name, word in {**DROPPED, "control": "control characters removed", "cut": "cut"}.items()
        if any(getattr(counts, name) for counts in lines.values())
    }
    if not shown:
        return None
    table = Table("language", "read", "kept", *shown.values(), title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for language, counts in lines.items():
        kept = counts.kept + counts.other_part
        numbers = [counts.read, kept, *(getattr(counts, name) for name in shown)]
        table.add_row(language, *(f"{number:,}" for number in numbers))
    return table
