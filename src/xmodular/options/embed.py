"""The options of `embed`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import Place, Pooling, option
from xmodular.options.predict import RowsOptions

_BINARY = (".parquet", ".npy", ".npy.gz", ".npy.zst")


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(RowsOptions):
    """Add the vectors of texts to rows, each text read by the adapter of its language."""

    verb, home = "embed", "xmodular.embeddings:embed"
    example = "xmodular embed --model runs/search --input articles.jsonl --identify --output vectors.parquet"
    first = ("model", "input", "text", "output", "language")
    headings = {"pooling": "Vectors"}

    model: str = option("Model with an encoder: a folder, or a name on the Hub; fine-tuned or not.")
    output: Place = option(
        ".parquet, with vectors as lists of fixed size; .npy, the vectors alone; .jsonl (also .gz); - for JSON lines "
        "on standard output; a folder of .parquet with --shard-rows.",
        "-",
    )
    pooling: Pooling | None = option(
        "A text's vector: the first token's state, or the mean of all; default: as recorded in the model, else mean.",
        None,
    )
    normalize: bool | None = option("Give vectors the length 1; default: as recorded in the model, else yes.", None)
    prefix: str | None = option(
        'Put before every text, such as "query: "; default: as recorded in the model, else nothing.', None
    )
    vectors: Literal["fp32", "fp16"] = option("Precision of the vectors in .parquet and .npy.", "fp32")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vectors == "fp16" and self.shard_rows is None and not self.output.lower().endswith(_BINARY):
            raise ConfigurationError(
                f"--vectors fp16 is for .parquet and .npy; in {self.output!r:.80} numbers are written as text."
            )
