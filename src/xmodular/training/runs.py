"""A run's folder: checked before the work starts, complete when it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast, TrainingArguments

from xmodular.console import console, quiet_transformers, table
from xmodular.errors import ConfigurationError, first_of
from xmodular.files import write_json, written_beside
from xmodular.modeling import ParameterGroup, XmodPreTrainedModel
from xmodular.options import TrainingOptions, as_record
from xmodular.outputs import DONORS, check_apart, is_of_run, is_run, is_weights, own_tokenizers
from xmodular.saved_models import set_home
from xmodular.training.checkpoints import intact_checkpoint, remove_checkpoints
from xmodular.vocabulary import save_tokenizer

# Options that may differ between a run and its continuation: they leave the weights as they are.
_OF_NO_EFFECT = (
    "cache_dir",
    "dev_blocks",
    "eval_every",
    "keep_checkpoints",
    "log_every",
    "output_dir",
    "overwrite",
    "report_to",
    "resume",
    "save_every",
    "workers",
)
_NAMED = 8  # facts that differ


@dataclass(frozen=True)
class Run:
    """The result of a training verb.

    Attributes:
        model: the trained model, in evaluation mode.
        tokenizer: its tokenizer.
        output_dir: the folder they were saved to.
        metrics: the metrics, as in ``metrics.json``.
    """

    model: XmodPreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    output_dir: Path
    metrics: dict[str, Any]


# Files that show what a folder contains.
_MARKS = {"options.json": "a finished run", "config.json": "a model", "seeds.json": "the runs of several seeds"}


def check_claim(output_dir: Path, *, overwrite: bool) -> None:
    """Check that a run may write here.

    Raises:
        ConfigurationError: the folder is a file, has a finished run and `overwrite` is False, or has files that a
            run would replace and that no run of ours wrote.
    """
    if not output_dir.exists():
        return
    if not output_dir.is_dir():
        raise ConfigurationError(f"{output_dir} is a file; the output needs a folder.")
    for name, what in _MARKS.items():
        if (output_dir / name).is_file() and not overwrite:
            raise ConfigurationError(f"{output_dir} contains {what}. Choose another folder, or use --overwrite.")
    if not is_run(output_dir):
        for path in sorted(output_dir.iterdir()):
            if path.is_file() and is_of_run(path.name):
                raise ConfigurationError(
                    f"{output_dir} has a {path.name} that was not written by xmodular and would be replaced. "
                    "Choose another folder."
                )


def claim(output_dir: Path, *, overwrite: bool) -> None:
    """Check that a run may write here, create the folder, and remove an old run's checkpoints, log and model.

    Its mark is removed before its model, so that no mixture can look like a finished run. Other files stay.

    Raises:
        ConfigurationError: as for `check_claim`, or the folder cannot be created.
    """
    check_claim(output_dir, overwrite=overwrite)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"The folder {output_dir} cannot be created: {error.strerror or error}.") from error
    _wipe(output_dir, lambda name: name in _MARKS or name in ("log.jsonl", DONORS) or is_weights(name))


def clear(output_dir: Path) -> None:
    """Remove the files that a run wrote to a folder. Other files stay."""
    _wipe(output_dir, is_of_run)
    with suppress(OSError):  # it is not empty
        output_dir.rmdir()


def _wipe(output_dir: Path, names: Callable[[str], bool]) -> None:
    remove_checkpoints(output_dir)
    own = own_tokenizers(output_dir)
    found = [path for path in output_dir.iterdir() if path.is_file() and (path.name in own or names(path.name))]
    # Without its mark it is not a finished run; run.json, removed last, shows that it is a run at all.
    for path in sorted(found, key=lambda each: (each.name == "run.json", each.name not in _MARKS)):
        path.unlink()


def check_sources(options: TrainingOptions, output_dir: Path | None = None) -> None:
    """Check that a run would not replace a file or folder that it reads.

    Args:
        options: of the run.
        output_dir: the folder to check; default: the run's.

    Raises:
        ConfigurationError: it would.
    """
    sources: list[object] = []
    for name in ("model", "tokenizer", "text", "dev_text", "parallel", "train", "dev"):
        given = getattr(options, name, None)
        sources += given if isinstance(given, tuple) else [given]
    check_apart(output_dir or options.output_dir, sources, names=is_of_run)


@dataclass(frozen=True)
class Start:
    """How a run starts.

    Attributes:
        goes_on: whether it continues an unfinished run (or a finished one, with `resume`).
        checkpoint: the checkpoint to continue from; None: start at the first step.
        changed: whether part of it was done with other options, data or processes.
    """

    goes_on: bool
    checkpoint: Path | None
    changed: bool = False

    @property
    def said(self) -> str:
        """A description of where it starts."""
        return (
            f"Continuing from {self.checkpoint}" if self.checkpoint else "There is no checkpoint: starting at step 1."
        )


def begin(
    options: TrainingOptions,
    arguments: TrainingArguments,
    data: Mapping[str, Any],
    *,
    decisive: Sequence[str] = (),
    inner: str | None = None,
) -> Start:
    """Claim a run's folder, or find the unfinished run of the same options and data in it.

    ``run.json`` records the options of a run, and checksums of what it reads; a finished run has
    ``options.json`` too. A run that stopped before its first log entry has no ``log.jsonl``: it is replaced, with any
    options. With `overwrite`, a run always starts over.

    Args:
        options: of the run.
        arguments: made from the options; only the first process replaces files and prints messages.
        data: JSON facts about everything that is read: texts or rows, the base, a tokenizer.
        decisive: options that affect the outcome of this run, but not of other kinds of runs.
        inner: name of the folder of a run that belongs to this one; if this one starts over, so does that.

    Raises:
        ConfigurationError: the folder is a file, has a finished run, or an unfinished one with other options or data.
    """
    first = arguments.process_index == 0
    with arguments.main_process_first(local=False, desc="the run's folder"):
        start = _begin(options, arguments.world_size, data, decisive, first)
        if inner is not None and first and not start.goes_on and (options.output_dir / inner / "run.json").is_file():
            clear(options.output_dir / inner)
    return start


def _begin(
    options: TrainingOptions, processes: int, data: Mapping[str, Any], decisive: Sequence[str], first: bool
) -> Start:
    folder = options.output_dir
    record = {"options": as_record(options), "processes": processes, "data": data}
    path = folder / "run.json"
    finished = (folder / "options.json").is_file()
    known = _read_record(path)
    if options.overwrite and first:
        return _afresh(options, record)
    if options.resume and (finished or known):
        differences = _differences(known or {}, record, decisive)
        start = _going_on(folder, known, first)
        changed = start.changed or (start.checkpoint is not None and bool(differences or known is None))
        if first:
            for line in differences:
                console.print(f"Continuing despite a difference: {line}.")
            if known is None or differences:
                write_json(path, {**(known or {}), **record, **({"changed": True} if changed else {})})
        return Start(True, start.checkpoint, changed)
    if known and not finished:
        differences = _differences(known, record, decisive)
        if not differences:
            return _going_on(folder, known, first)
        if (folder / "log.jsonl").is_file():
            raise ConfigurationError(
                f"{folder} contains an unfinished run with other options: {'; '.join(differences)}. Choose another "
                "folder, start over with --overwrite, or continue anyway with --resume."
            )
    return _afresh(options, record)


def _afresh(options: TrainingOptions, record: Mapping[str, Any]) -> Start:
    """Claim the folder for a run that starts at its first step."""
    folder = options.output_dir
    claim(folder, overwrite=options.overwrite)
    write_json(folder / "run.json", record)
    return Start(False, None)


def _going_on(folder: Path, known: Mapping[str, Any] | None, first: bool) -> Start:
    """Where a run continues; damaged checkpoints are reported and skipped."""
    checkpoint, damaged = intact_checkpoint(folder)
    if first:
        for line in damaged:
            console.print(line)
    return Start(True, checkpoint, checkpoint is not None and bool((known or {}).get("changed", False)))


def is_finished(options: TrainingOptions, decisive: Sequence[str] = ()) -> bool:
    """Whether the run with these options is finished; `decisive` as for `begin`."""
    known = _read_record(options.output_dir / "run.json")
    if known is None or not (options.output_dir / "options.json").is_file():
        return False
    return not _differences({**known, "data": {}}, {**known, "data": {}, "options": as_record(options)}, decisive)


def check_made(options: TrainingOptions, arguments: TrainingArguments, start: Start, made: Mapping[str, Any]) -> Start:
    """Check that files a run created for itself, such as its tokenizer, have not changed; a new run records them.

    Args:
        options: of the run.
        arguments: made from the options; only the first process writes.
        start: how it starts.
        made: JSON facts.

    Returns:
        How the run starts: changed, if it continues with `resume` despite a difference.

    Raises:
        ConfigurationError: something differs.
    """
    path = options.output_dir / "run.json"
    record = _read_record(path) or {}
    before = record.get("made", made)
    changed = _changed(before, made)
    if changed and not options.resume:
        raise ConfigurationError(
            f"In {options.output_dir}, files created by the unfinished run have changed ({changed}): start over with "
            "--overwrite, or continue anyway with --resume."
        )
    changed_later = bool(changed) and start.checkpoint is not None
    if arguments.process_index == 0 and record.get("made") != made:
        if changed:
            console.print(f"Continuing although files created by the run have changed ({changed}).")
        write_json(path, {**record, "made": made, **({"changed": True} if changed_later else {})})
    return replace(start, changed=start.changed or changed_later)


def _read_record(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it is not a table")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}): choose another folder, or remove it.") from error
    return record


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], decisive: Sequence[str] = ()) -> list[str]:
    """What differs between two records that decides a run's outcome."""
    options = before.get("options", {})
    found = [
        f"{name} was {options[name]!r}, now {value!r}"
        for name, value in now["options"].items()
        if name in options and (name in decisive or name not in _OF_NO_EFFECT) and options[name] != value
    ]
    if before.get("processes", now["processes"]) != now["processes"]:
        found.append(f"there were {before['processes']} processes, now {now['processes']}")
    if "data" in before and (changed := _changed(before["data"], now["data"])):
        found.append(f"the data or the base have changed ({changed})")
    return found


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Names of the facts that differ, the first of them if there are many."""
    names = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
    return first_of(names, _NAMED)


def save_run(run: Run, options: TrainingOptions, *, more: Callable[[], None] = lambda: None) -> None:
    """Write model, tokenizer, ``metrics.json`` and ``options.json`` (last: it marks a finished run).

    Args:
        run: the run to write.
        options: of the run.
        more: writes further files of a finished run; called after the model is saved.
    """
    before = [path.name for path in run.output_dir.iterdir() if is_weights(path.name)]
    gone = [*before, *own_tokenizers(run.output_dir)]
    with written_beside(run.output_dir, gone=gone) as folder, quiet_transformers():
        run.model.save_pretrained(folder)
        save_tokenizer(run.tokenizer, folder, run.model.config)
    set_home(run.model, run.output_dir)
    write_json(run.output_dir / "metrics.json", run.metrics)
    more()
    write_json(run.output_dir / "options.json", as_record(options))


def print_trainable(groups: Sequence[ParameterGroup]) -> None:
    """Print each group's trainable and total parameters."""
    rows = [(group.name, f"{group.trainable:,}", f"{group.total:,}") for group in groups]
    shown = table("Parameters", ("part", "trainable", "of"), rows)
    trainable, total = (sum(counts) for counts in zip(*((g.trainable, g.total) for g in groups), strict=True))
    shown.add_row("all", f"{trainable:,}", f"{total:,}", style="bold")
    console.print(shown)
