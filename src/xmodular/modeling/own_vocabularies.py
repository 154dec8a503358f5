"""The vocabularies of single languages of a model: word embeddings, tokenizer, bias of the head.

All checks come before the model is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from xmodular.errors import InputError
from xmodular.modeling.embeddings import XmodEmbeddings
from xmodular.tokenizer_rules import problem, special_tokens


def embeddings_of(model: Any) -> XmodEmbeddings:
    """The embeddings of a bare model or of a model with a head."""
    return model.base_model.embeddings


def copy_of_vocabulary(model: Any, shares: Mapping[str, float]) -> Vocabulary | None:
    """A copy of the vocabulary of a donor that has its own; its adapters only work with that vocabulary.

    Raises:
        InputError: if donors with different vocabularies are averaged.
    """
    donors = [donor for donor, share in shares.items() if share]
    own = [donor for donor in donors if donor in model.config.vocabularies]
    if not own:
        return None
    if len(donors) > 1:
        raise InputError(
            f"init_from averages {', '.join(donors)}, but {', '.join(own)} has its own vocabulary: such a "
            "language can be copied, but not averaged."
        )
    embeddings, head = embeddings_of(model), getattr(model, "lm_head", None)
    if own[0] not in embeddings.tokenizers:
        raise InputError(f"the tokenizer of {own[0]} is missing from the model.")
    bias = None if head is None else head.language_bias[own[0]]
    return make_vocabulary(model, embeddings.tokenizers[own[0]], embeddings.words(own[0]).weight, bias)


def check_tokenizer(model: Any, tokenizer: str, rows: int) -> None:
    """Raises InputError if a tokenizer.json is not valid, or does not match the rows or the model's padding."""
    if wrong := problem(tokenizer, rows):
        raise InputError(f"the tokenizer.json cannot be used: {wrong}.")
    backend = Tokenizer.from_str(tokenizer)
    name = special_tokens(backend)[1]
    if (pad := backend.token_to_id(name)) != (needed := model.config.pad_token_id):
        raise InputError(f"the tokenizer's {name} has id {pad}: it must be {needed} as in the model.")


class Vocabulary(NamedTuple):
    """A checked vocabulary, ready for the model."""

    tokenizer: str
    words: nn.Embedding
    bias: nn.Parameter | None


def make_vocabulary(model: Any, tokenizer: str, word_embeddings: Tensor, bias: Tensor | None) -> Vocabulary:
    """Prepares a vocabulary for the model, and checks it.

    Raises:
        InputError: shapes, tokenizer and padding do not match, or values are too large.
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
    return Vocabulary(tokenizer, words.train(embeddings.training), own)


def give_vocabulary(model: Any, language: str, vocabulary: Vocabulary) -> None:
    """Gives a language of the model its own vocabulary."""
    embeddings = embeddings_of(model)
    embeddings.language_embeddings[language] = vocabulary.words
    embeddings.tokenizers[language] = vocabulary.tokenizer
    if vocabulary.bias is not None:
        model.lm_head.language_bias[language] = vocabulary.bias
    rows = vocabulary.words.num_embeddings
    model.config.vocabularies = {**model.config.vocabularies, language: rows}


def cast_like(tensor: Tensor, like: Tensor, name: str) -> Tensor:
    """A copy of a tensor with the device and the precision of another.

    Raises:
        InputError: a finite value overflows.
    """
    cast = tensor.detach().to(like.device, like.dtype, copy=True)
    if bool((~cast.isfinite() & tensor.detach().to(like.device).isfinite()).any()):
        dtype = str(like.dtype).removeprefix("torch.")
        raise InputError(
            f"{name} has values too large for {dtype} (at most {torch.finfo(like.dtype).max:.4g}): load the model in "
            "float32 or bfloat16."
        )
    return cast


def drop_vocabulary(model: Any, language: str) -> None:
    """Returns a language to the shared vocabulary."""
    embeddings = embeddings_of(model)
    del embeddings.language_embeddings[language]
    embeddings.tokenizers.pop(language, None)
    if (head := getattr(model, "lm_head", None)) is not None:
        del head.language_bias[language]
    model.config.vocabularies = {code: rows for code, rows in model.config.vocabularies.items() if code != language}
