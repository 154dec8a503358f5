"""Resolve names of languages to a model's codes.

X-MOD's codes look like locales (`de_DE`, `en_XX`, `zh_TW`); users write "de", "deu", "de-DE", "German" or "Deutsch".
What a name means is in `language_meaning`; which languages are related is in ``relatives.txt``.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import langcodes

from xmodular.errors import AmbiguousLanguageError, LanguageError
from xmodular.language_meaning import Meaning, meaning_of, split_mark

_LOGGER = logging.getLogger(__name__)

_FALLBACKS = ("relative",)
# Groups that two languages must share to be relatives: the family and a branch of it.
_LEAST_COMMON = 2
_SAME_LANGUAGE = 99

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,63}")
# Names of other parts of a model.
_PARTS = ("adapter norm", "configuration", "embeddings", "encoder", "lm head", "task head")
_LONGEST = 100  # characters that a name may have


class Closeness(NamedTuple):
    """How close two languages are.

    Attributes:
        groups: groups of the family tree in ``relatives.txt`` that both belong to, from the family downwards; 99 for
            the same language.
        same_script: whether both are usually written in one script.
        distance: CLDR's, from 0 (the same) to 100 and a little more.
    """

    groups: int
    same_script: bool
    distance: int


def resolve(name: str, languages: Iterable[str], *, fallback: str | None = None) -> str:
    """The code in `languages` that `name` refers to.

    Args:
        name: a code of the model, a BCP-47 or ISO 639 tag, or an English or native name; with fairseq's `_rom` or
            `_zaw` at its end, it means the language's plain code, unless `languages` has one with that suffix.
        languages: the codes to choose from.
        fallback: "relative" takes the most closely related language if the language itself is missing; a warning
            says so.

    Returns:
        One of `languages`.

    Raises:
        LanguageError: if none matches, or several do; it lists similar codes and all codes.
    """
    if fallback is not None and fallback not in _FALLBACKS:
        raise LanguageError(f"fallback must be None or {' or '.join(map(repr, _FALLBACKS))}; got {fallback!r}.")
    codes = tuple(languages)
    if not isinstance(name, str):
        raise LanguageError(f"a language must be a string such as 'de_DE'; got {name!r:.80}.")
    if name in codes:
        return name
    if not _may_be_name(name):
        raise LanguageError(f"{name[:_LONGEST]!r}{'...' * (len(name) > _LONGEST)} is not the name of a language.")
    meant = _meant(name, codes)
    if len(meant) == 1:
        return meant[0]
    there = f"The languages are: {', '.join(codes)}."
    if meant:
        raise AmbiguousLanguageError(f"the language {name!r} is ambiguous: it could be {' or '.join(meant)}. {there}")
    if fallback is not None and _known(name):
        if not (nearest := _relatives(name, codes)[:1]):
            raise LanguageError(
                f"there is no language {name!r} here, and no closely related one to fall back on "
                f"(the same family is not enough). {there}"
            )
        _LOGGER.warning("%s is not in the model: using the adapter of its nearest relative, %s", name, nearest[0])
        return nearest[0]
    raise LanguageError(f"there is no language {name!r} here: {_hint(name, codes)}{there}")


def resolve_or_none(name: str, languages: Iterable[str]) -> str | None:
    """As `resolve`, but None if no code matches, or several do."""
    codes = tuple(languages)
    if not isinstance(name, str) or (name not in codes and not _may_be_name(name)):
        return None
    meant = (name,) if name in codes else _meant(name, codes)
    return meant[0] if len(meant) == 1 else None


def _may_be_name(name: str) -> bool:
    return len(name) <= _LONGEST and name.isprintable()


def resolve_all(names: Sequence[str], languages: Iterable[str], *, fallback: str | None = None) -> list[str]:
    """The codes of several names, in order.

    Args:
        names: as for `resolve`.
        languages: the codes to choose from.
        fallback: as for `resolve`.

    Raises:
        LanguageError: if a name is unknown or ambiguous, or two names mean the same code.
    """
    if isinstance(names, str):
        raise LanguageError(f"languages is the string {names!r}: give a list of names, such as [{names!r}].")
    if not isinstance(names, Iterable):
        raise LanguageError(f"languages is {names!r:.80}: give a list of names, such as ['de', 'sw'].")
    codes = tuple(languages)
    resolved: list[str] = []
    for name in names:
        code = resolve(name, codes, fallback=fallback)
        if code in resolved:
            raise LanguageError(f"{name!r} means {code}, which is named twice in {list(names)}.")
        resolved.append(code)
    if not resolved:
        raise LanguageError(f"no language is given. The languages are: {', '.join(codes)}.")
    return resolved


def code_problem(code: object) -> str | None:
    """The problem with a language code, if any."""
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return f"{code!r:.80}: a code is a letter followed by at most 63 letters, digits, '_' or '-', such as 'de_DE'."
    if _is_reserved(code):
        usable = f"{code}_XX"
        means = f"; {code!r} will then refer to it" if _meant(code, (usable,)) else ""
        return f"{code!r}, which is the name of another part of a model: add a region, such as {usable!r}{means}."
    return None


def _is_reserved(code: str) -> bool:
    """Whether the containers of a language's weights have the name for themselves."""
    from torch.nn import ModuleDict, ParameterDict  # asked each time: libraries add to them

    spelled = re.sub("[_-]", " ", code).casefold()
    return spelled in _PARTS or hasattr(ModuleDict(), code) or hasattr(ParameterDict(), code)


