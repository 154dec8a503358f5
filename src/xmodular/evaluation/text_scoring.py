"""Run a language model over plain text: perplexity."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.console import console, progress
from xmodular.evaluation.conditions import Job
from xmodular.evaluation.intervals import measure
from xmodular.evaluation.scoring import Scored
from xmodular.evaluation.test_data import TestSet
from xmodular.modeling import XmodForCausalLM, XmodPreTrainedModel
from xmodular.options import EvaluateOptions
from xmodular.perplexity import block_statistics, perplexity_metrics, text_statistics, to_predict
from xmodular.tasks import tokenizer_of
from xmodular.tasks.readers import Reading
from xmodular.tasks.running import passes, without_adapters
from xmodular.text import (
    MeasuredText,
    TextFiles,
    collator_of,
    lines_table,
    measured_text,
    say_unknown,
)


def score_text(
    model: XmodPreTrainedModel,
    sets: Mapping[str, TestSet],
    jobs: Sequence[Job],
    block_size: int,
    options: EvaluateOptions,
) -> tuple[dict[Reading, Scored], dict[str, dict[str, float]]]:
    """Perplexities, computing each reading once, and those of a random guess from the vocabulary of each language.

    Args:
        model: masked or causal language model.
        sets: text files by language.
        jobs: the readings.
        block_size: tokens per block.
        options: packing, batch size, seed, tokenizer.
    """
    found: dict[Reading, Scored] = {}
    blind: dict[str, dict[str, float]] = {}
    first = {job.reading.language: job.reading for job in reversed(jobs)}
    texts: dict[str | None, dict[str, MeasuredText]] = {}  # by vocabulary and language
    readings = list(dict.fromkeys(job.reading for job in jobs))
    for (vocabulary, adapted), places in passes(model, readings).items():
        part = [readings[place] for place in places]
        tokenizer = tokenizer_of(model, options.tokenizer, vocabulary)
        known = texts.setdefault(vocabulary, {})
        codes = [code for code in dict.fromkeys(reading.language for reading in part) if code not in known]
        known |= _read([sets[code] for code in codes], tokenizer, block_size, options)
        with without_adapters(model, left_out=not adapted):
            found |= _score(model, tokenizer, known, part, block_size, options)
        for code in {reading.language for reading in part if first[reading.language] == reading}:
            blind[code] = _blind(known[code], len(tokenizer), causal=isinstance(model, XmodForCausalLM))
    return found, blind


def _blind(text: MeasuredText, size: int, *, causal: bool) -> dict[str, float]:
    """Perplexity and bits per character if all pieces of a vocabulary are equally likely."""
    predicted = np.zeros((len(text.blocks), 3))
    predicted[:, 2] = text.ordinary + (text.unknown if causal else 0)
    predicted[:, 0] = predicted[:, 2] * math.log(size)
    sums = text_statistics(text, np.arange(len(text.blocks)), predicted, causal=causal).sum(0)
    return {name: float(value) for name, value in perplexity_metrics(sums).items() if name != "accuracy"}


def _read(
    sets: Sequence[TestSet], tokenizer: PreTrainedTokenizerFast, block_size: int, options: EvaluateOptions
) -> dict[str, MeasuredText]:
    """Texts encoded with one vocabulary, with repeated lines; prints how much of them is lost."""
    texts = {}
    for each in sets:
        text = TextFiles(each.language, tuple(map(Path, each.files)), strict=True, repeated=True)
        with progress(f"tokenising {each.language}, lines", None) as advance:
            texts[each.language] = measured_text(text, tokenizer, block_size, options.packing, advance)
    if (table := lines_table({code: text.lines for code, text in texts.items()})) is not None:
        console.print(table)
    say_unknown(texts.values())
    return texts


def _score(
    model: XmodPreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Mapping[str, MeasuredText],
    readings: Sequence[Reading],
    block_size: int,
    options: EvaluateOptions,
) -> dict[Reading, Scored]:
    """Readings in one vocabulary."""
    causal = isinstance(model, XmodForCausalLM)
    collator = collator_of(tokenizer, seed=options.seed, causal=causal)
    chosen = {code: to_predict(text, collator) for code, text in texts.items()}  # alike under either adapter
    rows = [
        (reading, int(number), each)
        for reading in readings
        for number, each in zip(*chosen[reading.language], strict=True)
    ]
    with progress("reading", len(rows)) as advance:
        predicted = block_statistics(
            model,
            [texts[reading.language].blocks[number] for reading, number, _ in rows],
            [model.languages.index(reading.adapter) for reading, _, _ in rows],
            [number for _, number, _ in rows],
            collator,
            chosen=[each for _, _, each in rows],
            unk_id=tokenizer.unk_token_id,
            batch_size=max(1, options.batch_tokens // block_size),
            advance=advance,
        )
    found = {}
    for reading in readings:
        text, blocks = texts[reading.language], chosen[reading.language][0]
        own = predicted[[each == reading for each, _, _ in rows]]
        sums = text_statistics(text, blocks, own, causal=causal)
        metrics = measure(sums, perplexity_metrics, _units(len(sums)))
        digest = hashlib.sha256(text.blocks.tobytes()).hexdigest()
        found[reading] = Scored(metrics, (reading.language, len(tokenizer), digest))
    return found


def _units(blocks: int) -> np.ndarray:
    """Each block's unit: parallel texts have equally many, and others lose nothing by being taken for parallel."""
    return (blocks << 32) + np.arange(blocks)
