"""The words of a text, with exact places, where its language is not known yet."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

_CHUNK = re.compile(r"\S+")
# Scripts without spaces in which each character is a word here.
SINGLE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "TANGUT", "YI"})


class Word(NamedTuple):
    """A part of a text in one script: its first character, the place behind its last one, and the script.

    The script is the first word of its letters' names in Unicode, such as ``LATIN``; empty if it has no letters.
    """

    start: int
    end: int
    script: str


def words_in(text: str) -> list[Word]:
    """The words of a text, in order.

    White space separates words, and so does a change of script; what is no letter (digits, punctuation, emoji, marks)
    belongs to the word that it touches. Chinese characters and kana are a word each. In other scripts without spaces,
    such as Thai, a word is all that stands together.
    """
    found: list[Word] = []
    for chunk in _CHUNK.finditer(text):
        start, end = chunk.span()
        if chunk[0].isascii():
            found.append(Word(start, end, "LATIN" if any(map(str.isalpha, chunk[0])) else ""))
            continue
        script, edge = "", start  # of the word at hand: its script, and its first character
        for place in range(start, end):
            kind = script_of(text[place])
            if kind and script and (kind != script or kind in SINGLE):
                found.append(Word(edge, place, script))
                edge = place
            script = kind or script
        found.append(Word(edge, end, script))
    return found


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """The script of a letter, as `Word` names it; empty for all other characters, marks on letters among them."""
    character = unicodedata.normalize("NFKC", character)[:1]  # full-width and bold letters are letters
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""
