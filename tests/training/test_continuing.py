"""Runs that go on with other options: rates follow the present options from the first step, and it is said."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MINIATURE
from xmodular import extend, finetune, pretrain
from xmodular.training.trainer import RoutedTrainer

COMMON = {"batch_size": 4, "learning_rate": 1e-3, "warmup": 2, "log_every": 1}
TEXT = {**COMMON, "block_size": 32, "dev_fraction": 0.1, "save_every": 3}


@pytest.fixture
def verbs(corpus: Path, base_run, tmp_path: Path) -> dict[str, Callable[..., object]]:
    """Each training verb, ready to run in a folder with some options."""
    path = tmp_path / "gsw.txt"
    path.write_text((corpus / "text" / "de_DE.made.txt").read_text().swapcase())
    base = base_run.output_dir
    train = corpus / "topic" / "en_XX.train.jsonl"
    return {
        "pretrain": lambda **more: pretrain(
            corpus / "text", **{**TEXT, "tokenizer": base, "preset": "tiny", "overrides": MINIATURE, **more}
        ),
        "extend": lambda **more: extend(base, "gsw", path, **{**TEXT, **more}),
        "finetune": lambda **more: finetune(base, train, language="en", **{**COMMON, "save_every": 3, **more}),
    }


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The rate that each step really took, by its number."""
    taken: dict[int, float] = {}
    step = RoutedTrainer.training_step

    def noted(self, *arguments):
        taken[self.state.global_step + 1] = self.optimizer.param_groups[0]["lr"]
        return step(self, *arguments)

    monkeypatch.setattr(RoutedTrainer, "training_step", noted)
    return taken


def linear(step: int, steps: int, peak: float = 1e-3) -> float:
    """The rate of a step, from 1: two steps of warm-up, and then down to 0 after the last."""
    done = step - 1
    return peak * (done / 2 if done < 2 else (steps - done) / (steps - 2))


def broken_off(run: Callable[..., object], folder: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """A run of six steps that stops in its fifth, with a checkpoint after the third."""
    step = RoutedTrainer.training_step

    def breaking(self, *arguments):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RoutedTrainer, "training_step", breaking)
        with pytest.raises(KeyboardInterrupt):
            run(output_dir=folder, max_steps=6, **options)


@pytest.mark.parametrize("verb", ["pretrain", "extend", "finetune"])
def test_a_broken_run_goes_on_with_more_steps_on_the_longer_schedule(verbs, verb, rates, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    broken_off(verbs[verb], folder, monkeypatch)
    rates.clear()
    capsys.readouterr()
    verbs[verb](output_dir=folder, max_steps=12, resume=True)
    assert rates == pytest.approx({step: linear(step, 12) for step in range(4, 13)})
    said = " ".join(capsys.readouterr().err.split())
    assert "max_steps was 6, now 12" in said
    assert f"learning rate continues at {linear(4, 12):.3g}, as in the present options after step 3" in said
    assert f"of the checkpoint, it would be {linear(4, 6):.3g}." in said


@pytest.mark.parametrize("verb", ["pretrain", "extend"])
def test_a_finished_run_goes_on_without_a_step_at_rate_0(verbs, verb, rates, tmp_path, capsys):
    verbs[verb](output_dir=tmp_path / "run", max_steps=6)
    rates.clear()
    capsys.readouterr()
    verbs[verb](output_dir=tmp_path / "run", max_steps=12, resume=True)
    assert rates == pytest.approx({step: linear(step, 12) for step in range(7, 13)})
    said = " ".join(capsys.readouterr().err.split())
    assert f"continues at {linear(7, 12):.3g}, as in the present options after step 6; under those" in said
    assert "it would be 0." in said
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    assert logged == pytest.approx({step: linear(step, 6 if step <= 6 else 12) for step in range(1, 13)})


def test_changed_rate_decay_and_schedule_hold_from_the_first_step(verbs, rates, tmp_path, monkeypatch):
    seen = []
    step = RoutedTrainer.training_step

    def noted(self, *arguments):
        seen.append([(group["weight_decay"], group["betas"]) for group in self.optimizer.param_groups])
        return step(self, *arguments)

    broken_off(verbs["finetune"], tmp_path / "run", monkeypatch)
    rates.clear()
    monkeypatch.setattr(RoutedTrainer, "training_step", noted)
    changed = {"learning_rate": 4e-3, "weight_decay": 0.3, "schedule": "cosine", "adam_betas": (0.8, 0.99)}
    verbs["finetune"](output_dir=tmp_path / "run", max_steps=6, resume=True, **changed)
    expected = {step: 4e-3 * (1 + math.cos(math.pi * (step - 3) / 4)) / 2 for step in range(4, 7)}
    assert rates == pytest.approx(expected)
    assert {decay for groups in seen for decay, _ in groups} == {0.3, 0.0}
    assert {betas for groups in seen for _, betas in groups} == {(0.8, 0.99)}


def test_tokens_read_are_told_only_where_the_options_drew_them_all(verbs, tmp_path, monkeypatch, capsys):
    broken_off(verbs["pretrain"], tmp_path / "run", monkeypatch, alpha=0.3)
    shutil.copytree(tmp_path / "run", tmp_path / "same")
    assert (
        "tokens_read" not in verbs["pretrain"](output_dir=tmp_path / "run", max_steps=6, alpha=1.0, resume=True).metrics
    )
    broken_off(verbs["pretrain"], tmp_path / "same", monkeypatch, alpha=1.0, resume=True)
    assert "continues at" not in capsys.readouterr().err
    assert "tokens_read" not in verbs["pretrain"](output_dir=tmp_path / "same", max_steps=6, alpha=1.0).metrics
