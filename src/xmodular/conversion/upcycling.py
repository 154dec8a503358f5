"""Turn a trained encoder into a modular model: the same states in every language, and an adapter for each to train."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

import xmodular.modeling
from xmodular.catalogue import RELEASES
from xmodular.configuration import XmodConfig, config_content, read_config, stored_modules, stored_settings
from xmodular.console import console, quiet_transformers
from xmodular.conversion.dense import fill, recognise, to_config
from xmodular.conversion.outcome import Converted, say
from xmodular.errors import AmbiguousLanguageError, ConfigurationError, DataError, LanguageError
from xmodular.files import folder_beside
from xmodular.hub import hub_source
from xmodular.languages import code_problem, resolve, resolve_or_none, tag_of
from xmodular.modeling import XmodForSequenceClassification, XmodPreTrainedModel
from xmodular.modeling.language_changes import make_neutral
from xmodular.modeling.loaded import check_loaded
from xmodular.options import UpcycleOptions
from xmodular.outputs import check_model_folder
from xmodular.signatures import verb
from xmodular.vocabulary import is_with_tokenizer, load_tokenizer, save_tokenizer
from xmodular.weights import open_weights

_READ_MODULES = ("Transformer", "Pooling", "Normalize", "XmodModule")


@verb(UpcycleOptions, "model", "languages", holds="output_dir")
def upcycle(made: UpcycleOptions) -> Converted:
    """Turn a dense encoder into an X-MOD model with equal states and an adapter per language that adds nothing yet.

    BERT, RoBERTa, XLM-RoBERTa, CamemBERT and RoBERTa-PreLayerNorm encoders, bare or with a head, become X-MODs whose
    states at real tokens equal the source's in every language (sparse upcycling: Komatsuzaki et al. 2023). For an
    X-MOD source, the shared weights and the adapters of its languages are kept.

    Args:
        model: a folder or a name on the Hub.
        languages: codes, tags or names of the languages to add adapters for, in the order of their ids.
        output_dir: the folder to create.

    Returns:
        A report of the conversion.

    Raises:
        ConfigurationError: X-MOD cannot compute what the source computes; the message names the missing part.
        DataError: weights are missing, unknown or of the wrong shape, or the tokenizer is not the model's.
        LanguageError: a language is named twice, or ambiguous.
    """
    sources = [made.model, made.tokenizer]
    check = functools.partial(check_model_folder, made.output_dir, overwrite=made.overwrite, sources=sources)
    check()
    content = _config_of(made.model)
    is_modular = content.get("model_type") == XmodConfig.model_type
    codes = _codes(made.languages, read_config(made.model).languages if is_modular else ())
    console.print(f"Upcycling {made.model}; output goes to {made.output_dir}")
    tokenizer = _tokenizer_of(made)
    if is_modular:
        made.refuse(("reduction",), f"is for dense encoders; {made.model} has adapters, whose size stays.")
        modular = _of_modular(made, codes)
        left: dict[str, str] = {}
    else:
        modular, left = _of_dense(made, codes, content, tokenizer)
    _set_pooling(modular, made)
    rows = modular.config.vocab_size
    if tokenizer is not None and len(tokenizer) > rows:
        raise DataError(f"The tokenizer has {len(tokenizer)} pieces, {made.model} {rows} embeddings: no match.")
    with folder_beside(made.output_dir, check) as folder, quiet_transformers():
        if tokenizer is not None:
            save_tokenizer(tokenizer, folder, modular.config)
        modular.save_pretrained(folder)
        files = tuple(sorted(each.name for each in folder.iterdir()))
    notes = () if tokenizer is not None else ("no tokenizer: there is none next to the weights",)
    name, count = type(modular).__name__, len(modular.state_dict())
    converted = Converted(made.output_dir, name, modular.config, count, left, notes, files)
    say(converted, f"Made an {name} with adapters for {', '.join(codes)} in {made.output_dir}")
    return converted


def _codes(names: Sequence[str], there: Sequence[str]) -> list[str]:
    """Each language's code (see `code_for`)."""
    codes: list[str] = []
    for name in names:
        code = code_for(name, there)
        if wrong := code_problem(code):
            raise LanguageError(f"not a valid language code: {wrong}")
        if code in codes:
            raise LanguageError(f"{name!r} means {code}, which is named twice in {', '.join(names)}.")
        codes.append(code)
    if not codes:
        raise LanguageError("no language is given: name some with --languages de,sw.")
    return codes


