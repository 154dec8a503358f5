"""The languages of a model: add, remove, rename.

Each function changes the model in place, and only the parts of the languages concerned. Whatever could fail is
done before the first change.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError, LanguageError
from xmodular.languages import code_problem, resolve, resolve_or_none
from xmodular.modeling.adapters import Adapters, XmodAdapter
from xmodular.modeling.adapters_on_disk import check_in_memory
from xmodular.modeling.own_vocabularies import (
    Vocabulary,
    copy_of_vocabulary,
    drop_vocabulary,
    embeddings_of,
    give_vocabulary,
)

logger = logging.getLogger(__name__)

InitFrom = str | Sequence[str] | Mapping[str, float]


def adapters_by_layer(model: Any) -> list[Adapters]:
    """The adapters of every layer."""
    return [module for module in model.modules() if isinstance(module, Adapters)]


def check_new_code(model: Any, code: str, *, instead_of: str | None = None, way_out: str = "") -> None:
    """Raises LanguageError if a code is not valid, or the model already has a code for the same language."""
    if wrong := code_problem(code):
        raise LanguageError(f"not a valid language code: {wrong}")
    there = resolve_or_none(code, [other for other in model.config.languages if other != instead_of])
    if there is not None:
        means = "" if there == code else f" ({code!r} means the same language)"
        raise LanguageError(f"the model already has the language {there}{means}.{way_out}")


def donor_weights(donors: InitFrom, languages: Sequence[str]) -> dict[str, float]:
    """The share of each donor, by code; shares sum to 1.

    Raises:
        LanguageError: if a donor is unknown or named twice, or there is none.
        InputError: if weights are negative or not finite, or their sum is zero.
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
            raise InputError(f"init_from gives {name!r} the weight {weight!r}: a weight must be a number, 0 or more.")
        shares[code] = float(weight)
    total = sum(shares.values())
    if not 0 < total < math.inf:
        raise InputError(f"the weights of init_from sum to {total}: at least one must be positive.")
    return {code: weight / total for code, weight in shares.items()}


def add_language(model: Any, code: str, init_from: InitFrom | None, *, overwrite: bool = False) -> None:
    """Adds an adapter in every layer: random, or the weighted average of others; or replaces a language's."""
    if not (overwrite and code in model.config.languages):
        check_new_code(model, code)
    shares = None if init_from is None else donor_weights(init_from, model.config.languages)
    vocabulary = copy_of_vocabulary(model, shares or {})
    made = []
    for adapters in adapters_by_layer(model):
        adapter = new_adapter(adapters, model.config)
        if shares is None:
            for module in adapter.modules():
                model._init_weights(module)
        else:
            _average(adapter, {adapters[donor]: share for donor, share in shares.items()})
        made.append(adapter)
    install(model, code, made, vocabulary)


def make_neutral(model: Any, code: str) -> None:
    """Sets the up-projections of a language's adapters to zero, so that they add nothing until they are trained."""
    for adapters in adapters_by_layer(model):
        for name, parameter in adapters[code].named_parameters():
            if name.startswith("dense2."):
                nn.init.zeros_(parameter)


def new_adapter(adapters: Adapters, config: XmodConfig) -> XmodAdapter:
    """An adapter on the device and in the precision of its neighbours."""
    check_in_memory(adapters)
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


def install(model: Any, code: str, adapters: Sequence[XmodAdapter], vocabulary: Vocabulary | None) -> None:
    """Installs a language's adapters and vocabulary: it keeps its position if the model has it, else it is last."""
    if code in model.config.vocabularies:
        drop_vocabulary(model, code)
    for layer, adapter in zip(adapters_by_layer(model), adapters, strict=True):
        layer[code] = adapter
    config = model.config
    if code not in config.languages:
        config.languages = [*config.languages, code]
    if vocabulary is not None:
        give_vocabulary(model, code, vocabulary)


def relabel(model: Any, table: Mapping[str, str]) -> None:
    """Keeps the languages of a table, in its order: new code → current code.

    The default language and the recorded fine-tuning language follow; a default that is removed is unset.
    """
    for adapters in adapters_by_layer(model):
        check_in_memory(adapters)
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
    before = model.__dict__.get("_defaults_before", [])  # the defaults that `language` will restore
    before[:] = [code and renamed.get(resolve_or_none(code, old_codes) or "") for code in before]
    config.vocabularies = {new: config.vocabularies[old] for new, old in own.items()}
    config.languages = list(table)
    if default is not None:
        config.default_language = renamed.get(default)
        if default not in renamed:
            logger.warning("%s was the default language; now there is no default.", default)
    if config.task_language in renamed:
        config.task_language = renamed[config.task_language]


def _rekey(modules: nn.ModuleDict, new: Mapping[str, nn.Module]) -> None:
    modules.clear()
    modules.update(new)
