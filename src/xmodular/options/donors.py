"""The options of `donors`, and those that it shares with `extend`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import REVISION, Options, at_least, between, option


@dataclass(frozen=True, kw_only=True)
class DonorsOptions(Options):
    """Rank a model's languages, and averages of them, as the start for a new language or as the reader of a dialect."""

    verb, home = "donors", "xmodular.donor_ranking:donors"
    example = "xmodular donors --model runs/base --text gsw.txt --language gsw"
    first = ("model", "text", "language", "output", "overwrite")
    headings = {"candidates": "What is compared", "sample_bytes": "How it is measured"}

    model: str = option("Model that is to read the text or to get the language: a folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    text: Path = option(
        "Text in the new language or dialect: a .txt, .jsonl (also .gz) or .parquet file, or a folder of <language>.* "
        "files."
    )
    language: str | None = option(
        "The text's language, such as gsw, for its files in a folder and for its relatives; default: unknown.",
        None,
    )
    output: Path | None = option("Write the ranking to this JSON file.", None)
    overwrite: bool = option("Replace the ranking in --output.", False)
    candidates: tuple[str, ...] = option("Only these languages of the model, comma-separated; default: all.", ())
    most: int = option("Most languages in an average or mixture; 1: only single languages.", 5, at_least(1))
    reference: Path | None = option(
        "Folder of <language>.* files in the model's languages: also shows how many of the text's pieces each uses.",
        None,
    )
    text_field: str = option("Name of the text field (JSON Lines) or text column (Parquet).", "text")
    sample_bytes: int = option(
        "Bytes of text to measure on, the first lines of every file; a quarter of it for all languages, all for the "
        "best.",
        16_000,
        at_least(500),
    )
    block_size: int = option("Tokens per block, including the leading <s>; a line has its own blocks.", 64, at_least(8))
    mask_probability: float = option("Share of tokens to predict.", 0.15, between(0.001, 0.9))
    batch_size: int = option("Blocks per forward pass.", 32, at_least(1))
    seed: int = option("Random seed of the masks, which are the same for all candidates.", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and self.output.suffix != ".json":
            raise ConfigurationError(f"--output is {self.output}: it must be a .json file.")
