"""Guards of output folders: one process at a time, never over a source, and only over output of our own runs.

Temporary names begin with ``.xmodular-``. A process that is killed leaves some of them behind; the next process that
locks the same output cleans up (`held`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xmodular.addresses import address
from xmodular.errors import ConfigurationError, XmodularError

PREFIX = ".xmodular-"
NEW = f"{PREFIX}new"  # an incomplete output or, once it is in its place, the old one to be removed
OLD = f"{PREFIX}old"  # the old output, while the new one takes its place
READY = f"{PREFIX}ready"  # complete files on their way into their folder
LOCK = f"{PREFIX}lock"

WEIGHTS = re.compile(r"(pytorch_|adapter_)?model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")
_CONFIG = "config.json"
DONORS = "donors.json"  # which languages the run's new language started from
_OF_MODELS = {
    DONORS,
    *(_CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja", "sentencepiece.bpe.model", "vocab.txt", "vocab.json", "merges.txt"),
    *("README.md", "metrics.json", "options.json", "run.json", "log.jsonl", "certificate.json", "trim.json"),
    *("model.pt", "dict.txt"),  # in fairseq's format
    *("adapter_config.json", "xmod_config.json"),  # in PEFT's
}
RESULTS = (
    *("report.html", "results.md", "results.png", "results.svg", "matrix.png", "matrix.svg"),
    *("pairs.png", "pairs.svg", "predictions.jsonl"),
    "results.json",
)
# They identify a folder's content, so they come last.
_MARKS = {_CONFIG, "options.json", "results.json"}

_TRIES = 100  # to make a folder that another process removes meanwhile
_HELD: dict[Path, int] = {}  # places, and the threads that hold them


def beside(name: str, place: Path) -> Path:
    """The temporary paths next to an output while it is written."""
    return place.with_name(f"{name}-{place.name}")


@contextmanager
def held(output: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Lock an output against other processes and threads; first clean up what a killed process left there.

    The lock is a file next to the output, or inside it if only that folder is writable. It is released when the process
    ends in any way. In a run with several processes, the first one holds the lock for all.

    Args:
        output: a file or folder; it need not exist.
        wait: wait until it is free, instead of an error.

    Raises:
        ConfigurationError: another process or thread holds it, its folder cannot be created, or it is the root, or an
            address.
    """
    if there := address(output):
        raise ConfigurationError(
            f"{there} is an address, where only predict --engine writes: give a path on this machine."
        )
    place = Path(os.path.realpath(output))
    if _HELD.get(place) == threading.get_ident() or os.environ.get("RANK", "0") != "0":
        yield
        return
    if not place.name:
        raise ConfigurationError(f"{output} is the root folder: name a folder inside it.")
    made = [each for each in place.parents if not each.exists()]
    _make(place.parent, output)
    release = _lock(place, output, wait)
    _HELD[place] = threading.get_ident()
    try:
        _recover(place)
        yield
    finally:
        del _HELD[place]
        release()
        with suppress(OSError):  # stops at the first that is not empty
            for folder in made:
                folder.rmdir()


