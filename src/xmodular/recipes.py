"""Recipes for fine-tuning: named presets of the options, each with its source, and the table that shows them.

A recipe sets what its source says and leaves the rest at the defaults. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xmodular.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

# AdamW and its schedule in the scripts on top of transformers, unless they set something else.
_PLAIN = {
    "warmup": 0.0,
    "schedule": "linear",
    "weight_decay": 0.0,
    "adam_betas": (0.9, 0.999),
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "accumulation": 1,
}
_ALL_TRAIN = "The source trains all weights of a dense model; here adapters and embeddings are frozen, for transfer."
_EMBEDDINGS_TRAIN = "Only the adapters are frozen, embeddings train."
_FIVE_SEEDS = "The source reports mean and standard deviation of five seeds: use --seeds. "


@dataclass(frozen=True)
class Recipe:
    """A preset.

    Attributes:
        name: its name.
        task: the task it is for.
        values: option values that differ from the defaults, or that the source states.
        data: the training and test data of its source.
        source: paper or script.
        note: anything else to know.
    """

    name: str
    task: str
    values: Mapping[str, Any] = field(hash=False)
    data: str
    source: str
    note: str = ""


def _recipe(name: str, task: str, data: str, source: str, note: str = "", **values: Any) -> Recipe:
    return Recipe(name, task, {**_PLAIN, **values}, data, source, note)


_XTREME = "XTREME (Hu et al. 2020), google-research/xtreme scripts/"
_SWISSBERT = "SwissBERT (Vamvas et al. 2023), ZurichNLP/swissbert evaluation/"
_SWISS_GERMAN = "Vamvas et al. 2024, ZurichNLP/swiss-german-text-encoders scripts/"

# The scripts of XTREME share their values, and so do those on Swiss text.
_USUAL = {"learning_rate": 2e-5, "epochs": 5.0, "batch_size": 32, "max_length": 128}


def _xtreme(name: str, task: str, data: str, script: str, note: str = "", **values: Any) -> Recipe:
    return _recipe(name, task, data, _XTREME + script, note + _ALL_TRAIN, **{**_USUAL, **values})


def _swiss(name: str, task: str, data: str, source: str, note: str = "", **values: Any) -> Recipe:
    values = {**_USUAL, "batch_size": 16, **values, "trainable": "all-but-adapters"}
    return _recipe(name, task, data, source, note + _EMBEDDINGS_TRAIN, **values)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _recipe(
            "xnli",
            "classify",
            "MNLI, XNLI",
            "X-MOD (Pfeiffer et al. 2022), facebookresearch/fairseq examples/xmod",
            "The source trains in fp16 and keeps the best epoch by accuracy: give --dev.",
            learning_rate=1e-5,
            schedule="constant",
            epochs=5.0,
            batch_size=32,
            max_length=512,
            weight_decay=0.01,
            adam_betas=(0.9, 0.98),
            adam_epsilon=1e-6,
            max_grad_norm=0.0,
            classifier_dropout=0.0,
            trainable="shared",
        ),
        _xtreme("xnli-xlmr", "classify", "MNLI, XNLI", "train_xnli.sh"),
        _xtreme(
            *("xnli-xlmr-large", "classify", "MNLI, XNLI", "train_xnli.sh"),
            learning_rate=3e-5,
            batch_size=2,
            accumulation=16,
        ),
        _xtreme("paws-x", "classify", "PAWS, PAWS-X", "train_pawsx.sh"),
        _xtreme("wikiann-ner", "tag", "WikiANN in English, in many languages", "train_panx.sh", epochs=10.0),
        _xtreme(
            *("udpos", "tag", "Universal Dependencies in English, in many languages", "train_udpos.sh"),
            epochs=10.0,
        ),
        _xtreme(
            "squad",
            "qa",
            "SQuAD 1.1, XQuAD and MLQA",
            "train_qa.sh",
            "There, a window starts every 128 tokens; here, neighbouring windows share 128 tokens. ",
            learning_rate=3e-5,
            epochs=3.0,
            max_length=384,
            stride=128,
            warmup=500.0,
            weight_decay=1e-4,
        ),
        _xtreme(
            *("xcopa", "choice", "COPA in English, XCOPA", "train_xcopa.sh"),
            "The source trains on Social IQa with the same values first. ",
        ),
        _recipe(
            "ner",
            "tag",
            "WikiANN in English, in many languages",
            "Glot500 (Imani et al. 2023), cisnlp/Glot500 evaluation/tagging/evaluate_ner.sh",
            _ALL_TRAIN,
            learning_rate=2e-5,
            epochs=10.0,
            batch_size=8,
            accumulation=4,
            max_length=256,
        ),
        _swiss(
            "swissner",
            "tag",
            "WikiNEuRal in German, French and Italian, SwissNER with Romansh",
            _SWISSBERT + "swissner",
            epochs=3.0,
            max_length=512,
        ),
        _swiss(
            *("x-stance", "classify", "X-Stance", _SWISSBERT + "xstance"),
            learning_rate=1e-5,
            epochs=3.0,
            max_length=256,
        ),
        _swiss(
            "hipe2022",
            "tag",
            "HIPE-2022, historical newspapers",
            _SWISSBERT + "hipe2022",
            "Early stopping needs --dev. ",
            learning_rate=5e-5,
            epochs=25.0,
            batch_size=8,
            max_length=512,
            patience=10,
        ),
        _swiss(
            "pos",
            "tag",
            "Universal Dependencies in Standard German, Swiss German",
            _SWISS_GERMAN + "evaluate_pos.py",
            _FIVE_SEEDS,
            epochs=10.0,
            max_length=512,
        ),
        _swiss(
            *("dialect-id", "classify", "Swiss German dialects", _SWISS_GERMAN + "evaluate_gdi.py", _FIVE_SEEDS),
            epochs=10.0,
        ),
    )
}


def recipe(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ConfigurationError: there is no such recipe; the message lists them.
    """
    if name not in RECIPES:
        hint = did_you_mean(name, RECIPES)
        raise ConfigurationError(f"there is no recipe {name!r}: {hint} The recipes are {', '.join(RECIPES)}.")
    return RECIPES[name]


