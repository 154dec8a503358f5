"""Fine-tune on a task in one language, for transfer to the others (Pfeiffer et al. 2022, section 3.3).

By default embeddings and adapters are frozen; what the shared layers and the head learn with one language's
adapter is then used with another's.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import set_seed

from xmodular.configuration import XmodConfig, read_config
from xmodular.console import console, counted
from xmodular.errors import ConfigurationError
from xmodular.files import write_text
from xmodular.modeling import (
    ParameterGroup,
    XmodForSentenceEmbedding,
    XmodPreTrainedModel,
)
from xmodular.modeling.peft_layers import has_peft
from xmodular.options import FinetuneOptions
from xmodular.outputs import table_in
from xmodular.rows import sources_of
from xmodular.signatures import verb
from xmodular.tasks import (
    Task,
    fit_head,
    given_model,
    load_model,
    longest,
    read_labels,
    task_named,
    tokenizer_of,
)
from xmodular.tasks.label_counts import spread
from xmodular.tasks.readers import Reading, training_readings, validation_readings
from xmodular.tasks.task_heads import names_in
from xmodular.training import contents
from xmodular.training.checkpoints import remove_checkpoints, saving
from xmodular.training.contrasts import loss_of, pairs, set_up, without_languages
from xmodular.training.data_warnings import learned_nothing, warnings_about
from xmodular.training.epochs import Passes
from xmodular.training.fitting import Fit, fit
from xmodular.training.model_card import model_card
from xmodular.training.optimising import training_arguments
from xmodular.training.peft_runs import check_tuned
from xmodular.training.runs import Run, begin, check_sources, print_trainable, save_run
from xmodular.training.seeds import each_seed
from xmodular.training.task_data import EncodedData, Rows, encoded_data, held_out, read
from xmodular.training.trainer import Intervals
from xmodular.vocabulary import fingerprint

# Default length of a run. A few rows need more passes (Mosbach et al. 2021).
_PASSES, _FEWEST_STEPS = 5, 200
_APART = 10  # least steps between validations then: with few rows, passes are short, and validation takes long
# Options that affect the outcome here, but not elsewhere: the best weights are chosen among the validated ones.
_DECISIVE = ("eval_every",)


_ROWS = {"train": sources_of, "dev": sources_of}


@verb(FinetuneOptions, "model", "train", objects={"model": given_model}, rows=_ROWS, holds="output_dir")
def finetune(options: FinetuneOptions, given: XmodPreTrainedModel | None) -> Run:
    """Fine-tune a model on a task in one language.

    Args:
        model: a pretrained model's folder or name on the Hub; or a model object with the task's head, which is
            trained in place (its tokenizer is read from its folder, or from the option `tokenizer`). With
            several `seeds`, each starts from a copy of the object. So is a ``PeftModel`` around one, of which PEFT
            decides what trains; the folder then has its adapter. An existing head is kept, each label with its
            row (see `fit_head`).
        train: the training file or data set, or several; or the rows themselves: mappings of columns, in a list or
            another iterable, a table of pandas, polars or Arrow, or a data set of ``datasets``. So may be `dev`.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json``, ``metrics.json``, ``log.jsonl`` and a
        model card. It has all its languages; ``config.task_language`` is the one it was trained in,
        ``config.id2label`` its labels. With several `seeds`, the one with the best validation score, or the first
        without validation; all are saved in ``seed-<seed>``, and the metrics are means and standard deviations.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
        TrainingError: the loss is no longer finite, or a checkpoint cannot be written.
    """
    task = task_named(options.task)
    options.check_kind(task.kinds, f"the task is {task.name}")
    config = read_config(options.model) if given is None else given.config
    saved_as = config.architectures or ()  # for an object, too: the class that it was loaded from
    is_new = task.architecture not in saved_as
    if given is not None and has_peft(given):
        check_tuned(given, is_new=is_new, trainable=options.trainable)
    options = options.with_rates(config.hidden_size, is_new=is_new, peft=given is not None and has_peft(given))
    return each_seed(options, given, _finetune, _DECISIVE) if options.seeds else _finetune(options, given)


def _finetune(options: FinetuneOptions, given: XmodPreTrainedModel | None) -> Run:
    task = task_named(options.task)
    arguments = training_arguments(options)
    check_sources(options)
    _check_unfinished(options)
    rows, dev_rows, labels = _rows(task, options, read_config(options.model) if given is None else given.config)
    origin = contents.base(options.model, given)
    model = _with_options(task, labels, options, given)
    labels = read_labels(model) if labels else labels
    readings = training_readings(without_languages(rows.examples, options), options.language, model.languages)
    codes = Counter(each.adapter for each in readings)
    tokenizer = tokenizer_of(model, options.tokenizer)  # a language's own one is saved with its weights
    data = encoded_data(task, pairs(rows.examples, readings, model, options), readings, labels, model, options)
    dev = None if dev_rows is None else _validation_data(task, dev_rows, readings, labels, model, options)
    fewest = 0 if options.epochs else _FEWEST_STEPS
    batches = Passes.of(options, arguments, len(data), options.epochs or _PASSES, fewest, data.by_vocabulary)
    sources = {use: list(part.sources) for use, part in (("train", rows), ("dev", dev_rows)) if part is not None}
    facts = {**sources, **origin, contents.TOKENIZER: fingerprint(tokenizer)}
    start = begin(options, arguments, facts, decisive=_DECISIVE)
    console.print(
        f"Fine-tuning {task.name} in {', '.join(codes)}: {counted(len(rows.examples), 'row')}"
        f"{f', {len(labels)} labels' if len(labels) > 1 else ''}, {counted(batches.steps, 'step')}; output goes to "
        f"{options.output_dir}"
    )
    warnings = _describe(model, rows, data, dev, options)
    if start.goes_on:
        console.print(start.said)
    groups = model.trainable_groups() if has_peft(model) else model.set_trainable(options.trainable)
    print_trainable(groups)

    fitted = fit(
        model,
        data,
        data.batch,
        batches,
        options,
        arguments,
        start,
        batches.steps,
        intervals=_intervals(options, batches),
        validate=None if dev is None else lambda: dev.scores(model, labels),
        head_rate=options.head_learning_rate,
        **loss_of(model),
    )
    _note_down(model, task, codes.most_common(1)[0][0], rows, dev_rows, options)
    metrics: dict[str, Any] = {"steps": fitted.step, "train_loss": fitted.train_loss}
    if dev is not None:
        stopped_early = fitted.step < batches.steps
        metrics |= {"best_step": fitted.best, "stopped_early": stopped_early, "dev": dev.scores(model, labels)}
    at_the_end = {**metrics, "train_loss": _last_loss(options.output_dir, fitted)}
    if said := learned_nothing(task, data.examples, None if dev is None else dev.examples, labels, at_the_end, options):
        console.print(said)
        warnings.append(said)
    run = Run(model, tokenizer, options.output_dir, metrics)
    if arguments.process_index == 0:
        _save(run, options, list(codes), rows, dev_rows, groups, warnings)
    return run


def _validation_data(
    task: Task,
    rows: Rows,
    training: Sequence[Reading],
    labels: Sequence[str],
    model: XmodPreTrainedModel,
    options: FinetuneOptions,
) -> EncodedData:
    """Validation rows as the model reads them, each by the adapter that its language or the training rows give."""
    examples = without_languages(rows.examples, options)
    readings = validation_readings(examples, training, options.language, model.languages)
    return encoded_data(task, pairs(rows.examples, readings, model, options), readings, labels, model, options)


def _last_loss(folder: Path, fitted: Fit) -> float:
    """The last training loss that was logged; in a run too short for that, the mean one."""
    log = folder / "log.jsonl"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # another program may have written there
            return float(json.loads(line)["loss"])
    return fitted.train_loss


def _intervals(options: FinetuneOptions, batches: Passes) -> Intervals:
    """When a run validates, saves and ends."""
    apart = _APART if options.epochs is None and options.max_steps is None else 1
    validate = options.eval_every or max(batches.per_pass, apart)
    save = options.save_every or batches.steps
    return Intervals(validate if options.validates else None, save, keep=1, best=True, patience=options.patience)


def _rows(task: Task, options: FinetuneOptions, config: XmodConfig) -> tuple[Rows, Rows | None, list[str]]:
    """Training rows, validation rows, and the labels in the order of a new head, for a model of this configuration.

    Raises:
        ConfigurationError: there is only one label.
    """
    rows = read(task, options.train, options, config.languages, own=names_in(config))
    labels = task.label_names(rows.examples)
    dev_rows: Rows | None
    if options.dev_fraction is not None:
        rows, dev_rows = held_out(task, rows, options.dev_fraction)
    else:
        dev_rows = read(task, options.dev, options, config.languages, labels) if options.dev else None
    if len(labels) == 1 and task.problem_type != "regression":
        raise ConfigurationError(
            f"{', '.join(options.train)} has only one label ({labels[0]!r}): there is nothing to learn."
        )
    return rows, dev_rows, labels


def _repeated(rows: Rows) -> list[str]:
    """Sources that have the same rows, a sentence for each group."""
    names: dict[str, list[str]] = {}
    for source, content in zip(rows.sources, rows.contents, strict=True):
        names.setdefault(content, []).append(source["source"])
    return [
        f"These have the same rows, which are used repeatedly: {', '.join(n)}." for n in names.values() if len(n) > 1
    ]


def _describe(
    model: XmodPreTrainedModel, rows: Rows, data: EncodedData, dev: EncodedData | None, options: FinetuneOptions
) -> list[str]:
    """Print a summary of the rows and warnings about them; returns the warnings."""
    for name, part in (("Training", data), ("Validation", dev)):
        if part is not None and (gold := spread(part.examples)):
            console.print(f"{name} rows: {gold}")
    tokens = longest(model, options.max_length)
    if tokens < options.max_length:
        console.print(f"The model has positions for {tokens} tokens, so longer texts are truncated.")
    warnings = [*_repeated(rows), *warnings_about(data.examples, None if dev is None else dev.examples)]
    for name, part in (("training", data), ("validation", dev)):
        if part is not None and part.cut:
            warnings.append(f"{part.cut:,} of {len(part.examples):,} {name} rows are truncated to {tokens} tokens.")
    for each in warnings:
        console.print(each)
    return warnings


def _note_down(
    model: XmodPreTrainedModel, task: Task, language: str, rows: Rows, dev: Rows | None, options: FinetuneOptions
) -> None:
    """Record in the model's configuration the task, the options and the data of its training."""
    config = model.config
    config.task_language, config.finetuning_task = language, task.name
    config.task_max_length, config.task_stride = options.max_length, options.stride
    if options.columns or config.task_columns is not None:
        config.task_columns = dict(options.columns or {})
    config.task_data = {
        use: list(dict.fromkeys([*config.noted_rows(use), *(() if part is None else part.contents)]))
        for use, part in (("train", rows), ("dev", dev))
    }


