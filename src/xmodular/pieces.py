"""The text that the pieces of a vocabulary spell, in any tokenizer's notation.

SentencePiece marks a piece after a space with ``▁``, WordPiece marks one that continues a word with ``##``, and
byte-level BPE writes bytes as characters and the space before a word as ``Ġ``. This module finds the pieces of one
vocabulary in another, so that a new vocabulary can start from known embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from xmodular.errors import ConfigurationError
from xmodular.tokenizer_rules import steps

ROLES = ("cls", "pad", "sep", "unk", "mask")  # of the special tokens
_SPACE = "▁"
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_CHARACTERS: dict[int, str] = bytes_to_unicode()
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}


class Spelled(NamedTuple):
    """The text of a piece.

    Attributes:
        begins: whether it is marked as the beginning of a word.
        text: without marks; bytes that are not a complete character are lone surrogates (PEP 383).
    """

    begins: bool
    text: str


@dataclass(frozen=True)
class Notation:
    """The notation in which a tokenizer writes its pieces.

    Attributes:
        of_bytes: whether a character stands for a byte.
        continues: the mark of a piece that continues a word; None if pieces after a space are marked.
    """

    of_bytes: bool
    continues: str | None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Notation:
        """The notation of a tokenizer."""
        prefix = getattr(tokenizer.model, "continuing_subword_prefix", None)
        return cls("ByteLevel" in set(_types(tokenizer)), prefix or None)

    def read(self, piece: str) -> Spelled:
        """The text of a piece."""
        if self.of_bytes and all(character in _BYTES for character in piece):
            text = bytes(_BYTES[character] for character in piece).decode("utf-8", "surrogateescape")
            return Spelled(text.startswith(" "), text.removeprefix(" "))
        if self.continues is not None:
            return Spelled(not piece.startswith(self.continues), piece.removeprefix(self.continues))
        if byte := _BYTE.fullmatch(piece):
            return Spelled(False, bytes([int(byte[1], 16)]).decode("utf-8", "surrogateescape"))
        return Spelled(piece.startswith(_SPACE), piece.removeprefix(_SPACE))

    def write(self, spelled: Spelled) -> str:
        """The piece that spells a text, whether or not the vocabulary has it."""
        begins, text = spelled
        if self.of_bytes:
            spaced = (" " if begins else "") + text
            return "".join(_CHARACTERS[byte] for byte in spaced.encode("utf-8", "surrogateescape"))
        if self.continues is not None:
            return text if begins else self.continues + text
        return _SPACE + text if begins else text


def _types(tokenizer: Tokenizer) -> Iterator[str]:
    """The types of the steps that rewrite and cut a text."""
    for component, inside in ((tokenizer.normalizer, "normalizers"), (tokenizer.pre_tokenizer, "pretokenizers")):
        yield from (step["type"] for step in steps(component, inside))


def start_rows(
    tokenizer: PreTrainedTokenizerFast,
    known: PreTrainedTokenizerFast,
    words: Tensor,
    bias: Tensor,
    *,
    method: str = "pieces",
    seed: int = 0,
) -> tuple[Tensor, Tensor, dict[str, int]]:
    """Word embeddings for a new vocabulary, initialised from those of a known one.

    Pieces that both have are copied, as in SwissBERT (Vamvas et al. 2023), even if they are marked differently
    (``▁a``, ``Ġa``, WordPiece's ``a``); special tokens are matched by their role. For the rest, "pieces" takes the mean
    of the known pieces that spell the new one, if there are any; "random", and what remains, is drawn from a
    normal distribution with each dimension's mean and standard deviation over the known rows.

    Args:
        tokenizer: the new vocabulary.
        known: the known one.
        words: *Shape: (known pieces at least, hidden)*, its embeddings.
        bias: *Shape: (known pieces at least,)*, the output bias of its pieces.
        method: "pieces" or "random".
        seed: random seed.

    Returns:
        *(pieces, hidden)* and *(pieces,)*, in `words`' dtype, and how many pieces were "copied", "composed", "random".

    Raises:
        ConfigurationError: there is no such method.
    """
    if method not in ("pieces", "random"):
        raise ConfigurationError(f"start_rows must be 'pieces' or 'random'; got {method!r}.")
    source = words.detach().float().cpu()[: len(known)]
    source_bias = bias.detach().float().cpu()[: len(known)]
    spell = _Speller(tokenizer, known)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(tokenizer), source.shape[1], generator=generator)
    rows = source.mean(0) + noise * source.std(0)
    own_bias = source_bias.mean().repeat(len(tokenizer))
    counts = {"copied": 0, "composed": 0, "random": 0}
    for index, piece in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        same = spell.same(index, piece)
        parts = [same] if same is not None else spell.parts(piece) if method == "pieces" else []
        if parts:
            rows[index], own_bias[index] = source[parts].mean(0), source_bias[parts].mean()
        counts["copied" if same is not None else "composed" if parts else "random"] += 1
    return rows.to(words.dtype), own_bias.to(words.dtype), counts


class _Speller:
    """The pieces of one vocabulary in those of another."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, known: PreTrainedTokenizerFast) -> None:
        self._ids, self._model = known.get_vocab(), known.backend_tokenizer.model
        self._normalizer, self._special = known.backend_tokenizer.normalizer, set(known.all_special_ids)
        self._theirs, self._ours = Notation.of(tokenizer.backend_tokenizer), Notation.of(known.backend_tokenizer)
        roles = [(getattr(tokenizer, f"{role}_token_id"), getattr(known, f"{role}_token_id")) for role in ROLES]
        self._by_role = dict(roles)

    def same(self, index: int, piece: str) -> int | None:
        """The known piece that is the same as a new one, which has this id; None if there is none."""
        if index in self._by_role:
            return self._by_role[index]
        written = self._ids.get(self._ours.write(self._theirs.read(piece)))
        # Written in another way, the same letters may say another thing: "und" within a word, and "und" before "##e".
        return self._ids.get(piece, written) if self._theirs == self._ours else written

    def parts(self, piece: str) -> list[int]:
        """The known pieces that spell a new one."""
        begins, text = self._theirs.read(piece)
        byte_alone = any("\udc80" <= character <= "\udcff" for character in text)
        if byte_alone and not self._ours.of_bytes:
            return []
        if self._normalizer is not None and not byte_alone:
            text = self._normalizer.normalize_str(text).strip()
        if not text:
            return []
        found = self._tokens(Spelled(begins, text))
        if not found and self._ours.continues is not None:  # WordPiece may have a letter at one of both places only
            found = self._tokens(Spelled(not begins, text))
        return found

    def _tokens(self, spelled: Spelled) -> list[int]:
        tokens = self._model.tokenize(self._ours.write(spelled))
        return [token.id for token in tokens if token.id not in self._special]
