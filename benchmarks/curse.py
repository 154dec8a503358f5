"""The curse of multilinguality in small: held-out bits per character by the number of languages.

    python benchmarks/curse.py --output-dir runs/curse                                         # the embedded corpus
    python benchmarks/curse.py --text corpus/text --dev-text corpus/text_dev --sizes 4 8 16 30 --output-dir runs/real

Three ways to share a small masked language model between languages, each for every number of languages and seed:

modular  an adapter per language, trained together with the shared weights from the first update.
shared   one adapter of the same size for all languages: as many active parameters, no module of a language's own.
lora     the shared model after half of the updates; then it is frozen, and each language trains a LoRA of its own on
         its own text with an equal part of the other half (PEFT; in all linear layers, the size of an adapter).

--matched updates  Every model has the same number of updates, so that each language is read less as others join.
--matched examples The number of updates grows with the languages: each is read as often in every model.

All models have the same active size, vocabulary, batches of the same size, and are measured on the same masks. The
languages of the smallest set are in every set: on them the models are compared. A cell (one model) that is finished is
kept in cells/, so the same command goes on where it stopped. Writes curse.json, curse.txt and curse.png.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harness import machine
from xmodular import pretrain
from xmodular.console import console
from xmodular.demo.parallel_corpus import LANGUAGES, write_corpus
from xmodular.files import write_json
from xmodular.options import PretrainOptions
from xmodular.saved_models import load_saved
from xmodular.text import BlockCache, MixedBlocks, TextFiles, find_text
from xmodular.training.language_modeling import blocks_of, collator, drawn_batches, measured_of, text_of, validation_of
from xmodular.training.optimising import training_arguments
from xmodular.vocabulary import load_tokenizer, train_tokenizer

KINDS = ("modular", "lora", "shared")
# The order in which languages join, of real text. The first four differ in script and family.
ORDER = """en_XX ru_RU ar_AR zh_CN  es_XX hi_IN tr_TR vi_VN  de_DE fr_XX id_ID fi_FI ta_IN th_TH el_GR sw_KE
it_IT pt_XX ro_RO bg_BG sv_SE da_DK no_XX hr_HR et_EE eu_ES ur_PK zh_TW tt mt""".split()  # noqa: SIM905
# Student's t for 95 %, by the number of seeds.
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}

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


@dataclass(frozen=True)
class Cell:
    """One model: how its budget is matched, its kind, number of languages, updates and seed."""

    matched: str
    kind: str
    size: int
    updates: int
    seed: int

    @property
    def name(self) -> str:
        """By what it is trained with: a model that is asked for in two ways is trained once."""
        kind = "modular" if (self.kind, self.size) == ("shared", 1) else self.kind  # one adapter is one adapter
        return f"{kind}-{self.size}-{self.updates}-{self.seed}"


@dataclass(frozen=True)
class Lab:
    """What all cells have in common."""

    arguments: argparse.Namespace
    text: Path
    dev_text: Path
    tokenizer: str
    order: Sequence[str]

    def options(self, cell: Cell, updates: int, folder: Path, languages: Sequence[str], **more: Any) -> dict[str, Any]:
        """The options of `pretrain` for a model of a cell."""
        return {
            "dev_text": self.dev_text,
            "languages": languages,
            "output_dir": folder,
            "tokenizer": self.tokenizer,
            "packing": "lines",
            "block_size": 64,
            "batch_tokens": self.arguments.batch_tokens,
            "max_steps": updates,
            "learning_rate": self.arguments.learning_rate,
            "weight_decay": 0.05,
            "alpha": 0.3,
            "dev_blocks": 200,
            "save_every": None,
            "log_every": 200,
            "cache_dir": self.arguments.output_dir / "blocks",
            "seed": cell.seed,
            **more,
        }


def opened(arguments: argparse.Namespace) -> Lab:
    """The text, the order of its languages, and one tokenizer for all cells."""
    folder = arguments.output_dir
    text, dev_text = arguments.text, arguments.dev_text
    if text is None:
        corpus = write_corpus(
            folder / "corpus", sentences_per_language=arguments.sentences, task_train=10, task_test=10
        )
        text, dev_text = corpus / "text", corpus / "text_dev"
    order = arguments.languages or list(LANGUAGES if arguments.text is None else ORDER)
    tokenizer = folder / "tokenizer"
    if not (tokenizer / "tokenizer_config.json").is_file():
        files = find_text(text, order[: max(arguments.sizes)])
        lines = {code: TextFiles(code, paths) for code, paths in files.items()}
        train_tokenizer(lines, arguments.vocab_size, byte_fallback=True).save_pretrained(tokenizer)
    return Lab(arguments, text, dev_text, str(tokenizer), order)


def cells_of(arguments: argparse.Namespace) -> Iterator[Cell]:
    """All models, seed by seed, so that a run that is stopped has whole curves to show."""
    for seed in arguments.seeds:
        for matched in arguments.matched:
            for size in sorted(arguments.sizes):
                share = 1.0 if matched == "updates" else size / max(arguments.sizes)
                for kind in arguments.kinds:
                    yield Cell(matched, kind, size, max(2, round(arguments.updates * share)), seed)


def trained(lab: Lab, cell: Cell) -> dict[str, dict[str, float]]:
    """Trains the model of a cell; held-out measures by language."""
    folder = lab.arguments.output_dir / "runs" / cell.name
    languages = lab.order[: cell.size]
    first = cell.updates // 2 if cell.kind == "lora" else cell.updates
    run = pretrain(
        lab.text,
        preset="tiny",
        overrides={**SHAPE, "hidden_size": lab.arguments.width, "intermediate_size": 2 * lab.arguments.width},
        shared=cell.kind != "modular",
        **lab.options(cell, first, folder, languages),
    )
    measured = run.metrics["validation"]
    if cell.kind == "lora":
        each = max(1, (cell.updates - first) // cell.size)
        measured = {code: with_lora(lab, cell, folder, code, each) for code in languages}
    shutil.rmtree(folder)
    return measured


def with_lora(lab: Lab, cell: Cell, base: Path, language: str, updates: int) -> dict[str, float]:
    """Trains one language's LoRA on the frozen model in `base`; held-out measures of that language."""
    from peft import LoraConfig, get_peft_model

    made = lab.options(cell, updates, base, [language], text=lab.text)
    options = PretrainOptions(**{**made, "languages": (language,)})
    arguments, tokenizer = training_arguments(options), load_tokenizer(lab.tokenizer)
    sources, dev = (find_text(place, [language])[language] for place in (lab.text, lab.dev_text))
    cache = BlockCache(options.cache_dir, tokenizer, options.block_size, options.packing)
    blocks = blocks_of(cache, {language: text_of(options, language, sources)})
    model = load_saved(base)
    ids = {language: model.languages.index(language)}
    torch.manual_seed(cell.seed)
    targets = (
        r".*(attention\.self\.(query|key|value)|attention\.output\.dense|intermediate\.dense|layer\.\d+\.output\.dense)"
    )
    rank = rank_for(lab.arguments.width)
    wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)).train()
    tuned = [weight for weight in wrapped.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(tuned, lr=lab.arguments.lora_learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    warmup = max(1, round(0.06 * updates))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (updates - step) / max(1, updates - warmup))
    )
    dataset, masks = MixedBlocks(blocks, ids), collator(options, tokenizer, seed=options.seed)
    for draws in drawn_batches(options, dataset, arguments, updates):
        wrapped(**masks([dataset[draw] for draw in draws])).loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    held_out = measured_of(options, tokenizer, options.block_size, [text_of(options, language, dev)])
    measures = validation_of(options, model.eval(), held_out, ids, tokenizer).per_language()
    return dict(measures[language])


