"""Add a language to a pretrained model: its adapter learns from raw text or translations, and nothing else moves.

Pfeiffer et al. 2022, section 3.2: an added language's adapter is trained by masked language modelling with all else
frozen. A language whose script the vocabulary does not cover gets tokens and embeddings of its own, which train too.
An encoder that has no masked-LM head, or whose states tasks read already, learns from translations (see `aligning`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import PreTrainedTokenizerFast, TrainingArguments, set_seed

from xmodular.configuration import XmodConfig
from xmodular.console import compact, console, counted, quiet_transformers
from xmodular.data import (
    Batches,
    BlockCache,
    LanguageBlocks,
    LanguageSampler,
    MeasuredText,
    MixedBlocks,
    TextFiles,
    find_text,
    is_text,
    say_unknown,
)
from xmodular.errors import ConfigurationError, DataError
from xmodular.files import written_beside
from xmodular.languages import resolve
from xmodular.modeling import XmodForMaskedLM, XmodModel, XmodPreTrainedModel
from xmodular.modeling.languages import check_tokenizer
from xmodular.options import ExtendOptions
from xmodular.outputs import check_apart, is_of_run
from xmodular.packs import check_target
from xmodular.pieces import start_rows
from xmodular.signatures import verb
from xmodular.tasks import given_model, load_saved, tokenizer_of
from xmodular.training import contents
from xmodular.training.aligning import Aligned, align, batches_of, compared, encoded, print_nearness
from xmodular.training.checkpoints import checkpoint_step
from xmodular.training.corpus import arguments_of, blocks_of, collator, measured_of, print_lines, schedule, text_of
from xmodular.training.growing import Beginning, save
from xmodular.training.log import RunLog
from xmodular.training.pairs import held_out, pairs_hash, read_pairs
from xmodular.training.runs import Run, Start, begin, check_made, print_trainable, sources_of_run
from xmodular.training.trainer import RoutedTrainer
from xmodular.training.validation import Validation
from xmodular.vocabulary import fingerprint, is_with_tokenizer, load_tokenizer, save_tokenizer, train_tokenizer

_Scores = dict[str, float]
_NEAR = 0.95  # share of lines that are nearest to themselves; below, tasks were seen to suffer


@verb(ExtendOptions, "model", "language", "text", objects={"model": given_model}, holds="output_dir")
def extend(options: ExtendOptions, given: XmodPreTrainedModel | None) -> Run:
    """Add a language to a pretrained model and train it, on its text or on its sentences beside translations.

    Args:
        model: a folder, a name on the Hub, or an object, which gets the language.
        language: the new language's code.
        text: a file, or a folder with the language's files; None where there are translations, `parallel`.

    Returns:
        The model with the language, saved in `output_dir` with its language pack (``pack``), the certificate of what
        else moved (``certificate.json``), and ``metrics.json``: the held-out text's loss, perplexity and bits per
        character under each adapter that was there, under the new one at its start, and after training; with
        `parallel`, how many held-out sentences find their translation among all by cosine, and that cosine.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
        TrainingError: a weight moved that should not have.
    """
    model = given if given is not None else load_saved(options.model)
    _check_class(model, options)
    beginning = Beginning.of(options, model)
    if not set(model.languages) - set(model.config.vocabularies):
        raise ConfigurationError(f"No language of {options.model} reads its shared vocabulary: nothing to start from.")
    check_apart(options.output_dir, sources_of_run(options), names=is_of_run)
    check_target(options.output_dir / "pack", overwrite=True)
    before = copy.deepcopy(model) if given is not None else None
    if options.parallel is not None:
        return _by_translations(options, options.parallel, model, beginning, before)
    assert isinstance(model, XmodForMaskedLM)
    assert options.text is not None
    return _by_masked_words(options, options.text, model, beginning, before)


def _check_class(model: XmodPreTrainedModel, options: ExtendOptions) -> None:
    """Raises ConfigurationError if a model of this class cannot learn a language from what there is."""
    if isinstance(model, XmodForMaskedLM) or (isinstance(model, XmodModel) and options.parallel is not None):
        return
    if isinstance(model, XmodModel):
        raise ConfigurationError(
            f"{options.model} has no masked-LM head, which a new language learns by. Train one first, on text of "
            f"languages that it has: xmodular pretrain --model {options.model} --text <folder> --trainable head "
            "--output-dir with-head. Without one it learns from translations (--parallel)."
        )
    raise ConfigurationError(
        f"A language is added to a pretrained model; {options.model} is a {type(model).__name__}. Add it to "
        "the model that this one was fine-tuned from, and install the pack here."
    )


def _shared_tokenizer(model: XmodPreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer that was saved with the model.

    Raises:
        DataError: there is none, or it has more pieces than the model has embeddings.
    """
    where = model.config._name_or_path
    if not where or not is_with_tokenizer(where):
        raise DataError(
            f"There is no tokenizer with the model{f' in {where}' if where else ', which comes from no folder'}: save "
            "that which it was trained with beside its weights. (--tokenizer is for a new language's own vocabulary.)"
        )
    return tokenizer_of(model, None)


