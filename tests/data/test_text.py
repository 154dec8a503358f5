"""Text folders and clean lines."""

from pathlib import Path

import pytest

from xmodular.data import TextFiles, find_text
from xmodular.errors import DataError, LanguageError


def test_lines_are_cleaned_and_what_is_dropped_is_counted(tmp_path: Path):
    path = tmp_path / "fr_XX.txt"
    path.write_bytes(
        b"\xef\xbb\xbfUne ligne\r\n"
        + "  cafe\u0301  \n\n".encode()
        + "café\n".encode()  # the same after normalisation
        + b"bad \xff byte\n"
        + b"   \t \nlast without end"
    )
    text = TextFiles("fr_XX", (path,))
    assert list(text) == ["Une ligne", "café", "last without end"]
    assert (text.counts.kept, text.counts.empty, text.counts.duplicate, text.counts.undecodable) == (3, 2, 1, 1)
    assert str(text.counts) == "3 lines (dropped: 2 empty, 1 duplicate, 1 not UTF-8)"
    assert list(text) == list(text)  # again and again, counting afresh
    assert text.counts.kept == 3


def test_dev_part_is_a_share_of_lines_disjoint_from_train(tmp_path: Path):
    path = tmp_path / "en_XX.txt"
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    parts = {part: list(TextFiles("en_XX", (path,), part, 0.1)) for part in ("train", "dev", "all")}
    assert not set(parts["train"]) & set(parts["dev"])
    assert sorted(parts["train"] + parts["dev"]) == sorted(parts["all"])
    assert len(parts["dev"]) == pytest.approx(500, abs=3 * (5000 * 0.1 * 0.9) ** 0.5)


def test_find_text_groups_files_by_language(tmp_path: Path):
    for name in ("de_DE.news.txt", "de_DE.web.txt", "sw_KE.txt", "gsw.txt", "notes.md"):
        (tmp_path / name).write_text("x\n")
    found = find_text(tmp_path)
    assert {code: [path.name for path in paths] for code, paths in found.items()} == {
        "de_DE": ["de_DE.news.txt", "de_DE.web.txt"],
        "gsw": ["gsw.txt"],
        "sw_KE": ["sw_KE.txt"],
    }
    assert list(find_text(tmp_path, ("Swahili", "de"))) == ["sw_KE", "de_DE"]


def test_find_text_errors(tmp_path: Path):
    with pytest.raises(DataError, match="no text folder"):
        find_text(tmp_path / "absent")
    with pytest.raises(DataError, match="no text files in"):
        find_text(tmp_path)
    (tmp_path / "en_XX.txt").write_text("x\n")
    with pytest.raises(LanguageError, match="French"):
        find_text(tmp_path, ("French",))
    (tmp_path / "readme.txt").write_text("x\n")
    with pytest.raises(DataError, match=r"readme.txt: a text file is named <language>"):
        find_text(tmp_path)
