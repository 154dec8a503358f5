"""Add a language to a pretrained model: train its adapter on raw text or translations, and nothing else.

Pfeiffer et al. 2022, section 3.2: an added language's adapter is trained by masked language modelling with everything
else frozen. A language whose script the vocabulary does not cover gets its own tokens and embeddings, also trained.
For an encoder without a masked-LM head, or with tasks that already use its states, train on translations (`aligning`).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from xmodular.console import console, counted
from xmodular.errors import AmbiguousLanguageError, ConfigurationError, DataError, LanguageError
from xmodular.languages import resolve
from xmodular.modeling import XmodForMaskedLM, XmodModel, XmodPreTrainedModel
from xmodular.options import ExtendOptions
from xmodular.packs import check_target
from xmodular.signatures import verb
from xmodular.tasks import given_plain_model, load_saved
from xmodular.training import contents
from xmodular.training.aligning import Aligned, encoded, loss_of, print_scores, replaced_scores
from xmodular.training.epochs import Passes
from xmodular.training.fitting import fit
from xmodular.training.growing import Beginning, begun, save, shared_tokenizer
from xmodular.training.imitating import Imitated, check_classifier, imitation
from xmodular.training.language_modeling import intervals_of
from xmodular.training.linear_adapter import check_activation, solve_adapter
from xmodular.training.masked_words import by_masked_words
from xmodular.training.optimising import training_arguments
from xmodular.training.pairs import Pair, held_out, pairs_hash, read_pairs
from xmodular.training.runs import Run, check_sources, print_trainable

_FEWEST_STEPS = 300  # of a run on pairs without --max-steps: pairs are few


@verb(ExtendOptions, "model", "language", "text", objects={"model": given_plain_model}, holds="output_dir")
def extend(options: ExtendOptions, given: XmodPreTrainedModel | None) -> Run:
    """Add a language to a pretrained model and train it, on text or on sentences with translations.

    Args:
        model: a folder, a name on the Hub, or an object, to which the language is added.
        language: the new language's code.
        text: a file, or a folder with the language's files; None with translations (`parallel`).

    Returns:
        The model with the language, saved in `output_dir` with its language pack (``pack``), the certificate of the
        other changes (``certificate.json``), and ``metrics.json``: the held-out text's loss, perplexity and bits per
        character with each existing adapter, with the new one before training, and after training, and with the one
        that it replaces (``replaced``); with `parallel`, the share of held-out sentences that find their translation
        among all by cosine, and that cosine.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
        TrainingError: a weight changed that should be frozen.
    """
    model = given if given is not None else load_saved(options.model)
    _check_class(model, options)
    if options.replace:
        options = replace(options, language=_replaced(options.language, model))
    beginning = Beginning.of(options, model)
    if not set(model.languages) - {*model.config.vocabularies, options.language}:
        raise ConfigurationError(
            f"No other language of {options.model} uses its shared vocabulary: there is nothing to start from."
        )
    check_sources(options)
    check_target(options.output_dir / "pack", overwrite=True)
    before = copy.deepcopy(model) if given is not None else None
    if options.parallel is not None:
        return _by_translations(options, options.parallel, model, beginning, before)
    assert isinstance(model, XmodForMaskedLM)
    assert options.text is not None
    return by_masked_words(options, options.text, model, beginning, before)


def _replaced(name: str, model: XmodPreTrainedModel) -> str:
    """The code of a language that gets a new adapter.

    Raises:
        LanguageError: the model lacks it.
    """
    try:
        return resolve(name, model.languages)
    except AmbiguousLanguageError:
        raise
    except LanguageError as error:
        raise LanguageError(f"{error} Without --replace, {name} is added.") from None


def _check_class(model: XmodPreTrainedModel, options: ExtendOptions) -> None:
    """Raises ConfigurationError if a model of this class cannot learn a language from the given data."""
    if isinstance(model, XmodForMaskedLM) or options.parallel is not None:
        return
    if isinstance(model, XmodModel):
        raise ConfigurationError(
            f"{options.model} has no masked-LM head, which training on text needs. Train one first, on text in "
            f"its languages: xmodular pretrain --model {options.model} --text <folder> --trainable head "
            "--output-dir with-head. Or train on translations (--parallel), which needs no head."
        )
    raise ConfigurationError(
        f"Training on text needs a masked-LM head; {options.model} is an {type(model).__name__}. Add the language to "
        "the model that this one was fine-tuned from, and install the pack here; or train on translations (--parallel)."
    )


def _parts(options: ExtendOptions, source: str, model: XmodPreTrainedModel) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on, and those held out.

    Raises:
        DataError: they cannot be read, or are too few.
    """
    pairs = read_pairs(source, options.language, model.languages)
    train, dev = held_out(pairs, options.dev_fraction, options.seed)
    if not dev:
        raise DataError(f"{source} has {counted(len(pairs), 'pair')}: a tenth is held out, so at least 10 are needed.")
    if not train:
        raise DataError(
            f"{source} repeats {counted(len({pair.text for pair in dev}), 'sentence')}: none is left for training."
        )
    return train, dev


