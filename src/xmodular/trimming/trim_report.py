"""What trimming saved, and what it cost: sizes, and how text is cut before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from xmodular.console import table

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        languages: how many it has.
        pieces: rows of its word embeddings, with those of languages that have their own.
        parameters: all numbers in it.
        memory: bytes that they take in memory, in their precision.
        weights: bytes of its files of weights.
        tokenizer: bytes of its ``tokenizer.json`` files.
    """

    languages: int
    pieces: int
    parameters: int
    memory: int
    weights: int
    tokenizer: int


@dataclass(frozen=True)
class Reading:
    """How the text of a language is cut, before and after.

    Attributes:
        lines, words: of the text that pieces were chosen from.
        same: share of these lines that the trimmed tokenizer cuts into the very same pieces; 1, unless rare
            pieces were left out.
        held_out_lines, held_out_words: of text that no pieces were chosen from.
        held_out_same: share of these lines with the very same pieces; None without such text, as are the others.
        pieces_per_word: pieces for a word of the held-out text, before and after.
        characters_per_piece: characters for a piece of the held-out text, before and after.
        unknown: share of unknown pieces in the held-out text, before and after.
    """

    lines: int
    words: int
    same: float
    held_out_lines: int
    held_out_words: int
    held_out_same: float | None
    pieces_per_word: tuple[float, float] | None
    characters_per_piece: tuple[float, float] | None
    unknown: tuple[float, float] | None


@dataclass(frozen=True)
class Trimmed:
    """A trimmed model.

    Attributes:
        model: what was trimmed.
        output_dir: the folder of the trimmed model.
        languages: codes of its languages, in the order of their ids.
        scripts: those of which all pieces were kept.
        before: the size of what was trimmed.
        same_languages: the size that it has with these languages alone and all pieces.
        after: the size of the trimmed model.
        readings: how the text of each language is cut; empty without text.
    """

    model: str
    output_dir: Path
    languages: tuple[str, ...]
    scripts: tuple[str, ...]
    before: Size
    same_languages: Size
    after: Size
    readings: Mapping[str, Reading]

    def record(self) -> dict[str, Any]:
        """The report as JSON values; the output folder, in which it lies, is left out."""
        record = asdict(self)
        record.pop("output_dir")
        ratio = self.after.weights / self.same_languages.weights
        return {**record, "ratio": {"weights": self.after.weights / self.before.weights, "same_languages": ratio}}

    def table(self) -> RenderableType:
        """The report for the terminal."""
        return Group(*([self._sizes(), self._texts()] if self.readings else [self._sizes()]))

    def _sizes(self) -> RenderableType:
        sizes = (self.before, self.same_languages, self.after)
        rows = [
            ("languages", *(f"{size.languages:,}" for size in sizes), ""),
            *(
                (name, *(f"{getattr(size, name):,}" for size in sizes), self._ratio(name))
                for name in ("pieces", "parameters")
            ),
            *(
                (name, *(_bytes(getattr(size, name)) for size in sizes), self._ratio(name))
                for name in ("memory", "weights", "tokenizer")
            ),
        ]
        return table("Size", ("", "before", "these languages", "trimmed", "ratio"), rows)

    def _ratio(self, name: str) -> str:
        """What is left, of a model with the same languages."""
        return f"{getattr(self.after, name) / max(1, getattr(self.same_languages, name)):.2f}"

    def _texts(self) -> RenderableType:
        columns = (
            *("language", "lines", "same pieces", "held out", "same pieces", "pieces a word", "trimmed"),
            *("unknown", "trimmed"),
        )
        rows = []
        for code, reading in self.readings.items():
            row = [code, f"{reading.lines:,}", f"{reading.same:.2%}", f"{reading.held_out_lines:,}"]
            row.append("-" if reading.held_out_same is None else f"{reading.held_out_same:.2%}")
            row += [f"{value:.3f}" for value in reading.pieces_per_word or ()] or ["-", "-"]
            row += [f"{value:.3%}" for value in reading.unknown or ()] or ["-", "-"]
            rows.append(row)
        return table("Text", columns, rows)


def _bytes(count: int) -> str:
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
