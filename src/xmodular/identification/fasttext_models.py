"""fastText's models as identifiers of languages, such as GlotLID and lid.176."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from xmodular.errors import ConfigurationError, DataError, in_one_line
from xmodular.identification.identifier import READ, listed_texts, without_tags


class FastTextIdentifier:
    """A model of fastText that labels texts with languages, as a function for `identify`.

    Args:
        path: the model's file, `.bin` or `.ftz`. GlotLID (https://huggingface.co/cis-lmu/glotlid) knows about 2,000
            languages.
        labels: how many of the most probable labels are read; labels of the same language are added up.

    Attributes:
        knows: all labels of the model.

    Raises:
        ConfigurationError: no package that reads such files is installed, or `labels` is below 1.
        DataError: there is no such file, or it cannot be read, or it is no classifier.
    """

    def __init__(self, path: str | Path, labels: int = 10) -> None:
        if labels < 1:
            raise ConfigurationError(f"labels is {labels}: it must be at least 1.")
        self._model = _loaded(str(path))
        self._labels = labels
        try:
            self.knows = tuple(_predicted(self._model, "a", -1, -1.0))  # all, however improbable
        except ValueError as error:
            raise DataError(f"{path} is no model that labels texts: {in_one_line(error)}") from error

    def __call__(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The most probable labels of each text, with their probabilities; none of a text without letters.

        Of a long text, the first 1,000 characters are used. Tags of mark-up are ignored.

        Args:
            texts: any strings.

        Raises:
            InputError: if `texts` is one string or a table, or contains anything but strings.
        """
        return [self._ranked(text) for text in listed_texts(texts)]

    def _ranked(self, text: str) -> dict[str, float]:
        text = without_tags(text[: 2 * READ])[:READ]
        if not any(map(str.isalpha, text)):
            return {}
        plain = " ".join(text.encode("utf-8", "replace").decode().replace("\0", " ").split())
        return _predicted(self._model, plain, self._labels, 0.0)


def _predicted(model: Any, text: str, labels: int, least: float) -> dict[str, float]:
    """The labels of a text without line ends, the most probable first.

    The packages fasttext and fasttext-wheel, up to 0.9.3, ask NumPy 2 for an array in a way that it refuses; what they
    put into it is had without.
    """
    if hasattr(model, "f"):
        pairs = model.f.predict(text + "\n", labels, least, "strict")
        return {label: min(1.0, float(probability)) for probability, label in pairs}
    names, found = model.predict(text, k=labels, threshold=least)
    return {name: min(1.0, float(each)) for name, each in zip(names, found, strict=True)}


def _loaded(path: str) -> Any:
    """The model of a file; one that was read before is read again only if the file was changed or exchanged."""
    if not Path(path).is_file():
        raise DataError(f"There is no model of fastText at {path}.")
    there = os.stat(path)
    return _opened(os.path.abspath(path), (there.st_mtime_ns, there.st_size, there.st_ino))


@lru_cache(maxsize=4)
def _opened(path: str, version: tuple[int, ...]) -> Any:
    try:
        fasttext = importlib.import_module("fasttext")
    except ImportError as error:
        raise ConfigurationError("Models of fastText need a package: pip install fasttext-predict") from error
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # fasttext prints a notice
            return fasttext.load_model(path)
    except Exception as error:  # of a file that is none, the C++ code raises whatever it meets
        raise DataError(f"{path} is not a model of fastText: {in_one_line(error)}") from error
