"""Fast tokenizers of models: made from a ``tokenizer.json``, adapted to a configuration, saved, compared."""

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
    """The tokenizer in a ``tokenizer.json`` for this many word embeddings; special tokens as in XLM-R or BERT.

    Raises:
        DataError: the text is not such a file, or a special token is missing.
    """
    if wrong := problem(text, rows):
        raise DataError(f"The tokenizer.json cannot be used: {wrong}.")
    return with_special_tokens(Tokenizer.from_str(text))


def with_special_tokens(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer around its fast backend, with special tokens as in XLM-R or BERT."""
    begin, pad, end, unknown, mask = special_tokens(backend)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=begin,
        eos_token=end,
        cls_token=begin,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        # The mask stands for a word, so it includes the space before it.
        mask_token=AddedToken(mask, lstrip=True, special=True),
        model_input_names=["input_ids", *([_TYPES] if _tells_types(backend) else []), "attention_mask"],
    )


def _tells_types(backend: Tokenizer) -> bool:
    """Whether the two texts of a pair get different token types."""
    return any(backend.encode("a", "a").type_ids)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, config: XmodConfig) -> None:
    """Save a tokenizer next to the model of that configuration, with the model's maximum length.

    Tools that truncate with it, such as transformers' pipelines, then truncate at the model's maximum length, and pass
    token types only to a model with several.
    """
    tokenizer = suited(tokenizer, config)
    tokenizer.model_max_length = positions_of(config)
    tokenizer.save_pretrained(folder)


def suited(tokenizer: PreTrainedTokenizerFast, config: XmodConfig) -> PreTrainedTokenizerFast:
    """The tokenizer as the model of that configuration needs it: without token types if it has only one."""
    if config.type_vocab_size > 1 or _TYPES not in tokenizer.model_input_names:
        return tokenizer
    tokenizer = copy.copy(tokenizer)
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != _TYPES]
    tokenizer.init_kwargs = {**tokenizer.init_kwargs, "model_input_names": tokenizer.model_input_names}  # to be saved
    return tokenizer


def positions_of(config: XmodConfig) -> int:
    """The maximum number of tokens of a model with that configuration."""
    return config.max_position_embeddings - config.pad_token_id - 1


def text_backend(tokenizer: PreTrainedTokenizerFast, but: str | None = None) -> Tokenizer:
    """The fast backend of a tokenizer for plain text, in which ``<s>`` or ``<mask>`` are ordinary characters.

    Text that looks like a special token never becomes one. There is no truncation or padding, whatever the tokenizer's
    settings; special tokens are still added around a text if requested. Creating it takes less than a millisecond:
    it shares the tokenizer's model and does not change the tokenizer.

    Args:
        tokenizer: the tokenizer.
        but: a special token that is still recognised in texts.
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
    # Special tokens may be pieces of the model too, which must therefore never see a complete one.
    names = {token.content for token in added.values() if token.special} | set(tokenizer.all_special_tokens)
    starts = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in sorted(names) if len(name) > 1)
    steps: list[Any] = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
    steps.append(pre_tokenizers.Split(Regex(starts), "merged_with_previous"))
    reader.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return reader


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """A hash of everything that determines the ids of a text, except truncation and padding."""
    backend = tokenizer.backend_tokenizer
    if backend.truncation or backend.padding:
        backend = Tokenizer.from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
    return hashlib.sha256(backend.to_str().encode()).hexdigest()
