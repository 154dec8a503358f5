"""Data sets that `datasets` opens, from a local folder."""

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.rows.support import read, values
from xmodular.errors import DataError
from xmodular.rows import BadRows, hub_sources, read_rows

SPLITS = {"en": ("train", "test"), "sw": ("test",)}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set with the configurations en, with two splits, and sw, with one; its labels are classes."""
    where = tmp_path / "set"
    header = ""
    for code, splits in SPLITS.items():
        for split in splits:
            texts = [f"{code} {split} {number}" for number in range(5)]
            table = pyarrow.table({"text": texts, "label": [0, 1, 1, -1, 0]})
            features = {
                "text": {"dtype": "string", "_type": "Value"},
                "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
            }
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            (where / code).mkdir(parents=True, exist_ok=True)
            parquet.write_table(table, where / code / f"{split}.parquet")
        header += f"- config_name: {code}\n  data_dir: {code}\n"
    (where / "README.md").write_text(f"---\nconfigs:\n{header}---\n")
    return where


def test_rows_with_the_names_of_classes(folder: Path):
    rows, noted = read(f"hub:{folder}:en:test")
    assert not noted
    assert [row.values["text"] for row in rows] == [f"en test {number}" for number in range(5)]
    assert [row.values["label"] for row in rows] == ["no", "yes", "yes", None, "no"]
    assert rows[2].place == f"hub:{folder}:en:test row 3"
    assert rows[2].language is None
    assert [row["text"] for row in values(f"hub:{folder}:sw")] == [f"sw test {number}" for number in range(5)]


def test_one_configuration_and_split_need_no_name(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert values(f"hub:{tmp_path / 'set'}") == [{"text": "a"}, {"text": "b"}]
    assert values(f"hub:{tmp_path / 'set'}::test") == [{"text": "a"}, {"text": "b"}]


def test_sources_of_the_languages_that_there_are(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    codes = ("de_DE", "sw_KE", "en")
    assert hub_sources(f"hub:{folder}:{{subtag}}:test", codes) == {
        "sw_KE": f"hub:{folder}:sw:test",
        "en": f"hub:{folder}:en:test",
    }
    assert hub_sources(f"hub:{folder}:{{language}}:test", codes) == {"en": f"hub:{folder}:en:test"}
    # What the library says of a data set in its cache when there is no network.
    monkeypatch.setattr("datasets.get_dataset_config_names", lambda name: ["default"])
    assert list(hub_sources("hub:cached:{subtag}:test", codes)) == list(codes)
    monkeypatch.undo()
    assert hub_sources("hub:my-{subtag}-set:all:test", ["de"]) == {"de": "hub:my-de-set:all:test"}
    with pytest.raises(DataError, match=r"none of de_DE, fr; it has en, sw"):
        hub_sources(f"hub:{folder}:{{language}}:test", ("de_DE", "fr"))
    with pytest.raises(DataError, match=r"absent.* cannot be opened"):
        hub_sources(f"hub:{tmp_path / 'absent'}:{{language}}", ("de",))
    parts = tmp_path / "splits"
    parts.mkdir()
    for code in ("en", "sw"):
        (parts / f"{code}.jsonl").write_text('{"text": "a"}\n')
    files = "".join(f"  - split: {code}\n    path: {code}.jsonl\n" for code in ("en", "sw"))
    (parts / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    assert hub_sources(f"hub:{parts}::{{subtag}}", codes) == {
        "sw_KE": f"hub:{parts}::sw",
        "en": f"hub:{parts}::en",
    }
    assert values(f"hub:{parts}::sw") == [{"text": "a"}]


def test_errors_say_what_there_is(folder: Path, tmp_path: Path):
    def fails(source: str, reason: str, **options: str) -> None:
        with pytest.raises(DataError, match=reason):
            list(read_rows(source, BadRows(skip=True), **options))

    fails(f"hub:{folder}:en", r"has several splits; choose one: hub:.*:en:train, hub:.*:en:test")
    fails(f"hub:{folder}:fr", r"cannot be opened: .*fr")
    fails(f"hub:{folder}", r"cannot be opened: .*en.*sw")
    fails(f"hub:{folder}:en:dev", r"cannot be opened: .*dev")
    fails(f"hub:{tmp_path / 'absent'}", r"absent cannot be opened")
    fails("hub:", "named as hub:<data set>:<configuration>:<split>")
    fails("hub:a:b:c:d", "named as hub:<data set>:<configuration>:<split>")
    fails(f"hub:{folder}:en:test", "own format", format="jsonl")
    table = pyarrow.table({"text": pyarrow.array([b"\xff"], pyarrow.binary()).view(pyarrow.string())})
    parquet.write_table(table, folder / "sw" / "test.parquet")
    fails(f"hub:{folder}:sw", r"Reading the data set hub:.* stopped after 0 rows")
