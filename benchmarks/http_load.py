"""Clients of an HTTP server on loopback, each in a thread, that ask without a pause."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence

HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


class Load:
    """Clients with a connection each, which send the next request when they have the answer, until they are stopped.

    They read plain sockets, so that they take as little as possible of the machine that they measure.
    """

    def __init__(self, port: int, rows: Sequence[dict[str, str]], clients: int) -> None:
        self.port = port
        self.requests = [HEAD.format(len(body)).encode() + body for body in (json.dumps(row).encode() for row in rows)]
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.lost: list[Exception] = []
        self.ends = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def _ask(self, number: int) -> None:
        connection: socket.socket | None = None
        place = number * 997
        while not self.ends.is_set():
            place += 1
            if connection is None:
                try:
                    connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
                except OSError:
                    return  # the server takes no connections any more
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            start = time.perf_counter()
            try:
                connection.sendall(self.requests[place % len(self.requests)])
                head = answer(connection)
            except OSError as error:
                self.lost.append(error)
                return
            self.seconds.append(time.perf_counter() - start)
            self.statuses[int(head.split(maxsplit=2)[1])] += 1
            if b"connection: close" in head:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        self.ends.set()
        self.join()

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def answer(connection: socket.socket) -> bytes:
    """The head of an answer, in lower case, after its body is read.

    Raises:
        OSError: the connection ends before.
    """
    found = b""
    while b"\r\n\r\n" not in found:
        found += received(connection)
    head, _, body = found.partition(b"\r\n\r\n")
    head = head.lower()
    left = int(head.partition(b"content-length:")[2].split(maxsplit=1)[0]) - len(body)
    while left > 0:
        left -= len(received(connection))
    return head


def received(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ConnectionResetError("The server closed the connection.")
    return part


def measured(port: int, rows: Sequence[dict[str, str]], clients: int, seconds: float) -> tuple[float, float, float]:
    """Requests a second, median and 95th percentile of the latency in ms."""
    load = Load(port, rows, clients)
    start = time.perf_counter()
    time.sleep(seconds)
    load.stop()
    passed = time.perf_counter() - start
    assert set(load.statuses) == {200}, load.statuses
    assert not load.lost, load.lost
    times = sorted(load.seconds)
    return len(times) / passed, 1000 * statistics.median(times), 1000 * times[int(0.95 * len(times))]
