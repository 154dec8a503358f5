"""Rows in memory, as if from files: lists of mappings, tables, data sets, and other collections."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xmodular.errors import DataError, InputError
from xmodular.rows.classes import class_readers
from xmodular.rows.parquet import features_of, rows_of, values_of
from xmodular.rows.row import BadRows, DataRow, first_repeated

_ROWS_A_STEP = 256
_PLAIN = (str, int, float, bool, type(None))
_AS_ROWS = 'give a list of rows, such as [{"text": "..."}]'


class InMemory(str):
    """Rows in memory, used in place of a file name.

    Attributes:
        rows: a collection of rows, as for `memory_rows`.
    """

    rows: Any

    def __new__(cls, name: str, rows: Any) -> InMemory:
        made = super().__new__(cls, name)
        made.rows = rows
        return made


def sources_of(given: Any, name: str) -> list[str]:
    """The sources for a verb: names of files and data sets, and `InMemory` for rows.

    Args:
        given: a path, a list of paths, rows (see `memory_rows`), or a list of collections of rows.
        name: the name for rows, such as ``train``; they are then called ``<train>``, or ``<train 1>`` and so on.

    Raises:
        InputError: it is none of these, or one list mixes paths and rows.
    """
    if isinstance(given, (str, Path)):
        return [given if isinstance(given, str) else str(given)]
    if isinstance(given, (list, tuple)) and not given:
        return []
    parts = list(given) if isinstance(given, (list, tuple)) else []
    if parts and all(isinstance(each, (str, Path)) for each in parts):
        return [each if isinstance(each, str) else str(each) for each in parts]
    if parts and all(isinstance(each, (str, Path)) or _is_collection(each) for each in parts):
        named = [(f"<{name} {number}>", each) for number, each in enumerate(parts, start=1)]
        return [str(each) if isinstance(each, (str, Path)) else _held(each, own) for own, each in named]
    return [_held(given, f"<{name}>")]


def _held(rows: Any, name: str) -> InMemory:
    """Rows that can be read more than once: those of an iterator are kept as a list."""
    _check(rows, name)
    if isinstance(rows, Iterator):
        if hasattr(rows, "__arrow_c_stream__"):
            import pyarrow

            return InMemory(name, pyarrow.table(rows))
        return InMemory(name, list(rows))
    return InMemory(name, rows)


def _is_collection(value: Any) -> bool:
    """Whether a value holds rows, rather than being one."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], Mapping)
    if isinstance(value, (Mapping, tuple)) or _is_of(value, "pandas", "Series", "Index"):
        return False
    return _is_table(value) or hasattr(value, "features")


def hash_of_rows(source: InMemory) -> str:
    """The SHA-256 of the rows' values, in order."""
    digest = hashlib.sha256()
    for row in memory_rows(source.rows, BadRows(skip=True), f"{source} "):
        digest.update(json.dumps(row.values, default=repr).encode() + b"\n")
    return digest.hexdigest()


def memory_rows(rows: Any, bad: BadRows, place: str = "", *, texts: bool = False) -> Iterator[DataRow]:
    """The rows of a collection, in order.

    Args:
        rows: an iterable of mappings, such as a list or a generator; a table (of pandas, polars, pyarrow, or
            another library with Arrow's protocol); or a data set of ``datasets``, whose
            class numbers become names. NaN and the missing values of these libraries become None.
        bad: receives the bad rows.
        place: prefix of ``row <number>``, counted from 0, in messages.
        texts: whether a row may also be a text, a pair of texts (a tuple of two), or words (a list).

    Raises:
        InputError: it is not a collection of rows, has no order, or is ambiguous.
        DataError: a column appears twice or its name is not text; or a row is bad and `bad` does not skip it.
    """
    _check(rows, place.strip() or "rows")
    number = -1
    for number, (row, readers) in enumerate(_each(rows, place.strip() or "rows")):
        here = f"{place}row {number}"
        if isinstance(row, _Unread):
            bad.report(here, row)
            continue
        try:
            values = _columns(row, texts)
        except ValueError as error:
            if texts:
                raise InputError(f"{here} {error}.") from None
            bad.report(here, f"it {error}")
            continue
        yield from rows_of(values, here, None, bad, readers)


def _check(rows: Any, name: str) -> None:
    """Raises InputError if something is not a collection of rows, or is ambiguous."""
    if isinstance(rows, Mapping):
        raise InputError(f"{name} is {_kind_of_mapping(rows)}.")
    if isinstance(rows, (str, bytes, bytearray, memoryview)):
        raise InputError(f"{name} is one text ({rows!r:.60}): {_AS_ROWS}.")
    if isinstance(rows, Path):
        raise InputError(f"{name} is a path ({rows}), but rows are needed here; for files, use the verb `predict`.")
    if isinstance(rows, io.IOBase):
        raise InputError(f"{name} is an open file: give its path to the verb, or its lines as a list of texts.")
    if isinstance(rows, (set, frozenset)):
        raise InputError(f"{name} is a set, which has no order: {_AS_ROWS}.")
    if isinstance(rows, tuple) and len(rows) == 2 and all(isinstance(each, str) for each in rows):
        raise InputError(f"{name} is a tuple of two texts: give [(a, b)] for one pair, or [a, b] for two texts.")
    if isinstance(rows, np.ndarray) and rows.ndim == 0:
        raise InputError(f"{name} is an array of one value: {_AS_ROWS}.")
    if not (_is_table(rows) or isinstance(rows, Iterable) or hasattr(rows, "__getitem__")):
        raise InputError(f"{name} is a {type(rows).__name__}, which is not a collection of rows: {_AS_ROWS}.")


