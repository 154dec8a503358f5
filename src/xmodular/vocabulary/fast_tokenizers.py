"""Fast tokenizers beside a model: made of a ``tokenizer.json``, suited to a configuration, saved, told apart."""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from xmodular.configuration import XmodConfig
from xmodular.errors import DataError
from xmodular.tokenizer_rules import problem, special_tokens

_TYPES = "token_type_ids"


def from_json(text: str, rows: int) -> PreTrainedTokenizerFast:
    """The tokenizer that a ``tokenizer.json`` for so many word embeddings holds; special tokens as XLM-R's or BERT's.

    Raises:
        DataError: the text is no such file, or a special token is missing.
    """
    if wrong := problem(text, rows):
        raise DataError(f"The tokenizer.json does not do: {wrong}.")
    return with_special_tokens(Tokenizer.from_str(text))


def with_special_tokens(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer around its fast core, special tokens as XLM-R's or BERT's."""
    begin, pad, end, unknown, mask = special_tokens(backend)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=begin,
        eos_token=end,
        cls_token=begin,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        # The mask stands for a word, so it takes the space before it.
        mask_token=AddedToken(mask, lstrip=True, special=True),
        model_input_names=["input_ids", *([_TYPES] if _tells_types(backend) else []), "attention_mask"],
    )


def _tells_types(backend: Tokenizer) -> bool:
    """Whether the tokens of a pair differ in their types."""
    return any(backend.encode("a", "a").type_ids)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, config: XmodConfig) -> None:
    """Save a tokenizer beside the model of that configuration, with the model's length as its own.

    Whatever cuts texts by it, such as transformers' pipelines, then cuts where the model's positions end, and gives the
    model types of tokens only where it has several.
    """
    tokenizer = suited(tokenizer, config)
    tokenizer.model_max_length = positions_of(config)
    tokenizer.save_pretrained(folder)


def suited(tokenizer: PreTrainedTokenizerFast, config: XmodConfig) -> PreTrainedTokenizerFast:
    """The tokenizer as the model of that configuration needs it: without types of tokens where it has only one."""
    if config.type_vocab_size > 1 or _TYPES not in tokenizer.model_input_names:
        return tokenizer
    tokenizer = copy.copy(tokenizer)
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != _TYPES]
    tokenizer.init_kwargs = {**tokenizer.init_kwargs, "model_input_names": tokenizer.model_input_names}  # to be saved
    return tokenizer


def positions_of(config: XmodConfig) -> int:
    """The most tokens that a model of that configuration reads."""
    return config.max_position_embeddings - config.pad_token_id - 1


def text_backend(tokenizer: PreTrainedTokenizerFast, but: str | None = None) -> Tokenizer:
    """The fast core of a tokenizer as it reads text, in which ``<s>`` or ``<mask>`` are characters like any others.

    What is spelled like a special token never becomes one. Nothing is cut or filled up, whatever the tokenizer was set
    to; special tokens are still put around a text where they are asked for. Making it takes less than a millisecond:
    it shares the tokenizer's model, and leaves the tokenizer as it is.

    Args:
        tokenizer: the tokenizer.
        but: a special token that stays one where a text spells it.
    """
    backend = tokenizer.backend_tokenizer
    reader = Tokenizer(backend.model)
    reader.normalizer, reader.post_processor, reader.decoder = (
        backend.normalizer,
        backend.post_processor,
        backend.decoder,
    )
    added = backend.get_added_tokens_decoder()
    for token in added.values():
        token.special = token.special and token.content != but
    reader.add_tokens([added[index] for index in sorted(added)])
    reader.encode_special_tokens = True
    # The special tokens may be pieces of the model too: it must not see one in full.
    names = {token.content for token in added.values() if token.special} | set(tokenizer.all_special_tokens)
    starts = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in sorted(names) if len(name) > 1)
    steps: list[Any] = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
    steps.append(pre_tokenizers.Split(Regex(starts), "merged_with_previous"))
    reader.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return reader


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """A hash of everything that decides which ids a text gets; what a call cuts or fills up is not among it."""
    backend = tokenizer.backend_tokenizer
    if backend.truncation or backend.padding:
        backend = Tokenizer.from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
    return hashlib.sha256(backend.to_str().encode()).hexdigest()
