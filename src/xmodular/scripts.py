"""Scripts: those that languages are written in, and how much of a text is in them."""

from __future__ import annotations

from collections.abc import Iterable

import langcodes

from xmodular.errors import LanguageError
from xmodular.languages import tag_of

# Scripts of CLDR that Unicode knows as others.
_UNICODE = {"Hans": ("Hani",), "Hant": ("Hani",), "Jpan": ("Hani", "Hira", "Kana"), "Kore": ("Hang", "Hani")}


def scripts_of(languages: Iterable[str]) -> set[str]:
    """The scripts of some languages, by their codes in ISO 15924 and Unicode.

    Raises:
        LanguageError: it is not known in which script one is written.
    """
    scripts: set[str] = set()
    for code in languages:
        tag = tag_of(code)
        script = None if tag is None else langcodes.Language.get(tag).maximize().script
        if script is None:
            raise LanguageError(f"the script of {code} is not known: give text in it with --text, without --scripts.")
        scripts.update(_UNICODE.get(script, (script,)))
    return scripts


def share_in(text: str, scripts: Iterable[str]) -> float:
    """The share of a text's letters that are in some scripts; 0 if it has no letters.

    Args:
        text: any text.
        scripts: as `scripts_of` gives them.
    """
    from tokenizers import Regex, normalizers  # Python's own expressions do not know scripts

    letters = "".join(filter(str.isalpha, text))
    named = "".join(f"\\p{{{script}}}" for script in scripts)
    inside = normalizers.Replace(Regex(f"[^{named}]"), "").normalize_str(letters)
    return len(inside) / max(1, len(letters))
