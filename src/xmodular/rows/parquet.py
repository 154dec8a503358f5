"""Rows of Parquet files, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
            readers = class_readers(_features(stored.schema_arrow.metadata))
            for batch in stored.iter_batches(_ROWS_A_STEP):
                for values in _values(batch):
                    number += 1
                    yield from _row(values, f"{place} row {number}", language, bad, readers)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{place} cannot be read as Parquet: {error}") from error


def _values(batch: Any) -> Iterator[dict[str, Any] | str]:
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


def _row(values: dict[str, Any] | str, place: str, language: str | None, bad: BadRows, readers: Any) -> Iterator[Row]:
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


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """The columns' types as the library ``datasets`` notes them in a file; empty if another program wrote it."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}
