"""Checks whether a command's files exist before torch is imported, which takes seconds.

The verbs check again, and more closely, with the same messages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xmodular.errors import ConfigurationError, DataError
from xmodular.files import is_missing_folder, no_model_in
from xmodular.options import EvaluateOptions, PretrainOptions
from xmodular.outputs import check_writable

_MODELS = ("model", "a", "b")  # options that name a model's folder, or a name on the Hub
_ROWS = ("train", "dev", "input")
_FILES = ("text", "dev_text", "results")  # and folders


def look(options: Any) -> None:
    """Check that the files and folders named by a verb's options exist.

    Args:
        options: an instance of one of the classes in `options`.

    Raises:
        ConfigurationError, DataError: one is missing, or the output cannot be created.
    """
    for name in _MODELS:
        for source in _listed(getattr(options, name, None)):
            _look_for_model(source, several=isinstance(options, EvaluateOptions))
    for name in _ROWS:
        for source in _listed(getattr(options, name, None)):
            elsewhere = source in ("", "-") or source.startswith("hub:") or "://" in source
            is_pattern = "*" in source and getattr(options, "engine", None) is not None
            if not elsewhere and not is_pattern and not os.path.lexists(source):
                raise DataError(f"There is no file {source}.")
    for name in _FILES:
        value = getattr(options, name, None)
        for place in (Path(each) for each in value if "://" not in each) if isinstance(value, tuple) else (value,):
            if isinstance(place, Path) and not str(place).startswith("hub:") and not os.path.lexists(place):
                kind = "text folder" if isinstance(options, PretrainOptions) else "file or folder"
                raise DataError(f"There is no {kind} {place}.")
    gate = getattr(options, "gate", None)
    if gate is not None and not os.path.lexists(gate):
        raise ConfigurationError(f"There is no configuration file {gate}.")
    tokenizer = getattr(options, "tokenizer", None)
    if isinstance(tokenizer, str) and is_missing_folder(tokenizer):
        raise DataError(f"No tokenizer at {tokenizer}: there is no such folder.")
    output = getattr(options, "output_dir", None)
    if output is not None and not isinstance(output, str):
        check_writable(output)


def _listed(value: Any) -> list[str]:
    values = value if isinstance(value, tuple) else tuple(value.values()) if isinstance(value, Mapping) else (value,)
    return [str(each) for each in values if each is not None]


def _look_for_model(source: str, *, several: bool) -> None:
    """Raises ConfigurationError if a name is that of a folder which is not there, or of one without a model.

    Args:
        source: the name.
        several: whether the runs of several seeds may be meant.
    """
    if is_missing_folder(source):
        raise ConfigurationError(f"There is no folder {source}.")
    folder = Path(source)
    known = ("config.json", "adapter_config.json", "pack.json", *(["seeds.json"] if several else []))
    if folder.is_file() or (folder.is_dir() and not any((folder / name).is_file() for name in known)):
        raise ConfigurationError(no_model_in(source))
