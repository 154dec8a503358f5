"""Pretrain a modular masked language model from text in any number of languages (Pfeiffer et al. 2022, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback

from xmodular.configuration import XmodConfig
from xmodular.console import console
from xmodular.errors import ConfigurationError, DataError
from xmodular.modeling import XmodForCausalLM, XmodForMaskedLM, XmodModel, XmodPreTrainedModel
from xmodular.options import PretrainOptions
from xmodular.signatures import verb
from xmodular.tasks import given_plain_model, load_saved
from xmodular.text import (
    BlockCache,
    HubText,
    LanguageBlocks,
    MeasuredText,
    MixedBlocks,
    Share,
    find_dataset,
    find_text,
    language_shares,
    say_unknown,
)
from xmodular.training import contents
from xmodular.training.bases import (
    HEAD_RATE,
    Base,
    certify,
    moving_parts,
    piece_shares,
    with_new_head,
)
from xmodular.training.checkpoints import saving
from xmodular.training.fitting import fit
from xmodular.training.from_scratch import check_overrides, config_of, own_tokenizer
from xmodular.training.language_modeling import (
    blocks_of,
    collator,
    drawn_batches,
    intervals_of,
    measured_of,
    print_lines,
    text_of,
    validation_of,
)
from xmodular.training.optimising import training_arguments
from xmodular.training.runs import Run, Start, begin, check_made, check_sources, print_trainable, save_run
from xmodular.training.text_tables import print_read, print_shares, print_validation
from xmodular.vocabulary import fingerprint, load_tokenizer, positions_of

_Sources = Mapping[str, tuple[Path | HubText, ...]]
_SHARED = "shared"  # the one adapter of a dense model, while it trains
_HEAD = "head"  # folder of the run that trains the head first, within that of the whole run


@dataclass(frozen=True)
class _Data:
    """What a run reads, by its tokenizer: blocks to train on, validation text, the languages' ids in the model."""

    tokenizer: PreTrainedTokenizerFast
    blocks: list[LanguageBlocks]
    dev: list[MeasuredText]
    lang_ids: dict[str, int]


@verb(PretrainOptions, "text", objects={"model": given_plain_model}, holds="output_dir")
def pretrain(options: PretrainOptions, given: XmodPreTrainedModel | None) -> Run:
    """Pretrain from scratch (text → tokenizer → blocks → masked LM), or continue with a model; batches mix languages.

    Args:
        model: a folder or a name on the Hub, or a model object, which is not changed: the model to continue; the
            result has its shape, languages and tokenizer.
        text: folder of ``<language>.<anything>.txt``, ``.jsonl`` or ``.parquet`` files, or ``hub:<data set>``.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json`` and ``metrics.json`` (training
        loss; validation loss and perplexity of each language). With the option `model` the metrics also have the
        validation ``before`` training, and ``certificate.json`` tells what changed.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
        TrainingError: the loss is no longer finite, a checkpoint cannot be written, or a weight changed that
            should be frozen.
    """
    base = Base.of(options, given)
    files = _sources(options, base)
    dev_files = _dev_files(options, files, base)
    given_tokenizer = None
    if base is None:
        check_overrides(options)
        preset = options.preset or "small"
        XmodConfig.preset(preset, **{"languages": list(files), **(options.overrides or {})})  # refuses bad ones
        given_tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer is not None else None
    arguments = training_arguments(options)
    if options.fsdp and arguments.world_size == 1:
        raise ConfigurationError("--fsdp needs several processes; start them with torchrun --nproc-per-node.")
    callbacks = _tensorboard(options, arguments.process_index == 0)
    data = contents.texts(files, dev_files) | ({} if base is None else contents.base(base.source, given))
    if given_tokenizer is not None:
        data[contents.TOKENIZER] = fingerprint(given_tokenizer)
    check_sources(options)
    start = begin(options, arguments, data, inner=_HEAD)
    _say_start(options, list(files), start)

    model: Any = None
    if base is not None:
        model = _with_trained_head(options, given) if options.head_steps else base.load()
    with arguments.main_process_first(local=False, desc="tokenizer and blocks"):
        if base is not None:
            tokenizer = base.tokenizer(model, options.tokenizer)
        else:
            tokenizer = given_tokenizer or own_tokenizer(options, files, start)
            start = check_made(options, arguments, start, {contents.TOKENIZER: fingerprint(tokenizer)})
            config = config_of(options, tokenizer, [_SHARED] if options.shared else list(files))
        size = options.block_size if base is None else min(options.block_size, positions_of(base.config))
        ids = [0] * len(files) if options.shared else range(len(files))
        lang_ids = dict(zip(files, ids, strict=True)) if base is None else base.lang_ids(files)
        read = _read(options, tokenizer, size, files, dev_files, lang_ids)
    shares, shares_end = _shares(read.blocks, options)
    print_shares(read.blocks, shares, shares_end)
    set_seed(options.seed)
    if model is None:
        model = (XmodForCausalLM if options.objective == "clm" else XmodForMaskedLM)(config)
    elif isinstance(model, XmodModel):
        drawn = {code: share.drawn for code, share in shares.items()}
        pieces, special = model.config.vocab_size, tokenizer.all_special_ids
        model = with_new_head(model, piece_shares(read.blocks, drawn, pieces, special))
    print_trainable(model.set_trainable(options.trainable, languages=None if base is None else list(files)))
    return _train(options, base, model, read, arguments, start, callbacks)


