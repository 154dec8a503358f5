"""Which file is read how; streams; packed files; and that no record is ever lost."""

import csv
import gzip
import io
import json
import sys
import tracemalloc
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.rows.support import read, values
from xmodular.errors import DataError
from xmodular.rows import FORMATS, SUFFIXES, BadRows, format_of, half_surrogate, read_rows

EVERY = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CONTENT = {
    "jsonl": '{"text": "Grüße"}\n{"text": "日本"}\n',
    "json": '[{"text": "Grüße"}, {"text": "日本"}]',
    "csv": 'text\n"Grüße"\n日本\n',
    "tsv": "text\nGrüße\n日本\n",
    "conll": "Grüße\n\n日本\n",
    "txt": "Grüße\n\n日本\n",
    "conllu": "".join(f"1\t{word}" + "\t_" * 8 + "\n\n" for word in ("Grüße", "日本")),
}
ROWS = [{"text": "Grüße"}, {"text": "日本"}]
SENTENCES = [{"words": ["Grüße"]}, {"words": ["日本"]}]


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".parquet"])
def test_the_suffix_says_what_a_file_is(tmp_path: Path, suffix: str):
    kind = suffix.split(".")[1]
    content = CONTENT[kind].encode()
    for spelled in (suffix, suffix.upper(), suffix.title()):
        path = tmp_path / f"de_DE.test{spelled}"
        path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
        assert values(path) == (SENTENCES if "conll" in kind else ROWS)
    assert format_of(path) == format_of(str(path).upper()) == kind


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "parquet"])
def test_streams_of_bytes_and_text(kind: str, monkeypatch: pytest.MonkeyPatch):
    expected = SENTENCES if "conll" in kind else ROWS
    for stream in (io.BytesIO(CONTENT[kind].encode()), io.StringIO(CONTENT[kind])):
        assert values(stream, format=kind) == expected
        assert not stream.closed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENT[kind].encode()), "ascii"))
    rows, noted = read("-", format=kind)
    assert [row.values for row in rows] == expected
    assert not noted
    assert all(row.place.startswith("<stdin>") and row.language is None for row in rows)


def test_a_text_stream_may_hold_half_surrogates():
    rows, noted = read(io.StringIO('{"text": "\ud800"}\n{"text": "fine"}\n'))
    assert [row.values for row in rows] == [{"text": "fine"}]
    assert noted[0][1].startswith("not UTF-8")


def test_parquet_from_a_file_that_is_open(tmp_path: Path):
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "a.parquet")
    with (tmp_path / "a.parquet").open("rb") as file:
        assert values(file, format="parquet") == [{"text": "a"}]


def test_what_cannot_be_read_is_said_before_the_first_row(tmp_path: Path):
    def fails(source: Path | str, reason: str, **options: str) -> None:
        with pytest.raises(DataError, match=reason):
            read_rows(source, BadRows(skip=True), **options)

    fails(tmp_path / "absent.jsonl", "There is no file .*absent.jsonl")
    fails(tmp_path, "is a folder without Parquet files; name a file in it")
    (tmp_path / "a.xlsx").touch()
    fails(tmp_path / "a.xlsx", r"a.xlsx has an unknown suffix.* \.jsonl, \.json, \.csv, .*\.conllu\.gz")
    fails(tmp_path / "a.xlsx", "There is no format 'xlsx'; the formats are jsonl, json, csv", format="xlsx")
    assert values(tmp_path / "a.xlsx", format="csv") == []


@pytest.mark.parametrize(
    "content",
    [b"", b'{"text": "a"}\n', gzip.compress(b'{"text": "a"}\n' * 1000, mtime=0)[:-9]],
    ids=["empty", "not packed", "cut off"],
)
def test_damaged_packed_files_are_named(tmp_path: Path, content: bytes):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    if not content:
        assert values(path) == []
        return
    with pytest.raises(DataError, match=r"a.jsonl.gz cannot be read: "):
        list(read_rows(path, BadRows(skip=True)))


def test_a_file_that_must_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.jsonl"
    path.touch()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"a.jsonl cannot be read: Permission denied\.$"):
        list(read_rows(path, BadRows()))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "conll", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str):
    write: dict[str, Callable[[int], str]] = {
        "jsonl": lambda number: json.dumps({"text": f"row {number} " * 20}) + "\n",
        "csv": lambda number: f"row {number} " * 20 + ",x\n",
        "tsv": lambda number: f"row {number} " * 20 + '\t"x\n',
        "conll": lambda number: f"row{number}\tO\n" * 20 + "\n",
    }
    path = tmp_path / f"a.{kind}"
    count = 15_000
    if kind == "parquet":
        table = pyarrow.table({"text": [f"row {number} " * 20 for number in range(count)]})
        parquet.write_table(table, path, row_group_size=250)
    else:
        header = {"csv": "text,label\n", "tsv": "text\tlabel\n"}.get(kind, "")
        path.write_text(header + "".join(write[kind](number) for number in range(count)))
    bad = BadRows(skip=True)
    next(read_rows(path, bad))  # what is imported counts for nothing
    tracemalloc.start()
    read_count = sum(1 for _ in read_rows(path, bad))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (read_count, bad.count) == (count, 0)
    assert peak < 2**20  # files of 3 MB and more; other threads may allocate meanwhile


