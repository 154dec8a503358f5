"""Rows in memory: every kind of collection gives the rows that a file of JSON lines gives, or is refused in words."""

from __future__ import annotations

import io
import json
import sqlite3
from collections import UserDict, namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmodular.errors import DataError, InputError
from xmodular.rows import BadRows, InMemory, hash_of_rows, memory_rows, read_rows, sources_of
from xmodular.tasks import TASKS
from xmodular.tasks.examples import examples

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")

Rows = Sequence[dict[str, Any]]


class Streams:
    """What a table of another library is like: it speaks Arrow's protocol, and iterating over it gives columns."""

    def __init__(self, rows: Rows) -> None:
        self._table = pyarrow.Table.from_pylist(list(rows))
        self.columns = self._table.column_names

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)

    def __iter__(self) -> Any:
        return iter(self._table.columns)


def table(rows: Rows) -> Any:
    return pyarrow.Table.from_pylist(list(rows))


def from_database(rows: Rows) -> Any:
    names = list(dict.fromkeys(name for row in rows for name in row))
    base = sqlite3.connect(":memory:")
    base.row_factory = sqlite3.Row
    base.execute(f"create table rows ({', '.join(names)})")
    values = [[row.get(name) for name in names] for row in rows]
    base.executemany(f"insert into rows values ({', '.join('?' * len(names))})", values)
    return base.execute("select * from rows")


def data_set(rows: Rows) -> datasets.Dataset:
    return datasets.Dataset.from_list(list(rows))


# All take rows of texts and numbers that have the same columns.
FLAT: dict[str, Callable[[Rows], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda rows: (row for row in rows),
    "mappings": lambda rows: [UserDict(row) for row in rows],
    "array of mappings": lambda rows: np.array([*rows, None], dtype=object)[:-1],
    "pandas": lambda rows: pandas.DataFrame(list(rows)),
    "pandas with an index": lambda rows: pandas.DataFrame(list(rows), index=[f"i{n}" for n in range(len(rows))]),
    "pandas rows": lambda rows: [row for _, row in pandas.DataFrame(list(rows), dtype=object).iterrows()],
    "pandas records": lambda rows: pandas.DataFrame(list(rows)).to_dict("records"),
    "named tuples": lambda rows: pandas.DataFrame(list(rows)).itertuples(index=False),
    "pyarrow": table,
    "pyarrow batch": lambda rows: table(rows).combine_chunks().to_batches()[0],
    "pyarrow reader": lambda rows: table(rows).to_reader(),
    "pyarrow structs": lambda rows: pyarrow.chunked_array([table(rows).to_struct_array().combine_chunks()]),
    "another library's table": Streams,
    "data set": data_set,
    "data set in a format": lambda rows: data_set(rows).with_format("numpy"),
    "streamed data set": lambda rows: data_set(rows).to_iterable_dataset(),
    "split": lambda rows: datasets.DatasetDict({"test": data_set(rows)})["test"],
    "view of a dictionary": lambda rows: dict(enumerate(rows)).values(),
}
ONLY_TEXTS: dict[str, Callable[[Rows], Any]] = {"database": from_database}
KINDS = {**FLAT, **ONLY_TEXTS}

ROWS: dict[str, Rows] = {
    "classify": [
        {"text": 'Ein Haus, "alt"', "label": "calm", "language": "de_DE"},
        {"text": "日本\nand more", "label": "glad", "language": None},
        {"text": "nan", "label": "None", "language": "en_XX"},
    ],
    "pairs": [
        {"premise": "A doctor.", "hypothesis": "A house.", "label": "calm"},
        {"premise": "x", "hypothesis": "['a', 'b']", "label": "sad"},
    ],
    "regress": [{"text": "A house.", "score": 0.5}, {"text": "Bread.", "score": -2.25}],
    "tag": [
        {"words": ["Anna", "opens", "it"], "tags": ["B-PER", "O", "O"]},
        {"words": ["Bread"], "tags": ["O"]},
    ],
    "qa": [
        {"question": "Who?", "context": "The doctor.", "answers": {"text": ["doctor"], "answer_start": [4]}},
        {
            "question": "?",
            "context": "An old house",
            "answers": {"text": ["house", "old"], "answer_start": [7, 3]},
        },
    ],
    "choice": [
        {"premise": "It rains.", "choices": ["wet", "dry"], "label": 0},
        {"premise": "Sun.", "choices": ["wet", "dry", "cold"], "label": 1},
    ],
}
TASK_OF = {"pairs": "classify"}
LISTS = ("tag", "qa", "choice")


def combinations() -> list[tuple[str, str]]:
    return [
        (kind, rows)
        for kind in KINDS
        for rows in ROWS
        if not (rows in LISTS and (kind in ONLY_TEXTS or kind == "named tuples"))
    ]


def in_turn() -> list[Any]:
    """All combinations; by default each kind of collection with one task, in turn, and the others where time is."""
    turns = {}
    for number, kind in enumerate(KINDS):
        tasks = [rows for each, rows in combinations() if each == kind]
        turns[kind] = tasks[number % len(tasks)]
    return [
        pytest.param(kind, rows, marks=() if turns[kind] == rows else pytest.mark.slow) for kind, rows in combinations()
    ]


def as_examples(rows: Any, task: str, gold: bool = True) -> list[Any]:
    """What a task makes of rows, without their places."""
    found = examples(TASKS[task], rows, BadRows(), gold=gold)
    return [(each.texts, each.gold, each.id, each.language) for each in found]


@pytest.mark.parametrize(("kind", "name"), combinations())
def test_every_collection_gives_what_a_file_gives(tmp_path: Path, kind: str, name: str) -> None:
    rows, task = ROWS[name], TASK_OF.get(name, name)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    expected = as_examples(read_rows(path, BadRows()), task)
    assert len(expected) == len(rows)
    assert as_examples(memory_rows(KINDS[kind](rows), BadRows()), task) == expected
    assert as_examples(read_rows(InMemory("<rows>", KINDS[kind](rows)), BadRows()), task) == expected


VALUES = st.fixed_dictionaries(
    {
        "text": st.text(st.characters(codec="utf-8"), max_size=12).filter(str.strip),
        "label": st.one_of(st.none(), st.sampled_from(["nan", "None", "NA", "calm", " glad", "[1]", "0"])),
        "id": st.integers(-(2**31), 2**31),
        "share": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        "language": st.one_of(st.none(), st.sampled_from(["de_DE", "sw"])),
    }
)


@pytest.mark.parametrize("kind", FLAT)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(VALUES, min_size=1, max_size=4))
def test_values_are_those_of_a_file(kind: str, rows: Rows) -> None:
    file = io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
    expected = [dict(row.values) for row in read_rows(file, BadRows())]
    found = [dict(row.values) for row in memory_rows(KINDS[kind](rows), BadRows())]
    # As text, which tells the types apart.
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


