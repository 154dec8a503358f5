"""The verb `predict`: adds predictions to rows, in order; a killed run can be resumed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from xmodular.addresses import address, without_scheme
from xmodular.console import console, counted
from xmodular.errors import ConfigurationError, DataError
from xmodular.files import put, write_json
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EmbedOptions, PredictOptions, RowsOptions
from xmodular.outputs import check_apart
from xmodular.prediction.parts import (
    JOURNAL,
    OutputParts,
    bad_rows_of,
    discard,
    lines_in,
    read_journal,
    strangers_in,
    sync,
)
from xmodular.prediction.predictor import Predictor, settings_of
from xmodular.prediction.row_counts import counts_of, say_doubts, showing_speed
from xmodular.prediction.run_records import record_of_rows, record_of_run
from xmodular.prediction.shard_runs import predict_folder
from xmodular.prediction.windows import Work
from xmodular.rows import InMemory, files_in, is_file, kind_of, parquet_files, parquet_schema, parquet_tables
from xmodular.rows.writers import WRITTEN, bad_lines, read_lines, write_as, write_parquet, write_vectors
from xmodular.signatures import verb
from xmodular.tasks import given_model
from xmodular.tasks.precision_probe import ChosenPrecision

_MERGED = "rows.writing"  # the parts put together, until they have the output's name
_Rows = TypeVar("_Rows", bound=RowsOptions)


@dataclass(frozen=True)
class Predicted:
    """The result of a run of `predict`.

    Attributes:
        output: the file or folder of predictions, its address if it has one; None for standard output.
        rows: number of rows in it.
        bad: number of rows that could not be read.
        bad_rows: the file or folder with these rows; None if there are none, or if they went to standard error.
    """

    output: Path | str | None
    rows: int
    bad: int
    bad_rows: Path | None


def named_input(input: Any, name: str) -> str:
    """A path as text, and a name for rows."""
    return str(input) if isinstance(input, Path) else InMemory(f"<{name}>", input)


@verb(
    PredictOptions,
    "model",
    "input",
    "output",
    objects={"model": given_model},
    rows={"input": named_input},
    holds="locked",
)
def predict(options: PredictOptions, given: XmodPreTrainedModel | None) -> Predicted:
    """Add a model's predictions to the rows of a file.

    Args:
        model: a fine-tuned model, as an object, a folder or a name on the Hub.
        input: a file of rows, a .txt file (a text per line), a folder of Parquet files, "-" for JSON lines on standard
            input, or "hub:<data set>:<configuration>:<split>"; or the rows themselves, as for `finetune`. None where
            the option `text` has a single text instead. With `engine` a folder of files, or a pattern.
        output: .jsonl, .csv, .tsv or, of tags, .conll (all also .gz or .zst), or .parquet; "-" for JSON lines on
            standard output; with `shard_rows` a folder, with Parquet files if the input is Parquet; with `engine` a
            folder, with a file for each one of the input.

    Returns:
        The number of rows and their location.

    Raises:
        ConfigurationError, DataError, LanguageError: for invalid input; finished rows are kept.
    """
    if options.engine is not None:
        return Predicted(*predict_folder(options, given is not None, record_of_rows, _predict_shard))
    options = prepared(options, given, WRITTEN)
    predictor = Predictor(
        given if given is not None else options.model,
        options.tokenizer,
        **settings_of(options),
    )
    options.check_kind(predictor.task.kinds, f"{options.model} is a model for {predictor.task.name}")
    return add_columns(predictor, options, given)


def prepared(options: _Rows, given: XmodPreTrainedModel | None, formats: Sequence[str]) -> _Rows:
    """The options with the rows to read as `input`, checked before any work.

    Args:
        options: of a verb that adds columns to rows.
        given: the model, if it is an object.
        formats: those of the output.

    Raises:
        ConfigurationError, DataError: there is no input, or the output may not be written.
    """
    if options.text is not None:
        options = replace(options, input=InMemory("--text", [{"text": options.text}]), text=None)
    elif not isinstance(options.input, InMemory):
        options = replace(options, input=without_scheme(options.input))
    _check_places(options, given, formats)
    return options


def add_columns(predictor: Predictor, options: RowsOptions, given: XmodPreTrainedModel | None) -> Predicted:
    """Write the rows with what a predictor says of them; `options` are `prepared`."""
    if predictor.adapters.unknown:
        console.print(f"Cannot be identified, so name it in the rows: {', '.join(predictor.adapters.unknown)}")
    return _to_stdout(predictor, options) if options.output == "-" else _to_files(predictor, options, given)


def _predict_shard(predictor: Predictor, options: RowsOptions) -> Predicted:
    return _to_files(predictor, options, None)


def _is_whole(options: RowsOptions) -> bool:
    """Whether the output is one file, written at the end from its parts; otherwise the parts are the output."""
    return options.shard_rows is None or bool(parquet_files(options.input)) or isinstance(options, EmbedOptions)


def _to_files(predictor: Predictor, options: RowsOptions, given: XmodPreTrainedModel | None) -> Predicted:
    """Write rows part by part, continuing after the finished parts of an interrupted run."""
    if kind_of(options.output) == "conll" and "tags" not in predictor.columns:
        raise ConfigurationError(
            f"--output {options.output}: CoNLL is for words with tags, but {options.model} is a model for "
            f"{predictor.task.name}. Use .jsonl, .csv or .tsv."
        )
    output, whole = Path(options.output), _is_whole(options)
    run = record_of_run(options, given, predictor)
    parts = OutputParts(_beside(output) if whole else output, run, overwrite=options.overwrite)
    if parts.complete and not whole:
        raise ConfigurationError(f"{output} contains a finished run; --overwrite replaces it.")
    bad_rows = bad_rows_of(output) if whole else output
    if parts.complete and output.exists() and not (parts.folder / _MERGED).exists():
        # The run was killed when all that was left to do was to tidy up.
        journal = read_journal(parts.folder) or {}
        rows, bad = journal["rows"], journal["bad"]
        discard(parts.folder)
    else:
        for taken in (output, bad_rows):
            if not parts.count and whole and taken.exists() and not options.overwrite:
                raise ConfigurationError(f"{taken} already exists; --overwrite replaces it.")
        work = Work(predictor, options)
        try:
            _write_parts(work, parts, predictor, options.shard_rows)
            rows, bad = lines_in(parts.rows()), lines_in(parts.bad())
            if whole:
                _publish(parts, options, work, rows, bad)
            else:
                parts.finish(rows, bad)
        finally:
            parts.leave()
    console.print(f"Saved {counted(rows, 'row')} in {output}")
    if bad:
        console.print(f"{counted(bad, 'row')} could not be read; see {bad_rows} for the reasons")
    _say(predictor)
    return Predicted(output, rows, bad, bad_rows if bad else None)


def _beside(output: Path) -> Path:
    """Where the parts of a file are."""
    return output.with_name(f"{output.name}.parts")


def _check_places(options: RowsOptions, given: XmodPreTrainedModel | None, formats: Sequence[str]) -> None:
    """Check before any work that the input exists and that the output may be written.

    Raises:
        ConfigurationError: the output has no format, or is in the place of the model, of the input or of another file.
        DataError: there is no input.
    """
    source = None if isinstance(options.input, InMemory) else Path(options.input)
    output = Path(options.output)
    if options.shard_rows is not None and (options.output == "-" or kind_of(output) in (*WRITTEN, *formats)):
        raise ConfigurationError(f"With --shard-rows, --output is a folder; got {options.output!r}.")
    if options.output != "-":
        check_apart(output, [options.model if given is None else None, options.tokenizer])
        if source is not None:
            there, target = source.resolve(), output.resolve()
            if there in (target, bad_rows_of(target)) or target in there.parents:
                raise ConfigurationError(f"--output {target} would replace the input: choose another file.")
            if there.is_dir() and there in target.parents:
                raise ConfigurationError(f"--output {target} is in the folder of the input: choose another folder.")
        _check_output(options, output, formats)
    is_named = source is not None and options.input != "-" and not options.input.startswith("hub:")
    if is_named and not (Path(options.input).exists() or is_file(options.input)):
        if address(options.input) and files_in(Path(options.input)) is not None:
            engine = ", or give --engine" if isinstance(options, PredictOptions) else ""
            raise DataError(f"The input {options.input} is a folder at an address: name a file in it{engine}.")
        raise DataError(f"There is no input {options.input}.")


def _check_output(options: RowsOptions, output: Path, formats: Sequence[str]) -> None:
    """Check that the output has a format and may be written."""
    if options.shard_rows is None and kind_of(output) not in formats:
        suffixes = ", ".join(f".{format}" for format in formats)
        raise ConfigurationError(
            f"--output {options.output} must end in {suffixes}; all except .parquet may be followed by .gz or "
            ".zst; '-' is standard output, and with --shard-rows it is a folder."
        )
    if not _is_whole(options) or not output.exists() or (read_journal(_beside(output)) or {}).get("complete"):
        return
    if not options.overwrite:
        raise ConfigurationError(f"{output} already exists; --overwrite replaces it.")
    if options.shard_rows is not None:
        read_journal(output)  # raises an error if it is not a run
        _check_strangers(output)


def _check_strangers(output: Path) -> None:
    """Raises ConfigurationError if a folder to replace has files that no run has written."""
    if strangers := strangers_in(output):
        raise ConfigurationError(f"{output} also contains {', '.join(strangers)[:100]}: choose another folder.")


def _write_parts(work: Work, parts: OutputParts, predictor: Predictor, shard_rows: int | None) -> None:
    """Write the missing parts."""
    done = work.start(parts.lines())
    parts.begin()
    if parts.count:
        work.take_bad()  # they are in the parts that are there
        console.print(f"Continuing after {done:,} rows in {parts.folder}")
    if precision := parts.notes.get("precision"):
        predictor.settle(precision)
        console.print(f"Precision: {precision}, as for the rows before")
    full = 1 if shard_rows is None else shard_rows
    with showing_speed(predictor, work) as show:
        while True:
            with parts.open() as part:
                while part.rows < full and (window := work.window(None if shard_rows is None else full - part.rows)):
                    part.write(work.lines(window, show))
                    if "precision" not in parts.notes and (chosen := _settle(predictor)) is not None:
                        parts.note(precision=chosen.precision)
                bad = bad_lines(work.take_bad())
                if parts.count and not part.rows and not bad:
                    return
                parts.close(part, bad)


def _publish(parts: OutputParts, options: RowsOptions, work: Work, rows: int, bad_count: int) -> None:
    """Put the parts together in their place."""
    output = Path(options.output)
    bad_rows = bad_rows_of(output)
    merged, bad = parts.folder / _MERGED, parts.folder / "bad.writing"
    if options.shard_rows is not None:
        merged.mkdir()
        _write_parquet(parts, [merged / f"part-{number:05d}.parquet" for number in range(parts.count)], options, work)
        journal = read_journal(parts.folder) or {}
        write_json(merged / JOURNAL, {**journal, "complete": True, "rows": rows, "bad": bad_count})
    elif kind_of(output) == "parquet":
        _write_parquet(parts, [merged], options, work)
    elif (vectors := work.vectors) is not None:
        write_vectors(parts.rows(), merged, output.name, vectors)
    else:
        write_as(parts.rows(), merged, output.name, {} if rows else work.none(), work.tagged)
    sync(merged)
    if parts.bad():
        write_as(parts.bad(), bad, bad_rows.name, {})
        sync(bad)
        os.replace(bad, bad_rows)
    else:
        bad_rows.unlink(missing_ok=True)
    parts.finish(rows, bad_count)
    if merged.is_dir():
        if output.exists():
            _check_strangers(output)
        put(merged, output)
        discard(merged)  # a run before, if there was one
    else:
        os.replace(merged, output)
    discard(parts.folder)


def _write_parquet(parts: OutputParts, targets: list[Path], options: RowsOptions, work: Work) -> None:
    """Write the parts as Parquet; columns from Parquet files are copied from there, with their types."""
    stored = None
    if files := parquet_files(options.input):
        schema = parquet_schema(files)
        if schema is not None:
            left_out = {noted["place"] for path in parts.bad() for noted in read_lines(path)}
            stored = schema, parquet_tables(files, left_out, (lines_in([part]) for part in parts.rows()))
    none = {} if lines_in(parts.rows()) else work.none()
    write_parquet(parts.rows(), targets, none, stored, work.vectors)


def _to_stdout(predictor: Predictor, options: RowsOptions) -> Predicted:
    """Write rows to standard output as they are ready; bad ones are named on standard error.

    A reader that has enough and leaves, such as ``head``, ends the run.
    """
    work = Work(predictor, options)
    work.start(())
    out = sys.stdout.buffer
    with showing_speed(predictor, work) as show:
        while True:
            for noted in work.take_bad():
                console.print(f"{noted['place']}: {noted['reason']}")
            if not (window := work.window()):
                break
            made = work.lines(window, show)
            if work.rows == len(made):
                _settle(predictor)
            try:
                out.writelines(made)
                out.flush()
            except BrokenPipeError:
                # What is left in the buffer must not fail again when the process ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                break
    _say(predictor)
    return Predicted(None, work.rows, work.bad.count, None)


def _settle(predictor: Predictor) -> ChosenPrecision | None:
    """After the first window: say what ``--precision auto`` chose, and stay with it; None with another option."""
    if predictor.chosen is not None:
        predictor.settle(predictor.chosen.precision)
        console.print(f"Precision: {predictor.chosen}")
    return predictor.chosen


def _say(predictor: Predictor) -> None:
    default = predictor.adapters.default
    adapter = None if default is None else default.adapter
    say_doubts(counts_of(predictor), adapter, predictor.room.max_length)
