"""Files that lie elsewhere or are packed are read as those beside us are."""

import gzip
import importlib.util
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from tests.rows.support import values
from xmodular.addresses import address
from xmodular.errors import DataError
from xmodular.rows import BadRows, format_of, read_rows
from xmodular.rows.opening import files_in, kind_of
from xmodular.rows.writers import line_of, write_as
from xmodular.text import TextFiles, find_text

ROWS = [{"text": "Grüße"}, {"text": "日本"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstandard(content: bytes) -> bytes:
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


PACK: dict[str, Callable[[bytes], bytes]] = {"jsonl": bytes, "gz": gzip.compress, "zst": zstandard}


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.mark.parametrize(
    ("source", "there"),
    [
        ("s3://bucket/a.jsonl", "s3://bucket/a.jsonl"),
        (Path("hf://datasets/owner/name/a.csv"), "hf://datasets/owner/name/a.csv"),
        ("hub:/tmp/a:b:c", None),
        ("hub:owner/name", None),
        ("C:/rows/a.jsonl", None),
        ("file:///rows/a.jsonl", "file:///rows/a.jsonl"),
        (Path("file:///rows/a.jsonl"), "file:///rows/a.jsonl"),
        ("runs/a.jsonl", None),
        ("-", None),
    ],
)
def test_addresses(source: str | Path, there: str | None) -> None:
    assert address(source) == there


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
@pytest.mark.parametrize(
    ("name", "pack"), [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstandard)]
)
def test_a_pipe_may_be_packed(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    os.mkfifo(tmp_path / name)
    writer = threading.Thread(target=(tmp_path / name).write_bytes, args=(pack(LINES),), daemon=True)
    writer.start()
    assert [row.values for row in read_rows(tmp_path / name, BadRows())] == ROWS
    writer.join(10)


def test_text_at_an_address_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "de_DE.txt").write_text("eins\n", encoding="utf-8")
    assert list(TextFiles("de_DE", find_text(Path(f"file://{tmp_path}"))["de_DE"])) == ["eins"]


@pytest.mark.parametrize("name", ["jsonl", "txt", "a/CSV", "parquet", "jsonl.gz", "hub:owner/txt", "a.parquet.gz"])
def test_a_name_without_a_suffix_is_of_no_kind(name: str) -> None:
    assert kind_of(name) == ""
    assert format_of(name) is None


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL.GZ", "a.jsonl.zst", "b/a.Jsonl.Zst"])
def test_rows_at_an_address(memory: fsspec.AbstractFileSystem, name: str) -> None:
    pack = PACK[name.lower().rpartition(".")[2]]
    memory.pipe(f"/rows/{name}", pack(LINES))
    assert kind_of(name) == format_of(f"memory://rows/{name}") == "jsonl"
    for source in (f"memory://rows/{name}", Path(f"memory://rows/{name}")):
        rows = list(read_rows(source, BadRows()))
        assert [row.values for row in rows] == ROWS
        assert rows[1].place == f"memory://rows/{name}:2"


def test_parquet_at_an_address(memory: fsspec.AbstractFileSystem) -> None:
    with memory.open("/rows/a.parquet", "wb") as file:
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    assert values("memory://rows/a.parquet") == ROWS
    assert format_of("a.parquet.gz") is None


def test_text_at_an_address(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe({"/text/de_DE.a.txt": "Grüße\n".encode(), "/text/de_DE.b.txt.zst": zstandard(b"zwei\n")})
    memory.pipe("/text/fr_XX.jsonl", LINES)
    found = find_text(Path("memory://text"))
    assert {code: list(TextFiles(code, files)) for code, files in found.items()} == {
        "de_DE": ["Grüße", "zwei"],
        "fr_XX": ["Grüße", "日本"],
    }
    before = TextFiles("fr_XX", found["fr_XX"]).content()
    assert TextFiles("fr_XX", found["fr_XX"]).content() == before
    memory.pipe("/text/fr_XX.jsonl", LINES * 2)
    assert TextFiles("fr_XX", found["fr_XX"]).content() != before
    with pytest.raises(DataError, match="There is no text folder memory://absent"):
        find_text(Path("memory://absent"))
    assert files_in("memory://text/fr_XX.jsonl") is None


def test_what_is_not_there_is_named(memory: fsspec.AbstractFileSystem) -> None:
    with pytest.raises(DataError, match=r"There is no file memory://rows/absent\.jsonl"):
        read_rows("memory://rows/absent.jsonl", BadRows())
    with pytest.raises(DataError, match=r"There is no file memory://absent\.txt"):
        list(TextFiles("de", (Path("memory://absent.txt"),)))


@pytest.mark.parametrize(("source", "said"), [("strange://a/b.jsonl", "strange"), ("s3://a/b.jsonl", "s3fs")])
def test_a_system_without_its_package_says_which(source: str, said: str) -> None:
    if said == "s3fs" and importlib.util.find_spec("s3fs") is not None:
        pytest.skip("s3fs is installed")
    with pytest.raises(DataError, match=f"{source} cannot be read: .*{said}"):
        read_rows(source, BadRows())


@pytest.mark.parametrize("cut", [1, 9])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "de.jsonl.zst"
    path.write_bytes(zstandard(LINES * 1000)[:-cut])
    with pytest.raises(DataError, match=r"de.jsonl.zst cannot be read: Truncated"):
        list(read_rows(path, BadRows(skip=True)))
    path.write_bytes(LINES)
    with pytest.raises(DataError, match=r"de.jsonl.zst cannot be read: ZSTD"):
        list(TextFiles("de", (path,)))


def test_packed_json_that_unpacks_to_far_more(tmp_path: Path) -> None:
    path = tmp_path / "de.json.zst"
    path.write_bytes(zstandard(b"[" + b" " * 40_000_000 + b"]"))
    with pytest.raises(DataError, match="decompress to far more"):
        list(read_rows(path, BadRows(skip=True)))


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.csv.gz", "a.CSV.ZST"])
def test_what_is_written_packed_is_read_again(tmp_path: Path, name: str) -> None:
    (tmp_path / "part").write_bytes(b"".join(map(line_of, ROWS)))
    write_as([tmp_path / "part"], tmp_path / name, name, {})
    assert (tmp_path / name).read_bytes()[:2] in (b"\x1f\x8b", b"\x28\xb5")
    assert values(tmp_path / name) == ROWS
