"""CSV and TSV."""

import csv
from pathlib import Path

import pytest

from tests.conftest import DEVELOPMENT_DATA
from tests.rows.support import read, values
from xmodular.errors import DataError
from xmodular.rows import BadRows, read_rows


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_records_keep_their_texts_and_places(tmp_path: Path, suffix: str, separator: str):
    path = tmp_path / f"it_IT.test.{suffix}"
    text = 'id|text|label\r\n\r\n007|"two\nlines, ""quoted"""|\r\n \u200f1|\x00 x|0\n'
    path.write_text("\ufeff" + text.replace("|", separator), newline="")
    rows, noted = read(path)
    assert not noted
    assert [(row.values, row.place, row.language) for row in rows] == [
        ({"id": "007", "text": 'two\nlines, "quoted"', "label": None}, f"{path}:3", "it_IT"),
        ({"id": " \u200f1", "text": "\x00 x", "label": "0"}, f"{path}:5", "it_IT"),
    ]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_each_wrong_record_is_reported_and_spoils_no_other(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    lines = [b"a,b", b"1,2", b"1", b"3,4", b"1,2,3", b"5,6", b"1,caf\xe9", b"7,8", b'"x\ny,2', b'9,"10"', b'x"y,', b"1"]
    path.write_bytes(b"\n".join(lines).replace(b",", b"," if suffix == "csv" else b"\t"))
    rows, noted = read(path)
    good = [{"a": a, "b": b} for a, b in (("1", "2"), ("3", "4"), ("5", "6"), ("7", "8"))]
    if suffix == "csv":
        assert [row.values for row in rows] == [*good, {"a": 'x"y', "b": None}]
        assert noted == [
            (f"{path}:3", "1 field, but the header has 2 columns"),
            (f"{path}:5", "3 fields, but the header has 2 columns"),
            (f"{path}:7", "'b' is not UTF-8"),
            (f"{path}:9", "its quotes are not balanced (',' expected after '\"', in lines 9 to 11)"),
            (f"{path}:13", "1 field, but the header has 2 columns"),
        ]
    else:
        more = [{"a": "y", "b": "2"}, {"a": "9", "b": "10"}, {"a": 'x"y', "b": None}]
        assert [row.values for row in rows] == [*good, *more]
        assert [place for place, _ in noted] == [f"{path}:{number}" for number in (3, 5, 7, 9, 13)]


def test_tsv_without_quoting_is_taken_as_it_stands(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"No," he said\t0\n"Yes\t1\nno"\t2\n"all"\t3\nlast "one\t"4\n')
    assert values(path) == [
        {"text": '"No," he said', "label": "0"},
        {"text": '"Yes', "label": "1"},
        {"text": 'no"', "label": "2"},
        {"text": "all", "label": "3"},
        {"text": 'last "one', "label": '"4'},
    ]


def test_a_quote_that_is_never_closed_ends_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xmodular.rows.csv_rows._LARGEST_FIELD", 1000)
    before = csv.field_size_limit()
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n3,"4\n' + "5,6\n" * 500)
    rows, noted = read(path)
    assert len(noted) == 1
    assert noted[0][0] == f"{path}:3"
    assert "field larger than field limit" in noted[0][1]
    assert 200 < len(rows) < 300
    path.write_text('a\tb\n1\t2\n3\t"4\n' + "5\t6\n" * 500)
    path = path.rename(tmp_path / "a.tsv")
    assert len(values(path)) == 502
    assert csv.field_size_limit() == before


def test_long_fields(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "x" * 10**6 + ',"' + "y\n" * 10**6 + '"\n')
    assert [[len(value) for value in row.values()] for row in values(path)] == [[10**6, 2 * 10**6]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b,a\n1,2,3\n", "a.csv:1: the first line names the columns, but the column 'a' appears twice"),
        (b"a,\xff\n1,2\n", "the first line names the columns, but it is not UTF-8"),
        (b'a,"b\n1,2\n', "the first line names the columns, but its quotes are not balanced"),
    ],
)
def test_a_wrong_header_is_an_error(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        list(read_rows(path, BadRows(skip=True)))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", b"a,b\n", b"a,b"])
def test_no_records(tmp_path: Path, content: bytes):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert values(path) == []


@pytest.mark.skipif(not DEVELOPMENT_DATA.is_dir(), reason="development data (../shared/data) is not there")
def test_a_real_file_with_quotes_that_are_no_quoting():
    path = DEVELOPMENT_DATA / "tatoeba" / "de_DE.tsv"
    stored = path.read_text(encoding="utf-8").splitlines()
    assert sum('"' in line for line in stored) > 30
    found = values(path)
    assert len(found) == len(stored) - 1
    plain = [line for line in stored[1:] if not any(part[:1] == part[-1:] == '"' for part in line.split("\t"))]
    assert {"\t".join(row.values()) for row in found} >= set(plain)


@pytest.mark.parametrize(
    "content",
    [
        'text;label\r\n"a; b, c";1\r\nd,e;2\r\n',
        '"text";"label"\n"a; b, c";"1"\n"d,e";2\n',
        'text\tlabel\na; b, c\t1\n"d,e"\t2\n',
        '\r\nsep=;\r\ntext;label\r\n"a; b, c";1\r\nd,e;2\r\n',
        '"sep=,"\ntext,label\n"a; b, c",1\n"d,e",2\n',
        '"text",label\n"a; b, c",1\n"d,e",2\n',
        'text,label,,\n"a; b, c",1,,\n"d,e",2,,\n',
    ],
)
def test_what_spreadsheets_write(tmp_path: Path, content: str):
    path = tmp_path / "a.csv"
    path.write_text("\ufeff" + content, newline="")
    found = [{name: value for name, value in row.items() if name} for row in values(path)]
    assert found == [{"text": "a; b, c", "label": "1"}, {"text": "d,e", "label": "2"}]


def test_values_without_a_name_are_not_lost(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("a,,\n1,,\n2,x,\n")
    rows, noted = read(path)
    assert [row.values["a"] for row in rows] == ["1"]
    assert noted == [(f"{path}:3", "it has a value in one of 2 columns without a name")]
    path.write_text("a,\n1,x\n")
    assert values(path) == [{"a": "1", "": "x"}]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "conll"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, suffix: str, encoding: str):
    path = tmp_path / f"a.{suffix}"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_text(mark + "text\tlabel\nhouse\t1\n", encoding=encoding)
    with pytest.raises(DataError, match=f"a.{suffix} cannot be read: it is UTF-16; save it as UTF-8"):
        list(read_rows(path, BadRows(skip=True)))


def test_carriage_returns_that_end_no_line(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\r1,2\r")
    with pytest.raises(DataError, match="but it contains a single carriage return; lines must end in"):
        values(path)


def test_words_in_a_file_that_is_called_tsv(tmp_path):
    """So is GermEval 2014's."""
    path = tmp_path / "NER-de-train.tsv"
    path.write_text("#\thttp://de.wikipedia.org/wiki/Ada\t[2009-10-17]\n1\tAda\tB-PER\tO\n")
    with pytest.raises(DataError, match=r"4 fields, .* 3 columns; if its lines are words, .* ends in \.conll"):
        list(read_rows(path, BadRows()))
