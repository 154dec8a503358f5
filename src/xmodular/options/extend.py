"""The options of `extend`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import REVISION, Place, StartRows, at_least, flag_of, option, usual
from xmodular.options.pretrain import LanguageModelOptions

# What is about text to be masked, or about a vocabulary that is trained: nothing to translations.
_OF_TEXT = (
    "new_vocabulary",
    "tokenizer",
    "start_rows",
    "byte_fallback",
    "dev_text",
    "dev_blocks",
    "text_field",
    "max_line",
    "packing",
    "mask_probability",
    "whole_words",
    "cache_dir",
)


@dataclass(frozen=True, kw_only=True)
class ExtendOptions(LanguageModelOptions):
    """Add a language to a pretrained model: train its adapter on raw text or translations, and nothing else."""

    verb, home = "extend", "xmodular.training:extend"
    example = "xmodular extend --model runs/base --language gsw --text gsw.txt --init-from de --output-dir runs/gsw"
    first = ("model", "language", "text", "parallel", "output_dir")
    headings = {
        "model": "The new language",
        "new_vocabulary": "A vocabulary of its own",
        "trainable": "What trains, and the pack",
    }

    model: str = option("Model to extend, with a masked-LM head for --text: a folder, or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    language: str = option("Code of the new language, such as gsw or rm_CH.")
    text: Path | None = option(
        "Its text: a .txt, .jsonl (also .gz) or .parquet file, or a folder of <language>.* files.", None
    )
    parallel: Place | None = option(
        "In place of --text: its sentences beside their translations, a .tsv, .csv, .jsonl or .parquet file whose "
        "columns are named by languages. The adapter learns to give a sentence the states of its translations. A tenth "
        "is held out, or a hundred, or --dev-fraction if more; there are 300 steps at least without --max-steps.",
        None,
    )
    init_from: tuple[str, ...] = option(
        "Start from these languages' adapters: one, several (averaged), or with weights (de=2,nl=1); neutral: adds "
        "nothing at first; default: random.",
        (),
    )
    new_vocabulary: int | None = option("Train it a vocabulary of its own, of so many pieces.", None, at_least(8))
    tokenizer: Place | None = option("Give it this tokenizer for a vocabulary of its own.", None)
    start_rows: StartRows = option(
        "New pieces that the model does not know start as the mean of its pieces that spell them, or at random.",
        "pieces",
    )
    byte_fallback: bool = option("With --new-vocabulary: spell unknown characters in bytes (256 pieces).", False)
    trainable: Literal["language", "all"] = option(
        "language: its adapter (and vocabulary); all: the whole model, which moves the other languages too.", "language"
    )
    licence: str | None = option("Licence of the language pack, as an SPDX identifier.", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.text is None) == (self.parallel is None):
            raise ConfigurationError("Give --text or --parallel: what the language is learned from, one of them.")
        for name in _OF_TEXT:
            if self.parallel is not None and getattr(self, name) != usual(self)[name]:
                raise ConfigurationError(f"{flag_of(name)} goes with --text, not with --parallel.")
        if self.new_vocabulary is not None and self.tokenizer is not None:
            raise ConfigurationError("--new-vocabulary trains a tokenizer, --tokenizer takes one: give one of them.")
