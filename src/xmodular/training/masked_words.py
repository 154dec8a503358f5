"""Add a language from its text: the adapter is trained to predict masked tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast, TrainingArguments, set_seed

from xmodular.configuration import XmodConfig
from xmodular.console import compact, console, table
from xmodular.errors import DataError
from xmodular.files import written_beside
from xmodular.modeling import XmodForMaskedLM, XmodPreTrainedModel
from xmodular.modeling.own_vocabularies import check_tokenizer
from xmodular.options import ExtendOptions
from xmodular.pieces import start_rows
from xmodular.tasks import tokenizer_of
from xmodular.text import (
    BlockCache,
    LanguageBlocks,
    MeasuredText,
    MixedBlocks,
    TextFiles,
    files_of,
    say_unknown,
)
from xmodular.training import contents
from xmodular.training.aligning import compared
from xmodular.training.automatic_start import decided
from xmodular.training.fitting import fit
from xmodular.training.growing import Beginning, begun, save, shared_tokenizer, stages
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
from xmodular.training.runs import Run, Start, check_made, print_trainable
from xmodular.vocabulary import fingerprint, load_tokenizer, positions_of, save_tokenizer, train_tokenizer

_Scores = dict[str, float]
_NEAR = 0.95  # share of lines whose states are nearest to their own; below it, tasks were seen to get worse


def by_masked_words(
    options: ExtendOptions,
    place: Path,
    model: XmodForMaskedLM,
    beginning: Beginning,
    before: XmodPreTrainedModel | None,
) -> Run:
    """Add a language to a model and train it on its text.

    Args:
        options: options of the run.
        place: file or folder with the text.
        model: the model, which gets the language.
        beginning: the start of the adapter.
        before: the unchanged model, if it is an object.

    Raises:
        DataError: the text cannot be read, or is too short.
    """
    code = options.language
    files = files_of(place, code)
    train, dev = _split(options, code, files)
    known, own = shared_tokenizer(model), _own_tokenizer(options, model)
    arguments = training_arguments(options)
    data = contents.texts({code: files}, {} if options.dev_text is None else {code: dev.files})
    data |= contents.base(options.model, before) | ({contents.TOKENIZER: fingerprint(own)} if own else {})
    start = begun(options, arguments, data)
    size = min(options.block_size, positions_of(model.config))
    start, tokenizer, blocks = _tokenised(options, model.config, (known, own), train, size, start, arguments)
    measured, known_measured = _measured(options, dev, (tokenizer, known), size)
    print_lines([blocks])
    if options.dev_text is not None:
        print_lines([measured], "Lines of --dev-text")
    say_unknown([measured])

    model.to(arguments.device)  # type: ignore[arg-type]
    existing, replaced = _existing(model, known_measured, known, options), _replaced(model, dev, size, options)
    best = min(existing, key=lambda other: existing[other]["bits_per_character"])
    beginning = decided(options, beginning, model, known, train, start, arguments)
    set_seed(options.seed)
    beginning.add(model, code)
    if tokenizer is not known:
        _give_vocabulary(model, tokenizer, known, options)
    print_trainable(model.set_trainable(options.trainable, languages=None if options.trainable == "all" else [code]))

    lang_ids = {code: model.languages.index(code)}
    validation = validation_of(options, model, [measured], lang_ids, tokenizer)
    at_start = validation.per_language()[code]
    dataset = MixedBlocks([blocks], lang_ids)
    steps = options.max_steps or math.ceil(
        options.epochs * len(dataset) / (options.batch_size * options.accumulation * arguments.world_size)
    )
    fit(
        model,
        dataset,
        collator(options, tokenizer, seed=options.seed),
        drawn_batches(options, dataset, arguments, steps),
        options,
        arguments,
        start,
        steps,
        intervals=intervals_of(options),
        validate=validation,
    )
    metrics: dict[str, Any] = {
        "steps": steps,
        "existing": existing,
        "best_existing": best,
        **replaced,
        "initialisation": beginning.said,
        "start": at_start,
        "after": validation.per_language()[code],
        "states": compared(model, dev, code, best, options),
    }
    _print_scores(code, metrics)
    run = Run(model, known, options.output_dir, metrics)
    if arguments.process_index == 0:
        save(run, options, before, place.name, "bits_per_character")
    return run


def _own_tokenizer(options: ExtendOptions, model: XmodForMaskedLM) -> PreTrainedTokenizerFast | None:
    """The tokenizer given for the language alone, if any.

    Raises:
        ConfigurationError: it does not fit the model.
    """
    if options.tokenizer is None:
        return None
    own = load_tokenizer(options.tokenizer)
    check_tokenizer(model, own.backend_tokenizer.to_str(), len(own))
    return own


def _tokenised(
    options: ExtendOptions,
    config: XmodConfig,
    tokenizers: tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast | None],
    text: TextFiles,
    size: int,
    start: Start,
    arguments: TrainingArguments,
) -> tuple[Start, PreTrainedTokenizerFast, LanguageBlocks]:
    """The text in blocks, by the tokenizer for it: the language's own, given or trained, or the model's."""
    known, own = tokenizers
    with arguments.main_process_first(local=False, desc="tokenizer and blocks"):
        trained = None if own else _trained_tokenizer(options, text, start, config, known)
        if trained is not None:
            made = {contents.TOKENIZER: fingerprint(trained)}
            start = check_made(options, arguments, start, made)
        tokenizer = own or trained or known
        cache = BlockCache(options.cache_dir or options.output_dir / "blocks", tokenizer, size, options.packing)
        (blocks,) = blocks_of(cache, {text.language: text})
    return start, tokenizer, blocks


def _measured(
    options: ExtendOptions, text: TextFiles, tokenizers: Sequence[PreTrainedTokenizerFast], size: int
) -> list[MeasuredText]:
    """Held-out text, encoded with each tokenizer.

    Raises:
        DataError: there is no held-out text.
    """
    found = {id(each): measured_of(options, each, size, [text]) for each in tokenizers}
    if not all(found.values()):
        raise DataError(f"There is no held-out text in {text.language}: raise --dev-fraction or give --dev-text.")
    return [found[id(each)][0] for each in tokenizers]


def _give_vocabulary(
    model: XmodForMaskedLM, own: PreTrainedTokenizerFast, known: PreTrainedTokenizerFast, options: ExtendOptions
) -> None:
    """Give the new language its own vocabulary, from its tokenizer."""
    words, bias = model.roberta.embeddings.word_embeddings.weight, model.lm_head.bias
    rows, bias, counts = start_rows(own, known, words, bias, method=options.start_rows, seed=options.seed)
    model.set_vocabulary(options.language, own, rows, bias)
    console.print(f"New vocabulary: {', '.join(f'{count:,} {kind}' for kind, count in counts.items())} pieces")


def _split(options: ExtendOptions, code: str, files: tuple[Path, ...]) -> tuple[TextFiles, TextFiles]:
    """Text to train on, and held-out text."""
    if options.dev_text is None:
        return text_of(options, code, files, "train"), text_of(options, code, files, "dev")
    return text_of(options, code, files), text_of(options, code, files_of(options.dev_text, code))


def _trained_tokenizer(
    options: ExtendOptions, text: TextFiles, start: Start, config: XmodConfig, known: PreTrainedTokenizerFast
) -> PreTrainedTokenizerFast | None:
    """The tokenizer trained on the text for the language's own vocabulary, if it gets one.

    Its padding and the special tokens around a text are the base's, as the rest of the model was trained with them.
    """
    if options.new_vocabulary is None:
        return None
    folder = options.output_dir / "tokenizer"
    if start.goes_on and (folder / "tokenizer_config.json").is_file():  # written last
        return load_tokenizer(folder)
    console.print(f"Training a tokenizer of {options.new_vocabulary:,} pieces")
    tokenizer = train_tokenizer(
        {text.language: text},
        options.new_vocabulary,
        seed=options.seed,
        byte_fallback=options.byte_fallback,
        like=known,
    )
    with written_beside(folder) as beside:
        save_tokenizer(tokenizer, beside, config)
    return tokenizer


def _existing(
    model: XmodForMaskedLM, dev: MeasuredText, tokenizer: PreTrainedTokenizerFast, options: ExtendOptions
) -> dict[str, _Scores]:
    """Score the held-out text with every adapter of the model, except its own and those with their own vocabulary."""
    scores = {}
    for other in model.languages:
        if other not in (*model.config.vocabularies, options.language):
            lang_ids = {dev.language: model.languages.index(other)}
            validation = validation_of(options, model, [dev], lang_ids, tokenizer)
            scores[other] = validation.per_language()[dev.language]
    return scores


def _replaced(model: XmodForMaskedLM, dev: TextFiles, size: int, options: ExtendOptions) -> dict[str, _Scores]:
    """Score the held-out text with the language's own adapter, if it has one, in pieces of its own vocabulary."""
    code = options.language
    if code not in model.languages:
        return {}
    own = tokenizer_of(model, None, code)
    validation = validation_of(
        options, model, _measured(options, dev, [own], size), {code: model.languages.index(code)}, own
    )
    return {"replaced": validation.per_language()[code]}


def _print_scores(code: str, metrics: dict[str, Any]) -> None:
    rows = [
        (
            name,
            f"{values['loss']:.3f}",
            compact(values["perplexity"]),
            f"{values['bits_per_character']:.3f}",
            f"{values['unknown']:.2%}",
        )
        for name, values in stages(code, metrics).items()
    ]
    columns = ("adapter", "loss", "perplexity", "bits per character", "<unk>")
    console.print(table(f"Held-out text of {code}", columns, rows))
    best = metrics["best_existing"]
    states = metrics["states"]
    if states is not None and states["retrieval"] < _NEAR:
        console.print(
            f"Only {states['retrieval']:.0%} of {states['lines']} held-out lines have states near those that they have "
            f"with {best}. A task that is already trained may do worse on {code} with this adapter than with "
            f"{best}'s: compare them with `xmodular evaluate`."
        )
