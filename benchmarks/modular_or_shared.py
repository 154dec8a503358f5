"""Does a module per language help? Held-out perplexity of modular and shared models, by the number of languages.

    python benchmarks/modular_or_shared.py --text corpus/text --dev-text corpus/text_dev --output-dir runs/curse

For 4, 8, 16 and 30 languages and three seeds it pretrains two models of the same active size with the same number of
updates on the same draws: one with an adapter per language, one with a single adapter for all (`--shared`). One
tokenizer serves all runs, and four languages are in every set, so that their perplexities can be compared across
sets. Finished runs are kept: the same command continues where it stopped. Writes runs.json, summary.txt and a picture.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from harness import machine
from xmodular import pretrain
from xmodular.files import write_json
from xmodular.text import TextFiles, find_text
from xmodular.vocabulary import train_tokenizer

# In this order; each set is a beginning of it. The first four differ in script and family and are in every set.
ORDER = """en_XX ru_RU ar_AR zh_CN  es_XX hi_IN tr_TR vi_VN  de_DE fr_XX id_ID fi_FI ta_IN th_TH el_GR sw_KE
it_IT pt_XX ro_RO bg_BG sv_SE da_DK no_XX hr_HR et_EE eu_ES ur_PK zh_TW tt mt""".split()  # noqa: SIM905
SIZES = (4, 8, 16, 30)
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t, by the number of seeds

# What leaves the frequencies of pieces behind soonest at this size: pre-norm, relative positions, no dropout.
SHAPE = {
    "num_hidden_layers": 2,
    "pre_norm": True,
    "adapter_layer_norm": True,
    "adapter_reuse_layer_norm": False,
    "ln_before_adapter": False,
    "adapter_reduction_factor": 2,
    "initializer_range": 0.05,
    "position_embedding_type": "relative_key",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tokenizer_for(text: Path, folder: Path, size: int) -> str:
    if not (folder / "tokenizer_config.json").is_file():
        files = find_text(text, ORDER)
        made = train_tokenizer({c: TextFiles(c, paths) for c, paths in files.items()}, size, byte_fallback=True)
        made.save_pretrained(folder)
    return str(folder)


def perplexities(arguments: argparse.Namespace, tokenizer: str, size: int, kind: str, seed: int) -> dict[str, float]:
    """Held-out loss of each language, in nats, of one run."""
    folder = arguments.output_dir / f"{kind}-{size}-{seed}"
    if not (folder / "options.json").is_file():
        pretrain(
            arguments.text,
            dev_text=arguments.dev_text,
            languages=ORDER[:size],
            output_dir=folder,
            tokenizer=tokenizer,
            preset="tiny",
            overrides=SHAPE,
            shared=kind == "shared",
            packing="lines",
            block_size=64,
            batch_tokens=2048,
            max_steps=arguments.steps,
            learning_rate=arguments.learning_rate,
            weight_decay=0.05,
            alpha=0.3,
            dev_blocks=200,
            save_every=None,
            log_every=200,
            cache_dir=arguments.output_dir / "blocks",
            seed=seed,
        )
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {code: values["loss"] for code, values in metrics["validation"].items()}


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's t) over seeds."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, float("nan")
    return mean, T_975[len(values)] * statistics.stdev(values) / math.sqrt(len(values))


def summarise(runs: list[dict[str, Any]]) -> tuple[list[str], dict[str, list[tuple[int, float, float]]]]:
    """Lines of a table, and points (size, mean, half width) of the loss in the common languages by kind."""
    lines = [f"{'languages':>9} {'in':>10} {'modular':>16} {'shared':>16} {'shared - modular':>20}"]
    points: dict[str, list[tuple[int, float, float]]] = {"modular": [], "shared": []}
    for size in sorted({run["size"] for run in runs}):
        for name, chosen in (("common 4", ORDER[:4]), ("all", ORDER[:size])):
            means = {
                kind: {
                    run["seed"]: statistics.mean(run["loss"][code] for code in chosen)
                    for run in runs
                    if (run["size"], run["kind"]) == (size, kind)
                }
                for kind in points
            }
            seeds = sorted(means["modular"].keys() & means["shared"].keys())
            if not seeds:
                continue
            cells = []
            for kind in points:
                mean, half = interval([means[kind][seed] for seed in seeds])
                cells.append(f"{math.exp(mean):8.1f} (±{100 * half:4.1f} %)")
                if name == "common 4":
                    points[kind].append((size, mean, half))
            mean, half = interval([means["shared"][seed] - means["modular"][seed] for seed in seeds])
            lines.append(f"{size:>9} {name:>10} {cells[0]:>16} {cells[1]:>16} {mean:>+11.3f} ± {half:.3f} nats")
    return lines, points


def draw(points: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for (kind, marks), colour, marker in zip(points.items(), ("#1b6ca8", "#e08e45"), ("o", "s"), strict=True):
        sizes = [size for size, _, _ in marks]
        middle = [math.exp(mean) for _, mean, _ in marks]
        below = [math.exp(mean) - math.exp(mean - half) for _, mean, half in marks]
        above = [math.exp(mean + half) - math.exp(mean) for _, mean, half in marks]
        axes.errorbar(sizes, middle, yerr=[below, above], label=kind, color=colour, marker=marker, capsize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.minorticks_off()
    axes.set_xlabel("languages in the model, same number of updates")
    axes.set_ylabel("held-out perplexity (" + ", ".join(code[:2] for code in ORDER[:4]) + ")")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--dev-text", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(arguments.text, arguments.output_dir / "tokenizer", arguments.vocab_size)
    runs: list[dict[str, Any]] = []
    for seed in arguments.seeds:  # a whole curve per seed, so that a stopped run has something to show
        for size in SIZES:
            for kind in ("modular", "shared"):
                loss = perplexities(arguments, tokenizer, size, kind, seed)
                runs.append({"size": size, "kind": kind, "seed": seed, "steps": arguments.steps, "loss": loss})
                write_json(arguments.output_dir / "runs.json", {"runs": runs})
    lines, points = summarise(runs)
    text = "\n".join([machine(), f"{arguments.steps} steps of 2048 tokens; 95 % intervals over seeds", *lines])
    (arguments.output_dir / "summary.txt").write_text(text + "\n", encoding="utf-8")
    draw(points, arguments.output_dir / "modular_or_shared.png")
    print(text)


if __name__ == "__main__":
    main()
