"""The languages of a model: add, remove, rename; give one a vocabulary; put one into a pack and take one out.

Each function changes the model in place and touches the parts of the languages concerned alone. What could fail is
done before the first change.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError, LanguageError, PackError
from xmodular.languages import code_problem, resolve
from xmodular.modeling.adapters import Adapters, XmodAdapter
from xmodular.modeling.embeddings import XmodEmbeddings
from xmodular.packs import Base, Misfit, Pack
from xmodular.packs.tokenizer import problem, special_tokens

logger = logging.getLogger(__name__)

# Fields of the configuration that a pack's base and a model must have in common.
_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
    "position_embedding_type",
    "pre_norm",
    "adapter_layer_norm",
    "adapter_reuse_layer_norm",
    "ln_before_adapter",
)

InitFrom = str | Sequence[str] | Mapping[str, float]


def adapters_by_layer(model: Any) -> list[Adapters]:
    """The adapters of every layer."""
    return [module for module in model.modules() if isinstance(module, Adapters)]


def embeddings_of(model: Any) -> XmodEmbeddings:
    """The embeddings of a bare model or of one with a head."""
    return model.base_model.embeddings


def same_language(name: str, languages: Sequence[str]) -> str | None:
    """The code among these that a name means, if it means one."""
    try:
        return resolve(name, languages)
    except LanguageError:
        return None


def check_new_code(model: Any, code: str, *, instead_of: str | None = None, way_out: str = "") -> None:
    """Raises LanguageError if a language cannot be called so, or a code that means the same is there already."""
    if wrong := code_problem(code):
        raise LanguageError(f"a language cannot be called {wrong}")
    there = same_language(code, [other for other in model.config.languages if other != instead_of])
    if there is not None:
        means = "" if there == code else f", which is what {code!r} means"
        raise LanguageError(f"the model has the language {there} already{means}.{way_out}")


def donor_weights(donors: InitFrom, languages: Sequence[str]) -> dict[str, float]:
    """The share of each donor, by code; shares sum to 1.

    Raises:
        LanguageError: if a donor is unknown, named twice, or there is none.
        InputError: if weights are negative, not finite or sum to nothing.
    """
    named: list[tuple[str, Any]]
    if isinstance(donors, str):
        named = [(donors, 1)]
    elif isinstance(donors, Mapping):
        named = list(donors.items())
    elif isinstance(donors, Iterable):
        named = [(name, 1) for name in donors]
    else:
        raise LanguageError(f"init_from is {donors!r:.80}: give a language, several, or languages with weights.")
    if not named:
        raise LanguageError("init_from names no language: give one, several, or None for random weights.")
    shares: dict[str, float] = {}
    for name, weight in named:
        code = resolve(name, languages)
        if code in shares:
            raise LanguageError(f"init_from names {code} twice: {', '.join(map(str, dict(named)))}.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InputError(f"init_from weighs {name!r} with {weight!r}: a weight is a number from 0 up.")
        shares[code] = float(weight)
    total = sum(shares.values())
    if not 0 < total < math.inf:
        raise InputError(f"the weights of init_from sum to {total}: one at least must be positive.")
    return {code: weight / total for code, weight in shares.items()}


def add_language(model: Any, code: str, init_from: InitFrom | None) -> None:
    """Adds an adapter in every layer: random, or the weighted average of others."""
    check_new_code(model, code)
    shares = None if init_from is None else donor_weights(init_from, model.config.languages)
    vocabulary = _own_vocabulary(model, shares or {})
    made = []
    for adapters in adapters_by_layer(model):
        adapter = _new_adapter(adapters, model.config)
        if shares is None:
            for module in adapter.modules():
                model._init_weights(module)
        else:
            _average(adapter, {adapters[donor]: share for donor, share in shares.items()})
        made.append(adapter)
    _install(model, code, made)
    if vocabulary is not None:
        _give_vocabulary(model, code, vocabulary)


def make_neutral(model: Any, code: str) -> None:
    """Sets the second matrix of a language's adapters to zero, so that they add nothing until they are trained."""
    for adapters in adapters_by_layer(model):
        for name, parameter in adapters[code].named_parameters():
            if name.startswith("dense2."):
                nn.init.zeros_(parameter)