def rank_for(width: int) -> int:
    """The rank at which the LoRAs of a layer have as many parameters as an adapter: width² + 1.5 width."""
    return max(1, round((width + 1.5) / 14))  # 14 width a rank: four square layers, and two that are twice as wide


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval over seeds (Student's t); NaN for one seed."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, float("nan")
    return mean, T_975.get(len(values), 1.96) * statistics.stdev(values) / math.sqrt(len(values))


def shown_as(values: Sequence[float], sign: str = "") -> str:
    """Mean and interval; the value alone of one seed, which has none."""
    mean, half = interval(values)
    return f"{mean:{sign}.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}")


def by_seed(found: Mapping[str, Any], matched: str, size: int, codes: Sequence[str]) -> dict[str, list[float]]:
    """Mean bits per character over languages, by kind: of the seeds that all kinds have, in the same order."""
    values: dict[str, dict[int, float]] = {kind: {} for kind in names(found, "kind")}
    for cell in found["cells"]:
        if (cell["matched"], cell["size"]) == (matched, size):
            mean = statistics.mean(cell["bits_per_character"][code] for code in codes)
            values[cell["kind"]][cell["seed"]] = mean
    seeds = sorted(set.intersection(*(set(each) for each in values.values())))
    return {kind: [each[seed] for seed in seeds] for kind, each in values.items()}


