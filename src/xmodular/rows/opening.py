"""Open files to read or write bytes: local or remote, compressed or not.

A file is named by its path, or by an address that fsspec understands, such as ``s3://bucket/rows.jsonl`` or
``hf://datasets/owner/name/rows.jsonl``. The end of its name, in upper or lower case, tells how it is compressed.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from xmodular.addresses import address, spelled
from xmodular.errors import DataError, XmodularError, in_one_line

_MAGIC = re.compile(r"[*?\[]")


def _zstandard(kind: str) -> Callable[[Any], Any]:
    def wrapped(file: Any) -> Any:
        import pyarrow

        return getattr(pyarrow, kind)(file, "zstd")

    return wrapped


# By suffix: the reader of an open compressed file, and the writer.
_PACKINGS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    ".gz": (
        lambda file: gzip.GzipFile(fileobj=file),
        lambda file: gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0),
    ),
    ".zst": (_zstandard("CompressedInputStream"), _zstandard("CompressedOutputStream")),
}


class Unpacked(io.BufferedReader):
    """The decompressed content of a file.

    Attributes:
        packed: the compressed size, in bytes; 0 for a pipe.
    """

    def __init__(self, raw: Any, packed: int) -> None:
        super().__init__(raw)
        self.packed = packed


def kind_of(source: str | Path) -> str:
    """The format in a file's name, without its compression: ``jsonl`` of ``a.JSONL.gz``.

    Empty for compressed Parquet: Parquet compresses its own content.
    """
    name, packing = Path(source).name.lower(), _packing(source)
    _, dot, kind = name.removesuffix(packing).rpartition(".")
    return "" if not dot or (packing and kind == "parquet") else kind


def _packing(source: str | Path) -> str:
    suffix = Path(source).suffix.lower()
    return suffix if suffix in _PACKINGS else ""


def is_file(source: str | Path) -> bool:
    """Whether there is such a file.

    Raises:
        DataError: its location cannot be accessed.
    """
    with reaching(spelled(source)):
        system, path = system_of(source)
        return bool(system.isfile(path))


def files_in(folder: Path) -> list[Path] | None:
    """The content of a folder, sorted by name; None if there is no such folder.

    Raises:
        DataError: its location cannot be accessed.
    """
    with reaching(spelled(folder)):
        system, path = system_of(folder)
        return sorted(folder / Path(name).name for name in system.ls(path, False)) if system.isdir(path) else None


def matches(pattern: str) -> list[Path] | None:
    """The paths or addresses that a pattern with ``*``, ``?`` or ``[]`` matches, sorted; ``**`` stands for any folders.

    Returns:
        Those; None if it is no pattern.

    Raises:
        DataError: its location cannot be accessed.
    """
    if not _MAGIC.search(pattern):
        return None
    if address(pattern) is None:
        return sorted(Path(each) for each in glob.glob(pattern, recursive=True))
    with reaching(spelled(pattern)):
        system, path = system_of(pattern)
        return sorted(Path(system.unstrip_protocol(each)) for each in system.glob(path))


_CHANGES = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "last_commit", "modified")


def files_below(source: str) -> dict[str, tuple[str, str]]:
    """The files in a folder and in the folders in it, or those that a pattern with ``*`` matches.

    Files and folders whose names begin with ``.`` or ``_`` are left out: programs keep their notes in such.

    Returns:
        By the file's name below the folder (below the part of the pattern before its first ``*``), sorted: its path or
        address, and its size with what the file system says about its last change.

    Raises:
        DataError: there is none, the place cannot be accessed, or a link leads to no file.
    """
    with reaching(spelled(source)):
        system, path = system_of(source)
        if system.isfile(path):
            root, found = system._parent(path), {path: system.info(path)}
        elif system.isdir(path):
            root, found = path, system.find(path, detail=True)
        elif magic := _MAGIC.search(path):
            root, found = path[: magic.start()].rpartition("/")[0], system.glob(path, detail=True)
        else:
            raise DataError(f"There is no file or folder {source}.")
        named = {each[len(root) :].lstrip("/"): (each, told) for each, told in sorted(found.items())}
        shown = {
            name: _address_and_state(system, *told)
            for name, told in named.items()
            if told[1]["type"] != "directory" and not re.search(r"(^|/)[._]", name)
        }
        if not shown:
            raise DataError(f"There are no files in {source}.")
        return shown


def _address_and_state(system: Any, path: str, told: dict[str, Any]) -> tuple[str, str]:
    if not _is_local(system):
        changed = next((told[name] for name in _CHANGES if name in told), "")
        return system.unstrip_protocol(path), f"{told['size']} {changed}"
    if not os.path.isfile(path):
        raise DataError(f"{path} leads to no file: it is a link to a folder, or to nothing.")
    state = os.stat(path)
    return path, f"{state.st_size} {state.st_mtime_ns}"


def _is_local(system: Any) -> bool:
    return "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)


@contextmanager
def opened(source: str | Path | IO[Any], place: str) -> Iterator[Any]:
    """A file's bytes, decompressed; an open file stays open.

    Args:
        source: path, address or open file; an open text file gives its UTF-8 bytes.
        place: its name in messages.

    Raises:
        DataError: it cannot be opened or read.
    """
    with ExitStack() as stack, reaching(place, anything=isinstance(source, (str, Path)) and bool(address(source))):
        if not isinstance(source, (str, Path)):
            yield _Encoded(source) if isinstance(source.read(0), str) else source
            return
        file = stack.enter_context(stored(source))
        if packing := _packing(source):
            size = 0
            if file.seekable():
                size = file.seek(0, io.SEEK_END)
                file.seek(0)
            file = stack.enter_context(Unpacked(_PACKINGS[packing][0](file), size))
        yield file


def state_of(source: str | Path) -> tuple[str, int, object]:
    """A file's full name, its size in bytes, and a value that changes with its content."""
    system, path = system_of(source)
    return system.unstrip_protocol(path), system.size(path), system.checksum(path)