def _own_vocabulary(model: Any, shares: Mapping[str, float]) -> _Vocabulary | None:
    """A copy of the vocabulary of a donor that has its own; its adapters are of use with them only.

    Raises:
        InputError: if donors with different vocabularies are averaged.
    """
    donors = [donor for donor, share in shares.items() if share]
    own = [donor for donor in donors if donor in model.config.vocabularies]
    if not own:
        return None
    if len(donors) > 1:
        raise InputError(
            f"init_from averages {', '.join(donors)}, but {', '.join(own)} reads a vocabulary of its own: such a "
            "language can be copied, and not averaged."
        )
    embeddings, head = embeddings_of(model), getattr(model, "lm_head", None)
    if own[0] not in embeddings.tokenizers:
        raise InputError(f"the tokenizer of {own[0]} is not with the model.")
    bias = None if head is None else head.language_bias[own[0]]
    return _vocabulary(model, embeddings.tokenizers[own[0]], embeddings.words(own[0]).weight, bias)


def _new_adapter(adapters: Adapters, config: XmodConfig) -> XmodAdapter:
    """An adapter on the device and in the precision of its neighbours."""
    like = next(adapters.parameters())
    if like.device.type == "meta":
        raise InputError("the model's weights are not in memory (meta device): load it without offloading first.")
    adapter = XmodAdapter(config).to(like.device, like.dtype)
    return adapter.train(adapters.training)


@torch.no_grad()
def _average(adapter: XmodAdapter, donors: Mapping[nn.Module, float]) -> None:
    """Sets an adapter to the weighted average of donors; one donor alone is copied bit by bit."""
    states = [(donor.state_dict(), share) for donor, share in donors.items() if share]
    for name, parameter in adapter.named_parameters():
        if len(states) == 1:
            parameter.copy_(states[0][0][name])
        else:
            parameter.copy_(sum(state[name].double() * share for state, share in states))


def _install(model: Any, code: str, adapters: Sequence[XmodAdapter]) -> None:
    """Puts a language's adapters in place: at its own place if it is there, else last."""
    for layer, adapter in zip(adapters_by_layer(model), adapters, strict=True):
        layer[code] = adapter
    config = model.config
    if code not in config.languages:
        config.languages = [*config.languages, code]


def relabel(model: Any, table: Mapping[str, str]) -> None:
    """Leaves the languages of a table in its order: new code → the code that it has now.

    The default language and the record of the fine-tuning language follow; a default that is gone is unset.
    """
    config = model.config
    default, old_codes = config.default_language, list(config.languages)
    if default is not None:
        default = resolve(default, old_codes)
    for adapters in adapters_by_layer(model):
        _rekey(adapters, {new: adapters[old] for new, old in table.items()})
    embeddings = embeddings_of(model)
    own = {new: old for new, old in table.items() if old in config.vocabularies}
    _rekey(embeddings.language_embeddings, {new: embeddings.language_embeddings[old] for new, old in own.items()})
    embeddings.tokenizers = {
        new: embeddings.tokenizers[old] for new, old in own.items() if old in embeddings.tokenizers
    }
    head = getattr(model, "lm_head", None)
    if head is not None:
        biases = {new: head.language_bias[old] for new, old in own.items()}
        head.language_bias = type(head.language_bias)(biases)
    renamed = {old: new for new, old in table.items()}
    before = model.__dict__.get("_defaults_before", [])  # what `language` will put back
    before[:] = [code and renamed.get(same_language(code, old_codes) or "") for code in before]
    config.vocabularies = {new: config.vocabularies[old] for new, old in own.items()}
    config.languages = list(table)
    if default is not None:
        config.default_language = renamed.get(default)
        if default not in renamed:
            logger.warning("%s was the default language: there is none now.", default)
    if getattr(config, "task_language", None) in renamed:
        config.task_language = renamed[config.task_language]


def _rekey(modules: nn.ModuleDict, new: Mapping[str, nn.Module]) -> None:
    modules.clear()
    modules.update(new)


