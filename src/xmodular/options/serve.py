"""The options of `serve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import (
    IDENTIFY,
    IDENTIFY_LANGUAGES,
    IDLE_IDENTIFYING,
    RESIDENT_LANGUAGES,
    STRIDE_ONLY_FOR,
    Fallback,
    Identify,
    Options,
    WeightPrecision,
    at_least,
    between,
    not_negative,
    option,
    positive,
)


@dataclass(frozen=True, kw_only=True)
class ServeOptions(Options):
    """Serve fine-tuned models over HTTP: rows of any languages in, predictions out, many requests in one batch."""

    verb, home = "serve", "xmodular.serving:serve"
    example = "xmodular serve --model topic=runs/topic --model names=runs/names --port 8000"
    first = ("model", "host", "port")
    headings = {
        "model": "What is served, and where",
        "identify": "Languages of the rows",
        "batch_tokens": "Batches",
        "max_body": "Limits",
        "max_length": "Running the models",
    }

    model: Mapping[str, str] = option(
        "Models to serve, as name=folder (or a name on the Hub), once for each. Without a name, it is the folder's."
    )
    host: str = option(
        "Address to listen on. The default is this machine alone; other machines can reach, for example, 0.0.0.0. "
        "There is no password.",
        "127.0.0.1",
    )
    port: int = option("Port to listen on; 0 takes a free one.", 8000, between(0, 65535))
    identify: Identify = option(IDENTIFY, True)
    identify_languages: tuple[str, ...] = option(IDENTIFY_LANGUAGES, ())
    threshold: float = option(
        "Least confidence of an identified language; below it, the default language is used.", 0.3, between(0.0, 1.0)
    )
    default_language: str | None = option(
        "Language of rows that do not name one (with --identify: of uncertain rows); default: the model's default "
        "language (with --identify: the one it was fine-tuned in).",
        None,
    )
    fallback: Fallback | None = option(
        "relative: rows in a language that a model lacks use the adapter of the most closely related language.", None
    )
    batch_tokens: int = option("Tokens per forward pass, from as many requests as fit.", 2048, at_least(1))
    batch_wait: float = option("Milliseconds that a request waits for others to share its batch.", 2.0, not_negative)
    queue_rows: int = option(
        "Rows that may wait for a model; a request with more than are free is answered with status 429.",
        1024,
        at_least(1),
    )
    max_body: int = option("Most bytes in the body of a request.", 1_000_000, at_least(1))
    max_rows: int = option("Most rows in a request.", 256, at_least(1))
    max_characters: int = option("Most characters in a text.", 20_000, at_least(1))
    max_tokens: int = option("Most tokens in a row, all its windows and choices together.", 32_768, at_least(1))
    max_connections: int = option(
        "Most connections that are open at once; a further one gets status 503.", 1024, at_least(1)
    )
    header_timeout: float = option("Seconds that the headers of a request may take.", 10.0, positive)
    timeout: float = option("Seconds until a request without an answer is given up, with status 504.", 30.0, positive)
    drain: float = option(
        "Seconds after a signal to stop in which new requests are still answered, so that clients can go elsewhere.",
        1.0,
        not_negative,
    )
    max_length: int | None = option(
        "Most tokens per row or window; default: as in fine-tuning, or 512.", None, at_least(8)
    )
    stride: int | None = option(
        "Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: as fine-tuned, or "
        "a quarter of --max-length.",
        None,
        at_least(0),
    )
    resident_languages: int | None = option(RESIDENT_LANGUAGES, None, at_least(1))
    precision: WeightPrecision = option("keep the weights' precision, or run the models in fp32, bf16 or fp16.", "keep")

    idle = (IDLE_IDENTIFYING,)
    only_for = (STRIDE_ONLY_FOR,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise ConfigurationError("Missing: --model (a model to serve, as name=folder).")
        for name in self.model:
            if not name.isascii() or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
                raise ConfigurationError(
                    f"model has the name {name!r:.60}: names are in addresses, so they have letters a-z, digits, "
                    "'.', '-' and '_' alone. Give one as name=folder."
                )
        if self.max_rows > self.queue_rows:
            raise ConfigurationError(
                f"max_rows is {self.max_rows}, more than queue_rows, {self.queue_rows}: it could never wait."
            )

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Folders without a name get that of their last part.

        Raises:
            ConfigurationError: a name is given twice.
        """
        values, given = dict(values), values.get("model")
        if isinstance(given, Path):
            given = str(given)
        if isinstance(given, str):
            given = [part.strip() for part in given.split(",") if part.strip()]
        if isinstance(given, (list, tuple)):
            pairs = [_named(str(each)) for each in given]
            twice = next((name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1), None)
            if twice is not None:
                raise ConfigurationError(f"model gives {twice!r} twice: give each a name of its own, as name=folder.")
            values["model"] = dict(pairs)
        elif isinstance(given, Mapping):
            values["model"] = {name: str(place) if isinstance(place, Path) else place for name, place in given.items()}
        return values


def _named(given: str) -> tuple[str, str]:
    """The name and the place in ``name=place``, or in a place alone."""
    name, is_named, place = given.partition("=")
    if is_named and "/" not in name:
        return name.strip(), place.strip()
    return given.rstrip("/").rpartition("/")[2].partition("@")[0], given
