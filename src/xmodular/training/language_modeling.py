"""What pretraining and adding a language have in common: lines, blocks, batches, masks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerFast, TrainingArguments

from xmodular.console import console, progress
from xmodular.errors import NoTextError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import LanguageModelOptions, PretrainOptions
from xmodular.text import (
    Batches,
    BlockCache,
    CausalLMCollator,
    HubText,
    LanguageBlocks,
    LanguageSampler,
    LineCounts,
    MaskedLMCollator,
    MeasuredText,
    MixedBlocks,
    TextFiles,
    collator_of,
    lines_table,
    measured_text,
)
from xmodular.training.trainer import Intervals
from xmodular.training.validation import Validation

_TRIAL = 50_000  # draws from which to tell how many fill a budget of tokens
_BYTES_A_TOKEN = 4  # of validation text: near the truth for large vocabularies, and the same for all


def intervals_of(options: LanguageModelOptions) -> Intervals:
    """When a run validates and saves."""
    return Intervals(options.eval_every, options.save_every, options.keep_checkpoints)


def text_of(
    options: LanguageModelOptions, language: str, sources: tuple[Path | HubText, ...], part: str = "all"
) -> TextFiles:
    """The lines of a language: all, or "train" or "dev" of the split by `dev_fraction`.

    Iterating raises an error if most of them cannot be read.
    """
    fraction = 0.0 if part == "all" else options.dev_fraction
    return TextFiles(language, sources, part, fraction, options.text_field, options.max_line, strict=True)


def print_lines(texts: Iterable[LanguageBlocks | MeasuredText], title: str = "Lines") -> None:
    """Print the line counts, if any line was dropped, repaired or split."""
    if (table := lines_table({each.language: each.lines for each in texts}, title)) is not None:
        console.print(table)


def blocks_of(cache: BlockCache, text: dict[str, TextFiles]) -> list[LanguageBlocks]:
    """The blocks of each language, newly created or from the cache.

    Raises:
        DataError: a language has no text.
    """
    blocks = []
    for number, (code, lines) in enumerate(text.items(), start=1):
        with progress(f"tokenising, {code} ({number} of {len(text)}), lines", None) as advance:
            blocks.append(cache.get(lines, advance))
    return blocks


def measured_of(
    options: LanguageModelOptions, tokenizer: PreTrainedTokenizerFast, block_size: int, text: Iterable[TextFiles]
) -> list[MeasuredText]:
    """Validation text tokenised with a vocabulary: the same lines of each language for any vocabulary.

    As many lines as fit into `dev_blocks` at 4 bytes per token. Given text keeps its repeated lines; held-out text is
    part of a corpus without them.
    """
    most = _BYTES_A_TOKEN * options.dev_blocks * options.block_size
    found = []
    for lines in text:
        limited = replace(lines, most=most, repeated=lines.part == "all", counts=LineCounts())
        with progress(f"tokenising validation text, {lines.language}, lines", None) as advance:
            try:
                found.append(measured_text(limited, tokenizer, block_size, options.packing, advance))
            except NoTextError:
                console.print(f"No validation text for {lines.language}.")
    return found


def drawn_batches(
    options: LanguageModelOptions, dataset: MixedBlocks, arguments: TrainingArguments, steps: int
) -> Batches:
    """This process's batches of the whole run: by the options of pretraining, or simply rows in order."""
    batches = steps * options.accumulation * arguments.world_size
    mixed = options if isinstance(options, PretrainOptions) else None

    def made(draws: int) -> Batches:
        sampler = LanguageSampler(
            [len(each.blocks) for each in dataset.languages],
            [int(each.lengths.sum()) for each in dataset.languages],
            draws,
            options.seed,
            alpha=mixed.alpha if mixed else 1.0,
            alpha_end=mixed.alpha_end if mixed else None,
            run=options.batch_size if mixed and mixed.mixing == "batch" else 1,
        )
        return Batches(
            sampler,
            batches,
            options.batch_size,
            budget=mixed.batch_tokens if mixed else None,
            lengths=dataset.lengths,
            rank=arguments.process_index,
            ranks=arguments.world_size,
        )

    return made(math.ceil(batches * made(_TRIAL).mean_rows()))


def collator(
    options: LanguageModelOptions, tokenizer: PreTrainedTokenizerFast, *, seed: int, causal: bool = False
) -> MaskedLMCollator | CausalLMCollator:
    """Choose the tokens to predict."""
    probability, whole_words = options.mask_probability, options.whole_words
    return collator_of(tokenizer, seed=seed, causal=causal, probability=probability, whole_words=whole_words)


def validation_of(
    options: LanguageModelOptions,
    model: XmodPreTrainedModel,
    texts: Sequence[MeasuredText],
    lang_ids: Mapping[str, int],
    tokenizer: PreTrainedTokenizerFast,
    *,
    causal: bool = False,
) -> Validation:
    """Measures a model on texts in pieces of a tokenizer, under masks that are none of the training's."""
    masks = collator(options, tokenizer, seed=options.seed + 1, causal=causal)
    return Validation(model, texts, lang_ids, masks, unk_id=tokenizer.unk_token_id, batch_size=options.batch_size)
