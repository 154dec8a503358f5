"""Speed of `xmodular.Predictor` on a mixed stream of real sentences at xmod-base's shape, and memory over long streams.

    python benchmarks/predict.py [--rows 360] [--rounds 3] [--languages 30]
    python benchmarks/predict.py --memory 100000,1000000

Random weights, a classification head with three labels; all times include tokenisation. Sentences are those of
../shared/data (ntrex, tatoeba, text_dev) in XLM-R's pieces; where that is absent, made-up words in a vocabulary trained
on them. Every row stands next to rows of other languages. Both sides run in fp32 and in bf16 (`--precision bf16`).

The peer is transformers' text-classification pipeline on transformers' own X-MOD with the same weights, rows and
languages. A pipeline sorts nothing and knows no languages, so it is measured in the two ways that give each row its own
adapter, each with several batch sizes, of which the best one counts:

* by language: one call per language (`set_default_language`), which needs the whole stream at once;
* mixed: one call; its tokenizer step adds each row's language id, and batches mix languages.

The limit is tokenisation, the matrix products and the attention of the same tokens in the same batches.
"""

from __future__ import annotations

import argparse
import copy
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
BATCH_SIZES = (1, 4, 8, 16, 32)
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


def peer_of(ours: XmodForSequenceClassification) -> torch.nn.Module:
    """The peer's model with the same parameters in memory."""
    fields = ours.config.to_dict()
    fields["adapter_reduction_factor"] = int(fields["adapter_reduction_factor"])
    with torch.device("meta"):
        peer = PeerModel(PeerConfig(**fields, attn_implementation="sdpa"))
    peer.load_state_dict(ours.state_dict(), assign=True)
    for name, buffer in list(peer.named_buffers()):
        parent, _, leaf = name.rpartition(".")
        value = torch.arange(buffer.shape[1])[None] if leaf == "position_ids" else torch.zeros(buffer.shape).long()
        setattr(peer.get_submodule(parent), leaf, value)
    return peer.eval()


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

    def by_language(size: int) -> list[str]:
        labels = [""] * len(texts)
        for code in codes:
            rows = [row for row, own in enumerate(spoken) if own == code]
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
        ways[f"by language {size}"] = lambda size=size: by_language(size)
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
    config = XmodConfig.preset("xmod-base", vocab_size=len(tokenizer), languages=sorted(set(spoken)))
    config.id2label = LABELS
    exact = XmodForSequenceClassification(config).eval()
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=512)["input_ids"]]
    print(f"{len(texts)} rows, {len(set(spoken))} languages, {sum(lengths)} tokens, the longest row {max(lengths)}")
    variants: dict[str, Callable[[], object]] = {}
    labels: dict[str, list[str]] = {}
    rivals: dict[str, list[str]] = {}  # the peer's best in each of its two ways, by precision
    print("the peer's ways, once each (rows/s):")
    for precision, model in (("fp32", exact), ("bf16", copy.deepcopy(exact).to(torch.bfloat16))):
        best: dict[str, tuple[float, str]] = {}
        ways = peers(peer_of(model), tokenizer, texts, spoken)
        for name, way in ways.items():
            kind = name.rpartition(" ")[0]
            (seconds,) = interleave({name: way}, 1, warmup=0)[name]
            print(f"  {precision}, {name}: {len(texts) / seconds:.1f}", flush=True)
            best[kind] = min(best.get(kind, (seconds, name)), (seconds, name))
        rivals[precision] = [f"{precision}, {name}" for _, name in best.values()]
        variants |= {f"{precision}, {name}": ways[name] for _, name in best.values()}
        predictor = Predictor(model, tokenizer, batch_tokens=options.batch_tokens, window=options.window)
        variants[f"{precision}, ours"] = lambda predictor=predictor: predictor(texts, spoken)
        labels[f"{precision}, ours"] = [row["label"] for row in predictor(texts, spoken)]
        labels[rivals[precision][0]] = variants[rivals[precision][0]]()  # type: ignore[assignment]
        if precision == "fp32":
            variants["limit"] = lambda predictor=predictor: limit(predictor, tokenizer, texts, spoken)
    answers = labels[rivals["fp32"][0]]
    for name, found in labels.items():
        same = sum(a == b for a, b in zip(found, answers, strict=True))
        print(f"{name}: the same label as the peer's in fp32 in {same} of {len(texts)} rows")
    times = interleave(variants, options.rounds, warmup=1)
    fair = {
        precision: min(names, key=lambda name: statistics.median(times[name])) for precision, names in rivals.items()
    }
    ratios = [
        (fair["fp32"], "fp32, ours", "at least 3"),
        (fair["bf16"], "bf16, ours", "at least 3"),
        (fair["fp32"], "bf16, ours", "at least 3"),
        ("fp32, ours", "limit", "at most 1.3"),
    ]
    report("all rows", times, ratios)
    print("  rows/s:")
    for name, seconds in times.items():
        print(f"    {name}: {len(texts) / statistics.median(seconds):.1f}")


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
    parser.add_argument("--rows", type=int, default=360)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--languages", type=int, default=30)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="", help="Measure memory over so many rows instead; comma-separated.")
    options = parser.parse_args()
    counts = [int(count) for count in options.memory.split(",") if count]
    if len(counts) > 1:  # each in a process of its own
        for count in counts:
            command = [sys.executable, __file__, "--memory", str(count), "--threads", str(options.threads)]
            subprocess.run(command, check=True)
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
