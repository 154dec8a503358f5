"""Products in single precision by oneDNN where that is faster (`xmodular.modeling.products`), against torch's own.

    python benchmarks/products.py [--rounds 7]

The shapes of multilingual-e5-small and, with two of its layers, of xmod-base, random weights, ragged batches in 8
languages. One thread, and seconds of the processor's core, so that other programs do not count. On processors where
torch's own products are taken anyway, it says so.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from harness import interleave, log_normal_lengths, machine, ragged_batch, report
from xmodular import XmodConfig, XmodForSequenceClassification
from xmodular.modeling import products

VOCABULARY = 1000
SHAPES = {"12 layers of 384": (12, 384, 12, 1536), "2 layers of 768": (2, 768, 12, 3072)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    here = products.faster()
    print(f"oneDNN is {'taken' if here else 'NOT taken'} on this processor")
    for shape, (layers, size, heads, inner) in SHAPES.items():
        config = XmodConfig(
            vocab_size=VOCABULARY,
            languages=[f"l{index:03d}_XX" for index in range(8)],
            num_hidden_layers=layers,
            hidden_size=size,
            num_attention_heads=heads,
            intermediate_size=inner,
        )
        model = XmodForSequenceClassification(config)
        model.freeze_embeddings_and_language_adapters()

        def run(batch: dict[str, Tensor], onednn: bool, model: XmodForSequenceClassification = model) -> None:
            products.faster = lambda: onednn  # type: ignore[assignment]
            with torch.set_grad_enabled("labels" in batch):
                loss = model(**batch).loss
                if loss is not None:
                    loss.backward()
                    model.zero_grad()

        for rows, trains in ((1, False), (8, False), (32, False), (128, False), (32, True)):
            model.train(trains)
            batch = ragged_batch(log_normal_lengths(rows, mean=31, longest=128, seed=0), 8, VOCABULARY, seed=0)
            if trains:
                batch["labels"] = torch.zeros(rows, dtype=torch.long)
            variants = {
                "torch's": lambda batch=batch, run=run: run(batch, False),
                "oneDNN": lambda batch=batch, run=run: run(batch, True),
            }
            times = interleave(variants, options.rounds, warmup=1, clock=time.process_time)
            title = "a training step of" if trains else "forward of"
            tokens = int(batch["attention_mask"].sum())
            report(f"{shape}, {title} {rows} texts, {tokens} tokens", times, [("torch's", "oneDNN", "above 1")])


if __name__ == "__main__":
    main()
