"""A run's folder: free before the work starts, complete when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import PreTrainedTokenizerFast

from xmodular.console import console, quiet_transformers
from xmodular.errors import ConfigurationError
from xmodular.files import write_json, written_beside
from xmodular.modeling import ParameterGroup, XmodPreTrainedModel
from xmodular.options import TrainingOptions, as_record


@dataclass(frozen=True)
class Run:
    """What a training verb gives back.

    Attributes:
        model: the trained model, in evaluation mode.
        tokenizer: its tokenizer.
        output_dir: the folder they were saved to.
        metrics: what was measured, as in ``metrics.json``.
    """

    model: XmodPreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    output_dir: Path
    metrics: dict[str, Any]


def claim(output_dir: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Make sure that a run may write here, and make the folder.

    An old run loses its mark and its model first, so that no mixture of both can pass for a finished run.

    Raises:
        ConfigurationError: the folder is a file, or holds a finished run and `overwrite` is False.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise ConfigurationError(f"{output_dir} is a file; the output needs a folder.")
    if (output_dir / "options.json").is_file() and not overwrite and not resume:
        raise ConfigurationError(f"{output_dir} holds a finished run. Choose another folder, or --overwrite it.")
    output_dir.mkdir(parents=True, exist_ok=True)
    if (output_dir / "options.json").is_file() and not resume:
        (output_dir / "options.json").unlink()
        (output_dir / "config.json").unlink(missing_ok=True)


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run, if there is one."""
    # trainer_state.json is written last.
    complete = [path.parent for path in output_dir.glob("checkpoints/checkpoint-*/trainer_state.json")]
    return max(complete, key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def save_run(run: Run, options: TrainingOptions) -> None:
    """Write model, tokenizer, ``metrics.json`` and ``options.json`` (last: it marks a finished run)."""
    with written_beside(run.output_dir) as folder, quiet_transformers():
        run.model.save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)
    run.model.config._name_or_path = str(run.output_dir)  # where its tokenizer is found
    write_json(run.output_dir / "metrics.json", run.metrics)
    write_json(run.output_dir / "options.json", as_record(options))


def print_trainable(groups: Sequence[ParameterGroup]) -> None:
    """Say what trains: each group's trainable and total parameters."""
    shown = Table("part", "trains", "of", title="Parameters", title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for group in groups:
        shown.add_row(group.name, f"{group.trainable:,}", f"{group.total:,}")
    trainable, total = (sum(counts) for counts in zip(*((g.trainable, g.total) for g in groups), strict=True))
    shown.add_row("all", f"{trainable:,}", f"{total:,}", style="bold")
    console.print(shown)