def relatives(name: str, languages: Iterable[str]) -> list[str]:
    """The codes of languages related to the one that `name` means, the closest first, without itself.

    The same language in another region comes first; then a language of the same innermost group of the family tree in
    ``relatives.txt`` that is written in the same script (Croatian for Serbian in Latin letters); then the same language
    in another script, then languages that share the deepest group. Ties go to the same script, then to the smaller CLDR
    distance, then to the earlier code.
    Languages that share a family but no branch of it do not count as related.

    Args:
        name: as for `resolve`.
        languages: the codes to choose from.

    Returns:
        Some of `languages`; none if the language is unknown or has no relatives there.
    """
    return list(_relatives(name, tuple(languages)))


def closeness(name: str, code: str) -> Closeness | None:
    """How close the language that a name means is to that of a code; None if either is unknown."""
    one, other = meaning_of(split_mark(name.strip())[0]), meaning_of(split_mark(code)[0], code=True)
    if one is None or other is None:
        return None
    same_script = one.levels[-1][1] == other.levels[-1][1]
    return Closeness(_in_common(one, other), same_script, langcodes.tag_distance(one.tag, other.tag))


def english_name(code: str) -> str:
    """The English name of a code's language, with its script if that is not the language's usual one.

    Args:
        code: such as `de_DE` ("German") or `zh_TW` ("Chinese (Traditional)").

    Returns:
        The name; the code itself if it is not the code of a language.
    """
    return names_of(code)["english"] or code


def filled(text: str, code: str) -> str:
    """A text with ``{language}`` replaced by a language's code and ``{subtag}`` by the code's first part."""
    return text.replace("{language}", code).replace("{subtag}", re.split("[_-]", code)[0])


def names_of(code: str) -> dict[str, str | None]:
    """The names of a code's language: `english`, `native` and `bcp47`; None if it is not the code of a language.

    A region that only belongs to X-MOD's code (`de_DE` is German) is left out; an unusual script stays.
    """
    tag = tag_of(code)
    if tag is None:
        return {"english": None, "native": None, "bcp47": None}
    named = langcodes.Language.get(tag)
    return {"english": named.display_name(), "native": named.autonym(), "bcp47": tag}


def tag_of(code: str) -> str | None:
    """The BCP-47 tag of a code's language, as `names_of` has it."""
    meaning = meaning_of(code, code=True)
    if meaning is None:
        return None
    language, script = meaning.levels[1]
    usual = langcodes.Language.get(language).maximize().script
    return langcodes.Language.make(language=language, script=None if script == usual else script).to_tag()