def _save(
    run: Run,
    options: FinetuneOptions,
    languages: Sequence[str],
    rows: Rows,
    dev: Rows | None,
    groups: Sequence[ParameterGroup],
    warnings: Sequence[str],
) -> None:
    """Write the model with its model card, and remove the checkpoints."""
    pairs = "hypothesis" in task_named(options.task).fields and len(rows.examples[0].texts) == 2
    dev_sources = None if dev is None else dev.sources
    with saving("The model", options.output_dir):
        text = model_card(run, options, languages, rows.sources, dev_sources, groups, pairs=pairs, warnings=warnings)
        write_text(options.output_dir / "README.md", text)
        save_run(run, options)
    remove_checkpoints(options.output_dir)
    console.print(f"Saved model, tokenizer, model card, metrics.json and options.json in {options.output_dir}")


def _check_unfinished(options: FinetuneOptions) -> None:
    """Raises ConfigurationError if a finished run is there, before anything is read."""
    if options.overwrite or not (options.output_dir / "options.json").is_file():
        return
    if "train" in table_in(options.output_dir / "options.json"):  # a fine-tuning, killed at its end
        remove_checkpoints(options.output_dir)
    gone = ", whose checkpoints were removed, so it cannot be continued" if options.resume else ""
    raise ConfigurationError(
        f"{options.output_dir} contains a finished run{gone}. Choose another folder, or use --overwrite."
    )