def _say_start(options: PretrainOptions, languages: Sequence[str], start: Start) -> None:
    does = "Pretraining" if options.model is None else f"Continuing {options.model}"
    console.print(f"{does} in {len(languages)} languages; output goes to {options.output_dir}")
    if start.goes_on:
        console.print(start.said)
        if start.changed and options.alpha_end is not None:
            console.print("Alpha continues from its value at that step under the present options.")


def _with_trained_head(options: PretrainOptions, given: XmodPreTrainedModel | None) -> XmodPreTrainedModel:
    """The model after training only its head, in a separate run in the folder ``head``."""
    folder = options.output_dir / _HEAD
    if (folder / "options.json").is_file():
        return load_saved(folder)
    console.print(f"First the head is trained for {options.head_steps} steps; everything else is frozen.")
    first = replace(
        options,
        output_dir=folder,
        cache_dir=options.cache_dir or options.output_dir / "blocks",
        trainable="head",
        head_steps=None,
        max_steps=options.head_steps,
        learning_rate=HEAD_RATE,
        warmup=PretrainOptions.warmup,
        overwrite=False,
    )
    trained = pretrain(**{**vars(first), "model": options.model if given is None else given}).model
    console.print(f"The head is trained. Trainable from now on: {options.trainable}.")
    return trained


def _read(
    options: PretrainOptions,
    tokenizer: PreTrainedTokenizerFast,
    size: int,
    files: _Sources,
    dev_files: _Sources,
    lang_ids: dict[str, int],
) -> _Data:
    """Blocks of all languages and validation text; prints the counts of the lines."""
    cache = BlockCache(options.cache_dir or options.output_dir / "blocks", tokenizer, size, options.packing)
    train, dev = {}, {}
    for code, paths in files.items():
        given = dev_files.get(code)
        train[code] = text_of(options, code, paths, "train" if given is None else "all")
        dev[code] = text_of(options, code, paths, "dev") if given is None else text_of(options, code, given)
    blocks = blocks_of(cache, train)
    measured = measured_of(options, tokenizer, size, dev.values())
    print_lines(blocks)
    print_lines([each for each in measured if each.language in dev_files], "Lines of --dev-text")
    say_unknown(measured)
    return _Data(tokenizer, blocks, measured, lang_ids)


