"""Forward pass, training step and predictions on a GPU, against transformers' X-MOD and the matrix products alone.

    python benchmarks/gpu.py [--rounds 10] [--json gpu.json]     # on a GPU: under five minutes
    python benchmarks/gpu.py --small                             # a small model, on a CPU too: that it runs
    python benchmarks/gpu.py --calls                             # calls per layer, counted without a GPU

The model has xmod-base's shape, random weights and 81 languages (`--small`: 4 layers of 128, 20 languages). The peer
has the same weights and sdpa attention. *Limit*: the products of the same real tokens with the same matrices, as if all
had one language; no attention, bias, norm or activation. *MFU*: the model's operations on real tokens per second, as a
share of what a large square product reaches on this device in this type. *Kernels*: launched by one pass, per layer.

First it checks values: on the device, against the same model in single precision on the CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.xmod import XmodConfig as PeerConfig
from transformers.models.xmod import XmodForMaskedLM as PeerForMaskedLM

from harness import interleave, log_normal_lengths, machine, ragged_batch, ratio
from launches import table as calls_table
from predict import LABELS, peer_of, peers, sentences
from xmodular import Predictor, XmodConfig, XmodForMaskedLM, XmodForSequenceClassification

Results = list[dict[str, Any]]


def shape(small: bool, **over: Any) -> XmodConfig:
    count = 20 if small else 81
    fields: dict[str, Any] = {"languages": [f"l{index:03d}_XX" for index in range(count)], **over}
    if small:
        fields |= {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512}
    return XmodConfig.preset("xmod-base", **fields)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def waited(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    def call() -> None:
        function()
        wait(device)

    return call


def reached(device: torch.device, dtype: torch.dtype, small: bool) -> float:
    """Operations per second of a large square product."""
    size = 1024 if device.type == "cpu" or small else 8192
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        wait(device)
        start = time.perf_counter()
        one @ other
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def operations(config: XmodConfig, lengths: list[int]) -> int:
    """Of a forward pass over real tokens: matrix products and attention; of the layers alone."""
    hidden, inner, narrow = config.hidden_size, config.intermediate_size, config.bottleneck_size
    per_token = 2 * (4 * hidden**2 + 2 * hidden * inner + 2 * hidden * narrow)
    return config.num_hidden_layers * sum(n * (per_token + 4 * n * hidden) for n in lengths)


def products(model: nn.Module, tokens: int, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    layers = [
        [
            *(getattr(layer.attention.self, name).weight for name in ("query", "key", "value")),
            *(part.dense.weight for part in (layer.attention.output, layer.intermediate, layer.output)),
            *(getattr(next(iter(layer.output.adapter_modules.values())), name).weight for name in ("dense1", "dense2")),
        ]
        for layer in model.base_model.encoder.layer
    ]
    first = torch.randn(tokens, model.config.hidden_size, device=device, dtype=dtype)

    def run() -> Tensor:
        states = first
        for query, key, value, *rest in layers:
            F.linear(states, query), F.linear(states, key)
            states = F.linear(states, value)
            for weight in rest:
                states = F.linear(states, weight)
        return states

    return run


def kernels_of(function: Callable[[], object], device: torch.device, layers: int) -> float | None:
    """Kernels that a call launches, per layer; None without a GPU."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        wait(device)
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events()) / layers


def check(device: torch.device) -> Results:
    """Values and gradients on the device against single precision on the CPU, in 8 languages."""
    config = shape(True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, vocab_size=500)
    exact = XmodForMaskedLM(config)
    batch = ragged_batch([9, 30, 4, 17, 25, 30, 8, 3], 8, 500, seed=0)
    real = batch["attention_mask"].bool()
    wanted = exact(**batch, labels=batch["input_ids"])
    wanted.loss.backward()
    found: Results = []
    for dtype in (torch.float32, torch.bfloat16):
        model = XmodForMaskedLM(config)
        model.load_state_dict(exact.state_dict())
        model = model.to(device, dtype)
        made = model(**{name: value.to(device) for name, value in batch.items()}, labels=batch["input_ids"].to(device))
        made.loss.backward()
        pairs = [
            (one.grad.float().cpu(), other.grad)
            for one, other in zip(model.parameters(), exact.parameters(), strict=True)
            if other.grad is not None and one.grad is not None
        ]
        values = float((made.logits.float().cpu()[real] - wanted.logits[real]).detach().abs().max())
        largest = max(float(other.abs().max()) for _, other in pairs)
        gradients = max(float((one - other).abs().max()) for one, other in pairs) / largest
        found.append({"what": "values", "type": str(dtype)[6:], "logits apart": values, "gradients apart": gradients})
    return found


