"""examples/predict_shards.sh: every row once, also if a worker stops and the script is started again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xmodular.prediction import predict

SCRIPT = Path(__file__).parents[1] / "examples" / "predict_shards.sh"


def lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("part-*.jsonl")) for line in path.read_bytes().splitlines()]


@pytest.mark.skipif(shutil.which("xargs") is None or os.name == "nt", reason="needs sh and xargs")
def test_every_row_once_also_if_a_worker_stops(topic_run, corpus: Path, tmp_path: Path) -> None:
    """The first start reads a file with a bad row, which stops its worker after a finished part."""
    (tmp_path / "in").mkdir()
    rows = (corpus / "topic" / "de_DE.test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    named = [json.dumps({"text": json.loads(row)["text"], "language": "de"}) + "\n" for row in rows]
    for name, part in (("a b.jsonl", named[:20]), ("c.jsonl", [*named[20:35], "{\n", *named[35:]])):
        (tmp_path / "in" / name).write_text("".join(part), encoding="utf-8")
    (tmp_path / "all.jsonl").write_text("".join(named), encoding="utf-8")
    predict(topic_run.output_dir, tmp_path / "all.jsonl", tmp_path / "whole", shard_rows=10, window=10)
    command = ["sh", SCRIPT, tmp_path / "in", tmp_path / "out", "--model", topic_run.output_dir, "--window", "10"]
    environment = {**os.environ, "XMODULAR": f"{sys.executable} -m xmodular", "WORKERS": "1", "SHARD_ROWS": "10"}

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)

    first = run()
    assert first.returncode != 0
    assert "not finished: " in first.stderr
    assert "not JSON" in (tmp_path / "out" / "c.jsonl.log").read_text(encoding="utf-8")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/part-00000.jsonl")}
    assert len(done) == 2
    assert run("--skip-bad-rows").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done  # not made again
    found = [line for name in ("a b.jsonl.d", "c.jsonl.d") for line in lines(tmp_path / "out" / name)]
    assert found == lines(tmp_path / "whole")
