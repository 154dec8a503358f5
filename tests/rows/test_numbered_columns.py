"""Tables without a header: columns that are asked for by number."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmodular.errors import DataError
from xmodular.rows import BadRows, read_rows


@pytest.mark.parametrize(("name", "mark"), [("pairs.tsv", "\t"), ("pairs.csv", ",")])
def test_the_first_line_is_a_row(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    path.write_text(f"Good day.{mark}Guten Tag.\nYes.{mark}Ja.\n", encoding="utf-8")
    rows = [row.values for row in read_rows(path, BadRows(), columns=["1", "2"])]
    assert rows == [{"1": "Good day.", "2": "Guten Tag."}, {"1": "Yes.", "2": "Ja."}]
    assert [row.place for row in read_rows(path, BadRows(), columns=["2"])] == [f"{path}:1", f"{path}:2"]
    assert [list(row.values) for row in read_rows(path, BadRows())] == [["Good day.", "Guten Tag."]]


def test_a_header_of_numbers_is_a_header(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("0,1\na,b\n", encoding="utf-8")
    assert [row.values for row in read_rows(path, BadRows(), columns=["1"])] == [{"0": "a", "1": "b"}]


def test_a_line_of_another_width_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\nc\n", encoding="utf-8")
    with pytest.raises(DataError, match="1 field"):
        list(read_rows(path, BadRows(skip=False), columns=["1", "2"]))
