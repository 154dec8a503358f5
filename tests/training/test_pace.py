"""The pace that runs print: tokens a second, padding not counted, and what is left, also after a break."""

import re

import pytest

from tests.conftest import MINIATURE
from xmodular import extend, finetune, pretrain
from xmodular.training.pace import Pace, duration
from xmodular.training.trainer import RoutedTrainer

QUICK = {"block_size": 32, "batch_size": 4, "dev_fraction": 0.1, "max_steps": 4, "log_every": 2}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_a_run_from_the_start():
    clock = Clock()
    pace = Pace(clock)
    assert pace.said(0, 100, 0) == ("", "")
    pace.begin(0)
    assert pace.said(0, 100, 0) == ("", "")
    clock.now += 20
    pace.begin(9)  # the clock runs already
    # 10 of 100 steps in 20 s: 90 more take 180 s.
    assert pace.said(10, 100, 50_000) == ("2,500 tokens/s", "3 min left")


def test_a_run_that_goes_on_counts_its_own_steps():
    clock = Clock()
    pace = Pace(clock)
    pace.begin(90)
    clock.now += 20
    # 5 steps in 20 s, not 95; 5 more take as long.
    assert pace.said(95, 100, 1_000) == ("50 tokens/s", "20 s left")
    assert pace.said(100, 100, 1_000)[1] == "0 s left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3569, "59 min"),
        (3571, "1 h 00 min"),
        (7512, "2 h 05 min"),
        (86_399, "1 d 0 h"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@pytest.fixture
def counts(monkeypatch):
    """The tokens that a run counted up to each log of the loss."""
    found = []
    whole = RoutedTrainer.log

    def log(self, logs, *arguments, **more):
        whole(self, logs, *arguments, **more)
        if "loss" in logs:
            found.append(self.tokens)

    monkeypatch.setattr(RoutedTrainer, "log", log)
    return found


def test_padding_is_not_counted(corpus, base_run, tmp_path, counts):
    options = {**QUICK, "tokenizer": base_run.output_dir, "preset": "tiny", "overrides": MINIATURE}
    run = pretrain(corpus / "text", output_dir=tmp_path, packing="lines", accumulation=2, **options)
    read = sum(run.metrics["tokens_read"].values())
    assert counts[-1] == read < 4 * 2 * 4 * 32
    assert len(counts) == 2


@pytest.mark.parametrize("verb", ["pretrain", "extend", "finetune"])
def test_every_training_verb_says_its_pace(corpus, base_run, tmp_path, capsys, verb):
    base = base_run.output_dir
    if verb == "pretrain":
        pretrain(corpus / "text", model=base, output_dir=tmp_path / "run", **QUICK)
    elif verb == "extend":
        path = tmp_path / "gsw.txt"
        path.write_text((corpus / "text" / "de_DE.made.txt").read_text().swapcase())
        extend(base, "gsw", path, output_dir=tmp_path / "run", **QUICK)
    else:
        options = {"batch_size": 4, "max_steps": 4, "log_every": 2}
        finetune(base, corpus / "topic" / "en_XX.train.jsonl", output_dir=tmp_path / "run", **options)
    said = re.findall(r"^step (\d)/4 .* ([\d,]+) tokens/s  (\d+) s left$", capsys.readouterr().err, re.MULTILINE)
    assert [step for step, _, _ in said] == ["2", "4"]
    assert said[-1][2] == "0"
    assert (tmp_path / "run" / "log.jsonl").read_text().count(
        "tokens"
    ) == 0  # what differs from run to run is no record
