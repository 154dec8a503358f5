"""Write files and folders atomically: they appear complete or not at all."""

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

_CONFIGS = ("config.json", "adapter_config.json")  # of a model, or an adapter of PEFT
_MASK = threading.Lock()  # two threads at once would leave the process with the wrong mask


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder inside a folder, on the same disk; it is removed at the end."""
    work = folder / NEW
    remove(work)
    work.mkdir()
    try:
        yield work
    finally:
        remove(work)


@contextmanager
def written_beside(target: Path, *, gone: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a new folder on the same disk; on success, its files replace those of the same name in `target`.

    Files are replaced once all new ones are complete. If that is interrupted, the next process that holds `target`
    finishes it.

    Args:
        target: the folder to fill, created if needed. Its other files stay.
        gone: names of files to remove unless they are written.

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
    """Yield a temporary path next to `path`, with its suffix; on success, the file written there becomes `path`.

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


def no_model_in(source: str | Path) -> str:
    """Why a folder or a file is not a model: it has no config.json; where models are in folders of it, names one."""
    below = sorted({path.parent for path in Path(source).glob("*/*config.json") if path.name in _CONFIGS})
    if below:
        has = "a model for each seed" if below[0].name.startswith("seed-") else "no model, but folders with models"
        return f"{source} contains {has}: choose one, such as {below[0]}."
    return f"{source} contains no model: it has no config.json."


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    write_text(path, json_text(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, atomically."""
    with written_file(path) as new:
        new.write_text(text, encoding="utf-8")


def json_text(content: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """`content` as JSON with a line end; NaN and infinite numbers, which JSON does not have, become null.

    Args:
        content: what to write.
        indent: spaces per level; None writes a single line.
        default: converts other objects to something JSON has, as for `json.dumps`.
    """
    text = json.dumps(content, ensure_ascii=False, default=default)
    plain = json.loads(text, parse_constant=lambda name: None)
    return json.dumps(plain, ensure_ascii=False, indent=indent) + "\n"


@contextmanager
def folder_beside(target: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield a new folder on the same disk; on success it becomes `target` as a whole, replacing what was there.

    Args:
        target: the folder to create; an existing one stays unchanged until the new one is complete.
        check: raises an error if the existing folder must not be replaced; called again just before replacing it.

    Raises:
        ConfigurationError: another process writes to `target`.
    """
    with held(target):
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
            remove(new)  # or the old content, if they were exchanged


def put(new: Path, target: Path) -> None:
    """Replace a folder by a complete new one, atomically if the system supports it."""
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
    """Exchange two names on a disk atomically; returns whether the system supports it."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    sys.audit("os.rename", str(one), str(other), -1, -1)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def let_read(paths: Iterable[Path]) -> None:
    """Give files the usual permissions of new files; the safetensors library makes them private."""
    with _MASK:
        mask = os.umask(0o077)  # it can only be read by setting it
        os.umask(mask)
    for path in paths:
        path.chmod(0o666 & ~mask)
