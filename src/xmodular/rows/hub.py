"""Rows of data sets on the Hub, or in a folder that ``datasets`` opens, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xmodular.errors import DataError
from xmodular.hub import hub_source
from xmodular.languages import filled
from xmodular.rows.classes import class_readers, named, without_class
from xmodular.rows.row import BadRows, Row


def hub_rows(source: str, bad: BadRows) -> Iterator[Row]:
    """The rows of ``hub:<data set>:<configuration>:<split>``; classes become their names.

    Args:
        source: the name, also as ``<data set>@<revision>``; configuration and split may be left out, or empty, where
            there is only one.
        bad: told of rows that are wrong.

    Raises:
        DataError: no such data set, configuration or split, or one of several must be chosen.
    """
    name, configuration, split = _parts(source)
    return _rows(source, name, configuration, split, bad)


def hub_sources(source: str, languages: Sequence[str]) -> dict[str, str]:
    """The sources of those languages for which the data set has a configuration, or a split.

    Args:
        source: as for `hub_rows`, with ``{language}`` or ``{subtag}`` in it. Where these stand in the data set's own
            name, it is not known beforehand what there is, and every language has a source.
        languages: their codes.

    Raises:
        DataError: no such data set, or it has none of the languages.
    """
    name, configuration, split = _parts(source)
    found = {code: filled(source, code) for code in languages}
    if "{" in name:
        return found
    import datasets

    name, where = hub_source(name)
    try:
        if configuration is not None and "{" in configuration:
            choosing, there = configuration, datasets.get_dataset_config_names(name, **where)
        else:
            choosing, there = split or "", datasets.get_dataset_split_names(name, configuration, **where)
    except Exception as error:  # network, formats: the library lets many classes through
        raise DataError(f"The data set {source} cannot be opened: {_in_one_line(error)}") from error
    wanted = {code: filled(choosing, code) for code in languages}
    if list(there) == ["default"]:  # which is also what the library knows of a cached data set without a network
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
        raise DataError(f"A data set is named hub:<data set>:<configuration>:<split>; not {source!r}.")
    configuration, split = (part or None for part in [*rest, "", ""][:2])
    return name, configuration, split


def _rows(source: str, name: str, configuration: str | None, split: str | None, bad: BadRows) -> Iterator[Row]:
    import datasets

    name, where = hub_source(name)
    try:
        data = datasets.load_dataset(name, configuration, split=split, streaming=True, **where)
    except Exception as error:  # network, formats: the library lets many classes through
        raise DataError(f"The data set {source} cannot be opened: {_in_one_line(error)}") from error
    if isinstance(data, dict):
        if len(data) != 1:
            there = ", ".join(f"hub:{name}:{configuration or ''}:{each}" for each in data)
            raise DataError(f"The data set {source} has several splits; name one: {there}.")
        (data,) = data.values()
    readers = class_readers(data.features.to_dict() if data.features is not None else {})
    rows = iter(data)
    number = 0
    while True:
        try:
            values: dict[str, Any] | None = next(rows, None)
        except Exception as error:
            raise DataError(
                f"Reading the data set {source} stopped after {number} rows: {_in_one_line(error)}"
            ) from error
        if values is None:
            return
        number += 1
        place = f"{source} row {number}"
        try:
            none = without_class(values, readers)
            values = named(values, readers)
        except ValueError as error:
            bad.report(place, str(error))
        else:
            yield Row(values, place, None, none)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