@pytest.mark.parametrize("kind", ["pandas", "pandas records", "data set", "pyarrow"])
def test_what_is_missing_is_absent(kind: str) -> None:
    rows = [{"text": "a", "label": "x", "n": 1}, {"text": "b", "label": None, "n": None}]
    found = [row.values for row in memory_rows(KINDS[kind](rows), BadRows())]
    assert found[1] == {"text": "b", "label": None, "n": None}
    assert found[0]["n"] == 1


def test_every_way_in_which_pandas_says_missing() -> None:
    frame = pandas.DataFrame(
        {
            "text": pandas.Series(["a", np.nan, None, pandas.NA], dtype=object),
            "number": pandas.array([1, None, 3, None], dtype="Int64"),
            "time": pandas.to_datetime(["2020-01-01", None, None, None]),
            "kind": pandas.Categorical(["x", None, "y", None]),
        }
    )
    found = [row.values for row in memory_rows(frame, BadRows())]
    assert [row["text"] for row in found] == ["a", None, None, None]
    assert [row["number"] for row in found] == [1, None, 3, None]
    assert [row["kind"] for row in found] == ["x", None, "y", None]
    assert [row["time"] is None for row in found] == [False, True, True, True]


def test_lists_of_pandas_and_numpy_are_lists() -> None:
    words = np.array(["Anna", "opens"], dtype=object)
    rows = pandas.DataFrame({"words": [words], "answers": [{"text": np.array(["x"]), "answer_start": np.array([3])}]})
    (found,) = memory_rows(rows, BadRows())
    assert found.values == {"words": ["Anna", "opens"], "answers": {"text": ["x"], "answer_start": [3]}}
    assert type(found.values["answers"]["answer_start"][0]) is int


