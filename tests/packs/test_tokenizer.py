"""Tokenizers of strangers: those of XLM-R's kind pass, those that blow a text up are refused."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.packs.samples import OWN_ROWS, samples, tokenizer_text, write
from tests.packs.test_damage import with_file
from xmodular.errors import PackError
from xmodular.packs import read_pack
from xmodular.tokenizer_rules import SPECIAL_TOKENS, problem


def found(**parts: Any) -> str | None:
    """What is said of a good tokenizer with other parts, of the library's or as JSON."""
    content = json.loads(tokenizer_text())
    for name, part in parts.items():
        content[name] = json.loads(part.__getstate__()) if hasattr(part, "__getstate__") and not plain(part) else part
    return problem(json.dumps(content), OWN_ROWS)


def plain(part: Any) -> bool:
    return part is None or isinstance(part, dict | list)


def precompiled(longest: int) -> normalizers.Normalizer:
    """A table of characters with an empty trie and one replacement, so long."""
    table = struct.pack("<I", 4) + bytes(4) + b"x" * longest + b"\0"
    return normalizers.Precompiled(table)


REPLACE = normalizers.Replace
GOOD = {
    "nothing": None,
    "T5's and ALBERT's": normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), REPLACE("``", '"'), normalizers.Sequence([normalizers.Lowercase()])]
    ),
    "marks": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip()]),
    "BERT's": normalizers.BertNormalizer(),
    "spaces": normalizers.Sequence([normalizers.Prepend("▁"), REPLACE(" ", "▁")]),
    "short": REPLACE("ß", "ss"),
}
BAD = {
    "a long text for a letter": (REPLACE("a", "a" * 100_000), "100,000 characters"),
    "a little too long": (REPLACE("a", "b" * 9), "9 characters"),
    "a long text before all": (normalizers.Prepend("x" * 100_000), "100,000 characters"),
    "many before all": (normalizers.Sequence([normalizers.Prepend("x")] * 2), "Prepend 2 times"),
    "one after another": (normalizers.Sequence([REPLACE("a", "aa")] * 5), "32 times as long"),
    "nested": (
        normalizers.Sequence(
            [normalizers.Sequence([REPLACE("a", "a" * 8)]), normalizers.Sequence([REPLACE("a", "aaa")])]
        ),
        "24 times as long",
    ),
    "between all letters": (normalizers.Sequence([REPLACE("", "x" * 8)] * 2), "81 times as long"),
    "a hundred steps": (normalizers.Sequence([normalizers.NFC()] * 100), "100 steps"),
    "a table of long texts": (precompiled(5000), "5,000 bytes"),
    "tables": (normalizers.Sequence([precompiled(60)] * 2), "Precompiled 2 times"),
    "unknown": (normalizers.ByteLevel(), "'ByteLevel'"),
}


@pytest.mark.parametrize("name", GOOD)
def test_normalizers_of_usual_kinds(name: str) -> None:
    assert found(normalizer=GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_normalizers_that_blow_a_text_up(name: str) -> None:
    normalizer, words = BAD[name]
    assert words in (found(normalizer=normalizer) or "")


def test_pre_tokenizers() -> None:
    metaspace = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    assert found(pre_tokenizer=metaspace) is None
    assert found(pre_tokenizer=pre_tokenizers.BertPreTokenizer()) is None
    assert "ByteLevel 9 times" in (found(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.ByteLevel()] * 9)) or "")


def test_what_is_put_around_a_text() -> None:
    def template(single: str, ids: int = 0) -> processors.TemplateProcessing:
        return processors.TemplateProcessing(single=single, pair=f"{single} $B", special_tokens=[("<s>", ids)])

    assert found(post_processor=template("<s> $A <s>")) is None
    assert "id 77" in (found(post_processor=template("<s> $A", 77)) or "")
    assert "ids from one letter" in (found(post_processor=template("<s> " * 500 + "$A")) or "")
    assert "ids from one letter" in (found(post_processor=template(" ".join(["$A"] * 500))) or "")
    padding = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"}
    assert found(padding={"strategy": {"Fixed": 10**12}, **padding}) is None  # whoever tokenizes pads as he likes


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_tokens(token: str) -> None:
    assert token in (problem(tokenizer_text().replace(token, "x"), OWN_ROWS) or "")


def test_xlmr_s_own(xlmr: PreTrainedTokenizerFast) -> None:
    assert problem(xlmr.backend_tokenizer.to_str(), 250_002) is None
    assert "250001" in (problem(xlmr.backend_tokenizer.to_str(), 250_001) or "")


def test_a_table_longer_than_it_says() -> None:
    content = json.loads(tokenizer_text())
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff" * 9).decode()}
    assert problem(json.dumps(content), OWN_ROWS) is not None


def test_packs_are_checked(tmp_path: Any) -> None:
    assert Tokenizer.from_str(tokenizer_text()).get_vocab_size() <= OWN_ROWS
    read_pack(write(tmp_path / "good", samples()["own"])).check()
    content = json.loads(tokenizer_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100_000}
    files = with_file("own", "tokenizer.json", json.dumps(content).encode())
    with pytest.raises(PackError, match=r"tokenizer\.json is refused: its normalizer inserts 100,000 characters"):
        read_pack(write(tmp_path / "bad", files)).check()


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": pre_tokenizers.Split(Regex("(x+x+)+y"), "removed")},
        {"normalizer": REPLACE(Regex("(a|a)*$"), "b")},
    ],
)
def test_expressions_with_groups_are_refused(part: dict[str, Any]) -> None:
    assert "groups are not allowed" in str(found(**part))


def test_a_table_much_larger_than_its_vocabulary_is_refused() -> None:
    assert "embeddings" in str(problem(tokenizer_text(), 1 << 20))


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PUBLISHED = {
    "Llama 3": CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "Qwen 2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "GPT-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_expressions_of_published_tokenizers(name: str) -> None:
    def cut(expression: str) -> str | None:
        return found(pre_tokenizer=pre_tokenizers.Split(Regex(expression), "isolated"))

    assert cut(PUBLISHED[name]) is None
    assert "groups are not allowed" in (cut(f"({PUBLISHED[name]})+") or "")
