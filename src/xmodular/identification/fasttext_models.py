"""fastText's models as identifiers of languages, such as GlotLID and lid.176."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from xmodular.errors import ConfigurationError, DataError, in_one_line

_READ = 1000  # characters, as for the default identifier


class FastTextIdentifier:
    """A model of fastText that labels texts with languages, as a function for `identify`.

    Args:
        path: the model's file, `.bin` or `.ftz`. GlotLID (https://huggingface.co/cis-lmu/glotlid) knows about 2,000
            languages.
        labels: how many of the most probable labels are read; labels of the same language are added up.

    Raises:
        ConfigurationError: no package that reads such files is installed.
        DataError: there is no such file, or it cannot be read.
    """

    def __init__(self, path: str | Path, labels: int = 10) -> None:
        self._model = _loaded(str(path))
        self._labels = labels

    def __call__(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The most probable labels of each text, with their probabilities; none of a text without letters."""
        return [self._ranked(text[:_READ]) for text in texts]

    def _ranked(self, text: str) -> dict[str, float]:
        if not any(map(str.isalpha, text)):
            return {}
        plain = " ".join(text.encode("utf-8", "replace").decode().split())  # a line end would end the text
        names, probabilities = self._model.predict(plain, k=self._labels)
        return {name: min(1.0, float(each)) for name, each in zip(names, probabilities, strict=True)}


@lru_cache(maxsize=4)
def _loaded(path: str) -> Any:
    if not Path(path).is_file():
        raise DataError(f"There is no model of fastText at {path}.")
    try:
        fasttext = importlib.import_module("fasttext")
    except ImportError as error:
        raise ConfigurationError("Models of fastText need a package: pip install fasttext-predict") from error
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # fasttext prints a notice
            return fasttext.load_model(path)
    except Exception as error:  # of a file that is none, the C++ code raises whatever it meets
        raise DataError(f"{path} is not a model of fastText: {in_one_line(error)}") from error
