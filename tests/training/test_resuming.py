"""Runs that were killed, ran out of space or diverged: what is left, and how they go on."""

import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import MINIATURE
from xmodular.errors import ConfigurationError, TrainingError
from xmodular.training import pretrain
from xmodular.training.checkpoints import is_complete, last_checkpoint
from xmodular.training.log import RunLog
from xmodular.training.trainer import RoutedTrainer

# Dropout is on; validation, accumulation, three passes, and a checkpoint that falls between two lines of the log.
OPTIONS = {
    "preset": "tiny",
    "overrides": MINIATURE,
    "block_size": 32,
    "batch_size": 2,
    "accumulation": 2,
    "dev_fraction": 0.1,
    "learning_rate": 3e-3,
    "log_every": 2,
    "save_every": 3,
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    assert (one / "log.jsonl").read_text() == (other / "log.jsonl").read_text()
    assert (one / "metrics.json").read_text() == (other / "metrics.json").read_text()


def copy_of(run: Path, target: Path) -> Path:
    """A finished run as if it had been stopped before its end."""
    shutil.copytree(run, target)
    for name in ("options.json", "model.safetensors", "config.json", "metrics.json"):
        (target / name).unlink()
    return target


@pytest.fixture(scope="module")
def text(corpus, base_run):
    return {"text": corpus / "text", "tokenizer": str(base_run.output_dir)}


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """A run of nine steps with all its checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    pretrain(output_dir=folder, max_steps=9, keep_checkpoints=0, **text, **OPTIONS)
    return folder


def test_a_run_killed_three_times_is_the_run_that_was_not(text, tmp_path, nursery):
    values = {**OPTIONS, **text, "text": str(text["text"]), "batch_size": 8, "epochs": 3, "eval_every": 10}
    config = tmp_path / "run.json"
    config.write_text(json.dumps(values))
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    nursery.run("pretrain", "--config", str(config), "--output-dir", str(unbroken))
    draw = random.Random(11)
    steps = 0
    for _ in range(3):
        steps = logged(broken) + draw.randint(4, 18)
        pid, _ = nursery.start("pretrain", "--config", str(config), "--output-dir", str(broken))
        deadline = time.monotonic() + 60
        while logged(broken) < steps and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.03)  # somewhere in a step, a checkpoint or a validation
        os.kill(pid, signal.SIGKILL)
        assert nursery.wait(pid) == -signal.SIGKILL
        assert logged(broken) >= steps
        assert not (broken / "options.json").exists()
    nursery.run("pretrain", "--config", str(config), "--output-dir", str(broken))
    assert json.loads((broken / "metrics.json").read_text())["steps"] > steps
    assert_same_run(broken, unbroken)


def logged(folder: Path) -> int:
    """The last step in a run's log."""
    if not (folder / "log.jsonl").is_file():
        return 0
    lines = (folder / "log.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0


def test_no_cut_file_of_a_checkpoint_goes_unnoticed(whole, tmp_path):
    for path in sorted((whole / "checkpoints" / "checkpoint-9").iterdir()):
        broken = tmp_path / path.name
        shutil.copytree(whole / "checkpoints", broken / "checkpoints")
        assert last_checkpoint(broken).name == "checkpoint-9"
        cut = broken / "checkpoints" / "checkpoint-9" / path.name
        os.truncate(cut, cut.stat().st_size // 2)
        assert last_checkpoint(broken).name == "checkpoint-6", path.name
        cut.unlink()
        assert last_checkpoint(broken).name == "checkpoint-6", path.name


def test_a_cut_checkpoint_is_passed_over(whole, text, tmp_path):
    broken = copy_of(whole, tmp_path / "broken")
    os.truncate(broken / "checkpoints" / "checkpoint-9" / "optimizer.pt", 1000)
    os.truncate(broken / "checkpoints" / "checkpoint-6" / "model.safetensors", 1000)
    pretrain(output_dir=broken, max_steps=9, keep_checkpoints=0, **text, **OPTIONS)
    assert_same_run(broken, whole)
    assert is_complete(broken / "checkpoints" / "checkpoint-9")


def test_a_run_killed_after_its_last_step_is_the_run_that_was_not(whole, text, tmp_path):
    broken = copy_of(whole, tmp_path / "broken")
    assert last_checkpoint(broken).name == "checkpoint-9"
    pretrain(output_dir=broken, max_steps=9, keep_checkpoints=0, **text, **OPTIONS)
    assert_same_run(broken, whole)


def test_what_stopped_before_its_first_step_is_in_nobodys_way(text, tmp_path):
    options = {**OPTIONS, "text": text["text"], "output_dir": tmp_path / "run", "max_steps": 3}
    with pytest.raises(ConfigurationError, match="vocab_size=10 does not suit this text: its characters alone need"):
        pretrain(vocab_size=10, **options)
    run = pretrain(vocab_size=200, **options)
    assert run.metrics["steps"] == 3
    assert run.model.config.vocab_size == len(run.tokenizer) > 10


def test_a_record_that_cannot_be_read_is_named(text, tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"run\.json cannot be read"):
        pretrain(output_dir=tmp_path, max_steps=3, **text, **OPTIONS)


def test_other_options_are_named(whole, text, tmp_path):
    broken = copy_of(whole, tmp_path / "broken")
    options = {**text, **OPTIONS, "max_steps": 9, "output_dir": broken}
    with pytest.raises(ConfigurationError, match=r"other options: learning_rate was 0\.003, now 0\.1\. Choose another"):
        pretrain(**{**options, "learning_rate": 0.1})
    with pytest.raises(ConfigurationError, match=r"max_steps was 9, now 12; alpha was 0\.3, now 0\.5"):
        pretrain(**{**options, "max_steps": 12, "alpha": 0.5})
    assert last_checkpoint(broken).name == "checkpoint-9"
    assert pretrain(**{**options, "max_steps": 12, "resume": True}).metrics["steps"] == 12
    with pytest.raises(ConfigurationError, match="finished run"):
        pretrain(**{**options, "max_steps": 12})
    assert pretrain(**{**options, "max_steps": 3, "overwrite": True}).metrics["steps"] == 3
    assert [path.name for path in (broken / "checkpoints").iterdir()] == ["checkpoint-3"]


def test_changed_text_is_noticed(whole, text, tmp_path):
    broken = copy_of(whole, tmp_path / "broken")
    other = tmp_path / "text"
    shutil.copytree(text["text"], other)
    record = json.loads((broken / "run.json").read_text())
    record["options"]["text"] = str(other)
    (broken / "run.json").write_text(json.dumps(record))
    with (other / "sw_KE.made.txt").open("a") as file:
        file.write("nyumba inaona mkate mkubwa sana leo asubuhi na mapema kabisa\n" * 3)
    with pytest.raises(ConfigurationError, match=r"have changed \(sw_KE\)"):
        pretrain(output_dir=broken, max_steps=9, keep_checkpoints=0, **{**text, "text": other}, **OPTIONS)


def test_a_full_disk_leaves_the_last_checkpoint(whole, text, tmp_path, monkeypatch):
    save = RoutedTrainer._save_optimizer_and_scheduler
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(self, folder):
        if self.state.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
        try:
            save(self, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    options = {**text, **OPTIONS, "output_dir": tmp_path / "run", "max_steps": 9, "keep_checkpoints": 0}
    with monkeypatch.context() as patch:
        patch.setattr(RoutedTrainer, "_save_optimizer_and_scheduler", on_a_full_disk)
        with pytest.raises(TrainingError, match=r"checkpoint of step 6 could not be written .*checkpoint-3, is intact"):
            pretrain(**options)
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["checkpoint-3"]

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("xmodular.training.checkpoints._to_disk", no_space)
        with pytest.raises(TrainingError, match=r"step 6 could not be written .*No space left on device"):
            pretrain(**options)
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["checkpoint-3"]
    pretrain(**options)
    assert_same_run(tmp_path / "run", whole)


def test_a_log_that_cannot_be_written_stops_the_run_with_a_word(text, tmp_path, monkeypatch):
    write = RunLog.on_log

    def no_space(self, args, state, control, **more):
        if state.global_step == 4:
            self.path.unlink()
            self.path.mkdir()  # as good as a full disk: it cannot be opened
        return write(self, args, state, control, **more)

    monkeypatch.setattr(RunLog, "on_log", no_space)
    with pytest.raises(TrainingError, match=r"line of the log could not be written .*checkpoint-3, is intact"):
        pretrain(output_dir=tmp_path, max_steps=9, **text, **OPTIONS)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_run_that_diverges_stops_with_the_last_good_checkpoint(text, tmp_path, monkeypatch, where):
    step = RoutedTrainer.training_step

    def diverging(self, model, inputs, num_items_in_batch=None):
        loss = step(self, model, inputs, num_items_in_batch)
        if self.state.global_step == 5:
            if where == "loss":
                return loss * float("nan")
            model.lm_head.bias.grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(RoutedTrainer, "training_step", diverging)
    with pytest.raises(TrainingError, match=r"not finite at step 6, .*checkpoint-3\. Try a lower learning rate"):
        pretrain(output_dir=tmp_path, max_steps=9, **text, **OPTIONS)
    assert last_checkpoint(tmp_path).name == "checkpoint-3"
    assert all(bool(torch.isfinite(each).all()) for each in weights(last_checkpoint(tmp_path)).values())
    assert not (tmp_path / "options.json").exists()
