"""The verb `serve`: models behind an HTTP server, until a signal ends it."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xmodular.beforehand import look
from xmodular.console import console, counted, progress
from xmodular.errors import ConfigurationError
from xmodular.options import ServeOptions
from xmodular.prediction.predictor import Predictor, settings_of
from xmodular.serving.measures import Measures
from xmodular.serving.request_rows import Limits
from xmodular.signatures import verb

if TYPE_CHECKING:
    from xmodular.serving.application import Service
    from xmodular.serving.batcher import Batcher


@verb(ServeOptions, "model")
def serve(options: ServeOptions) -> None:
    """Serve models over HTTP until SIGTERM or Ctrl-C, which lets the accepted requests be finished.

    Args:
        model: the models by name, each a folder or a name on the Hub; or a single one.

    Raises:
        ConfigurationError: the packages of the extra are missing, the port is taken, or a model has no task head.
    """
    check_packages()
    # oneDNN keeps code that it made for each shape of a product, and the batches of a server have ever new ones: memory
    # would grow by some 100 MB until 1,024 are there. Read at the first product.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    look(options)
    with listening(options.host, options.port) as listener:
        service = service_of(options)
        try:
            run(service, listener, drain=options.drain)
        finally:
            service.close()
    console.print("All accepted requests are answered.")


def check_packages() -> None:
    """Raises ConfigurationError if the packages of the extra are not installed."""
    missing = [name for name in ("httptools", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"Serving needs {' and '.join(missing)}, which the extra brings: pip install 'xmodular[serve]'."
        )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port that is taken shows before models are loaded.

    Raises:
        ConfigurationError: it cannot listen there.
    """
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # The protocol is named: asyncio sets TCP_NODELAY only then, and without it each answer waits 40 ms.
        listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"--host {host!r:.60} is no address of this machine ({error}).") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. Choose another --port (0: any)."
        ) from None
    listener.setblocking(False)
    return listener


def service_of(options: ServeOptions) -> Service:
    """The models, loaded, each with its thread.

    Raises:
        ConfigurationError, DataError, LanguageError: as `Predictor`.
    """
    from xmodular.serving.application import Service
    from xmodular.serving.batcher import Batcher

    measures, batchers = Measures(), {}
    predictors = {}
    with progress("Loading models", len(options.model)) as advance:
        for name, source in options.model.items():
            predictors[name] = Predictor(source, **settings_of(options))
            advance(1)
    tasks = {each.task.name: each.task.kinds for each in predictors.values()}
    options.check_kind(set().union(*tasks.values()), f"the models are for {', '.join(tasks)}")
    for name, predictor in predictors.items():
        batchers[name] = Batcher(
            name,
            predictor,
            measures,
            batch_tokens=options.batch_tokens,
            wait=options.batch_wait / 1000,
            most_rows=options.queue_rows,
            most_tokens=options.max_tokens,
        )
        _watch(measures, batchers[name], options.queue_rows)
        task, languages = predictor.task.name, len(predictor.model.languages)
        console.print(f"{name}: {task}, {counted(languages, 'language')}, from {options.model[name]}")
        if options.identify and predictor.adapters.unknown:
            console.print(f"{name} cannot identify, so name it in requests: {', '.join(predictor.adapters.unknown)}")
    limits = Limits(
        *(options.max_body, options.max_rows, options.max_characters),
        *(options.timeout, options.header_timeout, options.max_connections),
    )
    return Service(batchers, measures, limits, **({} if is_loopback(options.host) else {"hosts": None}))


def _watch(measures: Measures, batcher: Batcher, most_rows: int) -> None:
    """Have a model's queue and languages measured."""
    model = batcher.name
    measures.waiting.watch(lambda: float(batcher.waiting), model=model)
    measures.resident.watch(lambda: float(len(batcher.predictor.model.resident_languages)), model=model)
    measures.room.watch(lambda: float(most_rows), model=model)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def run(
    service: Service, listener: socket.socket, *, drain: float, started: Callable[[Any], None] = lambda server: None
) -> None:
    """Answer requests until a signal.

    Args:
        service: the models.
        listener: a listening socket.
        drain: seconds after the signal in which new requests are still answered.
        started: told of the server before it runs; its `stop` ends it from another thread.
    """
    from xmodular.serving.draining_server import server_of

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    console.print(f"Listening on http://{shown}:{port} (a page to try the models is there); Ctrl-C ends")
    if not is_loopback(host):
        console.print("Other machines can reach this server, and there is no password.")
    server = server_of(service, drain)
    started(server)
    server.run(sockets=[listener])
