"""The options of `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmodular.errors import ConfigurationError
from xmodular.language_conditions import ASKED, CONDITIONS, AskedCondition, stored_name
from xmodular.options.declaring import (
    IDENTIFY_LANGUAGES,
    IDLE_IDENTIFYING,
    REVISION,
    RUN_PRECISION,
    STRIDE_ONLY_FOR,
    Fallback,
    Identify,
    Idle,
    Options,
    Packing,
    Place,
    Pooling,
    RunPrecision,
    at_least,
    between,
    option,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """Score models in many languages, with each language's own adapter and with the source language's."""

    verb, home = "evaluate", "xmodular.evaluation:evaluate"
    example = "xmodular evaluate --model runs/topic --data corpus/topic --output-dir runs/topic/eval"
    first = ("model", "data", "output_dir", "languages", "adapter")
    headings = {
        "model": "Reading rows",
        "task": "Retrieval of translations",
        "adapter": "Adapters",
        "tokenizer": "Running the model",
        "answers": "Scores and outputs",
    }

    model: tuple[str, ...] = option(
        "Models, comma-separated: folders or names on the Hub; a run with several seeds is one model. A masked "
        "language model is scored by perplexity."
    )
    revision: str | None = option(REVISION.format("models"), None)
    data: tuple[str, ...] = option(
        "Comma-separated: folders, or globs, of <language>.<split>.<ext> files (.txt for perplexity), a file with a "
        "column `language`, <language>=<file>, or hub:<data set>:<configuration>:<split> with {language} or {subtag} "
        "in it."
    )
    output_dir: Path | None = option("Folder for results.json, results.md, report.html and the pictures.", None)
    split: str = option("The split to read from folders.", "test")
    languages: tuple[str, ...] = option("Only these languages, comma-separated.", ())
    columns: Mapping[str, str] | None = option(
        "Names of columns, as text=review,label=stars; default: as in training, if the rows have those columns.", None
    )
    skip_bad_rows: bool = option("Skip rows that cannot be read, and count them.", False)
    task: Literal["retrieval"] | None = option(
        "retrieval: find translations by the vectors of sentences, also with a model that has a head; default: what "
        "the model was fine-tuned for, perplexity of a language model, retrieval of an encoder without a head.",
        None,
    )
    pivot: str | None = option(
        "Retrieval: the language whose sentences the others are matched with; default: English, or the source.",
        None,
    )
    pairs: Literal["all", "pivot"] = option(
        "Retrieval: match also all other pairs of languages, as a matrix; or only those with the pivot.", "all"
    )
    candidates: Literal["paired", "all"] = option(
        "Retrieval: find a translation among the sentences that have one in the other language; or among all, so that "
        "lines whose translation is missing make it harder.",
        "paired",
    )
    pooling: Pooling | None = option(
        "Retrieval: what a sentence's vector is: mean of its states, or the state of its first token; default: as the "
        "model records it, or mean.",
        None,
    )
    prefix: str | None = option(
        'Retrieval: text before every sentence, such as "query: "; default: as the model records it, or none.', None
    )
    adapter: tuple[AskedCondition, ...] = option(
        "own, or " + "; ".join(f"{name}: {CONDITIONS[name].asked}" for name in ASKED) + ".", ("right", "source")
    )
    identify: Identify = option(
        "Also read every row with the adapter of the language that it is identified as (--adapter identified): "
        "py3langid (also without a value), spans, fasttext:<file>, glotlid:<file>, <module>:<function> or "
        "spans:<one of the last three>, as for predict.",
        False,
    )
    identify_languages: tuple[str, ...] = option(IDENTIFY_LANGUAGES, ())
    threshold: float = option(
        "Least confidence of an identified language; below it, a row is read by the model's default language, else by "
        "the source language.",
        0.3,
        between(0.0, 1.0),
    )
    source: str | None = option("The source language; default: the language the model was fine-tuned in.", None)
    fallback: Fallback | None = option(
        "relative: a language that the model lacks uses the adapter of the most closely related language.", None
    )
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
    max_length: int | None = option(
        "Most tokens per row or window; default: as in fine-tuning, or 512; for perplexity: block size, 128.",
        None,
        at_least(8),
    )
    stride: int | None = option(
        "Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: as fine-tuned, or "
        "a quarter of --max-length.",
        None,
        at_least(0),
    )
    packing: Packing = option("How text is packed into blocks for perplexity, as in pretraining.", "fill")
    batch_tokens: int = option("Tokens per forward pass, padding included.", 8192, at_least(1))
    precision: RunPrecision = option(RUN_PRECISION, "keep")
    answers: Literal["mlqa", "squad"] = option(
        "How answers (qa) are normalised before comparison: mlqa, by the rules of each language; squad, by those of "
        "English for all languages, as XTREME scores XQuAD and TyDi QA.",
        "mlqa",
    )
    seed: int = option("Random seed of the masks for perplexity.", 0)
    predictions: bool = option("Also write the prediction for each row to predictions.jsonl in --output-dir.", False)
    gate: Path | None = option(
        "File of gates: least values by language, and largest drops against earlier results. If one fails, the exit "
        "status is 1; the results are written all the same.",
        None,
    )
    overwrite: bool = option("Replace the results in --output-dir.", False)

    idle = (
        Idle(
            IDLE_IDENTIFYING.names,
            lambda given: given.identify is False and "identified" not in given.adapter,
            IDLE_IDENTIFYING.why,
        ),
        Idle(
            ("predictions",),
            lambda given: given.output_dir is None,
            "needs --output-dir, the folder to write them to.",
        ),
    )
    only_for = (
        (("pivot", "pairs", "candidates", "pooling", "prefix"), "retrieval", "retrieval"),
        (("packing", "seed"), "perplexity", "perplexity"),
        (("answers",), "qa", "qa"),
        STRIDE_ONLY_FOR,
        (("columns", "skip_bad_rows", "split"), "rows", "tasks and retrieval"),
        (("predictions",), "task", "models with a task"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model or not self.data:
            raise ConfigurationError(f"--{'data' if self.model else 'model'} is empty.")
        object.__setattr__(self, "adapter", tuple(map(stored_name, self.adapter)))
        if not self.adapter:
            raise ConfigurationError(f"--adapter needs at least one of: own, {', '.join(ASKED[1:])}.")
        if len(set(self.adapter)) < len(self.adapter):
            raise ConfigurationError(f"--adapter names an adapter twice: {', '.join(self.adapter)}.")
        if self.identify is not False and "identified" not in self.adapter:
            object.__setattr__(self, "adapter", (*self.adapter, "identified"))
        elif self.identify is False and "identified" in self.adapter:
            object.__setattr__(self, "identify", True)
