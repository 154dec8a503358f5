"""The identifier that a user chose: the default, a file of fastText, or a function of the user's own, checked.

What such a function answers is in any naming of languages; here it becomes a model's codes.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xmodular.errors import ConfigurationError, InputError, XmodularError, in_one_line
from xmodular.identification.asked_words import AskedWords
from xmodular.identification.fasttext_models import FastTextIdentifier
from xmodular.identification.identifier import _SCRIPTS, _VARIETIES, NOTHING, Identified, Identifier, _kind
from xmodular.identification.spans import Span, SpanIdentifier, main_language
from xmodular.languages import resolve_all, resolve_or_none, tag_of

Identify = bool | str | Callable[[list[str]], Any]  # what `identify` can be; see `chosen_identifier`

_PREFIXES = ("__label__",)
_CHINESE = ("_Hani", "-Hani")  # GlotLID does not say which characters
_NO_LANGUAGE = frozenset({"", "und", "zxx", "mis", "mul", "unknown", "none"})
# What counts as a language, by its tag, if a model lacks that: best first, as for the default identifier.
_ALSO = {variety: (language,) for variety, language in _VARIETIES.items()} | {
    tags[0]: tags[1:] for by_script in _SCRIPTS.values() for tags in by_script.values()
}


class TextIdentifier(Protocol):
    """What reads texts whose language is not given. One with a method `spans` also says where a language ends.

    Attributes:
        known: the model's codes that it can identify.
        unknown: the model's other codes.
    """

    known: tuple[str, ...]
    unknown: tuple[str, ...]

    def __call__(self, texts: Sequence[str]) -> list[Identified]:
        """The language of each text."""
        ...


def chosen_identifier(identify: Identify, languages: Sequence[str], among: Sequence[str] = ()) -> TextIdentifier | None:
    """The identifier for a model's languages.

    Args:
        identify: True or "py3langid": one language a text; "spans": one a word (see `SpanIdentifier`);
            "fasttext:<file>" or "glotlid:<file>": a model of fastText (see `FastTextIdentifier`);
            "<module>:<function>": a function, imported from the search path or the working directory; either after
            "spans:", asked word by word; a function, or an object with a method `spans` (see `OwnIdentifier`); False:
            none.
        languages: the model's codes.
        among: only these can be identified, under any names; empty: all.

    Raises:
        ConfigurationError: the name is none of these, or `among` is given without an identifier.
        LanguageError: the model lacks a language of `among`.
    """
    codes = tuple(resolve_all(list(among), languages)) if among else tuple(languages)
    if identify is False:
        if among:
            raise ConfigurationError("identify_languages needs identify: say how languages are identified.")
        return None
    if identify is True or identify == "py3langid":
        return _Within(Identifier(codes), languages)
    if identify == "spans":
        return SpanIdentifier(languages, codes if among else None)
    if not isinstance(identify, str):
        return OwnIdentifier(identify, codes)
    asked = identify.removeprefix("spans:")
    own = OwnIdentifier(_named(asked, identify), codes)
    if asked == identify or hasattr(own, "spans"):
        return own
    return SpanIdentifier(languages, codes if among else None, AskedWords(own))


def _named(asked: str, identify: str) -> Any:
    """The identifier of a name with a colon, as given alone or after another.

    Raises:
        ConfigurationError: it has none, or there is no such file, module or function.
    """
    kind, _, place = asked.partition(":")
    if not place:
        raise ConfigurationError(
            f"identify is {identify!r:.80}: it must be py3langid, spans, fasttext:<file>, glotlid:<file>, or a "
            "function of your own as <module>:<function>; the last three also after spans: (spans:glotlid:<file>)."
        )
    return FastTextIdentifier(place) if kind in ("fasttext", "glotlid") else _imported(kind, place)


def source_of(identify: Identify) -> Path | str | None:
    """What a user's own identifier is made of, so that a change can be noticed.

    Returns:
        The file of a name, of a model or a module; of an object a checksum of its source; None if there is none.

    Raises:
        ConfigurationError: as `chosen_identifier`.
    """
    if isinstance(identify, str):
        kind, _, place = identify.removeprefix("spans:").partition(":")
        if not place:
            return None
        path = Path(place) if kind in ("fasttext", "glotlid") else _file_of(_imported(kind, place))
        return path if path is not None and path.is_file() else None
    if isinstance(identify, bool):
        return None
    try:
        return hashlib.sha256(inspect.getsource(_written(identify)).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def _written(identify: Any) -> Any:
    """What has source text: a function or, of an object, its class."""
    return identify if inspect.isroutine(identify) else type(identify)


def _file_of(identify: Any) -> Path | None:
    try:
        found = inspect.getsourcefile(_written(identify))
    except TypeError:  # it is built in
        return None
    return None if found is None else Path(found)


class _Within:
    """py3langid's identifier, restricted to some of a model's languages: those that it cannot tell are the model's."""

    def __init__(self, identifier: Identifier, languages: Sequence[str]) -> None:
        self.known = identifier.known
        self.unknown = tuple(code for code in languages if code in identifier.unknown)
        self._identifier = identifier

    def __call__(self, texts: Sequence[str]) -> list[Identified]:
        return self._identifier(texts)