def _make(folder: Path, output: str | Path) -> None:
    """Make the folder of an output.

    Raises:
        ConfigurationError: it cannot be made.
    """
    for _ in range(_TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return
        except OSError as error:
            why = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror or error
            wrong = ConfigurationError(f"{output} cannot be created: {why}.")
            there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
            # The last holder of the lock may just have removed a folder that was only created for the lock.
            if not isinstance(error, (FileExistsError, FileNotFoundError)) or not there.is_dir():
                raise wrong from error
    raise wrong


def is_covered(path: Path) -> bool:
    """Whether this thread holds the lock of a folder that contains the path."""
    place = Path(os.path.realpath(path))
    return any(_HELD.get(each) == threading.get_ident() for each in place.parents)


def _lock(place: Path, output: str | Path, wait: bool) -> Callable[[], None]:
    """Lock a place; returns a function that releases it."""
    from filelock import FileLock, Timeout

    for path in (beside(LOCK, place), place / LOCK):
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            raise ConfigurationError(
                f"Another run is writing to {output}: wait until it has finished, or choose another output."
            ) from None
        except (OSError, NotImplementedError):  # not to be written to, or on a disk without locks
            continue

        def release(path: Path = path, lock: Any = lock) -> None:
            with suppress(OSError):  # while it is held, so that no other lock is removed; Windows removes it on release
                path.unlink()
            lock.release()

        return release
    return lambda: None


def _recover(place: Path) -> None:
    """Clean up after a killed process: the old output stays unless the new one is complete."""
    old = beside(OLD, place)
    if old.exists() and not place.exists():
        os.replace(old, place)  # it was killed between two renames
    for each in (old, beside(NEW, place), place / NEW):
        remove(each)
    if (place / READY).is_dir():
        finish(place)
    _recover_inner(place)


def _recover_inner(place: Path) -> None:
    """The same for the files and folders in a folder; those that another process holds are not touched."""
    for path in place.glob(f"{NEW}-*"):
        if not path.with_name(path.name.replace(NEW, LOCK, 1)).exists():  # its process held the whole folder
            remove(path)
    for path in place.glob(f"{LOCK}-*"):
        with suppress(ConfigurationError), held(place / path.name.removeprefix(f"{LOCK}-")):
            pass


def remove(path: Path) -> None:
    """Remove a file or folder of ours, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


def finish(folder: Path) -> None:
    """Move complete files into their folder, and remove the temporary ones."""
    move_ready(folder)
    os.replace(folder / READY, folder / NEW)
    remove(folder / NEW)


def move_ready(folder: Path) -> None:
    """Move complete files into their folder and remove those named in ``gone.json``, which itself is removed last.

    A temporary configuration comes first, then weights: loading looks for ``model.safetensors``
    before all other files, so once that is new, older shards are ignored.
    """
    ready = folder / READY
    if (ready / _CONFIG).is_file():
        os.replace(ready / _CONFIG, folder / _CONFIG)
    for path in sorted((ready / "new").iterdir(), key=lambda each: (each.name in _MARKS, not is_weights(each.name))):
        os.replace(path, folder / path.name)
    if (ready / "gone.json").is_file():
        for name in json.loads((ready / "gone.json").read_text(encoding="utf-8")):
            (folder / name).unlink(missing_ok=True)


def is_weights(name: str) -> bool:
    """Whether a file of that name contains a model's weights or their index."""
    return WEIGHTS.fullmatch(name) is not None


# ---------------------------------------------------------------- what may be replaced


def check_writable(folder: Path) -> None:
    """Check that a folder can be created, or written to, before there is work to lose.

    Raises:
        ConfigurationError: it cannot.
    """
    there = next((each for each in (folder, *folder.absolute().parents) if os.path.lexists(each)), Path("/"))
    if not there.is_dir():
        raise ConfigurationError(f"--output-dir {folder} cannot be created: {there} is a file, not a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"--output-dir {folder} cannot be created or written to: permission denied in {there}."
        )


def check_apart(output: Path, sources: Iterable[object], *, names: Callable[[str], bool] = lambda name: True) -> None:
    """Check that no file that is read would be replaced.

    Args:
        output: a file, or a folder.
        sources: files and folders that are read; others (names on the Hub, objects, None) are ignored.
        names: the names in the folder that the output replaces; default: all.

    Raises:
        ConfigurationError: the output is a source (by any path), or would replace one inside it.
    """
    place = Path(os.path.realpath(output))
    for source in sources:
        if not isinstance(source, (str, Path)) or not os.path.exists(source):
            continue
        read = Path(os.path.realpath(source))
        if read == place or (place.exists() and read.samefile(place)):
            raise ConfigurationError(f"{output} is the source {source} itself: choose another output.")
        for each in (read, *((Path(os.path.realpath(path)) for path in read.iterdir()) if read.is_dir() else ())):
            if each == place or (place in each.parents and names(each.relative_to(place).parts[0])):
                raise ConfigurationError(
                    f"{output} contains the source {source}, which would be replaced: choose another output."
                )


def check_replaceable(
    output: Path,
    what: str,
    is_ours: Callable[[Path], bool],
    names: Callable[[str], bool],
    *,
    overwrite: bool,
    error: type[XmodularError] = ConfigurationError,
) -> None:
    """Check that a folder may be created, in place of what is there.

    Args:
        output: the folder.
        what: what it will contain, such as "a model".
        is_ours: tells whether a folder contains such a thing written by our own runs.
        names: tells which of the names in a folder belong to such a thing.
        overwrite: whether it may be replaced.
        error: the class of error to raise.

    Raises:
        XmodularError: it is a file, or it is not empty and must not be replaced, or contains unknown files.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise error(f"{output} is a file; {what} needs a folder.")
    there = sorted(path.name for path in output.iterdir() if not path.name.startswith(PREFIX))
    if not there:
        return
    if not overwrite:
        raise error(f"{output} already exists. Choose another folder, or use --overwrite.")
    if not is_ours(output):
        raise error(f"{output} is not replaced: it contains no {what.split(' ', 1)[1]} written by xmodular.")
    if strange := [name for name in there if not names(name)]:
        shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        raise error(
            f"{output} is not replaced: {shown} {'is' if len(strange) == 1 else 'are'} not part of {what}. Move "
            f"{'it' if len(strange) == 1 else 'them'} away, or choose another folder."
        )


def check_model_folder(output: Path, *, overwrite: bool, sources: Iterable[object]) -> None:
    """Check that a model may be written to a folder, in place of an existing one.

    Raises:
        ConfigurationError: the folder contains a source, a file that is not part of a model, or, without `overwrite`,
            anything.
    """
    sources = list(sources)
    check_apart(output, sources)
    own = own_tokenizers(output)
    beside_sources = [Path(each) for each in sources if isinstance(each, (str, Path)) and Path(each).is_dir()]

    def known(name: str) -> bool:
        if name in _OF_MODELS or name in own or is_weights(name):
            return True
        # Files next to a model are copied too; identical bytes are not lost.
        return any(_same(output / name, folder / name) for folder in beside_sources)

    check_replaceable(output, "a model", _is_model, known, overwrite=overwrite)


def check_results_folder(output: Path, *, overwrite: bool, sources: Iterable[object]) -> None:
    """Check that results may be written into a folder, whose other files stay.

    Raises:
        ConfigurationError: a source is one of these files; or some exist and `overwrite` is False, or are not ours.
    """
    check_apart(output, (each for each in sources if not _is_folder(each)), names=RESULTS.__contains__)
    there = [name for name in RESULTS if (output / name).exists()]
    if there and not overwrite:
        raise ConfigurationError(f"{output} already has {there[-1]}. Choose another folder, or use --overwrite.")
    if there and "rows" not in table_in(output / "results.json"):
        raise ConfigurationError(
            f"{output} is not written to: its {there[-1]} was not written by xmodular and would be replaced."
        )


def is_of_run(name: str) -> bool:
    """Whether a training run replaces a file of that name in its folder."""
    return name in _OF_MODELS or is_weights(name) or name in ("checkpoints", "head", "seeds.json")


def is_run(folder: Path) -> bool:
    """Whether a training run of ours has written to a folder."""
    return "options" in table_in(folder / "run.json") or "seeds" in table_in(folder / "seeds.json") or _is_model(folder)


def own_tokenizers(folder: Path) -> set[str]:
    """Names of the tokenizer files of single languages, according to the model's configuration."""
    vocabularies = table_in(folder / _CONFIG).get("vocabularies")
    return {f"tokenizer.{code}.json" for code in vocabularies} if isinstance(vocabularies, dict) else set()


def table_in(path: Path) -> dict[str, Any]:
    """The table in a JSON file; empty if the file does not exist."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_model(folder: Path) -> bool:
    return table_in(folder / _CONFIG).get("model_type") == "xmod" or (
        (folder / "model.pt").is_file() and not (folder / _CONFIG).exists()
    )


def _is_folder(source: object) -> bool:
    return isinstance(source, (str, Path)) and os.path.isdir(source)


def _same(one: Path, other: Path) -> bool:
    if not (one.is_file() and other.is_file()) or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(1 << 20):
            if block != second.read(1 << 20):
                return False
    return True
