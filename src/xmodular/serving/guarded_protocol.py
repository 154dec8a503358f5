"""HTTP/1.1 as uvicorn speaks it, with three limits that it has not, and answers in one packet.

A client that sends headers byte by byte is sent away in time, one that sends headers without end too, and the number of
open connections is bounded. A wish for another protocol, as Java's client and `curl --http2` send it, is ignored with
the request's body kept, which uvicorn's class would lose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_HEAD = 65_536  # bytes of a request's headers
_ON_ITS_WAY = 0.3  # seconds that a connection stays open for a request when the server ends


class GuardedProtocol(HttpToolsProtocol):
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
        self._head = 0  # bytes that came since the last of a body or of headers
        self._is_head_awaited = True
        self.parser = self._new_parser()

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
        self._head += len(data)
        self._feed(data)
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more, but may still read: a whole request gets its answer, which ends the connection."""
        if self._is_answering():
            return True
        self.transport.close()  # after what is still to be sent
        return False

    def _feed(self, data: bytes) -> None:
        """As uvicorn's `data_received`, but for what asks for another protocol."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                data = self._without_upgrade(data[stopped.args[0] :])
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._is_head_awaited = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those behind a body, which may say nothing about the request, are passed over."""
        if self._is_head_awaited:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The last byte of its headers."""
        self._is_head_awaited, self._head = False, 0
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request; of one that asks for another protocol, that of its headers."""
        self._head = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _without_upgrade(self, body: bytes) -> bytes:
        """A request that asks for another protocol, and what came behind its headers, as one that does not."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("There are no other protocols here.")
            return b""
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(each for each in value.split(b",") if each.strip().lower() != b"upgrade")
            if name != b"upgrade":
                lines.append(name + b": " + value)
        self.parser = self._new_parser()
        return b"\r\n".join([*lines, b"", body])

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # What follows a request that closes the connection is no error: the request is answered.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless a request before it is still to be answered."""
        if not self._is_answering():
            super().send_400_response(msg)

    def _is_answering(self) -> bool:
        """Whether a whole request waits for its answer, with which the connection then ends."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """End, at once or after the answer; a connection without a request in a moment: one may be on its way."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_ON_ITS_WAY, super().shutdown)
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Let the time run while the headers of a request are not whole."""
        if self._head > _MOST_HEAD:
            self._turn_away("431 Request Header Fields Too Large", f"The headers have more than {_MOST_HEAD:,} bytes.")
        elif not self._is_head_awaited:
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
        if self.transport.is_closing() or self._is_answering():
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
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():  # the client may have left
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
