"""Servers of small models, on loopback, and clients of them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.prediction.conftest import folders, small_tokenizer  # noqa: F401 (fixtures)
from xmodular.options import ServeOptions, build

FOLDERS = {
    "topic": "XmodForSequenceClassification",
    "names": "XmodForTokenClassification",
    "answers": "XmodForQuestionAnswering",
    "choice": "XmodForMultipleChoice",
    "mood": "regress",
}


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Of an error, which says its status too."""
        error = self.json["error"]
        assert error["status"] == self.status
        return str(error["message"])


class Client:
    """Asks a server, each time on a connection of its own."""

    def __init__(self, service: Any, port: int) -> None:
        self.service, self.port = service, port

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, body: Any, path: str = "/predict") -> Answer:
        given = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, given, {"Content-Type": "application/json"})


@contextmanager
def serving(models: Mapping[str, Path], **options: Any) -> Iterator[Client]:
    """A server in a thread of this process."""
    from xmodular.serving.serving import listening, run, service_of

    settings = {"port": 0, "drain": 0.0, **options, "model": {name: str(path) for name, path in models.items()}}
    made = build(ServeOptions, settings)
    listener = listening(made.host, made.port)
    port = listener.getsockname()[1]
    service = service_of(made)
    servers: list[Any] = []
    thread = threading.Thread(
        target=run, args=(service, listener), kwargs={"drain": made.drain, "started": servers.append}
    )
    thread.start()
    try:
        yield Client(service, port)
    finally:
        servers[0].stop()
        thread.join(30)
        service.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def client(folders: dict[str, Path]) -> Iterator[Client]:  # noqa: F811
    """A server of a model for each task."""
    with serving({name: folders[kind] for name, kind in FOLDERS.items()}) as made:
        yield made


@pytest.fixture(scope="session")
def topic(folders: dict[str, Path]) -> Path:  # noqa: F811
    return folders["XmodForSequenceClassification"]
