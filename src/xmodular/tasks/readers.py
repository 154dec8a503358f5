"""Choose the adapter for a row: that of the language it names, of the identified language, or of a default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xmodular.configuration import XmodConfig
from xmodular.console import console
from xmodular.errors import AmbiguousLanguageError, ConfigurationError, DataError, LanguageError
from xmodular.exported_models import ExportedModel
from xmodular.identification import THRESHOLD, Identified, Identify, Span, chosen_identifier, main_language
from xmodular.languages import resolve, resolve_or_none
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks.task import Example

_PLAIN = "en"  # the language of texts without letters, where a model names none
_CHARACTERS = 1000  # of a row, used to identify its language


@dataclass(frozen=True)
class ReadSpan:
    """A part of a row's text that is read by one adapter.

    Attributes:
        text: the number of the text in the row, from 0.
        start: its first character.
        end: the place behind its last character.
        language: its language, a code of the model; None if it is uncertain, or one that the model lacks.
        adapter: the code of the language whose adapter is used.
        confidence: confidence of the identification, in [0, 1].
    """

    text: int
    start: int
    end: int
    language: str | None
    adapter: str
    confidence: float


@dataclass(frozen=True)
class Reading:
    """The language and the adapter for a row.

    Attributes:
        language: the language of the text: a code of the model, or the given name of a language it lacks; empty if
            identification is uncertain.
        adapter: the code of the language whose adapter is used.
        confidence: confidence of the identification, in [0, 1]; None if the language was given.
        adapted: False turns the adapter off, to see its effect.
        spans: which parts are read in which language, if that was identified; `language` and `adapter` are then those
            of most of the text, and of the special tokens.
    """

    language: str
    adapter: str
    confidence: float | None = None
    adapted: bool = True
    spans: tuple[ReadSpan, ...] = ()

    @property
    def own(self) -> bool:
        """Whether the adapter is the language's own."""
        return self.adapter == self.language

    @property
    def is_mixed(self) -> bool:
        """Whether tokens have different adapters."""
        return any(span.adapter != self.adapter for span in self.spans)


def reading_of(name: str, languages: Sequence[str], fallback: str | None = None) -> Reading:
    """The adapter for a language: its own or, with the fallback "relative", that of its nearest relative.

    Raises:
        LanguageError: neither is among `languages`, or the name fits several of them.
    """
    own = resolve_or_none(name, languages)
    return Reading(own or name, own or resolve(name, languages, fallback=fallback))


def training_readings(examples: Sequence[Example], language: str | None, languages: Sequence[str]) -> list[Reading]:
    """The adapter for each training row: that of the requested language, or of the row's own.

    Raises:
        LanguageError: the model lacks the language.
        DataError: no language is given, and a row does not name its own.
    """
    own = {name: resolve_or_none(name, languages) or name for each in examples if (name := each.language) is not None}
    if language is not None:
        code = resolve(language, languages)
        if others := sorted(name for name, meant in own.items() if meant != code):
            console.print(f"Rows in {', '.join(others)} are read with the adapter of {code}.")
        return [Reading(code if each.language is None else own[each.language], code) for each in examples]
    if unknown := next((each for each in examples if each.language is None), None):
        raise DataError(
            f"{unknown.place}: the row's language is unknown. Give it with --language, in a column 'language', or "
            "at the beginning of the file name (en_XX.train.jsonl). The model's languages are "
            f"{', '.join(languages)}."
        )
    readings = {name: reading_of(name, languages) for name in own}
    return [readings[str(each.language)] for each in examples]


def validation_readings(
    examples: Sequence[Example], trained: Sequence[Reading], language: str | None, languages: Sequence[str]
) -> list[Reading]:
    """The adapter for each validation row.

    Args:
        examples: the rows.
        trained: the readings of the training rows.
        language: the requested language.
        languages: the model's languages.

    Raises:
        ConfigurationError: a row is in a language that the training data are not in: a model must not be selected by
            its scores in a test language.
        DataError: a row does not name its language, and the training data are in several.
    """
    codes = list(dict.fromkeys(each.adapter for each in trained))
    known = {each.language: each.adapter for each in trained} | {code: code for code in codes}
    found = []
    for each in examples:
        meant = None if each.language is None else resolve_or_none(each.language, languages) or each.language
        if meant is not None and meant not in known:
            raise ConfigurationError(
                f"{each.place} is in {each.language}, the training data in {', '.join(codes)}: the best weights "
                "and the end of training must be chosen in the training language. Use `evaluate` for other languages."
            )
        if meant is None and len(codes) > 1:
            raise DataError(
                f"{each.place}: the row's language is unknown, and the training data are in several languages."
            )
        adapter = codes[0] if meant is None or language is not None else known[meant]
        found.append(Reading(meant or adapter, adapter))
    return found


