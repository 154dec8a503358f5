"""Data sets that `datasets` opens, from a local folder."""

import json
from pathlib import Path

import pytest

from xmodular.errors import DataError, LanguageError
from xmodular.text import BlockCache, LineCounts, TextFiles, find_dataset
from xmodular.training import pretrain


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set with the configurations de and sw, which has a second split."""
    where = tmp_path / "set"
    for name in ("de/train", "sw/train", "sw/test"):
        path = where / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"id": number, "text": f"{name} {number}\nzweite {number}"} for number in range(300)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    header = "".join(f"- config_name: {code}\n  data_dir: {code}\n" for code in ("de", "sw"))
    (where / "README.md").write_text(f"---\nconfigs:\n{header}---\n")
    return where


def test_rows_are_documents(folder: Path):
    found = find_dataset(str(folder), ("de_DE", "sw"), config="{subtag}")
    assert list(found) == ["de_DE", "sw"]
    text = TextFiles("de_DE", found["de_DE"])
    units = list(text.units(documents=True))
    assert units[:2] == [["de/train 0", "zweite 0"], ["de/train 1", "zweite 1"]]
    assert text.counts == LineCounts(kept=600)
    (test,) = find_dataset(str(folder), ("sw",), config="{language}", split="test")["sw"]
    assert next(iter(TextFiles("sw", (test,)))) == "sw/test 0"
    assert str(test) == f"{folder} (sw, test)"


def test_so_many_rows(folder: Path):
    sources = find_dataset(str(folder), ("de",), config="de", most=270)["de"]
    assert len(list(TextFiles("de", sources).units(documents=True))) == 270


def test_blocks_are_made_once_for_one_content(folder: Path, tmp_path: Path, tokenizer):
    cache = BlockCache(tmp_path / "cache", tokenizer, 16)
    done: list[int] = []

    def get(**options: int) -> int:
        sources = find_dataset(str(folder), ("de",), config="de", **options)["de"]
        return cache.get(TextFiles("de", sources), done.append).lines.kept

    assert [get(), get()] == [600, 600]
    assert sum(done) == 600
    assert get(most=10) == 20
    path = folder / "de" / "train.jsonl"
    path.write_text(path.read_text() + '{"id": 300, "text": "neu"}\n')
    assert get() == 601


def test_errors_say_what_is_missing(folder: Path):
    with pytest.raises(LanguageError, match="Name the languages"):
        find_dataset(str(folder), ())
    with pytest.raises(LanguageError, match="named by codes such as de_DE or de; not German"):
        find_dataset(str(folder), ("German",), config="de")
    with pytest.raises(DataError, match=r"same text: put \{language\}"):
        find_dataset(str(folder), ("de", "sw"), config="de")
    with pytest.raises(DataError, match=r"configuration fr cannot be opened: .*fr"):
        find_dataset(str(folder), ("fr",), config="{language}")
    with pytest.raises(DataError, match="absent cannot be opened"):
        find_dataset(str(folder / "absent"), ("fr",))
    wrong = find_dataset(str(folder), ("de",), config="de", split="tset")["de"]
    with pytest.raises(DataError, match=r"set \(de, tset\) stopped: .*tset"):
        list(TextFiles("de", wrong))
    wrong = find_dataset(str(folder), ("de",), config="de", field="content")["de"]
    with pytest.raises(DataError, match=r"has no field 'content'; it has 'id', 'text'\..*--text-field"):
        list(TextFiles("de", wrong))


def test_a_model_is_pretrained_on_a_data_set(folder: Path, tmp_path: Path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    run = pretrain(
        f"hub:{folder}",
        languages=("de_DE", "sw"),
        dataset_config="{subtag}",
        output_dir=tmp_path / "run",
        tokenizer=tmp_path / "tokenizer",
        preset="tiny",
        overrides={"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
        block_size=32,
        dev_fraction=0.2,
        max_steps=1,
    )
    assert run.model.languages == ("de_DE", "sw")
    assert set(run.metrics["validation"]) == {"de_DE", "sw"}
