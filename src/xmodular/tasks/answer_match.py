"""Compare predicted with gold answers: exact match and F1 over tokens, after normalisation by language.

English, and text in an unknown language, is normalised as in SQuAD (Rajpurkar et al. 2016): lower case, no ASCII
punctuation, no articles, single spaces. The other languages are normalised as in MLQA (Lewis et al. 2020): Unicode's
punctuation, each language's own articles, one token per character in Chinese. Languages not in MLQA keep all
words. XTREME scores XQuAD and TyDi QA as SQuAD in every language: give no language.

If a gold answer normalises to nothing ("A", "%"), only letter case and white space are normalised, in it and in
the predicted answer. SQuAD's scripts give it an F1 of 0, and treat "the" and "%" as equal.
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from functools import lru_cache

from xmodular.languages import tag_of

_SQUAD_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))
_WORDS = {
    "en": "a an the",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
    "de": "ein eine einen einem eines einer der die das den dem des",
}
# Arabic's article is written together with its word; MLQA drops the two letters anywhere.
_ARTICLES = {language: re.compile(rf"\b({words.replace(' ', '|')})\b") for language, words in _WORDS.items()} | {
    "ar": re.compile("ال")
}
_HAN = re.compile("([\u4e00-\u9fa5])")


def normalise(answer: str, language: str | None = None) -> str:
    """An answer's tokens, separated by spaces.

    Args:
        answer: the answer as in the text.
        language: its language, in any spelling; None or an unknown one is treated as English.
    """
    code = _language(language)
    text = answer.lower().translate(_SQUAD_PUNCTUATION if code == "en" else _punctuation())
    if code in _ARTICLES:
        text = _ARTICLES[code].sub(" ", text)
    if code == "zh":
        text = _HAN.sub(r" \1 ", text)
    return " ".join(text.split())


def exact_match(predicted: str, gold: str, language: str | None = None) -> float:
    """1 if both are equal after normalisation, else 0."""
    mine, theirs = _tokens(predicted, gold, language)
    return float(mine == theirs)


def f1(predicted: str, gold: str, language: str | None = None) -> float:
    """Harmonic mean of precision and recall over tokens, counted with repetitions; 0 without common tokens."""
    mine, theirs = map(Counter, _tokens(predicted, gold, language))
    common = (mine & theirs).total()
    return 2 * common / (mine.total() + theirs.total()) if common else 0.0


def _tokens(predicted: str, gold: str, language: str | None) -> tuple[list[str], list[str]]:
    theirs = normalise(gold, language).split()
    if not theirs:
        return predicted.lower().split(), gold.lower().split()
    return normalise(predicted, language).split(), theirs


@lru_cache
def _language(name: str | None) -> str:
    """The language in ISO 639, without script and region."""
    tag = tag_of(name) if name else None
    return tag.split("-")[0] if tag else "en"


@lru_cache(maxsize=1)
def _punctuation() -> dict[int, None]:
    """Everything that Unicode calls punctuation, and the signs of ASCII that it calls symbols."""
    signs = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("P"))
    return dict.fromkeys(signs) | _SQUAD_PUNCTUATION
