"""A language saved from one model, installed in another, and taken out again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from tests.packs.samples import tokenizer_text
from tests.support import assert_same_state
from xmodular import XmodForMaskedLM, diff, pack_install, pack_remove, pack_save
from xmodular.cli import app
from xmodular.errors import ConfigurationError, DataError, LanguageError, PackError
from xmodular.packs import push_pack, read_pack
from xmodular.results import Results, Row
from xmodular.tasks import load_saved
from xmodular.training import Run

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(base_run: Run, tmp_path: Path) -> Path:
    """A model of three languages in a folder of its own."""
    copy = tmp_path / "model"
    shutil.copytree(base_run.output_dir, copy, ignore=shutil.ignore_patterns("checkpoints", "blocks"))
    return copy


@pytest.fixture
def pack(folder: Path, tmp_path: Path) -> Path:
    """Swahili, from the model in `folder`."""
    pack_save(folder, "sw", output_dir=tmp_path / "pack")
    return tmp_path / "pack"


def state(folder: Path) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in load_saved(folder).state_dict().items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_save_install_remove_in_place(folder: Path, pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, files = state(folder), contents(folder)
    assert pack_install(pack, folder, language="gsw") == "gsw"
    said = capsys.readouterr().err
    assert "shape, position embeddings and shared LayerNorms, word embeddings, tokenizer" in " ".join(said.split())
    installed = load_saved(folder)
    assert installed.languages == ("de_DE", "en_XX", "sw_KE", "gsw")
    after = installed.state_dict()
    assert_same_state({name: tensor for name, tensor in after.items() if ".gsw." not in name}, before)
    assert_same_state(
        {name.replace(".gsw.", ".sw_KE."): tensor for name, tensor in after.items() if ".gsw." in name},
        {name: tensor for name, tensor in before.items() if ".sw_KE." in name},
    )
    changed = {name for name, content in contents(folder).items() if content != files[name]}
    assert changed == {WEIGHTS, "config.json"}

    assert pack_remove(folder, "gsw") == "gsw"
    assert_same_state(state(folder), before)
    assert contents(folder).keys() == files.keys()


@pytest.mark.parametrize("before", [None, 10**30, 512, 16])
def test_a_tokenizer_that_allows_more_than_the_model_reads_is_mended(
    folder: Path, pack: Path, tmp_path: Path, before: int | None
) -> None:
    path = folder / "tokenizer_config.json"
    content = {name: value for name, value in json.loads(path.read_text()).items() if name != "model_max_length"}
    path.write_text(json.dumps(content if before is None else {**content, "model_max_length": before}))
    pack_install(pack, folder, language="gsw", output_dir=tmp_path / "new")
    pack_install(pack, folder, language="gsw")
    for each in (folder, tmp_path / "new"):
        assert json.loads((each / path.name).read_text()) == {**content, "model_max_length": 16 if before == 16 else 32}


def test_install_into_another_folder(folder: Path, pack: Path, tmp_path: Path) -> None:
    files = contents(folder)
    pack_install(pack, folder, language="gsw", output_dir=tmp_path / "new")
    assert contents(folder) == files
    assert load_saved(tmp_path / "new").languages[-1] == "gsw"
    assert contents(tmp_path / "new").keys() == {name for name in files if "/" not in name}
    for name in ("tokenizer.json", "metrics.json", "options.json"):
        assert (tmp_path / "new" / name).read_bytes() == files[name]
    with pytest.raises(ConfigurationError, match="already exists"):
        pack_install(pack, folder, language="swb", output_dir=tmp_path / "new")
    pack_install(pack, folder, language="swb", output_dir=tmp_path / "new", overwrite=True)
    assert load_saved(tmp_path / "new").languages[-1] == "swb"
    pack_remove(folder, "de", output_dir=tmp_path / "two")
    assert load_saved(tmp_path / "two").languages == ("en_XX", "sw_KE")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="contains no model"):
        pack_remove(folder, "de", output_dir=tmp_path / "thesis", overwrite=True)


def test_into_a_fine_tuned_model(topic_run: Run, pack: Path, tmp_path: Path) -> None:
    """Fine-tuning moves neither embeddings nor adapters, so the base's pack fits."""
    target = tmp_path / "topic"
    pack_install(pack, topic_run.output_dir, language="gsw", output_dir=target)
    model = load_saved(target)
    ids = torch.tensor([[0, 5, 6, 2]])
    with torch.no_grad():
        both = [model(ids, lang_ids=model.lang_ids(code)).logits for code in ("gsw", "sw_KE")]
    assert torch.equal(*both)


