"""Speed of `xmodular.Predictor` on a mixed stream of real sentences at xmod-base's shape, and memory over long streams.

    python benchmarks/predict.py [--rows 1024] [--rounds 5] [--languages 30]
    python benchmarks/predict.py --memory 100000,1000000

Random weights, fp32, a classification head with three labels; all times include tokenisation. Sentences are those of
../shared/data (ntrex, tatoeba, text_dev) in XLM-R's pieces; where that is absent, made-up words in a vocabulary trained
on them. Every row stands next to rows of other languages.

The peer is transformers' text-classification pipeline on transformers' own X-MOD with the same weights, rows and
languages. A pipeline sorts nothing and knows no languages, so it is measured in the two ways that give each row its own
adapter, each with several batch sizes, of which the best one counts:

* by language: one call per language (`set_default_language`), which needs the whole stream at once;
* mixed: one call; its tokenizer step adds each row's language id, and batches mix languages.

For what it says about the peer's batches, "by language, sorted" also sorts by length before the pipeline sees the rows.
The limit is tokenisation, the matrix products and the attention of the same tokens in the same batches.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, TextClassificationPipeline
from transformers.models.xmod import XmodConfig as PeerConfig
from transformers.models.xmod import XmodForSequenceClassification as PeerModel
from transformers.utils import logging

from harness import interleave, machine, report, stripped_layers
from xmodular import Predictor, XmodConfig, XmodForSequenceClassification
from xmodular.vocabulary import load_tokenizer, train_tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = ("ntrex", "tatoeba", "text_dev")
BATCH_SIZES = (1, 4, 16, 32)
LABELS = {0: "no", 1: "perhaps", 2: "yes"}


def sentences(rows: int, languages: int) -> tuple[list[str], list[str], PreTrainedTokenizerFast]:
    """Texts, the language of each, and a tokenizer; languages take turns in random order."""
    draw = random.Random(0)
    found: dict[str, list[str]] = {}
    for path in sorted(path for name in SETS for path in DATA.glob(f"{name}/*.t*")):
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = [line.rpartition("\t")[2] for line in lines if line.rpartition("\t")[2].strip()]
        if texts:
            found.setdefault(path.name.split(".")[0].split("-")[0], []).extend(texts)
    if len(found) >= languages:
        tokenizer = load_tokenizer(DATA / "tokenizer" / "sentencepiece.bpe.model")
    else:
        print("development data is absent: made-up words")
        syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
        words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(3000)]
        found = {
            f"l{number:02d}_XX": [
                " ".join(draw.choices(words, k=max(3, int(draw.lognormvariate(2.6, 0.6))))) for _ in range(500)
            ]
            for number in range(languages)
        }
        tokenizer = train_tokenizer(found, 4000)
    codes = sorted(sorted(found, key=lambda code: -len(found[code]))[:languages])
    spoken = [codes[number % languages] for number in range(rows)]
    draw.shuffle(spoken)
    return [draw.choice(found[code]) for code in spoken], spoken, tokenizer


def models(codes: list[str], vocab_size: int) -> tuple[XmodForSequenceClassification, torch.nn.Module]:
    """Ours and the peer's, with the same parameters in memory."""
    fields = XmodConfig.preset("xmod-base", vocab_size=vocab_size, languages=codes).to_dict() | {"id2label": LABELS}
    ours = XmodForSequenceClassification(XmodConfig(**fields)).eval()
    fields["adapter_reduction_factor"] = int(fields["adapter_reduction_factor"])
    with torch.device("meta"):
        peer = PeerModel(PeerConfig(**fields, attn_implementation="sdpa"))
    peer.load_state_dict(ours.state_dict(), assign=True)
    for name, buffer in list(peer.named_buffers()):
        parent, _, leaf = name.rpartition(".")
        value = torch.arange(buffer.shape[1])[None] if leaf == "position_ids" else torch.zeros(buffer.shape).long()
        setattr(peer.get_submodule(parent), leaf, value)
    return ours, peer.eval()


class Mixed(TextClassificationPipeline):
    """The peer's pipeline over (text, language id) rows."""

    def preprocess(self, inputs: Any, **kwargs: Any) -> Any:
        made = super().preprocess(inputs[0], **kwargs)
        made["lang_ids"] = torch.tensor([inputs[1]])
        return made


def peers(peer: Any, tokenizer: Any, texts: list[str], spoken: list[str]) -> dict[str, Callable[[], list[str]]]:
    """The ways to run the peer, by name; each gives the labels in the order of the rows."""
    cut = {"truncation": True, "max_length": 512}
    plain = TextClassificationPipeline(model=peer, tokenizer=tokenizer)
    mixed = Mixed(model=peer, tokenizer=tokenizer)
    codes = list(peer.config.languages)

    def by_language(size: int, order: Callable[[int], Any]) -> list[str]:
        labels = [""] * len(texts)
        for code in codes:
            rows = sorted((row for row, own in enumerate(spoken) if own == code), key=order)
            peer.set_default_language(code)
            found = plain([texts[row] for row in rows], batch_size=size, **cut) if rows else []
            for row, answer in zip(rows, found, strict=True):
                labels[row] = answer["label"]
        return labels

    def together(size: int) -> list[str]:
        rows = [(text, codes.index(code)) for text, code in zip(texts, spoken, strict=True)]
        return [answer["label"] for answer in mixed(rows, batch_size=size, **cut)]

    ways: dict[str, Callable[[], list[str]]] = {}
    for size in BATCH_SIZES:
        ways[f"mixed {size}"] = lambda size=size: together(size)
        ways[f"by language {size}"] = lambda size=size: by_language(size, lambda row: row)
        ways[f"by language, sorted {size}"] = lambda size=size: by_language(size, lambda row: len(texts[row]))
    return ways


