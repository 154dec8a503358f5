"""A run that is killed and started again ends in the bytes of one that was left alone."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.prediction.conftest import LANGUAGES, SENTENCES
from xmodular.prediction import predict

ROWS, WINDOW = 1000, 16


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of any length, some without a language, some that cannot be read."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("stream") / "rows.jsonl"
    lines = []
    for number in range(ROWS):
        language = draw.choice(LANGUAGES)
        text = " ".join(draw.choices(SENTENCES[language], k=draw.randint(1, 3)))
        row = {"id": number, "text": text, "language": language if draw.random() < 0.8 else None}
        lines.append(draw.choice(["{", '{"text": ""}', "[1]"]) if draw.random() < 0.02 else json.dumps(row))
    lines += ["no JSON at the end"] * 3
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _run(model: str, source: str, output: str, more: dict) -> None:
    import torch

    torch.set_num_threads(1)
    predict(model, source, output, skip_bad_rows=True, default_language="en", window=WINDOW, **more)


def _parts(folder: Path) -> int:
    return len(list(folder.glob("part-*.jsonl")))


def _kill(process: multiprocessing.process.BaseProcess) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
        os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize(
    ("name", "more", "kills"),
    [("out.jsonl", {}, 10), ("shards", {"shard_rows": 40}, 4)],
    ids=["file", "shards"],
)
def test_killed_at_random_moments(name: str, more: dict, kills: int, topic: Path, stream: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["xmodular.prediction"])  # imported once, not by every process
    killed, whole = tmp_path / "killed" / name, tmp_path / "whole" / name
    parts = killed if "shard_rows" in more else killed.with_name(f"{name}.parts")
    draw = random.Random(name)

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=_run, args=(str(topic), str(stream), str(killed), more))
        process.start()
        return process

    for _ in range(kills):
        before, process = _parts(parts), start()
        enough = before + draw.randrange(0, 3)
        while process.is_alive() and _parts(parts) < enough:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.2)
        assert process.is_alive() or killed.exists(), "it ended by itself, without output"
        _kill(process)
    process = start()
    process.join()

    alone = context.Process(target=_run, args=(str(topic), str(stream), str(whole), more))
    alone.start()
    alone.join()
    made = {path.relative_to(whole.parent): path for path in whole.parent.rglob("*") if path.is_file()}
    again = {path.relative_to(killed.parent): path for path in killed.parent.rglob("*") if path.is_file()}
    assert set(made) == set(again)
    for relative, path in made.items():
        assert path.read_bytes() == again[relative].read_bytes(), relative
    if name == "out.jsonl":
        rows = [json.loads(line)["id"] for line in whole.read_text(encoding="utf-8").splitlines()]
        bad = whole.with_name("out.jsonl.bad.jsonl").read_text(encoding="utf-8").splitlines()
        assert rows == sorted(set(rows))
        assert len(rows) + len(bad) == ROWS + 3