def _train(
    options: PretrainOptions,
    base: Base | None,
    model: XmodPreTrainedModel,
    data: _Data,
    arguments: TrainingArguments,
    start: Start,
    callbacks: list[TrainerCallback],
) -> Run:
    """Train a prepared model, and save it with its metrics."""
    causal = isinstance(model, XmodForCausalLM)
    may_move = moving_parts(model, options)
    dataset = MixedBlocks(data.blocks, data.lang_ids)
    steps = _steps(options, dataset, arguments.world_size)
    validation = validation_of(options, model, data.dev, data.lang_ids, data.tokenizer, causal=causal)
    before = {}
    if base is not None:
        model.to(arguments.device)  # type: ignore[arg-type]
        before = validation.per_language()
    batches = drawn_batches(options, dataset, arguments, steps)
    fitted = fit(
        model,
        dataset,
        collator(options, data.tokenizer, seed=options.seed, causal=causal),
        batches,
        options,
        arguments,
        start,
        steps,
        intervals=intervals_of(options),
        validate=validation,
        sharded=options.fsdp,
        callbacks=callbacks,
    )
    validation.model = model = fitted.model.to(arguments.device)  # type: ignore[arg-type]
    metrics: dict[str, Any] = {"steps": steps, "train_loss": fitted.train_loss}
    if base is not None:
        metrics["before"] = before
    metrics["validation"] = validation.per_language()
    if not start.changed:  # else these options did not draw all that was read
        metrics["tokens_read"] = dict(zip(data.lang_ids, batches.tokens().tolist(), strict=True))
        print_read(data.blocks, metrics["tokens_read"])
    if metrics["validation"]:
        print_validation(metrics["validation"], before)
    if options.shared:
        _per_language(model, list(data.lang_ids))
    run = Run(model, data.tokenizer, options.output_dir, metrics)
    if arguments.process_index == 0:
        with saving("The model", options.output_dir):
            save_run(run, options, more=lambda: None if base is None else certify(run, base, may_move))
        console.print(f"Saved model, tokenizer, metrics.json and options.json in {options.output_dir}")
    return run


def _shares(blocks: list[LanguageBlocks], options: PretrainOptions) -> tuple[dict[str, Share], dict[str, Share] | None]:
    """The languages' shares at the first draw, and at the last if they move."""
    tokens = {each.language: int(each.lengths.sum()) for each in blocks}
    end = None if options.alpha_end is None else language_shares(tokens, options.alpha_end)
    return language_shares(tokens, options.alpha), end


def _steps(options: PretrainOptions, dataset: MixedBlocks, processes: int) -> int:
    """Optimiser steps of the whole run."""
    if options.max_steps is not None:
        return options.max_steps
    if options.batch_tokens is not None:
        passes = int(dataset.lengths.sum()) / options.batch_tokens
    else:
        passes = len(dataset) / options.batch_size
    return math.ceil(options.epochs * passes / (options.accumulation * processes))


def _tensorboard(options: PretrainOptions, first_process: bool) -> list[TrainerCallback]:
    """TensorBoard's callback, if requested.

    Raises:
        ConfigurationError: TensorBoard is not installed.
    """
    if options.report_to == "none":
        return []
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigurationError("--report-to tensorboard needs TensorBoard: pip install tensorboard") from error
    if not first_process:
        return []
    return [TensorBoardCallback(SummaryWriter(str(options.output_dir / "tensorboard")))]


def _per_language(model: XmodPreTrainedModel, languages: list[str]) -> None:
    """Give every language a copy of the one adapter, so that the model works as any other."""
    for code in languages:
        model.add_language(code, _SHARED)
    model.remove_language(_SHARED)


def _sources(options: PretrainOptions, base: Base | None) -> _Sources:
    """The files, or the parts of a data set, of each language; by the codes of an existing model."""
    kind, _, dataset = str(options.text).partition(":")
    found: _Sources
    if kind != "hub":
        found = find_text(options.text, options.languages)
    else:
        found = find_dataset(
            dataset,
            options.languages,
            config=options.dataset_config,
            split=options.dataset_split,
            field=options.text_field,
            streaming=options.dataset_streaming,
            most=options.dataset_rows,
        )
    return found if base is None else base.by_code(found)


def _dev_files(options: PretrainOptions, files: _Sources, base: Base | None) -> _Sources:
    """The validation files of each language that has some.

    Raises:
        DataError: the folder has no file for any of the languages.
    """
    if options.dev_text is None:
        return {}
    found: _Sources = find_text(options.dev_text)
    if base is not None:
        found = base.by_code(found, strict=False)
    own = {code: found[code] for code in files if code in found}
    if not own:
        raise DataError(
            f"{options.dev_text} has validation text for {', '.join(found)}, but for none of the languages of "
            f"{options.text} ({', '.join(files)}): use the same codes in the file names."
        )
    return own
