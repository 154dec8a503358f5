"""What runs the workers of a run over shards: processes of this machine, or actors of Ray.

Every engine gives each shard to one worker at a time, and to another one if that dies.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from xmodular.console import console
from xmodular.errors import ConfigurationError, DataError, XmodularError, in_one_line
from xmodular.options import PredictOptions
from xmodular.prediction.shard_worker import Note, ShardWorker
from xmodular.prediction.shards import Shard

_TRIES = 3  # of a shard whose workers die
_SAY_AFTER = 60  # seconds without a worker

Answers = Iterator[tuple[Shard, Note | XmodularError]]


def local(worker: ShardWorker, shards: Sequence[Shard], options: PredictOptions) -> Answers:
    """Shards in this process or, with several workers or a number of threads, in processes of their own."""
    if options.workers == 1 and options.worker_threads is None:
        for shard in shards:
            yield shard, worker.attempt(shard)
        return
    context = multiprocessing.get_context("spawn")
    waiting, tries, answered = deque(shards), Counter[str](), False
    busy: dict[Connection, tuple[Any, Shard]] = {}

    def begin() -> None:
        mine, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(worker, options.worker_threads or 1, theirs), daemon=True)
        process.start()
        theirs.close()  # so that reading ends when the process does
        _give(mine, process)

    def _give(connection: Connection, process: Any) -> None:
        busy[connection] = process, waiting.popleft()
        with suppress(BrokenPipeError):  # it has died, which reading tells
            connection.send(busy[connection][1])

    try:
        while waiting or busy:
            while waiting and len(busy) < options.workers:
                begin()
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                process, shard = busy.pop(connection)
                try:
                    answer = connection.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    connection.close()
                    tries[shard.name] += 1
                    if not answered and tries.total() >= _TRIES + options.workers:
                        raise _none_works(f"exit code {process.exitcode}") from None
                    if tries[shard.name] < _TRIES:
                        waiting.append(shard)
                    else:
                        yield shard, _died(shard, f"its last exit code is {process.exitcode}")
                    continue
                answered = True
                if waiting:
                    _give(connection, process)
                else:
                    connection.close()
                yield shard, answer
    finally:
        for connection, (process, _) in busy.items():
            process.terminate()
            connection.close()


def _serve(worker: ShardWorker, threads: int, connection: Connection) -> None:
    """In a process of its own: predict shards until there are no more, or who gives them is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    set_threads(threads)
    with suppress(EOFError, ConnectionResetError, BrokenPipeError):
        while True:
            connection.send(worker.attempt(connection.recv()))


def set_threads(threads: int) -> None:
    """Set the threads of torch, and of the tokenizers unless they have begun."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def on_ray(worker: ShardWorker, shards: Sequence[Shard], options: PredictOptions) -> Answers:
    """Shards by actors of Ray, which starts an actor that died again.

    An actor gets a shard once it runs: a cluster may not have room for all at once.
    """
    ray = ray_package()
    threads = options.worker_threads or 1
    with_own = not ray.is_initialized()
    if with_own:
        _connect(ray, options.workers * threads)
    actor = ray.remote(num_cpus=threads, num_gpus=options.worker_gpus, max_restarts=-1, max_task_retries=_TRIES - 1)(
        _RayWorker
    )
    waiting = deque(shards)
    started = time.monotonic()
    actors = [actor.remote(worker, threads) for _ in range(min(options.workers, len(shards)))]
    busy: dict[Any, tuple[Any, Shard | None]] = {each.ready.remote(): (each, None) for each in actors}
    try:
        while waiting or any(shard is not None for _, shard in busy.values()):
            ready, _ = ray.wait(list(busy), timeout=_SAY_AFTER)
            if not ready and time.monotonic() - started < 1.5 * _SAY_AFTER:
                console.print("Waiting for Ray to start workers: are there enough CPUs and GPUs?")
            for each in ready:
                own, shard = busy.pop(each)
                try:
                    answer = ray.get(each)
                except ray.exceptions.RayTaskError:
                    raise  # a mistake in this program, with its traceback
                except ray.exceptions.RayError as error:
                    if shard is None:
                        raise _none_works(in_one_line(error)) from error
                    answer = _died(shard, type(error).__name__)
                if waiting:
                    following = waiting.popleft()
                    busy[own.attempt.remote(following)] = own, following
                if shard is not None:
                    yield shard, answer
    finally:
        for each in actors:
            ray.kill(each)
        if with_own:
            ray.shutdown()


class _RayWorker:
    """A worker as an actor."""

    def __init__(self, worker: ShardWorker, threads: int) -> None:
        set_threads(threads)
        self._worker = worker

    def ready(self) -> None:
        """Answers once it runs."""

    def attempt(self, shard: Shard) -> Note | XmodularError:
        """As the worker's."""
        return self._worker.attempt(shard)


def ray_package() -> Any:
    """The package Ray.

    Raises:
        ConfigurationError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError("--engine ray needs Ray, which the extra brings: pip install 'xmodular[ray]'.")
    import ray

    return ray


def _connect(ray: Any, cpus: int) -> None:
    """Connect to the running cluster or, if there is none, start one on this machine.

    Raises:
        ConfigurationError: the named cluster does not answer.
    """
    quiet = {"logging_level": "warning"}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError as error:
        if named := os.environ.get("RAY_ADDRESS"):
            raise ConfigurationError(f"No Ray cluster answers at {named} (RAY_ADDRESS).") from error
        ray.init(address="local", num_cpus=max(cpus, os.cpu_count() or 1), include_dashboard=False, **quiet)


def _none_works(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The workers die before they finish a file ({why}). Is there enough memory for --workers models, and the "
        'package on every machine? In a Python program, the call must be under `if __name__ == "__main__":`.'
    )


def _died(shard: Shard, why: str) -> DataError:
    return DataError(
        f"{_TRIES} workers died with {shard.source} ({why}). Is there enough memory? Fewer --workers, or a smaller "
        "--batch-tokens, need less."
    )


ENGINES: dict[str, Callable[[ShardWorker, Sequence[Shard], PredictOptions], Answers]] = {"local": local, "ray": on_ray}
