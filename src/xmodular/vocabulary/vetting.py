"""Check a tokenizer's files before transformers loads them: they may name code, other files, or huge sizes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, TOKENIZER_MAPPING, PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.utils import cached_file

from xmodular.errors import DataError
from xmodular.hub import hub_source
from xmodular.outputs import table_in
from xmodular.tokenizer_rules import rules_problem

# Limits for tokenizer_config.json: for a number, as classes add that many tokens (T5's 100); for tokens in a list.
_MOST_ASKED, _MOST_TOKENS = 2**16, 2**13


def checked(source: str | Path) -> PretrainedConfig:
    """The class that a tokenizer's files name, once they are safe to load.

    Returns:
        A configuration of the type that its ``config.json`` names, with nothing else from that file.

    Raises:
        DataError: they ask for code, for other files, for a class without a fast version, or for huge sizes.
    """
    found = {}
    repository, where = hub_source(source)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        with contextlib.suppress(OSError, ValueError):  # no such repository: loading will report it
            found[name] = cached_file(repository, name, **quietly, **where)
    if rules := found.get("tokenizer.json"):
        check_rules(Path(rules))
    # If one is missing or damaged, loading will report it.
    files = (found.get(name) for name in ("tokenizer_config.json", "config.json"))
    said, kind = (table_in(Path(path)) if path else {} for path in files)
    asked = said.get("tokenizer_class") or kind.get("tokenizer_class")
    known = tokenizer_class_from_name(asked) if isinstance(asked, str) else None
    if said.get("auto_map") and known is None:
        raise DataError(
            f"The tokenizer at {source} needs its own Python code (auto_map in tokenizer_config.json), which is "
            "never run. Choose another tokenizer with --tokenizer."
        )
    if asked and not (known is None or _is_fast(known) or known.__name__ == "PythonBackend"):
        raise DataError(f"The tokenizer at {source} ({asked!s:.60}) has no fast version (tokenizer.json).")
    if other := [name for name in said.get("fast_tokenizer_files") or () if name != "tokenizer.json"]:
        raise DataError(f"The tokenizer at {source} names the file {other[0]!r:.60}, but only tokenizer.json is read.")
    for name, value in said.items():
        if isinstance(value, dict | list) and len(value) > _MOST_TOKENS:
            raise DataError(
                f"The tokenizer at {source} has {len(value):,} values for {name} in tokenizer_config.json; at most "
                f"{_MOST_TOKENS:,} are allowed."
            )
        if isinstance(value, int) and abs(value) > _MOST_ASKED and name != "model_max_length":
            raise DataError(
                f"The tokenizer at {source} has {name} {value:,} in tokenizer_config.json; at most {_MOST_ASKED:,}."
                if value.bit_length() < 64
                else f"The tokenizer at {source} has a huge number for {name} in tokenizer_config.json."
            )
    return _of_kind(kind.get("model_type"), asked)


def check_rules(path: Path) -> None:
    """Check a ``tokenizer.json`` before the library reads it.

    Raises:
        DataError: its rules are not safe to run.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error!s:.200}.") from error
    if wrong := rules_problem(content):
        raise DataError(f"{path} is refused: {wrong}.")


def _is_fast(tokenizer_class: Any) -> bool:
    return isinstance(tokenizer_class, type) and issubclass(tokenizer_class, PreTrainedTokenizerFast)


def _of_kind(kind: Any, asked: Any) -> PretrainedConfig:
    """A default configuration of a type, by which `AutoTokenizer` finds the class."""
    config = PretrainedConfig()
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        with contextlib.suppress(Exception):  # some types have no defaults; they have no tokenizer for X-MOD either
            config = CONFIG_MAPPING[kind]()
            if not _is_fast(TOKENIZER_MAPPING.get(type(config), PreTrainedTokenizerFast)):
                config = PretrainedConfig()
    config.tokenizer_class = asked if isinstance(asked, str) else None
    return config
