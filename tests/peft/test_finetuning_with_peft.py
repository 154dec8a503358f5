"""Fine-tuning of PEFT models: what trains, what is saved, that it is found again, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import assert_same_state, tiny_config
from xmodular import (
    XmodConfig,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
)
from xmodular.errors import ConfigurationError, InputError
from xmodular.modeling.peft_layers import merged
from xmodular.saved_models import load_saved
from xmodular.training import finetune
from xmodular.training.trainer import RoutedTrainer

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")  # PEFT's own


def test_only_the_adapter_trains_and_is_saved(lora_run, base_run):
    folder, base = lora_run.output_dir, base_run.model.state_dict()
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "xmod_config.json", "tokenizer.json"} <= names
    assert not names & {"config.json", "model.safetensors", "checkpoints"}
    saved = load_file(folder / "adapter_model.safetensors")
    assert all("lora_" in name or ".classifier." in name for name in saved)
    assert any(bool(value.any()) for name, value in saved.items() if "lora_B" in name)
    state = lora_run.model.state_dict()
    frozen = [name for name in state if name.replace(".base_layer", "") in base and "lora" not in name]
    assert len(frozen) > 30
    assert all(torch.equal(state[name], base[name.replace(".base_layer", "")]) for name in frozen)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        base_run.output_dir
    )
    config = XmodConfig.from_dict(json.loads((folder / "xmod_config.json").read_text()))
    assert (config.task_language, config.id2label) == ("en_XX", {0: "common", 1: "rare"})


def test_the_folder_is_the_model_that_was_trained(lora_run):
    """Merged on loading; PEFT reads the same folder over the same base."""
    ids = torch.arange(4, 24).view(2, 10)
    model = lora_run.model.eval()
    langs = model.lang_ids(["en", "sw"])
    expected = model(ids, lang_ids=langs).logits
    loaded = load_saved(lora_run.output_dir).eval()
    torch.testing.assert_close(loaded(ids, lang_ids=langs).logits, expected, atol=1e-5, rtol=0)
    assert not any("lora" in name for name in loaded.state_dict())
    base = XmodForSequenceClassification.from_pretrained(
        json.loads((lora_run.output_dir / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    theirs = peft.PeftModel.from_pretrained(base, lora_run.output_dir).eval()
    torch.testing.assert_close(theirs(ids, lang_ids=langs).logits, expected, atol=1e-5, rtol=0)


def test_a_broken_run_goes_on_bit_for_bit(base_run, corpus, tmp_path, monkeypatch):
    class Broken(Exception):
        pass

    real, seen = RoutedTrainer.training_step, []

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        if len(seen) > 13:
            raise Broken
        return real(self, *args, **kwargs)

    def run(folder: Path) -> Any:
        torch.manual_seed(0)
        model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_dropout=0.1))
        rows = [corpus / "topic" / f"en_XX.{split}.jsonl" for split in ("train", "dev")]
        return finetune(
            wrapped, rows[0], dev=rows[1], max_steps=20, eval_every=5, save_every=5, output_dir=folder, batch_size=8
        )

    whole = run(tmp_path / "whole").model.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(RoutedTrainer, "training_step", step)
        with pytest.raises(Broken):
            run(tmp_path / "broken")
    kept = sorted((tmp_path / "broken" / "checkpoints").glob("checkpoint-*/trained.safetensors"))
    assert kept
    assert all("lora" in name or "classifier" in name for name in load_file(kept[0]))
    assert_same_state(run(tmp_path / "broken").model.state_dict(), whole)


@pytest.mark.parametrize(
    ("cls", "task", "folder", "head"),
    [
        (XmodForTokenClassification, "tag", "tag", {"task_type": "TOKEN_CLS"}),
        (XmodForQuestionAnswering, "qa", None, {"task_type": "QUESTION_ANS"}),
        (XmodForMultipleChoice, "choice", None, {"modules_to_save": ["classifier", "pooler"]}),
        (XmodForSequenceClassification, "regress", None, {"task_type": "SEQ_CLS"}),
    ],
    ids=["tag", "qa", "choice", "regress"],
)
def test_the_other_heads(cls, task, folder, head, base_run, corpus, tmp_path):
    """They train, are saved, and the folder computes what the model does. More labels than the head had, too."""
    rows: Any = {
        "qa": [{"id": "a", "context": "the house sees river", "question": "house ?", "answers": ["river"]}] * 8,
        "choice": [{"premise": "the house", "choice1": "river", "choice2": "bread", "label": 1}] * 8,
        "regress": [{"text": "the house", "label": 0.5}, {"text": "bread", "label": 1.5}] * 4,
    }.get(task) or next((corpus / "tag").glob("en_XX.train.*"))
    model = cls.from_pretrained(base_run.output_dir, **({"num_labels": 1} if task == "regress" else {}))
    if task == "tag":
        model = cls.from_pretrained(base_run.output_dir, num_labels=3)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, **head))
    run = finetune(wrapped, rows, task=task, language="en", max_steps=3, output_dir=tmp_path / "run")
    ids = torch.arange(4, 24).view(2, 10)
    ids = ids[:, None] if task == "choice" else ids
    langs = run.model.lang_ids(["en", "sw"])
    expected, found = (
        each.eval()(ids, lang_ids=langs).to_tuple() for each in (run.model, load_saved(tmp_path / "run"))
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["IA3", "LoHa", "LoKr", "OFT", "BOFT", "HRA", "LNTuning", "C3A", "Miss", "FourierFT"])
def test_other_methods(kind, base_run, corpus, tmp_path):
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2)
    options: dict[str, Any] = {
        "OFT": {"oft_block_size": 4},
        "C3A": {"block_size": 4},
        "LNTuning": {"target_modules": ["LayerNorm"]},
        "Miss": {"r": 4},
        "BOFT": {"boft_block_size": 4},
        "FourierFT": {"n_frequency": 50},
    }.get(kind, {})
    config = getattr(peft, f"{kind}Config")(task_type="SEQ_CLS", **options)
    wrapped = peft.get_peft_model(model, config)
    rows = corpus / "topic" / "en_XX.train.jsonl"
    run = finetune(wrapped, rows, max_steps=5, output_dir=tmp_path / "run")
    ids = torch.arange(4, 24).view(2, 10)
    langs = run.model.lang_ids(["en", "sw"])
    with torch.no_grad():
        expected = run.model.eval()(ids, lang_ids=langs).logits
        torch.testing.assert_close(
            load_saved(tmp_path / "run").eval()(ids, lang_ids=langs).logits, expected, atol=1e-4, rtol=0
        )
        torch.testing.assert_close(merged(run.model)(ids, lang_ids=langs).logits, expected, atol=1e-4, rtol=0)


def test_a_model_with_add_adapter_is_the_same_to_us(base_run, corpus, tmp_path):
    """transformers' own way, without target_modules and without a wrapper."""
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2)
    model.add_adapter(peft.LoraConfig(r=2, modules_to_save=["classifier"]))
    run = finetune(model, corpus / "topic" / "en_XX.train.jsonl", max_steps=5, output_dir=tmp_path / "run")
    assert run.model is model
    saved = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in saved if "lora" in name} == {"query", "value"}
    ids = torch.arange(4, 24).view(2, 10)
    langs = model.lang_ids(["en", "sw"])
    torch.testing.assert_close(
        load_saved(tmp_path / "run").eval()(ids, lang_ids=langs).logits,
        model.eval()(ids, lang_ids=langs).logits,
        atol=1e-5,
        rtol=0,
    )


