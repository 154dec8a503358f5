"""Long output in numbered parts, each written atomically, so that a killed run can be resumed.

A folder of parts has a journal that describes the run, and for each part a file of rows and, if there
are any, a file of rows that could not be read. A part is complete once its file has its name, and its bad rows are
written before it; so the names alone show how far the run is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodular.addresses import address
from xmodular.errors import ConfigurationError, DataError
from xmodular.files import write_json
from xmodular.outputs import PREFIX, remove
from xmodular.rows.opening import state_of, stored

JOURNAL = "predict.json"
_OURS = ("part-*.jsonl", "part-*.parquet", "bad-*.jsonl")
_HEAD = 1 << 16  # bytes of a file that are hashed


def file_fingerprint(source: Path | str) -> dict[str, Any]:
    """Size, modification time (of a path) and a hash of the beginning of a file."""
    with stored(source) as file:
        head = hashlib.sha256(file.read(_HEAD)).hexdigest()
    if address(source):
        return {"bytes": state_of(source)[1], "head": head}
    state = Path(source).stat()
    return {"bytes": state.st_size, "changed": state.st_mtime_ns, "head": head}


def bad_rows_of(output: Path) -> Path:
    """The file of the rows that could not be read, beside that of the others."""
    return output.with_name(f"{output.name}.bad.jsonl")


class OutputParts:
    """The parts of one run.

    Args:
        folder: the folder of the parts.
        run: everything that determines the content of the parts, as JSON values. Parts of another run are an error.
        overwrite: make `begin` remove parts of another or a finished run instead.

    Attributes:
        count: number of finished parts.
        complete: whether the run is finished.
        notes: what was decided in the run, as JSON values, such as its precision; empty before the first part.

    Raises:
        ConfigurationError: existing parts belong to a run with other options or input.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], *, overwrite: bool) -> None:
        self.folder = folder
        self._run = json.loads(json.dumps(run))
        before = read_journal(folder)
        if before is not None and not before["complete"] and not self.rows():
            before = None  # nothing was done
        self.complete = False
        self.notes: dict[str, Any] = {}
        self._begun = False
        if before is None or (overwrite and (before["run"] != self._run or before["complete"])):
            self.count = 0
        elif before["run"] != self._run:
            raise ConfigurationError(
                f"{folder} contains part of another run; it differs in {differences(before['run'], self._run)}. "
                "Give the same options and input to continue it, or --overwrite to start over."
            )
        else:
            self.count = len(self.rows())
            self.complete = before["complete"]
            self.notes = before.get("notes", {}) if self.count else {}

    def begin(self) -> None:
        """Prepare the folder for the next part; only now are the files of another run removed."""
        if not self.count:
            if (self.folder / JOURNAL).is_file():
                # If the removal is interrupted, the rest is not a run.
                write_json(self.folder / JOURNAL, {"complete": False, "run": None})
            discard(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / JOURNAL, {"complete": False, "run": self._run})
        _tidy(self.folder)
        self._begun = True

    def note(self, **notes: Any) -> None:
        """Record what was decided, before the first part is closed; a resumed run finds it in `notes`."""
        self.notes |= notes
        write_json(self.folder / JOURNAL, {"complete": False, "run": self._run, "notes": self.notes})

    def leave(self) -> None:
        """Remove all files of a run that has no finished part."""
        if self._begun and not self.count:
            discard(self.folder)

    def lines(self) -> Iterator[bytes]:
        """The lines of finished rows."""
        for path in self.rows()[: self.count]:
            with open(path, "rb") as file:
                yield from file

    def rows(self) -> list[Path]:
        """The files of finished rows, in order."""
        found: list[Path] = []
        while (path := self.folder / f"part-{len(found):05d}.jsonl").is_file():
            found.append(path)
        return found

    def bad(self) -> list[Path]:
        """The files of rows that could not be read, in order."""
        return sorted(self.folder.glob("bad-*.jsonl"), key=lambda path: int(path.stem.partition("-")[2]))

    def open(self) -> OutputPart:
        """A new empty part."""
        return OutputPart(self.folder, self.count)

    def close(self, part: OutputPart, bad: Sequence[bytes]) -> None:
        """Complete a part: rename first its bad rows, then its rows."""
        name = f"bad-{part.number:05d}.jsonl"
        if bad:
            beside = self.folder / f"{name}.writing"
            _write(beside, bad)
            os.replace(beside, self.folder / name)
        else:
            (self.folder / name).unlink(missing_ok=True)
        part.finish()
        self.count += 1

    def finish(self, rows: int, bad: int) -> None:
        """Record that the run is finished, with the numbers of rows read and not readable."""
        write_json(
            self.folder / JOURNAL, {"complete": True, "rows": rows, "bad": bad, "run": self._run, **self._noted()}
        )
        self.complete = True

    def _noted(self) -> dict[str, Any]:
        return {"notes": self.notes} if self.notes else {}


