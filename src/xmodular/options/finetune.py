"""The options of `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import REVISION, Place, Pooling, Trainable, at_least, between, flag_of, option, positive
from xmodular.options.pretrain import TrainingOptions

# Learning rates of fine-tuning: at this width; of a new head in multiples, but no higher than this.
_RATE, _WIDTH, _NEW_HEAD, _HIGHEST = 2e-5, 768, 50, 2e-3


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """Train a task in one language; the other languages keep their adapters and come along."""

    verb, home = "finetune", "xmodular.training:finetune"
    example = "xmodular finetune --model runs/base --train en_XX.train.jsonl --language en --output-dir runs/topic"
    first = ("model", "train", "language", "task", "output_dir")
    headings = {
        "model": "The task and its rows",
        "dev": "Validation",
        "columns": "Reading rows",
        "trainable": "The model",
        "epochs": "The course of a run",
        "classifier_dropout": "The head",
        "seeds": "Several runs, validations, checkpoints",
    }

    model: str = option("Model folder (a pretrained one), or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    train: tuple[str, ...] = option("Training files, comma-separated, or hub:<data set>:<configuration>:<split>.")
    language: str | None = option(
        "Language whose adapter reads the training data; default: what its column `language` or the file's name says.",
        None,
    )
    task: str = option(
        "classify: one or two texts and a label; regress: and a number; tag: a label a word; qa: the answer's place in "
        "a context; choice: one of several.",
        "classify",
    )
    recipe: str | None = option("Named preset of options, such as xnli; `xmodular recipes` lists them.", None)
    dev: tuple[str, ...] = option(
        "Validation files, in the training language; the weights that do best on them are kept.", ()
    )
    dev_fraction: float | None = option(
        "Without --dev: share of the training rows that are held out for validation, the same ones with every seed.",
        None,
        between(0.001, 0.5),
    )
    patience: int | None = option("Stop after so many validations without a better one.", None, at_least(1))
    columns: Mapping[str, str] | None = option("Names of columns, as text=review,label=stars.", None)
    skip_bad_rows: bool = option("Leave out rows that cannot be read, and count them.", False)
    trainable: Trainable = option("What trains; shared: all but embeddings and adapters.", "shared")
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
    max_length: int = option("Tokens a row, or a window of it, at most.", 128, at_least(8))
    stride: int | None = option(
        "Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: a quarter of "
        "--max-length.",
        None,
        at_least(0),
    )
    epochs: float | None = option(  # type: ignore[assignment]
        "Passes over the training files; ignored with --max-steps; default: 5, or as many as make 200 steps.", None
    )
    learning_rate: float | None = option(  # type: ignore[assignment]
        "Peak learning rate; default: 2e-5 for states 768 wide, more for narrower ones in proportion.", None, positive
    )
    head_learning_rate: float | None = option(
        "Peak learning rate of the task head; default: --learning-rate; where that is not given either, 50 times it "
        "(at most 2e-3) if the model comes without a head for the task.",
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
        "What the head of classify and regress reads: the first token's state, or the mean of all; default: what the "
        "model says.",
        None,
    )
    seeds: tuple[int, ...] = option("Train once for each of these seeds, in <output-dir>/seed-<seed>.", ())
    eval_every: int | None = option(
        "Validate every so many steps; default: after each pass, or every 10 steps where passes are shorter and "
        "neither --epochs nor --max-steps is given.",
        None,
        at_least(1),
    )
    save_every: int | None = option(
        "Write a checkpoint every so many steps; none: at validations only, if they are the best so far.",
        500,
        at_least(1),
    )

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
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
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise ConfigurationError(f"adam_betas are two numbers from 0 to below 1; got {self.adam_betas}.")
        if self.dev and self.dev_fraction is not None:
            raise ConfigurationError("--dev names validation rows and --dev-fraction holds some out: give one.")
        for name in ("patience", "eval_every"):
            if (number := getattr(self, name)) is not None and not self.validates:
                flag = flag_of(name)
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
        return replace(self, learning_rate=rate, head_learning_rate=self.head_learning_rate or head)

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
