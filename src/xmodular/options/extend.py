"""The options of `extend`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import REVISION, Idle, Place, StartRows, at_least, option, positive
from xmodular.options.pretrain import LanguageModelOptions

Objective = Literal["distance", "contrast", "both", "linear", "predictions"]
# Options that apply to --text only, not to --parallel.
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
# Options that apply to training only, not to the best linear map.
_OF_STEPS = (
    *("epochs", "max_steps", "accumulation", "learning_rate", "warmup", "weight_decay", "max_grad_norm", "log_every"),
    *("schedule", "decay", "eval_every", "save_every", "keep_checkpoints", "workers"),
)


@dataclass(frozen=True, kw_only=True)
class ExtendOptions(LanguageModelOptions):
    """Add a language to a model: train only its adapter, on raw text or translations."""

    verb, home = "extend", "xmodular.training:extend"
    example = "xmodular extend --model runs/base --language gsw --text gsw.txt --init-from de --output-dir runs/gsw"
    first = ("model", "language", "text", "parallel", "output_dir")
    headings = {
        "model": "The new language",
        "new_vocabulary": "Its own vocabulary",
        "trainable": "Trained parameters, and the pack",
    }

    model: str = option(
        "Model to extend: a folder or a name on the Hub. --text needs one with a masked-LM head; --parallel takes any, "
        "also a fine-tuned one."
    )
    revision: str | None = option(REVISION.format("model"), None)
    language: str = option("Code of the new language, such as gsw or rm_CH.")
    replace: bool = option(
        "Give a language that the model already has a new adapter, in place of its own, which is measured too.", False
    )
    text: Path | None = option(
        "Text in the language: a .txt, .jsonl (also .gz) or .parquet file, or a folder of <language>.* files.", None
    )
    parallel: Place | None = option(
        "Instead of --text: sentences with translations, a .tsv, .csv, .jsonl or .parquet file whose columns are named "
        "by language. The adapter learns to give a sentence the states of its translations. Held out: --dev-fraction "
        "of the rows, but at least 100, or a tenth of a small file. Without --max-steps, there are at least 300 steps.",
        None,
    )
    objective: Objective = option(
        "With --parallel: distance, of a sentence's mean state to that of its translations; contrast: by cosine, it "
        "finds them among all, and they find it in its batch; both; linear: no training, but the best linear map in "
        "the last layer, which suits a few hundred sentences; predictions: what a fine-tuned classifier predicts for "
        "the translations, which must be texts such as the task has.",
        "distance",
    )
    temperature: float = option("Temperature of the softmax over cosines, for contrast.", 0.01, positive)
    prefix: str | None = option(
        'With --parallel: text before every sentence, such as "query: "; give what the vectors are read with.', None
    )
    init_from: tuple[str, ...] = option(
        "Start from the adapter of a language, the average of several, or a weighted one (de=2,nl=1); auto: from the "
        "best of these for the text, as `donors` finds it; neutral: adds nothing at first; default: random. With "
        "--replace, the language's old adapter may be among them.",
        (),
    )
    new_vocabulary: int | None = option(
        "Train a vocabulary for this language, with this many pieces.", None, at_least(8)
    )
    tokenizer: Place | None = option("Use this tokenizer as the language's own vocabulary.", None)
    start_rows: StartRows = option(
        "pieces: embeddings of new pieces start as the mean of the known pieces that spell them; random: random.",
        "pieces",
    )
    byte_fallback: bool = option("With --new-vocabulary: encode unknown characters as bytes (takes 256 pieces).", False)
    trainable: Literal["language", "all"] = option(
        "language: its adapter (and vocabulary); all: the whole model, which changes other languages too.", "language"
    )
    licence: str | None = option("Licence of the language pack, as an SPDX identifier.", None)

    idle = (
        Idle(_OF_TEXT, lambda given: given.parallel is not None, "goes with --text, not with --parallel."),
        Idle(
            ("objective", "temperature", "prefix"),
            lambda given: given.parallel is None,
            "goes with --parallel, not with --text.",
        ),
        Idle(
            ("temperature",),
            lambda given: given.objective not in ("contrast", "both"),
            "is for --objective contrast or both.",
        ),
        Idle(
            _OF_STEPS,
            lambda given: given.objective == "linear",
            "is for training; --objective linear solves for the adapter in one pass.",
        ),
        Idle(("byte_fallback",), lambda given: given.new_vocabulary is None, "needs --new-vocabulary."),
        Idle(
            ("start_rows",),
            lambda given: given.new_vocabulary is None and given.tokenizer is None,
            "is for a vocabulary of its own: give --new-vocabulary or --tokenizer.",
        ),
        Idle(
            ("dev_fraction",),
            lambda given: given.dev_text is not None,
            "holds out lines of --text; with --dev-text, none are.",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.text is None) == (self.parallel is None):
            raise ConfigurationError("Give either --text or --parallel, to learn the language from.")
        if self.objective == "linear" and (self.init_from not in ((), ("neutral",)) or self.trainable == "all"):
            raise ConfigurationError("--objective linear starts from neutral, and sets the language's adapter only.")
        if self.new_vocabulary is not None and self.tokenizer is not None:
            raise ConfigurationError("--new-vocabulary trains a tokenizer, --tokenizer uses an existing one: give one.")
