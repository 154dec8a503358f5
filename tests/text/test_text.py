"""Text folders and clean lines."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from xmodular.errors import DataError, LanguageError
from xmodular.text import LineCounts, TextFiles, find_text, lines_table, raw_lines
from xmodular.text.seen_hashes import SeenHashes

same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, content: bytes | str) -> TextFiles:
    """A text of one file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return TextFiles("en_XX", (path,))


def test_lines_are_cleaned_and_what_is_dropped_is_counted(tmp_path: Path):
    text = written(
        tmp_path / "fr_XX.txt",
        b"\xef\xbb\xbfUne ligne\r\n"
        + "  cafe\u0301  \n\n".encode()
        + "café\n".encode()  # the same after normalisation
        + b"bad \xff byte\n"
        + b"   \t \nlast without end",
    )
    assert list(text) == ["Une ligne", "café", "last without end"]
    assert text.counts == LineCounts(kept=3, empty=2, duplicate=1, undecodable=1)
    assert str(text.counts) == "3 lines (dropped: 2 empty, 1 duplicate, 1 not UTF-8)"
    assert list(text) == list(text)  # again and again, counting afresh
    assert text.counts.kept == 3


def test_control_characters_go_and_the_line_stays(tmp_path: Path):
    text = written(tmp_path / "en.txt", "nul\x00byte\tand tab\none\x0bline\rstill\n\x01\x02\nplain\n")
    assert list(text) == ["nulbyte\tand tab", "one line still", "plain"]
    assert text.counts == LineCounts(kept=3, empty=1, control=3)


@same_folder
@given(
    content=st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode)), max_line=st.integers(100, 200)
)
def test_any_bytes_are_read_and_every_line_is_kept_or_dropped(tmp_path: Path, content: bytes, max_line: int):
    assume(raw_lines._no_utf8(content) is None)
    text = written(tmp_path / "en.txt", content)
    text = TextFiles("en", text.files, max_line=max_line)
    lines = list(text)
    assert len(lines) == len(set(lines)) == text.counts.kept
    if not text.counts.cut:
        content = content.removeprefix(b"\xef\xbb\xbf")
        assert text.counts.read == content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
    for line in lines:
        assert line == line.strip() == unicodedata.normalize("NFC", line)
        assert "\n" not in line
        assert not any(unicodedata.category(character) == "Cc" and character != "\t" for character in line)
    again = written(tmp_path / "again.txt", "\n".join(lines))  # clean lines are clean
    assert list(again) == lines


@same_folder
@given(words=st.lists(st.text("aé漢 ", min_size=1, max_size=60), min_size=1, max_size=60))
def test_gigantic_lines_are_cut_and_lose_nothing(tmp_path: Path, words: list[str]):
    long = " ".join(words)
    text = TextFiles("en", written(tmp_path / "en.txt", f"{long}\nshort\n").files, max_line=40)
    pieces = [piece for unit in text.units(documents=True) for piece in unit if piece != "short"]
    assert "".join("".join(pieces).split()) == "".join(long.split())
    assert all(len(piece) <= 40 for piece in pieces)
    assert text.counts.cut == (len(long) > 40)


def test_a_gigantic_line_is_cut_at_spaces(tmp_path: Path):
    text = TextFiles("en", written(tmp_path / "en.txt", "1234567 " * 1000 + "\nnext line").files, max_line=100)
    lines = list(text)
    assert lines[-1] == "next line"
    assert {word for line in lines[:-1] for word in line.split()} == {"1234567"}
    assert text.counts.read == 84 + 1  # pieces of twelve words, 96 characters
    assert text.counts.cut == 1


def parts(path: Path, lines: Sequence[str]) -> dict[str, set[str]]:
    files = written(path, "\n".join(lines)).files
    return {part: set(TextFiles("en_XX", files, part, 0.3)) for part in ("train", "dev")}


def test_dev_part_is_a_share_of_lines_disjoint_from_train(tmp_path: Path):
    path = tmp_path / "en_XX.txt"
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    found = {part: list(TextFiles("en_XX", (path,), part, 0.1)) for part in ("train", "dev", "all")}
    assert not set(found["train"]) & set(found["dev"])
    assert sorted(found["train"] + found["dev"]) == sorted(found["all"])
    assert len(found["dev"]) == pytest.approx(500, abs=3 * (5000 * 0.1 * 0.9) ** 0.5)


