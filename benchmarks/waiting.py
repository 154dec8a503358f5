"""How threads of a matrix product wait for each other: as torch has it, and as the command line, which sleeps sooner.

    python benchmarks/waiting.py [--rounds 3] [--busy 0,1,2]

Milliseconds of a forward pass with all threads, by the clock, on a quiet machine and beside processes that never rest.
Every measurement is a process of its own, as the number of turns that a thread waits for (`GOMP_SPINCOUNT`) is read
once; the settings alternate. A process that takes over a minute is stopped, and its times are those until then.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch

from harness import log_normal_lengths, machine, ragged_batch
from threads import VOCABULARY, model_of
from xmodular.__main__ import TURNS

SHAPES = ((4, 192, 768), (12, 384, 1536))
BATCHES = ((1, 16), (8, 32), (32, 64))


def measure() -> None:
    """Prints the times of each shape and batch, a line each."""
    for shape in SHAPES:
        model = model_of(*shape).eval()
        for rows, longest in BATCHES:
            batch = ragged_batch(log_normal_lengths(rows, mean=longest / 2, longest=longest, seed=0), 8, VOCABULARY, 0)
            taken = []
            for _ in range(12):
                start = time.perf_counter()
                with torch.inference_mode():
                    model(**batch)
                taken.append(time.perf_counter() - start)
            name = f"{shape[0]} x {shape[1]}, {rows} x {longest}"
            print(json.dumps([name, 1e3 * statistics.median(taken[2:])]), flush=True)


def measured(environment: dict[str, str]) -> dict[str, float]:
    """The times in a new process; those that it has in a minute."""
    command = [sys.executable, __file__, "--measure"]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            printed = process.communicate()[0]
    return dict(json.loads(line) for line in printed.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", default="0,1,2", help="numbers of busy processes beside")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure()
        return
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    settings = {"torch's": {}, f"{TURNS} turns": {"GOMP_SPINCOUNT": TURNS}, "one thread": {"OMP_NUM_THREADS": "1"}}
    for busy in map(int, options.busy.split(",")):
        beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in settings}
            for _ in range(options.rounds):
                for name, environment in settings.items():
                    found[name].append(measured(environment))
        finally:
            for process in beside:
                process.kill()
        print(f"beside {busy} busy processes, ms: {', '.join(settings)}")
        for case in found["one thread"][0]:
            shown = []
            for rounds in found.values():
                times = [each[case] for each in rounds if case in each]
                shown.append(f"{statistics.median(times):8.1f}" if times else "> 60 s in all")
            print(f"  {case:20} {' '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
