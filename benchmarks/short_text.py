"""How short a text can be for its language to be identified, what a least confidence keeps, and romanised text.

python benchmarks/short_text.py [--data ../shared/data] [--every 1]

The first 1, 2, 3, 5 and 10 words of the sentences of NTREX (lines 201 to 557) and Tatoeba, choice of all languages of
the development data; languages that the identifier does not know are left out. A word is what our identification takes
for one; for Chinese it is a character. Romanised sentences are NTREX's Russian, Bulgarian, Greek and Hindi, letter by
letter: a table for the first three, the letters' names in Unicode for Hindi (DEVANAGARI LETTER KA: ka). Real romanised
text is less regular.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness import machine
from xmodular.identification import Identified, Identifier, SpanIdentifier
from xmodular.identification.words import words_in

LENGTHS = (1, 2, 3, 5, 10, 1000)
LEASTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
ROMANISED = ("ru_RU", "bg_BG", "el_GR", "hi_IN")
_LETTERS = "αβγδεζηθικλμνξοπρσςτυφχψωабвгдежзиклмнопрстуфхцчшщъыьэюя"
_SOUNDS = (
    "a v g d e z i th i k l m n x o p r s s t y f ch ps o "
    "a b v g d e zh z i k l m n o p r s t u f kh ts ch sh shch  y  e yu ya"
)
SOUNDS = dict(zip(_LETTERS, _SOUNDS.split(" "), strict=True))


def sentences(data: Path, every: int, languages: list[str]) -> Iterator[tuple[str, str]]:
    """Language and sentence."""
    for code in languages:
        for path, part in (
            (data / "ntrex" / f"{code}.txt", slice(200, 557)),
            (data / "tatoeba" / f"{code}.tsv", slice(None)),
        ):
            if path.is_file() and (path.suffix == ".txt" or code != "zh_CN"):  # Tatoeba's Chinese is in either script
                for line in path.read_text("utf-8").splitlines()[part][::every]:
                    yield code, line.split("\t")[-1]


def shortened(text: str, words: int) -> str:
    """The first words of a text, those without letters not counted."""
    ends = [word.end for word in words_in(text) if word.script]
    return text[: ends[min(words, len(ends)) - 1]] if ends else ""


def romanised(text: str) -> str:
    """Cyrillic, Greek and Devanagari as Latin letters."""
    made = []
    for letter in unicodedata.normalize("NFD", text.casefold()):
        name = unicodedata.name(letter, "")
        if letter in SOUNDS:
            made.append(SOUNDS[letter])
        elif found := re.fullmatch(r"DEVANAGARI (LETTER|VOWEL SIGN) ([A-Z]+)", name):
            sound = found[2].lower()
            if found[1] == "VOWEL SIGN" and made and made[-1].endswith("a"):
                made[-1] = made[-1][:-1]
            made.append(sound)
        elif name == "DEVANAGARI SIGN VIRAMA":
            if made:
                made[-1] = made[-1].removesuffix("a")
        elif not unicodedata.category(letter).startswith("M"):
            made.append(letter)
    return "".join(made)


def report(title: str, gold: list[str], found: list[Identified]) -> None:
    right = np.array([one == each.language for one, each in zip(gold, found, strict=True)])
    sure = np.array([each.confidence for each in found])
    print(f"{title:14}{100 * right.mean():7.2f} |", end="")
    for least in LEASTS:
        kept = sure >= least
        print(f"{100 * kept.mean():6.1f}{100 * right[kept].mean() if kept.any() else 0:6.1f} ", end="")
    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(sure, edges) - 1, 0, 9)
    error = sum(abs(right[bins == n].mean() - sure[bins == n].mean()) * (bins == n).mean() for n in set(bins.tolist()))
    print(f"| {sure.mean():5.3f} {100 * error:5.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    print(machine())
    codes = sorted({path.name.split(".")[0] for path in (options.data / "text").glob("*.txt")})
    identifier, spans = Identifier(codes), SpanIdentifier(codes)
    rows = list(sentences(options.data, options.every, list(identifier.known)))
    print(f"{len(rows)} sentences, {len(identifier.known)} of {len(codes)} languages known")
    print("words: right, then for each least confidence texts kept and right among them, in %; mean confidence and")
    print(f"expected calibration error in points. Least: {', '.join(map(str, LEASTS))}")
    for name, tool in (("text", identifier), ("spans", spans)):
        for length in LENGTHS:
            kept = [(code, short) for code, text in rows if (short := shortened(text, length))]
            report(f"{name} {length}", [code for code, _ in kept], tool([text for _, text in kept]))
    half = identifier.known[::2]
    outside = [text for code, text in rows if code not in half]
    print(f"\n{len(outside)} sentences in languages that the model lacks: kept at each least confidence, in %")
    for name, tool in (("text", Identifier(half)), ("spans", SpanIdentifier(half))):
        for length in LENGTHS:
            sure = np.array([each.confidence for each in tool([shortened(text, length) for text in outside])])
            print(f"{name} {length}".ljust(14) + "".join(f"{100 * (sure >= max(x, 1e-9)).mean():7.1f}" for x in LEASTS))
    print("\nromanised, whole sentences: what they are taken for")
    for code in ROMANISED:
        texts = [romanised(text) for of, text in rows if of == code][:357]
        found = identifier(texts)
        counts: defaultdict[str, int] = defaultdict(int)
        for each in found:
            counts[each.language or "none" if each.confidence >= 0.3 else "below 0.3"] += 1
        shown = ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda pair: -pair[1])[:5])
        print(f"  {code} ({texts[0][:60]!r}): {shown}; mean confidence {np.mean([f.confidence for f in found]):.2f}")


if __name__ == "__main__":
    main()