def names(found: Mapping[str, Any], field: str) -> list[Any]:
    """The values of a field of the cells, in the order in which they come."""
    return list(dict.fromkeys(cell[field] for cell in found["cells"]))


def summary(found: Mapping[str, Any]) -> list[str]:
    """Lines of a table: bits per character with intervals, and differences to the modular model of the same seed."""
    cells, order, lines = found["cells"], found["order"], []
    kinds, sizes = names(found, "kind"), sorted(names(found, "size"))
    for matched in names(found, "matched"):
        lines.append(f"matched {matched}")
        others = [f"{kind} - modular" for kind in kinds if kind != "modular" and "modular" in kinds]
        lines.append(f"{'languages':>9} {'updates':>8} {'on':>9} " + " ".join(f"{each:>17}" for each in kinds + others))
        for size in sizes:
            for shown, codes in ((f"first {sizes[0]}", order[: sizes[0]]), ("all", order[:size])):
                values = by_seed(found, matched, size, codes)
                if not values[kinds[0]] or (shown == "all" and size == sizes[0]):
                    continue
                row = [shown_as(values[kind]) for kind in kinds]
                for kind in kinds:
                    if kind != "modular" and "modular" in kinds:
                        both = zip(values[kind], values["modular"], strict=True)
                        row.append(shown_as([a - b for a, b in both], "+"))
                updates = next(c["updates"] for c in cells if (c["matched"], c["size"]) == (matched, size))
                lines.append(f"{size:>9} {updates:>8} {shown:>9} " + " ".join(f"{each:>17}" for each in row))
    return lines


