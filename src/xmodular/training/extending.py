"""Add a language to a pretrained model: its adapter learns from raw text, and nothing else moves.

Pfeiffer et al. 2022, section 3.2: an added language's adapter is trained by masked language modelling with all else
frozen. A language whose script the vocabulary does not cover gets tokens and embeddings of its own, which train too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import PreTrainedTokenizerFast, TrainingArguments, set_seed

from xmodular.certificate import Certificate, diff
from xmodular.configuration import XmodConfig
from xmodular.console import compact, console, quiet_transformers
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
from xmodular.errors import ConfigurationError, DataError, TrainingError, speaking
from xmodular.files import written_beside
from xmodular.languages import resolve
from xmodular.modeling import XmodForMaskedLM, XmodModel, XmodPreTrainedModel
from xmodular.modeling.languages import check_new_code, check_tokenizer, donor_weights, make_neutral
from xmodular.options import ExtendOptions, build
from xmodular.pieces import start_rows
from xmodular.tasks import given_model, load_saved, tokenizer_of
from xmodular.training.checkpoints import checkpoint_step, saving
from xmodular.training.corpus import arguments_of, blocks_of, collator, measured_of, print_lines, schedule, text_of
from xmodular.training.log import RunLog
from xmodular.training.runs import Run, Start, begin, check_apart, check_data, print_trainable, save_run
from xmodular.training.trainer import RoutedTrainer
from xmodular.training.validation import Validation
from xmodular.vocabulary import fingerprint, load_tokenizer, save_tokenizer, train_tokenizer

_Scores = dict[str, float]
_NEUTRAL = "neutral"  # in place of languages to start from: adds nothing at first


@speaking
def extend(model: XmodPreTrainedModel | str | Path, language: str, text: str | Path, **options: Any) -> Run:
    """Add a language to a masked language model and train it.

    Args:
        model: a folder, a name on the Hub, or an object, which gets the language.
        language: the new language's code.
        text: a file, or a folder with the language's files.
        options: `output_dir`, `init_from` and the other fields of `ExtendOptions`.

    Returns:
        The model with the language, saved in `output_dir` with its language pack (``pack``), the certificate of what
        else moved (``certificate.json``), and ``metrics.json``: the held-out text's loss, perplexity and bits per
        character under each adapter that was there, under the new one at its start, and after training.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
        TrainingError: a weight moved that should not have.
    """
    given, source = given_model(model)
    return _extend(build(ExtendOptions, {"model": source, "language": language, "text": text, **options}), given)


def _extend(options: ExtendOptions, given: XmodPreTrainedModel | None = None) -> Run:
    model = given if given is not None else load_saved(options.model)
    if isinstance(model, XmodModel):
        raise ConfigurationError(
            f"{options.model} has no masked-LM head, which a new language learns by. Train one first, on text of "
            f"languages that it has: xmodular pretrain --model {options.model} --text <folder> --trainable head "
            "--output-dir with-head"
        )
    if not isinstance(model, XmodForMaskedLM):
        raise ConfigurationError(
            f"A language is added to a masked language model; {options.model} is a {type(model).__name__}. Add it to "
            "the model that this one was fine-tuned from, and install the pack here."
        )
    code, neutral = options.language, options.init_from == (_NEUTRAL,)
    donors = None if neutral else _donors(options.init_from)
    check_new_code(model, code)
    if donors is not None:
        donor_weights(donors, model.languages)
    if not set(model.languages) - set(model.config.vocabularies):
        raise ConfigurationError(f"No language of {options.model} reads its shared vocabulary: nothing to start from.")
    check_apart(options.model, options.output_dir)
    files = _found(options.text, code)
    train_text, dev_text = _split(options, code, files)
    known = tokenizer_of(model, None)
    own = load_tokenizer(options.tokenizer) if options.tokenizer is not None else None
    if own is not None:
        check_tokenizer(model, own.backend_tokenizer.to_str(), len(own))
    arguments = arguments_of(options)
    with arguments.main_process_first(local=False, desc="the run's folder"):
        start = begin(options, arguments.world_size)
    console.print(f"Adding {code} to {options.model}; output goes to {options.output_dir}")
    if start.goes_on:
        console.print(start.said)
    longest = model.config.max_position_embeddings - model.config.pad_token_id - 1
    size = min(options.block_size, longest)
    folder = options.cache_dir or options.output_dir / "blocks"

    with arguments.main_process_first(local=False, desc="tokenizer and blocks"):
        tokenizer = own or _trained_tokenizer(options, train_text, start, model.config, known) or known
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
    with arguments.main_process_first(local=False, desc="the run's data"):
        check_data(options, {code: [blocks.tokens, len(blocks.blocks)]})

    before = copy.deepcopy(model) if given is not None else None
    model.to(arguments.device)  # type: ignore[arg-type]
    existing = _existing(model, shared_dev, known, options)
    best = min(existing, key=lambda other: existing[other]["bits_per_character"])
    set_seed(options.seed)
    model.add_language(code, donors)
    if neutral:
        make_neutral(model, code)
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
    metrics = {
        "steps": steps,
        "existing": existing,
        "best_existing": best,
        "start": at_start,
        "after": validation.per_language()[code],
    }
    _print_scores(code, metrics)
    run = Run(model, known, options.output_dir, metrics)
    if trainer.is_world_process_zero():
        with saving("The model", options.output_dir):
            save_run(run, options, more=lambda: _certify(run, code, before, options))
    return run


def _certify(run: Run, code: str, before: XmodPreTrainedModel | None, options: ExtendOptions) -> None:
    """Write the pack and the certificate of a model that is saved.

    Args:
        run: the run.
        code: the new language's.
        before: the model before; None: it is at `options.model`.
        options: of the run.

    Raises:
        TrainingError: a weight moved that should not have.
    """
    _pack(run.model, code, run.tokenizer, run.metrics, options)
    certificate = diff(before if before is not None else options.model, options.output_dir, allow=[code])
    certificate.to_json(options.output_dir / "certificate.json")
    _print_certificate(code, certificate, options)


def _donors(init_from: Sequence[str]) -> dict[str, float] | list[str] | None:
    """What `add_language` takes.

    Raises:
        ConfigurationError: a weight is no number, or only some languages have one.
    """
    if not init_from:
        return None
    if _NEUTRAL in init_from:
        raise ConfigurationError(f"init_from is {','.join(init_from)!r}: neutral adds nothing, and stands alone.")
    named = [each.partition("=") for each in init_from]
    if not any(sign for _, sign, _ in named):
        return [name.strip() for name, _, _ in named]
    try:
        weights = {name.strip(): float(weight) for name, _, weight in named}
        if len(weights) < len(named):
            raise ValueError("a language twice")
        return weights
    except ValueError:
        raise ConfigurationError(
            f"init_from is {','.join(init_from)!r}: give names (de,nl), or a weight to each (de=2,nl=1), none twice."
        ) from None


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


def _pack(
    model: XmodPreTrainedModel,
    code: str,
    known: PreTrainedTokenizerFast,
    metrics: dict[str, Any],
    options: ExtendOptions,
) -> None:
    best = metrics["best_existing"]
    scores = [
        {
            "metric": "bits_per_character",
            "adapter": adapter,
            "value": values["bits_per_character"],
            "unknown tokens": f"{values['unknown']:.2%}",
        }
        for adapter, values in ((best, metrics["existing"][best]), (code, metrics["after"]))
    ]
    start = f"started from {', '.join(options.init_from)}" if options.init_from else "started at random"
    if options.init_from == (_NEUTRAL,):
        start = "started with a second matrix of zeros"
    model.save_language(
        code,
        options.output_dir / "pack",
        licence=options.licence,
        note=f"Trained by xmodular extend on {options.text.name}, {metrics['steps']} steps; {start}.",
        scores=scores,
        tokenizer_hash=fingerprint(known),
        overwrite=True,
    )


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


def _print_certificate(code: str, certificate: Certificate, options: ExtendOptions) -> None:
    console.print(f"Saved the model in {options.output_dir}, the language pack in {options.output_dir / 'pack'}")
    if certificate.ok:
        console.print(f"All weights but those of {code} are bit-identical to before (certificate.json).")
    elif options.trainable == "all":
        console.print(f"Other weights than those of {code} moved, as --trainable all has it (certificate.json).")
    else:
        raise TrainingError(f"weights moved that should not have: {', '.join(sorted(certificate.changed))}.")
