"""The demo, offline, in minutes: text → pretrained model → English tasks → a language added → all languages.

It uses the corpus inside the package: sentences from compact grammars, so its figures show how the parts work
together and say nothing about real text. With a model, it runs on that instead (see `encoder`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from xmodular.console import console
from xmodular.demo.own_encoder import walk
from xmodular.demo.parallel_corpus import LANGUAGES, write_corpus
from xmodular.evaluation import evaluate
from xmodular.files import write_json, write_text
from xmodular.options import DemoOptions
from xmodular.pack_verbs import pack_install
from xmodular.prediction import fill_mask, predict
from xmodular.results import Results
from xmodular.rows import sources_of
from xmodular.signatures import verb
from xmodular.training import Run, extend, finetune, pretrain

SOURCE = "en_XX"
ADDED = "id_ID"  # neither pretraining nor the tasks see it
_LONGEST = 48  # tokens; the longest sentence has 42
# What a model is fine-tuned for: by its name the task, and the folder and suffix of its files.
_TASKS = {
    "topic": ("classify", "topic", ".jsonl"),
    "names": ("tag", "ner", ".conll"),
    "questions": ("qa", "qa", ".json"),
}


_ROWS = dict.fromkeys(("train", "dev", "data"), sources_of)


@verb(DemoOptions, "output_dir", rows=_ROWS, holds="output_dir")
def run(options: DemoOptions) -> Results:
    """Pretrain a small model in seven languages, fine-tune it in English, add the eighth, evaluate and predict in all.

    It takes two to four minutes on two idle cores. With the option `model`, that encoder is made modular, fine-tuned
    and evaluated on the user's own data instead; the same call resumes an interrupted demo.

    Args:
        output_dir: folder for all output.

    Returns:
        The scores of masked words in each language: with its own adapter, with the English one, and without.
        With a `model`, the task's scores in each language, under these three conditions.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
    """
    return _run(options) if options.model is None else walk(options)


def _run(made: DemoOptions) -> Results:
    folder, started = made.output_dir, time.monotonic()
    seconds: dict[str, float] = {}

    def step(title: str) -> None:
        seconds[title] = round(time.monotonic() - started, 1)
        console.rule(f"{len(seconds)}  {title}", align="left")

    console.print("This takes two to four minutes on two idle cores, and longer on busy ones.")
    step("write the corpus")
    corpus = write_corpus(folder / "corpus", seed=made.seed, overwrite=made.overwrite)
    console.print(f"Sentences from grammars in {corpus}")

    step(f"pretrain in all languages but {ADDED}")
    base = _pretrained(made, corpus)

    step(f"fine-tune in {SOURCE} only: topics, names, questions")
    _finetune(made, corpus)

    step(f"add {ADDED}: train only its adapter on text, and install its pack in the fine-tuned models")
    _add(made, corpus)

    step(f"masked words in every language: read with its own adapter, with {SOURCE}'s, and without")
    words = evaluate(
        folder / "base-id",
        str(corpus / "text_dev"),
        source=SOURCE,
        adapter=("right", "source", "none"),
        packing="lines",
        max_length=_LONGEST,
        output_dir=folder / "base-id" / "eval",
        overwrite=made.overwrite,
    )
    _say_whose_adapter(words)

    step(f"the tasks in every language: only {SOURCE} was trained on")
    _evaluate_tasks(made, corpus)

    step("predict on a mixed file that does not say which language a row is in")
    _predict_mixed(folder, corpus)

    step("fill a mask")
    for language, text in (
        ("en_XX", "The <mask> blew at 38 kilometres per hour in Toronto."),
        ("de_DE", "Der <mask> wehte mit 38 Kilometern pro Stunde in Toronto."),
    ):
        for filling in fill_mask(base.model, text, language=language, top_k=3):
            console.print(f"{language}  {filling.probability:.2f}  {filling.text}")

    seconds["all"] = round(time.monotonic() - started, 1)
    write_json(folder / "demo.json", {"seconds_at_start": seconds, "seed": made.seed, "steps": made.pretrain_steps})
    _say_written(folder, seconds["all"])
    return words


def _pretrained(made: DemoOptions, corpus: Path) -> Run:
    # Small width, small adapters, strong decay and a sentence a row: these make so small a model share its
    # representations between languages at all.
    return pretrain(
        corpus / "text",
        dev_text=corpus / "text_dev",
        languages=[code for code in LANGUAGES if code != ADDED],
        output_dir=made.output_dir / "base",
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
        alpha=0.7,
        max_steps=made.pretrain_steps,
        log_every=200,
        **_language_model(made),
    )


def _finetune(made: DemoOptions, corpus: Path) -> None:
    for name, (task, data, suffix) in _TASKS.items():
        finetune(
            made.output_dir / "base",
            corpus / data / f"{SOURCE}.train{suffix}",
            dev=corpus / data / f"{SOURCE}.dev{suffix}",
            task=task,
            language=SOURCE,
            output_dir=made.output_dir / name,
            max_length=_LONGEST,  # questions read their context in windows
            epochs=2,
            learning_rate=5e-4,
            seed=made.seed,
            overwrite=made.overwrite,
        )


def _add(made: DemoOptions, corpus: Path) -> None:
    extend(
        made.output_dir / "base",
        ADDED,
        corpus / "text",
        dev_text=corpus / "text_dev",
        output_dir=made.output_dir / "base-id",
        new_vocabulary=800,
        max_steps=max(1, made.pretrain_steps // 5),
        log_every=200,
        **_language_model(made),
    )
    for name in _TASKS:
        pack_install(made.output_dir / "base-id" / "pack", model=str(made.output_dir / name))


def _evaluate_tasks(made: DemoOptions, corpus: Path) -> None:
    for name, (_, data, _) in _TASKS.items():
        evaluate(
            made.output_dir / name,
            str(corpus / data),
            adapter=("right",),
            output_dir=made.output_dir / name / "eval",
            overwrite=made.overwrite,
        )
    console.print(
        "What transfers from English is what the languages have in common, above all the names. This model is too "
        "small, and was trained on too little text, to learn which words are translations of each other. So the "
        "tasks have similar scores with any adapter, and these tables have one column; --adapter "
        "right,source,none of `xmodular evaluate` shows the others."
    )


def _say_written(folder: Path, seconds: float) -> None:
    console.rule("written", align="left")
    for path in sorted(folder.glob("**/*")):
        if path.is_file() and not {"blocks", "corpus"} & set(path.relative_to(folder).parts):
            console.print(f"{path}  ({path.stat().st_size / 1e6:.2f} MB)")
    console.print(f"{seconds / 60:.1f} minutes in total. Start with {folder / 'base-id' / 'eval' / 'report.html'}")


def _say_whose_adapter(words: Results) -> None:
    """Say in how many languages the own adapter guesses best."""
    others = words.averaged()
    table = words.table("accuracy")
    table.title = "Masked words guessed right, %"
    console.print(table)
    best = 0
    for code in others:
        own, *rest = (words.value(code, adapter, "accuracy") for adapter in ("right", "source", "none"))
        best += own is not None and all(each is None or own.value > each.value for each in rest)
    console.print(
        f"In {best} of {len(others)} languages, most words are guessed right with the language's own adapter: it has "
        "learned the language's words and their order; everything else is shared."
    )


def _language_model(options: DemoOptions) -> dict[str, Any]:
    """What pretraining and adding a language have in common."""
    return {
        "packing": "lines",
        "block_size": _LONGEST,
        "mask_probability": 0.3,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "weight_decay": 0.3,
        "save_every": None,
        "seed": options.seed,
        "overwrite": options.overwrite,
    }


def _predict_mixed(folder: Path, corpus: Path) -> None:
    """Topics of every language's first test rows, shuffled together without their labels; scored afterwards."""
    rows = []
    for code in LANGUAGES:
        lines = (corpus / "topic" / f"{code}.test.jsonl").read_text(encoding="utf-8").splitlines()[:200]
        rows += [{**json.loads(line), "written_in": code} for line in lines]
    rows.sort(key=lambda row: (row["id"], row["written_in"]))
    text = "".join(
        json.dumps({"text": row["text"], "written_in": row["written_in"]}, ensure_ascii=False) + "\n" for row in rows
    )
    write_text(folder / "mixed.jsonl", text)
    predict(folder / "topic", folder / "mixed.jsonl", folder / "mixed.topics.jsonl", identify=True, overwrite=True)
    answers = (folder / "mixed.topics.jsonl").read_text(encoding="utf-8").splitlines()
    table = Table("written in", "rows", "identified", "topic right", title="A mixed file", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for code in LANGUAGES:
        own = [(row, json.loads(line)) for row, line in zip(rows, answers, strict=True) if row["written_in"] == code]
        identified = sum(answer["language"] == code for _, answer in own) / len(own)
        right = sum(answer["label"] == row["label"] for row, answer in own) / len(own)
        table.add_row(code, str(len(own)), f"{identified:.1%}", f"{right:.1%}")
    console.print(table)
