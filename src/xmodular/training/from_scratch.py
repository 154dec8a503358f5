"""A model from scratch: its tokenizer and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from xmodular.configuration import XmodConfig
from xmodular.console import console
from xmodular.errors import ConfigurationError
from xmodular.files import written_beside
from xmodular.options import PretrainOptions
from xmodular.text import HubText
from xmodular.training.language_modeling import text_of
from xmodular.training.runs import Start
from xmodular.vocabulary import load_tokenizer, train_tokenizer

_DECIDED = {"languages", "pad_token_id", "bos_token_id", "eos_token_id", "is_decoder"}  # not for `overrides`


def own_tokenizer(
    options: PretrainOptions, files: Mapping[str, tuple[Path | HubText, ...]], start: Start
) -> PreTrainedTokenizerFast:
    """The tokenizer trained for this run, now or before an interruption."""
    if start.goes_on and (options.output_dir / "tokenizer_config.json").is_file():  # written last
        return load_tokenizer(options.output_dir)
    size = options.vocab_size or 0  # given, as without --model it has a default
    console.print(f"Training a tokenizer of {size:,} pieces")
    text = {code: text_of(options, code, paths) for code, paths in files.items()}
    tokenizer = train_tokenizer(text, size, alpha=options.alpha, seed=options.seed, byte_fallback=options.byte_fallback)
    if len(tokenizer) < size:
        console.print(f"The text gave only {len(tokenizer):,} pieces.")
    with written_beside(options.output_dir) as folder:
        tokenizer.save_pretrained(folder)
    return tokenizer


def check_overrides(options: PretrainOptions) -> None:
    """Raises ConfigurationError if a field is overridden that text, tokenizer or objective determine."""
    if decided := sorted(_DECIDED & set(options.overrides or {})):
        raise ConfigurationError(
            f"--overrides cannot set {', '.join(decided)}: text, tokenizer and --objective determine it."
        )


def config_of(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast, languages: list[str]) -> XmodConfig:
    """The model's configuration.

    Raises:
        ConfigurationError: `overrides` leave too little room for the vocabulary or for a block.
    """
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "languages": languages,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": options.block_size + tokenizer.pad_token_id + 1,
        "is_decoder": options.objective == "clm",
    }
    for name, least in (("vocab_size", len(tokenizer)), ("max_position_embeddings", fields["max_position_embeddings"])):
        if (asked := (options.overrides or {}).get(name, least)) < least:
            raise ConfigurationError(
                f"--overrides sets {name} to {asked}; the tokenizer and --block-size need at least {least}."
            )
    return XmodConfig.preset(options.preset or "small", **{**fields, **(options.overrides or {})})
