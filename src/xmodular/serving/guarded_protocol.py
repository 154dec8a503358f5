"""HTTP/1.1 as uvicorn speaks it, with two limits that it has not, and answers in one packet.

A client that sends headers byte by byte is sent away in time, and the number of open connections is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class GuardedProtocol(H11Protocol):
    """One connection.

    Args:
        head_seconds: time that a connection has until the first request's headers are there, and each further
            request, from its first byte, until its headers are.
        most_connections: connections that are open at once; a further one gets status 503.
        more: as for uvicorn's protocol.
    """

    def __init__(self, *args: Any, head_seconds: float, most_connections: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self._head_seconds, self._most = head_seconds, most_connections
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin, or refuse to."""
        if len(self.connections) >= self._most:
            self.transport = transport
            self._turn_away("503 Service Unavailable", f"There are {self._most} connections already.", retry=True)
            return
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Let the time run while the headers of a request are not whole."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self._head_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._turn_away("408 Request Timeout", f"The headers did not come within {self._head_seconds:g} seconds.")

    def _turn_away(self, status: str, said: str, *, retry: bool = False) -> None:
        if self.transport.is_closing():
            return
        head = [f"HTTP/1.1 {status}", "content-type: text/plain; charset=utf-8", f"content-length: {len(said)}"]
        head += ["connection: close", *(["retry-after: 1"] if retry else []), "", said]
        self.transport.write("\r\n".join(head).encode("ascii"))
        self.transport.close()


class _Gathering:
    """A transport that sends together what is written in one turn of the event loop: an answer's head and body."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Take bytes for the end of this turn."""
        if not data:
            return
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def _send(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Send what there is, and close."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def guarded(head_seconds: float, most_connections: int) -> Callable[..., GuardedProtocol]:
    """A protocol for uvicorn's configuration; see `GuardedProtocol`."""
    return partial(GuardedProtocol, head_seconds=head_seconds, most_connections=most_connections)
