"""Which language each part of a text is in, for texts that switch language inside a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xmodular.errors import LanguageError
from xmodular.identification.asked_words import AskedWords
from xmodular.identification.decision import best_paths, sentence_priors, word_probabilities
from xmodular.identification.identifier import NOTHING, Identified, Identifier, listed_texts, without_tags
from xmodular.identification.word_evidence import WordEvidence
from xmodular.identification.words import Word, words_in
from xmodular.languages import resolve

SWITCH = 0.1  # probability that a language is drawn anew after a word
ROUNDS = 3  # in which a text's shares of languages are learned
LEAST = 0.1  # words that each language has before one is read

_AT_ONCE = 1 << 21  # scores that are worked on together


@dataclass(frozen=True)
class Span:
    """A part of a text in one language.

    Attributes:
        start: its first character.
        end: the place behind its last character.
        language: a code of the model; None if it is in a language that the model lacks.
        confidence: mean probability of the language at the part's words, from 0 to 1.
    """

    start: int
    end: int
    language: str | None
    confidence: float


class SpanIdentifier:
    """Identifies the language of each word, and so the parts of a text that are in one language.

    Args:
        languages: codes of a model, such as `de_DE`.
        among: only these can occur, such as `["de", "ar"]`; None: all of `languages`.
        evidence: scores words in languages; None: py3langid's n-grams do.

    Attributes:
        known: the codes that it can identify.
        unknown: the other codes of `languages`.

    Raises:
        LanguageError: there are no languages, one in `among` is not in `languages`, or it cannot be identified.
    """

    def __init__(
        self,
        languages: Iterable[str],
        among: Sequence[str] | None = None,
        evidence: WordEvidence | AskedWords | None = None,
    ) -> None:
        if evidence is None:
            evidence = WordEvidence(Identifier(languages))
        self.known, self.unknown = evidence.languages, evidence.unknown
        self._evidence = evidence
        self._chosen = np.arange(len(self.known) + 1)  # the last one: a language that the model lacks
        if among is not None:
            codes = [resolve(name, (*self.known, *self.unknown)) for name in among]
            if not codes or (wrong := next((code for code in codes if code in self.unknown), None)):
                named = f"{wrong} cannot be identified" if codes else "no language is given"
                raise LanguageError(f"{named}: choose among {', '.join(self.known)}.")
            self._chosen = np.array([self.known.index(code) for code in dict.fromkeys(codes)])
        self._names = [(*self.known, None)[number] for number in self._chosen]

    def spans(self, texts: Sequence[str]) -> list[list[Span]]:
        """The parts of texts in one language, in order.

        They begin and end at words (see `xmodular.identification.words`); characters between two parts, which are white
        space or mark-up, belong to neither. Words without letters (numbers, punctuation, emoji) are in the language
        of the word before. A text without letters has no parts.

        Args:
            texts: any strings.

        Raises:
            InputError: as for `Identifier`.
        """
        answer: list[list[Span]] = [[] for _ in listed_texts(texts)]
        lettered = []
        for place, text in enumerate(texts):
            plain = without_tags(text, _blank)
            words = words_in(plain)
            if any(word.script for word in words):
                lettered.append((place, plain, words))
        for part in _parts(lettered, len(self._chosen)):
            for (place, _, words), (path, sure) in zip(part, self._decide(part), strict=True):
                answer[place] = self._joined(words, path, sure)
        return answer

    def __call__(self, texts: Sequence[str]) -> list[Identified]:
        """The language that most letters of each text are in, with the mean confidence of its words."""
        return [main_language(each) for each in self.spans(texts)]

    def _decide(self, part: Sequence[tuple[int, str, list[Word]]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each text the languages of its words, and their probabilities."""
        lengths = np.array([len(words) for *_, words in part])
        scores = np.zeros((len(part), lengths.max(), len(self._chosen)))
        for row, (_, text, words) in zip(scores, part, strict=True):
            row[: len(words)] = self._evidence(text, words)[:, self._chosen]
        prior = sentence_priors(scores, lengths, SWITCH, ROUNDS, LEAST)
        paths = best_paths(scores, lengths, prior, SWITCH)
        for path, (*_, words) in zip(paths, part, strict=True):
            last = next(place for place, word in enumerate(words) if word.script)
            for place, word in enumerate(words):
                last = place if word.script else last
                path[place] = path[last]
        sure = np.take_along_axis(word_probabilities(scores, lengths, prior, SWITCH), paths[..., None], axis=2)[..., 0]
        for path, own, length in zip(paths, sure, lengths, strict=True):
            yield path[:length], own[:length]

    def _joined(self, words: Sequence[Word], path: np.ndarray, sure: np.ndarray) -> list[Span]:
        """Neighbouring words of one language as a part."""
        edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(words)]
        return [
            Span(
                words[first].start,
                words[end - 1].end,
                self._names[path[first]],
                min(1.0, float(sure[first:end].mean())),
            )
            for first, end in pairwise(edges)
        ]


def main_language(spans: Sequence[Span]) -> Identified:
    """The language of most characters, with the mean confidence; parts without a language do not count."""
    sizes: dict[str, int] = {}
    for span in spans:
        if span.language is not None:
            sizes[span.language] = sizes.get(span.language, 0) + span.end - span.start
    if not sizes:
        return NOTHING
    mean = sum((span.end - span.start) * span.confidence for span in spans if span.language is not None)
    return Identified(max(sizes, key=sizes.__getitem__), min(1.0, mean / sum(sizes.values())))


def _blank(found: object) -> str:
    start, end = found.span()  # type: ignore[attr-defined]
    return " " * (end - start)


def _parts(texts: list[tuple[int, str, list[Word]]], languages: int) -> Iterator[list[tuple[int, str, list[Word]]]]:
    """Texts of similar length together, so that little is padding."""
    waiting: list[tuple[int, str, list[Word]]] = []
    for each in sorted(texts, key=lambda one: len(one[2])):
        if waiting and (len(waiting) + 1) * len(each[2]) * languages > _AT_ONCE:
            yield waiting
            waiting = []
        waiting.append(each)
    if waiting:
        yield waiting
