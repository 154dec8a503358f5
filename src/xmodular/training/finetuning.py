"""Fine-tune a task in one language, so that it transfers to the others (Pfeiffer et al. 2022, section 3.3).

Embeddings and adapters stay as pretrained by default; what the shared layers and the head learn beside one language's
adapter is then used beside another's.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, set_seed

from xmodular.console import console, quiet_transformers
from xmodular.errors import ConfigurationError
from xmodular.languages import resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import FinetuneOptions, build
from xmodular.tasks import (
    TASKS,
    Encoding,
    Task,
    given_model,
    load_model,
    longest,
    pad_batch,
    predict_logits,
    tokenizer_of,
)
from xmodular.training.runs import Run, check_apart, claim, print_trainable, save_run
from xmodular.training.trainer import RoutedTrainer, training_arguments


def finetune(model: XmodPreTrainedModel | str | Path, train: str | Path, **options: Any) -> Run:
    """Train a task in one language.

    Args:
        model: a pretrained model's folder or name on the Hub; or a model object with the task's head, which is
            trained in place (its tokenizer is read from where it came from, or from the option `tokenizer`).
        train: the training file.
        options: `language`, `output_dir` and the other fields of `FinetuneOptions`.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json`` and ``metrics.json``. All its
        languages are there; ``config.task_language`` says which one it was trained in, ``config.id2label`` its labels.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
    """
    given, source = given_model(model)
    return _finetune(build(FinetuneOptions, {"model": source, "train": train, **options}), given)


def _finetune(options: FinetuneOptions, given: XmodPreTrainedModel | None = None) -> Run:
    task = TASKS[options.task]
    rows = task.load(options.train)
    dev_rows = task.load(options.dev) if options.dev else []
    labels = task.label_names(rows)
    if len(labels) < 2:
        raise ConfigurationError(f"{options.train} has one label only ({labels[0]!r}): there is nothing to learn.")
    check_apart(options.model, options.output_dir)
    claim(options.output_dir, overwrite=options.overwrite)
    arguments = training_arguments(
        options,
        **(
            {
                "eval_strategy": "epoch",
                "save_strategy": "epoch",
                "save_total_limit": 1,
                "save_only_model": True,
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_score",
                "greater_is_better": True,
            }
            if dev_rows
            else {"save_strategy": "no"}
        ),
    )
    set_seed(options.seed)
    model = _with_head(given, task, labels) if given is not None else load_model(options.model, task, labels)
    language = resolve(options.language, model.languages)
    tokenizer = tokenizer_of(model, options.tokenizer, language)
    # A language's own tokenizer is saved with its weights.
    shared = tokenizer if language not in model.config.vocabularies else tokenizer_of(model, options.tokenizer)
    ids = {name: index for index, name in enumerate(labels)}
    cut = longest(model, options.max_length)
    encodings = task.encode(tokenizer, rows, ids, cut)
    dev = task.encode(tokenizer, dev_rows, ids, cut) if dev_rows else []
    console.print(
        f"Fine-tuning {task.name} in {language}: {len(rows)} rows, {len(labels)} labels; "
        f"output goes to {options.output_dir}"
    )
    print_trainable(model.set_trainable(options.trainable))

    lang_id = model.languages.index(language)
    trainer = RoutedTrainer(
        model=model,
        args=arguments,
        train_dataset=_Rows(encodings),
        data_collator=_Collator(task, lang_id, tokenizer.pad_token_id),
        validate=(lambda: _scores(model, task, dev, labels, lang_id, tokenizer)) if dev else None,
    )
    with quiet_transformers():
        result = trainer.train()
    model.eval()
    model.config.task_language = language
    metrics: dict[str, Any] = {
        "steps": trainer.state.global_step,
        "train_loss": result.training_loss,
    }
    if dev:
        metrics["dev"] = _scores(model, task, dev, labels, lang_id, tokenizer)
    run = Run(model, shared, options.output_dir, metrics)
    if trainer.is_world_process_zero():
        save_run(run, options)
        shutil.rmtree(options.output_dir / "checkpoints", ignore_errors=True)
        console.print(f"Saved model, tokenizer, metrics.json and options.json in {options.output_dir}")
    return run


def _with_head(model: XmodPreTrainedModel, task: Task, labels: list[str]) -> XmodPreTrainedModel:
    """The given model, its labels named."""
    if type(model).__name__ != task.architecture:
        raise ConfigurationError(f"The task {task.name} needs a {task.architecture}; this is a {type(model).__name__}.")
    if model.config.num_labels != len(labels):
        raise ConfigurationError(
            f"The model has a head for {model.config.num_labels} labels, the training file has {len(labels)}: "
            f"{', '.join(labels)}. Load the model with num_labels={len(labels)}."
        )
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {name: index for index, name in enumerate(labels)}
    return model


def _scores(
    model: XmodPreTrainedModel,
    task: Task,
    encodings: Sequence[Encoding],
    labels: list[str],
    lang_id: int,
    tokenizer: PreTrainedTokenizerFast,
) -> dict[str, float]:
    """The task's metrics on some rows, the main one also as ``score``."""
    logits = predict_logits(
        model, [each.input_ids for each in encodings], [lang_id] * len(encodings), pad_id=tokenizer.pad_token_id
    )
    predicted = [task.decode(each, values) for each, values in zip(encodings, logits, strict=True)]
    sums = task.statistics([each.labels for each in encodings], predicted, labels).sum(0)
    values = {name: float(value) for name, value in task.metrics(sums, labels).items()}
    return {"score": next(iter(values.values())), **values}


class _Rows(Dataset):
    def __init__(self, rows: Sequence[Encoding]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Encoding:
        return self.rows[index]


class _Collator:
    """Pads rows of one language and their labels."""

    def __init__(self, task: Task, lang_id: int, pad_id: int) -> None:
        self.task = task
        self.lang_id = lang_id
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Encoding]) -> dict[str, Any]:
        batch = pad_batch([row.input_ids for row in rows], [self.lang_id] * len(rows), self.pad_id)
        targets = [self.task.target(row) for row in rows]
        if isinstance(targets[0], int):
            labels = torch.tensor(targets)
        else:
            labels = torch.full_like(batch["input_ids"], -100)
            for row, target in zip(labels, targets, strict=True):
                own = torch.tensor(target)
                row[: len(own)] = own
        return {**batch, "labels": labels}
