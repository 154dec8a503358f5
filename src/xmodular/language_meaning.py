"""What a name or a code of a language means: the language, its script and its region.

Tags and names come from langcodes and language_data (IANA, ISO 639, CLDR); this module adds what is special to X-MOD
codes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import langcodes

# Subtags of one language beyond CLDR's: X-MOD has one Norwegian, which is Bokmål, and one Tagalog; ISO 639-3's members
# of Pashto and standard Malay. langcodes knows cmn, swh, arb and the like by itself.
_SAME = {"nb": "no", "tl": "fil", "pbt": "ps", "pst": "ps", "zlm": "ms"}
# Codes whose second half looks like a region and is none: Arabic is not that of Argentina.
_WITHOUT_REGION = {"ar-AR": "ar"}
# fairseq's marks for romanised text and for Burmese in the Zawgyi encoding: both use the language's own module.
_MARKED = re.compile(r"(.+)[-_](rom|zaw)", re.IGNORECASE)
_SAME_SCRIPT = {"Hang": "Kore"}  # Korean has Hangul with or without Chinese characters


class Meaning(NamedTuple):
    """What a name or a code means.

    Attributes:
        levels: (language, script) as written, in BCP-47's preferred form, and as CLDR's macrolanguage.
        region: "" unless it is named.
        tag: BCP-47, for distances.
    """

    levels: tuple[tuple[str, str], ...]
    region: str
    tag: str


def split_mark(name: str) -> tuple[str, str]:
    """A name without fairseq's mark for romanised or Zawgyi text, and the mark."""
    match = _MARKED.fullmatch(name)
    return (match[1], match[2].casefold()) if match else (name, "")


@lru_cache(maxsize=16384)
def meaning_of(name: str, code: bool = False) -> Meaning | None:
    """What a name means; None if it means no language. The region of a code may be invented, as that of eo_EO."""
    tag = name.replace("_", "-")
    tag = _WITHOUT_REGION.get(tag, tag).removesuffix("-XX")
    if not _valid(tag):
        language, _, region = tag.rpartition("-")
        invented = code and len(region) == 2 and region.isupper() and _valid(language)
        found = language if invented else _find(name)
        if found is None:
            return None
        tag = found
    written = langcodes.Language.get(tag, normalize=False)
    standard = langcodes.Language.get(tag)
    macro = langcodes.Language.get(langcodes.standardize_tag(tag, macro=True))
    if standard.language is None:
        return None
    shared = _SAME.get(macro.language or "", macro.language or "")
    script = standard.maximize().script or ""
    script = _SAME_SCRIPT.get(script, script)
    levels = [(written.language or "", script), (standard.language, script), (shared, script)]
    if shared != standard.language and not standard.script:  # CLDR knows no script of some members
        levels[-1] = (shared, langcodes.Language.get(shared).maximize().script or "")
    return Meaning(tuple(levels), standard.territory or "", str(standard))


def _valid(tag: str) -> bool:
    try:
        return bool(tag) and langcodes.tag_is_valid(tag)
    except ValueError:  # not even in the form of a tag
        return False


def _find(name: str) -> str | None:
    """The tag of a language's name in any language, optionally followed by a script or country.

    Only whole names count: language_data would also take a name that merely begins with a language's.
    """
    words = re.sub(r"[_(),（），]", " ", name).split()
    for length in range(len(words), 0, -1):
        language = _named("language", " ".join(words[:length]))
        if language is None:
            continue
        rest = " ".join(words[length:])
        if not rest or rest.casefold() == "language":
            return language
        for kind in ("territory", "script"):
            if (subtag := _named(kind, rest)) is not None:
                return f"{language}-{subtag.removeprefix('und-')}"
    return None


def _named(kind: str, name: str) -> str | None:
    """The code of a language, script or territory of exactly this name, in English or else in any language."""
    from language_data.names import TRIES, name_to_code, normalize_name

    for spoken in ("en", "und"):
        code: str | None = name_to_code(kind, name, spoken)
        if normalize_name(name) in TRIES[f"{spoken}/name_to_{kind}"]:
            return code
    return None
