"""Tokenizers: load any kind that has a fast version, or train one on language-smoothed text."""

from xmodular.tokenizer_rules import SPECIAL_TOKENS
from xmodular.vocabulary.fast_tokenizers import (
    fingerprint,
    from_json,
    positions_of,
    save_tokenizer,
    suited,
    text_backend,
)
from xmodular.vocabulary.tokenizer_loading import is_with_tokenizer, load_tokenizer
from xmodular.vocabulary.unigram import from_sentencepiece, repetitions, train_tokenizer

__all__ = [
    "SPECIAL_TOKENS",
    "fingerprint",
    "from_json",
    "from_sentencepiece",
    "is_with_tokenizer",
    "load_tokenizer",
    "positions_of",
    "repetitions",
    "save_tokenizer",
    "suited",
    "text_backend",
    "train_tokenizer",
]
