"""The verb and its process: options, what is missing, the port, and signals under load."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.training.nursery import Nursery
from xmodular import serve
from xmodular.errors import ConfigurationError
from xmodular.options import ServeOptions, build
from xmodular.serving.draining_server import _take_no_more


def test_models_have_names() -> None:
    assert build(ServeOptions, {"model": "topic=runs/a,ner=runs/b"}).model == {"topic": "runs/a", "ner": "runs/b"}
    assert build(ServeOptions, {"model": "runs/topic/"}).model == {"topic": "runs/topic/"}
    assert build(ServeOptions, {"model": "me/x-y@v1"}).model == {"x-y": "me/x-y@v1"}
    assert build(ServeOptions, {"model": ["a/seed-0", "two=b/seed-0"]}).model == {
        "seed-0": "a/seed-0",
        "two": "b/seed-0",
    }
    for wrong, said in (
        ("a/seed-0,b/seed-0", "gives 'seed-0' twice"),
        ("a b=x", "names are in addresses"),
        ("", "Missing: --model"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            build(ServeOptions, {"model": wrong})
    with pytest.raises(ConfigurationError, match="max_rows is 300, more than queue_rows, 200"):
        build(ServeOptions, {"model": "a", "max_rows": 300, "queue_rows": 200})


def test_a_missing_extra_is_named(topic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(ConfigurationError, match=r"uvicorn.*pip install 'xmodular\[serve\]'"):
        serve(str(topic))


def test_answers_are_sent_at_once() -> None:
    """A connection waits for no acknowledgement between the head of an answer and its body."""
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from xmodular.serving.serving import listening

    found: list[int] = []

    async def ask() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = listening("127.0.0.1", 0)
        async with await asyncio.start_server(accept, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            await reader.read()
            writer.close()

    asyncio.run(ask())
    assert found[0] != 0


def test_what_is_wrong_shows_before_models_are_loaded(topic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("httptools", reason="needs the extra: pip install 'xmodular[serve]'")
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'xmodular[serve]'")
    monkeypatch.setattr("xmodular.serving.serving.Predictor", lambda *args, **more: pytest.fail("it was loaded"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Cannot listen on 127.0.0.1, port {port}"):
            serve(str(topic), port=port)
    with pytest.raises(ConfigurationError, match=r"--host 'no\.such\.host\.example' is no address"):
        serve(str(topic), host="no.such.host.example", port=0)
    with pytest.raises(ConfigurationError, match="There is no folder"):
        serve({"topic": "/nowhere/at/all"}, port=0)


def test_sigterm_under_load_loses_no_request(topic: Path, nursery: Nursery) -> None:
    """Eight clients with connections of their own; all that was sent gets its answer, and the process ends well."""
    pytest.importorskip("httptools", reason="needs the extra: pip install 'xmodular[serve]'")
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'xmodular[serve]'")
    pid, log = nursery.start(
        "serve", "--model", f"topic={topic}", "--port", "0", "--drain", "0.5", "--batch-wait", "20"
    )
    end = time.monotonic() + 60
    while not (found := re.search(r"http://127.0.0.1:(\d+)", log.read_text() if log.exists() else "")):
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    port = int(found[1])
    answered, lost, stopped = [0] * 8, [], threading.Event()

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            try:
                connection.connect() if connection.sock is None else None
            except OSError:
                return  # the server takes no connections any more
            try:
                connection.request("POST", "/predict", json.dumps("The house"), {"Content-Type": "application/json"})
                response = connection.getresponse()
                assert response.status == 200, response.read()
                response.read()
                answered[number] += 1
                if response.getheader("connection") == "close":
                    connection.close()
                    if stopped.is_set():
                        return
            except Exception as error:
                lost.append(error)
                return

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    assert min(answered) > 0
    stopped.set()
    os.kill(pid, signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert nursery.wait(pid) == 0
    assert lost == []
    assert "All accepted requests are answered" in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="packets are dropped on Linux only")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_at_the_end_made_connections_are_accepted_and_new_ones_refused(family: socket.AddressFamily) -> None:
    """A new one is not reset, which could lose a request: it is not made, and refused when the socket is closed."""
    try:
        listening = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
    except OSError:
        pytest.skip("this machine has no such addresses")
    address = listening.getsockname()[:2]
    with socket.create_connection(address, timeout=10) as made:
        _take_no_more(listening)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        made.sendall(b"a request")
        accepted, _ = listening.accept()
        assert accepted.recv(100) == b"a request"
        accepted.close()
        threading.Timer(0.1, listening.close).start()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=30)
