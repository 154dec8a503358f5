"""Turn a meaning into a sentence: tokens, spaces, and the position of each slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from xmodular.demo.grammar import Reference, Slot, Template, Word, load, parse_template
from xmodular.demo.meanings import Meaning, frame_of, slots_of

_ENTITIES = {"P": "PER", "S": "PER", "O": "ORG", "Q": "ORG", "L": "LOC", "C": "LOC"}
_GENDERS = "mfn"
_LATIN = 3  # of 10 Russian sentences write persons in Latin letters, as brands always are


@dataclass(frozen=True)
class Token:
    """A token, whether it follows without a space, and the part of it that is a name.

    Attributes:
        text: the token.
        glued: no space before it.
        name: (start, end) in `text` of the part in [ ]; None if there is none.
        slot: the slot that it fills, or "".
    """

    text: str
    glued: bool
    name: tuple[int, int] | None
    slot: str = ""


@dataclass(frozen=True)
class Surface:
    """A sentence in a language.

    Attributes:
        text: the sentence.
        tokens: its words and punctuation marks.
        spaces: whether a space follows each token.
        tags: IOB2 tags of the tokens.
        names: slot to (start, end) in `text` of the name that fills it.
    """

    text: str
    tokens: tuple[str, ...]
    spaces: tuple[bool, ...]
    tags: tuple[str, ...]
    names: dict[str, tuple[int, int]]


@cache
def _tokens(text: str, slot: str) -> tuple[Token, ...]:
    """Split at spaces and at `~`; [ ] may span several tokens."""
    tokens: list[Token] = []
    inside = False
    for chunk in text.split():
        for place, part in enumerate(chunk.split("~")):
            start = 0 if inside else part.find("[")
            inside = inside or start >= 0
            end = part.find("]")
            plain = part.replace("[", "").replace("]", "")
            name = None
            if inside:
                name = (start, len(plain) if end < 0 else end - ("[" in part))
                inside = end < 0
            tokens.append(Token(plain, place > 0, name, slot))
    return tuple(tokens)


def _gender(slot: Slot, language: str, option: int) -> str:
    genders = slot.forms.get((language, "g"))
    return genders[option] if genders else ""


def _text(part: Reference, language: str, values: Mapping[str, int], slots: Mapping[str, Slot], latin: bool) -> str:
    """What stands in a reference's place."""
    slot, option = slots[part.slot], values[part.slot]
    if part.choices != ("",):
        gender = _gender(slot, language, option)
        return part.choices[_GENDERS.index(gender) if gender else option]
    form = part.form
    if part.slot == "R":
        form = "P"
    if form == "P":
        form = _gender(slots["P"], language, values["P"])
    if latin and part.slot in ("P", "S"):
        form = "latin"
    return slot.option(language, form, option)


def _fill(
    template: Template, language: str, values: Mapping[str, int], slots: Mapping[str, Slot], latin: bool
) -> list[Token]:
    tokens: list[Token] = []
    for word in template:
        tokens += _fill_word(word, language, values, slots, latin)
    return tokens


def _fill_word(
    word: Word, language: str, values: Mapping[str, int], slots: Mapping[str, Slot], latin: bool
) -> tuple[Token, ...]:
    first = word[0]
    if isinstance(first, Reference) and len(word) == 1:
        if first.optional and first.slot not in values:
            return ()
        return _tokens(_text(first, language, values, slots, latin), first.slot)
    text = "".join(part if isinstance(part, str) else _text(part, language, values, slots, latin) for part in word)
    return _tokens(text, "")


def _assemble(tokens: list[Token], language: str) -> Surface:
    text = ""
    words: list[str] = []
    spaces: list[bool] = []
    tags: list[str] = []
    names: dict[str, tuple[int, int]] = {}
    previous = ""
    capital = True
    for token in tokens:
        word = token.text
        if capital and word[0].isalnum():
            # Turkish i has its own capital.
            word = ("İ" if language == "tr_TR" and word[0] == "i" else word[0].upper()) + word[1:]
            capital = False
        stop = word in ".," or (word == "?" and language != "fr_XX")
        space = bool(text) and not (token.glued or stop or previous == "¿")
        if space:
            text += " "
        if words:
            spaces.append(space)
        tag = "O"
        if token.name is not None and token.slot:
            start, end = len(text) + token.name[0], len(text) + token.name[1]
            if token.slot in _ENTITIES:
                tag = ("I-" if token.slot in names else "B-") + _ENTITIES[token.slot]
            names[token.slot] = (names.get(token.slot, (start, end))[0], end)
        text += word
        words.append(word)
        tags.append(tag)
        previous = word
    return Surface(text, tuple(words), (*spaces, False), tuple(tags), names)


_BODY = parse_template("{body} .")


def sentence(meaning: Meaning, language: str) -> Surface:
    """The sentence for `meaning` in a language (a code of LANGUAGES)."""
    slots, values = slots_of(meaning.topic), dict(meaning.values)
    latin = language == "ru_RU" and meaning.number // 10 % 10 < _LATIN
    body = _fill(frame_of(meaning).templates[language], language, values, slots, latin)
    outer = load("shared").wraps[meaning.wrap][language] if meaning.wrap else _BODY
    tokens: list[Token] = []
    for word in outer:
        if isinstance(word[0], Reference) and word[0].slot == "body":
            tokens += body
        else:
            tokens += _fill_word(word, language, values, slots, latin)
    return _assemble(tokens, language)


def question(meaning: Meaning, template: Template, values: Mapping[str, int], language: str) -> str:
    """A question about `meaning` that names the options in `values`."""
    latin = language == "ru_RU" and meaning.number // 10 % 10 < _LATIN
    return _assemble(_fill(template, language, values, slots_of(meaning.topic), latin), language).text
