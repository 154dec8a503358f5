"""Atomic checkpoints: written to a temporary folder, sealed, then renamed.

A checkpoint's seal, ``complete.json``, lists its files with their sizes and checksums (CRC-32, which detects damage by
disks or copying, at reading speed) and is written last. Only a checkpoint whose files all have these
sizes is complete, and a run only continues from one whose checksums match too.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from xmodular.errors import TrainingError
from xmodular.outputs import remove, table_in

_SEAL = "complete.json"
STAGING = ".writing"  # a checkpoint while it is written, next to the others


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run, if there is one."""
    complete = [path for path in _checkpoints(output_dir / "checkpoints") if is_complete(path)]
    return max(complete, key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def intact_checkpoint(output_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest undamaged checkpoint of a run, if there is one.

    A checkpoint that names another as the best so far also needs that one, whose weights are saved at the end.

    Returns:
        The checkpoint, and a sentence for each newer one that is damaged.
    """
    said: list[str] = []
    for checkpoint in sorted(_checkpoints(output_dir / "checkpoints"), key=checkpoint_step, reverse=True):
        if not (checkpoint / _SEAL).is_file():
            continue  # half removed
        wrong = damage(checkpoint)
        if wrong is None and (best := _best(checkpoint)) is not None and (wrong := damage(best)) is not None:
            wrong = f"the best so far, {best.name}, is damaged: {wrong}"
        if wrong is None:
            return checkpoint, said
        said.append(f"{checkpoint} is damaged ({wrong}) and is skipped.")
    return None, said


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint exists with its original size."""
    return damage(checkpoint, read=False) is None


def damage(checkpoint: Path, *, read: bool = True) -> str | None:
    """The problem with a checkpoint; None if every file is unchanged. Without `read`, only sizes are compared."""
    try:
        seal = json.loads((checkpoint / _SEAL).read_text(encoding="utf-8"))
        for name, written in seal.items():
            size, checksum = (
                written if isinstance(written, list) else (written, None)
            )  # earlier versions only wrote sizes
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size or (read and checksum is not None and _checksum(path) != checksum):
                return f"{name} has changed since it was written"
        return None if seal else f"{_SEAL} is empty"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"it cannot be read: {error}"


def _best(checkpoint: Path) -> Path | None:
    """The other checkpoint that has the best weights so far."""
    step = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8")).get("best_global_step")
    return None if not step or step == checkpoint_step(checkpoint) else checkpoint.with_name(f"checkpoint-{step}")


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def publish(staged: Path, target: Path, keep: int, best: int | None = None) -> None:
    """Seal a checkpoint, move it to its place, and remove the oldest ones.

    Args:
        staged: its temporary folder, with all files written.
        target: its final folder.
        keep: how many to keep, the newest ones; 0 keeps all.
        best: step of a checkpoint to keep in addition.
    """
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    for path in files:
        _to_disk(path)
    seal = staged / _SEAL
    content = {str(path.relative_to(staged)): [path.stat().st_size, _checksum(path)] for path in files}
    seal.write_text(json.dumps(content, indent=2))
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
    """Turn a failed write into a `TrainingError` that says which checkpoint is left.

    Args:
        what: what is being written, for the message.
        output_dir: the run's folder.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
        last = last_checkpoint(output_dir)
        left = f"The last checkpoint, {last}, is intact" if last else "There is no earlier checkpoint"
        raise TrainingError(
            f"{what} could not be written to {output_dir}: {error}. {left}; free some space and run the same command "
            "again."
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]


def _to_disk(path: Path) -> None:
    """Wait until a file is on the disk, so that the order of writing outlives a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_checkpoints(output_dir: Path) -> None:
    """Remove all checkpoints of a run, including incomplete ones. Other files stay."""
    folder = output_dir / "checkpoints"
    remove(folder / STAGING)
    for checkpoint in _checkpoints(folder):
        _remove(checkpoint)
    with suppress(OSError):  # it is not there, or not empty
        folder.rmdir()


def _remove(checkpoint: Path) -> None:
    """Remove the files listed in a checkpoint's seal, and the seal last: it shows what was being removed."""
    for name in (*table_in(checkpoint / _SEAL), _SEAL):
        (checkpoint / name).unlink(missing_ok=True)
    folders = [path for path in checkpoint.rglob("*") if path.is_dir()]
    for folder in (*sorted(folders, reverse=True), checkpoint):
        with suppress(OSError):  # it has other files
            folder.rmdir()
