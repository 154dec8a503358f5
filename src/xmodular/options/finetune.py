"""The options of `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import (
    REVISION,
    STRIDE_ONLY_FOR,
    Idle,
    Place,
    Pooling,
    Trainable,
    at_least,
    between,
    flag_of,
    option,
    positive,
)
from xmodular.options.pretrain import TrainingOptions

# Learning rates of fine-tuning: the base rate, its hidden size, the factor for a new head, and its maximum.
_RATE, _WIDTH, _NEW_HEAD, _HIGHEST = 2e-5, 768, 50, 2e-3
_PEFT = 20  # the same factor, for layers of PEFT


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """Fine-tune on a task in one language; the other languages keep their adapters."""

    verb, home = "finetune", "xmodular.training:finetune"
    example = "xmodular finetune --model runs/base --train en_XX.train.jsonl --language en --output-dir runs/topic"
    first = ("model", "train", "language", "task", "output_dir")
    headings = {
        "model": "Revision and recipe",
        "dev": "Validation",
        "columns": "Reading rows",
        "trainable": "The model",
        "epochs": "The course of a run",
        "classifier_dropout": "The head",
        "seeds": "Several runs, validations, checkpoints",
    }

    model: str = option("Pretrained model: a folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    train: tuple[str, ...] = option("Training files, comma-separated, or hub:<data set>:<configuration>:<split>.")
    language: str | None = option(
        "Language of the training data, whose adapter is used; default: from a column `language` or the file name.",
        None,
    )
    task: str = option(
        "classify: one or two texts, a label; regress: the same, a number; tag: a label per word; qa: an answer within "
        "a context; choice: one of several choices; embed: a text and its positive, a translation or a similar text.",
        "classify",
    )
    recipe: str | None = option("Use the options of a recipe, such as xnli; `xmodular recipes` lists them.", None)
    dev: tuple[str, ...] = option(
        "Validation files, in the training language; the weights with the best score on them are kept.", ()
    )
    dev_fraction: float | None = option(
        "Without --dev: share of the training rows to hold out for validation, the same rows for every seed.",
        None,
        between(0.001, 0.5),
    )
    patience: int | None = option("Stop after this many validations without improvement.", None, at_least(1))
    columns: Mapping[str, str] | None = option("Names of columns, as text=review,label=stars.", None)
    skip_bad_rows: bool = option("Skip rows that cannot be read, and count them.", False)
    trainable: Trainable = option("Parameters to train; shared: all but embeddings and adapters.", "shared")
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
    max_length: int = option("Most tokens per row, or per window of a long row.", 128, at_least(8))
    stride: int | None = option(
        "Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: a quarter of "
        "--max-length.",
        None,
        at_least(0),
    )
    epochs: float | None = option(  # type: ignore[assignment]
        "Passes over the training files; ignored with --max-steps; default: 5, or more to reach 200 steps.", None
    )
    learning_rate: float | None = option(  # type: ignore[assignment]
        "Peak learning rate; default: 2e-5 at hidden size 768, proportionally more for smaller hidden sizes, and 20 "
        "times as much (at most 2e-3) for a PEFT model.",
        None,
        positive,
    )
    head_learning_rate: float | None = option(
        "Peak learning rate of the task head; default: --learning-rate; if that is not given either, and the "
        "model has no head for the task yet, 50 times its default (at most 2e-3).",
        None,
        positive,
    )
    schedule: Literal["linear", "cosine", "constant"] = option("Learning rate after warm-up.", "linear")
    adam_betas: tuple[float, ...] = option("AdamW's two decay rates.", (0.9, 0.98))
    adam_epsilon: float = option("AdamW's epsilon.", 1e-6)
    classifier_dropout: float | None = option(
        "Dropout in the task head; default: the model's.", None, between(0.0, 0.99)
    )
    pooling: Pooling | None = option(
        "Input of the classify and regress heads, and the vector of embed: the first token's state, or the mean of "
        "all; default: as recorded in the model.",
        None,
    )
    temperature: float | None = option(
        "For embed: the temperature of the softmax over cosines; default: 0.05.", None, positive
    )
    positive_language: str | None = option(
        "For embed: language of the positives whose rows do not name it in a column positive_language; default: that "
        "of the file's name, or of the text.",
        None,
    )
    prefix: str | None = option(
        'For embed: put before every text, such as "query: "; default: as recorded in the model.', None
    )
    seeds: tuple[int, ...] = option("Train once with each of these seeds, in <output-dir>/seed-<seed>.", ())
    eval_every: int | None = option(
        "Steps between validations; default: after each pass, or every 10 steps if passes are shorter and "
        "neither --epochs nor --max-steps is given.",
        None,
        at_least(1),
    )
    save_every: int | None = option(
        "Steps between checkpoints; none: only at validations that are the best so far.",
        500,
        at_least(1),
    )

    idle = (
        Idle(
            ("seed",),
            lambda given: bool(given.seeds),
            "has no effect beside --seeds, which names the seed of each run.",
        ),
    )
    only_for = (
        (("temperature", "positive_language", "prefix"), "embed", "embed"),
        (("pooling",), "whole texts", "classify, regress and embed"),
        (("classifier_dropout", "head_learning_rate"), "head", "tasks with a head"),
        STRIDE_ONLY_FOR,
    )

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, and for all other options those of the recipe, if one is named.

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
            raise ConfigurationError("--train is empty: give a file.")
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise ConfigurationError(
                f"adam_betas must be two numbers of at least 0 and below 1; got {self.adam_betas}."
            )
        if self.dev and self.dev_fraction is not None:
            raise ConfigurationError("Give either --dev (validation files) or --dev-fraction (held-out rows).")
        for name in ("patience", "eval_every"):
            if (number := getattr(self, name)) is not None and not self.validates:
                flag = flag_of(name)
                if number == self._of_recipe(name):
                    flag = f"--recipe {self.recipe}, which sets {flag} {number},"
                raise ConfigurationError(f"{flag} needs validation data: give --dev or --dev-fraction.")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigurationError(f"--seeds names a seed twice: {', '.join(map(str, self.seeds))}.")

    def with_rates(self, width: int, *, is_new: bool, peft: bool = False) -> FinetuneOptions:
        """The same options, with learning rates that suit the model if none was given.

        A trained encoder needs a small learning rate, or it forgets what it barely knew; a randomly initialised head
        needs a larger one. So do narrow models (Yang et al. 2022: in inverse proportion to the width).

        Args:
            width: the model's hidden size.
            is_new: whether the task head is randomly initialised.
            peft: whether layers of PEFT are trained. They start without effect and need a larger rate: Hu et al.
                (2022, table 9) use 20 times ours.
        """
        if self.learning_rate is not None:
            return self
        rate = float(f"{_RATE * _WIDTH / width:.2g}")
        head = min(_NEW_HEAD * rate, _HIGHEST) if is_new else rate
        if peft:
            rate = min(_PEFT * rate, _HIGHEST)
            head = max(head, rate)
        return replace(self, learning_rate=rate, head_learning_rate=self.head_learning_rate or head)

    @property
    def validates(self) -> bool:
        """Whether there are rows to validate on."""
        return bool(self.dev) or self.dev_fraction is not None

    def _of_recipe(self, name: str) -> Any:
        """The recipe's value for an option; None without a recipe."""
        if self.recipe is None:
            return None
        from xmodular.recipes import recipe

        return recipe(self.recipe).values.get(name)
