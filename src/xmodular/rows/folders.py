"""Folders on this machine and at addresses alike: list, read, write and remove files in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from xmodular.addresses import address
from xmodular.errors import DataError, XmodularError, in_one_line
from xmodular.outputs import NEW, beside, remove
from xmodular.rows.opening import reaching, system_of

# Stores in which a file appears whole when it is complete. Elsewhere it is written beside its place and renamed.
_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf", "oci", "oss"}


class Place:
    """A folder. What is written appears whole or not at all.

    Args:
        folder: its path or address.

    Attributes:
        local: its path; None at an address.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.local = None if address(folder) else Path(folder)
        with reaching(folder):
            self._system, self._root = system_of(folder)
            self._root = self._root.rstrip("/")

    def sizes(self) -> dict[str, int]:
        """The files in the folder and in its folders, by name, with their sizes in bytes."""
        with reaching(self.folder):
            self._system.invalidate_cache()
            if not self._system.isdir(self._root):
                return {}
            found = self._system.find(self._root, detail=True)
            return {name[len(self._root) + 1 :]: told["size"] for name, told in found.items()}

    def size(self, name: str) -> int | None:
        """The size of a file; None if there is none."""
        with reaching(self._named(name)):
            self._system.invalidate_cache()
            try:
                return int(self._system.size(self._path(name)))
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        with reaching(self._named(name)):
            try:
                content: bytes = self._system.cat_file(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None
            return content

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of files, by name; at an address, many at a time."""
        if not names:
            return {}
        with reaching(self.folder):
            content = self._system.cat([self._path(name) for name in names])
            return {path[len(self._root) + 1 :]: value for path, value in content.items()}

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        with tempfile.TemporaryDirectory(prefix="xmodular-") as folder:
            file = Path(folder, "content")
            file.write_bytes(content)
            self.put(file, name)

    def put(self, file: Path, name: str) -> None:
        """Write a file with the content of a local one, which is moved if it is on the same disk.

        Raises:
            DataError: an address cannot be written to.
        """
        if self.local is not None:
            target = self.local / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _move(file, target)
            return
        path = self._path(name)
        parent, _, last = path.rpartition("/")
        with _writing(self._named(name)):
            if (address(self.folder) or "").partition(":")[0] in _WHOLE:  # they have no folders to make
                try:
                    self._system.put_file(str(file), path)
                except FileNotFoundError as error:
                    raise DataError(f"There is no place to write {self._named(name)}: {in_one_line(error)}.") from error
                return
            self._system.makedirs(parent, exist_ok=True)
            new = f"{parent}/{NEW}-{last}"
            self._system.put_file(str(file), new)
            self._system.mv(new, path)

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""
        if self.local is not None:
            remove(self.local / name)
            return
        with _writing(self._named(name)), suppress(FileNotFoundError):
            self._system.rm(self._path(name), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _named(self, name: str) -> str:
        return f"{self.folder.rstrip('/')}/{name}"


@contextmanager
def copied_here(source: str) -> Iterator[str]:
    """The path of a file; one at an address is copied to this machine for the time being."""
    if (there := address(source)) is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="xmodular-") as folder:
        with reaching(there):
            system, path = system_of(there)
            copy = str(Path(folder, Path(path).name))
            system.get_file(path, copy)
        yield copy


def _move(file: Path, target: Path) -> None:
    """Rename a file, by way of a copy beside its place if it is on another disk."""
    try:
        os.replace(file, target)
    except OSError:
        new = beside(NEW, target)
        shutil.copyfile(file, new)
        os.replace(new, target)


@contextmanager
def _writing(place: str) -> Iterator[None]:
    """Turn the errors of a store into DataError."""
    try:
        yield
    except (XmodularError, FileNotFoundError):
        raise
    except Exception as error:  # each store has its own
        raise DataError(f"{place} cannot be written: {in_one_line(error)}.") from error
