"""An HTTP server that ends without losing a request: first its answers close their connections, then it stops."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from xmodular.console import console
from xmodular.serving.application import Service
from xmodular.serving.guarded_protocol import guarded

_MOMENT = 0.1  # seconds in which connections that were made are accepted
_SO_ATTACH_FILTER = 26  # of Linux; Python has no name for it
# For a packet at its TCP header: nothing of it is kept if it asks for a connection (SYN without ACK), else all.
_NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


class DrainingServer(uvicorn.Server):
    """Ends in two steps: for a while it goes on, but each answer closes its connection; then it takes no new ones.

    Args:
        config: of uvicorn.
        service: what it serves.
        drain: seconds between the two steps.
    """

    def __init__(self, config: uvicorn.Config, service: Service, drain: float) -> None:
        super().__init__(config)
        self._service, self._seconds = service, drain
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: Any = None) -> None:
        """Serve until it is stopped."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def shutdown(self, sockets: Any = None) -> None:
        """Take no new connections, but for those that the system has made already, and finish what was accepted."""
        for server in self.servers:
            for each in server.sockets:
                with socket.socket(fileno=os.dup(each.fileno())) as listening:
                    _take_no_more(listening)
        await asyncio.sleep(_MOMENT)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once, when the accepted requests are finished."""
        if self._service.draining:
            self.should_exit = True
        else:
            self.stop(signal.Signals(sig).name)

    def stop(self, why: str = "stop") -> None:
        """Begin to end, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drain, why)

    def _drain(self, why: str) -> None:
        if not self._service.draining:
            self._service.draining = True
            console.print(f"{why}: finishing the accepted requests.")
            assert self._loop is not None
            self._loop.call_later(self._seconds, self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def _take_no_more(listening: socket.socket) -> None:
    """Let no new connection begin, while those that the system has made or is making can be accepted.

    On Linux the packets that ask for one are dropped: a client asks again after a second, and is then refused.
    Elsewhere a connection that is made just before the socket is closed is reset, with the request that it brings.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _NO_SYN))
        pointed = struct.pack("HP", len(_NO_SYN), ctypes.addressof(program))
        with suppress(OSError):  # a kernel that forbids it
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointed)
            return
    listening.listen(0)


def server_of(service: Service, drain: float) -> DrainingServer:
    """A server for a service; see `DrainingServer`."""
    protocol: Any = guarded(service.limits.head_seconds, service.limits.connections)
    config = uvicorn.Config(
        service,
        http=protocol,
        ws="none",
        loop="auto",  # uvloop where it is installed
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        proxy_headers=False,
    )
    return DrainingServer(config, service, drain)
