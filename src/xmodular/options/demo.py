"""The options of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import Idle, Options, Place, at_least, option, positive

# Options of the demo that concern the user's own encoder and data sets.
_OF_ENCODER = ("train", "language", "dev", "data", "task", "columns", "languages", "add", "parallel", "epochs")


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Options):
    """Run all steps: offline in minutes on the corpus inside the package, or on your own encoder and data sets.

    Without --model: pretrain, fine-tune, add a language, evaluate, predict. With --model: the encoder is made modular
    instead of pretrained, and --train and --data name the rows.
    """

    verb, home = "demo", "xmodular.demo.embedded_demo:run"
    example = "xmodular demo --output-dir demo"
    first = ("output_dir", "model", "train", "data", "overwrite")
    headings = {
        "language": "Your own encoder and data sets",
        "pretrain_steps": "The demo's own encoder",
        "seed": "Further options",
    }

    output_dir: Path = option("Folder for all output.", Path("demo"))
    model: str | None = option(
        "Use this encoder, which `upcycle` makes modular: a folder or a name on the Hub. Needs --train and --data.",
        None,
    )
    train: tuple[str, ...] = option("Training files, as for `finetune`.", ())
    language: str | None = option(
        "Language of the training rows; default: from a column `language` or the file name.", None
    )
    dev: tuple[str, ...] = option("Validation files, in the training language.", ())
    data: tuple[str, ...] = option(
        "Test sets, as for `evaluate`: folders or globs of <language>.test.<ext> files, <language>=<file>, ...",
        (),
    )
    task: str = option("The task: classify, regress, tag, qa or choice.", "classify")
    columns: Mapping[str, str] | None = option("Names of columns, as text=review,label=stars.", None)
    languages: tuple[str, ...] = option(
        "Languages to add adapters for; default: those of the training rows and the test sets.", ()
    )
    add: str | None = option("Code of a language to add to the modular encoder; it is learned from --parallel.", None)
    parallel: Place | None = option("Sentences in the language to add, with translations, as for `extend`.", None)
    epochs: float | None = option("Passes over the training files; default: as for `finetune`.", None, positive)
    pretrain_steps: int = option("Optimiser steps of pretraining; only without --model.", 4000, at_least(1))
    seed: int = option("Random seed of all steps.", 0)
    overwrite: bool = option("Replace a demo in --output-dir, finished or not.", False)

    idle = (
        Idle(
            _OF_ENCODER,
            lambda given: given.model is None,
            "needs --model: without an encoder of your own, the demo uses its own corpus.",
        ),
        Idle(
            ("pretrain_steps",),
            lambda given: given.model is not None,
            "is for the demo without --model, which is pretrained.",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is None:
            return
        for name, what in (("train", "rows to fine-tune on"), ("data", "test sets")):
            if not getattr(self, name):
                raise ConfigurationError(f"--model {self.model} needs --{name}, {what}: the demo's own do not suit it.")
        for name, other in (("add", "parallel"), ("parallel", "add")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise ConfigurationError(f"--{name} {getattr(self, name)} needs --{other}: {_WHY_BOTH[other]}.")


_WHY_BOTH = {"parallel": "the file to learn the language from", "add": "the language to learn from it"}
