"""The options of every verb: one frozen dataclass each, for Python, the command line and YAML files alike.

A field's ``help`` is the help text of its flag. `build` makes an options object from loose values (keywords, flags or
a YAML file), with types brought into line and mistakes named; nothing here imports torch.
"""

# ruff: noqa: RUF009 (`_option` makes a dataclass field)

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from xmodular.errors import ConfigurationError, in_one_line, of_system
from xmodular.hub import on_hub
from xmodular.language_conditions import ASKED, CONDITIONS, LanguageCondition

T = TypeVar("T")

_MOST_YAML, _MOST_VALUES = 2**18, 20_000  # bytes of a file of options, and values in it

Trainable = Literal["shared", "all", "adapters", "head", "all-but-adapters"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Packing = Literal["fill", "documents", "lines"]
WeightPrecision = Literal["keep", "fp32", "bf16", "fp16"]
KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as torch calls them
Fallback = Literal["relative"]
Pooling = Literal["first", "mean"]
StartRows = Literal["pieces", "random"]
_REVISION = "Branch, tag or commit of the {} on the Hub; name@revision says the same of any name there."
Schedule = Literal["linear", "polynomial", "cosine", "wsd", "constant"]


def _option(help: str, default: Any = dataclasses.MISSING, *, positional: bool = False) -> Any:
    """A dataclass field with its help text; without a default it is required."""
    return dataclasses.field(default=default, metadata={"help": help, "positional": positional})


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What pretraining and fine-tuning have in common."""

    output_dir: Path = _option("Where the model, its tokenizer and its metrics go.")
    epochs: float = _option("Passes over as many rows as there are; ignored with --max-steps.", 1.0)
    max_steps: int | None = _option("Optimiser steps.", None)
    batch_size: int = _option("Rows (blocks) per device and forward pass.", 32)
    accumulation: int = _option("Forward passes per optimiser step.", 1)
    learning_rate: float = _option("Peak learning rate; linear warm-up, linear decay.", 5e-4)
    warmup: float = _option("Warm-up in steps, or as a share of all steps if below 1.", 0.06)
    weight_decay: float = _option("AdamW's weight decay.", 0.01)
    max_grad_norm: float = _option("Gradient clipping by norm; 0: none.", 1.0)
    precision: Precision = _option("auto takes bf16 on a GPU that has it and fp32 elsewhere.", "auto")
    log_every: int = _option("Log the loss every so many steps.", 50)
    seed: int = _option("Seed of everything that is drawn: initialisation, order, masks, dropout.", 0)
    overwrite: bool = _option("Replace the run in --output-dir, finished or not.", False)
    resume: bool = _option("Go on with the run in --output-dir although options differ, or it is finished.", False)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise ConfigurationError("--resume and --overwrite exclude each other.")
        positive = [value for value in (self.max_steps, self.epochs) if value is not None]
        if not all(0 < value < math.inf for value in positive):
            raise ConfigurationError("--max-steps and --epochs must be positive: there would be nothing to train.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ConfigurationError(f"learning_rate must be positive; got {self.learning_rate}.")
        for name in ("warmup", "weight_decay", "max_grad_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be a number from 0 up; got {getattr(self, name)}.")
        for name in ("batch_size", "accumulation", "log_every"):
            _check_at_least(name, getattr(self, name), 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModelOptions(TrainingOptions):
    """What pretraining and growing a language have in common."""

    text_field: str = _option("Field of JSON Lines, column of Parquet and data sets with the text.", "text")
    max_line: int = _option("Characters a line; longer ones are cut at a space.", 100_000)
    dev_text: Path | None = _option("Folder of <language>.txt validation files; default: hold out lines.", None)
    dev_fraction: float = _option("Share of lines held out for validation where there is no --dev-text.", 0.01)
    dev_blocks: int = _option(
        "Validation reads at most so many blocks of a language, at 4 bytes a token: the same lines for any vocabulary.",
        32,
    )
    block_size: int = _option("Tokens a block (a training sequence), the leading <s> included.", 256)
    packing: Packing = _option(
        "fill: blocks run across lines; documents: no block mixes documents; lines: a line has blocks of its own.",
        "fill",
    )
    mask_probability: float = _option("Share of tokens to predict (mlm).", 0.15)
    whole_words: bool = _option("Choose the tokens of a word together (mlm).", False)
    schedule: Schedule = _option(
        "Learning rate after warm-up; polynomial is of degree 2, wsd falls at the end.", "linear"
    )
    decay: float = _option("Share of all steps in which --schedule wsd falls.", 0.1)
    eval_every: int | None = _option("Validate every so many steps; always at the end.", None)
    save_every: int | None = _option("Write a checkpoint every so many steps; none: no checkpoints.", 1000)
    keep_checkpoints: int = _option("Keep so many checkpoints, the newest ones; 0 keeps all.", 2)
    workers: int = _option("Data loading processes.", 0)
    cache_dir: Path | None = _option("Tokenised blocks are kept here; default: <output-dir>/blocks.", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("mask_probability", self.mask_probability, 0.001, 0.9)
        _check_range("dev_fraction", self.dev_fraction, 0.0, 0.5)
        _check_at_least("block_size", self.block_size, 8)
        _check_at_least("dev_blocks", self.dev_blocks, 1)
        _check_at_least("max_line", self.max_line, 100)
        _check_range("decay", self.decay, 0.0, 1.0)
        _check_at_least("keep_checkpoints", self.keep_checkpoints, 0)
        for name in ("eval_every", "save_every"):
            if (number := getattr(self, name)) is not None:
                _check_at_least(name, number, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainOptions(LanguageModelOptions):
    """Pretrain a modular masked language model from text files, from scratch or from a model that is there."""

    model: str | None = _option(
        "Go on training this X-MOD model, a folder or a name on the Hub: its shape, languages and tokenizer stay.", None
    )
    revision: str | None = _option(_REVISION.format("model"), None)
    trainable: Trainable = _option("What trains; anything but all needs --model.", "all")
    head_steps: int | None = _option(
        "Train the masked-LM head alone for so many steps first; a --model without a head gets a new one.", None
    )
    text: Path = _option("Folder of <language>.<anything>.txt, .jsonl (also .gz) or .parquet; or hub:<data set>.")
    languages: tuple[str, ...] = _option("Only these languages, comma-separated; default: all in the folder.", ())
    dataset_config: str | None = _option(
        "Configuration of the data set; {language} is the language's code, {subtag} its first part.", None
    )
    dataset_split: str = _option("Split of the data set; {language} and {subtag} as above.", "train")
    dataset_streaming: bool = _option("Read the data set from afar in every pass instead of downloading it.", False)
    dataset_rows: int | None = _option("Read so many rows of each language; default: all.", None)
    tokenizer: str | None = _option(
        "Tokenizer folder or sentencepiece.bpe.model; default: that of --model, else train one.", None
    )
    vocab_size: int | None = _option("Size of the trained vocabulary, special tokens included; default: 32000.", None)
    byte_fallback: bool = _option("Spell unknown characters in bytes (256 pieces of the vocabulary).", False)
    preset: str | None = _option(
        "Model shape: tiny, mini, small, base, large-prenorm, or a released checkpoint; default: small.", None
    )
    overrides: Mapping[str, Any] | None = _option(
        "Changes to the preset, as name=value,name=value; with --model, its dropout may change.", None
    )
    alpha: float = _option("Smoothing of language shares: q proportional to p^alpha.", 0.3)
    alpha_end: float | None = _option("Alpha of the last draw, on a line from --alpha; default: the same.", None)
    mixing: Literal["tokens", "batch"] = _option(
        "tokens: a batch mixes languages; batch: one language a batch and process.", "tokens"
    )
    batch_tokens: int | None = _option("Tokens per device and forward pass, in place of --batch-size.", None)
    shared: bool = _option("One adapter for all languages: the dense model of the same active size.", False)
    objective: Literal["mlm", "clm"] | None = _option(
        "mlm: restore masked tokens; clm: predict each next token; default: what --model was trained for, else mlm.",
        None,
    )
    fsdp: bool = _option("Shard weights, gradients and optimiser over the processes (torchrun).", False)
    report_to: Literal["none", "tensorboard"] = _option(
        "tensorboard: losses also go to <output-dir>/tensorboard.", "none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "alpha_end"):
            if (value := getattr(self, name)) is not None:
                _check_range(name, value, 0.0, 1.0)
        if self.model is None:
            for name, value in (("vocab_size", 32_000), ("preset", "small"), ("objective", "mlm")):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, value)
        self._check_model()
        _check_at_least("vocab_size", self.vocab_size, 8)
        _check_at_least("head_steps", self.head_steps, 0)
        if self.dataset_rows is not None:
            _check_at_least("dataset_rows", self.dataset_rows, 1)
        if self.batch_tokens is not None:
            _check_at_least("batch_tokens", self.batch_tokens, self.block_size)
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
        for name, value in (("preset", self.preset), ("vocab_size", self.vocab_size)):
            if value is not None:
                flag = name.replace("_", "-")
                raise ConfigurationError(
                    f"--{flag} {value} describes a new model; {self.model} keeps its own shape and vocabulary."
                )
        for name in ("shared", "byte_fallback"):
            if getattr(self, name):
                flag = name.replace("_", "-")
                raise ConfigurationError(
                    f"--{flag} describes a new model; {self.model} keeps its own adapters and vocabulary."
                )
        if self.trainable == "head" and self.head_steps is not None:
            raise ConfigurationError("--trainable head trains nothing but the head: --max-steps says how long.")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtendOptions(LanguageModelOptions):
    """Add a language to a pretrained model: train its adapter on raw text or translations, and nothing else."""

    model: str = _option("Model to extend, with a masked-LM head for --text: a folder, or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    language: str = _option("Code of the new language, such as gsw or rm_CH.")
    text: Path | None = _option(
        "Its text: a .txt, .jsonl (also .gz) or .parquet file, or a folder of <language>.* files.", None
    )
    parallel: str | None = _option(
        "In place of --text: its sentences beside their translations, a .tsv, .csv, .jsonl or .parquet file whose "
        "columns are named by languages. The adapter learns to give a sentence the states of its translations. A tenth "
        "is held out, or a hundred, or --dev-fraction if more; there are 300 steps at least without --max-steps.",
        None,
    )
    init_from: tuple[str, ...] = _option(
        "Start from these languages' adapters: one, several (averaged), or with weights (de=2,nl=1); neutral: adds "
        "nothing at first; default: random.",
        (),
    )
    new_vocabulary: int | None = _option("Train it a vocabulary of its own, of so many pieces.", None)
    tokenizer: str | None = _option("Give it this tokenizer for a vocabulary of its own.", None)
    start_rows: StartRows = _option(
        "New pieces that the model does not know start as the mean of its pieces that spell them, or at random.",
        "pieces",
    )
    byte_fallback: bool = _option("With --new-vocabulary: spell unknown characters in bytes (256 pieces).", False)
    trainable: Literal["language", "all"] = _option(
        "language: its adapter (and vocabulary); all: the whole model, which moves the other languages too.", "language"
    )
    licence: str | None = _option("Licence of the language pack, as an SPDX identifier.", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.text is None) == (self.parallel is None):
            raise ConfigurationError("Give --text or --parallel: what the language is learned from, one of them.")
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        for name in _OF_TEXT:
            if self.parallel is not None and getattr(self, name) != usual[name]:
                raise ConfigurationError(f"--{name.replace('_', '-')} goes with --text, not with --parallel.")
        if self.new_vocabulary is not None and self.tokenizer is not None:
            raise ConfigurationError("--new-vocabulary trains a tokenizer, --tokenizer takes one: give one of them.")
        if self.new_vocabulary is not None:
            _check_at_least("new_vocabulary", self.new_vocabulary, 8)


# Learning rates of fine-tuning: at this width; of a new head in multiples, but no higher than this.
_RATE, _WIDTH, _NEW_HEAD, _HIGHEST = 2e-5, 768, 50, 2e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """Train a task in one language; the other languages keep their adapters and come along."""

    model: str = _option("Model folder (a pretrained one), or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    train: tuple[str, ...] = _option("Training files, comma-separated, or hub:<data set>:<configuration>:<split>.")
    language: str | None = _option(
        "Language whose adapter reads the training data; default: what its column `language` or the file's name says.",
        None,
    )
    task: str = _option(
        "classify: one or two texts and a label; regress: and a number; tag: a label a word; qa: the answer's place in "
        "a context; choice: one of several.",
        "classify",
    )
    recipe: str | None = _option("Named preset of options, such as xnli; `xmodular recipes` lists them.", None)
    dev: tuple[str, ...] = _option(
        "Validation files, in the training language; the weights that do best on them are kept.", ()
    )
    dev_fraction: float | None = _option(
        "Without --dev: share of the training rows that are held out for validation, the same ones with every seed.",
        None,
    )
    patience: int | None = _option("Stop after so many validations without a better one.", None)
    columns: Mapping[str, str] | None = _option("Names of columns, as text=review,label=stars.", None)
    skip_bad_rows: bool = _option("Leave out rows that cannot be read, and count them.", False)
    trainable: Trainable = _option("What trains; shared: all but embeddings and adapters.", "shared")
    tokenizer: str | None = _option("Tokenizer folder; default: the model's.", None)
    max_length: int = _option("Tokens a row, or a window of it, at most.", 128)
    stride: int | None = _option(
        "Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: a quarter of "
        "--max-length.",
        None,
    )
    epochs: float | None = _option(  # type: ignore[assignment]
        "Passes over the training files; ignored with --max-steps; default: 5, or as many as make 200 steps.",
        None,
    )
    learning_rate: float | None = _option(  # type: ignore[assignment]
        "Peak learning rate; default: 2e-5 for states 768 wide, more for narrower ones in proportion.", None
    )
    head_learning_rate: float | None = _option(
        "Peak learning rate of the task head; default: --learning-rate; where that is not given either, 50 times it "
        "(at most 2e-3) if the model comes without a head for the task.",
        None,
    )
    schedule: Literal["linear", "cosine", "constant"] = _option("Learning rate after warm-up.", "linear")
    adam_betas: tuple[float, ...] = _option("AdamW's two decay rates.", (0.9, 0.98))
    adam_epsilon: float = _option("AdamW's epsilon.", 1e-6)
    classifier_dropout: float | None = _option("Dropout in the task head; default: the model's.", None)
    pooling: Pooling | None = _option(
        "What the head of classify and regress reads: the first token's state, or the mean of all; default: what the "
        "model says.",
        None,
    )
    seeds: tuple[int, ...] = _option("Train once for each of these seeds, in <output-dir>/seed-<seed>.", ())
    eval_every: int | None = _option(
        "Validate every so many steps; default: after each pass, or every 10 steps where passes are shorter and "
        "neither --epochs nor --max-steps is given.",
        None,
    )
    save_every: int | None = _option(
        "Write a checkpoint every so many steps; none: at validations only, if they are the best so far.", 500
    )

    @staticmethod
    def with_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
        """The values over those of the recipe that they name.

        Raises:
            ConfigurationError: there is no such recipe, or it is for another task.
        """
        if values.get("recipe") is None:
            return dict(values)
        from xmodular.recipes import recipe

        chosen = recipe(str(values["recipe"]))
        if values.get("task", chosen.task) != chosen.task:
            raise ConfigurationError(f"The recipe {chosen.name} is for --task {chosen.task}, not {values['task']}.")
        return {"task": chosen.task, **chosen.values, **values}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.train:
            raise ConfigurationError("--train names no file.")
        if self.head_learning_rate is not None and not 0 < self.head_learning_rate < math.inf:
            raise ConfigurationError(f"head_learning_rate must be positive; got {self.head_learning_rate}.")
        _check_at_least("max_length", self.max_length, 8)
        _check_at_least("stride", self.stride, 0)
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise ConfigurationError(f"adam_betas are two numbers from 0 to below 1; got {self.adam_betas}.")
        if self.classifier_dropout is not None:
            _check_range("classifier_dropout", self.classifier_dropout, 0.0, 0.99)
        for name in ("patience", "eval_every", "save_every"):
            if (number := getattr(self, name)) is not None:
                _check_at_least(name, number, 1)
        if self.dev_fraction is not None:
            if self.dev:
                raise ConfigurationError("--dev names validation rows and --dev-fraction holds some out: give one.")
            _check_range("dev_fraction", self.dev_fraction, 0.001, 0.5)
        for name in ("patience", "eval_every"):
            if (number := getattr(self, name)) is not None and not self.validates:
                flag = f"--{name.replace('_', '-')}"
                if number == self._of_recipe(name):
                    flag = f"--recipe {self.recipe}, which sets {flag} {number},"
                raise ConfigurationError(f"{flag} needs --dev or --dev-fraction: there is nothing to validate on.")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigurationError(f"--seeds names a seed twice: {', '.join(map(str, self.seeds))}.")

    def with_rates(self, width: int, *, is_new: bool) -> FinetuneOptions:
        """The same with learning rates for a model, where none was given.

        A trained encoder moves in small steps, or it forgets what it hardly knew; a head that is drawn at random has
        everything to learn. Narrow models need larger steps (Yang et al. 2022: in inverse proportion to the width).

        Args:
            width: of the model's states.
            is_new: whether the task head is drawn at random.
        """
        if self.learning_rate is not None:
            return self
        rate = float(f"{_RATE * _WIDTH / width:.2g}")
        head = min(_NEW_HEAD * rate, _HIGHEST) if is_new else rate
        return dataclasses.replace(self, learning_rate=rate, head_learning_rate=self.head_learning_rate or head)

    @property
    def validates(self) -> bool:
        """Whether there are rows to validate on."""
        return bool(self.dev) or self.dev_fraction is not None

    def _of_recipe(self, name: str) -> Any:
        """What the recipe sets an option to; None without one."""
        if self.recipe is None:
            return None
        from xmodular.recipes import recipe

        return recipe(self.recipe).values.get(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Score models in many languages: each with its own adapter, and without switching, beside chance."""

    model: tuple[str, ...] = _option(
        "Models, comma-separated: folders or names on the Hub; the folder of a run with several seeds is one. A masked "
        "language model gives perplexities."
    )
    revision: str | None = _option(_REVISION.format("models"), None)
    data: tuple[str, ...] = _option(
        "Comma-separated: folders, or globs, of <language>.<split>.<ext> files (.txt for perplexity), a file with a "
        "column `language`, <language>=<file>, or hub:<data set>:<configuration>:<split> with {language} or {subtag} "
        "in it."
    )
    output_dir: Path | None = _option("Where results.json, results.md, report.html and the pictures go.", None)
    split: str = _option("Which split of a folder to read.", "test")
    languages: tuple[str, ...] = _option("Only these languages, comma-separated.", ())
    columns: Mapping[str, str] | None = _option(
        "Names of columns, as text=review,label=stars; default: as in training, where the rows have them.", None
    )
    skip_bad_rows: bool = _option("Leave out rows that cannot be read, and count them.", False)
    adapter: tuple[LanguageCondition, ...] = _option(
        "; ".join(f"{name}: {CONDITIONS[name].asked}" for name in ASKED) + ".", ("right", "source")
    )
    source: str | None = _option("The source language; default: the one the model was fine-tuned in.", None)
    fallback: Fallback | None = _option(
        "relative: files in languages that the model lacks are read by the adapter of their nearest relative.", None
    )
    tokenizer: str | None = _option("Tokenizer folder; default: the model's.", None)
    max_length: int | None = _option(
        "Tokens a row, or a window of it, at most; default: as fine-tuned, or 512; of perplexity's blocks 128.", None
    )
    stride: int | None = _option(
        "Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: as fine-tuned, or "
        "a quarter of --max-length.",
        None,
    )
    packing: Packing = _option("How perplexity's text becomes rows, as in pretraining.", "fill")
    batch_tokens: int = _option("Tokens a forward pass, padding included.", 8192)
    precision: WeightPrecision = _option("keep the weights' precision, or run the model in fp32, bf16 or fp16.", "keep")
    answers: Literal["mlqa", "squad"] = _option(
        "How answers (qa) are normalised before they are compared: mlqa, by language; squad, as English in every "
        "language, which is how XTREME scores XQuAD and TyDi QA.",
        "mlqa",
    )
    seed: int = _option("Seed of perplexity's masks.", 0)
    predictions: bool = _option("Also write every row's prediction, to predictions.jsonl in --output-dir.", False)
    overwrite: bool = _option("Replace the results in --output-dir.", False)

    def __post_init__(self) -> None:
        for name in ("batch_tokens",):
            _check_at_least(name, getattr(self, name), 1)
        _check_at_least("max_length", self.max_length, 8)
        _check_at_least("stride", self.stride, 0)
        if not self.model or not self.data:
            raise ConfigurationError(f"--{'data' if self.model else 'model'} names nothing.")
        if not self.adapter:
            raise ConfigurationError("--adapter needs at least one of: right, source, relative, none.")
        if len(set(self.adapter)) < len(self.adapter):
            raise ConfigurationError(f"--adapter names one twice: {', '.join(self.adapter)}.")
        if self.predictions and self.output_dir is None:
            raise ConfigurationError("--predictions needs --output-dir: that is where they go.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Add a fine-tuned model's predictions to rows: label, score, tags, spans or answer, and who read them."""

    model: str = _option("Fine-tuned model: a folder, or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    input: str = _option(
        "Rows: .jsonl, .csv, .tsv, .parquet, .json or CoNLL, .txt with a text a line, a folder of .parquet, "
        "hub:<data set>:<configuration>:<split>, or - for JSON lines on standard input.",
        "",
    )
    text: str | None = _option("One text to read, in place of --input.", None)
    output: str = _option(
        ".jsonl, .csv, .tsv, .conll for tags (also .gz) or .parquet; - for JSON lines on standard output; a folder "
        "with --shard-rows.",
        "-",
    )
    probabilities: bool = _option("Also write the probabilities of all labels, tags or choices.", False)
    language: str | None = _option("Language of the rows that name none.", None)
    identify: bool = _option("Identify the language of rows for which none is known.", False)
    threshold: float = _option("Identifications with less confidence leave the language unsure.", 0.3)
    default_language: str | None = _option(
        "Language of rows that name none, with --identify of unsure ones; default: the model's own, with --identify "
        "the one it was fine-tuned in.",
        None,
    )
    fallback: Fallback | None = _option(
        "relative: rows in languages that the model lacks are read by the adapter of their nearest relative.", None
    )
    columns: Mapping[str, str] | None = _option(
        "Names of columns, as text=review,language=lang; default: as in training, where the rows have them.", None
    )
    skip_bad_rows: bool = _option("Put rows that cannot be read into <output>.bad.jsonl and go on.", False)
    shard_rows: int | None = _option(
        "Write part-00000.jsonl, ... (.parquet of Parquet) of so many rows into the folder --output.", None
    )
    tokenizer: str | None = _option("Tokenizer folder; default: the model's.", None)
    max_length: int | None = _option("Tokens a row, or a window of it, at most; default: as fine-tuned, or 512.", None)
    stride: int | None = _option(
        "Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: as fine-tuned, or "
        "a quarter of --max-length.",
        None,
    )
    batch_tokens: int = _option("Tokens a forward pass, padding included.", 8192)
    precision: WeightPrecision = _option("keep the weights' precision, or run the model in fp32, bf16 or fp16.", "keep")
    window: int = _option("Rows that are sorted by length together, and saved together.", 2048)
    overwrite: bool = _option("Replace --output, and begin anew where a run was interrupted.", False)

    def __post_init__(self) -> None:
        if not self.input and self.text is None:
            raise ConfigurationError("Missing: --input, a file of rows, or --text, one text.")
        if self.input and self.text is not None:
            raise ConfigurationError("--input names rows and --text is one text: give one of them.")
        _check_range("threshold", self.threshold, 0.0, 1.0)
        for name in ("batch_tokens", "window"):
            _check_at_least(name, getattr(self, name), 1)
        if self.shard_rows is not None:
            _check_at_least("shard_rows", self.shard_rows, 1)
        _check_at_least("max_length", self.max_length, 8)
        _check_at_least("stride", self.stride, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FillMaskOptions:
    """Fill the <mask> in a text."""

    text: str = _option("Text with one or more <mask>.", positional=True)
    model: str = _option("Model folder or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    language: str = _option("Language of the text; its adapter reads it.")
    fallback: Fallback | None = _option(
        "relative: a language that the model lacks is read by the adapter of its nearest relative.", None
    )
    top_k: int = _option("Candidates for every <mask>.", 5)
    tokenizer: str | None = _option("Tokenizer folder; default: the model's.", None)

    def __post_init__(self) -> None:
        _check_at_least("top_k", self.top_k, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackSaveOptions:
    """Save one language of a model as a language pack: a small folder that fits every model of the same base."""

    model: str = _option("Model folder or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    language: str = _option("The language.")
    output_dir: Path = _option("The pack's folder.")
    precision: WeightPrecision = _option("keep the weights' precision, or store them as fp32, bf16 or fp16.", "keep")
    licence: str | None = _option("Licence of the pack, as an SPDX identifier such as cc-by-4.0.", None)
    note: str | None = _option("Where the language's text came from, how it was trained: goes on the card.", None)
    results: Path | None = _option("A results.json; the language's rows go into the pack as its scores.", None)
    push_to_hub: str | None = _option("Also upload it to this repository, such as name/xmod-gsw.", None)
    private: bool = _option("Make the repository private.", False)
    overwrite: bool = _option("Replace the pack in --output-dir.", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackInstallOptions:
    """Put a language pack into a model; nothing else of the model moves."""

    pack: str = _option("Pack folder or a repository on the Hub.", positional=True)
    model: str = _option("Model folder or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    output_dir: Path | None = _option("Where the model with the language goes; default: the model's own folder.", None)
    language: str | None = _option("Install under this code; default: the pack's.", None)
    force: bool = _option("Install although the weights it was trained beside differ; shapes must fit.", False)
    overwrite: bool = _option("Replace the language if the model has it, or a model in --output-dir.", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackVerifyOptions:
    """Check a language pack: form, checksums and, with --model, whether it fits."""

    pack: str = _option("Pack folder or a repository on the Hub.", positional=True)
    revision: str | None = _option(_REVISION.format("pack"), None)
    model: str | None = _option("Model folder or a name on the Hub.", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackListOptions:
    """List the language packs in a folder."""

    folder: Path = _option("Folder with packs in it.", Path("."), positional=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackRemoveOptions:
    """Take a language out of a model; nothing else of the model moves."""

    model: str = _option("Model folder or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    language: str = _option("The language.")
    output_dir: Path | None = _option("Where the model goes; default: the model's own folder.", None)
    overwrite: bool = _option("Replace a model in --output-dir.", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffOptions:
    """Compare two models or packs language by language, bit by bit."""

    a: str = _option("Model or pack: a folder or a name on the Hub.", positional=True)
    b: str = _option("The other one.", positional=True)
    allow: tuple[str, ...] = _option("Parts that may differ: languages, encoder, task head ...; comma-separated.", ())
    output: Path | None = _option("Write the comparison to this JSON file.", None)
    overwrite: bool = _option("Replace the comparison in --output.", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Convert a checkpoint from fairseq's format or to it."""

    source: str = _option(
        "fairseq: a model.pt or its folder. Else: a model folder or a name on the Hub.", positional=True
    )
    revision: str | None = _option(_REVISION.format("source"), None)
    output_dir: Path = _option("Where the converted model goes.")
    to: Literal["xmodular", "fairseq"] = _option("The format to convert to.", "xmodular")
    preset: str | None = _option("Shape of a fairseq checkpoint that does not say its own, such as xmod-base.", None)
    head: str | None = _option("Name of the classification head in fairseq; needed where there are several.", None)
    tokenizer: bool = _option("Convert the vocabulary too, where it lies beside the weights.", True)
    overwrite: bool = _option("Replace a model in --output-dir.", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpcycleOptions:
    """Make a modular model of a dense encoder: the same states in every language, an adapter for each to train."""

    model: str = _option("A BERT, RoBERTa, XLM-R, CamemBERT or X-MOD model: a folder or a name on the Hub.")
    revision: str | None = _option(_REVISION.format("model"), None)
    languages: tuple[str, ...] = _option("Languages that get an adapter, such as de,sw,mt.")
    output_dir: Path = _option("Where the modular model goes.")
    tokenizer: str | None = _option("Folder or name of the tokenizer; default: the one beside the weights.", None)
    reduction: float = _option("The encoder's width divided by the adapters'.", 2.0)
    pooling: Pooling | None = _option(
        "What a classification head is to read: the first token's state, or the mean of all, as sentence encoders are "
        "trained; default: mean where 1_Pooling/config.json says so, else first.",
        None,
    )
    head: bool = _option("Bring the head along, where the model has one.", True)
    seed: int = _option("Seed of the adapters' first matrices; the second are zero.", 0)
    overwrite: bool = _option("Replace a model in --output-dir.", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipesOptions:
    """Recipes for fine-tuning: named presets of its options, with their sources."""

    name: str | None = _option("Show one of them with all that it sets.", None, positional=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """The released checkpoints: languages, shape, source, licence."""

    name: str | None = _option("Show one of them whole, with its languages.", None, positional=True)
    language: str | None = _option("Only those that have this language.", None)


# Options of the demo that are about an encoder and sets of the user's own.
_OF_ENCODER = ("train", "language", "dev", "data", "task", "columns", "languages", "add", "parallel", "epochs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Walk the whole road: offline in minutes on the corpus inside the package, or on an encoder and sets of your own.

    Without --model: pretrain, fine-tune, add a language, evaluate, predict. With --model, the encoder is made modular
    instead of pretrained, and the rows are those that --train and --data name.
    """

    output_dir: Path = _option("Where everything goes.", Path("demo"))
    model: str | None = _option(
        "Walk on this encoder, which `upcycle` makes modular: a folder or a name on the Hub. It needs --train and "
        "--data.",
        None,
    )
    train: tuple[str, ...] = _option("Training files, as `finetune` takes them.", ())
    language: str | None = _option(
        "Language of the training rows; default: what their column `language` or the file's name says.", None
    )
    dev: tuple[str, ...] = _option("Validation files, in the training language.", ())
    data: tuple[str, ...] = _option(
        "Test sets, as `evaluate` takes them: folders or globs of <language>.test.<ext> files, <language>=<file>, ...",
        (),
    )
    task: str = _option("What the rows are for: classify, regress, tag, qa or choice.", "classify")
    columns: Mapping[str, str] | None = _option("Names of columns, as text=review,label=stars.", None)
    languages: tuple[str, ...] = _option(
        "Languages that get an adapter; default: those of the training rows and the test sets.", ()
    )
    add: str | None = _option(
        "Code of a language to add to the modular encoder, which learns it from --parallel.", None
    )
    parallel: str | None = _option(
        "Sentences of the language to add beside their translations, as `extend` takes them.", None
    )
    epochs: float | None = _option("Passes over the training files; default: as `finetune`.", None)
    pretrain_steps: int = _option("Optimiser steps of pretraining, where there is no --model.", 4000)
    seed: int = _option("Seed of everything that is drawn.", 0)
    overwrite: bool = _option("Replace a demo in --output-dir, finished or not.", False)

    def __post_init__(self) -> None:
        _check_at_least("pretrain_steps", self.pretrain_steps, 1)
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        changed = [name for name in usual if getattr(self, name) != usual[name]]
        if self.model is None:
            if named := [name for name in _OF_ENCODER if name in changed]:
                raise ConfigurationError(
                    f"--{named[0]} needs --model, an encoder to walk on: without it, the demo has its own corpus."
                )
            return
        if "pretrain_steps" in changed:
            raise ConfigurationError(f"--pretrain-steps is for the demo without --model: {self.model} is pretrained.")
        for name, what in (("train", "rows to fine-tune on"), ("data", "test sets")):
            if not getattr(self, name):
                raise ConfigurationError(f"--model {self.model} needs --{name}, {what}: the demo's own are not for it.")
        for name, other in (("add", "parallel"), ("parallel", "add")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise ConfigurationError(f"--{name} {getattr(self, name)} needs --{other}: {_WHY_BOTH[other]}.")
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise ConfigurationError(f"epochs must be positive; got {self.epochs}.")


_WHY_BOTH = {"parallel": "the file that the language is learned from", "add": "the language that is learned from it"}


def build(options: type[T], values: Mapping[str, Any]) -> T:
    """Make an options object from loose values.

    Args:
        options: one of the dataclasses above.
        values: field names (dashes are as good as underscores) to values; text is read as the field's type.

    Raises:
        ConfigurationError: unknown name (the nearest is given), missing name, or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(options)
    given: dict[str, Any] = {}
    named = _named(values)
    for name, value in (options.with_recipe(named) if issubclass(options, FinetuneOptions) else named).items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the options are: {', '.join(fields)}."
            raise ConfigurationError(f"Unknown option {name!r} for {options.__name__}; {hint}")
        given[name] = _coerce(name, hints[name], value)
    if given.get("revision") is not None:
        given |= _pinned(options, given, given["revision"])
    missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in given]
    if missing:
        raise ConfigurationError(f"Missing: {', '.join(missing)} ({fields[missing[0]].metadata['help']})")
    return options(**given)


def _pinned(options: type, given: Mapping[str, Any], revision: str) -> dict[str, Any]:
    """The names that the option `revision` of a verb is about, with it.

    Raises:
        ConfigurationError: one is a folder, or has another revision already.
    """
    field = {PackVerifyOptions: "pack", ConvertOptions: "source"}.get(options, "model")
    if not given.get(field):
        raise ConfigurationError(f"--revision {revision} is about a name on the Hub; none is given.")
    names = given[field] if isinstance(given[field], tuple) else (given[field],)
    pinned = []
    for name in names:
        if Path(name).exists():
            raise ConfigurationError(f"--revision {revision} is about a name on the Hub; {name} is here.")
        bare, own = on_hub(name)
        if own not in (None, revision):
            raise ConfigurationError(f"--revision {revision} is not that of {name}.")
        pinned.append(f"{bare}@{revision}")
    return {field: tuple(pinned) if isinstance(given[field], tuple) else pinned[0]}


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML (or JSON) file of options.

    Raises:
        ConfigurationError: no such file, or its content is not a table of names and values; or a name is there twice.
    """
    import yaml

    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_YAML + 1)
        if len(raw) > _MOST_YAML:
            raise ConfigurationError(f"{path} is larger than {_MOST_YAML:,} bytes: that is no file of options.")
        content = _read_yaml(raw.decode("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        said = of_system(error) or f"{path} is not UTF-8."
        raise ConfigurationError(f"The configuration file cannot be read: {said}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-13-45 is a ValueError
        raise ConfigurationError(f"{path} is not valid YAML: {in_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold names and values, one option a line; it holds {content!r:.60}.")
    try:
        return _named(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _named(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by the names of fields, in which dashes are underscores.

    Raises:
        ConfigurationError: a name is there in both spellings.
    """
    named: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in named:
            raise ConfigurationError(f"{name} is given twice, as {named[name]!r:.60} and as {value!r:.60}.")
        named[name] = value
    return named


def _read_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is not valid, a table has a name twice, of which YAML's reader would take the last, or what
            it refers to again and again would be too much.
    """
    import yaml

    class Reader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(text, Reader)
    except (ValueError, RecursionError, OverflowError) as error:  # a date that there is not, a number without end
        raise yaml.YAMLError(f"a value cannot be read: {error!s:.200}") from error
    if _size_written_out(content) > _MOST_VALUES:
        raise yaml.YAMLError(f"it has more than {_MOST_VALUES:,} values, what it refers to written out")
    return content


def _size_written_out(content: Any) -> int:
    """How many values there are, those that are only referred to (``*name``) counted each time; cut off when many.

    A few lines may stand for more than any memory holds, once they are printed.
    """
    waiting, count = [content], 0
    while waiting and count <= _MOST_VALUES:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, str | bytes):
            count += len(value) // 100
    return count


def as_record(options: Any) -> dict[str, Any]:
    """The options as JSON-able names and values, such that `build` of the record gives equal options."""
    record = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        record[field.name] = value
    return record


def _coerce(name: str, hint: Any, value: Any) -> Any:
    """Bring `value` to the type `hint` of option `name`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _coerce(name, next(part for part in arguments if part is not type(None)), value)
    if origin is Literal:
        if value not in arguments:
            raise ConfigurationError(f"{name} is one of {', '.join(map(str, arguments))}; not {value!r}.")
        return value
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            raise ConfigurationError(f"{name} is a list, or text with commas; not {value!r}.")
        return tuple(
            _coerce(name, arguments[0], part.strip() if type(part) is str else part) for part in parts if part != ""
        )
    if origin is not None and issubclass(origin, Mapping):
        return _coerce_mapping(name, value, text=arguments[1] is str)
    if hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
        raise ConfigurationError(f"{name} must be {KINDS[hint]}; got {value!r:.60}.")
    if isinstance(value, (str, Path)):
        _check_characters(name, str(value))
    if hint is str and isinstance(value, str):
        return value  # as it is: the name of rows in memory carries them
    try:
        if hint is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        if hint in (str, Path) and not isinstance(value, (str, Path)):
            raise ValueError
        return hint(value)
    except (TypeError, ValueError):
        shown = " ".join(f"{value!r}".split())  # that of a table has several lines
        raise ConfigurationError(f"{name} must be {KINDS[hint]}; got {shown:.60}.") from None


def _check_characters(name: str, text: str) -> None:
    """Raises ConfigurationError if a text has what no file's name has, and no text that can be written."""
    try:
        text.encode("utf-8", "surrogateescape")  # as the names of files come that are not UTF-8
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{name} has half a surrogate pair in it, which is no character: {text!r:.60}."
        ) from None
    if "\0" in text:
        raise ConfigurationError(f"{name} has a null character in it: {text!r:.60}.")


def _coerce_mapping(name: str, value: Any, *, text: bool) -> dict[str, Any]:
    """A table of names and values. With `text` all are text, as they stand there; else the values are YAML."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",") if part]
        if any(not separator for _, separator, _ in parts):
            raise ConfigurationError(f"{name} is written key=value,key=value; not {value!r}.")
        pairs = [(key.strip(), each.strip()) for key, _, each in parts]
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = next(key for key, _ in pairs if [each for each, _ in pairs].count(key) > 1)
            raise ConfigurationError(f"{name} has {twice!r} twice: {', '.join(v for k, v in pairs if k == twice)}.")
        if not text:
            import yaml

            try:
                return {key: _read_yaml(each) for key, each in value.items()}
            except yaml.YAMLError as error:
                raise ConfigurationError(
                    f"{name} is {value!r:.60}, which has a value that is no YAML: {error}"
                ) from None
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} is a table of names and values; not {value!r}.")
    return {_as_text(name, key): _as_text(name, each) for key, each in value.items()} if text else dict(value)


def _as_text(name: str, value: Any) -> str:
    """Text as it is, and a number as text; YAML's truth values and null may have been other words (no, off, ~)."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigurationError(f"{name} holds {value!r} where a name is needed; in YAML, write it in quotes.")
    return str(value)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"{name} must be between {low} and {high}; got {value}.")


def _check_at_least(name: str, value: int | None, least: int) -> None:
    """An option that is None is not checked."""
    if value is not None and value < least:
        raise ConfigurationError(f"{name} must be at least {least}; got {value}.")
