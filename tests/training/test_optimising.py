"""The optimiser and its learning rates, apart from any run."""

import random

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from tests.support import ragged_batch, tiny_model
from xmodular import XmodForMaskedLM
from xmodular.training.optimising import new_optimizer
from xmodular.training.trainer import Intervals, RoutedTrainer

STEPS = 6


def trainer_in(folder, checkpoint=None):
    """Trains a tiny model with a loss scale, as fp16 needs; its first step overflows."""
    args = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=STEPS,
        learning_rate=1e-2,
        logging_steps=1,
        use_cpu=True,
        report_to="none",
        dataloader_pin_memory=False,
    )
    batch = ragged_batch()
    batch["labels"] = batch["input_ids"].where(batch["attention_mask"] == 1, -100)
    trainer = RoutedTrainer(
        tiny_model(XmodForMaskedLM),
        args,
        dataset=list(range(STEPS)),
        collate=lambda rows: dict(batch),
        batches=[[step] for step in range(STEPS)],
        intervals=Intervals(None, 4),
        checkpoint=checkpoint,
    )
    trainer.scaler = torch.amp.GradScaler("cpu")
    step = trainer.training_step

    def overflowing(model, *rest):
        loss = step(model, *rest)
        if trainer.state.global_step == 0:
            next(weight for weight in model.parameters() if weight.grad is not None).grad.fill_(float("inf"))
        return loss

    trainer.training_step = overflowing
    return trainer


def rates(trainer):
    return [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]


def test_the_schedule_waits_while_fp16_overflows(tmp_path):
    trainer = trainer_in(tmp_path)
    trainer.train()
    full = [1e-2 * (STEPS - step) / STEPS for step in range(STEPS)]
    assert rates(trainer) == pytest.approx([full[0], *full[:5]])


def test_a_schedule_that_waited_goes_on_where_it_was(tmp_path):
    whole = trainer_in(tmp_path)
    whole.train()
    resumed = trainer_in(tmp_path / "again", tmp_path / "checkpoints" / "checkpoint-4")
    resumed.train()
    assert rates(resumed) == rates(whole)
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_decay_whatever_the_name_of_their_language(tmp_path):
    model = tiny_model(XmodForMaskedLM, languages=["en_XX", "norman"])
    args = TrainingArguments(output_dir=str(tmp_path), weight_decay=0.1, use_cpu=True, report_to="none")
    decaying = {id(weight) for weight in new_optimizer(model, args, None).param_groups[0]["params"]}
    names = {name for name, weight in model.named_parameters() if id(weight) in decaying}
    assert {name.replace("norman", "en_XX") for name in names if "norman" in name} == {
        name for name in names if "en_XX" in name
    }
    assert any("norman" in name for name in names)


def test_random_states_of_gpus_that_are_gone_are_left_alone(tmp_path, monkeypatch):
    trainer = trainer_in(tmp_path)
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    torch.save({**states, "cuda": [torch.tensor([each]) for each in range(4)]}, tmp_path / "rng_state.pth")
    restored = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_rng_state_all", lambda states: restored.extend(enumerate(map(int, states))))
    trainer._restore_randomness(tmp_path)
    assert restored == [(0, 0), (1, 1)]
