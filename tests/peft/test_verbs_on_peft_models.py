"""The verbs over a PEFT model and over a folder that PEFT alone saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import pipeline
from typer.testing import CliRunner

import xmodular
from tests.support import assert_same_state
from xmodular import (
    Predictor,
    XmodForMaskedLM,
    XmodForSequenceClassification,
    XmodModel,
    diff,
    evaluate,
    export,
    extend,
    fill_mask,
    pack_install,
    pack_save,
    pretrain,
)
from xmodular.cli import app
from xmodular.configuration import read_config
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.saved_models import load_saved

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")  # PEFT's own

ROWS = [{"text": "the house sees bread", "language": "en"}, {"text": "nyumba anaona mto", "language": "sw"}]


def plain(wrapped: Any) -> Any:
    """What PEFT itself makes of a copy."""
    import copy

    return copy.deepcopy(wrapped).merge_and_unload()


@pytest.fixture
def folder(wrapped, tmp_path) -> Path:
    """As PEFT saves it, with nothing of ours beside."""
    wrapped.save_pretrained(tmp_path / "lora")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {each.name for each in (tmp_path / "lora").iterdir()}
    return tmp_path / "lora"


def scores(model: Any) -> list[float]:
    return [
        row["score"] if row["label"] in ("common", "LABEL_0") else 1 - row["score"] for row in Predictor(model)(ROWS)
    ]


def test_predictions_are_those_of_the_merged_model(wrapped, folder):
    expected = scores(plain(wrapped))
    assert scores(wrapped) == pytest.approx(expected, abs=1e-5)
    assert scores(folder) == pytest.approx(expected, abs=1e-5)
    with wrapped.disable_adapter():
        assert scores(wrapped) != pytest.approx(expected, abs=1e-4)
    assert any("lora" in name for name in wrapped.state_dict())  # the object is not changed


def test_from_the_command_line(folder, tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    words = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    run = CliRunner().invoke(app, ["predict", "--model", str(folder), *words])
    assert run.exit_code == 0, run.output
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [each["label"] for each in found] == [each["label"] for each in Predictor(folder)(ROWS)]


def test_evaluate_and_perplexity(wrapped, folder, corpus, base_run):
    files = {"en": corpus / "topic" / "en_XX.test.jsonl", "sw": corpus / "topic" / "sw_KE.test.jsonl"}
    assert read_config(folder).id2label == {0: "LABEL_0", 1: "LABEL_1"}  # PEFT saves no names
    values = [[row.value for row in evaluate(each, files, source="en").rows] for each in (wrapped, plain(wrapped))]
    assert values[0] == pytest.approx(values[1])
    lm = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    tuned = peft.get_peft_model(lm, peft.LoraConfig(r=2, init_lora_weights=False))
    text = {"en": corpus / "text" / "en_XX.made.txt"}
    values = [[row.value for row in evaluate(each, text).rows] for each in (tuned, plain(tuned), base_run.output_dir)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert values[0] != pytest.approx(values[2], rel=1e-2)
    fillings = [fill_mask(each, "the <mask>", language="en", top_k=3) for each in (tuned, plain(tuned))]
    assert [each.piece for each in fillings[0]] == [each.piece for each in fillings[1]]


def test_pipelines(wrapped, base_run):
    xmodular.register()
    classify = pipeline("text-classification", model=wrapped, tokenizer=base_run.tokenizer)
    found = [classify(row["text"], language=row["language"])[0]["score"] for row in ROWS]
    assert found == pytest.approx([each["score"] for each in Predictor(wrapped)(ROWS)], abs=1e-5)


def test_languages_go_through_the_wrapper(wrapped):
    ids = torch.arange(4, 14).view(1, 10)
    merged = plain(wrapped)
    expected = merged(ids, lang_ids=merged.lang_ids("sw")).logits
    torch.testing.assert_close(wrapped(ids, lang_ids=wrapped.lang_ids("sw")).logits, expected, atol=1e-5, rtol=0)
    with wrapped.language("sw"):
        torch.testing.assert_close(wrapped(ids).logits, expected, atol=1e-5, rtol=0)
    compiled = torch.compile(wrapped, backend="eager")
    torch.testing.assert_close(compiled(ids, lang_ids=wrapped.lang_ids("sw")).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_gives_the_same_gradients(wrapped, reentrant):
    wrapped.double()  # so that only a wrong gradient differs
    ids, labels = torch.arange(4, 24).view(2, 10), torch.tensor([0, 1])
    langs = wrapped.lang_ids(["en", "sw"])

    def gradients() -> dict[str, torch.Tensor]:
        wrapped.zero_grad()
        wrapped(ids, lang_ids=langs, labels=labels).loss.backward()
        return {name: p.grad.clone() for name, p in wrapped.named_parameters() if p.grad is not None}

    expected = gradients()
    wrapped.gradient_checkpointing_enable({"use_reentrant": reentrant})
    wrapped.train()
    found = gradients()
    assert set(found) == set(expected)
    assert sum("lora_A" in name for name in found) == 4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=1e-8)


def test_merging_gives_a_model_that_is_saved_as_usual(wrapped, tmp_path):
    merged = wrapped.merge_and_unload()
    state = {name: value.clone() for name, value in merged.state_dict().items()}
    merged.save_pretrained(tmp_path / "merged")
    assert {each.name for each in (tmp_path / "merged").iterdir()} == {"config.json", "model.safetensors"}
    assert_same_state(load_saved(tmp_path / "merged").state_dict(), state)


def test_packs(wrapped, tmp_path, base_run):
    pack = pack_save(wrapped, "sw", output_dir=tmp_path / "sw")
    other = xmodular.XmodForMaskedLM.from_pretrained(base_run.output_dir, languages=["en", "de"])
    assert not other.misfits(pack)
    wrapped.remove_language("de")
    assert diff(tmp_path / "sw", wrapped).ok
    other.save_language("de", tmp_path / "de")
    assert pack_install(tmp_path / "de", wrapped) == "de_DE"
    assert "de_DE" in wrapped.languages
    wrapped(torch.arange(4, 14).view(1, 10), lang_ids=wrapped.lang_ids("de"))
    with pytest.raises(InputError, match="layers of PEFT and is to be saved: merge them first"):
        pack_install(tmp_path / "de", wrapped, overwrite=True, output_dir=tmp_path / "no")
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir)
    inside = peft.get_peft_model(model, peft.LoraConfig(target_modules=["dense1"], init_lora_weights=False))
    with pytest.raises(InputError, match="layers of PEFT in the adapters of languages"):
        pack_install(tmp_path / "de", inside, overwrite=True)
    pack_save(inside, "sw", output_dir=tmp_path / "tuned")  # as the language is computed now
    assert diff(tmp_path / "tuned", plain(inside)).ok
    assert not diff(tmp_path / "tuned", tmp_path / "sw").ok


def test_packs_and_folders(folder, tmp_path, base_run):
    base_run.model.save_language("de", tmp_path / "de")
    with pytest.raises(ConfigurationError, match="--output-dir says where the changed model"):
        pack_install(tmp_path / "de", folder, overwrite=True)
    pack_install(tmp_path / "de", folder, overwrite=True, output_dir=tmp_path / "new")
    assert not {each.name for each in (tmp_path / "new").iterdir()} & {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert diff(folder, tmp_path / "new").ok


def test_diff_says_what_lora_changes(wrapped, folder, base_run):
    assert diff(base_run.output_dir, wrapped).changed == {"encoder"}
    assert {"en_XX", "de_DE", "sw_KE", "embeddings"} <= diff(base_run.output_dir, wrapped).identical
    assert not diff(wrapped, folder).changed - {"encoder"}  # merged in another order of operations


def test_export_is_of_the_merged_model(wrapped, tmp_path):
    pytest.importorskip("onnxruntime")
    made = export(wrapped, tmp_path / "graph", languages=["en", "sw"])
    assert max(each.max_difference for each in made.checked) < 1e-4
    assert scores(tmp_path / "graph") == pytest.approx(scores(wrapped), abs=1e-4)


def test_training_whole_models_needs_a_merge(wrapped, corpus, tmp_path):
    for call in (
        lambda: pretrain(corpus / "text", model=wrapped, output_dir=tmp_path / "no"),
        lambda: extend(wrapped, "fr", corpus / "text" / "en_XX.made.txt", output_dir=tmp_path / "no"),
    ):
        with pytest.raises(InputError, match="has layers of PEFT: merge them first"):
            call()
    assert not (tmp_path / "no").exists()


def test_default_layers_are_known_without_importing_peft(base_run):
    model = XmodModel.from_pretrained(base_run.output_dir)
    lora = peft.get_peft_model(model, peft.LoraConfig())
    tuned = {name.rpartition(".lora_A")[0] for name, _ in lora.named_parameters() if "lora_A" in name}
    assert {name.rpartition(".")[2] for name in tuned} == {"query", "value"}
    assert len(tuned) == 4
    ia3 = peft.get_peft_model(XmodModel.from_pretrained(base_run.output_dir), peft.IA3Config())
    layers = {name.rpartition(".ia3_l")[0] for name, _ in ia3.named_parameters() if "ia3_l" in name}
    assert len(layers) == 8
    assert not any("adapter_modules" in name for name in layers)


# ------------------------------------------------------------------------ folders that are not in order


def changed(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": "/nowhere/base"}, "for the model /nowhere/base, and there is no such folder here"),
        ({"base_model_name_or_path": "base"}, "for the model base, and there is no such folder here"),
        ({"base_model_name_or_path": "owner/base"}, "adapter of PEFT for the model owner/base. No model owner/base"),
        ({"peft_type": "PROMPT_TUNING"}, "peft_type 'PROMPT_TUNING'. Only methods that change layers"),
        ({"peft_type": "XLORA"}, "peft_type 'XLORA'"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "has a megatron_config, which makes PEFT import"),
        ({"r": 3}, "does not fit the model"),
        ({"target_modules": ["nothing"]}, "does not fit the model .*No modules were targeted"),
        ({"target_modules": ["query"]}, "has a weight that is not in its model: .*value"),
        ({"target_modules": ["query", "value", "key"]}, "lacks the weight: .*key"),
    ],
)
def test_adapter_configurations_that_are_wrong(folder, fields, message):
    changed(folder, **fields)
    with pytest.raises((ConfigurationError, DataError), match=message):
        load_saved(folder)


def test_other_files_that_are_wrong(folder, wrapped, base_run, tmp_path):
    weights = folder / "adapter_model.safetensors"
    whole = load_file(weights)
    both = tmp_path / "both"
    shutil.copytree(base_run.output_dir, both)
    shutil.copy(folder / "adapter_config.json", both)
    with pytest.raises(DataError, match=r"both a model and adapter_config.json"):
        load_saved(both)
    save_file({name: value * torch.nan for name, value in whole.items()}, weights)
    with pytest.raises(DataError, match="cannot be merged into its model"):
        load_saved(folder)
    save_file({name: value for name, value in whole.items() if "classifier" not in name}, weights)
    with pytest.raises((ConfigurationError, DataError), match="classifier"):
        load_saved(folder)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged or not a safetensors file"):
        load_saved(folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(DataError, match=r"adapter_model\.bin could run code, so it is not read"):
        load_saved(folder)
    (folder / "adapter_config.json").write_text("[1")
    with pytest.raises(ConfigurationError, match=r"adapter_config\.json cannot be read"):
        load_saved(folder)


def test_without_peft_the_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ConfigurationError, match="need the package peft: pip install peft"):
        load_saved(folder)


def test_a_quantiser_that_is_missing_is_named(base_run):
    """As for QLoRA; where it is installed, loading is its own business."""
    import importlib.util

    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ConfigurationError, match=r"needs a package that is missing: .*bitsandbytes"):
        XmodForMaskedLM.from_pretrained(base_run.output_dir, quantization_config=BitsAndBytesConfig(load_in_4bit=True))


@pytest.mark.parametrize("targets", [["query"], ["dense1"], ["query", "dense1"]])
def test_languages_on_disk_have_all_of_an_adapter_or_are_refused(base_run, tmp_path, targets):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    lora = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    peft.get_peft_model(model, lora).save_pretrained(tmp_path)
    if targets != ["query"]:
        with pytest.raises(ConfigurationError, match="load it without resident_languages"):
            load_saved(tmp_path, resident_languages=1)
        return
    whole, few = load_saved(tmp_path).eval(), load_saved(tmp_path, resident_languages=1).eval()
    ids = torch.arange(5, 25).view(2, 10)
    with torch.inference_mode():
        assert torch.equal(*(each(ids, torch.tensor([0, 1])).logits for each in (whole, few)))
