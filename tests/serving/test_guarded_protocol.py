"""Clients that are slow, or too many: they are sent away, and others are answered meanwhile."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="needs the extra: pip install 'xmodular[serve]'")
pytest.importorskip("uvicorn", reason="needs the extra: pip install 'xmodular[serve]'")

from tests.serving.conftest import Client, serving

BODY = json.dumps({"text": "Das Haus", "language": "de"}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(
    BODY
)
TUNNEL = b"CONNECT elsewhere:80 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def quick(topic: Path) -> Iterator[Client]:
    """A server of little patience."""
    with serving({"topic": topic}, header_timeout=0.6, timeout=3.0, max_connections=6) as client:
        yield client


def connected(client: Client) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", client.port), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def whole(made: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    try:
        while part := made.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def answer(made: socket.socket) -> bytes:
    """One answer on a connection that stays."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += made.recv(65536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += made.recv(65536)
    return head


def dripped(made: socket.socket, text: bytes, pause: float = 0.05) -> float:
    """Send bytes one by one until the server has had enough; the seconds that it took."""
    start = time.monotonic()
    made.settimeout(pause)
    for byte in text:
        try:
            made.sendall(bytes([byte]))
            if made.recv(1, socket.MSG_PEEK) is not None:
                break
        except TimeoutError:
            continue
        except OSError:
            break
    made.settimeout(10)
    return time.monotonic() - start


def test_headers_byte_by_byte(quick: Client) -> None:
    with connected(quick) as slow:
        passed = dripped(slow, HEAD)
        assert 0.4 < passed < 3
        said = whole(slow)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"did not come within 0.6 seconds" in said
    assert quick.post(BODY).status == 200


def test_nothing_at_all(quick: Client) -> None:
    with connected(quick) as silent:
        assert whole(silent).startswith(b"HTTP/1.1 408 ")


def test_the_second_request_may_wait_but_not_be_slow(quick: Client) -> None:
    with connected(quick) as made:
        made.sendall(HEAD + b"\r\n" + BODY)
        assert answer(made).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.9)  # longer than headers may take: nothing has begun
        made.sendall(HEAD + b"\r\n" + BODY)
        assert answer(made).startswith(b"HTTP/1.1 200 ")
        made.sendall(HEAD[:40])
        assert whole(made).startswith(b"HTTP/1.1 408 ")


def test_pieces_that_come_in_time(quick: Client) -> None:
    with connected(quick) as made:
        for part in (HEAD[:10], HEAD[10:60], HEAD[60:] + b"\r\n", BODY[:5]):
            made.sendall(part)
            time.sleep(0.12)
        time.sleep(0.6)  # a body has the time of the whole request
        made.sendall(BODY[5:] + HEAD + b"\r\n" + BODY)  # and the next request in the same packet
        assert answer(made).startswith(b"HTTP/1.1 200 ")


def test_headers_without_end(quick: Client) -> None:
    with connected(quick) as made:
        made.sendall(HEAD[:-2])
        with suppress(OSError):  # the server may close before all is sent
            for _ in range(20):
                made.sendall(b"\r\nx-more: " + b"a" * 8192)
        assert whole(made).startswith(b"HTTP/1.1 431 ")
    assert quick.post(BODY).status == 200


def test_what_is_not_http(quick: Client) -> None:
    for text in (
        b"BREW /predict HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        HEAD + b"Content-Length: 3\r\n\r\n",
        TUNNEL,
    ):
        with connected(quick) as made:
            made.sendall(text)
            assert whole(made).startswith(b"HTTP/1.1 400 "), text


def test_an_upgrade_is_not_taken(quick: Client) -> None:
    asking = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n" + BODY
    with connected(quick) as made:
        for parts in ([asking], [asking[:50], asking[50:-5], asking[-5:]], [asking + HEAD + b"\r\n" + BODY]):
            for part in parts:
                made.sendall(part)
                time.sleep(0.02)
            assert answer(made).startswith(b"HTTP/1.1 200 ")


def test_a_slow_body(topic: Path) -> None:
    with serving({"topic": topic}, timeout=0.6) as client, connected(client) as slow:
        slow.sendall(HEAD + b"\r\n")
        assert dripped(slow, BODY) < 3
        assert whole(slow).startswith(b"HTTP/1.1 408 ")


def test_connections_are_counted(quick: Client) -> None:
    def taken() -> list[socket.socket]:
        made = [connected(quick) for _ in range(6)]
        for each in made:
            each.sendall(HEAD + b"\r\n" + BODY)
            assert answer(each).startswith(b"HTTP/1.1 200 ")
        return made

    held = taken()
    with connected(quick) as more:
        said = whole(more)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in said
        assert b"There are 6 connections already." in said
    for each in held:
        each.close()
    time.sleep(0.2)
    for each in taken():  # those who left made room
        each.close()


def test_a_head_and_its_body_leave_together(quick: Client) -> None:
    with connected(quick) as made:
        made.sendall(HEAD + b"\r\n" + BODY)
        found = made.recv(65536)
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert json.loads(body)["predictions"]


