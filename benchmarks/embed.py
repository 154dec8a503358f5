"""Vectors of mixed languages: `encode` of our SentenceTransformer beside sentence-transformers over the dense encoder.

    python benchmarks/embed.py --dense <folder of a dense encoder> --model <its modular model> [--rows 256] [--rounds 5]

Sentences of ../shared/data/ntrex in all languages of the model in random order. The peer is a SentenceTransformer of
the dense encoder, mean pooling and normalisation, with the same tokenizer; both sides take their texts as a list, ours
with a language each. Each side has its best batch size, found on a part of the rows first. The vectors of both are
compared before anything is timed. `--profile` shows what each side's time goes into.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from harness import interleave, machine, ratio
from xmodular.configuration import read_config
from xmodular.embeddings import sentence_transformer
from xmodular.languages import resolve_or_none
from xmodular.vocabulary import load_tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data" / "ntrex"


def sentences(rows: int, languages: list[str]) -> tuple[list[str], list[str]]:
    """Texts and the language of each; languages take turns in random order."""
    draw = random.Random(0)
    found: dict[str, list[str]] = {}
    for path in sorted(DATA.glob("*.txt")):
        code = resolve_or_none(path.name.split(".")[0].split("-")[0], languages)
        if code is not None:
            found[code] = path.read_text(encoding="utf-8").splitlines()
    codes = [sorted(found)[number % len(found)] for number in range(rows)]
    draw.shuffle(codes)
    return [draw.choice(found[code]) for code in codes], codes


def peer_of(dense: Path, tokenizer: Any) -> SentenceTransformer:
    """A SentenceTransformer of a dense encoder."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "model.safetensors"):
            shutil.copy(dense / name, folder)
        tokenizer.save_pretrained(folder)
        body = Transformer(folder, max_seq_length=512)
    pooling = Pooling(body.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[body, pooling, Normalize()], device="cpu")


def padding(model: SentenceTransformer, texts: list[str], size: int) -> float:
    """The share of padding in the peer's batches, which are sorted by characters."""
    order = sorted(texts, key=len, reverse=True)
    real = padded = 0
    for start in range(0, len(order), size):
        mask = model.preprocess(order[start : start + size])["attention_mask"]
        real, padded = real + int(mask.sum()), padded + mask.numel()
    return 1 - real / padded


def best_size(name: str, run: Callable[[int], object], sizes: list[int], rounds: int, clock: Any) -> int:
    """The batch size with the shortest median."""
    variants = {str(size): (lambda size=size: run(size)) for size in sizes}
    times = interleave(variants, rounds, warmup=0, clock=clock)
    shown = "  ".join(f"{size}: {statistics.median(seconds):.2f}" for size, seconds in times.items())
    print(f"{name}, seconds by batch size: {shown}", flush=True)
    return int(min(times, key=lambda size: statistics.median(times[size])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tries", type=int, default=2, help="rounds for the choice of batch sizes")
    parser.add_argument("--sizes", default="1,2,4,8,16,32,64,128", help="batch sizes to choose from")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, for a busy machine")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()

    print(machine())
    tokenizer = load_tokenizer(options.model)
    texts, codes = sentences(options.rows, list(read_config(options.model).languages))
    ours, peer = sentence_transformer(options.model, device="cpu"), peer_of(options.dense, tokenizer)

    def of_ours(size: int, rows: int = options.rows) -> Any:
        return ours.encode(texts[:rows], language=codes[:rows], batch_size=size, show_progress_bar=False)

    def of_peer(size: int, rows: int = options.rows) -> Any:
        return peer.encode(texts[:rows], batch_size=size, show_progress_bar=False)

    with torch.inference_mode():
        print(f"largest difference of the vectors: {np.abs(of_ours(32) - of_peer(1)).max():.1e}  (bar: 1e-05)")
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    print(f"{len(texts)} rows in {len(set(codes))} languages, {sum(lengths)} tokens, {max(lengths)} at most")
    few = min(options.rows, 96)
    clock = time.process_time if options.cpu_time else time.perf_counter
    how = ([int(size) for size in options.sizes.split(",")], options.tries, clock)
    size = best_size("ours", lambda size: of_ours(size, few), *how)
    theirs = best_size("sentence-transformers", lambda size: of_peer(size, few), *how)
    print(f"padding of sentence-transformers with batches of {theirs}: {padding(peer, texts, theirs):.1%}")
    if options.profile:
        for name, run in (("ours", lambda: of_ours(size)), ("peer", lambda: of_peer(theirs))):
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                run()
            print(f"--- {name}\n{profile.key_averages().table(sort_by='self_cpu_time_total', row_limit=14)}")
    variants = {"ours": lambda: of_ours(size), "sentence-transformers": lambda: of_peer(theirs)}
    times = interleave(variants, options.rounds, warmup=0, clock=clock)
    for name, seconds in times.items():
        print(f"{name}: {options.rows / statistics.median(seconds):.1f} rows/s")
    print(f"sentence-transformers / ours: {ratio(times, 'sentence-transformers', 'ours'):.2f}  (bar: 2)")


if __name__ == "__main__":
    main()
