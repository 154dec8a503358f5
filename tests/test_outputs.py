"""Outputs: never over a source, only over what our own runs wrote, one process at a time, in order after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from xmodular import convert, diff, evaluate, extend, finetune, pack_install, pack_remove, pack_save, predict, upcycle
from xmodular.errors import ConfigurationError, PackError
from xmodular.files import folder_beside, written_beside, written_file
from xmodular.outputs import LOCK, NEW, OLD, PREFIX, READY, beside, check_apart, held
from xmodular.tasks import load_saved
from xmodular.training import Run
from xmodular.training.checkpoints import is_complete, publish, remove_checkpoints

ONE_STEP: dict[str, Any] = {"max_steps": 1, "batch_size": 8}


@pytest.fixture
def home(base_run: Run, topic_run: Run, tmp_path: Path) -> Path:
    """A folder with two models and a pack."""
    for name, run in (("base", base_run), ("topic", topic_run)):
        shutil.copytree(run.output_dir, tmp_path / name, ignore=shutil.ignore_patterns("checkpoints", "blocks"))
    pack_save(tmp_path / "base", "sw", output_dir=tmp_path / "gsw")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- sources


@pytest.mark.parametrize("way", ["itself", "another path", "link", "above", "link above"])
def test_no_source_is_replaced(way: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, target = home / "gsw", home / "gsw"
    if way == "another path":
        monkeypatch.chdir(home / "topic")
        target = Path("..", "topic", "..", "gsw")
    elif way == "link":
        target = home / "linked"
        target.symlink_to(pack)
    elif way == "above":
        target = home / "all"
        pack = target / "gsw"
        shutil.copytree(home / "gsw", pack)
        (target / "config.json").write_text('{"model_type": "xmod"}')
    elif way == "link above":
        (home / "linked").symlink_to(home)
        target = home / "linked" / "gsw"
    before = contents(home)
    with pytest.raises(ConfigurationError, match="the source"):
        pack_install(pack, home / "topic", language="gsw", output_dir=target, overwrite=True)
    assert contents(home) == before


def test_nor_by_any_other_verb(home: Path, corpus: Path) -> None:
    before = contents(home)
    verbs: list[Callable[[Path], Any]] = [
        lambda out: convert(home / "base", to="fairseq", output_dir=out, overwrite=True),
        lambda out: upcycle(home / "base", ["de"], output_dir=out, overwrite=True),
        lambda out: upcycle(home / "topic", ["de"], output_dir=out, overwrite=True, tokenizer=str(home / "base")),
        lambda out: pack_save(home / "base", "de", output_dir=out, overwrite=True),
        lambda out: pack_install(home / "base", home / "topic", output_dir=out, overwrite=True),
        lambda out: finetune(home / "base", corpus / "topic" / "en_XX.train.jsonl", output_dir=out, overwrite=True),
        lambda out: extend(home / "base", "gsw", corpus / "text" / "de_DE.made.txt", output_dir=out, overwrite=True),
    ]
    for verb in verbs:
        with pytest.raises(ConfigurationError, match=r"the source .* itself"):
            verb(home / "base")
    log = home / "log.jsonl"
    shutil.copy(corpus / "topic" / "en_XX.train.jsonl", log)
    with pytest.raises(ConfigurationError, match="contains the source"):
        finetune(home / "base", log, language="en", output_dir=home, overwrite=True)
    data = home / "predictions.jsonl"
    log.rename(data)
    with pytest.raises(ConfigurationError, match="contains the source"):
        evaluate(home / "topic", {"en": data}, output_dir=home, overwrite=True)
    data.unlink()
    assert contents(home) == before


def test_a_file_that_a_source_links_to_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "weights").write_text("")
    (tmp_path / "model" / "model.safetensors").symlink_to(tmp_path / "store" / "weights")
    with pytest.raises(ConfigurationError, match="contains the source"):
        check_apart(tmp_path / "store", [tmp_path / "model"])
    check_apart(tmp_path / "other", [tmp_path / "model", "owner/name", None])


# ---------------------------------------------------------------- files of others


@pytest.mark.parametrize("name", ["thesis.tex", "tokenizer.backup.json", "eval/results.json"])
def test_a_model_with_files_of_others_is_not_replaced(name: str, home: Path) -> None:
    mine = home / "topic" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    before = contents(home)
    out, verbs = (
        home / "topic",
        (
            lambda out: convert(home / "base", to="fairseq", output_dir=out, overwrite=True),
            lambda out: upcycle(home / "base", ["de"], output_dir=out, overwrite=True),
            lambda out: pack_install(home / "gsw", home / "base", language="gsw", output_dir=out, overwrite=True),
            lambda out: pack_remove(home / "base", "sw", output_dir=out, overwrite=True),
        ),
    )
    for verb in verbs:
        with pytest.raises(ConfigurationError, match="is not part of a model"):
            verb(out)
    with pytest.raises(PackError, match="contains no language pack written by xmodular"):
        pack_save(home / "base", "de", output_dir=out, overwrite=True)
    assert contents(home) == before


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "{}", "[1]", "port = 80"])
def test_what_is_no_model_of_ours_is_not_replaced(config: str, home: Path, corpus: Path) -> None:
    folder = home / "project"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    train = corpus / "topic" / "en_XX.train.jsonl"
    for overwrite, said in ((True, "written by xmodular"), (False, "--overwrite")):
        with pytest.raises(ConfigurationError, match=said):
            upcycle(home / "base", ["de"], output_dir=folder, overwrite=overwrite)
        with pytest.raises(ConfigurationError, match=said):
            finetune(home / "base", train, language="en", output_dir=folder, overwrite=overwrite, **ONE_STEP)
    assert contents(folder) == {"config.json": config.encode()}


def test_a_run_takes_no_file_of_others(home: Path, corpus: Path) -> None:
    folder, train = home / "project", corpus / "topic" / "en_XX.train.jsonl"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ConfigurationError, match=r"has a README\.md that was not written by xmodular"):
            finetune(home / "base", train, language="en", output_dir=folder, overwrite=overwrite, **ONE_STEP)
    assert contents(folder) == {"README.md": b"mine"}


def test_training_leaves_files_of_others(home: Path, corpus: Path) -> None:
    train, folder = corpus / "topic" / "en_XX.train.jsonl", home / "run"
    mine = [folder / "checkpoints" / name for name in ("notes.txt", "checkpoint-best/model", "checkpoint-1/notes.txt")]
    mine += [folder / "thesis.tex", folder / "tokenizer.backup.json"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    options: dict[str, Any] = {"language": "en", "output_dir": folder, "save_every": 1, **ONE_STEP, "max_steps": 2}
    finetune(home / "base", train, **options)
    finetune(home / "base", train, **options, overwrite=True)
    assert [path.name for path in mine if path.exists()] == [path.name for path in mine[:2] + mine[3:]]
    assert (folder / "checkpoints" / "other-checkpoint-1" / "notes.txt").read_text() == "mine"
    left = {path.name for path in (folder / "checkpoints").iterdir()}
    assert left == {"notes.txt", "checkpoint-best", "other-checkpoint-1"}


def test_checkpoints_go_but_for_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (1, 2):
        staged = tmp_path / "staged"
        (staged / "inner").mkdir(parents=True)
        (staged / "inner" / "weights").write_text("w")
        publish(staged, tmp_path / "checkpoints" / f"checkpoint-{step}", keep=0)
    assert is_complete(tmp_path / "checkpoints" / "checkpoint-2")
    (tmp_path / "checkpoints" / "checkpoint-2" / "notes.txt").write_text("mine")
    remove_checkpoints(tmp_path)
    assert contents(tmp_path) == {"checkpoints/checkpoint-2/notes.txt": b"mine"}


def test_fine_tuning_killed_at_its_end_leaves_no_checkpoints(home: Path, corpus: Path) -> None:
    """Those of pretraining stay, which may be asked to go on."""
    for name, model, stay in (("topic", "base", False), ("base", "topic", True)):
        staged, place = home / "staged", home / name / "checkpoints"
        staged.mkdir()
        place.mkdir()
        (staged / "weights").write_text("w")
        publish(staged, place / "checkpoint-1", keep=0)
        with pytest.raises(ConfigurationError, match="contains a finished run"):
            finetune(home / model, corpus / "topic" / "en_XX.train.jsonl", language="en", output_dir=home / name)
        assert place.exists() == stay


def test_tokenizers_of_others_stay(home: Path) -> None:
    (home / "topic" / "tokenizer.backup.json").write_text("mine")
    pack_install(home / "gsw", home / "topic", language="gsw")
    pack_remove(home / "topic", "sw")
    load_saved(home / "topic").save_pretrained(home / "topic")
    assert (home / "topic" / "tokenizer.backup.json").read_text() == "mine"


# ---------------------------------------------------------------- results


def test_results_are_replaced_only_if_asked(home: Path, corpus: Path) -> None:
    out, data = home / "out", corpus / "topic"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    evaluate(home / "topic", data, output_dir=out, predictions=True)
    before = contents(out)
    with pytest.raises(ConfigurationError, match=r"already has results\.json.*--overwrite"):
        evaluate(home / "topic", data, output_dir=out)
    assert contents(out) == before
    evaluate(home / "topic", data, output_dir=out, adapter=("none",), overwrite=True)
    after = contents(out)
    assert "predictions.jsonl" not in after  # of the results that are gone
    assert after["notes.txt"] == b"mine"
    assert after["results.json"] != before["results.json"]
    for text in ("{}", "mine"):
        (out / "results.json").write_text(text)
        with pytest.raises(ConfigurationError, match="was not written by xmodular"):
            evaluate(home / "topic", data, output_dir=out, overwrite=True)
        assert (out / "results.json").read_text() == text


def test_a_comparison_replaces_comparisons_only(home: Path) -> None:
    out = home / "out.json"
    diff(home / "base", home / "topic", output=out)
    with pytest.raises(ConfigurationError, match="--overwrite"):
        diff(home / "base", home / "base", output=out)
    assert diff(home / "base", home / "base", output=out, overwrite=True).ok
    assert json.loads(out.read_text())["ok"]
    before = contents(home)
    with pytest.raises(ConfigurationError, match="not a comparison"):
        diff(home / "base", home / "topic", output=home / "base" / "config.json", overwrite=True)
    assert contents(home) == before


# ---------------------------------------------------------------- one at a time


def test_an_output_is_held_by_one(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "out"
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    with ThreadPoolExecutor(1) as other:
        with held(place), held(place):  # again, by who has it
            for name in (place, tmp_path / "link" / "out"):
                with pytest.raises(ConfigurationError, match=r"Another run is writing to .*out: wait until"):
                    other.submit(_take, name).result()
            other.submit(_take, tmp_path / "deep" / "other").result()
            late = other.submit(_take, place, wait=True)
            assert not late.done()
        late.result(timeout=60)
        other.submit(_take, place).result()
    assert not (tmp_path / "deep").exists()  # made for the lock alone


def test_a_folder_that_goes_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the output's folder for its lock, and removes it between two looks of ours."""
    real, told = Path.mkdir, []

    def mkdir(self: Path, *args: Any, **kwargs: Any) -> None:
        if not told:
            told.append(self)
            raise FileExistsError(17, "File exists")
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with held(tmp_path / "deep" / "out"):
        assert told
        assert (tmp_path / "deep").is_dir()