@same_folder
@given(lines=st.lists(st.text("ab ", max_size=4), max_size=40), data=st.data())
def test_a_line_s_side_depends_on_nothing_but_the_line(tmp_path: Path, lines: list[str], data: st.DataObject):
    one = parts(tmp_path / "one.txt", lines)
    assert one == parts(tmp_path / "other.txt", data.draw(st.permutations(lines)))
    more = parts(tmp_path / "more.txt", [*lines, *lines, "yet another line"])
    assert one["train"] <= more["train"]
    assert one["dev"] <= more["dev"]
    assert not more["train"] & more["dev"]


def test_a_document_is_dropped_or_held_out_as_a_whole(tmp_path: Path):
    documents = [["Title", f"text {number}", "The end"] for number in range(60)]
    content = "\n\n".join("\n".join(lines) for lines in [*documents, documents[7]])
    files = written(tmp_path / "en.txt", content).files
    assert list(TextFiles("en", files).units(documents=True)) == documents
    train, dev = (TextFiles("en", files, part, 0.3) for part in ("train", "dev"))
    sides = [list(text.units(documents=True)) for text in (train, dev)]
    assert sorted([*sides[0], *sides[1]]) == sorted(documents)
    assert 5 < len(sides[1]) < 35
    assert train.counts.duplicate == 3
    assert train.counts.other_part == 3 * len(sides[1])


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=200))
def test_seen_hashes_is_a_set(values: list[int]):
    seen, expected = SeenHashes(), set()
    for value in values:
        assert seen.add(value) == (value not in expected)
        expected.add(value)
        if value in (0, 1):  # 0 marks a free place and counts as 1
            expected |= {0, 1}


def test_seen_hashes_grows():
    seen = SeenHashes()
    values = [(number * 0x9E3779B97F4A7C15) % 2**64 for number in range(1, 20_000)]
    assert all(seen.add(value) for value in values)
    assert not any(seen.add(value) for value in values)
    assert len(seen) == len(values)


def test_the_table_has_the_reasons_there_are():
    assert lines_table({"en": LineCounts(kept=3), "de": LineCounts(kept=1, other_part=1)}) is None
    table = lines_table({"en": LineCounts(kept=3, other_part=2, empty=1), "de": LineCounts(kept=1, cut=4)})
    assert table is not None
    assert [(str(column.header), list(column.cells)) for column in table.columns] == [
        ("language", ["en", "de"]),
        ("read", ["6", "1"]),
        ("kept", ["5", "1"]),
        ("empty", ["1", "0"]),
        ("cut", ["0", "4"]),
    ]


def test_find_text_groups_files_by_language(tmp_path: Path):
    names = ("de_DE.news.txt", "de_DE.web.jsonl.gz", "sw_KE.parquet", "gsw.TXT.GZ", "notes.md", "sw_KE.json")
    for name in names:
        (tmp_path / name).write_text("x\n")
    found = find_text(tmp_path)
    assert {code: [path.name for path in paths] for code, paths in found.items()} == {
        "de_DE": ["de_DE.news.txt", "de_DE.web.jsonl.gz"],
        "gsw": ["gsw.TXT.GZ"],
        "sw_KE": ["sw_KE.parquet"],
    }
    assert list(find_text(tmp_path, ("Swahili", "de"))) == ["sw_KE", "de_DE"]


def test_find_text_errors(tmp_path: Path):
    with pytest.raises(DataError, match="no text folder"):
        find_text(tmp_path / "absent")
    with pytest.raises(DataError, match="no text files in"):
        find_text(tmp_path)
    (tmp_path / "en_XX.txt").write_text("x\n")
    with pytest.raises(DataError, match=r"en_XX\.txt is a file; give a folder of files that begin with their language"):
        find_text(tmp_path / "en_XX.txt")
    with pytest.raises(LanguageError, match="French"):
        find_text(tmp_path, ("French",))
    (tmp_path / "readme.txt").write_text("x\n")
    with pytest.raises(DataError, match=r"readme.txt: text files must be named <language>"):
        find_text(tmp_path)
