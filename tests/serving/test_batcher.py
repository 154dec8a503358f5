"""Batches of many requests, without a socket: what shares one, who waits, and what becomes of errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.conftest import serving
from xmodular import Predictor
from xmodular.serving.batcher import Batcher, Job, compose
from xmodular.serving.measures import Measures
from xmodular.serving.refusals import RefusalError
from xmodular.tasks import Example
from xmodular.tasks.running import Encoded

LANGUAGES = ("en_XX", "de_DE", "sw_KE", "ru_RU")


class Held(Predictor):
    """A predictor that waits until it is let go, and notes its batches; the text "bad" is an error."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.go = threading.Event()
        self.batches: list[list[str]] = []

    def predict_encoded(self, encoded: Encoded, **more: Any) -> list[dict[str, Any]]:
        self.batches.append([example.texts[0] for example in encoded.examples])
        assert self.go.wait(20)
        if any(example.texts[0] == "bad" for example in encoded.examples):
            raise RuntimeError("the model does not like it")
        return super().predict_encoded(encoded, **more)


@contextmanager
def batching(topic: Path, **more: Any) -> Iterator[tuple[Held, Batcher]]:
    predictor = Held(topic)
    settings = {"batch_tokens": 1000, "wait": 0.0, "most_rows": 20, "most_tokens": 500, **more}
    batcher = Batcher("topic", predictor, Measures(), **settings)
    try:
        yield predictor, batcher
    finally:
        predictor.go.set()
        batcher.close()


def rows(*texts: str) -> list[Example]:
    return [Example((text,), None, "row", language=LANGUAGES[n % 4]) for n, text in enumerate(texts)]


def until(true: Any) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_requests_gather_while_the_model_reads(topic: Path) -> None:
    with batching(topic) as (predictor, batcher):
        first = batcher.submit(rows("one"))
        until(lambda: predictor.batches)
        others = [batcher.submit(rows(f"text {number}", "more")) for number in range(4)]
        predictor.go.set()
        assert len(first.result(20)) == 1
        for number, answer in enumerate(others):
            expected = Predictor(topic)([f"text {number}", "more"], ["en", "de"])
            assert [each["label"] for each in answer.result(20)] == [each["label"] for each in expected]
            assert [each["adapter"] for each in answer.result(20)] == ["en_XX", "de_DE"]
        assert predictor.batches[0] == ["one"]
        assert len(predictor.batches) == 2  # all others, in all languages, in one batch
        until(lambda: batcher.waiting == 0)


def test_a_request_waits_for_others_only_so_long(topic: Path) -> None:
    with batching(topic, wait=0.3) as (predictor, batcher):
        predictor.go.set()
        start = time.monotonic()
        one = batcher.submit(rows("one"))
        time.sleep(0.05)
        two = batcher.submit(rows("two"))
        one.result(20), two.result(20)
        assert time.monotonic() - start >= 0.3
        assert predictor.batches == [["one", "two"]]
    with batching(topic, wait=30.0, batch_tokens=2) as (predictor, batcher):
        predictor.go.set()
        batcher.submit(rows("one")).result(20)  # a full batch waits for nobody


def test_more_than_may_wait_is_refused(topic: Path) -> None:
    with batching(topic, most_rows=5) as (predictor, batcher):
        answers = [batcher.submit(rows("one", "two", "three"))]
        with pytest.raises(
            RefusalError, match="3 rows wait for the model topic, which lets 5 wait; this request has 3"
        ) as said:
            batcher.submit(rows("four", "five", "six"))
        assert said.value.status == 429
        assert said.value.retry_after is not None
        assert said.value.retry_after >= 1
        answers.append(batcher.submit(rows("four", "five")))
        predictor.go.set()
        assert [len(each.result(20)) for each in answers] == [3, 2]
        until(lambda: batcher.waiting == 0)
        assert len(batcher.submit(rows(*"abcde")).result(20)) == 5


def test_an_error_is_that_of_its_own_request(topic: Path) -> None:
    with batching(topic) as (predictor, batcher):
        first = batcher.submit(rows("one"))
        until(lambda: predictor.batches)
        good, bad, other = (batcher.submit(rows(text, "more")) for text in ("good", "bad", "other"))
        predictor.go.set()
        assert len(first.result(20)) == 1
        assert len(good.result(20)) == len(other.result(20)) == 2
        with pytest.raises(RuntimeError, match="does not like it"):
            bad.result(20)
        until(lambda: batcher.waiting == 0)
        assert batcher.alive


def test_what_nobody_waits_for_is_dropped(topic: Path) -> None:
    with batching(topic) as (predictor, batcher):
        first = batcher.submit(rows("one"))
        until(lambda: predictor.batches)
        dropped, kept = batcher.submit(rows("dropped")), batcher.submit(rows("kept"))
        assert dropped.cancel()
        predictor.go.set()
        assert len(first.result(20)) == len(kept.result(20)) == 1
        assert predictor.batches == [["one"], ["kept"]]
        until(lambda: batcher.waiting == 0)


def test_closing_finishes_what_was_accepted(topic: Path) -> None:
    with batching(topic, wait=30.0) as (predictor, batcher):
        answers = [batcher.submit(rows("one", str(number))) for number in range(5)]
        predictor.go.set()
        batcher.close()
        assert [len(each.result(0)) for each in answers] == [2] * 5
        with pytest.raises(RefusalError, match="shutting down"):
            batcher.submit(rows("late"))


def test_too_late_is_504_and_too_much_429(topic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("httptools", reason="needs the extra: pip install 'xmodular[serve]'")
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'xmodular[serve]'")
    go, run = threading.Event(), Predictor.predict_encoded
    monkeypatch.setattr(Predictor, "predict_encoded", lambda *args, **more: go.wait(20) and run(*args, **more))
    with serving({"topic": topic}, timeout=0.3, queue_rows=3, max_rows=3) as client:
        answer = client.post("The house")
        assert answer.status == 504
        assert answer.message == "There was no prediction within 0.3 seconds."
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(client.post(["a", "b"]).status))
        thread.start()
        until(lambda: client.get("/health").json["waiting_rows"]["topic"] == 3)
        full = client.post("c")
        assert full.status == 429
        assert int(full.headers["retry-after"]) >= 1
        thread.join()
        go.set()
        assert statuses == [504]
        until(lambda: client.get("/health").json["waiting_rows"]["topic"] == 0)
        assert client.post(["a", "b", "c"]).status == 200


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 100))
def test_batches_are_full_and_fair(sizes: Sequence[Sequence[int]], batch_tokens: int) -> None:
    jobs = []
    for each in sizes:
        job = Job([], False, 0.0, sizes=list(each))
        job.left.extend(range(len(each)))
        jobs.append(job)
    read: list[tuple[int, int]] = []
    while waiting := [job for job in jobs if job.left]:
        before = {id(job): len(job.left) for job in waiting}
        taken = compose(waiting, batch_tokens)
        tokens = sum(job.sizes[place] for job, place in taken)
        assert len(taken) == 1 or tokens <= batch_tokens
        shares = [before[id(job)] - len(job.left) for job in waiting]
        assert shares[0] >= 1  # the oldest is always there
        for job, (one, other) in zip(waiting, pairwise(shares), strict=False):
            assert other <= one or not job.left  # nobody overtakes who has rows left
        read += [(jobs.index(job), place) for job, place in taken]
    assert sorted(read) == [(n, place) for n, each in enumerate(sizes) for place in range(len(each))]
    for number in range(len(sizes)):
        own = [place for job, place in read if job == number]
        assert own == sorted(own)
