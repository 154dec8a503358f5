"""Adding a language by `extend`: its tokens a second beside a bare loop's, and the stripped limit.

    python benchmarks/extending.py --model e5-with-head --language mt --text text/mt.txt [--rounds 3]

In each round, in turn: ``extend`` itself, timed from its first step to its last, as the run prints it; a bare loop of
forward, backward, clipping and update on the very batches that ``extend`` read, with the model as it is; and the limit,
nothing but the matrix products and the attention of those batches, forward and backward, with the same update. At the
end the time that a pass over half a megabyte of the text takes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from harness import machine, stripped_layers
from xmodular import XmodForMaskedLM, extend
from xmodular.training.pace import Pace
from xmodular.training.trainer import RoutedTrainer
from xmodular.vocabulary import load_tokenizer


def watched(run: Callable[[], object]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds from the first step to the last of a run that trains, and the batches it read."""
    seconds, read, said, step = [0.0], [], Pace.said, RoutedTrainer.training_step

    def noting_time(self: Pace, *arguments: Any) -> tuple[str, str]:
        seconds[0] = self.clock() - (self.began or 0.0)
        return said(self, *arguments)

    def noting_batch(self: RoutedTrainer, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        read.append(dict(inputs))
        return step(self, model, inputs, *rest)

    Pace.said, RoutedTrainer.training_step = noting_time, noting_batch  # type: ignore[method-assign]
    try:
        run()
    finally:
        Pace.said, RoutedTrainer.training_step = said, step  # type: ignore[method-assign]
    return seconds[0], read


def bare(model: XmodForMaskedLM, inputs: dict[str, Any]) -> None:
    """Forward and backward of the model as it is."""
    model(**inputs).loss.backward()


def timed(
    model: XmodForMaskedLM,
    batches: list[dict[str, Any]],
    step: Callable[[XmodForMaskedLM, dict[str, Any]], None],
) -> float:
    """Seconds of a loop over the batches, updates of what trains included."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.01, fused=True)
    start = time.perf_counter()
    for inputs in batches:
        step(model, inputs)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def stripped(model: XmodForMaskedLM, inputs: dict[str, Any]) -> None:
    """Forward and backward of nothing but products and attention; in the last layer, of the masked tokens alone."""
    mask = inputs["attention_mask"].bool()
    lang_ids = torch.as_tensor(inputs["lang_ids"]).expand(len(mask)).tolist()
    masked = int((inputs["labels"] != -100).sum())
    with torch.no_grad():
        states = model.base_model.embeddings.word_embeddings(inputs["input_ids"][mask])
    states = stripped_layers(model, states, mask.sum(1).tolist(), lang_ids, [masked])
    scores = F.linear(F.linear(states, model.lm_head.dense.weight), model.lm_head.decoder.weight)
    scores.backward(torch.ones_like(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a masked language model that lacks the language")
    parser.add_argument("--language", default="mt")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    torch.set_flush_denormal(True)  # without residuals and norms the limit's states are tiny
    seconds: dict[str, list[float]] = {"extend": [], "bare loop": [], "limit": []}
    for turn in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            taken, batches = watched(
                lambda folder=folder, turn=turn: extend(  # type: ignore[misc]
                    options.model,
                    options.language,
                    options.text,
                    output_dir=Path(folder, "run"),
                    init_from="neutral",
                    batch_size=options.batch_size,
                    block_size=options.block_size,
                    max_steps=options.steps,
                    log_every=options.steps,
                    dev_blocks=4,
                    seed=turn,
                )
            )
        seconds["extend"].append(taken)
        model = XmodForMaskedLM.from_pretrained(options.model)
        model.add_language(options.language, init_from=model.languages[0])
        model.set_trainable("language", languages=[options.language])
        model.train()
        seconds["bare loop"].append(timed(model, batches, bare))
        seconds["limit"].append(timed(model, batches, stripped))
        tokens = sum(int(inputs["attention_mask"].sum()) for inputs in batches)
        spoken = ", ".join(f"{name} {tokens / spent[-1]:,.0f} tokens/s" for name, spent in seconds.items())
        print(f"round {turn + 1}, {tokens} tokens: {spoken}", flush=True)
    for name in ("bare loop", "limit"):
        ratios = [ours / theirs for ours, theirs in zip(seconds["extend"], seconds[name], strict=True)]
        print(f"extend / {name}: {statistics.median(ratios):.2f} (median of {', '.join(f'{r:.2f}' for r in ratios)})")
    size = options.text.stat().st_size
    lines = options.text.read_text(encoding="utf8").splitlines()
    whole = sum(map(len, load_tokenizer(options.model)(lines)["input_ids"]))
    for_half = whole * 500_000 / size
    pace = tokens / statistics.median(seconds["extend"])
    print(
        f"0.5 MB are {for_half:,.0f} tokens: a pass takes {for_half / pace / 60:.1f} min at {pace:,.0f} tokens/s, "
        f"an hour reads them {3600 * pace / for_half:.1f} times"
    )


if __name__ == "__main__":
    main()
