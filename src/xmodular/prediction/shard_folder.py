"""The folder of a run over shards, on this machine or at an address: where finished outputs and notes are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmodular.errors import ConfigurationError, DataError
from xmodular.files import json_text
from xmodular.outputs import PREFIX, remove
from xmodular.prediction.parts import bad_rows_of
from xmodular.rows.folders import Place

NOTES = "_predict"
_RUN, _WORK = f"{NOTES}/run.json", f"{NOTES}/work"


class ShardFolder:
    """The output of a run over shards.

    Args:
        place: a path or an address.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    @property
    def _at(self) -> Place:
        return Place(self.place)

    def run(self) -> dict[str, Any] | None:
        """What was asked for in the run that wrote here; None if there was none.

        Raises:
            ConfigurationError: the folder has files that no run over shards has written.
            DataError: the record of the run is damaged.
        """
        content = self._at.read(_RUN)
        if content is None:
            ours = (f"{NOTES}/", PREFIX)
            if strangers := sorted(name for name in self._at.sizes() if not name.startswith(ours)):
                raise ConfigurationError(
                    f"{self.place} contains {strangers[0]} and is not a run over files: choose another output."
                )
            return None
        return self._parsed(content, _RUN, ("run", "complete"))

    def record(self, content: Mapping[str, Any]) -> None:
        """Write what was asked for; at the end of a run, its empty folders are removed."""
        if content["complete"]:
            self._at.remove(_WORK)
        self._at.write(_RUN, json_text(content, indent=2).encode())

    def finished(self) -> dict[str, dict[str, Any]]:
        """The notes of the finished shards, by name."""
        sizes = self._at.sizes()
        notes = {_note(name): name for name in sizes if _note(name) in sizes}
        found = {
            notes[path]: self._parsed(content, path, ("bytes", "state"))
            for path, content in self._at.read_all(list(notes)).items()
        }
        return {name: note for name, note in sorted(found.items()) if note["bytes"] == sizes[name]}

    def note(self, name: str) -> dict[str, Any] | None:
        """The note of one shard; None if it is not finished."""
        if (content := self._at.read(_note(name))) is None:
            return None
        note = self._parsed(content, _note(name), ("bytes", "state"))
        return note if note["bytes"] == self._at.size(name) else None

    @contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """The path at which a shard's output is written, in a folder of its own on this machine.

        In a local run, an unfinished shard stays there, so that the next worker continues it.
        """
        if (local := self._at.local) is None:
            with tempfile.TemporaryDirectory(prefix="xmodular-") as own:
                yield Path(own, Path(name).name)
            return
        folder = local / _WORK / name
        folder.mkdir(parents=True, exist_ok=True)
        yield folder / Path(name).name
        if folder.is_dir() and not any(each.suffix == ".parts" for each in folder.iterdir()):
            remove(folder)

    def publish(self, name: str, stage: Path, note: dict[str, Any]) -> None:
        """Give a whole output its place: first its bad rows, then the output, then the note."""
        bad, there = bad_rows_of(stage), _bad_rows(name)
        if bad.exists():
            self._at.put(bad, there)
        else:
            self._at.remove(there)
        note["bytes"] = stage.stat().st_size
        self._at.put(stage, name)
        self._at.write(_note(name), json_text(note, indent=1).encode())

    def with_final_names(self, text: str, name: str, stage: Path) -> str:
        """What was said while a shard was predicted, with the places that `publish` gives its files."""
        at = self.place.rstrip("/")
        return text.replace(str(bad_rows_of(stage)), f"{at}/{_bad_rows(name)}").replace(str(stage), f"{at}/{name}")

    def clear(self) -> None:
        """Remove all that a run over shards has written; other files stay."""
        for name in self.finished():
            self._at.remove(name)  # before its note: what has a note is removed by the next start
            self._at.remove(_note(name))
        self._at.remove(NOTES)

    def _parsed(self, content: bytes, name: str, fields: tuple[str, ...]) -> dict[str, Any]:
        """A file of ours.

        Raises:
            DataError: it is damaged.
        """
        try:
            parsed: dict[str, Any] = json.loads(content)
            if all(field in parsed for field in fields):
                return parsed
        except (ValueError, TypeError):
            pass
        raise DataError(f"{self.place}/{name} is damaged: remove it to predict its file again.")


def _bad_rows(name: str) -> str:
    return f"{NOTES}/bad/{name}.jsonl"


def _note(name: str) -> str:
    return f"{NOTES}/done/{name}.json"
