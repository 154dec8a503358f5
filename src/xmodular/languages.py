"""From the usual names of a language to the code under which a model has it.

X-MOD's codes look like locales (`de_DE`, `en_XX`, `zh_TW`); users write "de", "deu", "de-DE" or "German".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import langcodes

from xmodular.errors import LanguageError

# Codes that stand for the same language in X-MOD's list: it has one Norwegian, which is Bokmål, and one Tagalog.
_SAME = {"nb": "no", "tl": "fil"}


@lru_cache(maxsize=4096)
def _parts(name: str) -> tuple[str, str, str] | None:
    """The (language, script, region) that a tag or an English or native name means; None if it means none.

    The script is filled in; the region is "" unless it is named.
    """
    tag = name.replace("_", "-").removesuffix("-XX")
    if not langcodes.tag_is_valid(tag):
        try:
            tag = str(langcodes.find(name))
        except LookupError:
            return None
    region = langcodes.Language.get(tag).territory or ""
    language = langcodes.Language.get(tag).maximize()
    if language.language is None:
        return None
    return _SAME.get(language.language, language.language), language.script or "", region


def _fits(wanted: tuple[str, str, str] | None, code: str) -> bool:
    """Whether a code is in the wanted language and script, and not of another region than the one wanted."""
    there = _parts(code)
    if wanted is None or there is None:
        return False
    return wanted[:2] == there[:2] and (not wanted[2] or not there[2] or wanted[2] == there[2])


def resolve(name: str, languages: Iterable[str]) -> str:
    """The code in `languages` that `name` means.

    Args:
        name: a code of the model, a BCP-47 or ISO 639 tag, or an English or native name.
        languages: the codes to choose from.

    Returns:
        One of `languages`.

    Raises:
        LanguageError: if none fits, or several do; it lists the near ones and all there are.
    """
    codes = list(languages)
    if not isinstance(name, str):
        raise LanguageError(f"a language is named by a string such as 'de_DE', not by {name!r}.")
    if name in codes:
        return name
    spelled = [code for code in codes if code.casefold() == name.strip().replace("-", "_").casefold()]
    if len(spelled) == 1:
        return spelled[0]
    wanted = _parts(name.strip())
    meant = [code for code in codes if _fits(wanted, code)]
    if len(meant) == 1:
        return meant[0]
    there = f"The languages there are: {', '.join(codes)}."
    if meant:
        raise LanguageError(f"the language {name!r} is ambiguous: it could be {' or '.join(meant)}. {there}")
    near = _near(name, wanted, codes)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise LanguageError(f"there is no language {name!r} here: {hint}{there}")


def resolve_all(names: Sequence[str], languages: Iterable[str]) -> list[str]:
    """The codes that several names mean, in their order.

    Raises:
        LanguageError: if a name is unknown or ambiguous, or if two names mean the same code.
    """
    if isinstance(names, str):
        raise LanguageError(f"languages is the string {names!r}: give a list of names, such as [{names!r}].")
    codes = list(languages)
    resolved: list[str] = []
    for name in names:
        code = resolve(name, codes)
        if code in resolved:
            raise LanguageError(f"{name!r} means {code}, which is named twice in {list(names)}.")
        resolved.append(code)
    if not resolved:
        raise LanguageError(f"no language is named. The languages there are: {', '.join(codes)}.")
    return resolved


def _near(name: str, wanted: tuple[str, str, str] | None, codes: Sequence[str]) -> list[str]:
    """Codes of the same language in another script or region, then codes that are spelled alike."""
    same = [code for code in codes if wanted and (_parts(code) or ("",))[0] == wanted[0]]
    alike = difflib.get_close_matches(name.replace("-", "_"), codes, n=3, cutoff=0.5)
    return list(dict.fromkeys([*same, *alike]))[:4]