def _begun(options: ExtendOptions, arguments: TrainingArguments, data: Mapping[str, Any]) -> Start:
    """The run's folder is claimed for a run that reads these data, and people know where it is."""
    with arguments.main_process_first(local=False, desc="the run's folder"):
        start = begin(options, arguments.world_size, data=data, first=arguments.process_index == 0)
    console.print(f"Adding {options.language} to {options.model}; output goes to {options.output_dir}")
    if start.goes_on:
        console.print(start.said)
    return start


def _by_translations(
    options: ExtendOptions,
    source: str,
    model: XmodPreTrainedModel,
    beginning: Beginning,
    before: XmodPreTrainedModel | None,
) -> Run:
    """The adapter learns to give sentences the states of their translations."""
    code = options.language
    pairs = read_pairs(source, code, model.languages)
    train, dev = held_out(pairs, options.dev_fraction, options.seed)
    if not dev:
        raise DataError(f"{source} has {counted(len(pairs), 'pair')}: a tenth is held out, so 10 are the least.")
    if not train:
        raise DataError(
            f"{source} repeats {counted(len({pair.text for pair in dev}), 'sentence')}: none is left to learn."
        )
    known = _shared_tokenizer(model)
    arguments = arguments_of(options)
    batches = batches_of(len(train), arguments, options)
    data = {"parallel": pairs_hash(pairs)} | contents.base(options.model, before)
    start = _begun(options, arguments, data)
    model.to(arguments.device)  # type: ignore[arg-type]
    read = [encoded(model, part, options) for part in (train, dev)]
    set_seed(options.seed)
    beginning.add(model, code)
    sentences, measured = (Aligned(*part, model.languages.index(code), model.config.pad_token_id) for part in read)
    print_trainable(model.set_trainable(options.trainable, languages=None if options.trainable == "all" else [code]))
    # The sentences are in pieces of the shared vocabulary: those that read it can read them, teachers first.
    readers = [each for each in model.languages if each not in model.config.vocabularies and each != code]
    taught = dict.fromkeys(language for pair in dev for language in pair.translations)
    teachers = [each for each in taught if each in readers] or readers
    existing = {each: measured.scores(model, each) for each in teachers}
    best = max(existing, key=lambda each: existing[each]["retrieval"])
    at_start = measured.scores(model)
    steps = align(model, sentences, measured, batches, arguments, options, start)
    model.eval()
    after = measured.scores(model)
    metrics = {"steps": steps, "existing": existing, "best_existing": best, "start": at_start, "after": after}
    print_nearness(code, metrics, len(dev), options.learning_rate)
    run = Run(model, known, options.output_dir, metrics)
    if arguments.process_index == 0:
        scores = [
            {"metric": "retrieval", "adapter": adapter, "value": values["retrieval"]}
            for adapter, values in ((best, existing[best]), (code, after))
        ]
        note = f"Trained by xmodular extend on translations, {counted(len(train), 'pair')} of {Path(source).name}, "
        save(run, options, before, f"{note}{steps} steps; {beginning.said}.", scores)
    return run


