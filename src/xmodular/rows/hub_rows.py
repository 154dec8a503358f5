"""Rows of data sets on the Hub, or in a folder that ``datasets`` can open, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from xmodular.errors import DataError, in_one_line
from xmodular.hub import hub_source
from xmodular.languages import filled
from xmodular.rows.classes import class_readers
from xmodular.rows.parquet import rows_of
from xmodular.rows.row import BadRows, DataRow

_Row = TypeVar("_Row")


def hub_rows(source: str, bad: BadRows) -> Iterator[DataRow]:
    """The rows of ``hub:<data set>:<configuration>:<split>``, with class names instead of numbers.

    Args:
        source: the name, also as ``<data set>@<revision>``; configuration and split may be left out, or empty, if
            there is only one.
        bad: receives the bad rows.

    Raises:
        DataError: no such data set, configuration or split, or one of several must be chosen.
    """
    import datasets

    name, configuration, split = _parts(source)
    data = opened_data_set(name, source, datasets.load_dataset, configuration, split=split, streaming=True)
    if isinstance(data, dict):
        if len(data) != 1:
            there = ", ".join(f"hub:{name}:{configuration or ''}:{each}" for each in data)
            raise DataError(f"The data set {source} has several splits; choose one: {there}.")
        (data,) = data.values()
    readers = class_readers(data.features.to_dict() if data.features is not None else {})
    for number, values in enumerate(read_data_set(data, source), start=1):
        yield from rows_of(values, f"{source} row {number}", None, bad, readers)


def hub_sources(source: str, languages: Sequence[str]) -> dict[str, str]:
    """The sources of the languages for which the data set has a configuration or split.

    Args:
        source: as for `hub_rows`, with ``{language}`` or ``{subtag}`` in it. If these are part of the data set's own
            name, the available ones are not known in advance, and every language gets a source.
        languages: their codes.

    Raises:
        DataError: there is no such data set, or it has none of the languages.
    """
    name, configuration, split = _parts(source)
    found = {code: filled(source, code) for code in languages}
    if "{" in name:
        return found
    import datasets

    if configuration is not None and "{" in configuration:
        choosing, there = configuration, opened_data_set(name, source, datasets.get_dataset_config_names)
    else:
        choosing = split or ""
        there = opened_data_set(name, source, datasets.get_dataset_split_names, configuration)
    wanted = {code: filled(choosing, code) for code in languages}
    if list(there) == ["default"]:  # also reported by the library for a cached data set without a network
        return found
    if not set(wanted.values()) & set(there):
        raise DataError(
            f"The data set {source} has none of {', '.join(dict.fromkeys(wanted.values())):.200}; it has "
            f"{', '.join(map(str, there)):.200}. {{language}} is a code such as de_DE, {{subtag}} its first part."
        )
    return {code: own for code, own in found.items() if wanted[code] in there}


def _parts(source: str) -> tuple[str, str | None, str | None]:
    """Data set, configuration and split."""
    name, *rest = source.removeprefix("hub:").split(":")
    if not name or len(rest) > 2:
        raise DataError(f"A data set is named as hub:<data set>:<configuration>:<split>; got {source!r}.")
    configuration, split = (part or None for part in [*rest, "", ""][:2])
    return name, configuration, split


def opened_data_set(name: str, what: str, load: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function of ``datasets`` says of a data set, or opens of it.

    Args:
        name: repository on the Hub, also as ``<data set>@<revision>``, or a local folder.
        what: what to call it.
        load: the function; it gets the name, the revision, and what follows.

    Raises:
        DataError: there is no such thing.
    """
    name, where = hub_source(name)
    try:
        return load(name, *arguments, **options, **where)
    except Exception as error:  # network, formats: the library lets many classes through
        raise DataError(f"The data set {what} cannot be opened: {in_one_line(error)}") from error


def read_data_set(rows: Iterable[_Row], what: str, *, counted: bool = True) -> Iterator[_Row]:
    """Rows of a data set; or batches of them, which are not counted.

    Raises:
        DataError: they cannot be read.
    """
    done = 0
    try:
        for row in rows:
            yield row
            done += 1
    except DataError:
        raise
    except Exception as error:
        after = f" after {done} rows" if counted else ""
        raise DataError(f"Reading the data set {what} stopped{after}: {in_one_line(error)}") from error
