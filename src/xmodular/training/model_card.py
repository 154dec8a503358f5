"""The model card of a fine-tuned model: `README.md` with the Hub's metadata."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import huggingface_hub

from xmodular.model_cards import base_on_hub, iso_codes, linked, markdown_table, named_languages
from xmodular.modeling import ParameterGroup
from xmodular.options import FinetuneOptions
from xmodular.recipes import RECIPES
from xmodular.tasks import TASKS, read_labels
from xmodular.training.runs import Run

_SETTINGS = (
    *("learning_rate", "head_learning_rate", "schedule", "warmup", "epochs", "max_steps", "batch_size", "accumulation"),
    *("weight_decay", "adam_betas", "adam_epsilon", "max_grad_norm", "classifier_dropout", "pooling", "max_length"),
    *("stride", "patience", "precision", "seed"),
)
_PAIR = {"text1": "...", "text2": "..."}
_VERSIONS = ("xmodular", "torch", "transformers")
_Source = Mapping[str, Any]


def model_card(
    run: Run,
    options: FinetuneOptions,
    languages: Sequence[str],
    train: Sequence[_Source],
    dev: Sequence[_Source] | None,
    groups: Sequence[ParameterGroup],
    *,
    pairs: bool = False,
    warnings: Sequence[str] = (),
) -> str:
    """The text of a model card.

    Args:
        run: the run that made the model.
        options: its options.
        languages: codes of the training languages.
        train: sources of the training data, each with ``source``, ``rows`` and ``sha256``.
        dev: sources of the validation data.
        groups: the trained parameter groups.
        pairs: whether its rows were pairs of texts.
        warnings: the warnings of the run.
    """
    task = TASKS[options.task]
    does, row = task.does, task.sample
    if pairs:
        does, row = does.replace("a text", "a pair of texts", 1), _PAIR
    base = base_on_hub(options.model)
    served = run.model.languages
    metadata = huggingface_hub.ModelCardData(
        language=iso_codes(served),
        library_name="xmodular",
        pipeline_tag=task.pipeline,
        tags=["xmod", "multilingual", options.task],
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=sorted({each["source"].split(":")[1] for each in train if each["source"].startswith("hub:")}) or None,
    )
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {options.output_dir.resolve().name}: {options.task} with X-MOD",
        f"This model {does}. It was fine-tuned from {linked(options.model)} in {named_languages(languages)}, and has "
        f"the {len(served)} languages below: each is read with its own adapter. It was not trained on the task in any "
        "other language.",
        "## Use",
        _python(options, served, row),
        _shell(options, served),
        "## Languages",
        f"{named_languages(served)}.",
    ]
    if labels := read_labels(run.model):
        parts += ["## Labels", ", ".join(f"`{label}`" for label in labels) + "."]
    if "dev" in run.metrics:
        scores = {name: value for name, value in run.metrics["dev"].items() if name != "score"}
        parts += [
            "## Scores",
            f"On the validation data below, in the training language, after step {run.metrics['best_step']} of "
            f"{run.metrics['steps']}; the weights were chosen on the same data.",
            markdown_table(("metric", "value"), ((name, f"{value:.4f}") for name, value in scores.items())),
        ]
    parts += ["## Training data", _sources(train, dev)]
    if warnings:
        parts += ["## Warnings", "\n".join(f"- {each}" for each in warnings)]
    parts += ["## Training", _recipe(options)]
    parts.append(
        markdown_table(("part", "trainable", "of"), ((g.name, f"{g.trainable:,}", f"{g.total:,}") for g in groups))
        + "\n\nNumbers of parameters. Frozen parameters are those of the base model."
    )
    given = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    if options.max_steps is not None:
        given.pop("epochs", None)
    if not task.in_windows:
        given.pop("stride", None)
    settings = [(name, _shown(value)) for name, value in given.items()]
    parts.append(markdown_table(("setting", "value"), [("steps", str(run.metrics["steps"])), *settings]))
    versions = ", ".join(f"{name} {_version(name)}" for name in _VERSIONS)
    parts.append(f"Trained with {versions}, Python {platform.python_version()}. `options.json` has all options.")
    return "\n\n".join(parts) + "\n"


def _python(options: FinetuneOptions, served: Sequence[str], row: Mapping[str, Any]) -> str:
    return (
        "```python\n"
        "from xmodular import Predictor\n\n"
        f'predictor = Predictor("{_folder(options)}")\n'
        f'print(predictor([{json.dumps(row)}], language="{served[-1]}"))\n'
        "```"
    )


def _shell(options: FinetuneOptions, served: Sequence[str]) -> str:
    return (
        "Or on the command line:\n\n```sh\n"
        f"xmodular predict --model {_folder(options)} --input rows.jsonl --output predictions.jsonl "
        f"--language {served[-1]}\n```"
    )


def _folder(options: FinetuneOptions) -> str:
    """The model's folder as given; of an absolute path only the name, which reveals nothing about the machine."""
    return options.output_dir.name if options.output_dir.is_absolute() else str(options.output_dir)


def _recipe(options: FinetuneOptions) -> str:
    if options.recipe is None:
        return f"No recipe. Trainable: `{options.trainable}`."
    chosen = RECIPES[options.recipe]
    changed = [
        f"`{name}`" for name, value in chosen.values.items() if getattr(options, name) != value and name != "task"
    ]
    text = f"Recipe `{chosen.name}`, after {chosen.source}. Trainable: `{options.trainable}`."
    return f"{text} Changed: {', '.join(changed)}." if changed else text


def _sources(train: Sequence[_Source], dev: Sequence[_Source] | None) -> str:
    rows = [
        (
            use,
            Path(each["source"]).name if each["sha256"] else each["source"],
            f"{each['rows']:,}",
            each["sha256"] or "",
        )
        for use, sources in (("training", train), ("validation", dev or ()))
        for each in sources
    ]
    return markdown_table(("use", "source", "rows", "SHA-256"), rows)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
