"""Which of a model's languages a text is in, offline.

The work is done by py3langid (naive Bayes over byte n-grams; Lui & Baldwin 2012, "langid.py: An Off-the-shelf Language
Identification Tool"), whose model of 139 languages is part of its package. Here, texts are normalised as a model
reads them, its labels become a model's codes, Chinese scripts are distinguished by their characters, and
probabilities become a language and a confidence. Why py3langid: docs/decisions/0006-language-identification.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from xmodular.errors import InputError, LanguageError
from xmodular.languages import resolve_or_none, tag_of

# Below this confidence, a text is more often in another language than one of the model's.
THRESHOLD = 0.3

READ = 1000  # characters: enough to be sure, and no line takes long
# What SentencePiece's nmt_nfkc, XLM-R's normaliser, adds to NFKC: joiners, marks of direction and ends of lines
# become spaces, other control characters go.
_SPACES = (9, 10, 12, 13, 0x61C, 0x1680, 0x200B, 0x200C, 0x200E, 0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD)
_CONTROLS = (*range(1, 9), 0x0B, *range(0x0E, 0x20), 0x7F, 0x8F, 0x9F)
_INVISIBLE: dict[int, str | None] = {**dict.fromkeys(_SPACES, " "), **dict.fromkeys(_CONTROLS)}
_SPACE = re.compile(" {2,}")
# Tags of HTML and XML, and special tokens, are the same in all languages.
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>|<!--.{0,500}?-->|\[(?:CLS|SEP|PAD|UNK|MASK)\]", re.DOTALL)
# Labels of a language's varieties, which count as the language itself if a model lacks them.
_VARIETIES = {
    **{"bs": "hr", "nn": "no", "swc": "sw", "wuu": "zh", "yue": "zh"},
    **dict.fromkeys(("acm", "acq", "aeb", "ajp", "apc", "apd", "ars", "ary", "arz", "ayl"), "ar"),
}
# Labels whose text is in one of two scripts, which then decides: a model's possible codes per script, best first.
# sr_RS names no script, which means Cyrillic: Serbian in Latin letters is nearer to the Croatian module's text.
_SCRIPTS: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {"Hans": ("zh", "zh-Hant"), "Hant": ("zh-Hant", "zh")},
    "sr": {"Cyrl": ("sr", "sr-Latn"), "Latn": ("sr-Latn", "hr", "sr")},
}
_MARKS = ("_rom", "_zaw", "-rom", "-zaw")  # text in another script than the language's own
_OTHER = {"Hans": "Hant", "Hant": "Hans", "Cyrl": "Latn", "Latn": "Cyrl"}
_UNSEEN = 0.1  # characters that either script has before one is read


@dataclass(frozen=True)
class Identified:
    """The identified language of a text.

    Attributes:
        language: a code of the model; None if the text has no letters, or too few of them.
        confidence: probability of that language, from 0 to 1, among all languages the identifier knows, including those
            that the model does not have. A text in none of the model's languages therefore gets a low confidence.
    """

    language: str | None
    confidence: float


NOTHING = Identified(None, 0.0)


class Identifier:
    """Identifies which of some languages a text is in.

    Args:
        languages: codes of a model, such as `de_DE`.

    Attributes:
        known: the codes that it can identify, in the given order.
        unknown: the other codes: their language has no label, or an earlier code has the same language and script.

    Raises:
        LanguageError: if there are no languages, or `languages` is a string.
    """

    def __init__(self, languages: Iterable[str]) -> None:
        if isinstance(languages, str):
            raise LanguageError(f"languages is the string {languages!r:.80}: give a list of codes, such as ['de_DE'].")
        codes = tuple(dict.fromkeys(languages))
        if not codes:
            raise LanguageError("an identifier needs at least one language to choose from.")
        self._tool = _load()
        labels = self._tool.labels
        tags: dict[str, str] = {}  # code of a BCP-47 tag; of several the first
        for code in codes:
            tag = None if code.casefold().endswith(_MARKS) else tag_of(code)
            if tag is not None:
                tags.setdefault(tag, code)
        # The codes of a label by the text's script, "" if the script does not matter.
        self._codes: dict[str, dict[str, str]] = {}
        for tag, code in tags.items():
            if (label := resolve_or_none(tag, labels)) is not None:
                self._codes.setdefault(label, {"": code})
        for label, scripts in _SCRIPTS.items():
            found = {script: tags[tag] for script, names in scripts.items() for tag in reversed(names) if tag in tags}
            if label in labels and found:
                alike = len(found) == len(scripts) and len(set(found.values())) == 1
                self._codes[label] = {"": found.popitem()[1]} if alike else found
        for variety, label in _VARIETIES.items():
            if variety in labels and label in self._codes:
                self._codes.setdefault(variety, self._codes[label])
        told = {code for by_script in self._codes.values() for code in by_script.values()}
        self.known = tuple(code for code in codes if code in told)
        self.unknown = tuple(code for code in codes if code not in told)

    def __call__(self, texts: Sequence[str]) -> list[Identified]:
        """The languages of texts, in order. Of a long text, the first 1,000 characters are used.

        Texts are normalised as for models with XLM-R's vocabulary: NFKC (full-width letters become letters), without
        invisible characters. Markup tags are ignored.

        Args:
            texts: any strings.

        Raises:
            InputError: if `texts` is one string or a table, or contains anything but strings.
        """
        return [self._identify(text) for text in listed_texts(texts)]

    def _identify(self, text: str) -> Identified:
        text = _as_read(text[: 2 * READ])[:READ]
        if not any(map(str.isalpha, text)):
            return NOTHING
        ranked = self._tool.rank(text)
        # Without a single known n-gram all labels are equally probable; one that has two scripts counts twice.
        if ranked[0][1] < 2.01 * ranked[-1][1]:
            return NOTHING
        found = dict.fromkeys(self.known, 0.0)
        probabilities = dict(ranked)
        kinds: Counter[str] | None = None
        for label, by_script in self._codes.items():
            for script, code in by_script.items():
                probability = probabilities[label]
                if script:
                    kinds = kinds if kinds is not None else Counter(map(_kind, text))
                    probability *= _share(script, kinds)
                found[code] += probability
        language = max(found, key=found.__getitem__, default=None)
        return NOTHING if language is None else Identified(language, min(1.0, found[language]))


def listed_texts(texts: Iterable[str]) -> list[str]:
    """Texts to identify, checked.

    Raises:
        InputError: `texts` is one string or a table, or contains anything but strings.
    """
    if isinstance(texts, str):
        raise InputError(f"texts is the string {texts!r:.80}: give a list of texts.")
    if isinstance(texts, Mapping) or hasattr(type(texts), "columns"):  # iterating over it gives names
        raise InputError(f"texts is a {type(texts).__name__}: give one of its columns, or a list of texts.")
    listed = list(texts)
    for place, text in enumerate(listed):
        if not isinstance(text, str):
            raise InputError(f"Text {place} is {text!r:.80}, a {type(text).__name__}: it must be a string.")
    return listed


def without_tags(text: str, by: str | Callable[[re.Match[str]], str] = " ") -> str:
    """A text whose tags of mark-up are replaced."""
    return _TAG.sub(by, text) if "<" in text or "[" in text else text


def _as_read(text: str) -> str:
    """A text in the form in which models read it, without tags of mark-up."""
    if not text.isascii() or not text.isprintable():
        text = unicodedata.normalize("NFKC", text.translate(_INVISIBLE))
    return _SPACE.sub(" ", without_tags(text)).strip()


@lru_cache(maxsize=1)
def _load() -> Any:
    """The tool with its model: half a second and 80 MB, once a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _share(script: str, kinds: Counter[str]) -> float:
    """How much of a text is in a script, of the two that its language has; half, if no character tells."""
    mine, others = kinds[script] + _UNSEEN, kinds[_OTHER[script]] + _UNSEEN
    return mine / (mine + others)


@lru_cache(maxsize=1 << 15)
def _kind(character: str) -> str:
    """Of a Chinese character, whether only simplified or only traditional text has it; else whether Latin or Cyrillic.

    The character sets of the mainland and of Taiwan, GB 2312 and Big5, hold what is common in either script.
    """
    if character < "\u2e80":
        name = unicodedata.name(character, "")
        return {"LATIN": "Latn", "CYRILLIC": "Cyrl"}.get(name.partition(" ")[0], "")
    simplified, traditional = _within(character, "gb2312"), _within(character, "big5")
    return "" if simplified == traditional else "Hans" if simplified else "Hant"


def _within(character: str, encoding: str) -> bool:
    try:
        return bool(character.encode(encoding))
    except UnicodeEncodeError:
        return False
