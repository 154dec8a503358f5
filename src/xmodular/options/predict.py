"""The options of `predict` and `fill-mask`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import (
    REVISION,
    RUN_PRECISION,
    Fallback,
    Options,
    Place,
    RunPrecision,
    at_least,
    between,
    option,
)


@dataclass(frozen=True, kw_only=True)
class RowsOptions(Options):
    """What the verbs share that add columns to rows: where the rows are, their languages, how a model runs."""

    model: str = option("Fine-tuned model: a folder, or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    input: str = option(
        "Rows: .jsonl, .csv, .tsv, .parquet, .json or CoNLL, .txt with one text per line, a folder of .parquet, "
        "hub:<data set>:<configuration>:<split>, or - for JSON lines on standard input.",
        "",
    )
    text: str | None = option("A single text, instead of --input.", None)
    output: Place = option("The file, or with --shard-rows the folder, to write.", "-")
    language: str | None = option("Language of rows that do not name one.", None)
    identify: bool = option("Identify the language of rows that do not name one.", False)
    threshold: float = option(
        "Least confidence of an identified language; below it, the default language is used.", 0.3, between(0.0, 1.0)
    )
    default_language: str | None = option(
        "Language of rows that do not name one (with --identify: of uncertain rows); default: the model's default "
        "language (with --identify, if it has none: the one it was fine-tuned in).",
        None,
    )
    fallback: Fallback | None = option(
        "relative: rows in a language that the model lacks use the adapter of the most closely related language.", None
    )
    columns: Mapping[str, str] | None = option(
        "Names of columns, as text=review,language=lang; default: as in training, if the rows have those columns.", None
    )
    skip_bad_rows: bool = option(
        "Write rows that cannot be read to <output>.bad.jsonl (with --shard-rows: to that folder) and continue.",
        False,
    )
    shard_rows: int | None = option(
        "Write files of this many rows, part-00000.jsonl, ... (or .parquet), into the folder --output.",
        None,
        at_least(1),
    )
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
    max_length: int | None = option(
        "Most tokens per row or window; default: as in fine-tuning, or 512.", None, at_least(8)
    )
    batch_tokens: int = option("Tokens per forward pass, padding included.", 8192, at_least(1))
    precision: RunPrecision = option(RUN_PRECISION, "keep")
    window: int = option("Number of rows that are sorted by length together.", 2048, at_least(1))
    overwrite: bool = option("Replace --output, and start over if a run was interrupted.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.input and self.text is None:
            raise ConfigurationError("Missing: --input (a file of rows) or --text (a single text).")
        if self.input and self.text is not None:
            raise ConfigurationError("Give either --input (a file of rows) or --text (a single text), not both.")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(RowsOptions):
    """Add a fine-tuned model's predictions to rows: label, score, tags, spans or answer, and the adapter used."""

    verb, home = "predict", "xmodular.prediction:predict"
    example = "xmodular predict --model runs/topic --input reviews.csv --language de --output labelled.csv"
    first = ("model", "input", "text", "output", "language")
    headings = {
        "model": "Input and output",
        "identify": "Languages of the rows",
        "columns": "Reading rows",
        "tokenizer": "Running the model",
        "probabilities": "Predictions",
    }

    output: Place = option(
        ".jsonl, .csv, .tsv, .conll for tags (also .gz) or .parquet; - for JSON lines on standard output; a folder "
        "with --shard-rows.",
        "-",
    )
    probabilities: bool = option("Also write the probabilities of all labels, tags or choices.", False)
    stride: int | None = option(
        "Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: as fine-tuned, or "
        "a quarter of --max-length.",
        None,
        at_least(0),
    )


@dataclass(frozen=True, kw_only=True)
class FillMaskOptions(Options):
    """Fill the <mask> in a text."""

    verb, home = "fill-mask", "xmodular.prediction:fill_mask"
    example = 'xmodular fill-mask --model runs/base --language sw "Habari ya <mask>?"'
    first = ("text", "model", "language", "top_k")

    text: str = option("Text with one or more <mask>.", positional=True)
    model: str = option("Model folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    language: str = option("Language of the text, whose adapter is used.")
    fallback: Fallback | None = option(
        "relative: for a language that the model lacks, use the adapter of the most closely related one.", None
    )
    top_k: int = option("Number of candidates per <mask>.", 5, at_least(1))
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
