"""The whole road, offline, in minutes: text → pretrained model → English task → every other language.

It runs on the corpus inside the package: sentences from compact grammars, so its figures show how the parts work
together and say nothing about real text.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from xmodular.console import console
from xmodular.demo.corpus import write_corpus
from xmodular.evaluation import evaluate
from xmodular.files import write_json
from xmodular.options import DemoOptions, build
from xmodular.predict import fill_mask
from xmodular.results import Results
from xmodular.training import finetune, pretrain

SOURCE = "en_XX"
_LONGEST = 48  # tokens; the longest sentence has 42


def run(output_dir: str | Path = "demo", **options: Any) -> Results:
    """Pretrain a small model in eight languages, fine-tune it on English topics and names, evaluate it in all.

    Args:
        output_dir: where everything goes.
        options: the other fields of `DemoOptions`.

    Returns:
        The topics' results: accuracy per language with its own adapter, with the English adapter, and by chance.
    """
    made = build(DemoOptions, {"output_dir": output_dir, **options})
    started = time.monotonic()
    folder = made.output_dir
    seconds: dict[str, float] = {}

    def step(number: int, title: str) -> None:
        seconds[title] = round(time.monotonic() - started, 1)
        console.rule(f"{number}  {title}", align="left")

    step(1, "write the corpus")
    corpus = write_corpus(folder / "corpus", seed=made.seed)
    console.print(f"Sentences from grammars in {corpus}")

    step(2, "pretrain in all languages")
    # Small width, small adapters, strong decay and a sentence a row: what makes so small a model share its
    # representations between languages at all.
    base = pretrain(
        corpus / "text",
        dev_text=corpus / "text_dev",
        output_dir=folder / "base",
        vocab_size=4000,
        preset="tiny",
        overrides={
            "hidden_size": 64,
            "intermediate_size": 128,
            "adapter_reduction_factor": 16,
            "initializer_range": 0.05,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        packing="lines",
        block_size=_LONGEST,
        alpha=0.7,
        mask_probability=0.3,
        max_steps=made.pretrain_steps,
        batch_size=32,
        learning_rate=3e-3,
        weight_decay=0.3,
        log_every=200,
        save_every=None,
        seed=made.seed,
        overwrite=made.overwrite,
    )

    step(3, f"perplexity with each language's own adapter, and with {SOURCE}'s")
    evaluate(
        base.model,
        str(corpus / "text_dev"),
        source=SOURCE,
        packing="lines",
        max_length=_LONGEST,
        bootstrap=200,
        output_dir=folder / "base" / "eval",
    )

    step(4, f"fine-tune in {SOURCE} only: topics of sentences, and names in them")
    topic = finetune(
        folder / "base",
        corpus / "topic" / f"{SOURCE}.train.jsonl",
        dev=corpus / "topic" / f"{SOURCE}.dev.jsonl",
        output_dir=folder / "topic",
        **_finetuning(made),
    )
    names = finetune(
        folder / "base",
        corpus / "ner" / f"{SOURCE}.train.conll",
        dev=corpus / "ner" / f"{SOURCE}.dev.conll",
        task="tag",
        output_dir=folder / "names",
        **_finetuning(made),
    )

    step(5, f"both in every language: only {SOURCE} was trained on")
    results = evaluate(topic.model, str(corpus / "topic"), output_dir=folder / "topic" / "eval")
    evaluate(names.model, str(corpus / "ner"), output_dir=folder / "names" / "eval", bootstrap=200)
    console.print(
        "The names are the same in most languages, so finding them carries over more easily than topics, whose words "
        "the model has never seen beside their translations."
    )

    step(6, "fill a mask")
    for language, text in (
        ("en_XX", "The <mask> blew at 38 kilometres per hour in Toronto."),
        ("de_DE", "Der <mask> wehte mit 38 Kilometern pro Stunde in Toronto."),
    ):
        for filling in fill_mask(base.model, text, language=language, top_k=3):
            console.print(f"{language}  {filling.probability:.2f}  {filling.text}")

    seconds["all"] = round(time.monotonic() - started, 1)
    write_json(folder / "demo.json", {"seconds_at_start": seconds, "seed": made.seed, "steps": made.pretrain_steps})
    console.rule("written", align="left")
    for path in sorted(folder.glob("**/*")):
        if path.is_file() and not {"blocks", "corpus"} & set(path.relative_to(folder).parts):
            console.print(f"{path}  ({path.stat().st_size / 1e6:.2f} MB)")
    console.print(f"{seconds['all'] / 60:.1f} minutes in all")
    return results


def _finetuning(options: DemoOptions) -> dict[str, Any]:
    """What both tasks' training has in common."""
    return {
        "language": SOURCE,
        "epochs": 2,
        "learning_rate": 5e-4,
        "seed": options.seed,
        "overwrite": options.overwrite,
    }
