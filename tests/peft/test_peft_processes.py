"""Two processes train PEFT's layers as one does, whatever each of them drew for their start."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.nursery import Nursery
from xmodular.saved_models import load_saved

peft = pytest.importorskip("peft")

SCRIPT = """
import os, sys
import peft, torch
from xmodular import XmodForSequenceClassification, finetune

still = {{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
torch.manual_seed(0)
model = XmodForSequenceClassification.from_pretrained({base!r}, num_labels=2, **still)
torch.manual_seed(int(os.environ.get("RANK", "0")))  # each process draws its own LoRA, as without a seed
wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=4))
run = finetune(wrapped, {train!r}, dev={dev!r}, output_dir={output!r}, **{options!r})
raise SystemExit(0)
"""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_two_processes_fine_tune_as_one(base_run: object, corpus: Path, tmp_path: Path, nursery: Nursery) -> None:
    rows = {use: str(corpus / "topic" / f"en_XX.{use}.jsonl") for use in ("train", "dev")}
    options = {"batch_size": 2, "max_steps": 8, "learning_rate": 2e-3, "eval_every": 4, "save_every": 4, "log_every": 2}
    for name, ranks, more in (("one", 1, {"accumulation": 2}), ("two", 2, {})):
        script = SCRIPT.format(
            base=str(base_run.output_dir),  # type: ignore[attr-defined]
            output=str(tmp_path / name),
            options={**options, **more},
            **rows,
        )
        port, started = free_port(), []
        for rank in range(ranks):
            env = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            told = {key: str(value) for key, value in env.items()} | {"MASTER_ADDR": "127.0.0.1"}
            told |= {"MASTER_PORT": str(port)}
            started.append(nursery.start(first=script, env=told if ranks > 1 else {}))
        for pid, log in started:
            assert nursery.wait(pid) == 0, log.read_text(encoding="utf-8")
    mine, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert any("lora_B" in name and bool(tensor.any()) for name, tensor in mine.items())
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=0, msg=lambda text, n=name: f"{n}: {text}")
    ids = torch.arange(4, 24).view(2, 10)
    one, two = (load_saved(tmp_path / name).eval() for name in ("one", "two"))
    langs = one.lang_ids(["en", "sw"])
    torch.testing.assert_close(one(ids, lang_ids=langs).logits, two(ids, lang_ids=langs).logits, atol=1e-4, rtol=0)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert metrics[0]["dev"] == pytest.approx(metrics[1]["dev"], abs=1e-4)