def check_tokenizer(model: Any, tokenizer: str, rows: int) -> None:
    """Raises InputError if a tokenizer.json is none, or does not go with so many rows or the model's padding."""
    if wrong := problem(tokenizer, rows):
        raise InputError(f"the tokenizer.json does not do: {wrong}.")
    backend = Tokenizer.from_str(tokenizer)
    name = special_tokens(backend)[1]
    if (pad := backend.token_to_id(name)) != (needed := model.config.pad_token_id):
        raise InputError(f"the tokenizer's {name} has id {pad}: it must be {needed} as in the model.")


class _Vocabulary(NamedTuple):
    """A vocabulary that is ready to be put into the model."""

    tokenizer: str
    words: nn.Embedding
    bias: nn.Parameter | None


def _vocabulary(model: Any, tokenizer: str, word_embeddings: Tensor, bias: Tensor | None) -> _Vocabulary:
    """Makes what the model takes; all that can be wrong is found here.

    Raises:
        InputError: shapes, tokenizer and padding do not fit together, or values are too large.
    """
    hidden, embeddings = model.config.hidden_size, embeddings_of(model)
    if word_embeddings.dim() != 2 or word_embeddings.shape[1] != hidden or not len(word_embeddings):
        raise InputError(f"word_embeddings have shape {tuple(word_embeddings.shape)}: it must be (rows, {hidden}).")
    if not word_embeddings.is_floating_point():
        raise InputError(f"word_embeddings have dtype {word_embeddings.dtype}: they must be floats.")
    rows = len(word_embeddings)
    check_tokenizer(model, tokenizer, rows)
    if bias is not None and tuple(bias.shape) != (rows,):
        raise InputError(f"bias has shape {tuple(bias.shape)}: it must be ({rows},), one per row.")
    like, own = embeddings.word_embeddings.weight, None
    if getattr(model, "lm_head", None) is not None:
        own = nn.Parameter(like.new_zeros(rows) if bias is None else cast_like(bias, like, "bias"))
    words = nn.Embedding(rows, hidden, padding_idx=embeddings.padding_idx, device="meta")
    words.weight = nn.Parameter(cast_like(word_embeddings, like, "word_embeddings"))
    return _Vocabulary(tokenizer, words.train(embeddings.training), own)


def _give_vocabulary(model: Any, language: str, vocabulary: _Vocabulary) -> None:
    embeddings = embeddings_of(model)
    embeddings.language_embeddings[language] = vocabulary.words
    embeddings.tokenizers[language] = vocabulary.tokenizer
    if vocabulary.bias is not None:
        model.lm_head.language_bias[language] = vocabulary.bias
    rows = vocabulary.words.num_embeddings
    model.config.vocabularies = {**model.config.vocabularies, language: rows}


def set_vocabulary(
    model: Any, language: str, tokenizer: str, word_embeddings: Tensor, bias: Tensor | None = None
) -> None:
    """Gives a language a vocabulary of its own; `tokenizer` is the text of a tokenizer.json."""
    _give_vocabulary(model, language, _vocabulary(model, tokenizer, word_embeddings, bias))


def cast_like(tensor: Tensor, like: Tensor, name: str) -> Tensor:
    """A copy of a tensor on the device and in the precision of another.

    Raises:
        InputError: a finite value is none there.
    """
    cast = tensor.detach().to(like.device, like.dtype, copy=True)
    if bool((~cast.isfinite() & tensor.detach().to(like.device).isfinite()).any()):
        dtype = str(like.dtype).removeprefix("torch.")
        raise InputError(
            f"{name} has values too large for {dtype} (at most {torch.finfo(like.dtype).max:.4g}): load the model in "
            "float32 or bfloat16."
        )
    return cast


def _shape(config: XmodConfig) -> dict[str, Any]:
    fields = config.to_dict()
    return {**{name: fields[name] for name in _SHAPE}, "bottleneck_size": config.bottleneck_size}


