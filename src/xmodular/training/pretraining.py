"""Pretrain a modular masked language model from text in any number of languages (Pfeiffer et al. 2022, section 3)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import PreTrainedTokenizerFast, set_seed

from xmodular.configuration import XmodConfig
from xmodular.console import console, progress, quiet_transformers
from xmodular.data import (
    BlockCache,
    LanguageBlocks,
    LanguageSampler,
    MaskedLMCollator,
    MixedBlocks,
    Share,
    TextFiles,
    find_text,
    language_shares,
)
from xmodular.errors import DataError
from xmodular.files import written_beside
from xmodular.modeling import XmodForMaskedLM
from xmodular.options import PretrainOptions, build
from xmodular.tasks import block_statistics, load_saved, perplexity_metrics
from xmodular.training.runs import Run, checkpoint_step, claim, last_checkpoint, print_trainable, save_run
from xmodular.training.trainer import RoutedTrainer, training_arguments
from xmodular.vocabulary import load_tokenizer, train_tokenizer


def pretrain(text: str | Path, **options: Any) -> Run:
    """Pretrain a model from scratch: text → tokenizer → blocks → masked LM, languages mixed in every batch.

    Args:
        text: folder of ``<language>.<anything>.txt`` files.
        options: `output_dir` and the other fields of `PretrainOptions`.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json`` and ``metrics.json`` (training
        loss; validation loss and perplexity of each language).

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
    """
    return _pretrain(build(PretrainOptions, {"text": text, **options}))


def _pretrain(options: PretrainOptions) -> Run:
    files = find_text(options.text, options.languages)
    dev_files = find_text(options.dev_text) if options.dev_text else {}
    XmodConfig.preset(options.preset, **{"languages": list(files), **(options.overrides or {})})  # refuses bad ones
    claim(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    arguments = training_arguments(
        options,
        eval_strategy="steps" if options.eval_every else "no",
        eval_steps=options.eval_every,
        save_strategy="steps" if options.save_every else "no",
        save_steps=options.save_every or 500,
        save_total_limit=2,
        dataloader_num_workers=options.workers,
    )
    checkpoint = last_checkpoint(options.output_dir) if options.resume else None
    console.print(f"Pretraining in {len(files)} languages; output goes to {options.output_dir}")
    if options.resume:
        console.print(f"Resuming from {checkpoint}" if checkpoint else "No checkpoint to resume from: starting afresh.")

    with arguments.main_process_first(desc="tokenizer and blocks"):
        tokenizer = _tokenizer(options, files)
        cache = BlockCache(
            options.cache_dir or options.output_dir / "blocks", tokenizer, options.block_size, options.packing
        )
        train_text = {}
        dev_text = {}
        for code, paths in files.items():
            if code in dev_files:
                train_text[code], dev_text[code] = TextFiles(code, paths), TextFiles(code, dev_files[code])
            else:
                train_text[code] = TextFiles(code, paths, "train", options.dev_fraction)
                dev_text[code] = TextFiles(code, paths, "dev", options.dev_fraction)
        blocks = _blocks(cache, train_text, "tokenising")
        dev_blocks = _blocks(cache, dev_text, "tokenising validation text", may_be_empty=True)

    shares = language_shares({each.language: each.tokens for each in blocks}, options.alpha)
    _print_shares(blocks, shares)
    set_seed(options.seed)
    model = XmodForMaskedLM(_config(options, tokenizer, list(files)))
    print_trainable(model.set_trainable("all"))

    lang_ids = {code: index for index, code in enumerate(model.languages)}
    dataset = MixedBlocks(blocks, lang_ids)
    sampler = LanguageSampler(
        [len(each.blocks) for each in blocks],
        [shares[each.language].drawn for each in blocks],
        draws=len(dataset),
        seed=options.seed,
    )
    validation = _Validation(model, dev_blocks, lang_ids, _collator(options, tokenizer, seed=options.seed + 1), options)
    trainer = RoutedTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=_collator(options, tokenizer, seed=options.seed),
        sampler=sampler,
        validate=validation,
    )
    steps = _planned_steps(options, len(dataset), arguments.world_size)
    if checkpoint is not None and checkpoint_step(checkpoint) >= steps:
        # Trainer would add a step to a finished run.
        console.print(f"All {steps} steps were done before.")
        model.load_state_dict(load_saved(checkpoint).state_dict())
        train_loss = None
    else:
        with quiet_transformers():
            train_loss = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None).training_loss
    model.eval()
    per_language = validation.per_language()
    metrics = {
        "steps": steps,
        "train_loss": train_loss,
        "validation": per_language,
    }
    _print_validation(per_language)
    run = Run(model, tokenizer, options.output_dir, metrics)
    if trainer.is_world_process_zero():
        save_run(run, options)
        console.print(f"Saved model, tokenizer, metrics.json and options.json in {options.output_dir}")
    return run


class _Validation:
    """Validation loss of each language on its first blocks, always under the same masks."""

    def __init__(
        self,
        model: XmodForMaskedLM,
        blocks: list[LanguageBlocks],
        lang_ids: dict[str, int],
        collator: MaskedLMCollator,
        options: PretrainOptions,
    ) -> None:
        self.model = model
        self.blocks = blocks
        self.lang_ids = lang_ids
        self.collator = collator
        self.batch_size = options.batch_size
        self.most = options.dev_blocks

    def per_language(self) -> dict[str, dict[str, float]]:
        rows = [(each.language, block) for each in self.blocks for block in each.blocks[: self.most]]
        ids = [self.lang_ids[language] for language, _ in rows]
        with progress("validating", len(rows)) as advance:
            sums = block_statistics(
                self.model,
                [block for _, block in rows],
                ids,
                range(len(rows)),
                self.collator,
                batch_size=self.batch_size,
                advance=advance,
            )
        answer = {}
        for language in dict.fromkeys(language for language, _ in rows):
            own = sums[[row[0] == language for row in rows]].sum(0)
            metrics = perplexity_metrics(own)
            answer[language] = {
                "loss": float(own[0] / max(own[2], 1)),
                **{name: float(value) for name, value in metrics.items()},
                "masked_tokens": int(own[2]),
            }
        return answer

    def __call__(self) -> dict[str, float]:
        """Losses by language as ``loss:<code>``, and their mean as ``loss``."""
        losses = {code: values["loss"] for code, values in self.per_language().items()}
        mean = sum(losses.values()) / max(len(losses), 1)
        return {"loss": mean, **{f"loss:{code}": loss for code, loss in losses.items()}}


def _planned_steps(options: PretrainOptions, draws: int, processes: int) -> int:
    """Optimiser steps of the whole run."""
    if options.max_steps is not None:
        return options.max_steps
    batches = math.ceil(draws / (options.batch_size * processes))
    return math.ceil(options.epochs * math.ceil(batches / options.accumulation))


def _tokenizer(options: PretrainOptions, files: dict[str, tuple[Path, ...]]) -> PreTrainedTokenizerFast:
    if options.tokenizer is not None:
        return load_tokenizer(options.tokenizer)
    if options.resume and (options.output_dir / "tokenizer.json").is_file():
        return load_tokenizer(options.output_dir)
    console.print(f"Training a tokenizer of {options.vocab_size:,} pieces")
    text = {code: TextFiles(code, paths) for code, paths in files.items()}
    tokenizer = train_tokenizer(text, options.vocab_size, alpha=options.alpha, seed=options.seed)
    if len(tokenizer) < options.vocab_size:
        console.print(f"The text gave {len(tokenizer):,} pieces only.")
    with written_beside(options.output_dir) as folder:
        tokenizer.save_pretrained(folder)
    return tokenizer


def _blocks(
    cache: BlockCache, text: dict[str, TextFiles], description: str, *, may_be_empty: bool = False
) -> list[LanguageBlocks]:
    blocks = []
    with progress(description, len(text)) as advance:
        for code, lines in text.items():
            try:
                blocks.append(cache.get(lines))
            except DataError:
                if not may_be_empty:
                    raise
                console.print(f"No validation text for {code}.")
            advance(1)
    return blocks


def _config(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast, languages: list[str]) -> XmodConfig:
    fields = {
        "vocab_size": len(tokenizer),
        "languages": languages,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": options.block_size + tokenizer.pad_token_id + 1,
        **(options.overrides or {}),
    }
    return XmodConfig.preset(options.preset, **fields)


def _collator(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> MaskedLMCollator:
    return MaskedLMCollator(
        special_ids=tokenizer.all_special_ids,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
        probability=options.mask_probability,
        seed=seed,
    )


def _print_shares(blocks: list[LanguageBlocks], shares: dict[str, Share]) -> None:
    table = Table(
        "language", "lines", "tokens", "blocks", "natural", "drawn", "ratio", title="Languages", title_justify="left"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for each in blocks:
        share = shares[each.language]
        table.add_row(
            each.language,
            str(each.lines),
            f"{each.tokens:,}",
            f"{len(each.blocks):,}",
            f"{share.natural:.1%}",
            f"{share.drawn:.1%}",
            f"{share.ratio:.2f}",
        )
    console.print(table)


def _print_validation(per_language: dict[str, dict[str, float]]) -> None:
    table = Table("language", "loss", "perplexity", "accuracy", title="Validation", title_justify="left")
    for code, values in per_language.items():
        table.add_row(code, f"{values['loss']:.3f}", f"{values['perplexity']:.1f}", f"{values['accuracy']:.1%}")
    console.print(table)
