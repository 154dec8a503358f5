"""What it costs to predict many files rather than one, in batches of tables, and by workers of Ray.

    python benchmarks/distributed.py --model runs/topic [--data <folder>] [--files 6] [--rows 100] [--rounds 3]

    python benchmarks/distributed.py --model runs/topic --memory lean      # or: whole
    python benchmarks/distributed.py --model runs/topic --speed bf16       # or: fp32

The same rows, in all languages of the data in turn, in six ways that take turns: one file by `predict` (the
comparison); many files by ``--engine local`` in one process; the same by two processes; Arrow batches of 256 rows by
`BatchPredictor`; and many files by ``--engine ray`` with one worker and with two, in a cluster that runs already. Every
way loads the model anew. Seconds are by the clock. Core seconds are processor time, so that other programs count less:
of this process and, from their notes, of workers while they predict, without their start and without Ray's own
processes. Each worker has one thread.

With --memory: parameters and memory of a process that reads rows in three languages, with the adapters of these or of
all. With --speed: tokens per core second of one process whose adapters are loaded already, for the data's sentences and
for documents of six sentences.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import torch
from xmodular.on_demand import load_on_demand, resident_languages

from harness import machine
from xmodular import Predictor
from xmodular.distributed import BatchPredictor
from xmodular.prediction import predict

BASE = "one file"


def rows_of(data: Path, count: int) -> list[dict[str, str]]:
    """Rows of all languages in turn, as often as needed."""
    files = [path.read_text(encoding="utf-8").splitlines() for path in sorted(data.glob("*.test.jsonl"))]
    names = [path.name.split(".")[0] for path in sorted(data.glob("*.test.jsonl"))]
    rows = [
        {"text": json.loads(line)["text"], "language": name}
        for same in zip(*files, strict=False)
        for name, line in zip(names, same, strict=True)
    ]
    return [rows[number % len(rows)] for number in range(count)]


def ways(
    options: argparse.Namespace, folder: Path, rows: list[dict[str, str]], known: dict[str, object]
) -> dict[str, Callable[[], object]]:
    """The ways to predict the rows, by name."""
    out = folder / "out"
    batches = [rows[start : start + 256] for start in range(0, len(rows), 256)]

    def in_batches() -> None:
        predictor = BatchPredictor(options.model, **known)
        for batch in batches:
            predictor(pyarrow.Table.from_pylist(batch))

    def by(engine: str, workers: int, **more: object) -> Callable[[], object]:
        return lambda: predict(options.model, folder / "in", out, engine=engine, workers=workers, **more, **known)

    return {
        BASE: lambda: predict(options.model, folder / "all.jsonl", folder / "out.jsonl", **known),
        "batches": in_batches,
        "files in this process": by("local", 1),
        "files in 2 processes": by("local", 2),
        "Ray with 1 worker": by("ray", 1),
        "Ray with 2 workers": by("ray", 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "sib200")
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--rows", type=int, default=100, help="Rows of each file.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default="", help="Only these, by their first letters; comma-separated.")
    parser.add_argument("--memory", choices=("lean", "whole"), help="Measure memory instead.")
    parser.add_argument("--speed", choices=("fp32", "bf16"), help="Measure tokens per core second instead.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    print(machine())
    if options.memory:
        return memory(options.model, options.data, options.memory)
    if options.speed:
        return speed(options.model, options.data, options.speed)
    rows = rows_of(options.data, options.files * options.rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number in range(options.files):
            part = rows[number * options.rows :][: options.rows]
            (folder / "in" / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        variants = ways(options, folder, rows, {"default_language": "en"})
        if options.ways:
            chosen = tuple(options.ways.split(","))
            variants = {name: way for name, way in variants.items() if name == BASE or name.startswith(chosen)}
        if any(name.startswith("Ray") for name in variants):
            import ray

            ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
        measure(variants, options.rounds, len(rows), folder)


def memory(model: str, data: Path, kind: str) -> None:
    """Parameters and memory after rows in three languages."""
    import psutil

    predictor = Predictor(load_on_demand(model) if kind == "lean" else model, default_language="en")
    rows = [row for row in rows_of(data, 400) if row["language"][:2] in ("de", "en", "sw")]
    predictor(rows)
    there = sum(each.numel() for each in predictor.model.parameters() if each.device.type != "meta")
    own = psutil.Process().memory_full_info()
    print(
        f"{kind}: {there / 1e6:.1f} million parameters, {len(resident_languages(predictor.model))} languages, "
        f"{len(rows)} rows"
    )
    print(f"{own.rss / 2**20:.0f} MiB resident, {own.uss / 2**20:.0f} MiB of them not shared")


def speed(model: str, data: Path, precision: Any) -> None:
    """Tokens per core second, the second time that the rows are read."""
    predictor = Predictor(load_on_demand(model, precision), default_language="en")
    rows = rows_of(data, 198)
    joined = [
        {"text": " ".join(row["text"] for row in rows[number::33]), "language": rows[number]["language"]}
        for number in range(33)
    ]
    predictor(rows)
    for name, read in (("sentences", rows), ("documents", joined)):
        began, before = time.process_time(), predictor.tokens
        predictor(read)
        seconds, tokens = time.process_time() - began, predictor.tokens - before
        print(f"{precision}, {name} of {tokens / len(read):.0f} tokens: {tokens / seconds:.0f} tokens per core second")


def measure(variants: dict[str, Callable[[], object]], rounds: int, rows: int, folder: Path) -> None:
    """Time all ways in turn; a ratio is the median over rounds."""
    clock: dict[str, list[float]] = {name: [] for name in variants}
    processor: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            for left in (folder / "out", folder / "out.jsonl"):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
            began, before = time.perf_counter(), time.process_time()
            variants[name]()
            clock[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - before)
            if "worker" in name or "processes" in name:
                noted = json.loads((folder / "out" / "_predict" / "run.json").read_text(encoding="utf-8"))
                processor[name][-1] += noted["core_seconds"]
            print(
                f"round {number + 1}, {name}: {clock[name][-1]:.2f} s, {processor[name][-1]:.2f} core s",
                flush=True,
            )
    print(f"{rows} rows, {rounds} rounds; seconds by the clock, core seconds, and their ratios to {BASE}")
    for name in names:
        shown = []
        for times in (clock, processor):
            ratio = statistics.median(a / b for a, b in zip(times[name], times[BASE], strict=True))
            shown.append(f"{statistics.median(times[name]):8.2f} {ratio:6.3f}")
        print(f"  {name:22}" + "   ".join(shown), flush=True)


if __name__ == "__main__":
    main()