def _by_translations(
    options: ExtendOptions,
    source: str,
    model: XmodPreTrainedModel,
    beginning: Beginning,
    before: XmodPreTrainedModel | None,
) -> Run:
    """The adapter learns to give sentences the states of their translations, or the predictions for them."""
    code = options.language
    train, dev = _parts(options, source, model)
    if options.objective == "linear":
        check_activation(model)
    if options.objective == "predictions":
        check_classifier(model, options.model)
    kind = Imitated if options.objective == "predictions" else Aligned
    known = shared_tokenizer(model)
    arguments = training_arguments(options)
    batches = Passes.of(options, arguments, len(train), options.epochs, _FEWEST_STEPS)
    data = {"parallel": pairs_hash([*train, *dev])} | contents.base(options.model, before)
    start = begun(options, arguments, data)
    model.to(arguments.device)  # type: ignore[arg-type]
    read = [encoded(model, part, options, kind) for part in (train, dev)]
    place = [*model.languages, code].index(code)
    sentences, measured = (kind(*part, place, model.config.pad_token_id) for part in read)
    replaced = replaced_scores(model, measured, dev, options)
    set_seed(options.seed)
    beginning.add(model, code)
    print_trainable(model.set_trainable(options.trainable, languages=None if options.trainable == "all" else [code]))
    # The sentences are in pieces of the shared vocabulary: those that read it can read them, teachers first.
    readers = [each for each in model.languages if each not in model.config.vocabularies and each != code]
    taught = dict.fromkeys(language for pair in dev for language in pair.translations)
    teachers = [each for each in taught if each in readers] or readers
    existing = {each: measured.scores(model, each) for each in teachers}
    main = kind.measures[0]
    best = max(existing, key=lambda each: existing[each][main])
    at_start = measured.scores(model)
    steps = batches.steps if options.objective != "linear" else 0
    if options.objective == "linear":
        solve_adapter(model, code, sentences, options.batch_size * options.block_size)
    else:
        console.print(f"Training on {counted(len(train), 'pair')}, {counted(steps, 'step')}")
        fit(
            sentences.student(model),
            sentences,
            sentences.batch,
            batches,
            options,
            arguments,
            start,
            steps,
            intervals=intervals_of(options),
            loss=imitation if kind is Imitated else loss_of(options, sentences),
            validate=lambda: measured.scores(model),
        )
    model.eval()
    metrics: dict[str, Any] = {"steps": steps, "existing": existing, "best_existing": best, **replaced}
    metrics |= {"initialisation": beginning.said, "start": at_start, "after": measured.scores(model)}
    print_scores(code, metrics, measured, options.learning_rate)
    run = Run(model, known, options.output_dir, metrics)
    if arguments.process_index == 0:
        learned_from = f"translations, {counted(len(train), 'pair')} of {Path(source).name}"
        save(run, options, before, learned_from, main)
    return run
