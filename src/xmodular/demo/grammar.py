"""The grammars of the embedded corpus: words and sentence frames in eight languages, read from text files.

A file (`grammars/<topic>.txt`, and `grammars/shared.txt` for all topics) is made of blocks with a blank line between:

    slot result exclusive            a set of words; its options have the same meanings in every language
    en: won | lost                   one line per language; `de es: …` is for several, `all: …` for all
    en.inf: win | lose               another form of the same options: {result.inf}
    ru.g: f | m | n                  the grammatical gender of each option: form "g"
    en: in [*]                       a pattern for all of `en.name: Madrid | Oslo | …`; [ ] marks the name in it

    frame win                        a sentence without its final stop, in every language
    en: {R?} {P} {result} {event} {L?} {T?}
    ask L T                          a question for one of these slots, answered by the frame above it
    en: {W} did {P} {result.inf} {event} {L?} {T?} ?

    wrap person                      what may surround a frame: {body} is the frame

Kinds of slots: `exclusive` options rule each other out; of `kinds`, the first is the general word for the others.
In templates {x?} may be left out, {x.form} is a form, {x:a/b} chooses by the gender of x's option (m/f/n) or, where it
has none, by the option; `~` joins two tokens without a space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources

from xmodular.errors import DataError

LANGUAGES = ("en_XX", "de_DE", "es_XX", "fr_XX", "id_ID", "tr_TR", "ru_RU", "sw_KE")
TOPICS = ("business", "health", "science", "sport", "travel", "weather")

_CODES = {language[:2]: language for language in LANGUAGES}
_REFERENCE = re.compile(r"\{(\w+)(\?)?(?:\.(\w+))?(?::([^}]*))?\}")
_SPACE = re.compile(r" +(?![^{]*\})")


@dataclass(frozen=True)
class Slot:
    """Words with the same meanings in every language.

    Attributes:
        name: its name in templates.
        kind: "", "exclusive" or "kinds" (see above).
        forms: (language, form) to the options in this form; "" is the plain form.
        groups: (options, weight): an option is drawn from a group drawn by weight; in an exclusive slot options rule
            out the others of their group.
    """

    name: str
    kind: str
    forms: dict[tuple[str, str], tuple[str, ...]]
    groups: tuple[tuple[range, float], ...]

    @cached_property
    def weight(self) -> float:
        """The weights of all groups together."""
        return sum(weight for _, weight in self.groups)

    def option(self, language: str, form: str, index: int) -> str:
        """The text of an option; the plain form if there is no such form."""
        options = self.forms.get((language, form)) or self.forms[language, ""]
        return options[index]

    def rivals(self, index: int) -> list[int]:
        """The options that `index` excludes; none unless the slot is exclusive."""
        if self.kind != "exclusive":
            return []
        return [other for group, _ in self.groups if index in group for other in group if other != index]


@dataclass(frozen=True)
class Reference:
    """A slot's place in a template."""

    slot: str
    optional: bool
    form: str
    choices: tuple[str, ...]


# A template is a sequence of words; a word is one reference, or text and references glued together.
Word = tuple[str | Reference, ...]
Template = tuple[Word, ...]


@dataclass(frozen=True)
class Question:
    """A question whose answer is the filler of one of `slots`."""

    slots: tuple[str, ...]
    templates: dict[str, Template]


@dataclass(frozen=True)
class Frame:
    """A sentence in every language, with places for slots."""

    name: str
    templates: dict[str, Template]
    questions: list[Question] = field(default_factory=list)

    @cached_property
    def references(self) -> dict[str, bool]:
        """Names of its slots, in the order of the English template, and whether each may be left out."""
        return references(self.templates["en_XX"])


@dataclass(frozen=True)
class Grammar:
    """The contents of one file."""

    slots: dict[str, Slot]
    frames: dict[str, Frame]
    wraps: dict[str, dict[str, Template]]

    @cached_property
    def frame_list(self) -> tuple[Frame, ...]:
        """The frames in the order of the file."""
        return tuple(self.frames.values())


def references(template: Template) -> dict[str, bool]:
    """Names of a template's slots and whether each may be left out: it may, if one of its places says so."""
    found: dict[str, bool] = {}
    for word in template:
        for part in word:
            if isinstance(part, Reference):
                found[part.slot] = found.get(part.slot, False) or part.optional
    return found


