"""An exported model beside the model: one text, and a ragged batch, cut by length and not; medians by turns.

xmodular export --model runs/topic --languages de,sw --output topic.onnx
OMP_NUM_THREADS=1 python benchmarks/export.py --model runs/topic --graph topic.onnx
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xmodular.exported_models import complete, load_exported
from xmodular.saved_models import load_architecture


def batch_of(lengths: list[int], languages: int, vocabulary: int) -> dict[str, Tensor]:
    """Random pieces, padded on the right."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.ones(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, vocabulary, (length,), generator=generator)
    mask = (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "lang_ids": torch.arange(len(lengths)) % languages}


def main() -> None:
    """Print a line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the folder that was exported")
    parser.add_argument("--graph", required=True, help="the folder of the export")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    graph: Any = load_exported(options.graph)
    model, _ = load_architecture(graph.architecture, options.model, languages=graph.languages)
    model.eval()
    names = [each.name for each in graph._session.get_inputs()]
    print(f"{torch.get_num_threads()} thread(s), {len(graph.languages)} languages; milliseconds, medians by turns")
    for title, lengths in (
        ("1 x 16", [16]),
        ("1 x 64", [64]),
        ("32 x 64", [64] * 32),
        ("32 x 4 to 64, ragged", [4 + row * 37 % 61 for row in range(32)]),
    ):
        batch = batch_of(lengths, len(graph.languages), model.config.vocab_size)
        arrays = {name: each.numpy() for name, each in complete(batch, names).items()}
        runs: dict[str, Callable[[], Any]] = {
            "model": lambda batch=batch: model(**batch),
            "graph": lambda batch=batch: graph(**batch),
            "graph uncut": lambda arrays=arrays: graph._run(arrays),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        with torch.inference_mode():
            for _ in range(options.rounds if len(lengths) == 1 else max(3, options.rounds // 3)):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run()
                    times[name].append(1000 * (time.perf_counter() - start))
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        shown = ", ".join(f"{name} {taken:.1f}" for name, taken in medians.items())
        print(f"{title}: {shown}; model/graph {medians['model'] / medians['graph']:.2f}")


if __name__ == "__main__":
    main()