def draw(found: Mapping[str, Any], path: str | Path | None = None, *, everywhere: bool = False) -> Any:
    """The picture: a panel for each way of matching, a line for each kind, 95 % intervals over seeds.

    Args:
        found: the content of curse.json.
        path: where to save it.
        everywhere: mean over all languages of a model, in place of those that all models have.
    """
    from matplotlib.figure import Figure

    colours = {"modular": "#1b6ca8", "lora": "#4a9c6d", "shared": "#e08e45"}
    ways, sizes = names(found, "matched"), sorted(names(found, "size"))
    figure = Figure(figsize=(4.2 * len(ways), 3.6), layout="constrained")
    panels = figure.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for axes, matched in zip(panels, ways, strict=True):
        for place, kind in enumerate(names(found, "kind")):
            points = []
            for size in sizes:
                codes = found["order"][: size if everywhere else sizes[0]]
                if values := by_seed(found, matched, size, codes)[kind]:
                    points.append((size * 1.03**place, *interval(values)))
            if points:
                at, means, halves = zip(*points, strict=True)
                bars = None if math.isnan(halves[0]) else halves
                axes.errorbar(at, means, yerr=bars, label=kind, color=colours[kind], marker="o", ms=4, capsize=3)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_title(f"same {matched}" + (" per language" if matched == "examples" else ""), fontsize=10)
        axes.set_xlabel("languages in the model")
        axes.spines[["top", "right"]].set_visible(False)
    common = "all its languages" if everywhere else ", ".join(code[:2] for code in found["order"][: sizes[0]])
    panels[0].set_ylabel(f"held-out bits per character ({common})")
    panels[0].legend(frameon=False)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def written(lab: Lab, cells: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes results, table and picture of the cells so far."""
    found = {"machine": machine(), **settings_of(lab), "cells": list(cells)}
    write_json(folder / "curse.json", found)
    head = [found["machine"], *(f"{name}: {value}" for name, value in settings_of(lab).items())]
    (folder / "curse.txt").write_text("\n".join([*head, *summary(found)]) + "\n", "utf-8")
    draw(found, folder / "curse.png")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--text", type=Path, help="folder of <language>.*.txt; default: the embedded corpus")
    parser.add_argument("--dev-text", type=Path, help="the same, held out; needed with --text")
    parser.add_argument("--languages", nargs="+", help="in the order in which they join")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of languages")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--matched", nargs="+", choices=["updates", "examples"], default=["updates", "examples"])
    parser.add_argument("--updates", type=int, default=600, help="of the model with most languages")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--lora-learning-rate", type=float, default=1e-2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--vocab-size", type=int, default=4000)
    parser.add_argument("--sentences", type=int, default=12000, help="a language, of the embedded corpus")
    arguments = parser.parse_args()
    if (arguments.text is None) != (arguments.dev_text is None):
        parser.error("--text and --dev-text come together")
    return arguments


def settings_of(lab: Lab) -> dict[str, Any]:
    """What all cells have in common; cells of other settings cannot be compared."""
    chosen = ("width", "batch_tokens", "learning_rate", "lora_learning_rate", "vocab_size", "sentences")
    settings = {name: getattr(lab.arguments, name) for name in chosen}
    text = "embedded corpus" if lab.arguments.text is None else lab.text.name
    return {**settings, "text": text, "order": list(lab.order)}


def main() -> None:
    arguments = parsed()
    folder = arguments.output_dir
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    lab, asked = opened(arguments), list(cells_of(arguments))
    if max(arguments.sizes) > len(lab.order):
        raise SystemExit(f"--sizes asks for {max(arguments.sizes)} languages; there are {len(lab.order)}.")
    noted = folder / "settings.json"
    if noted.is_file() and json.loads(noted.read_text("utf-8")) != settings_of(lab):
        raise SystemExit(f"{folder} has cells of other settings ({noted}): choose another folder.")
    write_json(noted, settings_of(lab))
    done: list[dict[str, Any]] = []
    began = time.monotonic()
    for number, cell in enumerate(asked, start=1):
        place = folder / "cells" / f"{cell.name}.json"
        if not place.is_file():
            console.quiet, start = True, time.monotonic()
            try:
                measured = trained(lab, cell)
            finally:
                console.quiet = False
            seconds = round(time.monotonic() - start, 1)
            write_json(place, {"seconds": seconds, "measured": measured})
        kept = json.loads(place.read_text("utf-8"))
        bits = {code: values["bits_per_character"] for code, values in kept["measured"].items()}
        losses = {code: values["loss"] for code, values in kept["measured"].items()}
        done.append({**asdict(cell), "seconds": kept["seconds"], "bits_per_character": bits, "loss": losses})
        minutes = (time.monotonic() - began) / 60
        mean = statistics.mean(bits.values())
        print(f"{number}/{len(asked)} {cell.matched:8} {cell.name:20} {mean:.3f} bits, {minutes:.1f} min", flush=True)
        written(lab, done, folder)
    print((folder / "curse.txt").read_text("utf-8"))


if __name__ == "__main__":
    main()