@dataclass(frozen=True)
class Shown:
    """Recipes to show.

    Attributes:
        recipes: the recipes.
        alone: whether a single recipe is shown with all its values.
    """

    recipes: tuple[Recipe, ...]
    alone: bool

    def table(self) -> Table:
        """The table for the terminal."""
        return _one(self.recipes[0]) if self.alone else _many(self.recipes)


def recipes(name: str | None = None) -> Shown:
    """The recipes, or one of them.

    Args:
        name: show this one with all its values.

    Raises:
        ConfigurationError: there is no such recipe.
    """
    return Shown(tuple(RECIPES.values()) if name is None else (recipe(name),), name is not None)


def _many(shown: tuple[Recipe, ...]) -> Table:
    from rich.table import Table

    table = Table(title="Recipes", title_justify="left")
    for heading in ("name", "task", "learning rate", "epochs", "batch", "length", "data", "source"):
        justify: Any = "right" if heading in ("learning rate", "epochs", "batch", "length") else "left"
        table.add_column(heading, justify=justify, no_wrap=heading in ("name", "task"), overflow="fold")
    for each in shown:
        values = each.values
        batch = values["batch_size"] * values["accumulation"]
        table.add_row(
            *(each.name, each.task, f"{values['learning_rate']:g}", f"{values['epochs']:g}", str(batch)),
            *(str(values["max_length"]), each.data, each.source),
        )
    table.caption = "All options of one recipe: xmodular recipes xnli. To use it: xmodular finetune --recipe xnli."
    table.caption_justify = "left"
    return table


def _one(shown: Recipe) -> Table:
    from rich.table import Table

    table = Table(title=shown.name, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for heading, text in (("task", shown.task), ("data", shown.data), ("source", shown.source), ("note", shown.note)):
        if text:
            table.add_row(heading, text)
    table.add_section()
    for name, value in shown.values.items():
        table.add_row(name, ",".join(map(str, value)) if isinstance(value, tuple) else f"{value}")
    return table