def _frame(model: Any) -> dict[str, Tensor]:
    """What all languages share and fine-tuning does not move, words apart, by name."""
    embeddings = embeddings_of(model)
    norms = model.base_model.encoder.named_parameters(prefix="encoder")
    return {
        "embeddings.position_embeddings.weight": embeddings.position_embeddings.weight.detach(),
        "embeddings.token_type_embeddings.weight": embeddings.token_type_embeddings.weight.detach(),
        "embeddings.LayerNorm.weight": embeddings.LayerNorm.weight.detach(),
        "embeddings.LayerNorm.bias": embeddings.LayerNorm.bias.detach(),
        **{name: norm.detach() for name, norm in norms if ".adapter_layer_norm." in name},
    }


def base_of(model: Any, tokenizer_hash: str | None) -> Base:
    """What a pack of this model fits."""
    words = embeddings_of(model).word_embeddings.weight.detach()
    name = str(model.config._name_or_path or "") or None
    if name is not None and getattr(model.config, "_commit_hash", None) is None:  # a folder: its path is its owner's
        name = Path(name).name or None
    return Base.of(_shape(model.config), _frame(model), words, name=name, tokenizer=tokenizer_hash)


def misfits(model: Any, pack: Pack, tokenizer_hash: str | None) -> list[Misfit]:
    """Everything about a pack that does not fit the model."""
    words = embeddings_of(model).word_embeddings.weight.detach()
    return pack.misfits(_shape(model.config), _frame(model), words, tokenizer=tokenizer_hash)


def contents(model: Any, language: str) -> dict[str, Any]:
    """What `write_pack` takes of a language: its adapters, and its vocabulary if it has one."""
    adapter = {
        f"layer.{layer}.{name}": parameter.detach()
        for layer, adapters in enumerate(adapters_by_layer(model))
        for name, parameter in adapters[language].named_parameters()
    }
    if language not in model.config.vocabularies:
        return {"adapter": adapter}
    embeddings = embeddings_of(model)
    if language not in embeddings.tokenizers:
        raise PackError(f"the tokenizer of {language} is not with the model, so a pack would be of no use.")
    own = {"word_embeddings.weight": embeddings.words(language).weight.detach()}
    if (head := getattr(model, "lm_head", None)) is not None:
        own["lm_head.bias"] = head.language_bias[language].detach()
    return {"adapter": adapter, "embeddings": own, "tokenizer": embeddings.tokenizers[language]}


def load_language(
    model: Any, pack: Pack, code: str, *, force: bool, overwrite: bool, tokenizer_hash: str | None
) -> None:
    """Puts a pack's language into the model."""
    if not (overwrite and code in model.config.languages):
        way_out = " overwrite=True (--overwrite) replaces it; language=... (--language) takes another code."
        check_new_code(model, code, way_out=way_out)
    pack.check()
    found = misfits(model, pack, tokenizer_hash)
    if any(not (force and misfit.forcible) for misfit in found):
        listed = "\n".join(f"  - {misfit.message}" for misfit in found)
        raise PackError(f"the pack {pack.folder} does not fit this model:\n{listed}")
    for misfit in found:
        logger.warning("%s is installed although %s", code, misfit.message)
    tensors, vocabulary = pack.adapter(), None
    if pack.vocabulary:
        own = pack.embeddings()
        vocabulary = _vocabulary(model, pack.tokenizer_json(), own["word_embeddings.weight"], own.get("lm_head.bias"))
    made = []
    for layer, adapters in enumerate(adapters_by_layer(model)):
        adapter = _new_adapter(adapters, model.config)
        for name, parameter in adapter.named_parameters():
            key = f"layer.{layer}.{name}"
            parameter.data = cast_like(tensors[key], parameter, key)
        made.append(adapter)
    if code in model.config.vocabularies:
        _drop_vocabulary(model, code)
    _install(model, code, made)
    if vocabulary is not None:
        _give_vocabulary(model, code, vocabulary)


def _drop_vocabulary(model: Any, language: str) -> None:
    """Back to the shared vocabulary."""
    embeddings = embeddings_of(model)
    del embeddings.language_embeddings[language]
    embeddings.tokenizers.pop(language, None)
    if (head := getattr(model, "lm_head", None)) is not None:
        del head.language_bias[language]
    model.config.vocabularies = {code: rows for code, rows in model.config.vocabularies.items() if code != language}
