"""The engine of Ray on a cluster of this machine: workers and drivers are killed, and no row is lost or read twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.prediction.test_shards import ONE, rows_of, tree, write
from xmodular.errors import ConfigurationError
from xmodular.prediction import predict

# Ray's own code uses what it calls deprecated.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")
FILES, ROWS, LIMIT = 6, 1500, 400  # files, rows of each, seconds


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for seed in range(FILES):
        write(folder / f"{seed}.jsonl.zst", rows_of(seed, ROWS))
    return folder


@pytest.fixture(scope="module")
def alone(source: Path, topic: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("alone")
    for path in source.iterdir():
        predict(topic, path, folder / path.name, **ONE)
    return tree(folder)


def start(topic: Path, source: Path, output: Path, log: Path) -> subprocess.Popen[bytes]:
    words = ["--default-language", "en", "--skip-bad-rows", "--window", "16", "--engine", "ray", "--workers", "2"]
    places = ["--model", topic, "--input", source, "--output", output]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    with log.open("ab") as file:
        command = [sys.executable, "-m", "xmodular", "predict", *map(str, places), *words]
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)


def until(said: str, happened, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, f"{said}: {log.read_text(encoding='utf-8')}"
        time.sleep(0.02)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes of the actors that a driver's own cluster runs."""
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # zombies too
            found += [each.pid] if " ".join(each.cmdline()).startswith("ray::_RayWorker") else []
    return found


def begun(output: Path) -> list[Path]:
    return list(output.glob("_predict/work/**/part-*.jsonl"))


def test_a_worker_that_is_killed_loses_no_row(source, alone, topic, tmp_path) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    process = start(topic, source, output, log)
    try:
        until("no part", lambda: begun(output), process, log)
        before = workers_of(process)
        os.kill(random.Random(0).choice(before), signal.SIGKILL)
        until("no other worker", lambda: len(set(workers_of(process)) - set(before)) == 1, process, log)
        assert process.wait(LIMIT) == 0, log.read_text(encoding="utf-8")
    finally:
        process.kill()
    assert tree(output) == alone


def test_a_driver_that_is_killed_is_continued_by_the_next_one(source, alone, topic, tmp_path) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    process = start(topic, source, output, log)
    until("no file", lambda: tree(output), process, log)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(tree(output)) < FILES
    first = {path: path.stat().st_mtime_ns for path in output.glob("*.zst")}
    process = start(topic, source, output, log)
    try:
        assert process.wait(LIMIT) == 0, log.read_text(encoding="utf-8")
    finally:
        process.kill()
    assert tree(output) == alone
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert "Continuing: " in log.read_text(encoding="utf-8")


def test_ray_data_gives_every_row_once_with_each_form_of_batch(topic, tmp_path) -> None:
    import pyarrow
    from pyarrow import parquet

    from xmodular.distributed import BatchPredictor

    rows = [{**row, "lang": row.pop("language"), "note": None} for row in rows_of(3, 200)]
    (tmp_path / "in").mkdir()
    for number in range(4):
        parquet.write_table(pyarrow.Table.from_pylist(rows[number * 50 :][:50]), tmp_path / "in" / f"{number}.parquet")
    options = {"columns": {"language": "lang"}}
    predict(topic, tmp_path / "in", tmp_path / "alone.parquet", **options)
    expected = parquet.read_table(tmp_path / "alone.parquet")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(num_cpus=3, include_dashboard=False, logging_level="error", log_to_driver=False)
    try:
        for form in ("pyarrow", "pandas", "numpy"):
            made = ray.data.read_parquet(str(tmp_path / "in")).map_batches(
                BatchPredictor,
                fn_constructor_kwargs={"model": str(topic), **options},
                batch_format=form,
                batch_size=32,
                concurrency=2,
            )
            found = sorted(made.take_all(), key=lambda row: row["id"])
            assert [list(row) for row in found] == [expected.column_names] * 200, form
            for ours, theirs in zip(found, expected.to_pylist(), strict=True):
                for name in ("id", "text", "lang", "label", "language", "adapter"):
                    assert ours[name] == theirs[name], (form, name)
                assert ours["score"] == pytest.approx(theirs["score"], rel=1e-4)
    finally:
        ray.shutdown()


def test_a_missing_cluster_is_named(source, topic, tmp_path, monkeypatch) -> None:
    def nobody(**options):
        raise ConnectionError

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(ray, "init", nobody)
    with pytest.raises(ConfigurationError, match=r"No Ray cluster answers at 10\.0\.0\.1:6379 \(RAY_ADDRESS\)"):
        predict(topic, source, tmp_path / "out", engine="ray")