def _by_masked_words(
    options: ExtendOptions,
    place: Path,
    model: XmodForMaskedLM,
    beginning: Beginning,
    before: XmodPreTrainedModel | None,
) -> Run:
    """The adapter learns by predicting masked tokens."""
    code = options.language
    files = _found(place, code)
    train_text, dev_text = _split(options, code, files)
    known = _shared_tokenizer(model)
    own = load_tokenizer(options.tokenizer) if options.tokenizer is not None else None
    if own is not None:
        check_tokenizer(model, own.backend_tokenizer.to_str(), len(own))
    arguments = arguments_of(options)
    first = arguments.process_index == 0
    validation_files = {} if options.dev_text is None else {code: dev_text.files}
    data = contents.texts({code: files}, validation_files) | contents.base(options.model, before)
    if own is not None:
        data[contents.TOKENIZER] = fingerprint(own)
    start = _begun(options, arguments, data)
    longest = model.config.max_position_embeddings - model.config.pad_token_id - 1
    size = min(options.block_size, longest)
    folder = options.cache_dir or options.output_dir / "blocks"

    with arguments.main_process_first(local=False, desc="tokenizer and blocks"):
        trained = None if own else _trained_tokenizer(options, train_text, start, model.config, known)
        if trained is not None:
            start = check_made(options, start, {contents.TOKENIZER: fingerprint(trained)}, first=first)
        tokenizer = own or trained or known
        (blocks,) = blocks_of(BlockCache(folder, tokenizer, size, options.packing), {code: train_text}, "tokenising")
    readers = [tokenizer] if tokenizer is known else [tokenizer, known]
    read = [each for reader in readers for each in measured_of(options, reader, size, [dev_text])]
    if len(read) < len(readers):
        raise DataError(f"There is no held-out text of {code}: raise --dev-fraction or give --dev-text.")
    dev, shared_dev = read[0], read[-1]
    print_lines([blocks])
    if options.dev_text is not None:
        print_lines([dev], "Lines of --dev-text")
    say_unknown([dev])

    model.to(arguments.device)  # type: ignore[arg-type]
    existing = _existing(model, shared_dev, known, options)
    best = min(existing, key=lambda other: existing[other]["bits_per_character"])
    set_seed(options.seed)
    beginning.add(model, code)
    if tokenizer is not known:
        words = model.roberta.embeddings.word_embeddings.weight
        rows, bias, counts = start_rows(
            tokenizer, known, words, model.lm_head.bias, method=options.start_rows, seed=options.seed
        )
        model.set_vocabulary(code, tokenizer, rows, bias)
        console.print(f"New vocabulary: {', '.join(f'{count:,} {kind}' for kind, count in counts.items())} pieces")
    policy = options.trainable
    print_trainable(model.set_trainable(policy, languages=[code] if policy == "language" else None))

    lang_id = model.languages.index(code)
    validation = _validation(model, dev, tokenizer, lang_id, options)
    at_start = validation.per_language()[code]
    steps = options.max_steps or math.ceil(
        options.epochs * len(blocks.blocks) / (options.batch_size * options.accumulation * arguments.world_size)
    )
    arguments.max_steps = steps
    for name, value in schedule(options.schedule, steps, options.decay).items():
        setattr(arguments, name, value)
    trainer = RoutedTrainer(
        model=model,
        args=arguments,
        train_dataset=MixedBlocks([blocks], {code: lang_id}),
        data_collator=collator(options, tokenizer, seed=options.seed),
        batches=_batches(options, blocks, arguments),
        validate=validation,
        log=RunLog(options.output_dir / "log.jsonl"),
    )
    if start.checkpoint is not None and checkpoint_step(start.checkpoint) >= steps:
        console.print(f"All {steps} steps were done before.")
        model.load_state_dict(load_saved(start.checkpoint).state_dict())
    else:
        with quiet_transformers():
            trainer.train(str(start.checkpoint) if start.checkpoint else None)
    model.eval()
    metrics: dict[str, Any] = {
        "steps": steps,
        "existing": existing,
        "best_existing": best,
        "start": at_start,
        "after": validation.per_language()[code],
        "states": compared(model, dev_text, code, best, options),
    }
    _print_scores(code, metrics)
    run = Run(model, known, options.output_dir, metrics)
    if trainer.is_world_process_zero():
        scores = [
            {
                "metric": "bits_per_character",
                "adapter": adapter,
                "value": values["bits_per_character"],
                "unknown tokens": f"{values['unknown']:.2%}",
            }
            for adapter, values in ((best, existing[best]), (code, metrics["after"]))
        ]
        note = f"Trained by xmodular extend on {place.name}, {steps} steps; {beginning.said}."
        save(run, options, before, note, scores)
    return run


