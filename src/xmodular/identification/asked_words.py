"""How well each word of a text fits each language, by an identifier of texts that is asked about every word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from xmodular.identification.word_evidence import ScriptEvidence
from xmodular.identification.words import SINGLE, Word

WEIGHT = 0.5  # of a log-probability, as identifiers of whole texts are too sure of few words
LEAST = 1e-4  # probability of a language that is not named
# Words on either side that are asked about too: where a character is a word, and elsewhere.
BESIDE = {True: 4, False: 1}


class _Asked(Protocol):
    """An identifier with probabilities."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """*Shape: (texts, known + 1)*; the last one is of languages that lack."""
        ...


class AskedWords:
    """Scores words in languages, as `WordEvidence` does.

    Args:
        identifier: is asked about the words.

    Attributes:
        languages: the codes that can be told, in the order of the scores.
        unknown: the model's other codes.
    """

    def __init__(self, identifier: _Asked) -> None:
        self.languages, self.unknown = identifier.known, identifier.unknown
        self._identifier = identifier
        self._of_scripts = ScriptEvidence(self.languages)

    def __call__(self, text: str, words: Sequence[Word]) -> np.ndarray:
        """Scores in nats, *Shape: (words, languages + 1)*: at most 0; the last one is of any language that lacks.

        A word is asked about alone and among its neighbours of the same script.
        """
        lettered = [place for place, word in enumerate(words) if word.script]
        alone = [text[words[place].start : words[place].end] for place in lettered]
        among = [_with_neighbours(text, words, place) for place in lettered]
        asked = self._identifier.probabilities([*alone, *among])
        chinese = self._of_scripts.chinese  # which of two, its characters tell better
        asked[:, chinese] = asked[:, chinese].sum(1, keepdims=True)
        logs = WEIGHT * np.log(np.maximum(asked, LEAST))
        scores = np.zeros((len(words), len(self.languages) + 1))
        scores[lettered] = (logs[: len(alone)] + logs[len(alone) :]) / 2
        return self._of_scripts(scores, text, words)


def _with_neighbours(text: str, words: Sequence[Word], place: int) -> str:
    """A word with those on either side, as far as they are in its script."""
    script = words[place].script
    first = last = place
    for _ in range(BESIDE[script in SINGLE]):
        first -= first > 0 and words[first - 1].script in ("", script)
        last += last + 1 < len(words) and words[last + 1].script in ("", script)
    return text[words[first].start : words[last].end]
