"""What each preset costs to pretrain: tokens per second here, and the time that its tokens take.

    python benchmarks/presets.py [--presets tiny mini small base large-prenorm] [--seconds 20]

Measures whole training steps (forward, backward, clipping, AdamW; masked LM, 15 % masked, blocks of 128 tokens, eight
languages) on this machine's processor, and on its GPU in bf16 where there is one. The tokens that a preset needs are a
rule of thumb, 20 per active parameter without word embeddings (Hoffmann et al. 2022 found that much for causal models;
masked ones go on gaining for longer), beside the updates of the released models. Where there is no GPU, its column is a
calculation: training FLOPs at 40 % of 312 TFLOP/s (an A100's peak in bf16), not a measurement.
"""

from __future__ import annotations

import argparse
import time

import torch

from harness import machine
from xmodular import XmodConfig, XmodForMaskedLM

PRESETS = {"tiny": 16_000, "mini": 16_000, "small": 32_000, "base": 250_002, "large-prenorm": 250_002}
LANGUAGES = ("en", "de", "fr", "es", "ru", "hi", "ar", "zh_CN")
BLOCK = 128
MASKED = 0.15
TOKENS_A_PARAMETER = 20
GPU_FLOPS = 0.4 * 312e12


def active_parameters(model: XmodForMaskedLM) -> tuple[int, int]:
    """Parameters that one token passes: in the layers (with one adapter), and in the head that scores the pieces."""
    encoder = sum(p.numel() for name, p in model.roberta.encoder.named_parameters() if "adapter_modules" not in name)
    one = sum(
        p.numel()
        for name, p in model.roberta.encoder.named_parameters()
        if f"adapter_modules.{model.languages[0]}." in name
    )
    head = model.config.vocab_size * model.config.hidden_size + model.config.hidden_size**2
    return encoder + one, head


def flops_a_token(layers: int, head: int, hidden: int, depth: int) -> float:
    """Of a training step: six per parameter and token, the head at masked tokens only, attention at BLOCK tokens."""
    return 6 * (layers + MASKED * head) + 12 * depth * hidden * BLOCK


def tokens_per_second(model: XmodForMaskedLM, device: str, seconds: float, blocks: int) -> float:
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (blocks, BLOCK), generator=generator)
    masked = torch.rand(ids.shape, generator=generator) < MASKED
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids.masked_fill(~masked, -100),
        "lang_ids": torch.arange(blocks) % len(LANGUAGES),
    }
    batch = {name: tensor.to(device) for name, tensor in batch.items()}

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss = model(**batch, sparse_prediction=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    step()
    done, start = 0, time.perf_counter()
    while done < 2 or time.perf_counter() - start < seconds:
        step()
        done += 1
    return done * ids.numel() / (time.perf_counter() - start)


def duration(seconds: float) -> str:
    for size, name in ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    print(machine(), flush=True)
    print(
        f"{'preset':>14} {'layers+adapter':>15} {'MFLOP/token':>12} {'tokens/s':>9} {'GFLOP/s':>8} {'tokens':>8} ",
        end="",
    )
    print(f"{'here':>12} {'on a GPU':>12}  {'' if on_gpu else '(GPU: calculated)'}", flush=True)
    for name in arguments.presets:
        torch.manual_seed(0)
        config = XmodConfig.preset(name, vocab_size=PRESETS[name], languages=LANGUAGES)
        model = XmodForMaskedLM(config)
        layers, head = active_parameters(model)
        flops = flops_a_token(layers, head, config.hidden_size, config.num_hidden_layers)
        here = tokens_per_second(model, "cpu", arguments.seconds, 4 if config.hidden_size >= 768 else 16)
        gpu = tokens_per_second(model, "cuda", arguments.seconds, 256) if on_gpu else GPU_FLOPS / flops
        tokens = TOKENS_A_PARAMETER * layers
        print(
            f"{name:>14} {layers / 1e6:>13.1f} M {flops / 1e6:>12.1f} {here:>9.0f} {here * flops / 1e9:>8.0f} "
            f"{tokens / 1e6:>6.0f} M {duration(tokens / here):>13} {duration(tokens / gpu):>12}",
            flush=True,
        )
        del model


if __name__ == "__main__":
    main()