TEXTS = st.one_of(
    st.text(), st.sampled_from(["", " ", "\u200f", "\x00", "😀", "#", "-DOCSTART-", '"', "\u2028", "\x85"])
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@EVERY
@given(rows=st.lists(st.one_of(ANY_JSON, st.dictionaries(st.sampled_from(["id", "text"]), ANY_JSON)), max_size=6))
def test_json_values_are_rows_or_bad(tmp_path: Path, rows: list[object]):
    path = tmp_path / "a.jsonl"
    for ascii_only in (True, False):
        lines = [json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for row in rows]
        path.write_bytes(b"\n".join(lines))
        good, noted = read(path)
        places = [row.place for row in good] + [place for place, _ in noted]
        assert sorted(places) == sorted(f"{path}:{number}" for number in range(1, len(rows) + 1))
        expected = [row for row in rows if isinstance(row, dict) and half_surrogate({"": row}) is None]
        assert repr([row.values for row in good]) == repr(expected)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    good, noted = read(tmp_path / "a.json")
    assert len(good) + len(noted) == len(rows)


@EVERY
@given(lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=8))
@pytest.mark.parametrize("opening", [b"", b'{"text": "'])
def test_lines_of_any_bytes_are_rows_or_bad(tmp_path: Path, lines: list[bytes], opening: bytes):
    path = tmp_path / "a.jsonl"
    content = b"".join(opening + line + b"\n" for line in lines)
    path.write_bytes(content)
    good, noted = read(path)
    filled = [line for line in content.removeprefix(BOM_UTF8).split(b"\n") if line.strip()]
    assert len(good) + len(noted) == len(filled)


@EVERY
@given(records=st.lists(st.lists(TEXTS, min_size=2, max_size=3), max_size=6))
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_written_records_come_back_or_are_bad(tmp_path: Path, kind: str, records: list[list[str]]):
    if kind == "tsv":  # a text with tabs and line ends may look like several records
        records = [[value.replace("\n", " ").replace("\r", " ") for value in record] for record in records]
    path = tmp_path / f"a.{kind}"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="," if kind == "csv" else "\t", lineterminator="\r\n")
        writer.writerows([["a", "b"], *records])
    good, noted = read(path)
    assert [list(row.values.values()) for row in good] == [
        [value or None for value in record] for record in records if len(record) == 2
    ]
    assert len(noted) == sum(len(record) != 2 for record in records)


@EVERY
@given(
    content=st.lists(st.sampled_from([b"x", b"y z", b"\t", b'"', b"\xff", b"\r", b"\x00", b",", b"\n"]), max_size=40)
)
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_each_line_of_a_table_is_in_a_row_or_a_bad_one(tmp_path: Path, kind: str, content: list[bytes]):
    path = tmp_path / f"a.{kind}"
    path.write_bytes((b"a,b\n" if kind == "csv" else b"a\tb\n") + b"".join(content))
    good, noted = read(path)
    starts = [int(place.rpartition(":")[2]) for place in [row.place for row in good] + [place for place, _ in noted]]
    assert len(set(starts)) == len(starts)
    lines = b"".join(content).split(b"\n")
    filled = {number for number, line in enumerate(lines, start=2) if line.strip(b"\r")}
    if not any(b'"' in line for line in lines):
        assert set(starts) == filled
    elif filled:  # quotes join lines, but the first one begins a record
        assert min(filled) in starts


WORD = st.text(st.characters(exclude_characters="\n"), max_size=5)


@EVERY
@given(sentences=st.lists(st.lists(st.lists(WORD, min_size=1, max_size=3), min_size=1, max_size=4), max_size=5))
def test_sentences_are_rows_or_bad(tmp_path: Path, sentences: list[list[list[str]]]):
    path = tmp_path / "a.conll"
    lines = [["\t".join(["w", *columns]) for columns in sentence] for sentence in sentences]
    path.write_text("".join("\n".join(sentence) + "\n\n" for sentence in lines), encoding="utf-8", newline="")
    good, noted = read(path)
    assert len(good) + len(noted) == len(sentences)
    path = tmp_path / "a.conllu"
    lines = [["\t".join(["1", *columns]) for columns in sentence] for sentence in sentences]
    path.write_text("".join("\n".join(sentence) + "\n\n" for sentence in lines), encoding="utf-8", newline="")
    good, noted = read(path)
    assert len(good) + len(noted) == len(sentences)


@EVERY
@given(
    texts=st.lists(st.binary(max_size=4) | st.none(), min_size=1, max_size=8),
    labels=st.lists(st.integers(-3, 3), min_size=8, max_size=8),
)
def test_rows_of_parquet_are_rows_or_bad(tmp_path: Path, texts: list[bytes | None], labels: list[int]):
    path = tmp_path / "a.parquet"
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = pyarrow.table(
        {"text": pyarrow.array(texts, pyarrow.binary()).view(pyarrow.string()), "label": labels[: len(texts)]}
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path)
    good, noted = read(path)
    assert len(good) + len(noted) == len(texts)
    assert all(row.values["label"] in ("no", "yes", None) for row in good)
