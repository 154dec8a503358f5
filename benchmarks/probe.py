"""What a linear classifier reads in the mean states of an encoder, trained on English topics, in other languages.

    python benchmarks/probe.py --model e5-modular --data ../shared/data

The model is a modular one whose adapters add nothing (xmodular upcycle). Logistic regression on the mean states of
SIB-200's English training sentences is tested in languages that the encoder hardly knows: as it is, and with the mean
of the language moved onto that of English, estimated on the test sentences themselves, on news (NTREX) and on raw text.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from xmodular import XmodModel
from xmodular.vocabulary import load_tokenizer

_BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with sib200/, ntrex/ and text/")
    parser.add_argument("--languages", default="mt,mi,tt")
    parser.add_argument("--prefix", default="query: ", help="what e5 reads before a text")
    parser.add_argument("--strength", type=float, default=0.003, help="inverse of the probe's regularisation")
    options = parser.parse_args()
    model = XmodModel.from_pretrained(options.model, add_pooling_layer=False).eval()
    tokenizer = load_tokenizer(options.model)

    @torch.inference_mode()
    def states(texts: Sequence[str]) -> np.ndarray:
        """(texts, hidden) means over the tokens."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found = np.empty((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            part = [options.prefix + texts[place] for place in places]
            batch = tokenizer(part, padding=True, truncation=True, max_length=128, return_tensors="pt")
            mask = batch["attention_mask"][:, :, None]
            last = model(batch["input_ids"], model.lang_ids("en").expand(len(places)), batch["attention_mask"])
            found[places] = ((last.last_hidden_state * mask).sum(1) / mask.sum(1)).numpy()
        return found

    def topics(language: str, split: str) -> tuple[np.ndarray, list[str]]:
        path = options.data / "sib200" / f"{language}.{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return states([row["text"] for row in rows]), [row["label"] for row in rows]

    def text(language: str, count: int = 600) -> np.ndarray:
        files = sorted((options.data / "text").glob(f"{language}.*.txt"))
        lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        return states(random.Random(0).sample([line for line in lines if 20 <= len(line) <= 400], count))

    def news(language: str) -> np.ndarray:
        return states((options.data / "ntrex" / f"{language}.txt").read_text(encoding="utf-8").splitlines())

    english, labels = topics("en_XX", "train")
    centre, scale = english.mean(0), english.std(0)
    probe = LogisticRegression(C=options.strength, max_iter=2000).fit((english - centre) / scale, labels)
    held, gold = topics("en_XX", "test")
    print(f"en_XX  as it is {100 * probe.score((held - centre) / scale, gold):.1f}", flush=True)
    from_news, from_text = news("en_XX").mean(0), text("en_XX").mean(0)
    for language in options.languages.split(","):
        tested, gold = topics(language, "test")
        moves = {
            "as it is": np.zeros_like(centre),
            "by its test sentences": tested.mean(0) - held.mean(0),
            "by news": news(language).mean(0) - from_news,
            "by raw text": text(language).mean(0) - from_text,
        }
        scores = {name: 100 * probe.score((tested - move - centre) / scale, gold) for name, move in moves.items()}
        print(f"{language:5}  " + "  ".join(f"{name} {score:.1f}" for name, score in scores.items()), flush=True)


if __name__ == "__main__":
    main()
