"""Provenance (what was run), and the prediction for each row."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

from xmodular.evaluation.conditions import Job
from xmodular.evaluation.scoring import Scored
from xmodular.evaluation.subjects import Subject
from xmodular.evaluation.test_data import TestSet
from xmodular.files import json_text
from xmodular.options import EvaluateOptions, as_record, build
from xmodular.results import Row
from xmodular.tasks.qa import ANSWERS
from xmodular.tasks.task import short


def about(
    options: EvaluateOptions,
    subjects: Sequence[Subject],
    sets: Sequence[TestSet],
    rows: Sequence[Row],
    repeatable: bool,
    seconds: float,
    warnings: Sequence[str] = (),
    precisions: Sequence[str] = (),
) -> dict[str, Any]:
    """Provenance: models, data, options and versions; and the precision chosen for each model, if one was chosen."""
    about: dict[str, Any] = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}
    if repeatable and all(subject.given is None for subject in subjects):
        about["command"] = _command(options)
    about["models"] = [
        {
            "run": s.run,
            "seed": s.seed,
            "from": s.where,
            "class": s.architecture,
            "trained in": s.source,
            "languages": len(s.config.languages),
            **({"precision": precision} if precision else {}),
        }
        for s, precision in zip_longest(subjects, precisions)
    ]
    counts = {row.language: row.rows for row in rows}
    about["data"] = [
        {
            "language": each.language,
            "rows": counts.get(each.language),
            **({"independent": len(set(each.units)), "parallel": each.parallel} if each.units else {}),
            "from": list(each.files),
        }
        for each in sets
    ]
    if rows[0].task == "qa":
        about["answers"] = ANSWERS[options.answers]
    if warnings:
        about["warnings"] = [{"warning": each} for each in warnings]
    if options.precision != "keep":
        about["precision"] = options.precision
    about["seed"] = options.seed
    about["seconds"] = seconds
    packages = {name: version(name) for name in ("xmodular", "torch", "transformers", "tokenizers", "numpy")}
    about["versions"] = {"python": platform.python_version(), **packages}
    return about


def _command(options: EvaluateOptions) -> str:
    """The command line that does the same."""
    standard = as_record(build(EvaluateOptions, {"model": ["-"], "data": ["-"]}))
    words = ["xmodular", "evaluate"]
    for name, value in as_record(options).items():
        if value == standard[name]:
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            value = ",".join(f"{key}={part}" for key, part in value.items())
        if isinstance(value, list):
            value = ",".join(map(str, value))
        words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)


def write_predictions(
    folder: Path, subjects: Sequence[Subject], scored: Sequence[Mapping[Job, Scored]], sets: Mapping[str, TestSet]
) -> None:
    """One JSON line per model, condition and row."""
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for subject, found in zip(subjects, scored, strict=True):
            for job, each in found.items():
                examples, read = sets[job.reading.language].examples, each.told or [job.reading] * len(each.predictions)
                for example, prediction, reading in zip(examples, each.predictions, read, strict=True):
                    row = {
                        "run": subject.run,
                        "seed": subject.seed,
                        "adapter": job.condition,
                        "language": job.reading.language,
                        "id": example.id,
                        "place": example.place,
                        "gold": example.gold,
                        "prediction": short(dict(prediction)),
                        **({"identified": reading.language or None, "reader": reading.adapter} if each.told else {}),
                    }
                    file.write(json_text(row, default=_plain))


def _plain(value: Any) -> Any:
    """What JSON cannot hold as it is: numbers of NumPy, records."""
    return value.item() if hasattr(value, "item") else getattr(value, "_asdict", lambda: str(value))()