def stored(source: str | Path) -> io.BufferedReader:
    """A file's bytes as they are stored."""
    if (there := address(source)) is None:
        return Path(source).open("rb")
    system, path = system_of(there)
    return io.BufferedReader(system.open(path, "rb"))


@contextmanager
def packed(target: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file for writing, compressed as a name tells.

    Args:
        target: the file.
        name: its final name.
    """
    with target.open("wb") as file:
        if not (packing := _packing(name)):
            yield file
            return
        with _PACKINGS[packing][1](file) as inside:
            yield cast("IO[bytes]", inside)


@contextmanager
def reaching(place: str, *, anything: bool = True) -> Iterator[None]:
    """Turn the errors of a file into DataError; for a remote file all of them, as each system has its own."""
    try:
        yield
    except XmodularError:
        raise
    except FileNotFoundError:
        raise DataError(f"There is no file {place} (any more).") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except Exception as error:
        if not anything:
            raise
        raise DataError(f"{place} cannot be read: {in_one_line(error)}.") from error


def system_of(source: str | Path) -> tuple[Any, str]:
    """The file system of a path or an address, and the path in it; an error names the package that is missing."""
    import fsspec

    if (there := address(source)) is None:
        return fsspec.filesystem("file"), os.path.abspath(source)
    system, path = fsspec.core.url_to_fs(there)
    return system, str(path)


class _Encoded:
    """A text file as bytes. Unpaired surrogates become invalid UTF-8, so that they are noticed."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def readline(self, most: int = -1) -> bytes:
        text: str = self.file.readline(most)
        return text.encode("utf-8", "surrogatepass")

    def read(self) -> bytes:
        text: str = self.file.read()
        return text.encode("utf-8", "surrogatepass")


def name_of(file: IO[Any]) -> str:
    """The name of an open file in messages."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"<{'text' if isinstance(file, io.TextIOBase) else 'file'}>"
