"""One masked-LM training step at xmod-base shape: time and peak memory against transformers' X-MOD.

    python benchmarks/training.py [--rounds 3] [--languages 8]      # both figures
    python benchmarks/training.py --memory ours|peer                # peak memory of one variant, in a fresh process

16 ragged sequences (log-normal, mean 30, longest 128), 15 % of the real tokens masked, 8 languages in the batch, AdamW
(fused, weight decay 0.01), fp32, dropout 0.1, the real vocabulary of 250,002 pieces. Three draws of the lengths, one
after the other, make one measurement (their longest sequences have 59, 128 and 103 tokens; 90 is to be expected of 16
draws). The stripped limit is the matrix products and the attention of the layers and of the head, forward and
backward, on as many tokens as our step works on (in the last layer after its attention, the masked ones), without and
with the same AdamW step.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.xmod import XmodConfig as PeerConfig
from transformers.models.xmod import XmodForMaskedLM as PeerForMaskedLM

from harness import interleave, log_normal_lengths, machine, ragged_batch, report, stripped_layers
from xmodular import XmodConfig, XmodForMaskedLM

ROWS = 16
SEEDS = (3, 4, 5)


def batch(languages: int, seed: int) -> dict[str, torch.Tensor]:
    lengths = log_normal_lengths(ROWS, mean=30, longest=128, seed=seed)
    inputs = ragged_batch(lengths, min(8, languages), 250_002, seed=4)
    generator = torch.Generator().manual_seed(5)
    masked = (torch.rand(inputs["input_ids"].shape, generator=generator) < 0.15) & inputs["attention_mask"].bool()
    labels = inputs["input_ids"].masked_fill(~masked, -100)
    inputs["input_ids"] = inputs["input_ids"].masked_fill(masked, 250_001)
    return {**inputs, "labels": labels}


def fields(languages: int) -> dict[str, Any]:
    names = [f"l{index:03d}_XX" for index in range(languages)]
    return XmodConfig.preset("xmod-base", languages=names).to_dict()


def make(kind: str, languages: int) -> nn.Module:
    torch.manual_seed(0)
    if kind == "peer":
        return PeerForMaskedLM(PeerConfig(**fields(languages), attn_implementation="sdpa")).train()
    return XmodForMaskedLM(XmodConfig(**fields(languages))).train()


def step_of(model: nn.Module, batches: list[dict[str, torch.Tensor]], extra: dict[str, Any]) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def step() -> None:
        for inputs in batches:
            model(**inputs, **extra).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def limit_of(model: nn.Module, batches: list[dict[str, torch.Tensor]], *, optimise: bool) -> Callable[[], object]:
    """Forward and backward of nothing but products and attention, on the real tokens and the masked positions."""
    words = model.base_model.embeddings.word_embeddings
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def step() -> None:
        for inputs in batches:
            mask = inputs["attention_mask"].bool()
            lengths, lang_ids = mask.sum(1).tolist(), inputs["lang_ids"].tolist()
            rows = sorted(range(len(lengths)), key=lambda row: (lang_ids[row], lengths[row]))
            per_row = (inputs["labels"] != -100).sum(1)
            labelled = [int(per_row[inputs["lang_ids"] == language].sum()) for language in sorted(set(lang_ids))]
            states = words(inputs["input_ids"][mask]).detach()  # one gradient of the table, that of the head
            states = stripped_layers(
                model, states, [lengths[row] for row in rows], [lang_ids[row] for row in rows], labelled
            )
            states = F.linear(states, model.lm_head.dense.weight)
            F.linear(states, model.lm_head.decoder.weight).backward(torch.ones(len(states), 250_002))
            if optimise:
                optimizer.step()
            optimizer.zero_grad()

    return step


def memory(kind: str, languages: int) -> float:
    """Peak resident memory in GiB of a process that does a step with each batch."""
    model = make(kind, languages)
    batches = [batch(languages, seed) for seed in SEEDS]
    step_of(model, batches, {} if kind == "peer" else {"sparse_prediction": True})()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--languages", type=int, default=8)
    parser.add_argument("--without-peer", action="store_true", help="time against the limit only")
    parser.add_argument("--memory", choices=("ours", "peer"))
    options = parser.parse_args()
    if options.memory:
        print(f"{memory(options.memory, options.languages):.2f}")
        return
    print(machine())
    torch.set_flush_denormal(True)  # without residuals and norms the limit's states are tiny
    peaks = {}
    for kind in () if options.without_peer else ("ours", "peer"):
        command = [sys.executable, __file__, "--memory", kind, "--languages", str(options.languages)]
        peaks[kind] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if peaks:
        print(
            f"peak memory, {options.languages} languages: ours {peaks['ours']:.2f} GiB, "
            f"peer {peaks['peer']:.2f} GiB, ratio {peaks['ours'] / peaks['peer']:.3f}  (bar: at most 0.7)",
            flush=True,
        )
    batches = [batch(options.languages, seed) for seed in SEEDS]
    real, padded, masked = (
        sum(int(value(inputs)) for inputs in batches)
        for value in (
            lambda inputs: inputs["attention_mask"].sum(),
            lambda inputs: inputs["attention_mask"].numel(),
            lambda inputs: (inputs["labels"] != -100).sum(),
        )
    )
    ours = make("ours", options.languages)
    variants = {} if options.without_peer else {"peer": step_of(make("peer", options.languages), batches, {})}
    variants |= {
        "ours": step_of(ours, batches, {"sparse_prediction": True}),
        "limit": limit_of(ours, batches, optimise=False),
        "limit+AdamW": limit_of(ours, batches, optimise=True),
    }
    gc.collect()
    report(
        f"3 training steps of {ROWS} ragged sequences: {real} real of {padded} tokens, {masked} masked, "
        f"{options.languages} languages",
        interleave(variants, options.rounds, warmup=1),
        [
            *([] if options.without_peer else [("peer", "ours", "at least 3")]),
            ("ours", "limit", "at most 1.5"),
            ("ours", "limit+AdamW", "at most 1.5"),
        ],
    )


if __name__ == "__main__":
    main()
