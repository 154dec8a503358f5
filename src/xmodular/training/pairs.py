"""Sentences of a new language beside their translations into languages that a model knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xmodular.errors import DataError
from xmodular.languages import names_of, resolve_or_none
from xmodular.rows import BadRows, columns_of, is_absent, read_rows

_HELD_OUT = 100  # pairs at most, unless a larger share is asked for


@dataclass(frozen=True)
class Pair:
    """A sentence and what it means.

    Attributes:
        text: in the new language.
        translations: the same in languages of the model, by their codes; one at least.
    """

    text: str
    translations: dict[str, str]


def read_pairs(source: str, code: str, languages: Sequence[str]) -> list[Pair]:
    """Rows with a column for each language, named by a code, tag or name of it; other columns are left alone.

    Args:
        source: as for `read_rows`.
        code: the new language.
        languages: the model's.

    Raises:
        DataError: it cannot be read; no column is of the new language, or none of a language of the model; a row lacks
            both; a value is no text.
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
                bad.report(row.place, f"{name!r} is {value!r:.40}, where a text belongs")
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
    return pairs


def pairs_hash(pairs: Sequence[Pair]) -> str:
    """A checksum of pairs in their order, wherever they stand: a folder and a data set on the Hub are no file."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.text, sorted(pair.translations.items())]).encode())
    return digest.hexdigest()


def _codes(place: str, values: Mapping[str, object], code: str, languages: Sequence[str]) -> dict[str, str]:
    """The language of each column that has one: the new one's code, or a code of the model."""
    found: dict[str, str] = {}
    for name in values:
        if name == "id":  # a row's own name wherever rows are read; Indonesian is id_ID here
            continue
        language = resolve_or_none(name, [*languages, code])
        if language is None:
            continue
        if language in found.values():
            raise DataError(f"{place}: two columns are in {language}; one column a language is read.")
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
    """Pairs to train on, and pairs to measure on: a share, but a tenth at least until there are a hundred.

    Sentences that stand in both parts are left out of training.
    """
    count = max(round(fraction * len(pairs)), min(_HELD_OUT, len(pairs) // 10))
    order = np.random.default_rng(seed).permutation(len(pairs))
    dev = [pairs[place] for place in sorted(order[:count])]
    seen = {pair.text for pair in dev}
    return [pairs[place] for place in sorted(order[count:]) if pairs[place].text not in seen], dev
