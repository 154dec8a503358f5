"""The options of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xmodular.errors import ConfigurationError
from xmodular.options.declaring import Options, Place, at_least, option, positive, usual

# Options of the demo that are about an encoder and sets of the user's own.
_OF_ENCODER = ("train", "language", "dev", "data", "task", "columns", "languages", "add", "parallel", "epochs")


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Options):
    """Walk the whole road: offline in minutes on the corpus inside the package, or on an encoder and sets of your own.

    Without --model: pretrain, fine-tune, add a language, evaluate, predict. With --model, the encoder is made modular
    instead of pretrained, and the rows are those that --train and --data name.
    """

    verb, home = "demo", "xmodular.demo.embedded_demo:run"
    example = "xmodular demo --output-dir demo"
    first = ("output_dir", "model", "train", "data", "overwrite")
    headings = {
        "language": "An encoder and sets of your own",
        "pretrain_steps": "The demo's own encoder",
        "seed": "Further options",
    }

    output_dir: Path = option("Where everything goes.", Path("demo"))
    model: str | None = option(
        "Walk on this encoder, which `upcycle` makes modular: a folder or a name on the Hub. It needs --train and "
        "--data.",
        None,
    )
    train: tuple[str, ...] = option("Training files, as `finetune` takes them.", ())
    language: str | None = option(
        "Language of the training rows; default: what their column `language` or the file's name says.", None
    )
    dev: tuple[str, ...] = option("Validation files, in the training language.", ())
    data: tuple[str, ...] = option(
        "Test sets, as `evaluate` takes them: folders or globs of <language>.test.<ext> files, <language>=<file>, ...",
        (),
    )
    task: str = option("What the rows are for: classify, regress, tag, qa or choice.", "classify")
    columns: Mapping[str, str] | None = option("Names of columns, as text=review,label=stars.", None)
    languages: tuple[str, ...] = option(
        "Languages that get an adapter; default: those of the training rows and the test sets.", ()
    )
    add: str | None = option("Code of a language to add to the modular encoder, which learns it from --parallel.", None)
    parallel: Place | None = option(
        "Sentences of the language to add beside their translations, as `extend` takes them.", None
    )
    epochs: float | None = option("Passes over the training files; default: as `finetune`.", None, positive)
    pretrain_steps: int = option("Optimiser steps of pretraining, where there is no --model.", 4000, at_least(1))
    seed: int = option("Seed of everything that is drawn.", 0)
    overwrite: bool = option("Replace a demo in --output-dir, finished or not.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        changed = [name for name, default in usual(self).items() if getattr(self, name) != default]
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


_WHY_BOTH = {"parallel": "the file that the language is learned from", "add": "the language that is learned from it"}