def measured(what: str, dtype: torch.dtype, times: dict[str, list[float]], **more: Any) -> dict[str, Any]:
    """One line: milliseconds of each, and ratios within rounds."""
    line: dict[str, Any] = {"what": what, "type": str(dtype)[6:]}
    line |= {f"{name} ms": 1e3 * sorted(each)[len(each) // 2] for name, each in times.items()}
    line["peer / ours"] = ratio(times, "peer", "ours")
    line["ours / limit"] = ratio(times, "ours", "limit") if "limit" in times else None
    return line | more


def forward(device: torch.device, dtype: torch.dtype, rounds: int, small: bool, peak: float) -> Results:
    config = shape(small, vocab_size=30_000)
    ours = XmodForSequenceClassification(config).to(device, dtype).eval()
    peer = peer_of(ours).to(device)
    rows, longest = (8, 32) if small else (64, 128)
    cases: list[tuple[str, list[int], int]] = [
        ("forward 1 x 16", [16], 1),
        (f"forward {rows} x {longest}", [longest] * rows, 1),
        *(
            (f"forward {rows} ragged, {count} languages", log_normal_lengths(rows, mean=30, longest=longest, seed=0), n)
            for count in (1, 8, 20)
            for n in (count,)
        ),
    ]
    found: Results = []
    with torch.inference_mode():
        for what, lengths, languages in cases:
            batch = {k: v.to(device) for k, v in ragged_batch(lengths, languages, 30_000, seed=1).items()}
            run = waited(lambda batch=batch: ours(**batch), device)
            variants = {
                "peer": waited(lambda batch=batch: peer(**batch), device),
                "ours": run,
                "limit": waited(products(ours, sum(lengths), device, dtype), device),
            }
            times = interleave(variants, rounds)
            fastest = sorted(times["ours"])[len(times["ours"]) // 2]
            mfu = operations(config, lengths) / fastest / peak
            launched = {
                f"{name} kernels": kernels_of(variants[name], device, config.num_hidden_layers)
                for name in ("peer", "ours")
            }
            found.append(measured(what, dtype, times, **launched, MFU=mfu))
    return found


def training(device: torch.device, dtype: torch.dtype, rounds: int, small: bool, peak: float) -> Results:
    """Masked-LM steps in 8 languages, in weights of that type: under autocast to 16 bits the peer ends in an error."""
    config = shape(small, vocab_size=1000 if small else 250_002)
    config.update({"languages": config.languages[:8]})
    lengths = log_normal_lengths(8 if small else 64, mean=30, longest=32 if small else 128, seed=0)
    batch = {k: v.to(device) for k, v in ragged_batch(lengths, 8, config.vocab_size, seed=1).items()}
    chosen = torch.rand(batch["input_ids"].shape, device=device) < 0.15
    labels = batch["input_ids"].masked_fill(~chosen | (batch["attention_mask"] == 0), -100)
    fields = config.to_dict() | {"adapter_reduction_factor": int(config.adapter_reduction_factor)}
    ours = XmodForMaskedLM(config).to(device, dtype).train()
    peer = PeerForMaskedLM(PeerConfig(**fields, attn_implementation="sdpa")).to(device, dtype).train()

    def step(model: nn.Module, **extra: Any) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def call() -> None:
            model(**batch, labels=labels, **extra).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return waited(call, device)

    variants = {"peer": step(peer), "ours": step(ours, sparse_prediction=True)}
    times = interleave(variants, max(3, rounds // 2))
    ops = 3 * operations(config, lengths)  # of the layers; the head's are not counted
    mfu = ops / sorted(times["ours"])[len(times["ours"]) // 2] / peak
    launched = {
        f"{name} kernels": kernels_of(each, device, config.num_hidden_layers) for name, each in variants.items()
    }
    memory: dict[str, Any] = {}
    if device.type == "cuda":
        for name, each in variants.items():
            torch.cuda.reset_peak_memory_stats(device)
            each()
            memory[f"{name} GiB"] = torch.cuda.max_memory_allocated(device) / 2**30
    return [measured(f"training step, {len(lengths)} ragged, 8 languages", dtype, times, **launched, MFU=mfu, **memory)]


def predict(device: torch.device, dtype: torch.dtype, rounds: int, small: bool) -> Results:
    texts, spoken, tokenizer = sentences(60 if small else 4000, 10 if small else 30)
    config = shape(small, languages=sorted(set(spoken)), vocab_size=len(tokenizer), id2label=LABELS)
    config.update({"label2id": {label: number for number, label in LABELS.items()}})
    model = XmodForSequenceClassification(config).to(device, dtype).eval()
    predictor = Predictor(model, tokenizer)
    ways = peers(peer_of(model).to(device), tokenizer, texts, spoken)
    name = "mixed 32"
    times = interleave(
        {"peer": waited(ways[name], device), "ours": waited(lambda: list(predictor(texts, spoken)), device)},
        max(2, rounds // 5),
        warmup=1,
    )
    rate = len(texts) / sorted(times["ours"])[len(times["ours"]) // 2]
    return [measured(f"predict {len(texts)} sentences, {len(set(spoken))} languages", dtype, times, **{"rows/s": rate})]


def show(results: Results) -> None:
    for line in results:
        parts = [
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in line.items()
            if name not in ("what", "type") and value is not None
        ]
        print(f"{line['what']}, {line['type']}\n  " + "  ".join(parts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--small", action="store_true", help="a small model, to see that it runs")
    parser.add_argument("--calls", action="store_true", help="only count calls per layer, on the meta device")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", help="a file for the results")
    options = parser.parse_args()
    if options.calls:
        print(calls_table())
        return
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"{machine()}, {name}")
    torch.manual_seed(0)
    started = time.perf_counter()
    results = check(device)
    show(results)
    for dtype in (torch.float32, torch.bfloat16):
        peak = reached(device, dtype, options.small)
        part: Results = [{"what": "large square product", "type": str(dtype)[6:], "TFLOP/s": peak / 1e12}]
        part += forward(device, dtype, options.rounds, options.small, peak)
        gc.collect()
        part += training(device, dtype, options.rounds, options.small, peak)
        gc.collect()
        part += predict(device, dtype, options.rounds, options.small)
        gc.collect()
        show(part)
        results += part
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.json:
        with open(options.json, "w", encoding="utf8") as file:
            json.dump({"machine": machine(), "device": name, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
