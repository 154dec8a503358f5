"""Eight threads, each in its own language, on one model: pipeline, predictor and server. None gets another's answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from tests.prediction.conftest import LANGUAGES, SENTENCES
from tests.serving.conftest import serving
from xmodular import Predictor, XmodForSequenceClassification, register

THREADS, CALLS = 8, 1000
ROWS = [(SENTENCES[LANGUAGES[number % 4]][number // 4], LANGUAGES[(number + number // 4) % 4]) for number in range(8)]

pytestmark = pytest.mark.slow


def wrong(calls: Callable[[int], Callable[[str, str], Any]], expected: dict[tuple[str, str], float]) -> int:
    """How many of all calls have another score than expected; each thread has its row, and its own means to ask."""

    def ask(number: int) -> int:
        call, row = calls(number), ROWS[number]
        return sum(abs(call(*row) - expected[row]) > 2e-4 for _ in range(CALLS))

    assert len(set(expected.values())) == len(ROWS), "the rows must differ in their scores"
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(ask, range(THREADS)))


@pytest.fixture
def expected(topic: Path) -> dict[tuple[str, str], float]:
    return {row: Predictor(topic)([row[0]], row[1])[0]["score"] for row in ROWS}


def test_predictor(topic: Path, expected: dict[tuple[str, str], float]) -> None:
    predictor = Predictor(topic)
    assert wrong(lambda number: lambda text, code: predictor([text], code)[0]["score"], expected) == 0


def test_pipeline(topic: Path, expected: dict[tuple[str, str], float]) -> None:
    register()
    model = XmodForSequenceClassification.from_pretrained(topic)
    pipe = pipeline("text-classification", model=model, tokenizer=str(topic))
    assert wrong(lambda number: lambda text, code: pipe(text, language=code)[0]["score"], expected) == 0


def test_server(topic: Path, expected: dict[tuple[str, str], float]) -> None:
    pytest.importorskip("httptools", reason="needs the extra: pip install 'xmodular[serve]'")
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'xmodular[serve]'")
    with serving({"topic": topic}) as client, ExitStack() as connections:

        def calls(number: int) -> Callable[[str, str], Any]:
            connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
            connections.callback(connection.close)

            def call(text: str, code: str) -> Any:
                body = json.dumps({"text": text, "language": code})
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                return json.loads(connection.getresponse().read())["predictions"][0]["score"]

            return call

        assert wrong(calls, expected) == 0
