"""The options of `predict` and `fill-mask`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import REVISION, Fallback, Options, Place, WeightPrecision, at_least, between, option


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Options):
    """Add a fine-tuned model's predictions to rows: label, score, tags, spans or answer, and who read them."""

    verb, home = "predict", "xmodular.prediction:predict"
    example = "xmodular predict --model runs/topic --input reviews.csv --language de --output labelled.csv"
    first = ("model", "input", "text", "output", "language")
    headings = {
        "model": "What is read and written",
        "identify": "Languages of the rows",
        "columns": "Reading rows",
        "tokenizer": "Running the model",
    }

    model: str = option("Fine-tuned model: a folder, or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    input: str = option(
        "Rows: .jsonl, .csv, .tsv, .parquet, .json or CoNLL, .txt with a text a line, a folder of .parquet, "
        "hub:<data set>:<configuration>:<split>, or - for JSON lines on standard input.",
        "",
    )
    text: str | None = option("One text to read, in place of --input.", None)
    output: Place = option(
        ".jsonl, .csv, .tsv, .conll for tags (also .gz) or .parquet; - for JSON lines on standard output; a folder "
        "with --shard-rows.",
        "-",
    )
    probabilities: bool = option("Also write the probabilities of all labels, tags or choices.", False)
    language: str | None = option("Language of the rows that name none.", None)
    identify: bool = option("Identify the language of rows for which none is known.", False)
    threshold: float = option("Identifications with less confidence leave the language unsure.", 0.3, between(0.0, 1.0))
    default_language: str | None = option(
        "Language of rows that name none, with --identify of unsure ones; default: the model's own, with --identify "
        "the one it was fine-tuned in.",
        None,
    )
    fallback: Fallback | None = option(
        "relative: rows in languages that the model lacks are read by the adapter of their nearest relative.", None
    )
    columns: Mapping[str, str] | None = option(
        "Names of columns, as text=review,language=lang; default: as in training, where the rows have them.", None
    )
    skip_bad_rows: bool = option("Put rows that cannot be read into <output>.bad.jsonl and go on.", False)
    shard_rows: int | None = option(
        "Write part-00000.jsonl, ... (.parquet of Parquet) of so many rows into the folder --output.", None, at_least(1)
    )
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
    max_length: int | None = option(
        "Tokens a row, or a window of it, at most; default: as fine-tuned, or 512.", None, at_least(8)
    )
    stride: int | None = option(
        "Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: as fine-tuned, or "
        "a quarter of --max-length.",
        None,
        at_least(0),
    )
    batch_tokens: int = option("Tokens a forward pass, padding included.", 8192, at_least(1))
    precision: WeightPrecision = option("keep the weights' precision, or run the model in fp32, bf16 or fp16.", "keep")
    window: int = option("Rows that are sorted by length together, and saved together.", 2048, at_least(1))
    overwrite: bool = option("Replace --output, and begin anew where a run was interrupted.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.input and self.text is None:
            raise ConfigurationError("Missing: --input, a file of rows, or --text, one text.")
        if self.input and self.text is not None:
            raise ConfigurationError("--input names rows and --text is one text: give one of them.")


@dataclass(frozen=True, kw_only=True)
class FillMaskOptions(Options):
    """Fill the <mask> in a text."""

    verb, home = "fill-mask", "xmodular.prediction:fill_mask"
    example = 'xmodular fill-mask --model runs/base --language sw "Habari ya <mask>?"'
    first = ("text", "model", "language", "top_k")

    text: str = option("Text with one or more <mask>.", positional=True)
    model: str = option("Model folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    language: str = option("Language of the text; its adapter reads it.")
    fallback: Fallback | None = option(
        "relative: a language that the model lacks is read by the adapter of its nearest relative.", None
    )
    top_k: int = option("Candidates for every <mask>.", 5, at_least(1))
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
