"""Rows of many requests and languages in shared batches: one thread for each model, which alone runs it.

A batch is closed when it has its number of tokens, or when its oldest request has waited long enough. While the model
reads one, the next ones gather. Requests take turns, a row each, so that a long request does not hold up short ones.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from xmodular.prediction import Predictor
from xmodular.serving.measures import Measures
from xmodular.serving.refusals import RefusalError
from xmodular.tasks import Example
from xmodular.tasks.running import Encoded

_RECENT = 0.2  # weight of the last batch in the speed
_LONGEST_WAIT = 60  # seconds that a client is asked to wait at most


@dataclass(eq=False)
class Job:
    """The rows of a request.

    Attributes:
        examples: the rows.
        probabilities: whether the probabilities of all candidates are asked for.
        came: when it was accepted, in seconds of `time.monotonic`.
        answer: becomes one prediction for each row.
        encoded: the rows as the model reads them.
        sizes: the tokens of each row.
        left: places of the rows that are in no batch yet.
        found: the predictions by place.
    """

    examples: Sequence[Example]
    probabilities: bool
    came: float
    answer: Future[list[dict[str, Any]]] = field(default_factory=Future)
    encoded: Encoded | None = None
    sizes: list[int] = field(default_factory=list)
    left: deque[int] = field(default_factory=deque)
    found: dict[int, dict[str, Any]] = field(default_factory=dict)

    def take(self, encoded: Encoded) -> None:
        """Take the rows as the model reads them."""
        self.encoded = encoded
        self.sizes = [encoded.one(place).tokens for place in range(len(self.examples))]
        self.left = deque(range(len(self.examples)))

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless there is an answer already or nobody waits for one."""
        self.left.clear()
        if isinstance(error, StopIteration) or not isinstance(error, Exception):  # which a coroutine cannot pass on
            error = RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(InvalidStateError):
            self.answer.set_exception(error)

    def put(self, place: int, prediction: dict[str, Any]) -> None:
        """Take the prediction of a row; with the last one, answer."""
        self.found[place] = prediction
        if len(self.found) == len(self.examples):
            with suppress(InvalidStateError):
                self.answer.set_result([self.found[place] for place in range(len(self.examples))])


