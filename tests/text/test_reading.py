"""Files of every kind: what they hold, what is wrong with them, and how much memory a line takes."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmodular.errors import DataError
from xmodular.rows import lines as lines_module
from xmodular.text import LineCounts, TextFiles, find_text

DOCUMENTS = [["Grüße", "zweite Zeile"], ["日本語"], ["third", "document", "here"]]


def rows(documents: list[list[str]], field: str = "text") -> bytes:
    return "".join(json.dumps({"id": 1, field: "\n".join(lines)}) + "\n" for lines in documents).encode()


def parquet(path: Path, column: pyarrow.Array, field: str = "text") -> None:
    table = pyarrow.table({"id": list(range(len(column))), field: column})
    pyarrow.parquet.write_table(table, path, row_group_size=2)


def documents(path: Path, **options: object) -> list[list[str]]:
    return list(TextFiles("de", (path,), **options).units(documents=True))  # type: ignore[arg-type]


@pytest.fixture(params=["txt", "txt.gz", "TXT.GZ", "jsonl", "jsonl.gz", "JSONL.Gz", "parquet", "PARQUET"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"de_DE.{request.param}"
    name = path.name.lower()
    if name.endswith(".parquet"):
        parquet(path, pyarrow.array(["\n".join(lines) for lines in DOCUMENTS]))
        return path
    content = rows(DOCUMENTS) if "jsonl" in name else "\n\n".join(map("\n".join, DOCUMENTS)).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def test_every_kind_of_file_holds_the_same(stored: Path):
    assert documents(stored) == DOCUMENTS
    assert list(TextFiles("de", (stored,))) == [line for lines in DOCUMENTS for line in lines]


@pytest.mark.parametrize("stored", ["txt.gz", "jsonl.gz", "parquet"], indirect=True)
def test_a_damaged_file_is_named(stored: Path):
    stored.write_bytes(stored.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"{stored.name} cannot be read"):
        documents(stored)


def test_a_file_that_disappears_is_named(stored: Path):
    stored.unlink()
    with pytest.raises(DataError, match=f"no file .*{stored.name}"):
        documents(stored)


@pytest.mark.parametrize("name", ["de.TXT", "de.Txt.GZ", "de.JSONL", "de.JSONL.gz", "de.PARQUET"])
def test_suffixes_in_capitals_say_the_same(tmp_path: Path, name: str):
    path = tmp_path / name
    if name.lower().endswith("parquet"):
        parquet(path, pyarrow.array(["\n".join(lines) for lines in DOCUMENTS]))
    else:
        content = rows(DOCUMENTS) if "jsonl" in name.lower() else "\n\n".join(map("\n".join, DOCUMENTS)).encode()
        path.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    assert find_text(tmp_path) == {"de": (path,)}
    assert documents(path) == DOCUMENTS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["de.txt", "de.txt.gz", "de.jsonl"])
def test_utf_16_is_named_and_not_read_as_letters_with_nuls(tmp_path: Path, encoding: str, name: str):
    content = "Grüße an alle\n" * 9 if "txt" in name else rows(DOCUMENTS).decode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode(encoding)) if name.endswith("gz") else content.encode(encoding))
    with pytest.raises(DataError, match=f"{name} is UTF-16: save it as UTF-8"):
        documents(path)


def test_utf_16_of_any_script_with_its_mark_is_named(tmp_path: Path):
    path = tmp_path / "zh.txt"
    path.write_bytes("天地玄黄\n宇宙洪荒\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"zh.txt is UTF-16"):
        documents(path)


def test_a_packed_file_under_the_name_of_a_plain_one_is_named(tmp_path: Path):
    path = tmp_path / "de.txt"
    path.write_bytes(gzip.compress("Grüße\n".encode()))
    with pytest.raises(DataError, match=r"de.txt is compressed with gzip: rename it to end in .gz"):
        documents(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cs.txt", "žluťoučký kůň\n".encode("latin2"), r"cannot be read \(395 are not UTF-8\), in .*cs.txt: convert"),
        ("cs.jsonl", b'{"text": "x"\n', r"395 are not JSON"),
        ("cs.jsonl", b'{"text": null}\n', r"395 are no text.*--text-field"),
    ],
)
def test_most_lines_lost_is_an_error_where_it_is_asked_for(tmp_path: Path, name: str, content: bytes, said: str):
    path = tmp_path / name
    good = [f"řádek {number}" for number in range(5)]
    lines = [f"{line}\n" if name.endswith("txt") else json.dumps({"text": line}) + "\n" for line in good]
    path.write_bytes(content * 395 + "".join(lines).encode())
    assert list(TextFiles("cs", (path,))) == good
    with pytest.raises(DataError, match=f"395 of 400 lines of cs {said}" if "convert" in said else said):
        list(TextFiles("cs", (path,), strict=True))
    path.write_bytes(content * 5 + b"\n" * 90 + "".join(lines).encode())  # as many as are read; empty ones do not count
    assert list(TextFiles("cs", (path,), strict=True)) == good


def test_text_may_be_in_another_field(tmp_path: Path):
    path = tmp_path / "de.jsonl"
    path.write_bytes(rows(DOCUMENTS, "content"))
    assert documents(path, text_field="content") == DOCUMENTS
    with pytest.raises(DataError, match=r"de.jsonl has no field 'text'; it has 'id', 'content'\. .*--text-field"):
        documents(path)
    parquet(tmp_path / "de.parquet", pyarrow.array(["x"]), "content")
    with pytest.raises(DataError, match=r"de.parquet has no field 'text'; it has 'id', 'content'\. .*--text-field"):
        documents(tmp_path / "de.parquet")
    with pytest.raises(DataError, match="the column 'id' holds int64, not text"):
        documents(tmp_path / "de.parquet", text_field="id")


def test_bad_rows_are_counted_by_reason(tmp_path: Path):
    path = tmp_path / "en.jsonl"
    path.write_bytes(
        b'{"text": "good"}\n{"text": null}\n{"text": 5}\n["text"]\n{"other": "x"}\n'  # no text: 4
        b'{"text": "cut off\n\n{"text": "\\ud83d alone"}\n{"text": "\xff"}\n' + b"[" * 100_000 + b"\n"
        b'{"text": "pair \\ud83d\\ude00\\u0000"}\n{"text": ""}\n{"text": "good"}'
    )
    text = TextFiles("en", (path,))
    assert list(text) == ["good", "pair 😀"]
    assert text.counts == LineCounts(kept=2, empty=2, duplicate=1, undecodable=2, broken=2, no_text=4, control=1)
    assert text.counts.read == 13


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())), min_size=1, max_size=12))
def test_any_json_value_is_kept_or_counted(tmp_path: Path, values: list[object]):
    path = tmp_path / "en.jsonl"
    path.write_text("".join(json.dumps({"text": value}) + "\n" for value in values))
    text = TextFiles("en", (path,))
    list(text)
    assert text.counts.read == sum(value.count("\n") + 1 if isinstance(value, str) else 1 for value in values)


def test_parquet_of_any_text_type_with_nulls_and_bad_bytes(tmp_path: Path):
    path = tmp_path / "en.parquet"
    for column in (
        pyarrow.array(["one", None, "two"], pyarrow.large_string()),
        pyarrow.array(["one", None, "two"]).dictionary_encode(),
        pyarrow.array([b"one", None, b"two"], pyarrow.binary()),
        pyarrow.array(["one", None, "two"], pyarrow.string_view()),
    ):
        parquet(path, column)
        text = TextFiles("en", (path,))
        assert list(text) == ["one", "two"]
        assert text.counts == LineCounts(kept=2, no_text=1)
    parquet(path, pyarrow.array([b"one", b"\xff"], pyarrow.binary()))
    assert list(text) == ["one"]
    assert text.counts.undecodable == 1


@pytest.mark.parametrize("name", ["en.txt", "en.jsonl"])
def test_a_gigantic_line_is_never_whole_in_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 2**20)
    size = 24 * 2**20
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'{"text": "')
        file.truncate(size)  # a hole: NULs
        file.seek(size)
        file.write(b'"}\n{"text": "next"}\n')
    text = TextFiles("en", (path,))
    tracemalloc.start()
    lines = list(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "next" in lines[-1]
    assert peak < size / 4
    assert (text.counts.too_long, text.counts.cut) == ((1, 0) if name == "en.jsonl" else (0, 1))
