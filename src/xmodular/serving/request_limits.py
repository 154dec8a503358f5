"""The body of a request within its limits, and the time in which a request is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from xmodular.serving.refusals import RefusalError
from xmodular.serving.request_rows import Limits

_DISCARDED = 16  # times the most bytes of a body: what is read of a refused one


class DisconnectedError(Exception):
    """The client left before the body was there."""


class Deadline:
    """Ends what a coroutine waits for when its time is over; one timer for all that it waits for, on any Python.

    Args:
        seconds: the time, from entering.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._passed = False

    def __enter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._pass)
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()

    @contextmanager
    def or_refuse(self, status: int, what: str, **more: Any) -> Iterator[None]:
        """What is waited for within.

        Raises:
            RefusalError: the time is over.
        """
        try:
            yield
        except asyncio.CancelledError:
            if not self._passed:
                raise
            raise RefusalError(status, f"{what} within {self._seconds:g} seconds.", **more) from None


async def body_of(
    headers: Mapping[bytes, bytes], receive: Callable[[], Awaitable[Any]], limits: Limits, deadline: Deadline
) -> bytes:
    """The body of a request. One that is refused is read too, within reason, so that its client gets the answer.

    Args:
        headers: of the request, the names in lower case.
        receive: gives the next message of ASGI.
        limits: what it may have.
        deadline: the time for it.

    Raises:
        RefusalError: it is too long (413), comes too slowly (408), or is not JSON by its header (415).
        DisconnectedError: the client left.
    """
    refusal = _wrong_header(headers)
    most = limits.body
    given = headers.get(b"content-length", b"")
    if given.isdigit() and len(given) < 20 and int(given) > most:
        refusal = RefusalError(413, f"The body has {int(given):,} bytes; it may have {most:,}.", close=True)
    if refusal is not None and b"expect" in headers:
        raise refusal  # the client waits with its body
    parts: list[bytes] = []
    size, more = 0, True
    try:
        with deadline.or_refuse(408, "The body did not come", close=True):
            while more and size <= _DISCARDED * most:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                if size > most and refusal is None:
                    refusal = RefusalError(413, f"The body has more than {most:,} bytes.", close=True)
                if refusal is None:
                    parts.append(part)
    except RefusalError as late:
        raise refusal or late from None
    if refusal is not None:
        raise refusal
    return b"".join(parts)


def _wrong_header(headers: Mapping[bytes, bytes]) -> RefusalError | None:
    """What is wrong with what a request says of its body, if anything."""
    kind = headers.get(b"content-type", b"").decode("latin-1")
    if kind.partition(";")[0].strip().lower() != "application/json":
        shown = f"it is {kind!r:.80}" if kind else "there is none"
        return RefusalError(415, f"Content-Type must be application/json; {shown}.", close=True)
    coding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if coding != "identity":
        return RefusalError(415, f"Content-Encoding is {coding!r:.40}: send the body as it is.", close=True)
    return None
