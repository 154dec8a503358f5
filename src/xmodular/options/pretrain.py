"""The options of `pretrain`, and those that it shares with `extend` and `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import (
    REVISION,
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


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """What pretraining and fine-tuning have in common."""

    headings = {"output_dir": "Training"}

    output_dir: Path = option("Where the model, its tokenizer and its metrics go.")
    epochs: float = option("Passes over as many rows as there are; ignored with --max-steps.", 1.0)
    max_steps: int | None = option("Optimiser steps.", None)
    batch_size: int = option("Rows (blocks) per device and forward pass.", 32, at_least(1))
    accumulation: int = option("Forward passes per optimiser step.", 1, at_least(1))
    learning_rate: float = option("Peak learning rate; linear warm-up, linear decay.", 5e-4, positive)
    warmup: float = option("Warm-up in steps, or as a share of all steps if below 1.", 0.06, not_negative)
    weight_decay: float = option("AdamW's weight decay.", 0.01, not_negative)
    max_grad_norm: float = option("Gradient clipping by norm; 0: none.", 1.0, not_negative)
    precision: Precision = option("auto takes bf16 on a GPU that has it and fp32 elsewhere.", "auto")
    log_every: int = option("Log the loss every so many steps.", 50, at_least(1))
    seed: int = option("Seed of everything that is drawn: initialisation, order, masks, dropout.", 0)
    overwrite: bool = option("Replace the run in --output-dir, finished or not.", False)
    resume: bool = option("Go on with the run in --output-dir although options differ, or it is finished.", False)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise ConfigurationError("--resume and --overwrite exclude each other.")
        if any(value is not None and positive(value) for value in (self.max_steps, self.epochs)):
            raise ConfigurationError("--max-steps and --epochs must be positive: there would be nothing to train.")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions(TrainingOptions):
    """What pretraining and growing a language have in common."""

    headings = {
        "text_field": "Reading text, and holding out some of it",
        "block_size": "Blocks and masks",
        "schedule": "The course of a run",
    }

    text_field: str = option("Field of JSON Lines, column of Parquet and data sets with the text.", "text")
    max_line: int = option("Characters a line; longer ones are cut at a space.", 100_000, at_least(100))
    dev_text: Path | None = option("Folder of <language>.txt validation files; default: hold out lines.", None)
    dev_fraction: float = option(
        "Share of lines held out for validation where there is no --dev-text.", 0.01, between(0.0, 0.5)
    )
    dev_blocks: int = option(
        "Validation reads at most so many blocks of a language, at 4 bytes a token: the same lines for any vocabulary.",
        32,
        at_least(1),
    )
    block_size: int = option("Tokens a block (a training sequence), the leading <s> included.", 256, at_least(8))
    packing: Packing = option(
        "fill: blocks run across lines; documents: no block mixes documents; lines: a line has blocks of its own.",
        "fill",
    )
    mask_probability: float = option("Share of tokens to predict (mlm).", 0.15, between(0.001, 0.9))
    whole_words: bool = option("Choose the tokens of a word together (mlm).", False)
    schedule: Schedule = option(
        "Learning rate after warm-up; polynomial is of degree 2, wsd falls at the end.", "linear"
    )
    decay: float = option("Share of all steps in which --schedule wsd falls.", 0.1, between(0.0, 1.0))
    eval_every: int | None = option("Validate every so many steps; always at the end.", None, at_least(1))
    save_every: int | None = option("Write a checkpoint every so many steps; none: no checkpoints.", 1000, at_least(1))
    keep_checkpoints: int = option("Keep so many checkpoints, the newest ones; 0 keeps all.", 2, at_least(0))
    workers: int = option("Data loading processes.", 0)
    cache_dir: Path | None = option("Tokenised blocks are kept here; default: <output-dir>/blocks.", None)


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(LanguageModelOptions):
    """Pretrain a modular masked language model from text files, from scratch or from a model that is there."""

    verb, home = "pretrain", "xmodular.training:pretrain"
    example = "xmodular pretrain --text corpus/text --output-dir runs/base --preset mini --vocab-size 16000"
    first = ("text", "output_dir", "model", "preset", "max_steps")
    headings = {
        "model": "Going on with a model",
        "text": "Languages and data sets",
        "tokenizer": "A new model",
        "alpha": "Mixing languages",
        "shared": "What is trained, and how",
    }

    model: str | None = option(
        "Go on training this X-MOD model, a folder or a name on the Hub: its shape, languages and tokenizer stay.", None
    )
    revision: str | None = option(REVISION.format("model"), None)
    trainable: Trainable = option("What trains; anything but all needs --model.", "all")
    head_steps: int | None = option(
        "Train the masked-LM head alone for so many steps first; a --model without a head gets a new one.",
        None,
        at_least(0),
    )
    text: Path = option("Folder of <language>.<anything>.txt, .jsonl (also .gz) or .parquet; or hub:<data set>.")
    languages: tuple[str, ...] = option("Only these languages, comma-separated; default: all in the folder.", ())
    dataset_config: str | None = option(
        "Configuration of the data set; {language} is the language's code, {subtag} its first part.", None
    )
    dataset_split: str = option("Split of the data set; {language} and {subtag} as above.", "train")
    dataset_streaming: bool = option("Read the data set from afar in every pass instead of downloading it.", False)
    dataset_rows: int | None = option("Read so many rows of each language; default: all.", None, at_least(1))
    tokenizer: Place | None = option(
        "Tokenizer folder or sentencepiece.bpe.model; default: that of --model, else train one.", None
    )
    vocab_size: int | None = option(
        "Size of the trained vocabulary, special tokens included; default: 32000.", None, at_least(8)
    )
    byte_fallback: bool = option("Spell unknown characters in bytes (256 pieces of the vocabulary).", False)
    preset: str | None = option(
        "Model shape: tiny, mini, small, base, large-prenorm, or a released checkpoint; default: small.", None
    )
    overrides: Mapping[str, Any] | None = option(
        "Changes to the preset, as name=value,name=value; with --model, its dropout may change.", None
    )
    alpha: float = option("Smoothing of language shares: q proportional to p^alpha.", 0.3, between(0.0, 1.0))
    alpha_end: float | None = option(
        "Alpha of the last draw, on a line from --alpha; default: the same.", None, between(0.0, 1.0)
    )
    mixing: Literal["tokens", "batch"] = option(
        "tokens: a batch mixes languages; batch: one language a batch and process.", "tokens"
    )
    batch_tokens: int | None = option("Tokens per device and forward pass, in place of --batch-size.", None)
    shared: bool = option("One adapter for all languages: the dense model of the same active size.", False)
    objective: Literal["mlm", "clm"] | None = option(
        "mlm: restore masked tokens; clm: predict each next token; default: what --model was trained for, else mlm.",
        None,
    )
    fsdp: bool = option("Shard weights, gradients and optimiser over the processes (torchrun).", False)
    report_to: Literal["none", "tensorboard"] = option(
        "tensorboard: losses also go to <output-dir>/tensorboard.", "none"
    )

    def __post_init__(self) -> None:
        if self.model is None:
            for name, value in (("vocab_size", 32_000), ("preset", "small"), ("objective", "mlm")):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, value)
        super().__post_init__()
        self._check_model()
        if self.batch_tokens is not None:
            if self.batch_tokens < self.block_size:
                raise ConfigurationError(f"batch_tokens must be at least {self.block_size}; got {self.batch_tokens}.")
            if self.mixing == "batch":
                raise ConfigurationError("--batch-tokens needs --mixing tokens; with --mixing batch, set --batch-size.")
        if self.objective == "clm" and self.whole_words:
            raise ConfigurationError("--whole-words chooses what to mask; --objective clm masks nothing.")

    def _check_model(self) -> None:
        """Raises ConfigurationError if options contradict --model, or make no sense without it."""
        if self.model is None:
            if self.trainable != "all" or self.head_steps is not None:
                flag = "--head-steps" if self.trainable == "all" else f"--trainable {self.trainable}"
                raise ConfigurationError(f"{flag} needs --model: in a model from scratch, everything has to train.")
            return
        for name, keeps in (("preset", "shape"), ("vocab_size", "shape"), ("shared", ""), ("byte_fallback", "")):
            value = getattr(self, name)
            if value not in (None, False):
                shown = f"{flag_of(name)} {value}" if keeps else flag_of(name)
                raise ConfigurationError(
                    f"{shown} describes a new model; {self.model} keeps its own {keeps or 'adapters'} and vocabulary."
                )
        if self.trainable == "head" and self.head_steps is not None:
            raise ConfigurationError("--trainable head trains nothing but the head: --max-steps says how long.")
