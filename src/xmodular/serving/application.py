"""The addresses of a server, and what each answers: an ASGI application."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from xmodular.console import console
from xmodular.errors import in_one_line
from xmodular.serving.batcher import Batcher
from xmodular.serving.handing_over import HandingOver
from xmodular.serving.measures import Measures
from xmodular.serving.openapi import description
from xmodular.serving.refusals import RefusalError
from xmodular.serving.request_limits import Deadline, DisconnectedError, body_of
from xmodular.serving.request_rows import Limits, asked_in, examples_of, read_json
from xmodular.serving.trial_page import trial_page

_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_GET = ("GET", "HEAD")


@dataclass(frozen=True)
class Answer:
    """What is sent to a client.

    Attributes:
        body: the body.
        status: of HTTP.
        kind: the body's type.
        headers: further headers, their names in lower case.
    """

    body: bytes
    status: int = 200
    kind: bytes = b"application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Headers = Mapping[bytes, bytes]  # of a request, the names in lower case
Handler = Callable[[str, Headers, Callable[[], Awaitable[Any]]], Awaitable[Answer]]


class Service:
    """The models of a server with its limits, and the answers to requests.

    Args:
        batchers: the models by name; at least one.
        measures: what counts requests.
        limits: what a request may have.
        hosts: names by which the server may be called; None: any. A page of another site that reaches this machine by
            a name of its own is refused so.

    Attributes:
        draining: whether the server ends soon: answers close their connections.
        routes: what answers, with its methods, by address.
    """

    def __init__(
        self,
        batchers: Mapping[str, Batcher],
        measures: Measures,
        limits: Limits,
        *,
        hosts: Sequence[str] | None = _LOCAL,
    ) -> None:
        self.batchers, self.measures, self.limits = dict(batchers), measures, limits
        self.draining = False
        self._hosts = hosts
        self._handing: HandingOver | None = None
        self._page, policy = trial_page()
        self._policy = {"content-security-policy": policy}
        self._description = description({name: each.predictor for name, each in batchers.items()}, limits)
        self._addresses = {f"/models/{name}/predict": name for name in self.batchers}
        self.routes: dict[str, tuple[tuple[str, ...], Handler]] = {
            "/": (_GET, self._home),
            **dict.fromkeys(["/predict", *self._addresses], (("POST",), self._predict)),
            "/models": (_GET, self._models),
            "/health": (_GET, self._health),
            "/metrics": (_GET, self._metrics),
            "/openapi.json": (_GET, self._openapi),
        }

    def close(self) -> None:
        """Finish what was accepted, and end."""
        for batcher in self.batchers.values():
            batcher.close()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """Answer a request: the application for an ASGI server."""
        if scope["type"] != "http":
            raise RuntimeError(f"There is nothing for {scope['type']}.")
        headers, path, method = dict(scope["headers"]), scope["path"], scope["method"]
        if (refusal := self._wrong_host(scope)) is not None:
            answer = _refused(refusal)
        else:
            methods, handler = self.routes.get(path, ((), None))
            if handler is not None and method in methods:
                answer = await handler(path, headers, receive)
                # Its body is not read.
                if method in _GET and (headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers):
                    answer = replace(answer, headers={**answer.headers, "connection": "close"})
            else:
                answer = await self._no_route(path, method, methods, headers, receive)
        sent = [(b"content-type", answer.kind), (b"content-length", b"%d" % len(answer.body)), *_ALWAYS]
        sent += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        if self.draining and "connection" not in answer.headers:
            sent.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": answer.body})

    # ------------------------------------------------------------ predictions

    async def _predict(self, path: str, headers: Headers, receive: Callable[[], Awaitable[Any]]) -> Answer:
        start, name = time.monotonic(), ""
        try:
            with Deadline(self.limits.seconds) as deadline:
                body = await body_of(headers, receive, self.limits, deadline)
                asked = asked_in(read_json(body), self.limits)
                name = self._chosen(self._addresses.get(path), asked.model)
                batcher = self.batchers[name]
                examples = examples_of(asked, batcher.predictor, self.limits)
                waiting = batcher.submit(examples, probabilities=asked.probabilities)
                with deadline.or_refuse(504, "There was no prediction", retry_after=1):
                    predictions = await self._handing_over().result(waiting)
            answer = _json({"model": name, "predictions": predictions})
        except RefusalError as refusal:
            answer = _refused(refusal)
        except DisconnectedError:
            answer = _refused(RefusalError(400, "The body ended too early.", close=True))
        except Exception as error:
            console.print(f"A request for {name or 'a model'} failed: {type(error).__name__}: {in_one_line(error)}")
            answer = _refused(RefusalError(500, "The model failed on this request; the server's messages say why."))
        self.measures.requests.add(model=name, status=str(answer.status))
        self.measures.latency.observe(time.monotonic() - start, model=name)
        return answer

    def _handing_over(self) -> HandingOver:
        loop = asyncio.get_running_loop()
        if self._handing is None or self._handing.loop is not loop:
            self._handing = HandingOver(loop)
        return self._handing

    def _chosen(self, in_path: str | None, in_body: str | None) -> str:
        """The model that is meant.

        Raises:
            RefusalError: there is no such model, or none is named (422).
        """
        names = ", ".join(self.batchers)
        if in_body is not None and in_body not in self.batchers:
            raise RefusalError(422, f"There is no model {in_body!r:.60}; the models are {names}.")
        if in_path is not None and in_body not in (None, in_path):
            raise RefusalError(422, f"'model' is {in_body!r:.60}, but the address is that of {in_path}.")
        chosen = in_path or in_body
        if chosen is None and len(self.batchers) > 1:
            raise RefusalError(422, f"There are several models ({names}): name one with 'model', or in the address.")
        return chosen or next(iter(self.batchers))

    # ------------------------------------------------------------ all else

    async def _home(self, *asked: Any) -> Answer:
        return Answer(self._page.encode(), kind=b"text/html; charset=utf-8", headers=self._policy)

    async def _models(self, *asked: Any) -> Answer:
        models = [
            {
                "name": name,
                "task": each.predictor.task.name,
                "labels": list(each.predictor.labels),
                "languages": list(each.predictor.model.languages),
                "identifies": each.predictor.identifies,
                "columns": {field: list(names) for field, names in list(each.predictor.task.fields.items())[:-1]},
                "probabilities": each.predictor.task.probabilities is not None,
            }
            for name, each in self.batchers.items()
        ]
        return _json({"models": models})

    async def _health(self, *asked: Any) -> Answer:
        dead = [name for name, each in self.batchers.items() if not each.alive]
        state = "draining" if self.draining else "failed" if dead else "ok"
        waiting = {name: each.waiting for name, each in self.batchers.items()}
        return _json({"status": state, "waiting_rows": waiting}, 200 if state == "ok" else 503)

    async def _metrics(self, *asked: Any) -> Answer:
        return Answer(self.measures.text().encode(), kind=b"text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, *asked: Any) -> Answer:
        return _json(self._description)

    async def _no_route(
        self, path: str, method: str, methods: Sequence[str], headers: Headers, receive: Callable[[], Awaitable[Any]]
    ) -> Answer:
        with suppress(RefusalError, DisconnectedError), Deadline(self.limits.seconds) as deadline:
            await body_of(headers, receive, self.limits, deadline)
        if methods:
            refusal = RefusalError(405, f"{path:.100} does not take {method}.", close=True)
        else:
            models = ", ".join(self._addresses)
            said = f"There is nothing at {path:.100}; requests go to /predict, and {models}."
            refusal = RefusalError(404, said, close=True)
        self.measures.requests.add(model="", status=str(refusal.status))
        return _refused(refusal, {"allow": ", ".join(methods)} if methods else {})

    def _wrong_host(self, scope: Any) -> RefusalError | None:
        """What is wrong with the name by which the server is called, if anything."""
        all_named = [value for name, value in scope["headers"] if name == b"host"]
        if len(all_named) > 1 or not (all_named or scope["http_version"] == "1.0"):
            return RefusalError(400, f"A request has one header Host; this one has {len(all_named)}.", close=True)
        if self._hosts is None:
            return None
        named = b"".join(all_named).decode("latin-1")
        host = named.rpartition(":")[0] if named.rpartition(":")[2].isdecimal() and ":" in named else named
        if host.lower() in (*self._hosts, ""):
            return None
        return RefusalError(
            421, f"This server is not called {host!r:.60}; it listens on this machine alone (--host).", close=True
        )


def _json(content: Any, status: int = 200, headers: Mapping[str, str] = {}) -> Answer:
    return Answer(_ENCODER.encode(content).encode(), status, headers=headers)


def _refused(refusal: RefusalError, headers: Mapping[str, str] = {}) -> Answer:
    more = dict(headers)
    if refusal.retry_after is not None:
        more["retry-after"] = str(refusal.retry_after)
    if refusal.close:
        more["connection"] = "close"
    return _json({"error": {"status": refusal.status, "message": refusal.message}}, refusal.status, more)
