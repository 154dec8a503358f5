"""How an encoder's states become the vector of a text: recorded in its configuration, or by sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from transformers.utils import cached_file

from xmodular.errors import ConfigurationError, DataError
from xmodular.hub import hub_source
from xmodular.options.declaring import Pooling

_QUIETLY = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
# What sentence-transformers calls them: in its earlier files a switch for each, now a name.
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "mean": "mean",
    "cls": "first",
}


@dataclass(frozen=True)
class EmbeddingSettings:
    """How states become a vector.

    Attributes:
        pooling: "mean", of the states of all tokens, or "first", the state of the first one.
        normalize: whether vectors have the length 1.
        prefix: what stands before each text.
        temperature: of the softmax that the encoder was trained with; None if it is unknown.
    """

    pooling: Pooling = "mean"
    normalize: bool = True
    prefix: str = ""
    temperature: float | None = None

    def __post_init__(self) -> None:
        kinds = {"pooling": (str,), "normalize": (bool,), "prefix": (str,), "temperature": (int, float, type(None))}
        for name, allowed in kinds.items():
            if not isinstance(value := getattr(self, name), allowed):
                raise ConfigurationError(f"Invalid settings for embeddings: {name} is {value!r:.60}.")
        if self.pooling not in get_args(Pooling):
            raise ConfigurationError(f"pooling is {self.pooling!r:.60}: it must be 'mean' or 'first'.")

    @classmethod
    def of_record(cls, record: Any) -> EmbeddingSettings:
        """The settings in a configuration's note; the defaults without one.

        Raises:
            ConfigurationError: the note has another form.
        """
        if record is None:
            return cls()
        if not isinstance(record, Mapping):
            raise ConfigurationError(f"sentence_embedding is {record!r:.60} in config.json: it must be an object.")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    def changed(self, **settings: Any) -> EmbeddingSettings:
        """The settings with those replaced that are not None; "cls" is another name for the pooling "first"."""
        settings = {name: value for name, value in settings.items() if value is not None}
        if settings.get("pooling") == "cls":
            settings["pooling"] = "first"
        return replace(self, **settings)

    def record(self) -> dict[str, Any]:
        """The note for a configuration."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def stored_settings(source: str | Path) -> EmbeddingSettings | None:
    """What sentence-transformers' files next to an encoder say: its pooling, and whether vectors are normalised.

    Args:
        source: a folder or a name on the Hub.

    Returns:
        The settings; None without such files, or with a pooling that there is not here.

    Raises:
        DataError: the files cannot be read.
    """
    pooling = _content(source, "1_Pooling/config.json")
    if not isinstance(pooling, Mapping):
        return None
    named = pooling.get("pooling_mode")
    names = [named] if isinstance(named, str) else [name for name, value in pooling.items() if value is True]
    found = {_POOLINGS.get(name) for name in names if name in _POOLINGS or name.startswith("pooling_mode")}
    if len(found) != 1 or (only := found.pop()) is None:
        return None
    kinds = stored_modules(source)
    return EmbeddingSettings(only, normalize=any(kind.endswith("Normalize") for kind in kinds) or not kinds)


def stored_modules(source: str | Path) -> list[str]:
    """The classes of the modules that sentence-transformers' files name, in their order; empty without such files."""
    modules = _content(source, "modules.json")
    return [str(each.get("type")) for each in modules or () if isinstance(each, Mapping)]


def _content(source: str | Path, file: str) -> Any:
    name, where = hub_source(source)
    path = cached_file(name, file, **_QUIETLY, **where)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} of {source} cannot be read: {error}") from error
