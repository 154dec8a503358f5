"""Files and folders that appear whole or not at all, and what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmodular.hub import on_hub


@contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """Yield a fresh folder on the same disk; on success, what lies in it replaces what has its name in `target`.

    Args:
        target: the folder to fill; made if it is not there. Its other files stay.
    """
    target.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=target))
    try:
        yield beside
        for path in sorted(beside.iterdir()):
            os.replace(path, target / path.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def is_missing_folder(source: str | Path) -> bool:
    """Whether a name can only be that of a folder which is not there, and no repository's (`owner/name`) on the Hub."""
    if Path(source).exists():
        return False
    path = Path(on_hub(source)[0])
    parts = path.parts
    return len(parts) > 2 or str(source).startswith((".", "~", "/")) or (len(parts) == 2 and path.parent.is_dir())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, beside and then renamed."""
    with written_beside(path.parent) as folder:
        (folder / path.name).write_text(json_text(content, indent=2), encoding="utf-8")


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
def folder_beside(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a fresh folder on the same disk; on success it becomes `target`, whole, in place of what was there.

    Args:
        target: the folder to make.
        overwrite: whether a folder may be there; it stays as it is until the new one is complete.

    Raises:
        FileExistsError: there is something at `target` already, and `overwrite` is False.
    """
    target = Path(os.path.abspath(target))
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    new, old = work / "new", work / "old"
    try:
        new.mkdir()
        yield new
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(work, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, read a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def let_read(paths: Iterable[Path]) -> None:
    """Give files the permissions that any new file has here; the library of their format keeps them from others."""
    paths = list(paths)
    if not paths:
        return
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=paths[0].parent) as folder:
        usual = Path(folder) / "new"
        usual.touch()
        mode = usual.stat().st_mode & 0o777
    for path in paths:
        path.chmod(mode)
