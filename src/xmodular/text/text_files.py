"""Clean lines: which files belong to which language, and which of their lines are kept."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from xmodular.addresses import spelled
from xmodular.errors import DataError
from xmodular.languages import resolve
from xmodular.rows.opening import files_in, is_file
from xmodular.rows.row import LANGUAGE_CODE
from xmodular.text.counts import DROPPED, LineCounts
from xmodular.text.hub_text import HubText
from xmodular.text.raw_lines import digest, is_text, read_file
from xmodular.text.seen_hashes import SeenHashes

# Control characters (Unicode's category Cc) but the tab, and the byte order mark. Those that are white space become a
# space, the others go.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ufeff]")
_MENDED = {code: " " if chr(code).isspace() else None for code in (*range(9), *range(10, 32), *range(127, 160), 0xFEFF)}
_LARGEST_DOCUMENT = 1_000_000  # characters


@dataclass(frozen=True)
class TextFiles:
    """The clean lines of one language's text, which can be iterated over any number of times.

    Lines are stripped and NFC-normalised and lose their control characters; empty, repeated and unreadable ones are
    dropped and counted. Repetitions are found by a 64-bit hash, in 12 to 24 bytes of memory per line. A text for
    measuring a model keeps its repeated lines (`repeated`).

    Args:
        language: the language's code.
        files: ``.txt``, ``.jsonl`` (both also packed) and ``.parquet`` files, or data sets.
        part: "all", or "train" or "dev" of a split by a hash of the line, so that equal lines are in the same part.
        dev_fraction: the share of lines in "dev".
        text_field: field of JSON Lines, column of Parquet that has the text.
        max_line: most characters per line; longer lines are split.
        strict: whether it is an error if most lines cannot be read.
        repeated: keep repeated lines.
        most: most bytes of text, with line ends: the first lines, at least one; None takes all.
    """

    language: str
    files: tuple[Path | HubText, ...]
    part: str = "all"
    dev_fraction: float = 0.0
    text_field: str = "text"
    max_line: int = 100_000
    strict: bool = False
    repeated: bool = False
    most: int | None = None
    counts: LineCounts = field(default_factory=LineCounts, compare=False)

    def __iter__(self) -> Iterator[str]:
        for unit in self.units():
            yield from unit

    def units(self, *, documents: bool = False) -> Iterator[list[str]]:
        """The units for finding repetitions and for splitting: lines, or whole documents.

        Args:
            documents: a unit is a document: a paragraph between blank lines of a text file, or a row. One of more
                than a million characters continues as another.

        Yields:
            Lists of clean lines; without `documents`, of one line each.

        Raises:
            DataError: a file is missing, damaged or without the field; with `strict`, at the end: most lines were lost.
        """
        self.counts.reset()
        seen = SeenHashes()
        left = math.inf if self.most is None else self.most  # bytes
        for unit in self._documents() if documents else ([line] for line in self._clean() if line is not None):
            hashed = int.from_bytes(hashlib.blake2b("\n".join(unit).encode(), digest_size=8).digest(), "big")
            if not self.repeated and not seen.add(hashed):
                self.counts.duplicate += len(unit)
            elif self.part != "all" and (hashed < self.dev_fraction * 2**64) != (self.part == "dev"):
                self.counts.other_part += len(unit)
            else:
                kept = unit
                if self.most is not None:
                    ends = list(accumulate(len(line.encode()) + 1 for line in unit))
                    kept = unit[: max(sum(end <= left for end in ends), 0 if self.counts.kept else 1)]
                    left -= ends[-1]
                self.counts.kept += len(kept)
                if kept:
                    yield kept
                if left < 0:
                    break
        if self.strict and self.counts.lost > self.counts.kept + self.counts.other_part + self.counts.duplicate:
            raise DataError(self._lost())

    def content(self) -> list[object]:
        """Everything that determines the lines, files by a hash of their content: JSON values, for a cache key."""
        files = [each.content() if isinstance(each, HubText) else digest(each) for each in self.files]
        return [files, self.part, self.dev_fraction, self.text_field, self.max_line, self.repeated, self.most]

    def _lost(self) -> str:
        """The message if most lines could not be read."""
        counts = self.counts
        ways = {
            "undecodable": "convert them from their encoding to UTF-8, as from Latin-2 with iconv -f LATIN2 -t UTF-8",
            "no_text": "choose the field with --text-field",
            "broken": "a .jsonl file has one JSON object per line",
            "too_long": "rows must be shorter",
        }
        worst = max(ways, key=lambda name: int(getattr(counts, name)))
        files = ", ".join(map(str, self.files))
        return (
            f"{counts.lost:,} of {counts.read:,} lines of {self.language} cannot be read "
            f"({getattr(counts, worst):,} are {DROPPED[worst]}), in {files}: {ways[worst]}, or leave the file out."
        )

    def _documents(self) -> Iterator[list[str]]:
        document: list[str] = []
        size = 0
        for line in self._clean():
            if line is not None:
                document.append(line)
                size += len(line)
            if document and (line is None or size > _LARGEST_DOCUMENT):
                yield document
                document, size = [], 0

    def _clean(self) -> Iterator[str | None]:
        """Clean lines, with None at the ends of documents; the last is None."""
        for source in self.files:
            if isinstance(source, HubText):
                lines = source.read(self.counts, self.max_line)
            else:
                lines = read_file(source, self.text_field, self.counts, self.max_line)
            for raw in lines:
                if raw is None:
                    yield None
                elif line := self._mended(raw):
                    yield line

    def _mended(self, raw: str) -> str:
        """A line as it should be; empty, and counted, if it is to be dropped."""
        line = raw.strip()
        if _CONTROL.search(line):
            self.counts.control += 1
            line = line.translate(_MENDED).strip()
        if not line:
            self.counts.empty += 1
            return ""
        try:
            line.encode()  # JSON can spell half a surrogate pair
        except UnicodeEncodeError:
            self.counts.undecodable += 1
            return ""
        return unicodedata.normalize("NFC", line)


def find_text(folder: Path, languages: Sequence[str] = ()) -> dict[str, tuple[Path, ...]]:
    """The text files in a folder by language: the language of ``de_DE.news.txt`` is ``de_DE``.

    Args:
        folder: where the ``.txt``, ``.jsonl`` (both also packed) and ``.parquet`` files lie; a path, or an address.
        languages: only these, by code or name; empty means all. The result has this order, or is sorted.

    Raises:
        DataError: no such folder, no text in it, or a file name that does not start with a language code.
        LanguageError: a language is missing.
    """
    place = spelled(folder)
    if (inside := files_in(folder)) is None:
        if is_file(place):
            raise DataError(f"{place} is a file; give a folder of files that begin with their language, as de_DE.txt.")
        raise DataError(f"There is no text folder {place}.")
    found: dict[str, list[Path]] = {}
    for path in inside:
        if not is_text(path):
            continue
        code = path.name.split(".", 1)[0]
        if not LANGUAGE_CODE.fullmatch(code):
            raise DataError(f"{path}: text files must be named <language>.<source>.txt, like de_DE.news.txt.")
        found.setdefault(code, []).append(path)
    if not found:
        raise DataError(
            f"There are no text files in {place}; names are such as de_DE.txt, de_DE.news.jsonl.gz or de_DE.parquet."
        )
    chosen = [resolve(language, found) for language in languages] or list(found)
    return {code: tuple(found[code]) for code in dict.fromkeys(chosen)}


def files_of(place: Path, language: str | None) -> tuple[Path, ...]:
    """A file of text, or a language's files in a folder.

    Args:
        place: the file or folder.
        language: its code or name; None for a file, or for a folder with text in one language.

    Raises:
        DataError: there is none, its format is not supported, or a folder has several languages and none is named.
        LanguageError: the folder has no text in that language.
    """
    if not is_file(place):
        found = find_text(place)
        if language is None and len(found) > 1:
            raise DataError(f"{place} has text in {', '.join(found)}: say with --language which to read.")
        return found[next(iter(found)) if language is None else resolve(language, found)]
    if not is_text(place):
        raise DataError(f"{place} is not a text file: names end in .txt, .jsonl (both also with .gz) or .parquet.")
    return (place,)
