"""Is the first choice of `donors` a good start? Left-out languages, trained briefly from it and from others.

    python benchmarks/donors.py --text corpus/text --dev-text corpus/text_dev --output-dir runs/donors

Four bases are pretrained, each without a quarter of the languages: relatives are in different quarters, English is in
every base. For each left-out language, `donors` chooses on its training text; then `extend` trains its adapter for the
same few steps from that choice, from English, from a language drawn from all others, from one drawn from its relatives
in the base, and from an adapter that adds nothing. A choice is at least as good as another start if its held-out bits
per character are at most `--tolerance` (relative) above; strict figures are given too. Finished parts are kept: the
same command continues where it stopped. `--bases-only` and `--folds` split the work. Writes runs.json and summary.txt.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

from harness import machine
from xmodular import donors, extend, pretrain
from xmodular.files import write_json
from xmodular.languages import relatives
from xmodular.training import masked_words

FOLDS = (
    ("de_DE", "es_XX", "bg_BG", "et_EE", "tr_TR", "hi_IN", "mt", "th_TH"),
    ("da_DK", "fr_XX", "hr_HR", "fi_FI", "tt", "zh_CN", "id_ID", "el_GR"),
    ("sv_SE", "it_IT", "pt_XX", "ru_RU", "ur_PK", "ar_AR", "eu_ES", "vi_VN"),
    ("no_XX", "gsw", "rm", "ro_RO", "zh_TW", "mi", "sw_KE", "ta_IN"),
)
ENGLISH = "en_XX"
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "adapter_reduction_factor": 2,
    "pre_norm": True,
    "adapter_layer_norm": True,
    "adapter_reuse_layer_norm": False,
    "ln_before_adapter": False,
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "position_embedding_type": "relative_key",
}
TRAINING = {"packing": "lines", "block_size": 64, "weight_decay": 0.05, "mask_probability": 0.3, "save_every": None}


def base_without(arguments: argparse.Namespace, fold: int) -> Path:
    """A base that knows all languages but those of a fold."""
    folder: Path = arguments.output_dir / f"fold{fold}"
    if not (folder / "options.json").is_file():
        others = [code for number, codes in enumerate(FOLDS) if number != fold for code in codes]
        pretrain(
            arguments.text,
            dev_text=arguments.dev_text,
            languages=sorted([ENGLISH, *others]),
            output_dir=folder,
            preset="tiny",
            vocab_size=8000,
            byte_fallback=True,
            batch_tokens=2048,
            max_steps=arguments.base_steps,
            learning_rate=3e-3,
            alpha=0.5,
            dev_blocks=24,
            overrides=SHAPE,
            **TRAINING,
        )
    return folder


def trained(arguments: argparse.Namespace, base: Path, code: str, start: str) -> dict[str, Any]:
    """Held-out bits per character of a language before and after a short training from a start."""
    run = extend(
        base,
        code,
        arguments.text,
        dev_text=arguments.dev_text,
        output_dir=arguments.output_dir / f"trial-{base.name}",
        overwrite=True,
        init_from=start,
        batch_size=16,
        max_steps=arguments.steps,
        learning_rate=2e-3,
        dev_blocks=64,
        log_every=1000,
        cache_dir=arguments.output_dir / f"blocks-{base.name}",
        **TRAINING,
    )
    return {
        "init_from": start,
        "before": run.metrics["start"]["bits_per_character"],
        "after": run.metrics["after"]["bits_per_character"],
    }


def starts_of(code: str, languages: tuple[str, ...]) -> dict[str, str]:
    """The starts to compare the choice with, the same in every run."""
    draw = random.Random(f"donors {code}")
    starts = {
        "English": ENGLISH,
        "random": draw.choice([each for each in languages if each != ENGLISH]),
        "neutral": "neutral",
    }
    related = relatives(code, languages)
    return {**starts, "relative": draw.choice(related)} if related else starts


def of_language(arguments: argparse.Namespace, base: Path, code: str, known: dict[str, Any]) -> dict[str, Any]:
    """The choice for a language, and what comes of it and of the other starts."""
    if "choice" not in known:
        begun = time.perf_counter()
        found = donors(base, arguments.text, code)
        known |= {"seconds": time.perf_counter() - begun, "choice": found.init_from, "donors": found.record()}
    languages = tuple(json.loads((base / "config.json").read_text(encoding="utf-8"))["languages"])
    done = known.setdefault("starts", {})
    starts = starts_of(code, languages)
    if "relative" in starts and arguments.few:
        starts = {name: starts[name] for name in ("English", "relative")}
    for name, start in {"choice": known["choice"], **starts}.items():
        if name not in done or done[name]["init_from"] != start:
            same = [each for each in done.values() if each["init_from"] == start]
            done[name] = same[0] if same else trained(arguments, base, code, start)
    return known


def only_the_new_adapter() -> None:
    """Leave out what costs as much as the training and is the same for every start: the other adapters, the files."""
    nothing = {"loss": 0.0, "perplexity": 1.0, "accuracy": 0.0, "bits_per_character": 0.0, "unknown": 0.0}
    masked_words._existing = lambda model, *rest: {model.languages[0]: nothing}
    masked_words.compared = lambda *rest: None
    masked_words.save = lambda *rest, **more: None


def summarise(runs: dict[str, Any], tolerance: float) -> list[str]:
    """Lines of a table, and how often the choice is at least as good as each other start."""
    lines = [f"{'':6} {'choice':>8} {'English':>8} {'random':>8} {'relative':>8} {'neutral':>8}  choice"]
    counts: dict[str, list[tuple[bool, bool]]] = {}
    for code, run in runs.items():
        after = {name: each["after"] for name, each in run["starts"].items()}
        cells = [f"{after[name]:8.3f}" if name in after else " " * 8 for name in lines[0].split()[:5]]
        lines.append(f"{code:6} {' '.join(cells)}  {run['choice']}")
        for name, value in after.items():
            if name != "choice":
                at_least = after["choice"] <= value * (1 + tolerance), after["choice"] <= value
                counts.setdefault(name, []).append(at_least)
        if "relative" in after or "random" in after:  # a relative where there is one, else any other language
            other = after.get("relative", after.get("random"))
            at_least = after["choice"] <= other * (1 + tolerance), after["choice"] <= other
            counts.setdefault("relative, else random", []).append(at_least)
    for name, pairs in counts.items():
        within, strict = (sum(pair[place] for pair in pairs) for place in (0, 1))
        lines.append(
            f"at least as good as {name}: {within} of {len(pairs)} ({within / len(pairs):.0%}); "
            f"strictly {strict} ({strict / len(pairs):.0%})"
        )
    if runs:
        slowest = max(run["seconds"] for run in runs.values())
        lines.append(f"donors: {slowest:.1f} s for the slowest language, with loading the model")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--dev-text", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--base-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=0.005)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(len(FOLDS))))
    parser.add_argument("--bases-only", action="store_true")
    parser.add_argument("--few", action="store_true", help="only what the bars are about: English, and a relative")
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    bases = {fold: base_without(arguments, fold) for fold in arguments.folds}
    if arguments.bases_only:
        return
    only_the_new_adapter()
    for fold, base in bases.items():
        path = arguments.output_dir / f"runs-{base.name}.json"
        runs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for code in FOLDS[fold]:
            runs[code] = of_language(arguments, base, code, runs.get(code, {}))
            write_json(path, runs)
    found: dict[str, Any] = {}
    for path in sorted(arguments.output_dir.glob("runs-fold*.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    head = [
        machine(),
        f"{arguments.steps} steps of 16 lines; ties within {arguments.tolerance:.1%}; {len(found)} languages",
    ]
    text = "\n".join([*head, *summarise(found, arguments.tolerance)])
    (arguments.output_dir / "summary.txt").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
