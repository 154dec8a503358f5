"""Whose adapter reads a row: of the language that the row names, of the one its text is in, or of a default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmodular.errors import AmbiguousLanguageError, ConfigurationError, LanguageError
from xmodular.identify import Identifier
from xmodular.languages import resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks import Example

_CHARACTERS = 1000  # of a row decide its language


@dataclass(frozen=True)
class Reading:
    """How a row is read.

    Attributes:
        language: what the text is in: a code of the model, or the name that was given for a language it lacks; None
            where identification stays unsure.
        adapter: the code of the language whose adapter reads it.
        confidence: of the identification, in [0, 1]; None where the language was given.
    """

    language: str | None
    adapter: str
    confidence: float | None = None


class Adapters:
    """Finds each row's adapter.

    Args:
        model: whose languages there are.
        default: the language of rows that name none; with `identify`, of texts whose language stays unsure. None
            takes the model's default language or, with `identify`, the language that it was fine-tuned in.
        identify: whether rows that name no language have it identified.
        threshold: identifications with less confidence are unsure.
        fallback: "relative" reads languages that the model lacks with the adapter of their nearest relative.

    Raises:
        ConfigurationError: languages are to be identified, and there is no default for texts that stay unsure.
        LanguageError: the default is no language of the model.
    """

    def __init__(
        self,
        model: XmodPreTrainedModel,
        default: str | None,
        *,
        identify: bool,
        threshold: float,
        fallback: str | None,
    ) -> None:
        self._codes = model.languages
        self._fallback = fallback
        self._named: dict[str, Reading] = {}
        self._threshold = threshold
        self.unsure = 0
        default = default or model.config.default_language
        if default is None and identify:
            default = model.config.task_language
            if default not in self._codes:
                raise ConfigurationError(
                    "Some texts tell no language (numbers, one word): --default-language says which adapter reads "
                    "them, as this model does not say in which language it was fine-tuned."
                )
        self.default = None if default is None else self._of_name(default)
        self._identifier = Identifier(self._codes) if identify else None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The model's languages that no text can be identified as."""
        return () if self._identifier is None else tuple(self._identifier.unknown)

    def knows(self, name: str) -> bool:
        """Whether a name means a language that is read here; one that fits several is known too, and a problem."""
        try:
            self._of_name(name)
        except AmbiguousLanguageError:
            return True
        except LanguageError:
            return False
        return True

    def problem(self, name: str | None) -> str | None:
        """What is wrong with the language that a row names, if anything."""
        if name is None:
            if self.default is not None or self._identifier is not None:
                return None
            return (
                "its language is not known: give --language, a language column (--columns language=...) or a file "
                "name <language>.* with a language of the model's, or have it identified with --identify"
            )
        try:
            self._of_name(name)
        except LanguageError as error:
            return str(error)
        return None

    def of(self, examples: Sequence[Example]) -> list[Reading]:
        """The readings of examples without a `problem`."""
        answer = [self.default if example.language is None else self._of_name(example.language) for example in examples]
        if self._identifier is not None:
            nameless = [index for index, example in enumerate(examples) if example.language is None]
            texts = [_told_by(examples[index].texts) for index in nameless]
            for index, found in zip(nameless, self._identifier(texts) if texts else [], strict=True):
                assert self.default is not None
                code = found.language
                if code is None or found.confidence < self._threshold:
                    self.unsure += 1
                    code = None
                answer[index] = Reading(code, code or self.default.adapter, float(found.confidence))
        return [reading for reading in answer if reading is not None]

    def _of_name(self, name: str) -> Reading:
        if name not in self._named:
            try:
                code = resolve(name, self._codes)
                reading = Reading(code, code)
            except LanguageError:
                if self._fallback is None:
                    raise
                reading = Reading(name, resolve(name, self._codes, fallback=self._fallback))
            self._named[name] = reading
        return self._named[name]


def _told_by(texts: tuple[str, ...]) -> str:
    """The text that a row's language is identified from: each of its texts has an equal share, and counts once."""
    longest = max(texts, key=len, default="")
    once = [text for text in dict.fromkeys(texts) if text is longest or text not in longest]
    shares = [text[: max(1, _CHARACTERS // len(once))] for text in once]
    return " ".join(shares)
