"""What adapters that add nothing cost, as `xmodular upcycle` makes them: passed over, against computed.

    python benchmarks/neutral.py [--rounds 9]

A classifier of multilingual-e5-small's shape (12 layers of 384, 33 languages) with a small vocabulary and random
weights but for its adapters. One thread, and seconds of the processor's core, so that other programs do not count.
The outputs must be the same bits.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from harness import interleave, log_normal_lengths, machine, ragged_batch, report
from xmodular import XmodConfig, XmodForSequenceClassification
from xmodular.modeling.adapters import XmodAdapter

VOCABULARY, LANGUAGES = 1000, 33


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    config = XmodConfig(
        vocab_size=VOCABULARY,
        languages=[f"l{index:03d}_XX" for index in range(LANGUAGES)],
        num_hidden_layers=12,
        hidden_size=384,
        num_attention_heads=12,
        intermediate_size=1536,
        ln_before_adapter=False,  # as `upcycle` sets it
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = XmodForSequenceClassification(config)
    model.freeze_embeddings_and_language_adapters()
    adapters = [module for module in model.modules() if isinstance(module, XmodAdapter)]
    with torch.no_grad():
        for adapter in adapters:
            adapter.dense2.weight.zero_()
            adapter.dense2.bias.zero_()

    def run(batch: dict[str, Tensor], computed: bool) -> Tensor:
        for adapter in adapters:
            adapter._adds_something = computed
        with torch.set_grad_enabled("labels" in batch):
            output = model(**batch)
            if output.loss is not None:
                output.loss.backward()
                model.zero_grad()
        return output.logits.detach()

    for title, rows, languages, trains in (
        ("32 texts in 32 languages", 32, 32, False),
        ("32 texts in one language", 32, 1, False),
        ("one text", 1, 1, False),
        ("a training step of 8 texts, forward and backward", 8, 1, True),
    ):
        model.train(trains)
        batch = ragged_batch(log_normal_lengths(rows, mean=31, longest=128, seed=0), languages, VOCABULARY, seed=0)
        if trains:
            batch["labels"] = torch.zeros(rows, dtype=torch.long)
        assert torch.equal(run(batch, True), run(batch, False))
        variants = {"computed": lambda: run(batch, True), "passed over": lambda: run(batch, False)}  # noqa: B023
        times = interleave(variants, options.rounds, warmup=1, clock=time.process_time)
        report(f"{title}, {int(batch['attention_mask'].sum())} tokens", times, [("computed", "passed over", "above 1")])


if __name__ == "__main__":
    main()