class Readers:
    """Finds the adapter for each row to predict.

    Args:
        model: the model with the adapters.
        default: the language of rows that do not name one; with `identify`, of texts whose language is uncertain. None
            uses the model's default language or, with `identify`, the language it was fine-tuned in.
        identify: how to identify the language of rows that do not name one (see `chosen_identifier`); False: not.
        threshold: identifications with less confidence are uncertain.
        fallback: "relative" uses the adapter of the nearest relative for languages that the model lacks.
        among: only these languages are identified; empty: all of the model's.
        of_words: whether rows are sentences, followed by their words.

    Raises:
        ConfigurationError: languages are to be identified, but there is no default for uncertain texts.
        LanguageError: the default is not a language of the model.
    """

    def __init__(
        self,
        model: XmodPreTrainedModel,
        default: str | None,
        *,
        identify: Identify,
        threshold: float,
        fallback: str | None,
        among: Sequence[str] = (),
        of_words: bool = False,
    ) -> None:
        if identify is False and threshold != THRESHOLD:
            raise ConfigurationError("threshold needs identify.")
        self._codes = model.languages
        self._fallback = fallback
        self._named: dict[str, Reading] = {}
        self._threshold = threshold
        self.unsure = 0
        default = default or model.config.default_language
        if default is None and identify is not False:
            default = model.config.task_language
            if default not in self._codes:
                raise ConfigurationError(
                    "The language of some texts cannot be identified (numbers, single words): choose the adapter for "
                    "them with --default-language, as this model does not record its training language."
                )
        self.default = None if default is None else self._of_name(default)
        self._identifier = chosen_identifier(identify, self._codes, among)
        self._spans = getattr(self._identifier, "spans", None)
        self._of_words = of_words
        self._own_vocabularies = frozenset(model.config.vocabularies)
        if self._spans is not None and isinstance(model, ExportedModel):
            raise ConfigurationError(
                "An exported model reads each row with one adapter: use --identify without 'spans'."
            )

    @property
    def unknown(self) -> tuple[str, ...]:
        """The model's languages that cannot be identified."""
        return () if self._identifier is None else self._identifier.unknown

    def knows(self, name: str) -> bool:
        """Whether a name refers to a language that can be used here; an ambiguous one counts, and is a problem."""
        try:
            self._of_name(name)
        except LanguageError as error:
            return isinstance(error, AmbiguousLanguageError)
        return True

    def problem(self, name: str | None) -> str | None:
        """The problem with the language that a row names, if any."""
        if name is None:
            if self.default is not None or self._identifier is not None:
                return None
            return (
                "its language is not known: give --language, a language column (--columns language=<column>) or a file "
                "name <language>.* with a language of the model, or use --identify"
            )
        try:
            self._of_name(name)
        except LanguageError as error:
            return str(error)
        return None

    def of(self, examples: Sequence[Example]) -> list[Reading]:
        """The readings of examples that have no `problem`."""
        answer = [self.default if example.language is None else self._of_name(example.language) for example in examples]
        if self._identifier is not None:
            nameless = [index for index, example in enumerate(examples) if example.language is None]
            made = self._mixed if self._spans is not None else self._whole
            for index, reading in zip(nameless, made([examples[index].texts for index in nameless]), strict=True):
                answer[index] = reading
        return [reading for reading in answer if reading is not None]

    @property
    def finds_spans(self) -> bool:
        """Whether rows have languages inside a sentence."""
        return self._spans is not None

    def _whole(self, rows: Sequence[tuple[str, ...]]) -> Iterator[Reading]:
        """One language for each row."""
        assert self._identifier is not None
        for found in self._identifier([_told_by(texts) for texts in rows]) if rows else []:
            yield self._identified(found)

    def _mixed(self, rows: Sequence[tuple[str, ...]]) -> Iterator[Reading]:
        """A language for each part of each row, and one for the row: that of most of it."""
        assert self._spans is not None
        read = [texts[:1] if self._of_words else texts for texts in rows]
        once = list(dict.fromkeys(text for texts in read for text in texts))
        found: dict[str, list[Span]] = dict(zip(once, self._spans(once) if once else [], strict=True))
        for texts in read:
            sure = [
                [span if span.confidence >= self._threshold else replace(span, language=None) for span in found[text]]
                for text in texts
            ]
            row = self._identified(main_language([span for own in sure for span in own]))
            yield replace(
                row, spans=tuple(self._span(number, span, row) for number, own in enumerate(sure) for span in own)
            )

    def _identified(self, found: Identified) -> Reading:
        assert self.default is not None
        code = found.language if found.confidence >= self._threshold else None
        self.unsure += code is None
        return Reading(code or "", code or self.default.adapter, float(found.confidence))

    def _span(self, text: int, span: Span, row: Reading) -> ReadSpan:
        """A part with its adapter: the row's if it is uncertain, or if the two have vocabularies of their own."""
        adapter = span.language or row.adapter
        if adapter != row.adapter and {adapter, row.adapter} & self._own_vocabularies:
            adapter = row.adapter
        return ReadSpan(text, span.start, span.end, span.language, adapter, span.confidence)

    def _of_name(self, name: str) -> Reading:
        if name not in self._named:
            self._named[name] = reading_of(name, self._codes, self._fallback)
        return self._named[name]


def check_one_language(readers: Readers) -> None:
    """Raises ConfigurationError if languages are identified inside texts: one adapter makes a vector."""
    if readers.finds_spans:
        raise ConfigurationError("One adapter reads each text that becomes a vector: use --identify without 'spans'.")


def default_of(config: XmodConfig) -> str | None:
    """The language of texts that do not tell theirs: the model's default, that of its training, else English."""
    if config.default_language is not None or config.task_language in config.languages:
        return config.default_language or config.task_language
    return resolve_or_none(_PLAIN, config.languages)


def _told_by(texts: tuple[str, ...]) -> str:
    """The text that a row's language is identified from: each of its texts has an equal share, and counts once."""
    longest = max(texts, key=len, default="")
    once = [text for text in dict.fromkeys(texts) if text is longest or text not in longest]
    shares = [text[: max(1, _CHARACTERS // len(once))] for text in once]
    return " ".join(shares)