@lru_cache(maxsize=16384)
def _meant(name: str, codes: tuple[str, ...]) -> tuple[str, ...]:
    """The codes that a name may mean: one, if all is well."""
    spelling = name.strip().replace("-", "_").casefold()
    spelled = tuple(code for code in codes if code.replace("-", "_").casefold() == spelling)
    if spelled:
        return spelled
    base, mark = split_mark(name.strip())
    if mark:
        marked = {split_mark(code)[0]: code for code in codes if split_mark(code)[1] == mark}
        found = _meant(base, tuple(marked))
        return tuple(marked[code] for code in found) or _meant(base, codes)
    wanted = meaning_of(base)
    if wanted is None:
        return ()
    there = {code: meaning for code in codes if not split_mark(code)[1] and (meaning := meaning_of(code, code=True))}
    for level, language in enumerate(wanted.levels):
        same = {code: meaning for code, meaning in there.items() if meaning.levels[level] == language}
        fitting = tuple(code for code, meaning in same.items() if meaning.region == wanted.region) or tuple(
            code for code, meaning in same.items() if not meaning.region or not wanted.region
        )
        if fitting:
            return fitting
    return ()


def _known(name: str) -> bool:
    return meaning_of(split_mark(name.strip())[0]) is not None


@lru_cache(maxsize=16384)
def _relatives(name: str, codes: tuple[str, ...]) -> tuple[str, ...]:
    wanted = meaning_of(split_mark(name.strip())[0])
    if wanted is None:
        return ()
    ranks = {}
    for number, code in enumerate(codes):
        there = meaning_of(split_mark(code)[0], code=True)
        common = _in_common(wanted, there)
        if there is not None and common >= _LEAST_COMMON and code not in _meant(name, codes):
            distance = langcodes.tag_distance(wanted.tag, there.tag)
            script = wanted.levels[-1][1] == there.levels[-1][1]
            # Script matters most: a nearly equal language in that script comes before the language itself in another.
            inmost = bool(_lineage(wanted)) and _lineage(wanted) == _lineage(there)
            near = 0 if script and common == _SAME_LANGUAGE else 1 if script and inmost else 2
            ranks[code] = (near, -common, not script, distance, number)
    return tuple(sorted(ranks, key=ranks.__getitem__))


def _in_common(one: Meaning, other: Meaning | None) -> int:
    """How many groups two languages share."""
    if other is None:
        return 0
    if one.levels[-1][0] == other.levels[-1][0]:
        return _SAME_LANGUAGE
    count = 0
    for a, b in zip(_lineage(one), _lineage(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _lineage(meaning: Meaning) -> tuple[str, ...]:
    tree = _tree()
    return next((tree[language] for language, _ in meaning.levels if language in tree), ())


@lru_cache(maxsize=1)
def _tree() -> dict[str, tuple[str, ...]]:
    """The groups of every language in ``relatives.txt``, from the family downwards."""
    return dict(_branches(Path(__file__).with_name("relatives.txt").read_text(encoding="utf-8")))


def _branches(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    above: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        group, _, members = line.partition(":")
        del above[(len(group) - len(group.lstrip())) // 2 :]
        above.append(group.strip())
        for language in members.split():
            yield language, tuple(above)


def _hint(name: str, codes: tuple[str, ...]) -> str:
    """The nearest candidates: the language's own other codes, else its relatives, else similarly spelled codes."""
    wanted = meaning_of(split_mark(name.strip())[0])
    related = _relatives(name, codes)
    own = [code for code in related if wanted and _in_common(wanted, meaning_of(code, code=True)) == _SAME_LANGUAGE]
    if related and not own:
        return f"the most closely related languages are {', '.join(related[:3])}. "
    names: dict[str, str] = {}
    for code in codes:
        called = names_of(code)
        names |= {text.casefold(): code for text in (code, called["english"], called["native"]) if text}
    alike = difflib.get_close_matches(name.strip().replace("-", "_").casefold(), names, n=4, cutoff=0.6)
    near = own or list(dict.fromkeys(names[text] for text in alike))
    return f"did you mean {' or '.join(near)}? " if near else "no name like it. "
