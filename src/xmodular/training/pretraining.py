"""Pretrain a modular masked language model from text in any number of languages (Pfeiffer et al. 2022, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import PreTrainedTokenizerFast, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback

from xmodular.configuration import XmodConfig
from xmodular.console import compact, console, quiet_transformers
from xmodular.data import (
    Batches,
    BlockCache,
    HubText,
    LanguageBlocks,
    LanguageSampler,
    MixedBlocks,
    Share,
    find_dataset,
    find_text,
    language_shares,
    say_unknown,
)
from xmodular.errors import ConfigurationError, DataError
from xmodular.files import written_beside
from xmodular.modeling import XmodForCausalLM, XmodForMaskedLM, XmodPreTrainedModel
from xmodular.options import PretrainOptions, build
from xmodular.tasks import load_saved
from xmodular.training.checkpoints import checkpoint_step, saving
from xmodular.training.corpus import arguments_of, blocks_of, collator, measured_of, print_lines, schedule, text_of
from xmodular.training.log import RunLog
from xmodular.training.runs import Run, Start, begin, check_data, print_trainable, save_run
from xmodular.training.trainer import RoutedTrainer
from xmodular.training.validation import Validation
from xmodular.vocabulary import load_tokenizer, train_tokenizer

_Sources = Mapping[str, tuple[Path | HubText, ...]]
_SHARED = "shared"  # the one adapter of a dense model, while it trains
_TRIAL = 50_000  # draws from which to tell how many fill a budget of tokens
_DECIDED = {"languages", "pad_token_id", "bos_token_id", "eos_token_id", "is_decoder"}  # not for `overrides`


def pretrain(text: str | Path, **options: Any) -> Run:
    """Pretrain a model from scratch: text → tokenizer → blocks → masked LM, languages mixed in every batch.

    Args:
        text: folder of ``<language>.<anything>.txt``, ``.jsonl`` or ``.parquet`` files, or ``hub:<data set>``.
        options: `output_dir` and the other fields of `PretrainOptions`.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json`` and ``metrics.json`` (training
        loss; validation loss and perplexity of each language).

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
    """
    return _pretrain(build(PretrainOptions, {"text": text, **options}))


def _pretrain(options: PretrainOptions) -> Run:
    files = _sources(options)
    dev_files = _dev_files(options, files)
    _check_overrides(options)
    XmodConfig.preset(options.preset, **{"languages": list(files), **(options.overrides or {})})  # refuses bad ones
    given_tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer is not None else None
    arguments = arguments_of(options)
    processes = arguments.world_size
    if options.fsdp and processes == 1:
        raise ConfigurationError("--fsdp shards over several processes; start them with torchrun --nproc-per-node.")
    callbacks = _tensorboard(options, arguments.process_index == 0)
    with arguments.main_process_first(local=False, desc="the run's folder"):
        start = begin(options, processes)
    console.print(f"Pretraining in {len(files)} languages; output goes to {options.output_dir}")
    if start.goes_on:
        console.print(start.said)
        if start.changed and options.alpha_end is not None:
            console.print("Alpha goes on where a run of the present options has it at that step.")

    languages = [_SHARED] if options.shared else list(files)
    with arguments.main_process_first(local=False, desc="tokenizer and blocks"):
        tokenizer = given_tokenizer or _own_tokenizer(options, files, start)
        config = _config(options, tokenizer, languages)
        cache = BlockCache(
            options.cache_dir or options.output_dir / "blocks", tokenizer, options.block_size, options.packing
        )
        train_text = {}
        dev_text = {}
        for code, paths in files.items():
            if code in dev_files:
                train_text[code], dev_text[code] = (
                    text_of(options, code, paths),
                    text_of(options, code, dev_files[code]),
                )
            else:
                train_text[code] = text_of(options, code, paths, "train")
                dev_text[code] = text_of(options, code, paths, "dev")
        blocks = blocks_of(cache, train_text, "tokenising")
    dev = measured_of(options, tokenizer, options.block_size, dev_text.values())
    print_lines(blocks)
    print_lines([each for each in dev if each.language in dev_files], "Lines of --dev-text")
    say_unknown(dev)
    with arguments.main_process_first(local=False, desc="the run's data"):
        check_data(options, {each.language: [each.tokens, len(each.blocks)] for each in blocks})
    shares, shares_end = _shares(blocks, options)
    _print_shares(blocks, shares, shares_end)
    set_seed(options.seed)
    causal = options.objective == "clm"
    architecture = XmodForCausalLM if causal else XmodForMaskedLM
    model = architecture(config)
    print_trainable(model.set_trainable("all"))

    lang_ids = {code: 0 if options.shared else index for index, code in enumerate(files)}
    dataset = MixedBlocks(blocks, lang_ids)
    steps = _steps(options, dataset, processes)
    arguments.max_steps = steps
    for name, value in schedule(options.schedule, steps, options.decay).items():
        setattr(arguments, name, value)
    validation = Validation(
        model,
        dev,
        lang_ids,
        collator(options, tokenizer, seed=options.seed + 1, causal=causal),
        unk_id=tokenizer.unk_token_id,
        batch_size=options.batch_size,
    )
    batches = _batches(options, dataset, arguments)
    trainer = RoutedTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=collator(options, tokenizer, seed=options.seed, causal=causal),
        batches=batches,
        validate=validation,
        sharded=options.fsdp,
        log=RunLog(options.output_dir / "log.jsonl"),
        callbacks=callbacks,
    )
    if start.checkpoint is not None and checkpoint_step(start.checkpoint) >= steps:
        # Trainer would add a step to a finished run.
        console.print(f"All {steps} steps were done before.")
        model.load_state_dict(load_saved(start.checkpoint).state_dict())
        train_loss = trainer.mean_loss_at(start.checkpoint)
    else:
        with quiet_transformers():
            train_loss = trainer.train(str(start.checkpoint) if start.checkpoint else None).training_loss
    model = trainer.whole_model().eval()
    validation.model = model.to(arguments.device)
    per_language = validation.per_language()
    metrics: dict[str, Any] = {
        "steps": steps,
        "train_loss": train_loss,
        "validation": per_language,
    }
    if not start.changed:  # else these options did not draw all that was read
        metrics["tokens_read"] = dict(zip(files, batches.tokens().tolist(), strict=True))
        _print_read(blocks, metrics["tokens_read"])
    if per_language:
        _print_validation(per_language)
    if options.shared:
        _per_language(model, list(files))
    run = Run(model, tokenizer, options.output_dir, metrics)
    if trainer.is_world_process_zero():
        with saving("The model", options.output_dir):
            save_run(run, options)
        console.print(f"Saved model, tokenizer, metrics.json and options.json in {options.output_dir}")
    return run


def _shares(blocks: list[LanguageBlocks], options: PretrainOptions) -> tuple[dict[str, Share], dict[str, Share] | None]:
    """The languages' shares at the first draw, and at the last if they move."""
    tokens = {each.language: int(each.lengths.sum()) for each in blocks}
    end = None if options.alpha_end is None else language_shares(tokens, options.alpha_end)
    return language_shares(tokens, options.alpha), end