def limit(predictor: Predictor, tokenizer: Any, texts: list[str], spoken: list[str]) -> None:
    """Tokenisation, and what cannot be left out of the layers, in batches of as many tokens as the predictor's."""
    ids = tokenizer(texts, truncation=True, max_length=512, return_attention_mask=False)["input_ids"]
    codes = list(predictor.model.languages)
    rows = sorted(range(len(texts)), key=lambda row: -len(ids[row]))
    start = 0
    while start < len(rows):
        batch = rows[start : start + max(1, predictor.batch_tokens // len(ids[rows[start]]))]
        start += len(batch)
        order = sorted(batch, key=lambda row: (codes.index(spoken[row]), len(ids[row])))
        lengths = [len(ids[row]) for row in order]
        states = torch.zeros(sum(lengths), predictor.model.config.hidden_size).normal_()
        own = [codes.index(spoken[row]) for row in order]
        firsts = [own.count(code) for code in sorted(set(own))]
        stripped_layers(predictor.model, states, lengths, own, firsts)


def speed(options: argparse.Namespace) -> None:
    """Rows per second beside the peer's best, and time beside the limit's."""
    texts, spoken, tokenizer = sentences(options.rows, options.languages)
    ours, peer = models(sorted(set(spoken)), len(tokenizer))
    predictor = Predictor(ours, tokenizer, batch_tokens=options.batch_tokens, window=options.window)
    ways = peers(peer, tokenizer, texts, spoken)
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=512)["input_ids"]]
    print(f"{len(texts)} rows, {len(set(spoken))} languages, {sum(lengths)} tokens, the longest row {max(lengths)}")
    found = [row["label"] for row in predictor(texts, spoken)]
    print("the peer's ways, once each (rows/s):")
    best: dict[str, tuple[float, str]] = {}
    for name, way in ways.items():
        kind = name.rpartition(" ")[0]
        (seconds,) = interleave({name: way}, 1, warmup=0)[name]
        print(f"  {name}: {len(texts) / seconds:.1f}", flush=True)
        best[kind] = min(best.get(kind, (seconds, name)), (seconds, name))
    answers = ways[best["mixed"][1]]()
    same = sum(a == b for a, b in zip(found, answers, strict=True))
    print(f"the same label in {same} of {len(texts)} rows")
    variants: dict[str, Callable[[], object]] = {name: ways[name] for _, name in best.values()}
    variants["ours"] = lambda: predictor(texts, spoken)
    variants["limit"] = lambda: limit(predictor, tokenizer, texts, spoken)
    times = interleave(variants, options.rounds, warmup=1)
    fair = min((best["mixed"][1], best["by language"][1]), key=lambda name: statistics.median(times[name]))
    others = [(name, "ours", "none") for _, name in best.values() if name != fair]
    report("all rows", times, [(fair, "ours", "at least 3"), *others, ("ours", "limit", "at most 1.3")])
    shown = "  ".join(f"{name} {len(texts) / statistics.median(seconds):.1f}" for name, seconds in times.items())
    print(f"  rows/s: {shown}")


def memory(rows: int) -> None:
    """The most memory that a run over so many short rows takes, in a process of its own."""
    from xmodular.prediction import predict

    with tempfile.TemporaryDirectory() as folder:
        model, source = Path(folder, "model"), Path(folder, "de.jsonl")
        words = ["das", "Haus", "am", "Fluss", "sieht", "die", "Frau"]
        tokenizer = train_tokenizer({"de": [" ".join(words)] * 50}, 60)
        shape: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
        config = XmodConfig(
            vocab_size=len(tokenizer), languages=["de_DE", "en_XX"], intermediate_size=16, id2label=LABELS, **shape
        )
        XmodForSequenceClassification(config).save_pretrained(model)
        tokenizer.save_pretrained(model)
        draw = random.Random(0)
        with open(source, "w", encoding="utf-8") as file:
            for number in range(rows):
                file.write(json.dumps({"id": number, "text": " ".join(draw.choices(words, k=3))}) + "\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        done = predict(model, source, Path(folder, "out.jsonl"))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{done.rows:,} rows: {after / 1024:.0f} MiB at most, {before / 1024:.0f} MiB before", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--languages", type=int, default=30)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="", help="Measure memory over so many rows instead; comma-separated.")
    options = parser.parse_args()
    counts = [int(count) for count in options.memory.split(",") if count]
    if len(counts) > 1:  # each in a process of its own
        for count in counts:
            subprocess.run([sys.executable, __file__, "--memory", str(count)], check=True)
        return
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    print(machine())
    if counts:
        memory(counts[0])
    else:
        torch.set_flush_denormal(True)  # without residuals and norms the limit's states are tiny
        with torch.inference_mode():
            speed(options)


if __name__ == "__main__":
    main()