class OutputPart:
    """A part while it is written: it gets its name only once it is finished."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.rows = 0
        self._path = folder / f"part-{number:05d}.jsonl"
        self._beside = folder / f"{self._path.name}.writing"
        self._file = open(self._beside, "wb")  # noqa: SIM115 (closed by `finish`, or on leaving)

    def write(self, lines: Sequence[bytes]) -> None:
        """Add rows."""
        self._file.writelines(lines)
        self.rows += len(lines)

    def __enter__(self) -> OutputPart:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove a part that is not finished."""
        if not self._file.closed:
            self._file.close()
            self._beside.unlink()

    def finish(self) -> None:
        """Flush the part to disk and rename it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._beside, self._path)


def read_journal(folder: Path) -> dict[str, Any] | None:
    """The content of the journal in a folder; None if there is no run.

    Raises:
        ConfigurationError: the folder has files that no run has written.
        DataError: the journal is damaged.
    """
    path = folder / JOURNAL
    if not path.is_file():
        if folder.exists() and (
            not folder.is_dir() or any(not each.name.startswith(PREFIX) for each in folder.iterdir())
        ):
            raise ConfigurationError(f"{folder} exists and is not a run of predict: choose another output.")
        return None
    try:
        journal: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(journal["run"], dict | None) or not isinstance(journal["complete"], bool):
            raise ValueError
        if not isinstance(journal.get("notes", {}), dict):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} is damaged: remove {folder} to start over.") from None
    return None if journal["run"] is None else journal


def discard(folder: Path) -> None:
    """Remove parts, and the journal last. Other files stay."""
    if not folder.is_dir():
        return
    _tidy(folder)
    for path in [each for pattern in _OURS for each in folder.glob(pattern)]:
        path.unlink()
    (folder / JOURNAL).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _tidy(folder: Path) -> None:
    """Remove the incomplete files of a killed run."""
    for path in [*folder.glob("*.writing"), *folder.glob(f"{PREFIX}*")]:
        remove(path)


def strangers_in(folder: Path) -> list[str]:
    """The files in a folder that no run has written."""
    ours = {JOURNAL, *(path.name for pattern in _OURS for path in folder.glob(pattern))}
    return sorted(path.name for path in folder.iterdir() if path.name not in ours)


def sync(path: Path) -> None:
    """Wait until a file, or all files in a folder, are on disk."""
    for each in path.iterdir() if path.is_dir() else [path]:
        with open(each, "rb+") as file:
            os.fsync(file.fileno())


def lines_in(paths: Sequence[Path]) -> int:
    """Number of lines in files."""
    return sum(_lines(path) for path in paths)


def _lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _write(path: Path, lines: Sequence[bytes]) -> None:
    with open(path, "wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    return ", ".join(f"{name} ({before.get(name)!r:.60}, now {now.get(name)!r:.60})" for name in names)