def _batches(options: PretrainOptions, dataset: MixedBlocks, arguments: TrainingArguments) -> Batches:
    """This process's batches of the whole run."""
    batches = arguments.max_steps * options.accumulation * arguments.world_size

    def made(draws: int) -> Batches:
        sampler = LanguageSampler(
            [len(each.blocks) for each in dataset.languages],
            [int(each.lengths.sum()) for each in dataset.languages],
            draws,
            options.seed,
            alpha=options.alpha,
            alpha_end=options.alpha_end,
            run=options.batch_size if options.mixing == "batch" else 1,
        )
        return Batches(
            sampler,
            batches,
            options.batch_size,
            budget=options.batch_tokens,
            lengths=dataset.lengths,
            rank=arguments.process_index,
            ranks=arguments.world_size,
        )

    return made(math.ceil(batches * made(_TRIAL).mean_rows()))


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
    """TensorBoard's callback, if it is asked for.

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


def _sources(options: PretrainOptions) -> _Sources:
    """The files, or the parts of a data set, of each language."""
    kind, _, dataset = str(options.text).partition(":")
    if kind != "hub":
        return find_text(options.text, options.languages)
    return find_dataset(
        dataset,
        options.languages,
        config=options.dataset_config,
        split=options.dataset_split,
        field=options.text_field,
        streaming=options.dataset_streaming,
        most=options.dataset_rows,
    )


def _dev_files(options: PretrainOptions, files: _Sources) -> dict[str, tuple[Path, ...]]:
    """The validation files of each language that has some.

    Raises:
        DataError: the folder has no file for any of the languages.
    """
    if options.dev_text is None:
        return {}
    found = find_text(options.dev_text)
    own = {code: found[code] for code in files if code in found}
    if not own:
        raise DataError(
            f"{options.dev_text} has validation text for {', '.join(found)}, and for none of the languages of "
            f"{options.text} ({', '.join(files)}): name the files by the same codes."
        )
    return own


def _own_tokenizer(options: PretrainOptions, files: _Sources, start: Start) -> PreTrainedTokenizerFast:
    """The tokenizer trained for this run, now or before it was broken off."""
    if start.goes_on and (options.output_dir / "tokenizer_config.json").is_file():  # the last of its files
        return load_tokenizer(options.output_dir)
    console.print(f"Training a tokenizer of {options.vocab_size:,} pieces")
    text = {code: text_of(options, code, paths) for code, paths in files.items()}
    tokenizer = train_tokenizer(
        text, options.vocab_size, alpha=options.alpha, seed=options.seed, byte_fallback=options.byte_fallback
    )
    if len(tokenizer) < options.vocab_size:
        console.print(f"The text gave {len(tokenizer):,} pieces only.")
    with written_beside(options.output_dir) as folder:
        tokenizer.save_pretrained(folder)
    return tokenizer


def _check_overrides(options: PretrainOptions) -> None:
    """Raises ConfigurationError if a field is overridden that text, tokenizer or objective decide."""
    if decided := sorted(_DECIDED & set(options.overrides or {})):
        raise ConfigurationError(
            f"--overrides cannot set {', '.join(decided)}: the text, the tokenizer and --objective decide it."
        )


def _config(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast, languages: list[str]) -> XmodConfig:
    """The model's configuration.

    Raises:
        ConfigurationError: `overrides` leave too little room for the vocabulary or for a block.
    """
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "languages": languages,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": options.block_size + tokenizer.pad_token_id + 1,
        "is_decoder": options.objective == "clm",
    }
    for name, least in (("vocab_size", len(tokenizer)), ("max_position_embeddings", fields["max_position_embeddings"])):
        if (asked := (options.overrides or {}).get(name, least)) < least:
            raise ConfigurationError(
                f"--overrides sets {name} to {asked}; the tokenizer and --block-size need {least} at least."
            )
    return XmodConfig.preset(options.preset, **{**fields, **(options.overrides or {})})


def _print_shares(blocks: list[LanguageBlocks], shares: dict[str, Share], end: dict[str, Share] | None) -> None:
    names = ["language", "lines", "tokens", "blocks", "natural", "drawn", "ratio"]
    if end is not None:
        names += ["drawn at the end", "ratio at the end"]
    table = Table(*names, title="Languages", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for each in blocks:
        share = shares[each.language]
        cells = [
            each.language,
            f"{each.lines.kept:,}",
            f"{share.tokens:,}",
            f"{len(each.blocks):,}",
            f"{share.natural:.1%}",
        ]
        for drawn in (share, *([end[each.language]] if end is not None else [])):
            cells += [f"{drawn.drawn:.1%}", f"{drawn.ratio:.2f}"]
        table.add_row(*cells)
    console.print(table)


def _print_read(blocks: list[LanguageBlocks], read: dict[str, int]) -> None:
    """What a run has read: the draws keep to the shares on average, and short runs less closely than long ones."""
    table = Table("language", "tokens", "share", "passes", title="Tokens read", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    total = sum(read.values())
    for each in blocks:
        tokens = read[each.language]
        table.add_row(each.language, f"{tokens:,}", f"{tokens / total:.1%}", f"{tokens / int(each.lengths.sum()):.2f}")
    console.print(table)


def _print_validation(per_language: dict[str, dict[str, float]]) -> None:
    columns = ("language", "loss", "perplexity", "bits a character", "accuracy", "<unk>")
    table = Table(*columns, title="Validation", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for code, values in per_language.items():
        table.add_row(
            code,
            f"{values['loss']:.3f}",
            compact(values["perplexity"]),
            f"{values['bits_per_character']:.3f}",
            f"{values['accuracy']:.1%}",
            f"{values['unknown']:.2%}",
        )
    console.print(table)
