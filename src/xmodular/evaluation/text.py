"""Plain text through a language model: perplexity."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.console import progress
from xmodular.data import BlockCache, CausalLMCollator, MaskedLMCollator, TextFiles
from xmodular.evaluation.conditions import Job, Reading, without_adapters
from xmodular.evaluation.intervals import measure
from xmodular.evaluation.rows import Scored, by_pass
from xmodular.evaluation.sets import TestSet
from xmodular.modeling import XmodForCausalLM, XmodPreTrainedModel
from xmodular.options import EvaluateOptions
from xmodular.tasks import block_statistics, perplexity_metrics, tokenizer_of


def score_text(
    model: XmodPreTrainedModel,
    sets: Mapping[str, TestSet],
    jobs: Sequence[Job],
    block_size: int,
    options: EvaluateOptions,
) -> tuple[dict[Reading, Scored], dict[str, int]]:
    """Every reading once; and the size of the vocabulary in which each language is read first.

    Args:
        model: masked or causal language model.
        sets: text files by language.
        jobs: what is read how.
        block_size: tokens a block.
        options: packing, batch size, seed, tokenizer.
    """
    found: dict[Reading, Scored] = {}
    sizes: dict[str, int] = {}
    first = {job.reading.language: job.reading for job in reversed(jobs)}
    for vocabulary, adapted, part in by_pass(model, list(dict.fromkeys(job.reading for job in jobs))):
        tokenizer = tokenizer_of(model, options.tokenizer, vocabulary)
        with without_adapters(model, left_out=not adapted):
            found |= _score(model, tokenizer, sets, part, block_size, options)
        sizes |= {reading.language: len(tokenizer) for reading in part if first[reading.language] == reading}
    return found, sizes


def _score(
    model: XmodPreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sets: Mapping[str, TestSet],
    readings: Sequence[Reading],
    block_size: int,
    options: EvaluateOptions,
) -> dict[Reading, Scored]:
    """Readings in one vocabulary."""
    collator: MaskedLMCollator | CausalLMCollator
    if isinstance(model, XmodForCausalLM):
        collator = CausalLMCollator(pad_id=tokenizer.pad_token_id)
    else:
        collator = MaskedLMCollator(
            special_ids=tokenizer.all_special_ids,
            mask_id=tokenizer.mask_token_id,
            pad_id=tokenizer.pad_token_id,
            vocab_size=len(tokenizer),
            seed=options.seed,
        )
    codes = list(dict.fromkeys(reading.language for reading in readings))
    with tempfile.TemporaryDirectory() as folder:
        cache = BlockCache(Path(folder), tokenizer, block_size, options.packing)
        blocks = {
            code: np.array(cache.get(TextFiles(code, tuple(map(Path, sets[code].files)))).blocks) for code in codes
        }
    rows = [(reading, number) for reading in readings for number in range(len(blocks[reading.language]))]
    with progress("reading", len(rows)) as advance:
        sums = block_statistics(
            model,
            [blocks[reading.language][number] for reading, number in rows],
            [model.languages.index(reading.reader) for reading, _ in rows],
            [number for _, number in rows],  # the same masks under either adapter
            collator,
            batch_size=max(1, options.batch_tokens // block_size),
            advance=advance,
        )
    found = {}
    for reading in readings:
        own = sums[[each == reading for each, _ in rows]]
        metrics = measure(own, perplexity_metrics, _units(len(own)))
        digest = hashlib.sha256(blocks[reading.language].tobytes()).hexdigest()
        found[reading] = Scored(metrics, (reading.language, len(tokenizer), digest))
    return found


def _units(blocks: int) -> np.ndarray:
    """Each block's unit: parallel texts have equally many, and others lose nothing by being taken for parallel."""
    return (blocks << 32) + np.arange(blocks)
