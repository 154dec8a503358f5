"""A model with some rows of its vocabulary: word embeddings, projection and bias of a language-model head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xmodular.errors import DataError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.own_vocabularies import embeddings_of, give_vocabulary, make_vocabulary


def named_ids(model: XmodPreTrainedModel) -> set[int]:
    """The ids that the model's configuration and its settings for generation name, such as ``eos_token_id``."""
    found = set()
    for settings in _settings(model):
        for name, value in _token_ids(settings).items():
            for index in value if isinstance(value, list) else [value]:
                if not 0 <= index < model.config.vocab_size:
                    raise DataError(f"{name} is {index}; the model has {model.config.vocab_size} pieces.")
                found.add(index)
    return found


@torch.no_grad()
def keep_rows(model: XmodPreTrainedModel, order: Sequence[int]) -> None:
    """Keep some rows of the shared vocabulary.

    Args:
        model: the model, which is changed. A tied head stays tied, an untied one keeps the same rows.
        order: the old id of each piece.
    """
    rows, embeddings, head = torch.tensor(order), embeddings_of(model), getattr(model, "lm_head", None)
    old = embeddings.word_embeddings
    words = nn.Embedding(len(order), old.embedding_dim, padding_idx=old.padding_idx, device="meta")
    words.weight = _chosen(old.weight, rows)
    embeddings.word_embeddings = words.train(old.training)
    if head is not None:
        decoder = nn.Linear(old.embedding_dim, len(order), device="meta")
        tied = head.decoder.weight is old.weight
        decoder.weight = words.weight if tied else _chosen(head.decoder.weight, rows)
        decoder.bias = head.bias = _chosen(head.bias, rows)
        head.decoder = decoder.train(head.training)
    model.config.vocab_size = len(order)
    new_ids = {before: after for after, before in enumerate(order)}
    for settings in _settings(model):
        for name, value in _token_ids(settings).items():
            setattr(settings, name, [new_ids[i] for i in value] if isinstance(value, list) else new_ids[value])


@torch.no_grad()
def keep_own_rows(model: XmodPreTrainedModel, language: str, tokenizer: str, order: Sequence[int]) -> None:
    """Keep some rows of a language's own vocabulary.

    Args:
        model: the model, which is changed.
        language: the language's code.
        tokenizer: its new ``tokenizer.json``.
        order: the old id of each piece.

    Raises:
        InputError: the tokenizer does not fit.
    """
    rows, head = torch.tensor(order), getattr(model, "lm_head", None)
    bias = None if head is None else head.language_bias[language][rows]
    words = embeddings_of(model).words(language).weight[rows]
    give_vocabulary(model, language, make_vocabulary(model, tokenizer, words, bias))


def _chosen(weight: Tensor, rows: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach()[rows.to(weight.device)], requires_grad=weight.requires_grad)


def _settings(model: XmodPreTrainedModel) -> list[Any]:
    return [each for each in (model.config, getattr(model, "generation_config", None)) if each is not None]


def _token_ids(settings: Any) -> dict[str, Any]:
    """The fields that name a token, or several."""
    values = {name: value for name, value in vars(settings).items() if name.endswith(("_token_id", "_token_ids"))}
    return {
        name: value
        for name, value in values.items()
        if type(value) is int or (isinstance(value, list) and value and all(type(each) is int for each in value))
    }
