"""How well each word of a text fits each language: naive Bayes over byte n-grams, a word at a time.

py3langid's model holds log P(n-gram | language). Its automaton reads the bytes of a text and reports every n-gram where
it ends, so a word's score in a language is the sum over the n-grams that end in it; they may hold the spaces around
it, but no letters of another word, unless no space is between the two. N-grams that overlap are counted as
if they were independent, which makes such sums far too sure; `WEIGHT` mends that. Scores of a word also have a floor
below its best language, so that no single word outweighs all others, and languages of another script have a penalty.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import langcodes
import numpy as np

from xmodular.identification.identifier import _INVISIBLE, Identifier, _kind
from xmodular.identification.words import Word
from xmodular.languages import resolve_or_none, tag_of

WEIGHT = 0.25  # of an n-gram
FLOOR = 12.0  # nats that a language can be below a word's best one
OTHER_SCRIPT = 3.0  # nats
CHARACTER = 1.0  # nats of a Chinese character that only the other of two scripts has
ELSEWHERE = 3.0  # nats that a language which the model lacks has to be better

_NAMES = {  # of scripts in Unicode's names of characters, by ISO 15924
    "Latn": "LATIN",
    "Cyrl": "CYRILLIC",
    "Arab": "ARABIC",
    "Grek": "GREEK",
    "Hebr": "HEBREW",
    "Armn": "ARMENIAN",
    "Geor": "GEORGIAN",
    "Deva": "DEVANAGARI",
    "Beng": "BENGALI",
    "Gujr": "GUJARATI",
    "Guru": "GURMUKHI",
    "Knda": "KANNADA",
    "Mlym": "MALAYALAM",
    "Orya": "ORIYA",
    "Sinh": "SINHALA",
    "Taml": "TAMIL",
    "Telu": "TELUGU",
    "Thai": "THAI",
    "Laoo": "LAO",
    "Khmr": "KHMER",
    "Mymr": "MYANMAR",
    "Ethi": "ETHIOPIC",
    "Hans": "CJK",
    "Hant": "CJK",
    "Jpan": "CJK HIRAGANA KATAKANA",
    "Kore": "HANGUL CJK",
}


class ScriptEvidence:
    """What the script of words tells: most languages have one, and only one of two for Chinese.

    Args:
        languages: codes.

    Attributes:
        chinese: the places in `languages` of Chinese in either kind of characters.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        tags = {resolve_or_none(tag, languages): script for tag, script in (("zh-Hans", "Hans"), ("zh-Hant", "Hant"))}
        self._chinese = [(number, tags[code]) for number, code in enumerate(languages) if code in tags]
        self.chinese = [number for number, _ in self._chinese]
        self._scripts = [_scripts_of(code) for code in languages]
        self._penalties: dict[str, np.ndarray] = {}

    def __call__(self, scores: np.ndarray, text: str, words: Sequence[Word]) -> np.ndarray:
        """Scores by words and scripts, at most 0 and at least -`FLOOR`, and 0 where a word has no letters.

        Args:
            scores: *Shape: (words, languages + 1)*, by words alone, which is changed; the last one is of others.
            text, words: what was scored.
        """
        scores[:, -1] -= ELSEWHERE
        for row, word in zip(scores, words, strict=True):
            if word.script:
                row[:-1] -= self._penalty(word.script)
            if self._chinese and word.script == "CJK":
                kinds = [_kind(each) for each in text[word.start : word.end]]
                for number, script in self._chinese:
                    row[number] -= CHARACTER * sum(kind not in ("", script) for kind in kinds)
        silent = np.array([not word.script for word in words], dtype=bool)
        scores[silent] = 0.0  # numbers and punctuation are in all languages
        return np.maximum(scores - scores.max(1, keepdims=True), -FLOOR)

    def _penalty(self, script: str) -> np.ndarray:
        """What each language loses at a word in this script."""
        if script not in self._penalties:
            lost = [OTHER_SCRIPT * bool(own and script not in own) for own in self._scripts]
            self._penalties[script] = np.array(lost, dtype=np.float32)
        return self._penalties[script]


class WordEvidence:
    """Scores words in languages.

    Args:
        identifier: knows the languages and their labels.

    Attributes:
        languages: the codes that can be told, in the order of the scores.
        unknown: the model's other codes.
    """

    def __init__(self, identifier: Identifier) -> None:
        tool = identifier._tool
        self.languages, self.unknown = identifier.known, identifier.unknown
        self._next, self._rows, self._ends = tool.tk_nextmove, tool._rowbase, tool.tk_output
        self._table = np.asarray(tool.nb_ptc)
        places: dict[str, list[int]] = {}
        for place, label in enumerate(tool.nb_classes):
            places.setdefault(label, []).append(place)
        self._columns: list[list[int]] = []
        for code in self.languages:
            labels = [label for label, codes in identifier._codes.items() if code in codes.values()]
            self._columns.append([place for label in labels for place in places[label]])
        told = {place for own in self._columns for place in own}
        self._others = [place for place, label in enumerate(tool.nb_classes) if place not in told and label != "zxx"]
        self._of_scripts = ScriptEvidence(self.languages)

    def __call__(self, text: str, words: Sequence[Word]) -> np.ndarray:
        """Scores in nats, *Shape: (words, languages + 1)*: at most 0; the last one is of any language that lacks."""
        counts, found = self._n_grams(text, words)
        sums = np.zeros((len(words), self._table.shape[1]), dtype=np.float32)
        if found:
            # A running sum, as a word may have no n-gram; double, so that a long text loses nothing.
            running = np.zeros((len(found) + 1, sums.shape[1]))
            np.cumsum(self._table[found], axis=0, dtype=np.float64, out=running[1:])
            edges = np.array(counts)
            sums = (running[edges[1:]] - running[edges[:-1]]).astype(np.float32)
        sums *= WEIGHT
        scores = np.stack([sums[:, own].max(1) for own in self._columns], axis=1)
        others = sums[:, self._others].max(1) if self._others else np.full(len(words), -np.inf)
        return self._of_scripts(np.concatenate([scores, others[:, None]], axis=1), text, words)

    def _n_grams(self, text: str, words: Sequence[Word]) -> tuple[list[int], list[int]]:
        """The n-grams of a text, and where in them those of each word begin, with the end of all."""
        following, rows, ends = self._next, self._rows, self._ends
        state, reached, edges, found = 0, -1, [], list[int]()
        capitals = text.isupper()
        starts = {word.start for word in words}
        for word in words:
            edges.append(len(found))
            raw = text[word.start : word.end]
            if not raw.isascii():
                raw = unicodedata.normalize("NFKC", raw.translate(_INVISIBLE))
            if capitals:
                raw = raw.lower()
            data = raw.encode("utf-8", "replace")
            if word.start != reached:  # n-grams over two words would blur where a language ends
                state, data = 0, b" " + data
            if word.end not in starts:
                data += b" "
            for byte in data:
                state = following[rows[state] + byte]
                if ends[state] >= 0:
                    found.append(ends[state])
            reached = word.end
        return [*edges, len(found)], found


def _scripts_of(code: str) -> frozenset[str]:
    """The scripts that a language is written in, as words name them; empty if that is not known."""
    tag = tag_of(code)
    script = None if tag is None else langcodes.Language.get(tag).maximize().script
    return frozenset(_NAMES.get(script or "", "").split())