def parse_template(text: str) -> Template:
    """Words of text and references."""
    words: list[Word] = []
    for word in _SPACE.split(text.strip()):
        parts: list[str | Reference] = []
        end = 0
        for match in _REFERENCE.finditer(word):
            if match.start() > end:
                parts.append(word[end : match.start()])
            name, optional, form, choices = match.groups()
            parts.append(Reference(name, optional is not None, form or "", tuple((choices or "").split("/"))))
            end = match.end()
        if end < len(word):
            parts.append(word[end:])
        words.append(tuple(parts))
    return tuple(words)


def _rows(lines: list[str], place: str) -> dict[tuple[str, str], str]:
    """(language, form) to text, from lines `en de.form: text`."""
    rows: dict[tuple[str, str], str] = {}
    for line in lines:
        key, separator, text = line.partition(": ")
        codes, _, form = key.partition(".")
        names = _CODES if codes == "all" else codes.split()
        unknown = [code for code in names if code not in _CODES]
        if not separator or unknown:
            raise DataError(
                f"{place}: the line {line!r} does not begin with languages of {', '.join(_CODES)} or 'all'."
            )
        for code in names:
            if (_CODES[code], form) in rows:
                raise DataError(f"{place}: {key!r} appears twice.")
            rows[_CODES[code], form] = text
    return rows


def _slot(name: str, kind: str, lines: list[str], place: str) -> Slot:
    options = {key: tuple(part.strip() for part in text.split("|")) for key, text in _rows(lines, place).items()}
    forms: dict[tuple[str, str], tuple[str, ...]] = {}
    for (language, form), texts in options.items():
        if len(texts) == 1 and "*" in texts[0]:
            texts = tuple(texts[0].replace("*", one) for one in options[language, "name"])
        forms[language, form] = texts
    sizes = {len(texts) for texts in forms.values()}
    missing = set(LANGUAGES) - {language for language, form in forms if form not in ("name", "g")}
    if len(sizes) != 1 or missing:
        raise DataError(f"{place}: slot {name} has {sorted(sizes)} options; languages missing: {sorted(missing)}.")
    for (language, form), texts in forms.items():
        # Two meanings must not look alike, or a held-out sentence could be read in training.
        if form == "" and len(set(texts)) < len(texts):
            raise DataError(f"{place}: slot {name} has two meanings with the same text in {language}: {texts}.")
    if kind not in ("", "exclusive", "kinds"):
        raise DataError(f"{place}: slot {name} is of kind {kind!r}; kinds are 'exclusive' and 'kinds'.")
    return Slot(name, kind, forms, ((range(sizes.pop()), 1.0),))


def _templates(lines: list[str], place: str) -> dict[str, Template]:
    templates = {language: parse_template(text) for (language, _), text in _rows(lines, place).items()}
    if set(templates) != set(LANGUAGES):
        raise DataError(f"{place}: no template in {', '.join(sorted(set(LANGUAGES) - set(templates)))}.")
    wanted = references(templates["en_XX"])
    for language, template in templates.items():
        if references(template) != wanted:
            raise DataError(f"{place}: {language} has the slots {references(template)}, English has {wanted}.")
    return templates


@cache
def load(name: str) -> Grammar:
    """The grammar in `grammars/<name>.txt`."""
    path = resources.files("xmodular.demo") / "grammars" / f"{name}.txt"
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, name: str) -> Grammar:
    """Read and check the text of a grammar.

    Args:
        text: blocks as above.
        name: its name in messages.

    Raises:
        DataError: an invalid line, a language without a line, or options or slots that are not parallel.
    """
    grammar = Grammar({}, {}, {})
    for block in re.split(r"\n\s*\n|\n(?=ask )", text):
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        if not lines:
            continue
        kind, _, rest = lines[0].partition(" ")
        place = f"{name}, {lines[0]}"
        if kind == "slot":
            title, _, option = rest.partition(" ")
            grammar.slots[title] = _slot(title, option, lines[1:], place)
        elif kind == "frame":
            grammar.frames[rest] = Frame(rest, _templates(lines[1:], place))
        elif kind == "ask":
            last = next(reversed(grammar.frames.values()))
            last.questions.append(Question(tuple(rest.split()), _templates(lines[1:], f"{place} of {last.name}")))
        elif kind == "wrap":
            grammar.wraps[rest] = _templates(lines[1:], place)
        else:
            raise DataError(f"{place}: a block must begin with slot, frame, ask or wrap.")
    return grammar