def test_model_objects_change_and_are_saved_on_demand(folder: Path, pack: Path, tmp_path: Path) -> None:
    model, files = load_saved(folder), contents(folder)
    assert pack_install(read_pack(pack), model, language="gsw") == "gsw"
    assert model.languages[-1] == "gsw"
    assert contents(folder) == files
    saved = pack_save(model, "gsw", output_dir=tmp_path / "again", precision="fp16")
    assert saved.dtype == "float16"
    pack_remove(model, "gsw", output_dir=tmp_path / "new")
    assert load_saved(tmp_path / "new").languages == model.languages == ("de_DE", "en_XX", "sw_KE")
    assert (tmp_path / "new" / "tokenizer.json").is_file()


def test_stored_precision_stays(folder: Path, pack: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    load_saved(folder).to(torch.bfloat16).save_pretrained(half)
    shutil.copy(folder / "tokenizer.json", half)
    shutil.copy(folder / "tokenizer_config.json", half)
    pack_install(pack, half, language="gsw")  # known by its bfloat16 fingerprint
    assert {tensor.dtype for tensor in state(half).values()} == {torch.bfloat16}
    assert pack_save(half, "gsw", output_dir=tmp_path / "pack16").dtype == "bfloat16"


def test_shards_of_the_old_model_go(folder: Path, pack: Path) -> None:
    model = load_saved(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    pack_install(pack, folder, language="gsw")
    assert [path.name for path in folder.glob("model*")] == [WEIGHTS]
    assert load_saved(folder).languages[-1] == "gsw"


def test_a_language_with_its_own_vocabulary(folder: Path, tmp_path: Path) -> None:
    model = load_saved(folder)
    words = torch.randn(9, model.config.hidden_size)
    model.set_vocabulary("sw_KE", tokenizer_text(), words)
    model.save_pretrained(tmp_path / "own")
    shutil.copy(folder / "tokenizer.json", tmp_path / "own")
    shutil.copy(folder / "tokenizer_config.json", tmp_path / "own")
    pack = pack_save(tmp_path / "own", "sw", output_dir=tmp_path / "pack")
    assert pack.vocabulary == 9
    pack_install(pack, folder, language="gsw")
    assert (folder / "tokenizer.gsw.json").read_text(encoding="utf-8") == pack.tokenizer_json()
    again = load_saved(folder)
    assert isinstance(again, XmodForMaskedLM)
    assert torch.equal(again.roberta.embeddings.words("gsw").weight, words)
    pack_remove(folder, "gsw")
    assert not (folder / "tokenizer.gsw.json").exists()
    assert load_saved(folder).config.vocabularies == {}


def test_a_foreign_base_is_refused_and_nothing_changes(folder: Path, pack: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    model = load_saved(other)
    with torch.no_grad():
        model.roberta.embeddings.word_embeddings.weight[7] += 1
        model.roberta.embeddings.position_embeddings.weight[7] += 1
    model.save_pretrained(other)
    files = contents(other)
    with pytest.raises(PackError, match=r"(?s)LayerNorms differ.*word embeddings differ"):
        pack_install(pack, other, language="gsw")
    assert contents(other) == files
    pack_install(pack, other, language="gsw", force=True)
    assert load_saved(other).languages[-1] == "gsw"
    with pytest.raises(LanguageError, match="gsw"):
        pack_install(pack, other, language="gsw", force=True)


@pytest.mark.parametrize("broken", ["config.json", WEIGHTS])
@pytest.mark.parametrize("verb", ["install", "remove"])
def test_interrupted_between_two_files_the_model_is_the_old_one(
    verb: str, broken: str, folder: Path, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_replace, failed = os.replace, False

    def replace(a: Any, b: Any) -> None:
        nonlocal failed
        if Path(b) == folder / broken and not failed:
            failed = True
            raise KeyboardInterrupt
        true_replace(a, b)

    before = contents(folder)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        pack_install(pack, folder, language="gsw") if verb == "install" else pack_remove(folder, "sw")
    monkeypatch.undo()
    assert contents(folder) == before


def test_a_language_that_is_there_under_another_name(folder: Path, pack: Path) -> None:
    before = contents(folder)
    for name in (None, "sw", "Swahili", "swa"):
        with pytest.raises(LanguageError, match="sw"):
            pack_install(pack, folder, language=name)
    assert contents(folder) == before
    model = load_saved(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(".sw_KE." in name)
    model.save_pretrained(folder)
    assert pack_install(pack, folder, language="sw", overwrite=True) == "sw_KE"
    assert load_saved(folder).languages == ("de_DE", "en_XX", "sw_KE")
    assert diff(pack, folder).identical == {"sw_KE"}


def test_what_is_asked_is_checked_before_models_load(
    folder: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(source: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("xmodular.pack_verbs.pack_changes.load_saved", load)
    with pytest.raises(ConfigurationError, match="--output-dir"):
        pack_install(pack, "facebook/xmod-base")
    with pytest.raises(ConfigurationError, match="--output-dir"):
        pack_remove("facebook/xmod-base", "de")
    with pytest.raises(ConfigurationError, match="--push-to-hub"):
        pack_save(folder, "sw", output_dir=tmp_path / "x", private=True)
    with pytest.raises(PackError, match="not the name of a repository"):
        pack_save(folder, "sw", output_dir=tmp_path / "x", push_to_hub="x")
    with pytest.raises(PackError, match="already exists"):
        pack_save(folder, "sw", output_dir=pack)
    with pytest.raises(DataError, match=r"results\.json"):
        pack_save(folder, "sw", output_dir=tmp_path / "x", results=tmp_path / "results.json")
    with pytest.raises(PackError, match="no such folder"):
        pack_install(tmp_path / "nothing", folder)
    (pack / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(PackError, match="0 bytes"):
        pack_install(pack, folder)
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="no model"):
        pack_save(tmp_path, "sw", output_dir=tmp_path / "x")


def test_scores_and_upload(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("topic", "classify", code, "accuracy", "right", 0.5, 0.4, 0.6, 10) for code in ("sw_KE", "de_DE")]
    Results(tuple(rows), "en_XX").to_json(tmp_path / "results.json")
    pushed = []

    def push(pack: Any, repository: str, *, private: bool) -> str:
        pushed.append((pack.language, repository, private))
        return f"https://example.org/{repository}"

    monkeypatch.setattr("xmodular.pack_verbs.pack_changes.push_pack", push)
    options = {"results": tmp_path / "results.json", "push_to_hub": "me/sw", "private": True}
    pack = pack_save(folder, "Swahili", output_dir=tmp_path / "pack", **options)
    assert [row["language"] for row in pack.scores] == ["sw_KE"]
    assert pushed == [("sw_KE", "me/sw", True)]
    assert push_pack.__name__ == "push_pack"
    with pytest.raises(ConfigurationError, match=r"no rows for en_XX.*sw_KE, de_DE"):
        pack_save(folder, "en", output_dir=tmp_path / "en", results=tmp_path / "results.json")


def test_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    def run(*words: Any) -> Any:
        return CliRunner().invoke(app, list(map(str, words)))

    pack = tmp_path / "pack"
    assert run("pack", "save", "--model", folder, "--language", "sw", "--output-dir", pack).exit_code == 0
    assert run("pack", "install", pack, "--model", folder, "--language", "gsw").exit_code == 0
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["languages"][-1] == "gsw"
    verified = run("pack", "verify", pack, "--model", folder)
    assert verified.exit_code == 0
    assert "fits" in verified.output
    assert "Swahili" in run("pack", "list", tmp_path).output
    assert run("pack", "remove", "--model", folder, "--language", "gsw").exit_code == 0
    wrong = run("pack", "remove", "--model", folder, "--language", "tlh")
    assert wrong.exit_code == 2
    assert "tlh" in wrong.output
    (pack / "adapter.safetensors").unlink()
    broken = run("pack", "verify", pack)
    assert broken.exit_code == 1
    assert "adapter.safetensors is missing" in broken.output