def code_for(name: str, there: Sequence[str] = ()) -> str:
    """The code for a language: the source's own, else that of X-MOD's first releases, else the name or its tag.

    Args:
        name: a code, tag or name of it.
        there: the languages of a modular source.

    Raises:
        AmbiguousLanguageError: the name fits several languages.
    """
    first = [release for release in RELEASES.values() if release.fairseq_name is not None]
    known = list(dict.fromkeys(code for release in first for code in release.languages))
    try:
        return resolve_or_none(name, there) or resolve(name, known)
    except AmbiguousLanguageError:
        raise
    except LanguageError:
        tag = tag_of(name)
        return tag if tag and len(name) > len(tag) else name


def _config_of(source: str) -> dict[str, Any]:
    """The content of the source's config.json; no code in it runs.

    Raises:
        ConfigurationError: there is no config.json.
    """
    content = config_content(source)
    if not content:
        raise ConfigurationError(f"{source} has no config.json, so the kind of model is unknown.")
    return content


def _tokenizer_of(options: UpcycleOptions) -> PreTrainedTokenizerFast | None:
    """The requested tokenizer, or the one next to the weights; None if there is none."""
    if options.tokenizer is not None:
        return load_tokenizer(options.tokenizer)
    return load_tokenizer(options.model) if is_with_tokenizer(options.model) else None


def _of_dense(
    options: UpcycleOptions, codes: Sequence[str], content: dict[str, Any], tokenizer: PreTrainedTokenizerFast | None
) -> tuple[XmodPreTrainedModel, dict[str, str]]:
    """A dense encoder with adapters that add nothing, and the weights that were left out."""
    dense = recognise(options.model, content, head=options.head)
    config = to_config(dense, codes, tokenizer, options.reduction)
    with open_weights(options.model) as stored, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(options.seed)
        if config.num_hidden_layers > len(stored):
            raise DataError(f"{options.model} has {len(stored)} weights for {config.num_hidden_layers} layers.")
        more: dict[str, Any] = {}
        if dense.architecture == "XmodModel":
            more["add_pooling_layer"] = any("pooler." in name for name in stored.names)
        with torch.device("meta"):  # before memory is taken: whether its sizes are those of the weights
            fill(getattr(xmodular.modeling, dense.architecture)(config, **more), dense, stored)
        model = getattr(xmodular.modeling, dense.architecture)(config, **more)
        model.to(_widest(stored.dtype(name) for name in stored.names))
        for code in codes:
            make_neutral(model, code)
        left = fill(model, dense, stored)
    return model.eval(), left


def _set_pooling(model: XmodPreTrainedModel, options: UpcycleOptions) -> None:
    """Set how states become the vector of a text, and with the mean the input of a classification head.

    An existing head keeps the input that it was trained with.

    Raises:
        ConfigurationError: it was trained on something else.
    """
    there = model.config.classifier_pooling
    if isinstance(model, XmodForSequenceClassification):
        if options.pooling not in (None, there):
            raise ConfigurationError(
                f"--pooling {options.pooling}: the classification head of {options.model} was trained with "
                f"{there!r}; --no-head leaves the head out."
            )
        return
    if options.pooling is not None:
        model.config.classifier_pooling = options.pooling
        model.config.sentence_embedding = model.config.embedding_settings.changed(pooling=options.pooling).record()
    elif (stored := stored_settings(options.model)) is not None:
        model.config.sentence_embedding = stored.record()
        if stored.pooling == "mean":
            model.config.classifier_pooling = "mean"
        if left := [kind for kind in stored_modules(options.model) if not kind.endswith(_READ_MODULES)]:
            console.print(f"Modules of sentence-transformers that are left out: {', '.join(left)}.")


def _of_modular(options: UpcycleOptions, codes: Sequence[str]) -> XmodPreTrainedModel:
    """An X-MOD with another set of languages: those that it has as they are, others with adapters that add nothing."""
    source, where = hub_source(options.model)
    config = read_config(options.model)
    kept = [code for code in codes if code in config.languages] or list(config.languages[:1])
    name = (config.architectures or ["XmodModel"])[0] if options.head else "XmodModel"
    if name not in xmodular.modeling.__all__:
        raise ConfigurationError(
            f"{options.model} does not name an X-MOD class in its config.json; it has {name!r:.80}."
        )
    with open_weights(options.model):  # reports problems of the files
        pass
    with quiet_transformers(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(options.seed)
        model, report = getattr(xmodular.modeling, name).from_pretrained(
            source, languages=kept, output_loading_info=True, **where
        )
        check_loaded(options.model, model, report, new_head=False)
        for code in codes:
            if code not in config.languages:
                model.add_language(code)
                make_neutral(model, code)
        model.keep_languages(list(codes))
    return model


def _widest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The floating-point type that holds all of these exactly."""
    floats = [dtype for dtype in dtypes if dtype.is_floating_point] or [torch.float32]
    return functools.reduce(torch.promote_types, floats)
