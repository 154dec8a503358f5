"""Fine-tuning that was killed goes on as if it had not been: weights, log, metrics, best step and early end alike."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support import assert_same_state
from tests.training.test_resuming import assert_same_run, logged
from xmodular import XmodForSequenceClassification
from xmodular.errors import ConfigurationError, TrainingError
from xmodular.training import finetune
from xmodular.training.checkpoints import last_checkpoint
from xmodular.training.trainer import RoutedTrainer

# Dropout, several passes, accumulation, a short last step, checkpoints apart from validations, two learning rates.
OPTIONS = {
    "language": "en",
    "batch_size": 3,
    "accumulation": 2,
    "epochs": 30,
    "eval_every": 4,
    "save_every": 3,
    "log_every": 2,
    "learning_rate": 5e-3,
    "head_learning_rate": 6e-3,
    "classifier_dropout": 0.2,
}


@pytest.fixture(scope="module")
def files(corpus, base_run):
    return {
        "model": str(base_run.output_dir),
        "train": str(corpus / "topic" / "en_XX.train.jsonl"),
        "dev": str(corpus / "topic" / "en_XX.dev.jsonl"),
    }


def test_a_run_killed_three_times_is_the_run_that_was_not(files, tmp_path, nursery):
    config = tmp_path / "run.json"
    config.write_text(json.dumps({**OPTIONS, **files, "patience": 8}))
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    nursery.run("finetune", "--config", str(config), "--output-dir", str(unbroken))
    metrics = json.loads((unbroken / "metrics.json").read_text())
    assert metrics["stopped_early"]
    assert 0 < metrics["best_step"] == metrics["steps"] - 4 * 8
    draw = random.Random(3)
    for _ in range(3):
        steps = min(logged(broken) + draw.randint(6, 14), metrics["steps"] - 4)
        pid, log = nursery.start("finetune", "--config", str(config), "--output-dir", str(broken))
        deadline = time.monotonic() + 120
        while logged(broken) < steps and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.05)  # somewhere in a step, a checkpoint or a validation
        os.kill(pid, signal.SIGKILL)
        assert nursery.wait(pid) == -signal.SIGKILL, log.read_text()
        assert not (broken / "options.json").exists()
    nursery.run("finetune", "--config", str(config), "--output-dir", str(broken))
    assert_same_run(broken, unbroken)
    assert not (broken / "checkpoints").exists()


class Stopped(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def stopping(monkeypatch):
    """Makes saving the finished model, or a step, fail."""

    def at(where):
        if where == "end":
            monkeypatch.setattr("xmodular.training.finetuning.save_run", lambda *rest: stop())
        else:
            step = RoutedTrainer.training_step

            def counted(self, *rest):
                return stop() if self.state.global_step == where else step(self, *rest)

            monkeypatch.setattr(RoutedTrainer, "training_step", counted)

    def stop():
        raise Stopped

    yield at
    monkeypatch.undo()


SHORT = {**OPTIONS, "epochs": 1, "batch_size": 4, "eval_every": 2, "save_every": 1}  # 5 steps


@pytest.fixture(scope="module")
def unbroken(files, tmp_path_factory):
    """A run of five steps."""
    return finetune(output_dir=tmp_path_factory.mktemp("unbroken"), **files, **SHORT).output_dir


@pytest.mark.parametrize("where", [1, 4, "end"])
def test_it_goes_on_from_anywhere(files, unbroken, tmp_path, stopping, monkeypatch, where):
    stopping(where)
    with pytest.raises(Stopped):
        finetune(output_dir=tmp_path / "broken", **files, **SHORT)
    monkeypatch.undo()
    finetune(output_dir=tmp_path / "broken", **files, **SHORT)
    assert_same_run(tmp_path / "broken", unbroken)


def test_a_run_that_had_ended_early_trains_no_further(files, tmp_path, stopping, monkeypatch):
    """The end came at a step that has a checkpoint: going on from it must not take another step."""
    options = {**files, **OPTIONS, "patience": 1, "save_every": 1}
    whole = finetune(output_dir=tmp_path / "unbroken", **options)
    assert whole.metrics["stopped_early"]
    stopping("end")
    with pytest.raises(Stopped):
        finetune(output_dir=tmp_path / "broken", **options)
    assert last_checkpoint(tmp_path / "broken").name == f"checkpoint-{whole.metrics['steps']}"
    monkeypatch.undo()
    stopping(whole.metrics["steps"])
    finetune(output_dir=tmp_path / "broken", **options)
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken")


def test_other_options_and_other_data_are_named(files, corpus, base_run, tmp_path, stopping, monkeypatch):
    train = tmp_path / "en_XX.train.jsonl"
    shutil.copy(files["train"], train)
    options = {**files, **SHORT, "train": str(train), "output_dir": tmp_path / "run"}
    stopping(4)
    with pytest.raises(Stopped):
        finetune(**options)
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match=r"other options: eval_every was 2, now 1\. Choose another"):
        finetune(**{**options, "eval_every": 1})
    text = train.read_text()
    train.write_text(text.replace("river", "house"))
    with pytest.raises(ConfigurationError, match=r"have changed \(train\)\. Choose .* start over with --overwrite"):
        finetune(**options)
    train.write_text(text)
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=2)
    with pytest.raises(ConfigurationError, match=r"have changed \(.*the model object's weights\)"):
        finetune(model, **{name: value for name, value in options.items() if name != "model"})
    assert last_checkpoint(tmp_path / "run") is not None
    finetune(**options)
    with pytest.raises(ConfigurationError, match=r"contains a finished run\. Choose another folder"):
        finetune(**options)
    with pytest.raises(ConfigurationError, match=r"a finished run, whose checkpoints were removed"):
        finetune(**options, resume=True)


def test_overwriting_starts_over_on_other_data(files, tmp_path, stopping, monkeypatch):
    train = tmp_path / "en_XX.train.jsonl"
    shutil.copy(files["train"], train)
    options = {**files, **SHORT, "train": str(train), "output_dir": tmp_path / "run", "overwrite": True}
    stopping(4)
    with pytest.raises(Stopped):
        finetune(**options)
    monkeypatch.undo()
    train.write_text(train.read_text().replace("river", "house"))
    run = finetune(**options)
    alone = finetune(**{**options, "output_dir": tmp_path / "alone"})
    assert_same_state(run.model.state_dict(), alone.model.state_dict())
    assert logged(run.output_dir) == run.metrics["steps"]


def test_a_loss_that_is_no_number_stops_the_run(files, tmp_path, monkeypatch):
    step = RoutedTrainer.training_step
    monkeypatch.setattr(
        RoutedTrainer,
        "training_step",
        lambda self, *rest: step(self, *rest) * (float("nan") if self.state.global_step == 3 else 1),
    )
    with pytest.raises(TrainingError, match=r"The loss is not finite at step 4, .*checkpoint-3"):
        finetune(output_dir=tmp_path / "run", **files, **SHORT)
    assert not Path(tmp_path / "run" / "options.json").exists()


def test_weights_that_are_no_numbers_are_not_saved(files, tmp_path, monkeypatch):
    """The last step's loss is a number, its gradient is not, and nothing is logged or saved after it."""
    step = RoutedTrainer.training_step

    def spoilt(self, model, *rest):
        loss = step(self, model, *rest)
        if self.state.global_step == 4:
            next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("inf"))
        return loss

    monkeypatch.setattr(RoutedTrainer, "training_step", spoilt)
    with pytest.raises(TrainingError, match=r"After the last step, 5, a weight is not finite"):
        finetune(output_dir=tmp_path / "run", **{**files, **SHORT, "dev": (), "eval_every": None, "save_every": None})
    assert not (tmp_path / "run" / "config.json").exists()
