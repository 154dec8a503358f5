"""Files and folders that appear whole or not at all, and what is in them."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from xmodular.hub import on_hub
from xmodular.outputs import NEW, OLD, READY, beside, finish, held, is_covered, remove

_MASK = threading.Lock()  # two threads at once would leave the process with the wrong mask


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """Yield an empty folder in a folder, on the same disk, for what is not complete yet; it goes at the end."""
    work = folder / NEW
    remove(work)
    work.mkdir()
    try:
        yield work
    finally:
        remove(work)


@contextmanager
def written_beside(target: Path, *, gone: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a fresh folder on the same disk; on success, what lies in it replaces what has its name in `target`.

    All is replaced once the new files are complete: if that is interrupted by whatever, whoever holds `target` next
    finishes it.

    Args:
        target: the folder to fill; made if it is not there. Its other files stay.
        gone: names of files that go unless they are written.

    Raises:
        ConfigurationError: another process writes to `target`.
    """
    with held(target):
        target.mkdir(parents=True, exist_ok=True)
        with working_in(target) as work:
            new = work / "new"
            new.mkdir()
            yield new
            for path in new.iterdir():
                if (target / path.name).is_dir():
                    raise IsADirectoryError(errno.EISDIR, "a folder is where a file belongs", str(target / path.name))
            if names := [name for name in gone if not (new / name).exists()]:
                (work / "gone.json").write_text(json.dumps(names), encoding="utf-8")
            os.replace(work, target / READY)
            finish(target)


@contextmanager
def written_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`, with its suffix; on success the file that was written there becomes `path`.

    Raises:
        ConfigurationError: another process writes to `path`.
    """
    with nullcontext() if is_covered(path) else held(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = beside(NEW, path)
        try:
            yield new
            os.replace(new, path)
        finally:
            remove(new)


def is_missing_folder(source: str | Path) -> bool:
    """Whether a name can only be that of a folder which is not there, and no repository's (`owner/name`) on the Hub."""
    if Path(source).exists():
        return False
    path = Path(on_hub(source)[0])
    parts = path.parts
    return len(parts) > 2 or str(source).startswith((".", "~", "/")) or (len(parts) == 2 and path.parent.is_dir())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, beside and then renamed."""
    write_text(path, json_text(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, beside and then renamed."""
    with written_file(path) as new:
        new.write_text(text, encoding="utf-8")


def json_text(content: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """`content` as JSON with a line end; null stands for NaN and infinite numbers, for which JSON has no form.

    Args:
        content: what to write.
        indent: spaces a level; None writes one line.
        default: makes what JSON has no form for into what it has one for, as for `json.dumps`.
    """
    text = json.dumps(content, ensure_ascii=False, default=default)
    plain = json.loads(text, parse_constant=lambda name: None)
    return json.dumps(plain, ensure_ascii=False, indent=indent) + "\n"


@contextmanager
def folder_beside(target: Path, check: Callable[[], None] = lambda: None, *, wait: bool = False) -> Iterator[Path]:
    """Yield a fresh folder on the same disk; on success it becomes `target`, whole, in place of what was there.

    Args:
        target: the folder to make; what is there stays as it is until the new one is complete.
        check: raises where that may not be replaced; called again before it is.
        wait: until nobody else writes to `target`, instead of an error.

    Raises:
        ConfigurationError: another process writes to `target`.
    """
    with held(target, wait=wait):
        check()
        target = Path(os.path.realpath(target))
        new = beside(NEW, target)
        new.mkdir()
        try:
            yield new
            if target.exists():
                check()
            put(new, target)
        finally:
            remove(new)  # or what was there, if they changed places


def put(new: Path, target: Path) -> None:
    """Put a complete folder in the place of another, which goes: in one moment where the system can."""
    if not target.exists():
        os.replace(new, target)
    elif not _exchange(new, target):
        old = beside(OLD, target)
        os.replace(target, old)
        try:
            os.replace(new, target)
        except BaseException:
            os.replace(old, target)
            raise
        remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names on a disk change places, in one moment; whether the system could."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    sys.audit("os.rename", str(one), str(other), -1, -1)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, read a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def let_read(paths: Iterable[Path]) -> None:
    """Give files the permissions that any new file has here; the library of their format keeps them from others."""
    with _MASK:
        mask = os.umask(0o077)  # it is only told when it is set
        os.umask(mask)
    for path in paths:
        path.chmod(0o666 & ~mask)
