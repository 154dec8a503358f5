"""Checkpoints that are whole or not there: written in another place, sealed, then renamed.

A checkpoint's seal, ``complete.json``, lists its files with their sizes and is written last. Only a checkpoint whose
files are all there in those sizes is ever picked up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from xmodular.errors import TrainingError
from xmodular.outputs import remove, table_in

_SEAL = "complete.json"
STAGING = ".writing"  # where a checkpoint is while it is written, beside the others


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run, if there is one."""
    complete = [path for path in _checkpoints(output_dir / "checkpoints") if is_complete(path)]
    return max(complete, key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there as it was written."""
    try:
        sizes = json.loads((checkpoint / _SEAL).read_text(encoding="utf-8"))
        return bool(sizes) and all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def publish(staged: Path, target: Path, keep: int, best: int | None = None) -> None:
    """Seal a checkpoint, put it in its place, and remove the oldest ones.

    Args:
        staged: its folder, all files written.
        target: the folder it becomes.
        keep: how many stay, the newest; 0 keeps all.
        best: step of a checkpoint that stays besides.
    """
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    for path in files:
        _to_disk(path)
    seal = staged / _SEAL
    seal.write_text(json.dumps({str(path.relative_to(staged)): path.stat().st_size for path in files}, indent=2))
    _to_disk(seal)
    if target.exists():
        _remove(target)
    if target.exists():  # with files of somebody else's in it
        os.replace(target, target.with_name(f"other-{target.name}"))
    os.replace(staged, target)
    if keep:
        for old in sorted(_checkpoints(target.parent), key=checkpoint_step)[:-keep]:
            if checkpoint_step(old) != best:
                _remove(old)


@contextmanager
def saving(what: str, output_dir: Path) -> Iterator[None]:
    """Turn a failure to write into a `TrainingError` that says what is left.

    Args:
        what: what is written, for the message.
        output_dir: the run's folder.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
        last = last_checkpoint(output_dir)
        left = f"The last checkpoint, {last}, is intact" if last else "There is no earlier checkpoint"
        raise TrainingError(
            f"{what} could not be written to {output_dir}: {error}. {left}; make room and start the same command again."
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]


def _to_disk(path: Path) -> None:
    """Wait until a file is on the disk, so that the order of writing outlives a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_checkpoints(output_dir: Path) -> None:
    """Remove all checkpoints of a run, and what is left of half-written ones. Other files stay."""
    folder = output_dir / "checkpoints"
    remove(folder / STAGING)
    for checkpoint in _checkpoints(folder):
        _remove(checkpoint)
    with suppress(OSError):  # it is not there, or not empty
        folder.rmdir()


def _remove(checkpoint: Path) -> None:
    """Remove the files that a checkpoint's seal lists, and the seal last: what is half removed can be told by it."""
    for name in (*table_in(checkpoint / _SEAL), _SEAL):
        (checkpoint / name).unlink(missing_ok=True)
    folders = [path for path in checkpoint.rglob("*") if path.is_dir()]
    for folder in (*sorted(folders, reverse=True), checkpoint):
        with suppress(OSError):  # it has other files
            folder.rmdir()
