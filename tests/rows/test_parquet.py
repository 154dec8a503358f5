"""Parquet files, and the names of classes in them."""

import json
from datetime import date
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.rows.support import read, values
from xmodular.errors import DataError
from xmodular.rows import BadRows, read_rows


def write(path: Path, columns: dict[str, object], features: dict[str, object] | None = None) -> Path:
    table = pyarrow.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=300)
    return path


def test_rows_of_several_groups_with_their_values(tmp_path: Path):
    columns = {
        "id": list(range(1000)),
        "text": pyarrow.array([f"text {number} \x00😀\u200f" for number in range(1000)]).dictionary_encode(),
        "words": [["a", None], []] * 500,
        "answers": [{"text": ["x"], "answer_start": [number]} for number in range(1000)],
        "missing": [None] * 1000,
        "day": [date(2020, 1, 1)] * 1000,
    }
    rows, noted = read(write(tmp_path / "th_TH.parquet", columns))
    assert not noted
    assert [row.values["id"] for row in rows] == list(range(1000))
    assert rows[700].place == f"{tmp_path / 'th_TH.parquet'} row 701"
    assert rows[700].language == "th_TH"
    assert rows[701].values == {
        "id": 701,
        "text": "text 701 \x00😀\u200f",
        "words": [],
        "answers": {"text": ["x"], "answer_start": [701]},
        "missing": None,
        "day": date(2020, 1, 1),
    }


def test_classes_become_their_names(tmp_path: Path):
    label = {"names": ["no", "yes"], "_type": "ClassLabel"}
    features = {
        "label": label,
        "tags": {"feature": label, "_type": "List"},
        "old": {"feature": label, "_type": "Sequence"},
        "older": [label],
        "plain": {"dtype": "int64", "_type": "Value"},
    }
    columns = {
        "label": [1, 0, -1, None, 2, 1],
        "tags": [[0, 1], [], None, [-1, None], [0], [1, 5]],
        "old": [[1]] * 6,
        "older": [[0]] * 6,
        "plain": [1] * 6,
    }
    rows, noted = read(write(tmp_path / "a.parquet", columns, features))
    always = {"old": ["yes"], "older": ["no"], "plain": 1}
    assert [row.values for row in rows] == [
        {"label": "yes", "tags": ["no", "yes"], **always},
        {"label": "no", "tags": [], **always},
        {"label": None, "tags": None, **always},
        {"label": None, "tags": [None, None], **always},
    ]
    assert noted == [
        (f"{tmp_path / 'a.parquet'} row 5", "'label': 2 is none of the 2 classes no, yes"),
        (f"{tmp_path / 'a.parquet'} row 6", "'tags': 5 is none of the 2 classes no, yes"),
    ]


@pytest.mark.parametrize("features", [None, [], {"label": 3}, {"label": {"_type": "ClassLabel", "names": "x"}}])
def test_notes_of_other_programs_are_not_taken_for_classes(tmp_path: Path, features):
    assert values(write(tmp_path / "a.parquet", {"label": [1]}, features)) == [{"label": 1}]


def test_a_row_that_is_not_utf8_spoils_no_other(tmp_path: Path):
    broken = pyarrow.array([b"caf\xe9", b"fine"] * 3, pyarrow.binary()).view(pyarrow.string())
    rows, noted = read(write(tmp_path / "a.parquet", {"id": range(6), "text": broken}))
    assert [row.values for row in rows] == [{"id": number, "text": "fine"} for number in (1, 3, 5)]
    assert noted == [(f"{tmp_path / 'a.parquet'} row {number}", "'text' is not UTF-8") for number in (1, 3, 5)]


def test_files_that_are_wrong_as_a_whole(tmp_path: Path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a.parquet cannot be read as Parquet"):
        list(read_rows(path, BadRows(skip=True)))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a.parquet cannot be read as Parquet"):
        list(read_rows(path, BadRows(skip=True)))
    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    parquet.write_table(table, path)
    with pytest.raises(DataError, match=r"a.parquet: the column 'a' appears twice"):
        list(read_rows(path, BadRows(skip=True)))
    write(path, {"text": ["x" * 50] * 1000})
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)  # the first page
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.parquet cannot be read as Parquet"):
        list(read_rows(path, BadRows(skip=True)))
