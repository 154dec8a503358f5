"""Reading a file in tests."""

from pathlib import Path
from typing import Any

from xmodular.rows import BadRows, DataRow, read_rows


def read(path: Path | str, **options: Any) -> tuple[list[DataRow], list[tuple[str, str]]]:
    """All rows, and place and reason of all bad ones."""
    noted: list[tuple[str, str]] = []
    bad = BadRows(skip=True, told=lambda place, reason: noted.append((place, reason)))
    rows = list(read_rows(path, bad, **options))
    assert bad.count == len(noted)
    return rows, noted


def values(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    """What all rows hold; none may be bad."""
    rows, noted = read(path, **options)
    assert not noted
    return [dict(row.values) for row in rows]
