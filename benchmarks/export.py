"""Exported models beside the model: one text, and a ragged batch, cut by length and not; medians by turns.

    xmodular export --model runs/topic --languages de,sw,mt,en --output topic.onnx
    xmodular export --model runs/topic --languages de,sw,mt,en --int8 --output topic8.onnx
    OMP_NUM_THREADS=1 python benchmarks/export.py --model runs/topic --graphs topic.onnx,topic8.onnx

`--shape 4x768` makes and exports a model with so many layers of that size instead, with random weights and four
languages, into `--work`. Times are seconds of one processor core, so that other programs do not count; a ratio is the
median over rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import interleave, machine, ratio
from xmodular import XmodConfig, XmodForSequenceClassification, export
from xmodular.exported_models import complete, load_exported
from xmodular.saved_models import load_architecture
from xmodular.vocabulary import save_tokenizer, train_tokenizer

LANGUAGES = {
    "de_DE": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "sw_KE": "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa.",
    "en_XX": "All human beings are born free and equal in dignity and rights.",
    "fr_XX": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
}


def batch_of(lengths: list[int], languages: int, vocabulary: int) -> dict[str, Tensor]:
    """Random pieces, padded on the right."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.ones(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, vocabulary, (length,), generator=generator)
    mask = (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "lang_ids": torch.arange(len(lengths)) % languages}


def exports_of_shape(shape: str, work: Path) -> tuple[str, list[str]]:
    """A model of a shape with random weights, and its exports in single precision and in eight bits."""
    layers, size = (int(part) for part in shape.split("x"))
    tokenizer = train_tokenizer({code: [line] * 20 for code, line in LANGUAGES.items()}, 120)
    config = XmodConfig(
        vocab_size=len(tokenizer),
        languages=list(LANGUAGES),
        num_hidden_layers=layers,
        hidden_size=size,
        num_attention_heads=size // 64,
        intermediate_size=4 * size,
        num_labels=7,
    )
    folder, graphs = work / shape, [work / f"{shape}.onnx", work / f"{shape}.int8.onnx"]
    XmodForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder, config)
    for graph in graphs:
        export(folder, output=graph, int8=graph is graphs[1], overwrite=True)
    return str(folder), [str(graph) for graph in graphs]


def main() -> None:
    """Print a line for each batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="the folder that was exported")
    parser.add_argument("--graphs", help="the folders of its exports, comma-separated")
    parser.add_argument("--shape", help="layers x size of a model with random weights, in place of both")
    parser.add_argument("--work", type=Path, default=Path("build/export"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.shape:
        options.model, named = exports_of_shape(options.shape, options.work)
    else:
        named = options.graphs.split(",")
    graphs: dict[str, Any] = {Path(name).name: load_exported(name) for name in named}
    first = next(iter(graphs.values()))
    model, _ = load_architecture(first.architecture, options.model, languages=first.languages)
    model.eval()
    names = [each.name for each in first._session.get_inputs()]
    print(f"{machine()}, {len(first.languages)} languages; milliseconds of a core, medians by turns")
    for title, lengths in (
        ("1 x 16", [16]),
        ("1 x 64", [64]),
        ("32 x 64", [64] * 32),
        ("32 x 4 to 64, ragged", [4 + row * 37 % 61 for row in range(32)]),
    ):
        batch = batch_of(lengths, len(first.languages), model.config.vocab_size)
        arrays = {name: each.numpy() for name, each in complete(batch, names).items()}
        runs: dict[str, Callable[[], Any]] = {"model": lambda batch=batch: model(**batch)}
        for name, graph in graphs.items():
            runs[name] = lambda graph=graph, batch=batch: graph(**batch)
            if len(set(lengths)) > 1:
                runs[f"{name} uncut"] = lambda graph=graph, arrays=arrays: graph._run(arrays)
        with torch.inference_mode():
            rounds = options.rounds if len(lengths) == 1 else max(3, options.rounds // 3)
            times = interleave(runs, rounds, warmup=1, clock=time.process_time)
        shown = (f"{name} {1000 * statistics.median(taken):.1f}" for name, taken in times.items())
        faster = (f"model / {name} {ratio(times, 'model', name):.2f}" for name in runs if name != "model")
        print(f"{title}: {', '.join(shown)}; {', '.join(faster)}", flush=True)


if __name__ == "__main__":
    main()
