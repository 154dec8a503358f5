"""Rows of Parquet files, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xmodular.errors import DataError
from xmodular.rows.classes import class_readers, named, without_class
from xmodular.rows.row import BadRows, Row

_ROWS_A_STEP = 256


def parquet_rows(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[Row]:
    """A row of Python values for each row; classes, as data sets on the Hub have them, become their names.

    Raises:
        DataError: it is not Parquet, or two columns have one name.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(file) as stored:
            names = stored.schema_arrow.names
            if twice := [name for name in names if names.count(name) > 1]:
                raise DataError(f"{place}: the column {twice[0]!r} is there twice.")
            readers = class_readers(features_of(stored.schema_arrow.metadata))
            for batch in _batches(stored):
                for values in values_of(batch):
                    number += 1
                    yield from rows_of(values, f"{place} row {number}", language, bad, readers)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{place} cannot be read as Parquet: {error}") from error


def parquet_schema(paths: Sequence[Path]) -> Any:
    """The Arrow schema that all of some Parquet files have; None where they differ."""
    from pyarrow import parquet

    first, *others = [parquet.read_schema(path) for path in paths]
    return first if all(first.equals(other) for other in others) else None


def parquet_tables(paths: Sequence[Path], left_out: Container[str], sizes: Iterable[int]) -> Iterator[Any]:
    """The rows of Parquet files as they are stored, in Arrow tables of given sizes.

    Args:
        paths: the files, of one schema.
        left_out: places of rows, as `parquet_rows` gives them, that are not wanted.
        sizes: how many rows each table is to have.

    Raises:
        DataError: there are not as many rows.
    """
    import pyarrow
    from pyarrow import parquet

    def wanted() -> Iterator[Any]:
        for path in paths:
            number = 0
            with parquet.ParquetFile(path) as stored:
                for batch in _batches(stored):
                    places = [f"{path} row {number + row}" for row in range(1, batch.num_rows + 1)]
                    number += batch.num_rows
                    yield pyarrow.Table.from_batches([batch]).filter([place not in left_out for place in places])

    tables = wanted()
    held = parquet.read_schema(paths[0]).empty_table()
    for size in sizes:
        while held.num_rows < size and (more := next(tables, None)) is not None:
            held = pyarrow.concat_tables([held, more])
        if held.num_rows < size:
            raise DataError(f"{paths[0].parent} has fewer rows than were read before: it has changed meanwhile.")
        yield held.slice(0, size)
        held = held.slice(size)


def _batches(stored: Any) -> Iterator[Any]:
    """A few rows at a time, each time of one row group: Arrow cannot join lists of categories over two."""
    for group in range(stored.num_row_groups):
        yield from stored.iter_batches(_ROWS_A_STEP, row_groups=[group])


def values_of(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; for one that cannot be had in Python, the reason."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):  # bytes that are not UTF-8, dates that Python does not have
        pass
    for index in range(batch.num_rows):
        values: dict[str, Any] = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                values[name] = column[index].as_py()
            except (ValueError, OverflowError) as error:
                wrong = "not UTF-8" if isinstance(error, UnicodeDecodeError) else f"no value of Python's ({error})"
                yield f"{name!r} is {wrong}"
                break
        else:
            yield values


def rows_of(
    values: dict[str, Any] | str, place: str, language: str | None, bad: BadRows, readers: Any
) -> Iterator[Row]:
    if isinstance(values, str):
        bad.report(place, values)
        return
    try:
        none = without_class(values, readers)
        values = named(values, readers)
    except ValueError as error:
        bad.report(place, str(error))
    else:
        yield Row(values, place, language, none)


def features_of(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """The columns' types as the library ``datasets`` notes them in a file; empty if another program wrote it."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}