def _found(place: Path, language: str) -> tuple[Path, ...]:
    """A file, or a language's files in a folder.

    Raises:
        DataError: there is none, or it is of no kind that can be read.
    """
    if not place.is_file():
        found = find_text(place)
        return found[resolve(language, found)]
    if not is_text(place):
        raise DataError(f"{place} is no text: files end in .txt, .jsonl (both also with .gz) or .parquet.")
    return (place,)


def _split(options: ExtendOptions, code: str, files: tuple[Path, ...]) -> tuple[TextFiles, TextFiles]:
    """Text to train on, and held-out text."""
    if options.dev_text is None:
        return text_of(options, code, files, "train"), text_of(options, code, files, "dev")
    return text_of(options, code, files), text_of(options, code, _found(options.dev_text, code))


def _trained_tokenizer(
    options: ExtendOptions, text: TextFiles, start: Start, config: XmodConfig, known: PreTrainedTokenizerFast
) -> PreTrainedTokenizerFast | None:
    """The tokenizer trained on the text for a vocabulary of its own, if the language is to have that.

    Its padding and its frame around a text are the base's, as all else in the model was trained with these.
    """
    if options.new_vocabulary is None:
        return None
    folder = options.output_dir / "tokenizer"
    if start.goes_on and (folder / "tokenizer_config.json").is_file():  # the last of its files
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


def _batches(options: ExtendOptions, blocks: LanguageBlocks, arguments: TrainingArguments) -> Batches:
    batches = arguments.max_steps * options.accumulation * arguments.world_size
    draws = LanguageSampler(
        [len(blocks.blocks)], [int(blocks.lengths.sum())], batches * options.batch_size, options.seed, alpha=1.0
    )
    return Batches(draws, batches, options.batch_size, rank=arguments.process_index, ranks=arguments.world_size)


def _validation(
    model: XmodForMaskedLM,
    dev: MeasuredText,
    tokenizer: PreTrainedTokenizerFast,
    lang_id: int,
    options: ExtendOptions,
) -> Validation:
    return Validation(
        model,
        [dev],
        {dev.language: lang_id},
        collator(options, tokenizer, seed=options.seed + 1),
        unk_id=tokenizer.unk_token_id,
        batch_size=options.batch_size,
    )


def _existing(
    model: XmodForMaskedLM, dev: MeasuredText, tokenizer: PreTrainedTokenizerFast, options: ExtendOptions
) -> dict[str, _Scores]:
    """The held-out text under every adapter that the model has (those with a vocabulary of their own aside)."""
    scores = {}
    for other in model.languages:
        if other not in model.config.vocabularies:
            validation = _validation(model, dev, tokenizer, model.languages.index(other), options)
            scores[other] = validation.per_language()[dev.language]
    return scores


def _print_scores(code: str, metrics: dict[str, Any]) -> None:
    best = metrics["best_existing"]
    columns = ("adapter", "loss", "perplexity", "bits a character", "<unk>")
    table = Table(*columns, title=f"Held-out text of {code}", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, values in (
        (f"{best} (the best of those there were)", metrics["existing"][best]),
        (f"{code}, before training", metrics["start"]),
        (f"{code}, after", metrics["after"]),
    ):
        table.add_row(
            name,
            f"{values['loss']:.3f}",
            compact(values["perplexity"]),
            f"{values['bits_per_character']:.3f}",
            f"{values['unknown']:.2%}",
        )
    console.print(table)
    states = metrics["states"]
    if states is not None and states["retrieval"] < _NEAR:
        console.print(
            f"Only {states['retrieval']:.0%} of {states['lines']} held-out lines have states near those that they have "
            f"under {best}. A task that was trained before may read {code} worse through this adapter than through "
            f"{best}'s: `xmodular evaluate` scores both."
        )
