"""What an adapter for each word gives on spliced sentences: parts of speech, and restored pieces.

python benchmarks/span_routing.py --model <folder of a tagger> [--base <folder of its masked language model>]

Sentence n of the PUD treebanks is the same in every language. A spliced sentence is the first half of one translation
and the second half of another, word by word with their tags. The tagger reads each

    words      every token by the adapter of its identified language (identify="spans")
    sentence   all by the adapter of the identified language of the sentence
    gold       every token by the adapter of the language it came from
    source     all by the adapter that the tagger's configuration names (one of its training languages)

Intervals are 95 %, from 2,000 paired resamples of PUD's sentence numbers, so that one sentence in all its pairs stays
together. `--base` alone masks 15 % of the pieces, and reports the loss in nats under the same adapters.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import machine
from xmodular import Predictor, XmodConfig, XmodForMaskedLM
from xmodular.rows import BadRows, read_rows
from xmodular.tasks import Example, tokenizer_of
from xmodular.tasks.per_token import with_adapters
from xmodular.tasks.readers import Readers, Reading, ReadSpan
from xmodular.tasks.running import encode_examples, predict_examples
from xmodular.tasks.tag import TAG
from xmodular.tasks.task import Encoding, Room

PUD = (
    "ar_AR",
    "de_DE",
    "en_XX",
    "es_XX",
    "fi_FI",
    "fr_XX",
    "hi_IN",
    "id_ID",
    "it_IT",
    "ru_RU",
    "th_TH",
    "tr_TR",
    "zh_TW",
)
WAYS = ("words", "sentence", "gold", "source")


def treebank(data: Path, language: str) -> list[dict[str, Any]]:
    return [dict(row.values) for row in read_rows(data / "pos" / f"{language}.test.conllu", BadRows())]


def spliced(data: Path, languages: Sequence[str], pairs: int, first: int) -> list[tuple[int, Example, Reading]]:
    """Number of the sentence, example, and gold reading."""
    banks = {each: treebank(data, each) for each in languages}
    count = min(map(len, banks.values()))
    draw = random.Random(0)
    chosen = draw.sample(list(itertools.permutations(languages, 2)), pairs)
    made = []
    for one, other in chosen:
        for number in range(first, count):
            a, b = banks[one][number], banks[other][number]
            half, rest = len(a["words"]) // 2, len(b["words"]) // 2
            words = [*a["words"][:half], *b["words"][rest:]]
            tags = (*a["tags"][:half], *b["tags"][rest:])
            if not half:
                continue
            text = " ".join(words)
            edge = len(" ".join(words[:half]))
            spans = (ReadSpan(0, 0, edge, one, one, 1.0), ReadSpan(0, edge + 1, len(text), other, other, 1.0))
            most = one if edge >= len(text) - edge else other
            made.append((number, Example((text, *words), tags, str(number)), Reading(most, most, spans=spans)))
    return made


def boot(right: np.ndarray, total: np.ndarray, numbers: np.ndarray, base: np.ndarray | None = None) -> str:
    """A share, or the difference of two, in points, with its interval."""
    difference = right if base is None else right - base
    units = np.unique(numbers)
    sums = np.array([[difference[numbers == n].sum(), total[numbers == n].sum()] for n in units])
    drawn = np.random.default_rng(0).integers(len(units), size=(2000, len(units)))
    resampled = sums[drawn].sum(1)
    low, high = np.quantile(100 * resampled[:, 0] / resampled[:, 1], (0.025, 0.975))
    return f"{100 * difference.sum() / total.sum():6.2f} [{low:5.2f}, {high:5.2f}]"


def tagged(predictor: Predictor, rows: Sequence[tuple[int, Example, Reading]], among: Sequence[str]) -> None:
    model, examples = predictor.model, [each for _, each, _ in rows]
    gold = [reading for *_, reading in rows]
    made = {
        "words": readers(model, "spans", among).of(examples),
        "sentence": readers(model, True, among).of(examples),
        "gold": gold,
        "source": [Reading(str(model.config.task_language), str(model.config.task_language))] * len(examples),
    }
    told = sum(w.language == g.language for w, g in zip(made["sentence"], gold, strict=True)) / len(gold)
    print(f"{len(examples)} sentences; the sentence's language is that of most of it in {told:.1%}")
    numbers = np.array([number for number, *_ in rows])
    total = np.array([len(each.gold) for each in examples], dtype=float)
    right = {}
    for way, readings in made.items():
        encoded = encode_examples(
            model, predictor.task, examples, readings, predictor.labels, predictor.room, predictor.tokenizer
        )
        answers, _ = predict_examples(model, encoded, predictor.labels)
        pairs = zip(examples, answers, strict=True)
        right[way] = np.array([sum(a == b for a, b in zip(e.gold, p["tags"], strict=True)) for e, p in pairs])
        print(f"  {way:10}{boot(right[way], total, numbers)}", flush=True)
    for way in ("words", "gold", "source"):
        print(f"  {way} - sentence: {boot(right[way], total, numbers, right['sentence'])}")


def readers(model: Any, identify: Any, among: Sequence[str]) -> Readers:
    default = str(model.config.task_language or model.languages[0])
    return Readers(
        model, default, identify=identify, threshold=0.0, fallback=None, among=among, of_words=identify == "spans"
    )


@torch.inference_mode()
def restored(folder: str, rows: Sequence[tuple[int, Example, Reading]], among: Sequence[str]) -> None:
    """Loss of masked pieces in nats; the same masks for all."""
    model = XmodForMaskedLM.from_pretrained(folder).eval()
    tokenizer = tokenizer_of(model, None)
    examples = [each for _, each, _ in rows]
    gold = [reading for *_, reading in rows]
    ids = {code: number for number, code in enumerate(model.languages)}
    made = {
        "words": readers(model, "spans", among).of(examples),
        "sentence": readers(model, True, among).of(examples),
        "gold": gold,
    }
    room = Room(model.config.max_position_embeddings - model.config.pad_token_id - 1, 0)
    windows: list[list[Encoding]] = [[] for _ in examples]
    for encoding in TAG.encode(tokenizer, [Example(e.texts, None, e.place) for e in examples], (), room):
        windows[encoding.example].append(encoding)
    losses: dict[str, list[float]] = {way: [0.0] * len(examples) for way in made}
    counts = [0] * len(examples)
    draw = np.random.default_rng(0)
    routed = {way: with_adapters(tokenizer, TAG, examples, own, windows) for way, own in made.items()}
    for number, own in enumerate(windows):
        for place, encoding in enumerate(own):
            sequence = torch.tensor([encoding.sequences[0]])
            hidden = torch.from_numpy(draw.random(sequence.shape[1]) < 0.15)[None]
            hidden[0, 0] = hidden[0, -1] = False
            if not (count := int(hidden.sum())):
                continue
            counts[number] += count
            labels = torch.where(hidden, sequence, -100)
            masked = torch.where(hidden, tokenizer.mask_token_id, sequence)
            for way, encodings in routed.items():
                lang_ids = torch.tensor([[ids[code] for code in encodings[number][place].adapters[0]]])
                losses[way][number] += count * model(masked, lang_ids=lang_ids, labels=labels).loss.item()
    numbers, total = np.array([number for number, *_ in rows]), np.array(counts, dtype=float)
    print(f"masked pieces, loss in nats x 100 ({int(total.sum())} pieces)")
    for way, own in losses.items():
        print(f"  {way:10}{boot(np.array(own), total, numbers)}")
    for way in ("words", "gold"):
        print(f"  {way} - sentence: {boot(np.array(losses[way]), total, numbers, np.array(losses['sentence']))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--model")
    parser.add_argument("--base")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first sentence that is tested")
    parser.add_argument("--kinds", default="different scripts,same script")
    options = parser.parse_args()
    print(machine())
    known = XmodConfig.from_pretrained(options.model or options.base).languages
    for kind in options.kinds.split(","):
        languages = [each for each in PUD if (each in LATIN) == (kind == "same script") or each == "en_XX"]
        languages = [each for each in languages if each in known]
        if not options.model:  # treebanks have spaces between words where these languages have none
            languages = [each for each in languages if each not in ("th_TH", "zh_TW")]
        pairs = min(options.pairs, len(languages) * (len(languages) - 1))
        rows = spliced(options.data, languages, pairs, options.first)
        print(f"\n{kind}: {pairs} ordered pairs of {', '.join(languages)}")
        if options.model:
            predictor = Predictor(options.model)
            tagged(predictor, rows, [])
        if options.base:
            restored(options.base, rows[:: max(1, len(rows) // 600)], [])


LATIN = ("de_DE", "en_XX", "es_XX", "fi_FI", "fr_XX", "id_ID", "it_IT", "tr_TR")


if __name__ == "__main__":
    main()
