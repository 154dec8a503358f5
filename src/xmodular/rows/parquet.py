"""Read rows of Parquet files, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from xmodular.errors import DataError
from xmodular.rows.classes import class_readers, named, without_class
from xmodular.rows.opening import stored
from xmodular.rows.row import BadRows, DataRow, first_repeated

_ROWS_A_STEP = 256
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
# A file can store a long text once with a count, so its size says nothing about its content.
_MOST_BYTES_A_STEP = 2**26  # of texts in memory at once, if there are several rows
_MOST_BYTES_A_ROW = 2**28
_MOST_UNPACKED = (2**26, 64)  # bytes of a row group, and times the size of the file
_MOST_INSIDE = (2**22, 2)  # values in a row group's lists, and values per byte of the file


def parquet_rows(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[DataRow]:
    """The rows as Python values; class numbers, as in data sets on the Hub, become names.

    Raises:
        DataError: it is not Parquet, two columns have the same name, or it claims an impossible amount of data.
    """
    import pyarrow

    number = 0
    try:
        with opened_parquet(file, place) as (content, schema):
            if (twice := first_repeated(schema.names)) is not None:
                raise DataError(f"{place}: the column {twice!r} appears twice.")
            readers = class_readers(features_of(schema.metadata))
            for batch in batches(content, place):
                for values in values_of(batch):
                    number += 1
                    yield from rows_of(values, f"{place} row {number}", language, bad, readers)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{place} cannot be read as Parquet: {error}") from error


def parquet_schema(paths: Sequence[Path]) -> Any:
    """The common Arrow schema of some Parquet files; None if they differ."""
    from pyarrow import parquet

    first, *others = [parquet.read_schema(path) for path in paths]
    return first if all(first.equals(other) for other in others) else None


def parquet_tables(paths: Sequence[Path], left_out: Container[str], sizes: Iterable[int]) -> Iterator[Any]:
    """The rows of Parquet files as stored, in Arrow tables of given sizes.

    Args:
        paths: the files, of one schema.
        left_out: locations of rows to leave out, as in `parquet_rows`.
        sizes: number of rows of each table.

    Raises:
        DataError: there are too few rows.
    """
    import pyarrow
    from pyarrow import parquet

    def wanted() -> Iterator[Any]:
        for path in paths:
            number = 0
            with opened_parquet(path, str(path)) as (content, schema):
                for batch in batches(content, str(path)):
                    places = [f"{path} row {number + row}" for row in range(1, batch.num_rows + 1)]
                    number += batch.num_rows
                    table = pyarrow.Table.from_batches([batch]).cast(schema)
                    wrong = [row for row, place in enumerate(places) if place in left_out]
                    # In slices: Arrow's filter knows no texts that are views.
                    for start, end in zip([0, *(row + 1 for row in wrong)], [*wrong, len(places)], strict=True):
                        yield table.slice(start, end - start)

    tables = wanted()
    held = parquet.read_schema(paths[0]).empty_table()
    for size in sizes:
        while held.num_rows < size and (more := next(tables, None)) is not None:
            held = pyarrow.concat_tables([held, more])
        if held.num_rows < size:
            raise DataError(f"{paths[0].parent} has fewer rows than were read before: it has changed in the meantime.")
        yield held.slice(0, size)
        held = held.slice(size)


@contextmanager
def opened_parquet(source: Any, place: str) -> Iterator[tuple[Any, Any]]:
    """Open a Parquet file for `batches`, with its schema; dictionary-encoded texts stay so.

    Args:
        source: path or open file.
        place: what to call it.

    Raises:
        DataError: its claimed content is far too large for its size.
    """
    from pyarrow import parquet

    with ExitStack() as stack:
        file = stack.enter_context(stored(source)) if isinstance(source, (str, Path)) else source
        size = file.seek(0, 2)
        file.seek(0)
        plain = stack.enter_context(parquet.ParquetFile(file))
        long = set()
        for index in range(plain.num_row_groups):
            group = plain.metadata.row_group(index)
            chunks = [group.column(number) for number in range(group.num_columns)]
            inside = [chunk.num_values for chunk in chunks if chunk.num_values > group.num_rows]
            for what, count, (least, times) in (
                ("bytes", sum(chunk.total_uncompressed_size for chunk in chunks), _MOST_UNPACKED),
                ("values in lists", sum(inside), _MOST_INSIDE),
            ):
                if count > least + times * size:
                    raise DataError(f"{place} has {size:,} bytes but claims {count:,} {what} in one row group.")
            long |= {
                chunk.path_in_schema
                for chunk in chunks
                if chunk.physical_type == "BYTE_ARRAY"
                and chunk.has_dictionary_page
                and chunk.total_uncompressed_size * _ROWS_A_STEP > _MOST_BYTES_A_STEP
            }
        schema = plain.schema_arrow
        if long:
            plain = stack.enter_context(parquet.ParquetFile(file, read_dictionary=sorted(long)))
        yield plain, schema


def batches(content: Any, place: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """A few rows at a time, never across row groups: Arrow cannot join lists of categories from two groups.

    Args:
        content: from `opened_parquet`.
        place: what to call it.
        columns: the columns to read; None: all.

    Raises:
        DataError: a row is too large.
    """
    for group in range(content.num_row_groups):
        for batch in content.iter_batches(_ROWS_A_STEP, row_groups=[group], columns=columns):
            yield from _parts(batch, place)


def _parts(batch: Any, place: str) -> Iterator[Any]:
    """A batch in parts whose texts do not fill the memory, however often a text stands in them."""
    size = sum(map(_bytes_in, batch.columns))
    if size <= _MOST_BYTES_A_STEP or (batch.num_rows == 1 and size <= _MOST_BYTES_A_ROW):
        yield batch
    elif batch.num_rows == 1:
        raise DataError(f"{place}: a row has texts of {size:,} bytes; at most {_MOST_BYTES_A_ROW:,} are allowed.")
    else:
        half = batch.num_rows // 2
        yield from _parts(batch.slice(0, half), place)
        yield from _parts(batch.slice(half), place)


def _bytes_in(column: Any) -> int:
    """Bytes of the texts that a column says once and names several times, with each time counted."""
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    if types.is_struct(kind):
        return sum(map(_bytes_in, column.flatten()))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        return _bytes_in(column.flatten()) if not types.is_map(kind) else _bytes_in(column.items)
    values = kind.value_type if types.is_dictionary(kind) else None
    if values is None or not any(getattr(types, f"is_{name}")(values) for name in TEXT_TYPES):
        return 0
    lengths = compute.binary_length(column.dictionary).cast(pyarrow.int64())
    return int(compute.sum(lengths.take(column.indices)).as_py() or 0)


def values_of(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; for a row that Python cannot represent, the reason."""
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
                wrong = "not UTF-8" if isinstance(error, UnicodeDecodeError) else f"not a value in Python ({error})"
                yield f"{name!r} is {wrong}"
                break
        else:
            yield values


def rows_of(
    values: dict[str, Any] | str, place: str, language: str | None, bad: BadRows, readers: Any
) -> Iterator[DataRow]:
    if isinstance(values, str):
        bad.report(place, values)
        return
    try:
        none = without_class(values, readers)
        values = named(values, readers)
    except ValueError as error:
        bad.report(place, str(error))
    else:
        yield DataRow(values, place, language, none)


def features_of(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """The columns' types as stored in a file by ``datasets``; empty if another program wrote it."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}
