"""fairseq's vocabulary: `dict.txt` and the SentencePiece model next to a checkpoint.

A line of `dict.txt` is a piece and a count. fairseq puts ``<s> <pad> </s> <unk>`` before the first line and ``<mask>``
after the last, so ids are those of XLM-R's layout.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodular.console import quiet_transformers
from xmodular.errors import DataError
from xmodular.vocabulary import SPECIAL_TOKENS, from_sentencepiece, load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from xmodular.configuration import XmodConfig

DICTIONARY, SENTENCEPIECE = "dict.txt", "sentencepiece.bpe.model"
_WAY_OUT = "--no-tokenizer (tokenizer=False) converts the weights alone."


def read_tokenizer(folder: Path, vocab_size: int) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a fairseq checkpoint.

    Args:
        folder: folder of the checkpoint.
        vocab_size: rows of its word embeddings.

    Returns:
        A tokenizer with the checkpoint's ids; None where there is no SentencePiece model.

    Raises:
        DataError: the SentencePiece model is invalid, or does not match `dict.txt` and the word embeddings.
    """
    path = folder / SENTENCEPIECE
    if not path.is_file():
        return None
    try:
        tokenizer = from_sentencepiece(path.read_bytes())
    except DataError as error:
        raise DataError(f"{path}: {error} {_WAY_OUT}") from error
    if (folder / DICTIONARY).is_file():
        _compare(folder / DICTIONARY, path, pieces_of(tokenizer))
    if len(tokenizer) != vocab_size:
        raise DataError(
            f"{path} makes {len(tokenizer)} ids, special tokens included; the word embeddings have {vocab_size} rows. "
            f"{_WAY_OUT}"
        )
    return tokenizer


def pieces_of(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The pieces of a tokenizer between the special tokens, in the order of their ids.

    Raises:
        DataError: its special tokens are not where fairseq has them.
    """
    ids = tokenizer.get_vocab()
    names = sorted(ids, key=lambda piece: ids[piece])
    if names[:4] != list(SPECIAL_TOKENS[:4]) or names[-1:] != list(SPECIAL_TOKENS[4:]):
        raise DataError(
            f"The tokenizer starts with {names[:4]} and ends with {names[-1:]}; fairseq needs {SPECIAL_TOKENS[:4]} and "
            f"{SPECIAL_TOKENS[4:]}. {_WAY_OUT}"
        )
    return names[4:-1]


def _compare(dictionary: Path, model: Path, pieces: Sequence[str]) -> None:
    """Raises DataError at the first line of `dict.txt` that is not the SentencePiece model's piece."""
    try:
        lines = dictionary.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{dictionary} is not UTF-8 text: {error}. {_WAY_OUT}") from error
    for number in range(max(len(lines), len(pieces))):
        line = lines[number].rstrip("\r").removesuffix(" #fairseq:overwrite") if number < len(lines) else None
        piece = pieces[number] if number < len(pieces) else None
        if line is None or piece is None or line.rpartition(" ")[0] != piece:
            raise DataError(
                f"{dictionary}, line {number + 1}, is {line!r}; but {model.name} has {piece!r} there (None: the end). "
                f"They do not match. {_WAY_OUT}"
            )


def keep_tokenizer(tokenizer: PreTrainedTokenizerFast, source: Path, target: Path, config: XmodConfig) -> None:
    """Save a tokenizer in a model folder, with its original files for converting back."""
    with quiet_transformers():
        save_tokenizer(tokenizer, target, config)
    for name in (SENTENCEPIECE, DICTIONARY):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_dictionary(source: Path, target: Path, vocab_size: int) -> list[str]:
    """Write the vocabulary of a model folder in fairseq's format.

    Args:
        source: model folder.
        target: folder of the checkpoint.
        vocab_size: rows of the word embeddings.

    Returns:
        The names of the files.

    Raises:
        DataError: the tokenizer does not have fairseq's layout, or not as many pieces as there are embeddings.
    """
    if not any((source / name).is_file() for name in ("tokenizer.json", SENTENCEPIECE)):
        return []
    tokenizer = load_tokenizer(source)
    pieces = pieces_of(tokenizer)
    if len(pieces) + len(SPECIAL_TOKENS) != vocab_size:
        raise DataError(
            f"The tokenizer in {source} has {len(pieces) + len(SPECIAL_TOKENS)} pieces, the word embeddings have "
            f"{vocab_size} rows. {_WAY_OUT}"
        )
    if bad := [piece for piece in pieces if "\n" in piece or "\r" in piece]:
        raise DataError(f"The piece {bad[0]!r} has a line break, which {DICTIONARY} cannot hold. {_WAY_OUT}")
    if (source / DICTIONARY).is_file():
        _compare(source / DICTIONARY, source / "tokenizer.json", pieces)
        shutil.copyfile(source / DICTIONARY, target / DICTIONARY)
    else:  # fairseq asks for a count and does not use it here
        (target / DICTIONARY).write_bytes("".join(f"{piece} 1\n" for piece in pieces).encode())
    if (source / SENTENCEPIECE).is_file():
        shutil.copyfile(source / SENTENCEPIECE, target / SENTENCEPIECE)
        return [DICTIONARY, SENTENCEPIECE]
    return [DICTIONARY]