def test_several_seeds(base_run, corpus, tmp_path):
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2))
    before = {name: value.clone() for name, value in wrapped.state_dict().items()}
    rows = corpus / "topic" / "en_XX.train.jsonl"
    run = finetune(wrapped, rows, dev_fraction=0.2, seeds=[1, 2], max_steps=5, output_dir=tmp_path / "run")
    assert {
        name: bool(torch.equal(value, before[name])) for name, value in wrapped.state_dict().items()
    } == dict.fromkeys(before, True)
    assert (tmp_path / "run" / "seed-2" / "adapter_model.safetensors").is_file()
    assert run.metrics["seeds"] == [1, 2]


def test_going_on_from_a_folder_of_an_adapter(lora_run, corpus, tmp_path):
    """It is merged, so all shared weights train; other labels get a new head."""
    run = finetune(lora_run.output_dir, corpus / "topic" / "en_XX.train.jsonl", max_steps=2, output_dir=tmp_path / "on")
    assert (tmp_path / "on" / "model.safetensors").is_file()
    assert run.model.config.id2label == {0: "common", 1: "rare"}
    rows = [{"text": f"the house {number}", "label": "abc"[number % 3]} for number in range(9)]
    other = finetune(lora_run.output_dir, rows, language="en", max_steps=2, output_dir=tmp_path / "other")
    assert sorted(other.model.config.id2label.values()) == ["a", "b", "c"]