def test_the_root_is_no_output() -> None:
    with pytest.raises(ConfigurationError, match="root folder"):
        _take(Path("/"))


def test_where_only_the_folder_can_be_written_to(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    blocked = beside(f"{PREFIX}lock", place)
    blocked.mkdir()  # no lock can be there
    with held(place), ThreadPoolExecutor(1) as other, pytest.raises(ConfigurationError, match="Another run"):
        other.submit(_take, place).result()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [blocked.name, "out"]


def _take(place: Path, wait: bool = False) -> None:
    with held(place, wait=wait):
        pass


# ---------------------------------------------------------------- after a kill


def test_what_a_killed_process_left_is_put_in_order(tmp_path: Path) -> None:
    place = tmp_path / "out"
    for folder in (beside(OLD, place), beside(NEW, place)):  # killed between two renames
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    _take(place)
    assert contents(tmp_path) == {"out/file": beside(OLD, place).name.encode()}

    (place / READY / "new").mkdir(parents=True)  # killed when all was written, and some in its place
    (place / READY / "new" / "file").write_text("new")
    (place / "gone").write_text("old")
    (place / READY / "gone.json").write_text('["gone"]')
    (place / NEW).mkdir()
    _take(place)
    assert contents(tmp_path) == {"out/file": b"new"}
    assert not list(tmp_path.rglob(f"{PREFIX}*"))


def test_so_is_what_it_left_in_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    left = [beside(NEW, place / "metrics.json"), beside(LOCK, place / "tokenizer"), beside(LOCK, place / "pack")]
    left += [beside(NEW, place / "mine"), beside(LOCK, place / "mine")]
    for path in left[:3]:
        path.touch()
    beside(NEW, place / "pack").mkdir()
    with ThreadPoolExecutor(1) as other, held(place / "mine"):
        left[3].mkdir()
        other.submit(_take, place).result()
        assert [path.exists() for path in left] == [False, False, False, True, True]  # what is at work stays
    _take(place)
    assert not list(tmp_path.rglob(f"{PREFIX}*"))


def test_saving_a_model_leaves_what_another_run_writes(base_run: Run, tmp_path: Path) -> None:
    (tmp_path / NEW).mkdir()
    base_run.model.save_pretrained(tmp_path)
    assert (tmp_path / NEW).is_dir()


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_whole(exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:
        monkeypatch.setattr("xmodular.files._exchange", lambda one, other: False)
    place = tmp_path / "out"
    (place / "old").mkdir(parents=True)
    seen = []
    with folder_beside(place, lambda: seen.append(sorted(os.listdir(place)))) as new:
        (new / "file").write_text("new")
        assert sorted(os.listdir(place)) == ["old"]
    assert seen == [["old"], ["old"]]
    assert contents(tmp_path) == {"out/file": b"new"}
    assert os.listdir(tmp_path) == ["out"]


def test_what_came_meanwhile_is_not_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack_install(home / "gsw", home / "topic", language="gsw", output_dir=home / "out")
    before = contents(home / "out")

    def saving(self: Any, folder: Path, **more: Any) -> None:
        (home / "out" / "thesis.tex").write_text("mine")
        true(self, folder, **more)

    kind = type(load_saved(home / "topic"))
    true = kind.save_pretrained
    monkeypatch.setattr(kind, "save_pretrained", saving)
    with pytest.raises(ConfigurationError, match=r"thesis\.tex is not part of a model"):
        pack_remove(home / "topic", "sw", output_dir=home / "out", overwrite=True)
    assert contents(home / "out") == before | {"thesis.tex": b"mine"}


def test_a_file_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted() -> None:
        with written_file(path) as new:
            new.write_text("half")
            raise KeyboardInterrupt

    def in_the_way() -> None:
        with written_beside(tmp_path) as folder:
            (folder / "a.json").write_text("new")
            (folder / "b").write_text("a file")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == {"a.json": b"old"}
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError):
        in_the_way()
    assert contents(tmp_path) == {"a.json": b"old"}


def test_prediction_holds_its_output(home: Path, corpus: Path) -> None:
    out = home / "out.csv"
    rows = corpus / "topic" / "de_DE.test.jsonl"
    with held(out), ThreadPoolExecutor(1) as other, pytest.raises(ConfigurationError, match="Another run"):
        other.submit(predict, home / "topic", rows, out).result()
    assert not out.exists()
