"""Which language each word of a spliced bilingual sentence is in: accuracy, abstention, speed.

python benchmarks/spans.py [--data ../shared/data] [--part test|dev] [--every 1] [--identify spans:fasttext:lid.bin]

Line n of NTREX is the same sentence in every language. A spliced sentence takes it from two languages: half of each
("halves"), or in turns of about three to six words ("phrases"). Each word is right if its first character is read in
the language it came from; words without letters do not count. Constants were chosen on lines 1 to 200 and 80 other
pairs (`--part dev`), figures are of lines 201 to 557 and 40 pairs, all drawn with seed 0.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness import machine
from xmodular.identification import Identifier, Span, chosen_identifier
from xmodular.identification.words import words_in

SCRIPTS = {
    **dict.fromkeys(("ar_AR", "ur_PK"), "Arab"),
    **dict.fromkeys(("bg_BG", "ru_RU", "tt"), "Cyrl"),
    **dict.fromkeys(("zh_CN", "zh_TW"), "Hani"),
    **{"el_GR": "Grek", "hi_IN": "Deva", "ta_IN": "Taml", "th_TH": "Thai"},
}
PARTS = {"dev": (0, 200), "test": (200, 557)}
THAI = re.compile("[\u0e40-\u0e44]?[^\u0e40-\u0e44][\u0e30-\u0e3a\u0e45-\u0e4e]*|.")  # about a syllable


class Spliced(NamedTuple):
    """A sentence of two languages, and its words: start, end, language."""

    text: str
    words: list[tuple[int, int, str]]


def script(language: str) -> str:
    return SCRIPTS.get(language, "Latn")


def units(text: str, language: str) -> tuple[list[str], str]:
    """What a sentence may be cut between, and what stands between two."""
    if script(language) == "Thai":
        return THAI.findall(text), ""
    return (list(text), "") if script(language) == "Hani" else (text.split(), " ")


def pieces(text: str, language: str, count: int) -> list[str]:
    """A sentence in about equal pieces."""
    whole, between = units(text, language)
    edges = [round(number * len(whole) / count) for number in range(count + 1)]
    return [between.join(whole[a:b]).strip() for a, b in itertools.pairwise(edges)]


def splice(sentences: dict[str, str], kind: str, draw: random.Random) -> Spliced:
    """One sentence of two languages' translations of it."""
    count = 2
    if kind == "phrases":
        count = max(2, round(max(len(each.split()) for each in sentences.values()) / draw.randint(3, 6)))
    cut = {language: pieces(text, language, count) for language, text in sentences.items()}
    order = list(cut)
    draw.shuffle(order)
    text, words = "", []
    for number in range(count):
        language = order[number % 2]
        if piece := cut[language][number]:
            text += " " * bool(text)
            words += [(len(text) + a, len(text) + b, language) for a, b, of in words_in(piece) if of]
            text += piece
    return Spliced(text, words)


def pairs_of(part: str, languages: list[str]) -> dict[str, list[tuple[str, str]]]:
    """20 pairs of the same script and 20 of different ones to test; 40 and 40 others to choose constants by."""
    every = list(itertools.combinations(languages, 2))
    random.Random(0).shuffle(every)
    kinds: dict[str, list[tuple[str, str]]] = {"different": [], "same": []}
    for one, other in every:
        kinds["same" if script(one) == script(other) else "different"].append((one, other))
    return {kind: found[:20] if part == "test" else found[20:60] for kind, found in kinds.items()}


def right(gold: Spliced, spans: list[Span]) -> list[tuple[bool, float]]:
    """Whether each word is in its language, and the confidence of its part."""
    answer, place = [], 0
    for start, _, language in gold.words:
        while spans[place].end <= start:
            place += 1
        answer.append((spans[place].language == language, spans[place].confidence))
    return answer


def spliced(
    data: Path, part: str, every: int, languages: list[str]
) -> Iterator[tuple[str, str, tuple[str, str], list[Spliced]]]:
    """Kind of pair, kind of splice, pair, and its sentences."""
    lines = {each: (data / "ntrex" / f"{each}.txt").read_text("utf-8").splitlines() for each in languages}
    for scripts, pairs in pairs_of(part, languages).items():
        for pair in pairs:
            for kind in ("halves", "phrases"):
                draw = random.Random(f"{pair} {kind}")
                numbers = range(*PARTS[part], every)
                made = [splice({each: lines[each][n] for each in pair}, kind, draw) for n in numbers]
                yield scripts, kind, pair, [each for each in made if each.words]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--identify", default="spans")
    options = parser.parse_args()
    print(machine())
    codes = sorted({path.name.split(".")[0] for path in (options.data / "text").glob("*.txt")})  # those of the model
    languages = list(Identifier(codes).known)
    everywhere: Any = chosen_identifier(options.identify, codes)
    table: dict[tuple[str, str], list[list[float]]] = {}
    sure: list[tuple[bool, float]] = []
    words, seconds = 0, 0.0
    print(f"{len(codes)} languages, {len(languages)} can be identified; words right, in %: all | two | one a text")
    whole = Identifier(codes)
    for scripts, kind, pair, rows in spliced(options.data, options.part, options.every, languages):
        given = [row.text for row in rows]
        start = time.process_time()
        found = everywhere.spans(given)
        seconds += time.process_time() - start
        words += sum(len(words_in(text)) for text in given)
        marks = [mark for row, spans in zip(rows, found, strict=True) for mark in right(row, spans)]
        either: Any = chosen_identifier(options.identify, codes, pair)
        two = either.spans(given)
        among = [mark for row, spans in zip(rows, two, strict=True) for mark in right(row, spans)]
        one = [
            language == each.language
            for row, each in zip(rows, whole(given), strict=True)
            for *_, language in row.words
        ]
        sure += marks
        shares = [100 * float(np.mean(each)) for each in ([m for m, _ in marks], [m for m, _ in among], one)]
        table.setdefault((scripts, kind), []).append(shares)
        print(f"  {scripts:10}{kind:9}{'-'.join(pair):14}" + "".join(f"{share:8.2f}" for share in shares), flush=True)
    for (scripts, kind), shares in table.items():
        mean, worst = np.mean(shares, axis=0), np.min(shares, axis=0)
        print(f"{scripts} scripts, {kind}: mean of {len(shares)} pairs" + "".join(f"{x:8.2f}" for x in mean), end="")
        print("; worst" + "".join(f"{x:8.2f}" for x in worst))
    print(f"{words / seconds:,.0f} words per second of processor time")
    print("confidence: words, right")
    edges = [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01]
    for low, high in itertools.pairwise(edges):
        inside = [ok for ok, confidence in sure if low <= confidence < high]
        print(f"  {low:.2f} to {min(high, 1):.2f}: {len(inside):7} {100 * np.mean(inside) if inside else 0:6.2f} %")


if __name__ == "__main__":
    main()