class OwnIdentifier:
    """A user's own identifier, whose answers are checked and become a model's codes.

    Args:
        own: a function that takes a list of texts, and returns as many answers, each of them

            * a label: a language's code, tag or name, such as `de`, `deu_Latn`, `__label__deu_Latn` or `German`,
            * a pair of a label and its confidence, from 0 to 1, or an object with `language` and `confidence`,
            * a mapping of labels to probabilities, or
            * None, where it is not sure;

            or an object with a method `spans`, which takes a list of texts and returns for each a list of parts,
            (start, end, label, confidence), in order, in characters. It may have an attribute `knows`, a list of all
            its labels.
        languages: the model's codes that it may choose from.

    Attributes:
        known: the codes that it can identify: all, unless it says what it knows.
        unknown: the others.

    Raises:
        ConfigurationError: it cannot be called, or none of the labels that it knows is a language.
    """

    def __init__(self, own: Any, languages: Sequence[str]) -> None:
        self._name = getattr(own, "__qualname__", type(own).__name__)
        self._own = own
        if callable(getattr(own, "spans", None)):
            self.spans = self._spans
        elif not callable(own):
            raise ConfigurationError(
                f"identify is {own!r:.80}: give True, a name, a function of texts, or an object with a method spans."
            )
        self._languages = tuple(languages)
        self._codes: dict[str, str | None] = {}
        self._strange: set[str] = set()  # labels of a model that are no names of languages
        told: set[str | None] = set(self._languages)
        if (knows := getattr(own, "knows", None)) is not None:
            told = {self._code_in(label, script) for label in knows for script in ("Hans", "Hant")} - {None}
            if len(self._strange) == len(set(map(_bare, knows))):
                raise ConfigurationError(f"{self._name} knows no language: its labels are {', '.join(knows)[:80]}.")
        self.known = tuple(code for code in self._languages if code in told)
        self.unknown = tuple(code for code in self._languages if code not in told)

    def __call__(self, texts: Sequence[str]) -> list[Identified]:
        """The language of each text; None for one that the model lacks.

        Raises:
            InputError: an answer is not one; the message says which and why.
        """
        if callable(getattr(self._own, "spans", None)):
            return [main_language(each) for each in self._spans(texts)]
        answers = self._asked(self._own, texts)
        return [
            self._read(answer, text, place) for place, (answer, text) in enumerate(zip(answers, texts, strict=True))
        ]

    def _spans(self, texts: Sequence[str]) -> list[list[Span]]:
        """The parts of each text, checked."""
        return [
            list(self._parts(parts, text, place))
            for place, (parts, text) in enumerate(zip(self._asked(self._own.spans, texts), texts, strict=True))
        ]

    def _asked(self, function: Callable[[list[str]], Any], texts: Sequence[str]) -> list[Any]:
        try:
            answers = function(list(texts))
        except XmodularError:
            raise
        except Exception as error:
            raise InputError(
                f"The identifier {self._name} failed: {type(error).__name__}: {in_one_line(error)}"
            ) from error
        if isinstance(answers, str | Mapping) or not isinstance(answers, Iterable):
            raise InputError(f"The identifier {self._name} returned {answers!r:.80}: it must be a list of answers.")
        listed = list(answers)
        if len(listed) != len(texts):
            raise InputError(f"The identifier {self._name} returned {len(listed)} answers for {len(texts)} texts.")
        return listed

    def _parts(self, parts: Any, text: str, place: int) -> Iterator[Span]:
        reached = 0
        if isinstance(parts, str) or not isinstance(parts, Iterable):
            raise self._wrong(place, parts, "a list of (start, end, label, confidence)")
        for part in parts:
            try:
                if not isinstance(part, Span):
                    part = Span(*part)
                start, end = int(part.start), int(part.end)
            except (TypeError, ValueError):
                raise self._wrong(place, part, "(start, end, label, confidence)") from None
            if not reached <= start < end <= len(text):
                raise self._wrong(place, part, f"in order, and within the {len(text)} characters of the text")
            reached = end
            found = self._read((part.language, part.confidence), text[start:end], place)
            yield Span(start, end, found.language, found.confidence)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """What is said of each text: *Shape: (texts, known + 1)*, float64; the last one is of languages that lack.

        Raises:
            InputError: as for a call.
        """
        answers = self._asked(self._own, texts)
        places: dict[str | None, int] = {code: place for place, code in enumerate(self.known)}
        found = np.zeros((len(answers), len(places) + 1))
        for row, answer, text, number in zip(found, answers, texts, range(len(answers)), strict=True):
            for code, share in self._shares(answer, text, number).items():
                row[places.get(code, -1)] += share
        return found

    def _read(self, answer: Any, text: str, place: int) -> Identified:
        shares = self._shares(answer, text, place)
        del shares[None]
        if not shares:
            return NOTHING
        code, confidence = shares.most_common(1)[0]
        return Identified(code, min(1.0, confidence))

    def _shares(self, answer: Any, text: str, place: int) -> Counter[str | None]:
        """The confidence in each of the model's languages, and under None in others.

        Raises:
            InputError: it is no answer.
        """
        if hasattr(answer, "language") and hasattr(answer, "confidence"):
            answer = (answer.language, answer.confidence)
        if isinstance(answer, str):
            answer = (answer, 1.0)
        if answer is None:
            pairs = []
        elif isinstance(answer, Mapping):
            pairs = list(answer.items())
        elif isinstance(answer, tuple | list) and len(answer) == 2:
            pairs = [(answer[0], answer[1])]
        else:
            raise self._wrong(place, answer, "a label, a pair of label and confidence, or None")
        found: Counter[str | None] = Counter()
        for label, given in pairs:
            if label is None:
                continue
            try:
                confidence = float(given)
            except (TypeError, ValueError):
                confidence = math.nan
            if not 0 <= confidence <= 1.001:  # a little above 1, as fastText rounds
                raise self._wrong(place, answer, "a confidence from 0 to 1")
            found[self._code(label, text, place)] += min(confidence, 1.0)  # type: ignore[assignment]
        return found

    def _code(self, label: Any, text: str, place: int) -> str | None:
        """The model's code for a label; None if the model lacks the language.

        Raises:
            InputError: it is not the name of a language.
        """
        if not isinstance(label, str):
            raise self._wrong(place, label, "a text as a label")
        script = ""
        if label.endswith(_CHINESE):
            kinds = Counter(map(_kind, text))
            script = "Hant" if kinds["Hant"] > kinds["Hans"] else "Hans"
        code = self._code_in(label, script)
        if code is None and not hasattr(self._own, "knows") and _bare(label) in self._strange:
            raise self._wrong(place, _bare(label), "the code or name of a language")
        return code

    def _code_in(self, label: str, chinese: str) -> str | None:
        """The model's code for a label, which may leave open which Chinese characters a text has."""
        label = f"zh-{chinese}" if label.endswith(_CHINESE) else _bare(label)
        if label not in self._codes:
            self._codes[label] = self._look(label)
        return self._codes[label]

    def _look(self, label: str) -> str | None:
        if label in self._languages:
            return label
        if label.replace("_", "-").partition("-")[0].casefold() in _NO_LANGUAGE:
            return None
        tag = tag_of(label.replace("_", "-")) or ""
        if not tag and not _is_language(label):
            self._strange.add(label)
            return None
        tags = (label, tag, *_ALSO.get(tag.removesuffix("-Arab"), ()))  # of some, CLDR knows no script
        return next(filter(None, (resolve_or_none(each, self._languages) for each in tags)), None)

    def _wrong(self, place: int, answer: Any, right: str) -> InputError:
        return InputError(f"The identifier {self._name} answered {answer!r:.80} for text {place}: it must be {right}.")


def _bare(label: str) -> str:
    """A label without fastText's mark."""
    for prefix in _PREFIXES:
        label = label.removeprefix(prefix)
    return label


def _is_language(name: str) -> bool:
    """Whether something is a language's name in words, such as "Polish"."""
    from langcodes import find

    try:
        return find(name).is_valid()
    except LookupError:
        return False


def _imported(module: str, name: str) -> Any:
    """An object that a user named on the command line.

    Raises:
        ConfigurationError: there is no such module, or it lacks the name.
    """
    try:
        with _working_directory():
            found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"identify is {f'{module}:{name}'!r:.80}: {in_one_line(error)}.") from error
    return found() if inspect.isclass(found) else found


@contextmanager
def _working_directory() -> Iterator[None]:
    """Also import from the working directory, after all other places, so that nothing there hides a package."""
    sys.path.append("")
    try:
        yield
    finally:
        sys.path.pop()
