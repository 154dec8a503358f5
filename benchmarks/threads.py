"""What the rule "one thread for small work" costs or gains: the same work with one thread and with all.

    python benchmarks/threads.py [--rounds 15]

Classifiers up to four times the largest layer that the rule calls tiny, with random weights: forward passes from one
sentence to what `predict` reads at once, and a training step. By the clock, so the machine must be quiet. A ratio is
the median over rounds of the ratio within a round; what the rule takes is said.
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial

import torch
from torch import Tensor

from harness import interleave, log_normal_lengths, machine, ragged_batch, ratio
from xmodular import XmodConfig, XmodForSequenceClassification
from xmodular.modeling.threads import one_is_enough

VOCABULARY = 4000
BATCHES = ((1, 16, False), (8, 32, False), (32, 64, False), (128, 128, False), (16, 64, True))
SHAPES = ((2, 64, 256), (4, 128, 512), (4, 192, 768), (4, 256, 1024))


def model_of(layers: int, size: int, inner: int) -> XmodForSequenceClassification:
    config = XmodConfig(
        vocab_size=VOCABULARY,
        languages=[f"l{index:03d}_XX" for index in range(8)],
        num_hidden_layers=layers,
        hidden_size=size,
        num_attention_heads=size // 32,
        intermediate_size=inner,
    )
    return XmodForSequenceClassification(config)


def work(model: XmodForSequenceClassification, batch: dict[str, Tensor], threads: int) -> None:
    """A training step without the optimiser's, if the batch has labels; else a forward pass."""
    torch.set_num_threads(threads)
    with torch.set_grad_enabled("labels" in batch):
        loss = model(**batch).loss
        if loss is not None:
            loss.backward()
            model.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    every = torch.get_num_threads()
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}; milliseconds with 1 and {every} threads")
    for layers, size, inner in SHAPES:
        model = model_of(layers, size, inner)
        for rows, longest, trains in BATCHES:
            lengths = log_normal_lengths(rows, mean=longest / 2, longest=longest, seed=0)
            batch = ragged_batch(lengths, min(rows, 8), VOCABULARY, seed=1)
            if trains:
                batch["labels"] = torch.arange(rows) % 2
            torch.set_num_threads(every)
            rule = ", the rule takes one" if one_is_enough(model, batch["input_ids"].numel()) else ""
            model.train(trains)
            variants = {name: partial(work, model, batch, n) for name, n in (("one", 1), ("all", every))}
            times = interleave(variants, options.rounds * (5 if rows == 1 else 1))
            medians = " and ".join(f"{1e3 * statistics.median(taken):.2f}" for taken in times.values())
            title = f"{layers} x {size} x {inner}, {rows} x {longest}{' training' if trains else ''}"
            print(f"{title}: {medians}; one / all {ratio(times, 'one', 'all'):.2f}{rule}", flush=True)


if __name__ == "__main__":
    main()
