"""A run over many files: what is asked for is compared with the run before, the rest goes to the workers of an engine.

In the folder of the output, ``_predict`` holds all that is not output: ``run.json`` (what was asked for, and the sums
at the end), ``done/<shard>.json`` (a note for each finished shard), ``bad/<shard>.jsonl`` (rows that could not be read)
and ``work`` (what is unfinished).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmodular.addresses import address, without_scheme
from xmodular.configuration import read_config
from xmodular.console import console, counted
from xmodular.errors import ConfigurationError, DataError, XmodularError, listed
from xmodular.hub import on_hub
from xmodular.options import PredictOptions
from xmodular.outputs import check_apart
from xmodular.prediction.engines import ENGINES, ray_package
from xmodular.prediction.parts import differences
from xmodular.prediction.row_counts import say_doubts, speed, sums
from xmodular.prediction.shard_folder import NOTES, ShardFolder
from xmodular.prediction.shard_worker import PredictFile, ShardWorker
from xmodular.prediction.shards import Shard, shards_of
from xmodular.rows import kind_of
from xmodular.rows.writers import WRITTEN

_SAY_EVERY = 60  # seconds
_SHOWN = 5  # files in a message


def predict_folder(
    options: PredictOptions,
    is_object: bool,
    asked: Callable[[PredictOptions, str | None], dict[str, Any]],
    predict_file: PredictFile,
) -> tuple[Path | str, int, int, Path | None]:
    """Predict all files of the input, each into a file of its own, by the workers of an engine.

    Args:
        options: of the run.
        is_object: whether the model is an object.
        asked: what predictions depend on, as JSON values: of the options, and of the model's commit on the Hub.
        predict_file: `predict` for one file.

    Returns:
        The folder of the output, its rows, the rows that could not be read, and the folder with these.
    """
    if is_object:
        raise ConfigurationError("With engine, every worker loads the model: give its folder or its name on the Hub.")
    options = _located(options)
    model, commit = _pinned(options.model)
    made_with = asked(options, commit)
    del made_with["input"]  # more files may come
    total = predict_shards(replace(options, model=model), made_with, predict_file)
    place = options.place
    bad = Path(place, NOTES, "bad") if total["bad"] and not address(place) else None
    return (place if address(place) else Path(place)), total["rows"], total["bad"], bad


def _located(options: PredictOptions) -> PredictOptions:
    """The options with places that mean the same to every worker.

    Raises:
        ConfigurationError: the output would be written into the input or over the model, or has no format; or the
            package of the engine is missing.
    """
    if options.engine == "ray":
        ray_package()
    folder, _, pattern = options.output.rpartition("/")
    if "*" in folder or pattern.count("*") > 1 or ("*" in pattern and kind_of(pattern) not in WRITTEN):
        suffixes = ", ".join(f".{format}" for format in WRITTEN)
        raise ConfigurationError(
            f"--output {options.output}: its last part may have one *, in the place of the files' names, and ends in "
            f"{suffixes}, also with .gz or .zst (but for .parquet)."
        )
    own = {name: getattr(options, name) for name in ("model", "tokenizer", "input", "output")}
    for name, place in own.items():
        if place is not None and (name in ("input", "output") or Path(place).exists()) and not address(place):
            own[name] = str(Path(place).absolute())
        elif place is not None and name in ("input", "output"):
            own[name] = without_scheme(address(place) or place)
    found = replace(options, **own)
    if not address(found.place):
        check_apart(Path(found.place).resolve(), [options.model, options.tokenizer])
        if Path(found.place).is_file():
            raise ConfigurationError(f"--output {options.output} is a file: with --engine it is a folder.")
    before, star, after = found.input.partition("*")
    if (not star or "**" in star + after) and _is_below(found.place, before.rpartition("/")[0] if star else before):
        raise ConfigurationError(f"--output {options.output} is in the folder of the input: choose another folder.")
    return found


def _is_below(place: str, folder: str) -> bool:
    """Whether a path or an address is a folder, or something in it."""
    own, above = (each if address(each) else str(Path(each).resolve()) for each in (place, folder))
    return f"{own.rstrip('/')}/".startswith(f"{above.rstrip('/')}/")


def predict_shards(options: PredictOptions, asked: Mapping[str, Any], predict_file: PredictFile) -> dict[str, Any]:
    """Predict all files that are not finished.

    Args:
        options: of the run, with places that mean the same to every worker.
        asked: what the finished files must have been predicted with, as JSON values.
        predict_file: `predict` for one file.

    Returns:
        The sums of the notes of all files.

    Raises:
        ConfigurationError: the finished files were predicted otherwise, or from other files, and are not overwritten.
        DataError: files could not be predicted; all others are finished.
    """
    pattern = options.output.rpartition("/")[2]
    shards = shards_of(options.input, pattern if "*" in pattern else None)
    if inside := next((shard.source for shard in shards if _is_below(shard.source, options.place)), None):
        raise ConfigurationError(f"The input {inside} is in the folder of the output: choose another folder.")
    folder = ShardFolder(options.place)
    done = _finished(folder, shards, asked, overwrite=options.overwrite)
    waiting = [shard for shard in shards if shard.name not in done]
    folder.record({"complete": False, "run": asked})
    if done:
        console.print(f"Continuing: {len(done):,} of {counted(len(shards), 'file')} are finished in {options.place}")
    failed = _work_on(options, waiting, done, ShardWorker(options, predict_file))
    total = sums(done.values())
    say_doubts(total, options.default_language or "the default language")
    if failed:
        reasons = [f"{shard.source}: {str(error).splitlines()[0]}" for shard, error in failed]
        raise DataError(
            f"{len(failed):,} of {counted(len(shards), 'file')} are not finished; the same command continues."
            f"{listed(reasons, _SHOWN)}"
        )
    folder.record({"complete": True, "files": len(shards), **total, "run": asked})
    console.print(f"Saved {counted(total['rows'], 'row')} in {counted(len(shards), 'file')} in {options.place}")
    return total


def _finished(
    folder: ShardFolder, shards: list[Shard], asked: Mapping[str, Any], *, overwrite: bool
) -> dict[str, dict[str, Any]]:
    """The notes of the shards that are finished; without those of another run, which are removed if so asked."""
    before = folder.run()
    if before is not None and (before["run"] != asked or before["complete"]) and overwrite:
        folder.clear()
    elif before is not None and before["run"] != asked:
        raise ConfigurationError(
            f"{folder.place} contains another run; it differs in {differences(before['run'], asked)}. Give the same "
            "options to continue it, or --overwrite to start over."
        )
    notes = folder.finished()
    changed = [shard for shard in shards if shard.name in notes and notes[shard.name]["state"] != shard.state]
    if changed and not overwrite:
        raise ConfigurationError(
            f"{changed[0].source} has changed since it was predicted{_others(changed)}. Write new files under new "
            "names, or give --overwrite to predict changed files again."
        )
    for shard in changed:
        del notes[shard.name]
    return {shard.name: notes[shard.name] for shard in shards if shard.name in notes}


def _others(shards: list[Shard]) -> str:
    return f", and {len(shards) - 1:,} more files" if len(shards) > 1 else ""


def _work_on(
    options: PredictOptions, waiting: list[Shard], done: dict[str, dict[str, Any]], worker: ShardWorker
) -> list[tuple[Shard, XmodularError]]:
    """Have the waiting shards predicted, and add their notes; returns those that failed, with the reasons."""
    failed: list[tuple[Shard, XmodularError]] = []
    start = told = time.monotonic()
    rows = tokens = 0
    files = len(done) + len(waiting)
    for shard, answer in ENGINES[options.engine or "local"](worker, waiting, options):
        if isinstance(answer, DataError):
            failed.append((shard, answer))
            console.print(f"Not finished: {shard.source}: {str(answer).splitlines()[0]}")
        elif isinstance(answer, XmodularError):
            raise answer  # it would be the same for all others
        else:
            done[shard.name] = answer
            rows, tokens = rows + answer["rows"], tokens + answer["tokens"]
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            console.print(f"{len(done):,} of {counted(files, 'file')}, {speed(rows, tokens, start)}")
    if rows:
        console.print(f"Predicted {counted(rows, 'row')}, {speed(rows, tokens, start)}")
    return failed


def _pinned(model: str) -> tuple[str, str | None]:
    """A model's name with its commit on the Hub, so that all workers load the same; and the commit. A folder stays."""
    commit = getattr(read_config(model), "_commit_hash", None)
    name, revision = on_hub(model)
    return (model if commit is None or revision is not None else f"{name}@{commit}"), commit
