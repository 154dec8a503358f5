"""What the examples start from: the corpus inside the package, and a small model pretrained on it.

    python examples/prepare.py

`make demo` leaves both in the folder ``demo``. Where they are not there, they are made, with the demo's settings; the
other examples call this first, so they pretrain once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from xmodular import pretrain
from xmodular.demo.parallel_corpus import write_corpus


def arguments(description: str | None) -> argparse.Namespace:
    """The arguments that all examples share."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--start", type=Path, default=Path("demo"), help="Folder of corpus/ and base/, made if absent.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/examples"), help="Where results go.")
    parser.add_argument("--steps", type=int, default=4000, help="Optimiser steps of pretraining.")
    parser.add_argument("--lines", type=int, default=12_000, help="Lines of pretraining text in every language.")
    parser.add_argument("--rows", type=int, default=3000, help="Rows of the English training files.")
    parser.add_argument("--vocab-size", type=int, default=4000, help="Pieces of the tokenizer.")
    parser.add_argument("--hidden-size", type=int, default=64, help="Width of the model.")
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> tuple[Path, Path]:
    """The corpus and the pretrained model: two folders."""
    corpus, base = options.start / "corpus", options.start / "base"
    if not corpus.is_dir():
        print(f"Writing a corpus in {corpus}")
        tests = max(12, options.rows // 5)
        write_corpus(corpus, sentences_per_language=options.lines, task_train=options.rows, task_test=tests)
    if not (base / "options.json").is_file():  # written last: the run is complete
        pretrain(
            corpus / "text",
            dev_text=corpus / "text_dev",
            output_dir=base,
            preset="tiny",
            overrides={
                "hidden_size": options.hidden_size,
                "intermediate_size": 2 * options.hidden_size,
                "adapter_reduction_factor": 16,
                "initializer_range": 0.05,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
            vocab_size=options.vocab_size,
            packing="lines",
            block_size=48,
            alpha=0.7,
            mask_probability=0.3,
            max_steps=options.steps,
            learning_rate=3e-3,
            weight_decay=0.3,
            log_every=200,
        )
    return corpus, base


if __name__ == "__main__":
    prepare(arguments(__doc__))
