"""The options of `pretrain`, and those that it shares with `extend` and `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import (
    REVISION,
    Idle,
    Options,
    Packing,
    Place,
    Precision,
    Schedule,
    Trainable,
    at_least,
    between,
    flag_of,
    not_negative,
    option,
    positive,
)

_PIECES = 32_000  # of a new vocabulary


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Options that pretraining and fine-tuning share."""

    headings = {"output_dir": "Training"}

    output_dir: Path = option("Folder for the model, its tokenizer and its metrics.")
    epochs: float = option("Passes over the training data; ignored with --max-steps.", 1.0)
    max_steps: int | None = option("Number of optimiser steps.", None)
    batch_size: int = option("Rows per device and forward pass.", 32, at_least(1))
    accumulation: int = option("Forward passes per optimiser step.", 1, at_least(1))
    learning_rate: float = option("Peak learning rate; see --schedule.", 5e-4, positive)
    warmup: float = option("Warm-up in steps, or as a share of all steps if below 1.", 0.06, not_negative)
    weight_decay: float = option("AdamW's weight decay.", 0.01, not_negative)
    max_grad_norm: float = option("Largest gradient norm (clipping); 0: no clipping.", 1.0, not_negative)
    precision: Precision = option("auto: bf16 on a GPU that supports it, fp32 elsewhere.", "auto")
    log_every: int = option("Steps between two log entries of the loss.", 50, at_least(1))
    seed: int = option("Random seed: initialisation, order of the data, masks, dropout.", 0)
    overwrite: bool = option("Replace the run in --output-dir, finished or not.", False)
    resume: bool = option("Continue the run in --output-dir even if options differ or it is finished.", False)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise ConfigurationError("--resume and --overwrite cannot be used together.")
        if any(value is not None and positive(value) for value in (self.max_steps, self.epochs)):
            raise ConfigurationError("--max-steps and --epochs must be positive: there would be nothing to train.")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions(TrainingOptions):
    """Options that pretraining and adding a language share."""

    headings = {
        "text_field": "Text and validation",
        "block_size": "Blocks and masks",
        "schedule": "The course of a run",
    }

    text_field: str = option("Name of the text field (JSON Lines) or text column (Parquet, data sets).", "text")
    max_line: int = option("Most characters per line; longer lines are split at a space.", 100_000, at_least(100))
    dev_text: Path | None = option("Folder of <language>.txt validation files; default: lines are held out.", None)
    dev_fraction: float = option("Share of lines held out for validation, without --dev-text.", 0.01, between(0.0, 0.5))
    dev_blocks: int = option(
        "Most validation blocks per language, counted as 4 bytes per token: the same lines with any vocabulary.",
        32,
        at_least(1),
    )
    block_size: int = option("Tokens per block (training sequence), including the leading <s>.", 256, at_least(8))
    packing: Packing = option(
        "fill: blocks cross line ends; documents: no block mixes documents; lines: each line has its own blocks.",
        "fill",
    )
    mask_probability: float = option("Share of tokens to predict (mlm only).", 0.15, between(0.001, 0.9))
    whole_words: bool = option("Mask whole words: all tokens of a word together (mlm only).", False)
    schedule: Schedule = option(
        "Learning rate after warm-up; polynomial has degree 2, wsd is constant and falls at the end.", "linear"
    )
    decay: float = option("Share of all steps, at the end, in which --schedule wsd falls.", 0.1, between(0.0, 1.0))
    eval_every: int | None = option("Steps between validations; there is always one at the end.", None, at_least(1))
    save_every: int | None = option("Steps between checkpoints; none: no checkpoints.", 1000, at_least(1))
    keep_checkpoints: int = option("How many checkpoints to keep, the newest ones; 0: all.", 2, at_least(0))
    workers: int = option("Number of data loading processes.", 0)
    cache_dir: Path | None = option("Folder for tokenised blocks; default: <output-dir>/blocks.", None)

    idle = tuple[Idle, ...]([Idle(("decay",), lambda given: given.schedule != "wsd", "is for --schedule wsd.")])


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(LanguageModelOptions):
    """Pretrain a modular masked language model from text files, from scratch or from an existing model."""

    verb, home = "pretrain", "xmodular.training:pretrain"
    example = "xmodular pretrain --text corpus/text --output-dir runs/base --preset mini --vocab-size 16000"
    first = ("text", "output_dir", "model", "preset", "max_steps")
    headings = {
        "model": "Continuing with a model",
        "text": "Languages and data sets",
        "tokenizer": "A new model",
        "alpha": "Mixing languages",
        "shared": "Model and objective",
    }

    model: str | None = option(
        "Continue training this X-MOD model (folder or name on the Hub); it keeps its shape, languages and tokenizer.",
        None,
    )
    revision: str | None = option(REVISION.format("model"), None)
    trainable: Trainable = option("Parameters to train; anything but all needs --model.", "all")
    head_steps: int | None = option(
        "First train only the masked-LM head, for this many steps; a --model without a head gets a new one.",
        None,
        at_least(0),
    )
    text: Path = option("Folder of <language>.<anything>.txt, .jsonl (also .gz) or .parquet files, or hub:<data set>.")
    languages: tuple[str, ...] = option(
        "Train on these languages only, comma-separated; default: all in the folder.", ()
    )
    dataset_config: str | None = option(
        "Configuration of the data set; {language} is the language's code, {subtag} its first part.", None
    )
    dataset_split: str = option("Split of the data set; {language} and {subtag} as above.", "train")
    dataset_streaming: bool = option("Stream the data set in every pass instead of downloading it.", False)
    dataset_rows: int | None = option("Rows to read per language; default: all.", None, at_least(1))
    tokenizer: Place | None = option(
        "Tokenizer folder or sentencepiece.bpe.model; default: the one of --model, or a new one is trained.", None
    )
    vocab_size: int | None = option(
        "Size of a newly trained vocabulary, with special tokens; default: 32000.", None, at_least(8)
    )
    byte_fallback: bool = option("Encode unknown characters as bytes (takes 256 pieces of the vocabulary).", False)
    preset: str | None = option(
        "Model shape: tiny, mini, small, base, large-prenorm, or a released checkpoint; default: small.", None
    )
    overrides: Mapping[str, Any] | None = option(
        "Changes to the preset, as name=value,name=value; with --model, only dropout may change.", None
    )
    alpha: float = option(
        "Smoothing: a language with share p of the text is sampled in proportion to p^alpha.", 0.3, between(0.0, 1.0)
    )
    alpha_end: float | None = option(
        "Value of alpha at the end of training, reached linearly; default: the same.", None, between(0.0, 1.0)
    )
    mixing: Literal["tokens", "batch"] = option(
        "tokens: a batch mixes languages; batch: each batch of a process has one language.", "tokens"
    )
    batch_tokens: int | None = option("Tokens per device and forward pass, instead of --batch-size.", None)
    shared: bool = option("Use one adapter for all languages: a dense model of the same active size.", False)
    objective: Literal["mlm", "clm"] | None = option(
        "mlm: predict masked tokens; clm: predict the next token; default: the objective of --model, or mlm.",
        None,
    )
    fsdp: bool = option("Shard weights, gradients and optimiser state over the processes (torchrun).", False)
    report_to: Literal["none", "tensorboard"] = option(
        "tensorboard: also log losses to <output-dir>/tensorboard.", "none"
    )

    idle = (
        Idle(
            ("dataset_config", "dataset_split", "dataset_streaming", "dataset_rows"),
            lambda given: not str(given.text).startswith("hub:"),
            "is for data sets: --text hub:<data set>.",
        ),
        Idle(("batch_size",), lambda given: given.batch_tokens is not None, "has no effect beside --batch-tokens."),
        Idle(
            ("whole_words", "mask_probability"),
            lambda given: given.objective == "clm",
            "is about masking; --objective clm masks nothing.",
        ),
        Idle(
            ("byte_fallback", "vocab_size"),
            lambda given: given.model is None and given.tokenizer is not None,
            "is for a new vocabulary; --tokenizer has its own.",
        ),
    )

    def __post_init__(self) -> None:
        if self.tokenizer is not None and self.model is None and self.vocab_size == _PIECES:  # as a run records it
            object.__setattr__(self, "vocab_size", None)
        super().__post_init__()
        if self.model is None:
            for name, value in (("vocab_size", _PIECES), ("preset", "small"), ("objective", "mlm")):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, value)
        self._check_model()
        if self.batch_tokens is not None:
            if self.batch_tokens < self.block_size:
                raise ConfigurationError(f"batch_tokens must be at least {self.block_size}; got {self.batch_tokens}.")
            if self.mixing == "batch":
                raise ConfigurationError("--batch-tokens needs --mixing tokens; with --mixing batch, set --batch-size.")

    def _check_model(self) -> None:
        """Raises ConfigurationError if options contradict --model, or make no sense without it."""
        if self.model is None:
            if self.trainable != "all" or self.head_steps is not None:
                flag = "--head-steps" if self.trainable == "all" else f"--trainable {self.trainable}"
                raise ConfigurationError(f"{flag} needs --model: from scratch, everything has to be trained.")
            return
        for name, keeps in (("preset", "shape"), ("vocab_size", "shape"), ("shared", ""), ("byte_fallback", "")):
            value = getattr(self, name)
            if value not in (None, False):
                shown = f"{flag_of(name)} {value}" if keeps else flag_of(name)
                raise ConfigurationError(
                    f"{shown} describes a new model; {self.model} keeps its own {keeps or 'adapters'} and vocabulary."
                )
        if self.trainable == "head" and self.head_steps is not None:
            raise ConfigurationError("--trainable head trains only the head: set --max-steps instead of --head-steps.")
