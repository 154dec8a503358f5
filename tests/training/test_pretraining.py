"""Pretraining: what a run leaves behind, resuming, accumulation, errors before work."""

import json
import shutil

import pytest
import torch

from tests.conftest import LANGUAGES, MINIATURE
from xmodular import XmodForMaskedLM
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.training import pretrain

QUICK = {"preset": "tiny", "block_size": 32, "batch_size": 8, "dev_fraction": 0.1, "learning_rate": 3e-3}


def weights(path):
    return XmodForMaskedLM.from_pretrained(path).state_dict()


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_run_is_complete(base_run, corpus):
    folder = base_run.output_dir
    assert base_run.model.languages == LANGUAGES
    assert_equal_weights(weights(folder), base_run.model.state_dict())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["validation"]) == set(LANGUAGES)
    assert metrics["steps"] == 6
    assert all(values["masked_tokens"] > 0 for values in metrics["validation"].values())
    options = json.loads((folder / "options.json").read_text())
    assert options["text"] == str(corpus / "text")
    assert options["max_steps"] == 6
    assert not list(folder.glob(".writing*"))


def test_training_learns(corpus, base_run, tmp_path):
    run = pretrain(
        corpus / "text", tokenizer=base_run.output_dir, output_dir=tmp_path, overrides=MINIATURE, max_steps=60, **QUICK
    )
    for language, before in base_run.metrics["validation"].items():
        assert run.metrics["validation"][language]["loss"] < before["loss"] - 0.5


def test_resuming_gives_the_same_weights(corpus, base_run, tmp_path):
    # Dropout is on, and the resumed part crosses an epoch's end (24 steps).
    options = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, max_steps=30, save_every=20, alpha=0.5)
    options["batch_size"] = 16
    whole = pretrain(corpus / "text", output_dir=tmp_path / "whole", **options)
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole", broken)
    (broken / "options.json").unlink()
    shutil.rmtree(broken / "checkpoints" / "checkpoint-30")
    (broken / "checkpoints" / "checkpoint-25").mkdir()  # one that was cut off while it was written
    resumed = pretrain(corpus / "text", output_dir=broken, resume=True, **options)
    assert resumed.metrics["steps"] == 30
    assert_equal_weights(resumed.model.state_dict(), whole.model.state_dict())

    finished = pretrain(corpus / "text", output_dir=tmp_path / "whole", resume=True, **options)
    assert_equal_weights(finished.model.state_dict(), whole.model.state_dict())
    assert finished.metrics["validation"] == whole.metrics["validation"]


def test_languages_can_be_chosen_by_name(corpus, tmp_path):
    run = pretrain(
        corpus / "text",
        output_dir=tmp_path,
        languages=("Swahili", "en"),
        vocab_size=150,
        overrides=MINIATURE,
        max_steps=1,
        **QUICK,
    )
    assert run.model.languages == ("sw_KE", "en_XX")


def test_errors_come_before_work(corpus, base_run, tmp_path):
    with pytest.raises(DataError, match="no text folder"):
        pretrain(tmp_path / "absent", output_dir=tmp_path / "x")
    with pytest.raises(LanguageError, match="Tamil"):
        pretrain(corpus / "text", output_dir=tmp_path / "x", languages=("Tamil",))
    with pytest.raises(ConfigurationError, match="holds a finished run"):
        pretrain(corpus / "text", output_dir=base_run.output_dir)
    with pytest.raises(ConfigurationError, match="there is no preset 'tinny'"):
        pretrain(corpus / "text", output_dir=tmp_path / "y", tokenizer=base_run.output_dir, preset="tinny")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigurationError, match="fp16 needs a GPU"):
            pretrain(corpus / "text", output_dir=tmp_path / "z", precision="fp16")
    assert not (tmp_path / "x").exists()
