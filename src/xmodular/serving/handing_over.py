"""Results of other threads, for coroutines that wait for them: those of a batch wake the event loop once, not each."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any


class HandingOver:
    """Hands the results of futures of threads to one event loop.

    Args:
        loop: the loop, in which `result` is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._is_called = False

    async def result(self, answer: Future[Any]) -> Any:
        """What a future becomes, or raises what it raises; it is cancelled if nobody waits for it any longer."""
        waiting = self.loop.create_future()
        answer.add_done_callback(lambda done: self._put(waiting, done))
        try:
            return await waiting
        finally:
            answer.cancel()

    def _put(self, waiting: asyncio.Future[Any], answer: Future[Any]) -> None:
        """In the other thread: the loop is called unless it is already, which a later result then finds."""
        self._done.append((waiting, answer))
        if not self._is_called and not self.loop.is_closed():
            self._is_called = True
            self.loop.call_soon_threadsafe(self._give)

    def _give(self) -> None:
        self._is_called = False
        while self._done:
            waiting, answer = self._done.popleft()
            if waiting.done():
                continue
            if answer.cancelled():
                waiting.cancel()
            elif (error := answer.exception()) is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(answer.result())
