"""Interleaved timing, batches of real lengths, and the stripped limit.

Machines are noisy, so nothing is compared across runs: the variants take turns within one run, and a ratio is the
median over rounds of the ratio within a round.
"""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from xmodular.modeling.products import product


def interleave(
    variants: dict[str, Callable[[], object]],
    rounds: int,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every variant in every round; in each round the variants take turns, in a rotating order.

    With one thread, `time.process_time` as the clock leaves out the time of other programs on a busy machine.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for turn in range(-warmup, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            variants[name]()
            if turn >= 0:
                times[name].append(clock() - start)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over rounds of the time of one variant by that of another."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def report(title: str, times: dict[str, list[float]], ratios: Sequence[tuple[str, str, str]]) -> None:
    """Prints medians in milliseconds, and ratios with what is asked of them."""
    shown = "  ".join(f"{name} {statistics.median(seconds) * 1e3:.1f} ms" for name, seconds in times.items())
    print(f"{title}\n  {shown}")
    for slow, fast, bar in ratios:
        print(f"  {slow} / {fast}: {ratio(times, slow, fast):.3f}  (bar: {bar})", flush=True)


def machine() -> str:
    """Date, processor and versions, for the head of a result."""
    import transformers

    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf8") as info:
            processor = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"{datetime.date.today()}  {processor}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, Python {platform.python_version()}"
    )


def log_normal_lengths(count: int, *, mean: float, longest: int, seed: int) -> list[int]:
    """Lengths as real text has them: log-normal with that mean and sigma 0.8, from 3 to the longest.

    In XLM-R's pieces, the 33 languages of the development text have mean 31, sigma 0.74, and a heavier tail: 2.9 % of
    the lines are longer than 128.
    """
    sigma = 0.8
    generator = torch.Generator().manual_seed(seed)
    draws = torch.empty(count).log_normal_(torch.tensor(mean).log().item() - sigma**2 / 2, sigma, generator=generator)
    return draws.round().clamp(3, longest).int().tolist()


def ragged_batch(lengths: Sequence[int], languages: int, vocab_size: int, seed: int) -> dict[str, Tensor]:
    """Right-padded ids, mask, and language ids that change from row to row."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, vocab_size - 1, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {
        "input_ids": ids.masked_fill(~mask, 1),
        "attention_mask": mask.long(),
        "lang_ids": torch.arange(len(lengths)) % languages,
    }


def stripped_layers(
    model: torch.nn.Module,
    states: Tensor,
    lengths: Sequence[int],
    lang_ids: Sequence[int],
    labelled: Sequence[int] | None = None,
) -> Tensor:
    """The matrix products and the attention of all layers on the same tokens, and nothing else.

    No bias, no LayerNorm, no activation, no residual, no embeddings.

    Args:
        model: an xmodular model; its own weights are used.
        states: *(tokens, hidden)*.
        lengths: of the sequences, in the order in which they are packed.
        lang_ids: of the sequences, in the same order, sorted.
        labelled: how many tokens of each language in the batch go on after the last attention; None for all.
    """
    heads = model.config.num_attention_heads
    counts: list[tuple[int, int]] = []
    for language in sorted(set(lang_ids)):
        counts.append((language, sum(n for n, other in zip(lengths, lang_ids, strict=True) if other == language)))
    runs: list[list[int]] = []
    for length in lengths:
        if runs and runs[-1][1] == length:
            runs[-1][0] += 1
        else:
            runs.append([1, length])
    sizes = [count * length for count, length in runs]
    layers = model.base_model.encoder.layer
    for index, layer in enumerate(layers):
        block = layer.attention.self
        query, key, value = (
            product(states, part.weight).unflatten(1, (heads, -1)) for part in (block.query, block.key, block.value)
        )
        contexts = []
        for q, k, v, run in zip(query.split(sizes), key.split(sizes), value.split(sizes), runs, strict=True):
            q, k, v = (part.unflatten(0, run).transpose(1, 2) for part in (q, k, v))
            contexts.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1))
        context = (contexts[0] if len(contexts) == 1 else torch.cat(contexts)).flatten(1)
        if labelled is not None and index == len(layers) - 1:
            kept = [(language, min(n, few)) for (language, n), few in zip(counts, labelled, strict=True)]
            parts = context.split([n for _, n in counts])
            context = torch.cat([part[:n] for part, (_, n) in zip(parts, kept, strict=True)])
            counts = kept
        states = product(context, layer.attention.output.dense.weight)
        states = product(product(states, layer.intermediate.dense.weight), layer.output.dense.weight)
        adapters = list(layer.output.adapter_modules.values())
        parts = [
            product(product(part, adapters[language].dense1.weight), adapters[language].dense2.weight)
            for (language, _), part in zip(counts, states.split([n for _, n in counts]), strict=True)
        ]
        states = parts[0] if len(parts) == 1 else torch.cat(parts)
    return states