def test_what_is_refused_before_work(base_run, corpus, tmp_path):
    rows = corpus / "topic" / "en_XX.train.jsonl"

    def model(**over: Any) -> Any:
        return XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2, **over)

    def tried(given: Any, **options: Any) -> Any:
        return finetune(given, rows, max_steps=1, output_dir=tmp_path / "no", **options)

    lora = {"task_type": "SEQ_CLS", "r": 2}
    with pytest.raises(ConfigurationError, match="--trainable all does not apply to a PEFT model"):
        tried(peft.get_peft_model(model(), peft.LoraConfig(**lora)), trainable="all")
    with pytest.raises(
        InputError, match="is new, and its classifier does not train: add 'classifier' to modules_to_save"
    ):
        tried(peft.get_peft_model(model(), peft.LoraConfig(r=2)))
    with pytest.raises(InputError, match="does not know where its base model is saved"):
        tried(peft.get_peft_model(XmodForSequenceClassification(tiny_config()), peft.LoraConfig(**lora)))
    changed, grown = model(), model()
    changed.roberta.encoder.layer[1].output.dense.weight.data[0, 0] += 1
    with pytest.raises(InputError, match=r"layer\.1\.output\.dense\.weight of the PEFT model is not in its base"):
        tried(peft.get_peft_model(changed, peft.LoraConfig(**lora)))
    grown.add_language("fr")
    with pytest.raises(InputError, match="language fr of the PEFT model is not in its base"):
        tried(peft.get_peft_model(grown, peft.LoraConfig(**lora)))
    loose = peft.get_peft_model(model(), peft.LoraConfig(**lora))
    loose.base_model.model.roberta.encoder.layer[0].output.dense.bias.requires_grad_(True)
    with pytest.raises(InputError, match=r"1 trainable parameters are no part .*output\.dense\.bias"):
        tried(loose)
    prompts = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3, num_layers=2, token_dim=32)
    with pytest.raises(InputError, match="PEFT model with PROMPT_TUNING, which is not in the layers"):
        tried(peft.get_peft_model(model(), prompts))
    frozen = peft.get_peft_model(model(), peft.LoraConfig(**lora, inference_mode=True))
    with pytest.raises(InputError, match="No parameter of the PEFT model is trainable"):
        tried(frozen)
    assert not (tmp_path / "no").exists()


def test_layers_in_language_adapters_are_pointed_out(base_run, corpus, tmp_path, capsys):
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules="all-linear"))
    run = finetune(wrapped, corpus / "topic" / "en_XX.train.jsonl", max_steps=3, output_dir=tmp_path / "run")
    assert "exclude_modules" in " ".join(capsys.readouterr().err.split())
    trained = {
        name.split("adapter_modules.")[1].split(".")[0]
        for name, value in run.model.state_dict().items()
        if "adapter_modules" in name and "lora_B" in name and value.any()
    }
    assert trained == {"en_XX"}


@pytest.mark.parametrize(
    ("cls", "task"), [(XmodForSequenceClassification, "classify"), (XmodForTokenClassification, "tag")]
)
def test_labels_of_a_trained_head_keep_their_rows(cls, task, base_run, corpus, tmp_path):
    """PEFT trains a copy of the head; it is that copy which gets other labels."""
    old, new = (["common", "never"], "rare") if task == "classify" else (["O", "B-NOUN"], "B-VERB")
    model = cls.from_pretrained(
        base_run.output_dir, id2label=dict(enumerate(old)), label2id={o: i for i, o in enumerate(old)}
    )
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, modules_to_save=["classifier"]))
    head = wrapped.base_model.model.classifier.modules_to_save["default"]
    row = getattr(head, "out_proj", head).weight[0].detach().clone()
    rows = next((corpus / ("topic" if task == "classify" else "tag")).glob("en_XX.train.*"))
    run = finetune(
        wrapped, rows, task=task, language="en", max_steps=1, output_dir=tmp_path / "run", learning_rate=1e-9
    )
    names = run.model.config.id2label
    assert new in names.values()
    assert old[1] not in names.values()
    loaded = load_saved(tmp_path / "run").classifier
    kept = next(index for index, name in names.items() if name == old[0])
    torch.testing.assert_close(getattr(loaded, "out_proj", loaded).weight[kept], row, atol=1e-6, rtol=0)
    assert json.loads((tmp_path / "run" / "xmod_config.json").read_text())["id2label"] == {
        str(i): n for i, n in names.items()
    }


def test_a_continued_run_sees_another_adapter_or_base(lora_run, base_run, corpus, tmp_path):
    from xmodular.training import contents

    facts = contents.base(str(lora_run.output_dir), None)
    names = {Path(name).name for name in facts}
    assert {"adapter_config.json", "adapter_model.safetensors", "xmod_config.json", "model.safetensors"} <= names