class Batcher:
    """Runs a model on rows of many requests at a time.

    Args:
        name: the model's name in measures.
        predictor: the model. From now on nobody else may run it.
        measures: told of every batch.
        batch_tokens: tokens of a batch, padding excluded; one row always fits.
        wait: seconds that a request waits for others.
        most_rows: rows that may wait.
        most_tokens: tokens of one row.
    """

    def __init__(
        self,
        name: str,
        predictor: Predictor,
        measures: Measures,
        *,
        batch_tokens: int,
        wait: float,
        most_rows: int,
        most_tokens: int,
    ) -> None:
        self.name, self.predictor = name, predictor
        self._measures = measures
        self._batch_tokens, self._wait = batch_tokens, wait
        self._most_rows, self._most_tokens = most_rows, most_tokens
        self._changed = threading.Condition()
        self._new: list[Job] = []
        self._rows = 0  # that wait, in new jobs and in those at hand
        self._closing = False
        self._speed: float | None = None  # rows a second
        self._thread = threading.Thread(target=self._work, name=f"xmodular-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of rows that wait."""
        return self._rows

    @property
    def alive(self) -> bool:
        """Whether rows are still read."""
        return self._thread.is_alive()

    def submit(self, examples: Sequence[Example], *, probabilities: bool = False) -> Future[list[dict[str, Any]]]:
        """Let rows wait for their turn.

        Args:
            examples: rows of the model's task, whose languages have no problem.
            probabilities: also give the probabilities of all candidates.

        Returns:
            What becomes one prediction for each row. When it is cancelled, rows that wait are dropped.

        Raises:
            RefusalError: too many rows wait (429), or the server ends (503).
        """
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise RefusalError(503, "The server is shutting down.", retry_after=1, close=True)
            if self._rows + len(examples) > self._most_rows:
                raise RefusalError(
                    429,
                    f"{self._rows} rows wait for the model {self.name}, which lets {self._most_rows} wait; this "
                    f"request has {len(examples)}.",
                    retry_after=self._until_free(),
                )
            job = Job(examples, probabilities, time.monotonic())
            self._rows += len(examples)
            self._new.append(job)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Finish all rows that were accepted, and end. Further ones are refused."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _until_free(self) -> int:
        """Seconds until the rows that wait are read."""
        seconds = self._rows / self._speed if self._speed else 1.0
        return max(1, min(_LONGEST_WAIT, math.ceil(seconds)))

    def _work(self) -> None:
        jobs: list[Job] = []
        while True:
            with self._changed:
                while not (self._new or jobs or self._closing):
                    self._changed.wait()
                new, self._new = self._new, []
                if not (new or jobs):
                    return
            self._encode(new)
            jobs = self._alive([*jobs, *new])
            if not jobs:
                continue
            if (missing := self._missing(jobs)) > 0:
                with self._changed:
                    if not (self._new or self._closing):
                        self._changed.wait(missing)
                    if self._new:
                        continue
            self._run(compose(jobs, self._batch_tokens))

    def _missing(self, jobs: Sequence[Job]) -> float:
        """Seconds for which more requests are waited for; 0 if there are enough tokens."""
        if self._closing or sum(job.sizes[place] for job in jobs for place in job.left) >= self._batch_tokens:
            return 0.0
        return min(job.came for job in jobs) + self._wait - time.monotonic()

    def _alive(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs with rows to read that somebody waits for."""
        kept = []
        for job in jobs:
            if job.answer.cancelled():
                self._leave(len(job.left))
            elif job.left:
                kept.append(job)
        return kept

    def _leave(self, rows: int) -> None:
        with self._changed:
            self._rows -= rows

    def _encode(self, jobs: Sequence[Job]) -> None:
        """Encode the rows of new jobs together or, if one of them has a row that cannot be, each alone."""
        if not jobs:
            return
        try:
            whole = self.predictor.encode([example for job in jobs for example in job.examples])
        except BaseException as error:  # a panic of the tokenizer is no Exception
            if len(jobs) > 1:
                for job in jobs:
                    self._encode([job])
            else:
                self._leave(len(jobs[0].examples))
                jobs[0].fail(error)
            return
        start = 0
        for job in jobs:
            job.take(whole.span(start, start + len(job.examples)))
            start += len(job.examples)
            if max(job.sizes) > self._most_tokens:
                place = job.sizes.index(max(job.sizes))
                self._leave(len(job.examples))
                job.fail(
                    RefusalError(
                        413,
                        f"{job.examples[place].place} has {job.sizes[place]:,} tokens; a row may have "
                        f"{self._most_tokens:,}.",
                    )
                )

    def _run(self, taken: Sequence[tuple[Job, int]]) -> None:
        """Read rows and hand out the predictions; after an error, those of each request alone."""
        start = time.monotonic()
        rows = [job.encoded.one(place) for job, place in taken if job.encoded is not None]
        encoded = Encoded.joined(rows)
        try:
            predictions = self.predictor.predict_encoded(
                encoded, probabilities=any(job.probabilities for job, _ in taken)
            )
        except BaseException as error:  # a panic of the tokenizer is no Exception
            self._measures.failures.add(model=self.name)
            jobs = list(dict.fromkeys(job for job, _ in taken))
            if len(jobs) > 1:
                for job in jobs:
                    self._run([pair for pair in taken if pair[0] is job])
            else:
                self._leave(len(taken) + len(jobs[0].left))
                jobs[0].fail(error)
            return
        self._leave(len(taken))
        self._tell(encoded, time.monotonic() - start)
        for (job, place), prediction in zip(taken, predictions, strict=True):
            if not job.probabilities:
                prediction.pop("probabilities", None)
            job.put(place, prediction)

    def _tell(self, encoded: Encoded, seconds: float) -> None:
        rows, tokens, measures = len(encoded.examples), encoded.tokens, self._measures
        speed = rows / max(seconds, 1e-6)
        self._speed = speed if self._speed is None else (1 - _RECENT) * self._speed + _RECENT * speed
        for reading in encoded.readings:
            measures.rows.add(model=self.name, adapter=reading.adapter)
        measures.tokens.add(tokens, model=self.name)
        measures.batch_rows.observe(rows, model=self.name)
        measures.batch_tokens.observe(tokens, model=self.name)
        measures.batch_seconds.observe(seconds, model=self.name)


def compose(jobs: Sequence[Job], batch_tokens: int) -> list[tuple[Job, int]]:
    """Take rows out of jobs for a batch: one of each in turn, the oldest job first.

    Args:
        jobs: at least one, each with rows left.
        batch_tokens: tokens of all rows together; the first one always fits.

    Returns:
        The rows, each as its job and its place there.
    """
    taken: list[tuple[Job, int]] = []
    tokens = 0
    turns = deque(jobs)
    while turns:
        job = turns.popleft()
        size = job.sizes[job.left[0]]
        if taken and tokens + size > batch_tokens:
            break
        tokens += size
        taken.append((job, job.left.popleft()))
        if job.left:
            turns.append(job)
    return taken