CHUNKED = HEAD.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (
    len(BODY),
    BODY,
)


def test_headers_behind_a_body_say_nothing(quick: Client) -> None:
    elsewhere = CHUNKED.replace(b"Host: localhost", b"Host: elsewhere")
    for sent, status in (
        (CHUNKED + b"Content-Type: text/plain\r\nHost: elsewhere\r\n\r\n", 200),
        (elsewhere + b"Host: localhost\r\n\r\n", 421),
    ):
        with connected(quick) as made:
            made.sendall(sent)
            assert answer(made).startswith(b"HTTP/1.1 %d " % status)


def test_headers_behind_a_body_without_end(quick: Client) -> None:
    with connected(quick) as made:
        made.sendall(CHUNKED + b"x-more: ")
        with suppress(OSError):  # the server may close before all is sent
            for _ in range(200):
                made.sendall(b"a" * 8192)
                time.sleep(0.001)
        assert whole(made).startswith(b"HTTP/1.1 431 ")


def test_what_follows_a_request_does_not_take_its_answer(quick: Client) -> None:
    for more in (b"not HTTP", HEAD[:-2] + b"\r\n bad: \r\n\r\n", TUNNEL):
        with connected(quick) as made:
            made.sendall(HEAD + b"\r\n" + BODY + more)
            said = whole(made)
            assert said.startswith(b"HTTP/1.1 200 "), more
            assert said.count(b"HTTP/1.1 ") == 1


def test_several_upgrades_at_once(quick: Client) -> None:
    for asked, closes in ((b"Upgrade", False), (b"close, Upgrade", True)):
        asking = HEAD + b"Connection: " + asked + b"\r\nUpgrade: h2c\r\n\r\n" + BODY
        with connected(quick) as made:
            made.sendall(asking + asking + HEAD + b"Connection: close\r\n\r\n" + BODY)
            assert whole(made).count(b"HTTP/1.1 200 ") == (1 if closes else 3)
    with connected(quick) as made:
        made.sendall(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" * 600 + TUNNEL
        )
        assert whole(made).count(b"HTTP/1.1 200 ") == 600


def test_an_upgrade_of_the_old_version_closes(quick: Client) -> None:
    with connected(quick) as made:
        asking = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + BODY
        made.sendall(asking)
        assert whole(made).startswith(b"HTTP/1.1 200 ")


def test_one_name_of_the_server(quick: Client) -> None:
    name = b"Host: localhost\r\n"
    for names, version, status in (
        (b"", b"1.1", 400),
        (b"", b"1.0", 200),
        (b"Host: elsewhere\r\n" + name, b"1.1", 400),
        (name, b"1.1", 200),
    ):
        with connected(quick) as made:
            made.sendall(HEAD.replace(name, names).replace(b"HTTP/1.1", b"HTTP/" + version) + b"\r\n" + BODY)
            assert answer(made).startswith(b"HTTP/1.1 %d " % status)


def test_a_body_that_nobody_reads_ends_the_connection(quick: Client) -> None:
    with connected(quick) as made:
        made.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        said = whole(made)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in said


def test_clients_that_leave_are_no_errors(quick: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(60):
            made = connected(quick)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset
            made.sendall((HEAD + b"\r\n" + BODY) * (1 + number % 3))
            time.sleep(number % 10 * 0.001)
            made.close()
            time.sleep(0.01)
        assert quick.post(BODY).status == 200
    assert not [each.getMessage() for each in caplog.records]


def test_a_request_that_is_on_its_way_when_the_server_ends_is_answered(topic: Path, monkeypatch) -> None:
    monkeypatch.setattr("xmodular.serving.guarded_protocol._ON_ITS_WAY", 3.0)
    with ExitStack() as stack:
        client = stack.enter_context(serving({"topic": topic}))
        with connected(client) as made:
            assert client.get("/health").status == 200  # both connections are accepted
            end = threading.Thread(target=stack.pop_all().close)
            end.start()
            time.sleep(1)  # the server has stopped accepting
            made.sendall(HEAD + b"\r\n" + BODY)
            said = whole(made)
        end.join(30)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in said.lower()


def test_a_client_that_sends_no_more_is_answered(quick: Client) -> None:
    for requests in (1, 3):  # the further ones before the first has its answer
        with connected(quick) as made:
            made.sendall((HEAD + b"\r\n" + BODY) * requests)
            made.shutdown(socket.SHUT_WR)
            found = whole(made)
        assert found.count(b"HTTP/1.1 200 OK") == requests
        assert found.count(b'"label"') == requests
        assert found.count(b"connection: close") == 1
    with connected(quick) as made:  # half of a request is none
        made.sendall(HEAD + b"\r\n" + BODY[:-1])
        made.shutdown(socket.SHUT_WR)
        assert whole(made) == b""
    with connected(quick) as made:
        made.shutdown(socket.SHUT_WR)
        assert whole(made) == b""
