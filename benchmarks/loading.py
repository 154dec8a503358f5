"""Loading 2 of 81 languages against all 81, at xmod-base shape: time and peak memory, each in a fresh process.

python benchmarks/loading.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from harness import machine

LOAD = """
import resource, sys, time
from xmodular import XmodModel
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
model = XmodModel.from_pretrained(sys.argv[1], languages={languages})
total = sum(float(parameter.detach().sum()) for parameter in model.parameters())  # every page is really there
seconds = time.perf_counter() - start
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


def load(path: str, languages: str) -> tuple[float, float]:
    """Seconds and GiB that one loading takes, imports apart."""
    command = [sys.executable, "-c", LOAD.format(languages=languages), path]
    seconds, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        make = (
            "import sys; from xmodular import XmodConfig, XmodModel;"
            "XmodModel(XmodConfig.preset('xmod-base')).save_pretrained(sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", make, folder], check=True, capture_output=True)
        variants = {"2 languages": "['en_XX', 'sw_KE']", "81 languages": "None"}
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for turn in range(-1, options.rounds):
            for name, languages in variants.items():
                result = load(folder, languages)
                if turn >= 0:
                    figures[name].append(result)
            time.sleep(0.1)
    for index, what in ((0, "seconds"), (1, "GiB")):
        few, all_ = ([figure[index] for figure in figures[name]] for name in variants)
        share = statistics.median(a / b for a, b in zip(few, all_, strict=True))
        print(
            f"{what}: 2 languages {statistics.median(few):.2f}, 81 languages {statistics.median(all_):.2f}, "
            f"ratio {share:.3f}  (bar: at most 0.4)"
        )


if __name__ == "__main__":
    main()
