"""Real processes that run the command line, without the seconds that importing takes each one.

One process imports everything and then forks a child for each command; the children are killed and waited for like any
others, and several can be the ranks of one run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_PARENT = """
import json, os, sys
import xmodular.training
import xmodular.training.pretraining
import matplotlib.backends.backend_agg, xmodular.conversion, xmodular.evaluation, xmodular.pack_verbs
import xmodular.prediction
from xmodular.__main__ import main

for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        code = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        print(code, flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        os.environ.update(order["env"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["xmodular", *order["arguments"]]
        code = 1
        try:
            exec(order["first"], {})
            main()
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
"""


class Nursery:
    """Starts processes.

    Args:
        folder: where their messages go, a file each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, first: str = "") -> tuple[int, Path]:
        """Start ``xmodular <arguments>``; returns its process id and the file of its messages.

        Args:
            arguments: the command line.
            env: added to the environment.
            first: Python that runs in the process before the command.
        """
        self.count += 1
        log = self.folder / f"{self.count}.log"
        order = {"arguments": arguments, "env": dict(env or {}), "log": str(log), "first": first}
        return int(self._ask(order)), log

    def wait(self, pid: int) -> int:
        """The exit code of a process, when it has ended; that of a killed one is the signal, negative."""
        return int(self._ask({"wait": pid}))

    def run(self, *arguments: str, ranks: int = 1, port: int = 29_500) -> None:
        """Run a command to its end, in several processes if asked for, with what torchrun tells them."""
        started = []
        for rank in range(ranks):
            told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            env = {name: str(value) for name, value in told.items()} if ranks > 1 else {}
            if ranks > 1:
                env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            started.append(self.start(*arguments, env=env))
        for pid, log in started:
            assert self.wait(pid) == 0, log.read_text(encoding="utf-8")

    def close(self) -> None:
        """End the parent."""
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.close()
        self.parent.wait(timeout=60)
        self.parent.stdout.close()

    def _ask(self, order: dict[str, object]) -> str:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write(json.dumps(order) + "\n")
        self.parent.stdin.flush()
        return self.parent.stdout.readline()
