"""A pack's `tokenizer.json`, checked before anything is tokenized: a stranger's rules must not blow a text up."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
# By role, in that order, as XLM-R and as BERT call them; a tokenizer.json does not say which role a token has.
_NAMES = (SPECIAL_TOKENS, ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"))
# How tokenizers with bytes that are trained here tell text that spells <0x41> from the byte.
BYTE_SPELLING = "<(?=0x[0-9A-F]{2}>)"

# Steps that change a text's length by a small factor, and only once however often they are repeated.
_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Nmt", "BertNormalizer")
_PRE_TOKENIZERS = (
    *("WhitespaceSplit", "Whitespace", "Metaspace", "Punctuation", "Digits", "BertPreTokenizer", "UnicodeScripts"),
    *("CharDelimiterSplit", "Split", "ByteLevel"),
)
# Each of these can multiply a text, so there may be one; their products are limited too.
_ONCE = ("Precompiled", "Prepend", "ByteLevel")
_MOST_STEPS = 16
_MOST_INSERTED = 8  # characters
_MOST_GROWTH = 16
# XLM-R's own table replaces a character by 33 bytes at most.
_MOST_BYTES = 64
# Rows of a table beyond twice its pieces: tables are rounded up.
_SPARE_ROWS = 1024
# A pair of words, with what the template puts around them.
_MOST_IDS = 64


def problem(text: str, rows: int) -> str | None:
    """Why a `tokenizer.json` is none for a table of `rows` word embeddings; None if it is one.

    Args:
        text: the file's content.
        rows: ids are below it.
    """
    try:
        content = json.loads(text)
        vocabulary = content["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [token["id"] for token in content.get("added_tokens") or ()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "it is not a tokenizer with a vocabulary"
    if (wrong := _outside(ids, rows)) is not None:
        return f"it has a piece with id {wrong}; the embeddings have {rows} rows"
    if rows > 2 * len(ids) + _SPARE_ROWS:
        return f"it has {len(ids):,} pieces for {rows:,} embeddings"
    try:
        return _loaded(Tokenizer.from_str(text), rows)
    except BaseException as error:
        # What the library is not prepared for ends in a panic, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return f"the tokenizers library cannot use it: {error!s:.200}"


def _loaded(tokenizer: Tokenizer, rows: int) -> str | None:
    """What is wrong with a tokenizer as the library understood it."""
    if (wrong := _outside(list(tokenizer.get_vocab().values()), rows)) is not None:
        return f"it has a piece with id {wrong}; the embeddings have {rows} rows"
    for found in _normalizers(steps(tokenizer.normalizer, "normalizers")):
        return f"its normalizer {found}"
    for found in _pre_tokenizers(steps(tokenizer.pre_tokenizer, "pretokenizers")):
        return f"its pre-tokenizer {found}"
    if missing := [token for token in special_tokens(tokenizer) if tokenizer.token_to_id(token) is None]:
        return f"it has no {', '.join(missing)}"
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for encoding in (tokenizer.encode("a"), tokenizer.encode("a", "a")):
        if (wrong := _outside(encoding.ids, rows)) is not None:
            return f"it puts the id {wrong} around a text; the embeddings have {rows} rows"
        if len(encoding.ids) > _MOST_IDS:
            return f"it makes {len(encoding.ids):,} ids of one letter; at most {_MOST_IDS} are read"
    return None


def special_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The tokens that begin a text, fill up, end a text, are unknown and mask: XLM-R's, or BERT's where it has more."""
    return max(_NAMES, key=lambda names: sum(tokenizer.token_to_id(name) is not None for name in names))


def _outside(ids: list[Any], rows: int) -> str | None:
    wrong = next((i for i in ids if type(i) is not int or not 0 <= i < rows), None)
    return None if wrong is None and None not in ids else ascii(wrong)[:40]


def steps(component: Any, inside: str) -> list[dict[str, Any]]:
    """What a part of a tokenizer does, one after another."""
    return [] if component is None else list(_flat(json.loads(component.__getstate__()), inside))


def _flat(step: dict[str, Any], inside: str) -> Iterator[dict[str, Any]]:
    """The steps of a sequence, nested ones too."""
    if step["type"] == "Sequence":
        for part in step[inside]:
            yield from _flat(part, inside)
    else:
        yield step


def _normalizers(steps: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the steps that rewrite a text."""
    yield from _counts(steps, (*_NORMALIZERS, "Precompiled", "Prepend", "Replace"))
    yield from _expressions(steps)
    growth = 1
    for step in steps:
        inserted = {"Replace": "content", "Prepend": "prepend"}.get(step["type"])
        if inserted and len(step[inserted]) > _MOST_INSERTED:
            yield f"puts in {len(step[inserted]):,} characters at once; at most {_MOST_INSERTED} are read"
        if step["type"] == "Replace":
            growth *= _growth(step)
        if step["type"] == "Precompiled" and (longest := _longest(step["precompiled_charsmap"])) > _MOST_BYTES:
            yield f"replaces characters by up to {longest:,} bytes; at most {_MOST_BYTES} are read"
    if growth > _MOST_GROWTH:
        yield f"can make a text {growth:,} times as long; at most {_MOST_GROWTH} times is read"


def _pre_tokenizers(steps: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the steps that cut a text."""
    yield from _counts(steps, _PRE_TOKENIZERS)
    yield from _expressions(steps)


def _expressions(steps: list[dict[str, Any]]) -> Iterator[str]:
    """Regular expressions with groups, which can take for ever on a word."""
    for step in steps:
        pattern = step.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        if expression and "(" in expression and expression != BYTE_SPELLING:
            yield f"has the expression {ascii(expression)[:60]}; those of a pack have no groups"


def _counts(steps: list[dict[str, Any]], known: tuple[str, ...]) -> Iterator[str]:
    types = [step["type"] for step in steps]
    for name in types:
        if name not in known:
            yield f"has a step {ascii(name)[:40]}; a pack's are {', '.join(known)}"
        elif name in _ONCE and types.count(name) > 1:
            yield f"has {name} {types.count(name)} times; once is read"
    if len(types) > _MOST_STEPS:
        yield f"has {len(types):,} steps; at most {_MOST_STEPS} are read"


def _growth(step: dict[str, Any]) -> int:
    """How many times longer a replacement can make a text, rounded up."""
    content, pattern = len(step["content"]), step["pattern"]
    if pattern.get("String"):
        return max(1, -(-content // len(pattern["String"])))
    return 1 + content  # an expression may match between any two characters


def _longest(charsmap: str) -> int:
    """Bytes of the longest replacement in a table of characters: a trie after its size, then texts ended by zeros."""
    table = base64.b64decode(charsmap, validate=True)
    (trie,) = struct.unpack("<I", table[:4])
    return max(map(len, table[4 + trie :].split(b"\0")))
