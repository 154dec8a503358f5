"""The options of the verbs for stored models and packs: `pack …`, `convert`, `upcycle`, `diff`, `models`, `recipes`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmodular.options.declaring import (
    REVISION,
    Idle,
    Options,
    Place,
    Pooling,
    WeightPrecision,
    at_least,
    between,
    option,
)


@dataclass(frozen=True, kw_only=True)
class PackSaveOptions(Options):
    """Save one language of a model as a language pack: a small folder that fits all models with the same base."""

    verb, home = "pack save", "xmodular.pack_verbs:pack_save"
    example = "xmodular pack save --model runs/base --language gsw --output-dir packs/gsw"
    first = ("model", "language", "output_dir", "licence", "overwrite")

    model: str = option("Model folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    language: str = option("The language.")
    output_dir: Path = option("The pack's folder.")
    precision: WeightPrecision = option("keep the weights' precision, or store them as fp32, bf16 or fp16.", "keep")
    licence: str | None = option("Licence of the pack, as an SPDX identifier such as cc-by-4.0.", None)
    note: str | None = option("Note for the model card: where the text came from, how the adapter was trained.", None)
    results: Path | None = option("A results.json, whose scores of the language are stored in the pack.", None)
    push_to_hub: str | None = option("Also upload it to this repository, such as name/xmod-gsw.", None)
    private: bool = option("Make the repository private.", False)
    overwrite: bool = option("Replace the pack in --output-dir.", False)

    idle = (
        Idle(
            ("private",),
            lambda given: given.push_to_hub is None,
            "applies to a repository on the Hub: name it with --push-to-hub.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class PackInstallOptions(Options):
    """Install a language pack in a model; nothing else in the model changes."""

    verb, home = "pack install", "xmodular.pack_verbs:pack_install"
    example = "xmodular pack install packs/gsw --model runs/topic"
    first = ("pack", "model", "output_dir", "language", "overwrite")

    pack: str = option("Pack folder or a repository on the Hub.", positional=True)
    model: str = option("Model folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    output_dir: Path | None = option("Folder for the model with the language; default: the model's own folder.", None)
    language: str | None = option("Install under this code; default: the pack's.", None)
    force: bool = option("Install even if the pack was trained with other shared weights; shapes must match.", False)
    overwrite: bool = option("Replace the language if the model has it already, or a model in --output-dir.", False)


@dataclass(frozen=True, kw_only=True)
class PackVerifyOptions(Options):
    """Check a language pack: its format, checksums and, with --model, whether it fits that model."""

    verb, home = "pack verify", "xmodular.pack_verbs:pack_verify"
    example = "xmodular pack verify packs/gsw --model runs/topic"
    first = ("pack", "model")
    of_revision = "pack"

    pack: str = option("Pack folder or a repository on the Hub.", positional=True)
    revision: str | None = option(REVISION.format("pack"), None)
    model: str | None = option("Model folder or a name on the Hub.", None)


@dataclass(frozen=True, kw_only=True)
class PackListOptions(Options):
    """List the language packs in a folder."""

    verb, home = "pack list", "xmodular.pack_verbs:pack_list"
    example = "xmodular pack list packs"
    first = ("folder",)

    folder: Path = option("Folder with packs in it.", Path("."), positional=True)


@dataclass(frozen=True, kw_only=True)
class PackRemoveOptions(Options):
    """Remove a language from a model; nothing else in the model changes."""

    verb, home = "pack remove", "xmodular.pack_verbs:pack_remove"
    example = "xmodular pack remove --model runs/topic --language gsw"
    first = ("model", "language", "output_dir", "overwrite")

    model: str = option("Model folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    language: str = option("The language.")
    output_dir: Path | None = option("Folder for the model; default: the model's own folder.", None)
    overwrite: bool = option("Replace a model in --output-dir.", False)


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(Options):
    """Convert a checkpoint from or to fairseq's format."""

    verb, home = "convert", "xmodular.conversion:convert"
    example = "xmodular convert xmod.base/model.pt --output-dir xmod-base"
    first = ("source", "output_dir", "to", "preset", "overwrite")
    of_revision = "source"

    source: Place = option(
        "A fairseq model.pt or its folder; with --to fairseq, a model folder or a name on the Hub.", positional=True
    )
    revision: str | None = option(REVISION.format("source"), None)
    output_dir: Path = option("Folder for the converted model.")
    to: Literal["xmodular", "fairseq"] = option("The format to convert to.", "xmodular")
    preset: str | None = option("Shape of a fairseq checkpoint that does not record it, such as xmod-base.", None)
    head: str | None = option("Name of the classification head in fairseq; required if there are several.", None)
    tokenizer: bool = option("Also convert the vocabulary, if it is next to the weights.", True)
    overwrite: bool = option("Replace a model in --output-dir.", False)

    idle = (
        Idle(
            ("preset",),
            lambda given: given.to == "fairseq",
            "is only for fairseq checkpoints; a model folder records its own shape.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class UpcycleOptions(Options):
    """Turn a dense encoder into a modular model: the same states in every language, an adapter for each to train."""

    verb, home = "upcycle", "xmodular.conversion:upcycle"
    example = "xmodular upcycle --model intfloat/multilingual-e5-base --languages de,sw,mt --output-dir e5-modular"
    first = ("model", "languages", "output_dir", "pooling", "overwrite")

    model: Place = option("A BERT, RoBERTa, XLM-R, CamemBERT or X-MOD model: a folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    languages: tuple[str, ...] = option("Languages to add adapters for, such as de,sw,mt.")
    output_dir: Path = option("Folder for the modular model.")
    tokenizer: Place | None = option("Folder or name of the tokenizer; default: the one next to the weights.", None)
    reduction: float = option("Hidden size divided by the adapters' bottleneck size.", 2.0)
    pooling: Pooling | None = option(
        "Input of a classification head: the first token's state, or the mean of all, as sentence encoders are "
        "trained; default: mean if 1_Pooling/config.json says so, else first.",
        None,
    )
    head: bool = option("Convert the head too, if the model has one.", True)
    seed: int = option("Random seed of the adapters' down-projections; the up-projections are zero.", 0)
    overwrite: bool = option("Replace a model in --output-dir.", False)


@dataclass(frozen=True, kw_only=True)
class TrimOptions(Options):
    """Trim a model: some of its languages, and only the pieces of the vocabulary that their text needs."""

    verb, home = "trim", "xmodular.trimming:trim"
    example = "xmodular trim --model runs/topic --languages de,sw --text corpus/text --output-dir runs/topic-de-sw"
    first = ("model", "languages", "text", "scripts", "output_dir", "overwrite")

    model: Place = option("X-MOD model: a folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    languages: tuple[str, ...] = option("Languages to keep, such as de,sw; default: all of the model.", ())
    text: tuple[str, ...] = option(
        "Text whose pieces stay: folders of <language>.* files, or such files (.txt, .jsonl, .parquet); for one "
        "language, files of any name.",
        (),
    )
    scripts: bool = option("Keep all pieces in the scripts of the languages, such as Latin and Cyrillic.", False)
    output_dir: Path = option("Folder for the trimmed model.")
    dev_text: Path | None = option(
        "Other text to measure on, a folder of <language>.* files; default: 5 % of the lines of --text, measured with "
        "the pieces of the other lines.",
        None,
    )
    min_count: int = option(
        "Keep pieces that the text uses at least this often. From 2 on, the vocabulary is smaller, and the lines with "
        "rarer pieces are cut into other ones.",
        1,
        at_least(1),
    )
    coverage: float = option(
        "Share of each language's text, counted in pieces, for which its most frequent pieces stay. Below 1, the "
        "vocabulary is smaller, and lines with rarer pieces are cut into other ones.",
        1.0,
        between(0.0, 1.0),
    )
    text_field: str = option("Name of the text field (JSON Lines) or text column (Parquet).", "text")
    own_vocabularies: Literal["trim", "keep"] = option(
        "Trim the vocabularies that belong to single languages too, or keep them as they are.", "trim"
    )
    tokenizer: Place | None = option("Folder or name of the tokenizer; default: the one next to the weights.", None)
    overwrite: bool = option("Replace a model in --output-dir.", False)

    idle = (
        Idle(
            ("dev_text", "min_count", "coverage", "text_field"),
            lambda given: not given.text and given.scripts,
            "needs --text, whose pieces are counted.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class DiffOptions(Options):
    """Compare two models or packs language by language, bit by bit."""

    verb, home = "diff", "xmodular.comparison:diff"
    example = "xmodular diff runs/base runs/topic --allow encoder"
    first = ("a", "b", "allow", "output")

    a: str = option("Model or pack: a folder or a name on the Hub.", positional=True)
    b: str = option("The other one.", positional=True)
    allow: tuple[str, ...] = option("Parts that may differ, comma-separated: languages, encoder, task head ...", ())
    output: Path | None = option("Write the comparison to this JSON file.", None)
    overwrite: bool = option("Replace the comparison in --output.", False)


@dataclass(frozen=True, kw_only=True)
class RecipesOptions(Options):
    """List the recipes: published option presets for fine-tuning, with their sources."""

    verb, home = "recipes", "xmodular.recipes:recipes"
    example = "xmodular recipes xnli"
    first = ("name",)

    name: str | None = option("Show one recipe with all the options it sets.", None, positional=True)


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(Options):
    """List the released checkpoints: languages, shape, source, licence."""

    verb, home = "models", "xmodular.catalogue:models"
    example = "xmodular models --language gsw"
    first = ("name", "language")

    name: str | None = option("Show one checkpoint in full, with its languages.", None, positional=True)
    language: str | None = option("Only checkpoints with this language.", None)
