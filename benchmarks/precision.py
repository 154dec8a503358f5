"""Precisions of a fine-tuned model on a CPU: accuracy and agreement with fp32 by language, rows/s, memory.

    python benchmarks/precision.py --model runs/topic --data ../shared/data/sib200 [--rows 204] [--rounds 6]
    python benchmarks/precision.py --model runs/topic --data ../shared/data/sib200 --memory bf16

Labels count by row; answers by row, if one of the right ones is found to the letter; tags by word. Variants: fp32;
bf16; int8, torch's dynamic quantisation of all linear layers (weights per channel, activations per product). The rows
of all languages are dealt to the rounds; in every round the variants take turns on the same rows, tokenisation
included. Times are seconds of one processor core, so that other processes do not count; a ratio is the median over
rounds. Ctrl-C ends after the rounds so far. Memory is that of a process of its own, after loading and at most.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from harness import machine
from xmodular import Predictor
from xmodular.rows import BadRows, read_rows
from xmodular.saved_models import load_saved

VARIANTS = ("fp32", "bf16", "int8")


def predictor_of(model: str, variant: str) -> Predictor:
    """The model in a precision."""
    if variant != "int8":
        return Predictor(model, precision=variant)
    loaded = load_saved(model, "fp32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this quantisation is deprecated
        quantised = torch.ao.quantization.quantize_dynamic(loaded, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return Predictor(quantised)


def read(data: Path, most: int) -> list[dict[str, Any]]:
    """Rows of all languages in turn."""
    by_language = []
    for path in sorted(data.glob("*.test.*")):
        rows = islice(read_rows(path, BadRows()), most)
        by_language.append([{**row.values, "language": path.name.split(".")[0]} for row in rows])
    return [row for same in zip(*by_language, strict=False) for row in same]


def share(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """How much of a prediction is as wanted: by a row's gold answer, or by another prediction."""
    if "tags" in found:
        return statistics.fmean(a == b for a, b in zip(found["tags"], wanted["tags"], strict=True))
    if "answer" in found:
        answers = [each["text"] for each in wanted["answers"]] if "answers" in wanted else [wanted["answer"]]
        return float(found["answer"] in answers)
    return float(found["label"] == wanted["label"])


def memory(model: str, data: Path, variant: str) -> None:
    """Resident memory after loading and at most, of this process."""

    def resident(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    predictor = predictor_of(model, variant)
    loaded = resident("VmRSS")
    predictor(read(data, 16))
    print(f"{variant}: {loaded:.0f} MiB after loading, {resident('VmHWM'):.0f} MiB at most", flush=True)


def compare(model: str, data: Path, most: int, rounds: int) -> None:
    """Labels and times of all variants on the same rows."""
    rows = read(data, most)
    predictors = {variant: predictor_of(model, variant) for variant in VARIANTS}
    for predictor in predictors.values():
        predictor(rows[:16])
    start = predictors["fp32"].tokens
    made: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    size, tokens = -(-len(rows) // rounds), 0
    try:
        for number in range(rounds):
            part = rows[number * size : (number + 1) * size]
            shift = number % len(VARIANTS)
            found = {}
            for variant in VARIANTS[shift:] + VARIANTS[:shift]:
                began = time.process_time()
                found[variant] = predictors[variant](part)
                times[variant].append(time.process_time() - began)
            for variant in VARIANTS:
                made[variant] += found[variant]
            tokens = predictors["fp32"].tokens - start
            print(f"round {number + 1}: " + ", ".join(f"{v} {times[v][-1]:.2f} s" for v in VARIANTS), flush=True)
    except KeyboardInterrupt:
        whole = -(-len(made["fp32"]) // size)
        times = {variant: each[:whole] for variant, each in times.items()}
    done = rows[: len(made["fp32"])]
    show_agreement(done, made)
    for variant in VARIANTS:
        faster = statistics.median(a / b for a, b in zip(times["fp32"], times[variant], strict=True))
        seconds = sum(times[variant])
        print(
            f"{variant}: {len(done) / seconds:.1f} rows and {tokens / seconds:.0f} tokens per core second, "
            f"fp32 / {variant} {faster:.2f}"
        )


def show_agreement(rows: list[dict[str, Any]], made: dict[str, list[dict[str, Any]]]) -> None:
    """Accuracy, and predictions that are the same as in fp32, in per cent, by language."""
    print(f"{len(rows)} rows; accuracy: {', '.join(VARIANTS)}; the same as in fp32: {', '.join(VARIANTS[1:])}")
    for language in [*sorted({row["language"] for row in rows}), "all"]:
        own = [number for number, row in enumerate(rows) if language in (row["language"], "all")]
        right = [100 * statistics.fmean(share(made[each][n], rows[n]) for n in own) for each in VARIANTS]
        same = [100 * statistics.fmean(share(made[each][n], made["fp32"][n]) for n in own) for each in VARIANTS[1:]]
        print(f"{language:8} " + " ".join(f"{value:8.2f}" for value in [*right, *same]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=204, help="Rows of each language.")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", default="", help="Measure the memory of one variant in this process.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        memory(options.model, options.data, options.memory)
        return
    print(machine())
    compare(options.model, options.data, options.rows, options.rounds)


if __name__ == "__main__":
    main()
