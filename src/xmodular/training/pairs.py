"""Sentences of a new language with translations into a model's languages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xmodular.errors import DataError
from xmodular.languages import names_of, resolve_or_none
from xmodular.rows import BadRows, check_letters, columns_of, is_absent, is_numbered, read_rows

_HELD_OUT = 100  # most pairs, unless a larger share is requested


@dataclass(frozen=True)
class Pair:
    """A sentence with its translations.

    Attributes:
        text: the sentence in the new language.
        translations: its translations into languages of the model, by code; at least one.
    """

    text: str
    translations: dict[str, str]


def read_pairs(source: str, code: str, languages: Sequence[str]) -> list[Pair]:
    """Rows with a column for each language, named by its code, tag or name; other columns are ignored.

    Args:
        source: as for `read_rows`.
        code: the new language.
        languages: the model's.

    Raises:
        DataError: it cannot be read; no column is in the new language, or none in a language of the model; a row lacks
            both; or a value is not text.
    """
    pairs = []
    bad = BadRows()
    codes: dict[tuple[str, ...], dict[str, str]] = {}
    for row in read_rows(source, bad):
        names = tuple(row.values)
        if names not in codes:
            codes[names] = _codes(row.place, row.values, code, languages)
        found = {}
        for name, language in codes[names].items():
            value = row.values[name]
            if is_absent(value):
                continue
            if not isinstance(value, str):
                bad.report(row.place, f"{name!r} is {value!r:.40}; it must be a text")
            elif value.strip():
                found[language] = value
        text = found.pop(code, None)
        if text is None or not found:
            missing = f"text in {code}" if text is None else "translation of it into a language of the model"
            bad.report(row.place, f"there is no {missing}")
        else:
            pairs.append(Pair(text, found))
    if not pairs:
        raise DataError(f"{source} has no rows.")
    for name, language in {name: each for named in codes.values() for name, each in named.items()}.items():
        texts = (pair.text if language == code else pair.translations.get(language, "") for pair in pairs)
        check_letters(source, name, language, texts)
    return pairs


def pairs_hash(pairs: Sequence[Pair]) -> str:
    """A checksum of pairs in their order, for any source, such as a folder or a data set on the Hub."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.text, sorted(pair.translations.items())]).encode())
    return digest.hexdigest()


def _codes(place: str, values: Mapping[str, object], code: str, languages: Sequence[str]) -> dict[str, str]:
    """The language of each column that has one: the new one's code, or a code of the model."""
    found: dict[str, str] = {}
    for name in values:
        if is_numbered(name):
            continue
        language = resolve_or_none(name, [*languages, code])
        if language is None:
            continue
        if language in found.values():
            raise DataError(f"{place}: two columns are in {language}; there may be only one per language.")
        found[name] = language
    if code not in found.values() or len(found) < 2:
        wanted = f"{code} ({names_of(code)['english'] or 'the new language'})"
        lacking = f"column is in {wanted}" if code not in found.values() else "column is in a language of the model"
        raise DataError(
            f"{place}: no {lacking}; the columns are {columns_of(values)}. The first line of a .tsv or .csv file names "
            f"each column by its language, such as en and {code}."
        )
    return found


def held_out(pairs: Sequence[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs for training and held-out pairs: a share, but at least 100, or a tenth of less than 1,000.

    Sentences that are in both parts, by themselves or by a translation, are left out of training.
    """
    count = max(round(fraction * len(pairs)), min(_HELD_OUT, len(pairs) // 10))
    order = np.random.default_rng(seed).permutation(len(pairs))
    dev = [pairs[place] for place in sorted(order[:count])]
    seen = {text for pair in dev for text in _texts(pair)}
    return [pairs[place] for place in sorted(order[count:]) if seen.isdisjoint(_texts(pairs[place]))], dev


def _texts(pair: Pair) -> set[tuple[str | None, str]]:
    """The texts of a pair, each with its language: None for the new one."""
    return {(None, pair.text), *pair.translations.items()}
