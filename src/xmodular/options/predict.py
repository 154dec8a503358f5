"""The options of `predict` and `fill-mask`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import (
    IDENTIFY,
    IDENTIFY_LANGUAGES,
    IDENTIFY_TEXT,
    IDLE_IDENTIFYING,
    RESIDENT_LANGUAGES,
    REVISION,
    RUN_PRECISION,
    STRIDE_ONLY_FOR,
    Engine,
    Fallback,
    Identify,
    Idle,
    Options,
    Place,
    RunPrecision,
    at_least,
    between,
    not_negative,
    option,
)


@dataclass(frozen=True, kw_only=True)
class RowsOptions(Options):
    """What the verbs share that add columns to rows: where the rows are, their languages, how a model runs."""

    headings = {
        "model": "Input and output",
        "identify": "Languages of the rows",
        "columns": "Reading rows",
        "tokenizer": "Running the model",
    }

    model: str = option("Fine-tuned model: a folder, or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    input: str = option(
        "Rows: .jsonl, .csv, .tsv, .parquet, .json or CoNLL, .txt with one text per line, a folder of .parquet, "
        "hub:<data set>:<configuration>:<split>, or - for JSON lines on standard input.",
        "",
    )
    text: str | None = option("A single text, instead of --input.", None)
    output: Place = option("The file, or with --shard-rows the folder, to write.", "-")
    shard_rows: int | None = option(
        "Write files of this many rows, part-00000.jsonl, ... (or .parquet), into the folder --output.",
        None,
        at_least(1),
    )
    language: str | None = option("Language of rows that do not name one.", None)
    identify: Identify = option(IDENTIFY, False)
    identify_languages: tuple[str, ...] = option(IDENTIFY_LANGUAGES, ())
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
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
    max_length: int | None = option(
        "Most tokens per row or window; default: as in fine-tuning, or 512.", None, at_least(8)
    )
    batch_tokens: int = option("Tokens per forward pass, padding included.", 8192, at_least(1))
    precision: RunPrecision = option(RUN_PRECISION, "keep")
    resident_languages: int | None = option(RESIDENT_LANGUAGES, None, at_least(1))
    window: int = option("Number of rows that are sorted by length together.", 2048, at_least(1))
    overwrite: bool = option("Replace --output, and start over if a run was interrupted.", False)

    idle = tuple[Idle, ...](
        (
            IDLE_IDENTIFYING,
            Idle(
                ("identify",),
                lambda given: given.language is not None,
                "identifies the language of rows that do not name one; with --language, there are none: give "
                "--default-language, for texts whose language is uncertain.",
            ),
            Idle(
                ("default_language",),
                lambda given: given.language is not None,
                "is for rows that do not name their language; with --language, there are none.",
            ),
            Idle(("columns", "skip_bad_rows"), lambda given: given.text is not None, "is for rows; --text is a text."),
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.input and self.text is None:
            raise ConfigurationError("Missing: --input (a file of rows) or --text (a single text).")
        if self.input and self.text is not None:
            raise ConfigurationError("Give either --input (a file of rows) or --text (a single text), not both.")

    @property
    def locked(self) -> str | None:
        """What other runs must not write to; None for standard output."""
        return None if self.output == "-" else self.output


@dataclass(frozen=True, kw_only=True)
class PredictOptions(RowsOptions):
    """Add a fine-tuned model's predictions to rows: label, score, tags, spans or answer, and the adapter used."""

    verb, home = "predict", "xmodular.prediction:predict"
    example = "xmodular predict --model runs/topic --input reviews.csv --language de --output labelled.csv"
    first = ("model", "input", "text", "output", "language")
    headings = {
        "probabilities": "Predictions",
        "engine": "Many files, several workers",
    }

    input: str = option(
        "Rows: .jsonl, .csv, .tsv, .parquet, .json or CoNLL, .txt with one text per line, a folder of .parquet, "
        "hub:<data set>:<configuration>:<split>, or - for JSON lines on standard input. With --engine a folder of such "
        "files, or a pattern such as 'rows/*.jsonl.gz'.",
        "",
    )
    output: Place = option(
        ".jsonl, .csv, .tsv, .conll for tags (also .gz, .zst) or .parquet; - for JSON lines on standard output; a "
        "folder with --shard-rows; with --engine a folder, or a pattern such as 'labelled/*.parquet'.",
        "-",
    )
    probabilities: bool = option("Also write the probabilities of all labels, tags or choices.", False)
    stride: int | None = option(
        "Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: as fine-tuned, or "
        "a quarter of --max-length.",
        None,
        at_least(0),
    )
    engine: Engine | None = option(
        "Predict each file of --input into a file of its own in --output. local: on this machine; ray: on a Ray "
        "cluster, or on this machine if there is none.",
        None,
    )
    workers: int = option("With --engine: number of processes, each with the model.", 1, at_least(1))
    worker_threads: int | None = option(
        "With --engine: threads (for Ray: CPUs) of each worker; default: 1, and all for a single local one.",
        None,
        at_least(1),
    )
    worker_gpus: float = option(
        "With --engine ray: GPUs of each worker; with 0.5, two workers share one.", 0.0, not_negative
    )

    idle = (
        Idle(
            ("workers", "worker_threads", "worker_gpus"),
            lambda given: given.engine is None,
            "belongs to --engine: give --engine local or ray.",
        ),
        Idle(("worker_gpus",), lambda given: given.engine != "ray", "belongs to --engine ray."),
    )
    only_for = (STRIDE_ONLY_FOR,)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_engine()

    @property
    def place(self) -> str:
        """The file or folder of the output; with `engine` without the pattern of names in it."""
        folder, _, last = self.output.rpartition("/")
        return folder or "." if self.engine is not None and "*" in last else self.output

    @property
    def locked(self) -> str | None:
        """What other runs must not write to; None for standard output and for an address."""
        return None if self.output == "-" or "://" in self.output else self.place

    def _check_engine(self) -> None:
        """Check what belongs to `engine`, and what does not go with it."""
        if self.engine is None:
            if "://" in self.output:
                raise ConfigurationError(f"--output {self.output} is an address: give --engine, or a local file.")
            return
        if not self.input or self.input == "-" or self.input.startswith("hub:") or type(self.input) is not str:
            raise ConfigurationError(
                "--engine reads files: --input must be a folder, a file or a pattern such as 'rows/*.jsonl'."
            )
        if self.output == "-":
            raise ConfigurationError("--engine writes a file for each file of --input: --output must be a folder.")
        if self.shard_rows is not None:
            raise ConfigurationError("--shard-rows does not go with --engine, which writes a file for each input file.")
        if self.precision == "auto":
            raise ConfigurationError(
                "--precision auto decides by a run's first rows, so files could be read in different precisions: "
                "decide once, with --precision auto on a sample, and give bf16 or fp32 by name."
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
    language: str | None = option("Language of the text, whose adapter is used.", None)
    identify: Identify = option(IDENTIFY_TEXT, False)
    fallback: Fallback | None = option(
        "relative: for a language that the model lacks, use the adapter of the most closely related one.", None
    )
    top_k: int = option("Number of candidates per <mask>.", 5, at_least(1))
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language is None and self.identify is False:
            raise ConfigurationError("Missing: --language (of the text), or --identify.")
