"""Files that appear whole or not at all."""

import json
from pathlib import Path

import pytest

from xmodular.files import is_missing_folder, write_json, written_beside


def test_success_replaces_and_keeps_the_rest(tmp_path: Path):
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "other.txt").write_text("other")
    with written_beside(tmp_path) as folder:
        (folder / "old.txt").write_text("new")
        (folder / "part").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.txt", "other.txt", "part"]
    assert (tmp_path / "old.txt").read_text() == "new"


def test_failure_changes_nothing(tmp_path: Path):
    (tmp_path / "old.txt").write_text("old")

    def fail() -> None:
        with written_beside(tmp_path) as folder:
            (folder / "old.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


def test_json_keeps_every_script(tmp_path: Path):
    write_json(tmp_path / "sub" / "a.json", {"text": "日本 ж"})
    text = (tmp_path / "sub" / "a.json").read_text(encoding="utf-8")
    assert "日本 ж" in text
    assert json.loads(text) == {"text": "日本 ж"}


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("there", False),
        ("runs/none", True),
        ("./none", True),
        ("a/b/c", True),
        ("~none/x", True),
        ("/none/here", True),
        ("facebook/xmod-base", False),  # may be a repository
        ("gone", False),
    ],
)
def test_what_can_only_be_a_folder_that_is_not_there(
    name: str, missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "there").mkdir()
    assert is_missing_folder(name) is missing
