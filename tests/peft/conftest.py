"""Models with layers of PEFT. These tests need the package peft, which is no dependency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from xmodular import XmodForSequenceClassification
from xmodular.training import Run

peft = pytest.importorskip("peft")


@pytest.fixture
def wrapped(base_run: Run) -> Any:
    """A classifier over the session's base with LoRA that has an effect, in a PeftModel."""
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2, **still)
    model.config.id2label, model.config.label2id = {0: "common", 1: "rare"}, {"common": 0, "rare": 1}
    lora = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=16, init_lora_weights=False)
    return peft.get_peft_model(model, lora).eval()


@pytest.fixture(scope="session")
def lora_run(base_run: Run, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Topics in English by LoRA."""
    from xmodular.training import finetune

    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2)
    rows = [corpus / "topic" / f"en_XX.{split}.jsonl" for split in ("train", "dev")]
    folder = tmp_path_factory.mktemp("lora") / "run"
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=4))
    return finetune(wrapped, rows[0], dev=rows[1], max_steps=40, eval_every=20, output_dir=folder)
