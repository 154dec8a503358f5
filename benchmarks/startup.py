"""CPU time (user and system) until xmodular is imported and until its help is shown, each in a fresh process.

python benchmarks/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

from harness import machine

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import xmodular": ["-c", "import xmodular"],
    "xmodular --help": ["-m", "xmodular", "--help"],
    "xmodular finetune --help": ["-m", "xmodular", "finetune", "--help"],
}
BAR = 0.5


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(machine())
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(-1, options.rounds):  # the first round fills the caches
        for name, arguments in COMMANDS.items():
            used = cpu_seconds(arguments)
            if turn >= 0:
                seconds[name].append(used)
    bare, *names = COMMANDS
    print(f"{bare}: {statistics.median(seconds[bare]):.3f} s CPU")
    for name in names:
        median = statistics.median(seconds[name])
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[bare], strict=True))
        print(f"{name}: {median:.3f} s CPU, {ratio:.1f} times the bare interpreter  (bar: below {BAR} s)")


if __name__ == "__main__":
    main()
