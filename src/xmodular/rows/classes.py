"""Class numbers and their names, as stored by data sets on the Hub and their Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_NO_CLASS = -1


def class_readers(features: Mapping[str, Any]) -> dict[str, Callable[[Any], Any]]:
    """For each column of classes, or of lists of classes, the function from numbers to names.

    Args:
        features: the columns' types in the form of ``datasets.Features.to_dict``, which Parquet files contain as JSON.
    """
    readers: dict[str, Callable[[Any], Any]] = {}
    for column, feature in features.items():
        if (reader := _reader(feature)) is not None:
            readers[column] = reader
    return readers


def _reader(feature: Any) -> Callable[[Any], Any] | None:
    if isinstance(feature, list):
        inner = _reader(feature[0]) if len(feature) == 1 else None
    elif not isinstance(feature, Mapping):
        return None
    elif feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        return _namer(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
    elif feature.get("_type") in ("Sequence", "List", "LargeList"):
        inner = _reader(feature.get("feature"))
    else:
        return None
    return None if inner is None else lambda values: None if values is None else [inner(value) for value in values]


def _namer(names: list[str]) -> Callable[[Any], Any]:
    def name(value: Any) -> str | None:
        """The name of a class; None for no class, which is -1 by custom.

        Raises:
            ValueError: there is no such class.
        """
        if value is None or value == _NO_CLASS:
            return None
        if not isinstance(value, int) or not 0 <= value < len(names):
            raise ValueError(f"{value!r:.60} is none of the {len(names)} classes {', '.join(names):.100}")
        return names[value]

    return name


def without_class(values: Mapping[str, Any], readers: Mapping[str, Callable[[Any], Any]]) -> frozenset[str]:
    """The class columns in which a stored row has the number for "no class"."""
    return frozenset(column for column in readers if values.get(column) == _NO_CLASS)


def named(values: dict[str, Any], readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """A row with class names instead of numbers.

    Raises:
        ValueError: a number is not that of a class; names the column.
    """
    for column, reader in readers.items():
        try:
            values[column] = reader(values.get(column))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{column!r}: {error}") from None
    return values