def _with_head(model: XmodPreTrainedModel, task: Task, labels: Sequence[str]) -> XmodPreTrainedModel:
    """The given model, its head fitted to the labels."""
    if type(model).__name__ != task.architecture:
        raise ConfigurationError(
            f"The task {task.name} needs an {task.architecture}; this is an {type(model).__name__}."
        )
    fit_head(model, task, labels, as_many=True)
    return model


def _with_options(
    task: Task, labels: Sequence[str], options: FinetuneOptions, given: XmodPreTrainedModel | None
) -> XmodPreTrainedModel:
    """The model to train, with the requested dropout and pooling of the task head.

    Raises:
        ConfigurationError: the model is not for the task, or the task has no head that reads a whole text.
    """
    set_seed(options.seed)
    model = load_model(options.model, task, labels) if given is None else _with_head(given, task, labels)
    if options.classifier_dropout is not None:
        model.config.classifier_dropout = options.classifier_dropout
        for part in (model, getattr(model, "classifier", None)):
            if isinstance(dropout := getattr(part, "dropout", None), nn.Dropout):
                dropout.p = options.classifier_dropout
    if isinstance(model, XmodForSentenceEmbedding):
        set_up(model, options)
    elif options.pooling is not None:
        model.config.classifier_pooling = options.pooling
    return model
