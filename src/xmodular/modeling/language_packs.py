"""Save a language of a model as a pack, and install a pack's language in a model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from xmodular.configuration import XmodConfig
from xmodular.errors import PackError, listed
from xmodular.modeling.language_changes import adapters_by_layer, check_new_code, install, new_adapter
from xmodular.modeling.own_vocabularies import (
    cast_like,
    embeddings_of,
    make_vocabulary,
)
from xmodular.packs import Base, Misfit, Pack
from xmodular.weight_names import ADAPTER_NORM, PACK_BIAS, PACK_WORDS, POSITIONS, TYPES, bare, in_pack

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


def _shape(config: XmodConfig) -> dict[str, Any]:
    fields = config.to_dict()
    return {**{name: fields[name] for name in _SHAPE}, "bottleneck_size": config.bottleneck_size}


def _frame(model: Any) -> dict[str, Tensor]:
    """The shared weights that fine-tuning does not change, except the word embeddings, by name."""
    embeddings = embeddings_of(model)
    norms = model.base_model.encoder.named_parameters(prefix="encoder")
    return {
        bare(POSITIONS): embeddings.position_embeddings.weight.detach(),
        bare(TYPES): embeddings.token_type_embeddings.weight.detach(),
        "embeddings.LayerNorm.weight": embeddings.LayerNorm.weight.detach(),
        "embeddings.LayerNorm.bias": embeddings.LayerNorm.bias.detach(),
        **{name: norm.detach() for name, norm in norms if ADAPTER_NORM in name},
    }


def base_of(model: Any, tokenizer_hash: str | None) -> Base:
    """The base of this model's packs."""
    words = embeddings_of(model).word_embeddings.weight.detach()
    name = str(model.config.name_or_path or "") or None
    if name is not None and getattr(model.config, "_commit_hash", None) is None:  # a folder: its path is private
        name = Path(name).name or None
    return Base.of(_shape(model.config), _frame(model), words, name=name, tokenizer=tokenizer_hash)


def misfits(model: Any, pack: Pack, tokenizer_hash: str | None) -> list[Misfit]:
    """All reasons why a pack does not fit the model."""
    words = embeddings_of(model).word_embeddings.weight.detach()
    return pack.misfits(_shape(model.config), _frame(model), words, tokenizer=tokenizer_hash)


def contents(model: Any, language: str) -> dict[str, Any]:
    """The arguments of `write_pack` for a language: its adapters, and its vocabulary if it has one."""
    adapter = {
        in_pack(layer, name): parameter.detach()
        for layer, adapters in enumerate(adapters_by_layer(model))
        for name, parameter in adapters[language].named_parameters()
    }
    if language not in model.config.vocabularies:
        return {"adapter": adapter}
    embeddings = embeddings_of(model)
    if language not in embeddings.tokenizers:
        raise PackError(f"the tokenizer of {language} is missing from the model, so a pack would be unusable.")
    own = {PACK_WORDS: embeddings.words(language).weight.detach()}
    if (head := getattr(model, "lm_head", None)) is not None:
        own[PACK_BIAS] = head.language_bias[language].detach()
    return {"adapter": adapter, "embeddings": own, "tokenizer": embeddings.tokenizers[language]}


def load_language(
    model: Any, pack: Pack, code: str, *, force: bool, overwrite: bool, tokenizer_hash: str | None
) -> None:
    """Installs a pack's language in the model."""
    if not (overwrite and code in model.config.languages):
        way_out = " overwrite=True (--overwrite) replaces it; language=... (--language) gives it another code."
        check_new_code(model, code, way_out=way_out)
    pack.check()
    found = misfits(model, pack, tokenizer_hash)
    if any(not (force and misfit.forcible) for misfit in found):
        messages = [misfit.message for misfit in found]
        raise PackError(f"the pack {pack.folder} does not fit this model:{listed(messages)}")
    for misfit in found:
        logger.warning("%s is installed although it does not fit: %s", code, misfit.message)
    tensors, vocabulary = pack.adapter(), None
    if pack.vocabulary:
        own = pack.embeddings()
        vocabulary = make_vocabulary(model, pack.tokenizer_json(), own[PACK_WORDS], own.get(PACK_BIAS))
    made = []
    for layer, adapters in enumerate(adapters_by_layer(model)):
        adapter = new_adapter(adapters, model.config)
        for name, parameter in adapter.named_parameters():
            key = in_pack(layer, name)
            parameter.data = cast_like(tensors[key], parameter, key)
        made.append(adapter)
    install(model, code, made, vocabulary)
