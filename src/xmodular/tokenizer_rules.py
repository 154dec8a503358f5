"""Check an untrusted tokenizer before use: its rules must not make a text explode in length or run forever.

Packs contain a `tokenizer.json`, models that and others. The library applies the rules to added tokens when it reads
the file, so they are checked before that.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Iterator
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
# A pair of words, with the special tokens around them.
_MOST_IDS = 64
# Each text is searched for them, and classes add them one by one.
_MOST_ADDED = 2**12
# Characters in the mark of a word's inside; "##" has two.
_MOST_AFFIX = 16
# Beyond it, BERT's pieces are not looked for; they take the square of it.
_MOST_LETTERS = 1000
# Expressions with groups that are known: byte-level vocabularies of GPT-2, cl100k (Llama 3), Qwen 2 and o200k cut so.
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_KNOWN = (
    BYTE_SPELLING,
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"{_CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
)
# A model with a single piece, to test the other rules alone.
_NO_MODEL = {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"}


def problem(text: str, rows: int) -> str | None:
    """Why a `tokenizer.json` does not suit a table of `rows` word embeddings; None if it does.

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
    return rules_problem(content) or _guarded(lambda: _loaded(Tokenizer.from_str(text), rows))


def rules_problem(content: Any) -> str | None:
    """Why the rules in a `tokenizer.json` must not run; None if they may.

    Args:
        content: of the file, as JSON is read.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        return "it is not a tokenizer with a vocabulary"
    if len(content.get("added_tokens") or ()) > _MOST_ADDED:
        return f"it has {len(content['added_tokens']):,} added tokens; at most {_MOST_ADDED:,} are allowed"
    for name, value in content["model"].items():
        if name.endswith(("_prefix", "_suffix")) and len(str(value or "")) > _MOST_AFFIX:
            return f"its {name} has {len(str(value)):,} characters; at most {_MOST_AFFIX} are allowed"
        if name == "max_input_chars_per_word" and not (type(value) is int and 0 <= value <= _MOST_LETTERS):
            return f"its {name} is {ascii(value)[:40]}; at most {_MOST_LETTERS:,} are allowed"
    alone = {**content, "model": _NO_MODEL, "added_tokens": [], "truncation": None, "padding": None}
    alone["post_processor"] = None  # it may name ids that this model does not have
    return _template(content.get("post_processor")) or _guarded(
        lambda: running_problem(Tokenizer.from_str(json.dumps(alone)))
    )


def running_problem(tokenizer: Tokenizer) -> str | None:
    """Why the rules of a loaded tokenizer must not run on a text; None if they may."""
    for found in _normalizers(steps(tokenizer.normalizer, "normalizers")):
        return f"its normalizer {found}"
    for found in _pre_tokenizers(steps(tokenizer.pre_tokenizer, "pretokenizers")):
        return f"its pre-tokenizer {found}"
    for found in _decoders(steps(tokenizer.decoder, "decoders")):
        return f"its decoder {found}"
    processor = tokenizer.post_processor
    return None if processor is None else _template(json.loads(processor.__getstate__()))


def _guarded(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except BaseException as error:
        # Unexpected content ends in a panic of the library, which is not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return f"the tokenizers library cannot use it: {error!s:.200}"


def _loaded(tokenizer: Tokenizer, rows: int) -> str | None:
    """What is wrong with a tokenizer as the library understood it."""
    if (wrong := _outside(list(tokenizer.get_vocab().values()), rows)) is not None:
        return f"it has a piece with id {wrong}; the embeddings have {rows} rows"
    if (found := running_problem(tokenizer)) is not None:
        return found
    if missing := [token for token in special_tokens(tokenizer) if tokenizer.token_to_id(token) is None]:
        return f"it has no {', '.join(missing)}"
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for encoding in (tokenizer.encode("a"), tokenizer.encode("a", "a")):
        if (wrong := _outside(encoding.ids, rows)) is not None:
            return f"it puts the id {wrong} around a text; the embeddings have {rows} rows"
        if len(encoding.ids) > _MOST_IDS:
            return f"it makes {len(encoding.ids):,} ids from one letter; at most {_MOST_IDS} are allowed"
    return None


def special_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The tokens for beginning, padding, end, unknown and mask: XLM-R's, or BERT's if it has more of those."""
    return max(_NAMES, key=lambda names: sum(tokenizer.token_to_id(name) is not None for name in names))