def test_classes_become_names() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    for rows in (made, made.to_iterable_dataset(), made.with_format("numpy"), made.with_format("arrow")[:]):
        assert [row.values["label"] for row in memory_rows(rows, BadRows())] == ["yes", "no"]


def test_a_users_transform_is_what_is_read() -> None:
    made = datasets.Dataset.from_dict({"text": ["a", "b"]})
    made.set_transform(lambda batch: {"text": [text.upper() for text in batch["text"]]})
    assert [row.values["text"] for row in memory_rows(made, BadRows())] == ["A", "B"]


Pair = namedtuple("Pair", ["premise", "hypothesis"])
PLAIN = {
    "texts": (["a b", "c"], [{"text": "a b"}, {"text": "c"}]),
    "pairs": ([("a", "b")], [{"text1": "a", "text2": "b"}]),
    "named pairs": ([Pair("a", "b")], [{"premise": "a", "hypothesis": "b"}]),
    "words": ([["a", "b"], ["c"]], [{"words": ["a", "b"]}, {"words": ["c"]}]),
    "array of texts": (np.array(["a b", "c"]), [{"text": "a b"}, {"text": "c"}]),
    "column of pandas": (pandas.Series(["a b", "c"]), [{"text": "a b"}, {"text": "c"}]),
    "column of words": (pandas.Series([np.array(["a", "b"])]), [{"words": ["a", "b"]}]),
    "index of pandas": (pandas.Index(["a b", "c"]), [{"text": "a b"}, {"text": "c"}]),
    "array of pyarrow": (pyarrow.array(["a b", "c"]), [{"text": "a b"}, {"text": "c"}]),
    "column of pyarrow": (pyarrow.chunked_array([["a b"], ["c"]]), [{"text": "a b"}, {"text": "c"}]),
    "column of a data set": (datasets.Dataset.from_dict({"x": ["a b", "c"]})["x"], [{"text": "a b"}, {"text": "c"}]),
    "zip": (zip(["a"], ["b"], strict=True), [{"text1": "a", "text2": "b"}]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_rows_without_columns_are_read_where_they_are_expected(name: str) -> None:
    rows, expected = PLAIN[name]
    if name not in ("zip", "named pairs"):
        with pytest.raises(DataError, match=r"row 0: it is .*a row is a mapping of columns"):
            list(memory_rows(rows, BadRows()))
    assert [row.values for row in memory_rows(rows, BadRows(), texts=True)] == expected


FRAME = pandas.DataFrame({"text": ["a", "b"]})


class Lazy:
    """A table that must be computed first."""

    columns = ("text",)

    def __iter__(self) -> Any:
        return iter(self.columns)


REFUSED = {
    "text": ("a text", "is one text"),
    "bytes": (b"a text", "is one text"),
    "path": (Path("rows.jsonl"), "is a path"),
    "open file": (io.StringIO("a\nb\n"), "is an open file"),
    "open binary file": (io.BytesIO(b"a\nb\n"), "is an open file"),
    "set": ({"a", "b"}, "is a set, which has no order"),
    "one row": ({"text": "a"}, "is one row"),
    "dictionary of columns": ({"text": ["a", "b"], "label": ["x", "y"]}, "is a dictionary of columns"),
    "dictionary of data sets": (datasets.DatasetDict({"train": data_set([{"text": "a"}])}), r"data sets \(train\)"),
    "pair": (("a", "b"), "is a tuple of two texts"),
    "number": (7, "which is not a collection of rows"),
    "None": (None, "which is not a collection of rows"),
    "array of one": (np.array("a"), "is an array of one value"),
    "another library's lazy table": (Lazy(), "a table of an unknown kind"),
    "rows of bytes": ([b"abc"], "is b'abc'"),
    "rows of paths": ([Path("a")], "give a text"),
    "rows of numbers": ([7], "row 0 is 7: give a text"),
    "rows of nothing": ([None], "row 0 is None"),
    "rows of missing": (pandas.Series(["a", np.nan]), "row 1 is nan"),
    "rows of sets": ([{"a"}], "row 0 is {'a'}"),
    "rows of triples": ([("a", "b", "c")], "a pair"),
    "columns without names": ([{0: "a"}], "has a column named 0"),
    "pandas without names": (pandas.DataFrame([["a", "b"]]), "a column's name must be a text; one is 0"),
    "pandas with a column twice": (pandas.concat([FRAME, FRAME], axis=1), "the column 'text' appears twice"),
    "pyarrow with a column twice": (
        pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"]),
        "the column 'text' appears twice",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_misread_is_refused(name: str) -> None:
    rows, message = REFUSED[name]
    with pytest.raises((InputError, DataError), match=message):
        list(memory_rows(rows, BadRows(), texts=True))


WRONG_FIELDS = [
    ("classify", {"text": ["a", "b"]}),
    ("classify", {"text": Path("a.txt")}),
    ("classify", {"text": b"abc"}),
    ("classify", {"text": float("nan")}),
    ("classify", {"premise": "a", "hypothesis": ["b"]}),
    ("tag", {"words": "Anna opens it"}),
    ("tag", {"words": ["Anna", float("nan")]}),
    ("tag", {"words": [1, 2]}),
    ("tag", {"words": [["Anna"], ["opens"]]}),
    ("choice", {"premise": "a", "choices": "bc"}),
    ("qa", {"question": "a", "context": ["b"]}),
]


@pytest.mark.parametrize(("task", "row"), WRONG_FIELDS)
def test_texts_and_lists_are_not_taken_for_each_other(task: str, row: dict[str, Any]) -> None:
    for rows in ([row], pandas.DataFrame([row], dtype=object)):
        with pytest.raises(DataError, match="row 0"):
            as_examples(memory_rows(rows, BadRows()), task, gold=False)


def test_bad_rows_are_skipped_and_counted_where_asked() -> None:
    bad = BadRows(skip=True)
    found = list(memory_rows([{"text": "a"}, 7, {0: "b"}, {"text": "c"}], bad, "<train> "))
    assert [(row.values["text"], row.place) for row in found] == [("a", "<train> row 0"), ("c", "<train> row 3")]
    assert bad.count == 2


def test_a_long_table_keeps_its_order() -> None:
    texts = [f"text {number}" for number in range(1000)]
    for rows in (pandas.DataFrame({"text": texts}), table([{"text": text} for text in texts])):
        found = list(memory_rows(rows, BadRows()))
        assert [row.values["text"] for row in found] == texts
        assert found[-1].place == "row 999"


def test_sources_are_files_or_rows() -> None:
    rows = [{"text": "a"}]
    assert sources_of("a.jsonl", "train") == ["a.jsonl"]
    assert sources_of(Path("a.jsonl"), "train") == ["a.jsonl"]
    assert sources_of(["a.jsonl", Path("b.jsonl")], "train") == ["a.jsonl", "b.jsonl"]
    (one,) = sources_of(rows, "train")
    assert isinstance(one, InMemory)
    assert (one, one.rows) == ("<train>", rows)
    mixed = sources_of(["a.jsonl", FRAME, rows, data_set(rows)], "train")
    assert mixed == ["a.jsonl", "<train 2>", "<train 3>", "<train 4>"]
    assert isinstance(mixed[0], str)
    assert [isinstance(each, InMemory) for each in mixed] == [False, True, True, True]
    (once,) = sources_of((row for row in rows), "train")
    assert isinstance(once, InMemory)
    assert [list(memory_rows(once.rows, BadRows())) for _ in range(2)][1] != []  # it can be read again
    for wrong in ({"text": ["a"]}, 7, {"a"}, b"x"):
        with pytest.raises(InputError, match="train"):
            sources_of(wrong, "train")


def test_the_hash_is_of_values_and_order() -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    hashes = {kind: hash_of_rows(InMemory("<x>", make(rows))) for kind, make in FLAT.items()}
    assert len(set(hashes.values())) == 1
    changed = ([*reversed(rows)], rows[:1], [{**rows[0], "label": "z"}, rows[1]])
    assert hashes["list"] not in {hash_of_rows(InMemory("<x>", each)) for each in changed}


def test_tables_of_polars() -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed; a stand-in is tested above")
    frame = polars.DataFrame({"text": ["a b", "c"], "words": [["a", "b"], ["c"]], "label": ["x", None]})
    expected = [
        {"text": "a b", "words": ["a", "b"], "label": "x"},
        {"text": "c", "words": ["c"], "label": None},
    ]
    assert [row.values for row in memory_rows(frame, BadRows())] == expected
    assert [row.values for row in memory_rows(frame["text"], BadRows(), texts=True)] == [
        {"text": "a b"},
        {"text": "c"},
    ]
    with pytest.raises(InputError, match="a table of an unknown kind"):
        list(memory_rows(frame.lazy(), BadRows()))