def _kind_of_mapping(rows: Mapping[Any, Any]) -> str:
    names = ", ".join(map(str, list(rows)[:9]))
    if rows and all(_is_table(each) or hasattr(each, "features") for each in rows.values()):
        return f"a dictionary of data sets ({names:.100}): give one of them"
    if rows and all(isinstance(each, (list, tuple, np.ndarray)) for each in rows.values()):
        return f"a dictionary of columns ({names:.100}), or one row of lists: {_AS_ROWS}, or a table"
    return f"one row ({dict(rows)!r:.60}): {_AS_ROWS}"


def _is_table(rows: Any) -> bool:
    return hasattr(rows, "__arrow_c_stream__") or hasattr(type(rows), "columns")


def _is_of(value: Any, library: str, *names: str) -> bool:
    """Whether a value is of one of a library's classes; nothing is imported, as then it would be already."""
    module = sys.modules.get(library)
    classes = tuple(each for name in names if isinstance(each := getattr(module, name, None), type))
    return isinstance(value, classes)


_Readers = Mapping[str, Callable[[Any], Any]]


class _Unread(str):
    """Why a row cannot be represented in Python."""


def _each(rows: Any, name: str) -> Iterator[tuple[Any, _Readers]]:
    """Each row with the functions that name its classes."""
    if _is_of(rows, "datasets", "Dataset", "IterableDataset"):
        readers = class_readers(rows.features.to_dict() if rows.features is not None else {})
        yield from ((row, readers) for row in _without_format(rows))
    elif _is_of(rows, "pandas", "DataFrame"):
        yield from ((row, {}) for row in _of_frame(rows, name))
    elif _is_of(rows, "pandas", "Series", "Index"):
        yield from ((row, {}) for row in rows.tolist())
    elif (batches := _batches(rows)) is not None:
        import pyarrow

        try:
            _check_names(batches.schema.names, name)
            readers = class_readers(features_of(batches.schema.metadata))
            for batch in batches:
                for row in values_of(batch):
                    yield (_Unread(row) if isinstance(row, str) else row), readers
        except pyarrow.ArrowException as error:
            raise DataError(f"{name} cannot be read: {error}") from error
    elif hasattr(rows, "to_pylist"):
        yield from ((row, {}) for row in rows.to_pylist())
    elif hasattr(type(rows), "columns"):
        raise InputError(f"{name} is a {type(rows).__name__}, a table of an unknown kind: give it in pandas or Arrow.")
    else:
        yield from ((row, {}) for row in rows)


def _without_format(data: Any) -> Any:
    """A data set whose rows are Python values; one with a user-defined transform returns its output."""
    kind = data.format["type"] if hasattr(data, "format") else None
    return data if kind == "custom" else data.with_format(None)


def _of_frame(frame: Any, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a table of pandas; its index is left out."""
    names = list(frame.columns)
    _check_names(names, name)
    for start in range(0, len(frame), _ROWS_A_STEP):
        part = frame.iloc[start : start + _ROWS_A_STEP]
        columns = [part.iloc[:, place].tolist() for place in range(len(names))]
        yield from (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _batches(rows: Any) -> Any:
    """Arrow batches of a table; None for anything else."""
    import pyarrow

    if hasattr(rows, "__arrow_c_stream__"):
        try:
            return pyarrow.RecordBatchReader.from_stream(rows)
        except (pyarrow.ArrowException, TypeError, ValueError):
            return None  # one column
    return None


def _check_names(names: Sequence[Any], place: str) -> None:
    """Raises DataError if columns have no names, or two have one."""
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"{place}: a column's name must be a text; one is {name!r:.60}.")
    if (twice := first_repeated(names)) is not None:
        raise DataError(f"{place}: the column {twice!r} appears twice.")


def _columns(row: Any, texts: bool) -> dict[str, Any]:
    """A row's values by column, as JSON would give them.

    Raises:
        ValueError: it is not a row.
    """
    if hasattr(row, "_asdict"):  # a named tuple
        row = row._asdict()
    elif _is_of(row, "pandas", "Series"):
        row = row.to_dict()
    elif hasattr(row, "keys") and not isinstance(row, Mapping):  # of a database
        row = {name: row[name] for name in row.keys()}  # noqa: SIM118 (iterating over it gives values)
    if isinstance(row, np.ndarray) and row.ndim == 1:
        row = row.tolist()
    if isinstance(row, Mapping):
        if wrong := [name for name in row if not isinstance(name, str)]:
            raise ValueError(f"has a column named {wrong[0]!r:.60}: names must be texts")
        return {str(name): None if _is_missing(value) else _plain(value) for name, value in row.items()}
    if not texts:
        raise ValueError(f'is {row!r:.60}: a row is a mapping of columns, such as {{"text": "..."}}')
    if isinstance(row, str):
        return {"text": str(row)}
    if isinstance(row, tuple) and len(row) == 2:
        return {"text1": _plain(row[0]), "text2": _plain(row[1])}
    if isinstance(row, list):
        return {"words": _plain(row)}
    raise ValueError(f"is {row!r:.60}: give a text, a pair (a tuple of two), a list of words, or a mapping")


def _is_missing(value: Any) -> bool:
    """Whether a cell is empty: NaN, or pandas' NA and NaT."""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")


def _plain(value: Any) -> Any:
    """A value in Python's own types, as far as it has one."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return str(value) if value.dtype.kind in "mM" else value.item()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