def _outside(ids: list[Any], rows: int) -> str | None:
    wrong = next((i for i in ids if type(i) is not int or not 0 <= i < rows), None)
    return None if wrong is None and None not in ids else ascii(wrong)[:40]


def steps(component: Any, inside: str) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer, in order."""
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
            yield f"inserts {len(step[inserted]):,} characters at once; at most {_MOST_INSERTED} are allowed"
        if step["type"] == "Replace":
            growth *= _growth(step)
        if step["type"] == "Precompiled" and (longest := _longest(step["precompiled_charsmap"])) > _MOST_BYTES:
            yield f"replaces characters by up to {longest:,} bytes; at most {_MOST_BYTES} are allowed"
    if growth > _MOST_GROWTH:
        yield f"can make a text {growth:,} times as long; at most {_MOST_GROWTH} times is allowed"


def _pre_tokenizers(steps: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the steps that cut a text."""
    yield from _counts(steps, _PRE_TOKENIZERS)
    yield from _expressions(steps)


def _decoders(steps: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the steps that make a text of pieces."""
    if len(steps) > _MOST_STEPS:
        yield f"has {len(steps):,} steps; at most {_MOST_STEPS} are allowed"
    yield from _expressions(steps)
    for step in steps:
        if step["type"] == "Replace" and len(step["content"]) > _MOST_INSERTED:
            yield f"inserts {len(step['content']):,} characters at once; at most {_MOST_INSERTED} are allowed"
    if (growth := math.prod(_growth(step) for step in steps if step["type"] == "Replace")) > _MOST_GROWTH:
        yield f"can make a text {growth:,} times as long; at most {_MOST_GROWTH} times is allowed"


def _template(processor: Any) -> str | None:
    """The problem with a template around a text: it may repeat the text itself many times."""
    waiting, most, often = [processor], 0, 0
    while waiting:
        step = waiting.pop()
        if not isinstance(step, dict):
            continue
        waiting += [each for each in step.get("processors") or () if isinstance(each, dict)]
        known = step.get("special_tokens")
        for side in ("single", "pair"):
            parts = [part for part in step.get(side) or () if isinstance(part, dict)]
            texts = [str((part.get("Sequence") or {}).get("id")) for part in parts if "Sequence" in part]
            named = [(part.get("SpecialToken") or {}).get("id") for part in parts if "SpecialToken" in part]
            ids = [len((known.get(name) or {}).get("ids") or ()) for name in named] if isinstance(known, dict) else []
            most, often = max(most, sum(ids) + len(texts)), max(often, len(texts) - len(set(texts)))
    if most > _MOST_IDS:
        return f"it makes {most:,} ids from one letter; at most {_MOST_IDS} are allowed"
    return f"its template uses a text {often + 1} times; once is allowed" if often else None


def _expressions(steps: list[dict[str, Any]]) -> Iterator[str]:
    """Regular expressions with groups, which can take for ever on a word; the known ones do not."""
    for step in steps:
        pattern = step.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        if expression and "(" in expression and expression not in _KNOWN:
            yield f"has the expression {ascii(expression)[:60]}; groups are not allowed"


def _counts(steps: list[dict[str, Any]], known: tuple[str, ...]) -> Iterator[str]:
    types = [step["type"] for step in steps]
    for name in types:
        if name not in known:
            yield f"has a step {ascii(name)[:40]}; the allowed steps are {', '.join(known)}"
        elif name in _ONCE and types.count(name) > 1:
            yield f"has {name} {types.count(name)} times; once is allowed"
    if len(types) > _MOST_STEPS:
        yield f"has {len(types):,} steps; at most {_MOST_STEPS} are allowed"


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
