"""The addresses of a server, and what each answers. Runs under any ASGI server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xmodular.console import console
from xmodular.errors import in_one_line
from xmodular.serving.batcher import Batcher
from xmodular.serving.handing_over import HandingOver
from xmodular.serving.measures import Measures
from xmodular.serving.openapi import description
from xmodular.serving.refusals import RefusalError
from xmodular.serving.request_rows import Limits, asked_in, examples_of, read_json
from xmodular.serving.trial_page import trial_page

_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
_DISCARDED = 16  # times the most bytes of a body: what is read of a refused one
_STATUS = {
    404: "There is nothing at {path}; requests go to /predict, and {models}.",
    405: "{path} does not take {method}.",
}


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
        app: the application for an ASGI server.
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
        handlers: Any = {HTTPException: self._no_route}
        self.app: ASGIApp = _Door(
            self,
            Starlette(
                routes=[
                    Route("/", self._home),
                    Route("/predict", self._predict, methods=["POST"]),
                    Route("/models", self._models),
                    Route("/models/{name}/predict", self._predict, methods=["POST"]),
                    Route("/health", self._health),
                    Route("/metrics", self._metrics),
                    Route("/openapi.json", self._openapi),
                ],
                exception_handlers=handlers,
            ),
        )

    def close(self) -> None:
        """Finish what was accepted, and end."""
        for batcher in self.batchers.values():
            batcher.close()

    # ------------------------------------------------------------ predictions

    async def _predict(self, request: Request) -> Response:
        start, name = time.monotonic(), ""
        try:
            asked = asked_in(read_json(await self._body(request)), self.limits)
            name = self._chosen(request.path_params.get("name"), asked.model)
            batcher = self.batchers[name]
            examples = examples_of(asked, batcher.predictor, self.limits)
            answer = batcher.submit(examples, probabilities=asked.probabilities)
            try:
                left = self.limits.seconds - (time.monotonic() - start)
                predictions = await self._handing_over().result(answer, left)
            except asyncio.TimeoutError:
                raise RefusalError(
                    504, f"There was no prediction within {self.limits.seconds:g} seconds.", retry_after=1
                ) from None
            response = _json({"model": name, "predictions": predictions})
        except RefusalError as refusal:
            response = _refused(refusal)
        except ClientDisconnect:
            response = _refused(RefusalError(400, "The body ended too early.", close=True))
        except Exception as error:
            console.print(f"A request for {name or 'a model'} failed: {type(error).__name__}: {in_one_line(error)}")
            response = _refused(RefusalError(500, "The model failed on this request; the server's messages say why."))
        self.measures.requests.add(model=name, status=str(response.status_code))
        self.measures.latency.observe(time.monotonic() - start, model=name)
        return response

    def _handing_over(self) -> HandingOver:
        loop = asyncio.get_running_loop()
        if self._handing is None or self._handing.loop is not loop:
            self._handing = HandingOver(loop)
        return self._handing

    async def _body(self, request: Request) -> bytes:
        """The body of a request. One that is refused is read too, within reason, so that its client gets the answer.

        Raises:
            RefusalError: it is too long (413), comes too slowly (408), or is not JSON by its header (415).
        """
        refusal = _wrong_header(request)
        most = self.limits.body
        given = request.headers.get("content-length", "")
        if given.isdecimal() and len(given) < 20 and int(given) > most:
            refusal = RefusalError(413, f"The body has {int(given):,} bytes; it may have {most:,}.", close=True)
        if refusal is not None and "expect" in request.headers:
            raise refusal  # the client waits with its body
        body, size = bytearray(), 0
        try:
            with anyio.fail_after(self.limits.seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > most and refusal is None:
                        refusal = RefusalError(413, f"The body has more than {most:,} bytes.", close=True)
                    if refusal is None:
                        body += part
                    elif size > _DISCARDED * most:
                        break
        except TimeoutError:
            said = f"The body did not come within {self.limits.seconds:g} seconds."
            raise refusal or RefusalError(408, said, close=True) from None
        if refusal is not None:
            raise refusal
        return bytes(body)

    def _chosen(self, in_path: str | None, in_body: str | None) -> str:
        """The model that is meant.

        Raises:
            RefusalError: there is no such model (404 by its address, 422 by its name), or none is named.
        """
        names = ", ".join(self.batchers)
        if in_path is not None and in_path not in self.batchers:
            raise RefusalError(404, f"There is no model {in_path!r:.60}; the models are {names}.")
        if in_body is not None and in_body not in self.batchers:
            raise RefusalError(422, f"There is no model {in_body!r:.60}; the models are {names}.")
        if in_path is not None and in_body not in (None, in_path):
            raise RefusalError(422, f"'model' is {in_body!r:.60}, but the address is that of {in_path}.")
        chosen = in_path or in_body
        if chosen is None and len(self.batchers) > 1:
            raise RefusalError(422, f"There are several models ({names}): name one with 'model', or in the address.")
        return chosen or next(iter(self.batchers))

    # ------------------------------------------------------------ all else

    async def _home(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html", headers=self._policy)

    async def _models(self, request: Request) -> Response:
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

    async def _health(self, request: Request) -> Response:
        dead = [name for name, each in self.batchers.items() if not each.alive]
        state = "draining" if self.draining else "failed" if dead else "ok"
        waiting = {name: each.waiting for name, each in self.batchers.items()}
        return _json({"status": state, "waiting_rows": waiting}, 200 if state == "ok" else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, request: Request) -> Response:
        return _json(self._description)

    async def _no_route(self, request: Request, error: HTTPException) -> Response:
        with suppress(RefusalError, ClientDisconnect):
            await self._body(request)
        models = ", ".join(f"/models/{name}/predict" for name in self.batchers)
        message = _STATUS.get(error.status_code, error.detail)
        said = message.format(path=f"{request.url.path:.100}", method=request.method, models=models)
        self.measures.requests.add(model="", status=str(error.status_code))
        response = _refused(RefusalError(error.status_code, said, close=True))
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    def wrong_host(self, scope: Scope) -> RefusalError | None:
        """What is wrong with the name by which the server is called, if anything."""
        if self._hosts is None:
            return None
        named = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        host = named.rpartition(":")[0] if named.rpartition(":")[2].isdecimal() and ":" in named else named
        if host.lower() in (*self._hosts, ""):
            return None
        return RefusalError(
            421, f"This server is not called {host!r:.60}; it listens on this machine alone (--host).", close=True
        )


class _Door:
    """Around the application: checks the host's name, and closes connections when the server ends."""

    def __init__(self, service: Service, app: ASGIApp) -> None:
        self._service, self._app = service, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                given = {name.lower() for name, _ in message["headers"]}
                if self._service.draining and b"connection" not in given:
                    more.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *more]
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (refusal := self._service.wrong_host(scope)) is not None:
            await _refused(refusal)(scope, receive, sending)
        else:
            await self._app(scope, receive, sending)


def _wrong_header(request: Request) -> RefusalError | None:
    """What is wrong with what a request says of its body, if anything."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        shown = f"it is {kind!r:.80}" if kind else "there is none"
        return RefusalError(415, f"Content-Type must be application/json; {shown}.", close=True)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        return RefusalError(415, f"Content-Encoding is {coding!r:.40}: send the body as it is.", close=True)
    return None


def _json(content: Any, status: int = 200) -> Response:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def _refused(refusal: RefusalError) -> Response:
    response = _json({"error": {"status": refusal.status, "message": refusal.message}}, refusal.status)
    if refusal.retry_after is not None:
        response.headers["retry-after"] = str(refusal.retry_after)
    if refusal.close:
        response.headers["connection"] = "close"
    return response
