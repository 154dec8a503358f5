"""Text folders: which files belong to which language, and their lines, cleaned."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xmodular.errors import DataError
from xmodular.languages import resolve

_CODE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*")


@dataclass
class LineCounts:
    """What became of the lines of some files."""

    kept: int = 0
    empty: int = 0
    duplicate: int = 0
    undecodable: int = 0

    def __str__(self) -> str:
        dropped = [
            f"{count} {kind}"
            for kind, count in (("empty", self.empty), ("duplicate", self.duplicate), ("not UTF-8", self.undecodable))
            if count
        ]
        return f"{self.kept} lines" + (f" (dropped: {', '.join(dropped)})" if dropped else "")


@dataclass(frozen=True)
class TextFiles:
    """The clean lines of one language's files: iterate over it as often as you like.

    Lines are stripped and NFC-normalised; empty, repeated and undecodable ones are dropped and counted.

    Args:
        language: the language's code.
        files: UTF-8 files, one sentence or paragraph a line.
        part: "all", or "train" or "dev" of a split by a hash of the line, so that equal lines fall on one side.
        dev_fraction: the share of lines in "dev".
    """

    language: str
    files: tuple[Path, ...]
    part: str = "all"
    dev_fraction: float = 0.0
    counts: LineCounts = field(default_factory=LineCounts, compare=False)

    def __iter__(self) -> Iterator[str]:
        counts = self.counts
        counts.kept = counts.empty = counts.duplicate = counts.undecodable = 0
        seen: set[bytes] = set()
        for path in self.files:
            with path.open("rb") as file:
                for raw in file:
                    try:
                        line = unicodedata.normalize("NFC", raw.decode("utf-8").strip().strip("\ufeff"))
                    except UnicodeDecodeError:
                        counts.undecodable += 1
                        continue
                    if not line:
                        counts.empty += 1
                        continue
                    digest = hashlib.blake2b(line.encode(), digest_size=8).digest()
                    if digest in seen:
                        counts.duplicate += 1
                        continue
                    seen.add(digest)
                    if self.part != "all":
                        held_out = int.from_bytes(digest, "big") < self.dev_fraction * 2**64
                        if held_out != (self.part == "dev"):
                            continue
                    counts.kept += 1
                    yield line


def find_text(folder: Path, languages: Sequence[str] = ()) -> dict[str, tuple[Path, ...]]:
    """The text files in a folder by language: the language of ``de_DE.news.txt`` is ``de_DE``.

    Args:
        folder: where the ``.txt`` files lie.
        languages: only these, by code or name; empty means all. The answer keeps this order, or the alphabet's.

    Raises:
        DataError: no such folder, no text in it, or a file name that starts with no language code.
        LanguageError: a language is not there.
    """
    if not folder.is_dir():
        raise DataError(f"There is no text folder {folder}.")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.txt")):
        code = path.name.split(".", 1)[0]
        if not _CODE.fullmatch(code):
            raise DataError(f"{path}: a text file is named <language>.<source>.txt, like de_DE.news.txt.")
        found.setdefault(code, []).append(path)
    if not found:
        raise DataError(f"There are no text files in {folder}; they are named like de_DE.txt or de_DE.news.txt.")
    chosen = [resolve(language, found) for language in languages] or list(found)
    return {code: tuple(found[code]) for code in dict.fromkeys(chosen)}
