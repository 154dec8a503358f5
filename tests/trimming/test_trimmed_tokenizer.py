"""Tokenizers of every kind with some of their pieces: text whose pieces stay is cut as before."""

from __future__ import annotations

import json
import random
import unicodedata
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.kinds import KINDS, LINES, tokenizer_of
from xmodular.errors import DataError
from xmodular.scripts import scripts_of
from xmodular.trimming.kept_pieces import Reader, safe_ids, script_ids
from xmodular.trimming.trimmed_tokenizer import backend_of, content_of, like, needed, rewritten

KEPT = ("de_DE", "sw_KE", "hi_IN")


def trimmed(backend: Tokenizer, ids: set[int], pad: int = 0) -> tuple[Tokenizer, list[int]]:
    content = content_of(backend)
    made, order = rewritten(content, needed(content, ids), pad)
    return backend_of(made, order, content), order


def alone(model: Any) -> Tokenizer:
    """A tokenizer of a model and nothing else, but that words are parted by spaces."""
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def ids_of(backend: Tokenizer, *texts: str) -> set[int]:
    return {index for text in texts for index in backend.encode(text, add_special_tokens=False).ids}


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_the_pieces_that_stay_are_cut_as_before_in_any_order(kind: str) -> None:
    full = tokenizer_of(kind)
    reader = Reader(full)
    use = reader.use(LINES[code] for code in KEPT)
    ids = {*use.counts.nonzero()[0].tolist(), *safe_ids(full.backend_tokenizer, use.characters)}
    backend, order = trimmed(full.backend_tokenizer, ids, full.pad_token_id)
    small = like(full, backend)
    assert len(small) == len(order) < len(full)
    assert len(set(order)) == len(order)
    kept, words = set(order), [word for line in LINES.values() for word in line.split()]
    draw, same, other = random.Random(0), 0, 0
    for _ in range(300):
        text = " ".join(draw.choices(words, k=draw.randint(1, 6)))
        before = full(text)["input_ids"]
        now = [order[index] for index in small(text)["input_ids"]]
        if kept >= set(before):
            assert now == before, text
            same += 1
        else:
            assert now != before, text
            other += 1
    assert same > 20
    assert other > 20


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_keep_roles_and_places(kind: str) -> None:
    full = tokenizer_of(kind)
    backend, order = trimmed(full.backend_tokenizer, ids_of(full.backend_tokenizer, LINES["de_DE"]), full.pad_token_id)
    small = like(full, backend)
    assert small.pad_token_id == full.pad_token_id
    for role in ("cls", "sep", "bos", "eos", "unk", "mask"):
        assert getattr(small, f"{role}_token") == getattr(full, f"{role}_token")
        if getattr(full, f"{role}_token") is not None:
            assert order[getattr(small, f"{role}_token_id")] == getattr(full, f"{role}_token_id")
    text = f"frei und {full.mask_token} gleich"
    one, other = full(text, "Alle Menschen"), small(text, "Alle Menschen")
    assert [order[index] for index in other["input_ids"]] == one["input_ids"]
    assert other.get("token_type_ids") == one.get("token_type_ids")
    pieces = [full.backend_tokenizer.id_to_token(old) for old in order]
    assert pieces == [backend.id_to_token(new) for new in range(len(order))]
    rest = [old for old in order if old != full.pad_token_id]
    assert rest == sorted(rest)  # the order is kept


def test_scores_stay_and_the_lowest_one_too() -> None:
    """Unknown characters cost 10 more than the lowest score: without it, they would become cheap."""
    pieces = [("<unk>", 0.0), ("c", -24.0), ("cd", -12.0), ("e", -12.0), ("de", -1.0), ("x", -2.0)]
    full = alone(models.Unigram(pieces, unk_id=0))
    assert full.encode("cde").tokens == ["cd", "e"]
    without = alone(models.Unigram([each for each in pieces if each[0] not in ("c", "x")], unk_id=0))
    assert without.encode("cde").tokens != ["cd", "e"]  # what the lowest score guards against
    small, order = trimmed(full, ids_of(full, "cde", "de"))
    assert "x" not in small.get_vocab()
    assert small.encode("cde de").tokens == full.encode("cde de").tokens
    kept = json.loads(small.to_str())["model"]["vocab"]
    assert [tuple(each) for each in kept] == [pieces[old] for old in order]


def test_words_that_wordpiece_gives_up_stay_unknown() -> None:
    vocabulary = {each: index for index, each in enumerate(("[PAD]", "[UNK]", "a", "ab", "##bx", "c", "##c"))}
    full = alone(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    assert full.encode("abx").tokens == ["[UNK]"]  # "ab", and then nothing
    naive, _ = trimmed(full, ids_of(full, "abx") | {vocabulary["a"], vocabulary["##bx"]})
    assert naive.encode("abx").tokens == ["a", "##bx"]
    reader = Reader(tokenizer_of("wordpiece"))
    reader.backend, reader._vocabulary = full, vocabulary
    assert set(reader._begun("abx cc")) == {vocabulary["ab"], vocabulary["c"], vocabulary["##c"]}


def test_all_merges_that_lead_to_a_piece_stay() -> None:
    names = ["<unk>", "a", "b", "c", "d", "ab", "bc", "abc", "cd", "abcd"]
    vocabulary = {each: index for index, each in enumerate(names)}
    merges = [("b", "c"), ("a", "bc"), ("a", "b"), ("ab", "c"), ("c", "d"), ("abc", "d")]
    full = alone(models.BPE(vocabulary, merges, unk_token="<unk>"))
    small, _ = trimmed(full, ids_of(full, "abc"))
    assert set(small.get_vocab()) == {"<unk>", "a", "b", "c", "ab", "bc", "abc"}
    assert json.loads(small.to_str())["model"]["merges"] == [list(each) for each in merges[:4]]
    assert small.encode("abc").tokens == full.encode("abc").tokens == ["abc"]
    marked = {each: index for index, each in enumerate(("<unk>", "a", "##b", "ab", "##c", "abc", "d"))}
    full = alone(models.BPE(marked, [("a", "##b"), ("ab", "##c")], unk_token="<unk>", continuing_subword_prefix="##"))
    small, _ = trimmed(full, ids_of(full, "abc"))
    assert small.encode("abc ab").tokens == full.encode("abc ab").tokens == ["abc", "ab"]
    assert "d" not in small.get_vocab()


def test_bytes_stay() -> None:
    pieces = [("<pad>", 0.0), ("<unk>", 0.0), *((f"<0x{byte:02X}>", -20.0) for byte in range(256)), ("ab", -1.0)]
    full = alone(models.Unigram(pieces, unk_id=1, byte_fallback=True))
    full.decoder = decoders.ByteFallback()
    small, _ = trimmed(full, safe_ids(full, set()))
    assert small.get_vocab_size() == 258
    assert small.decode(small.encode("漢ab").ids) == "漢ab"
    full = tokenizer_of("bytes").backend_tokenizer
    small, _ = trimmed(full, safe_ids(full, set()), 1)
    for line in LINES.values():
        assert small.decode(small.encode(line).ids, skip_special_tokens=True) == line


def test_padding_keeps_its_id_among_few_pieces() -> None:
    vocabulary = {each: index for index, each in enumerate(("a", "b", "c", "<pad>", "<unk>", "d"))}
    full = alone(models.WordLevel(vocabulary, unk_token="<unk>"))
    small, order = trimmed(full, {0, 5}, pad=3)
    assert small.token_to_id("<pad>") == 3
    assert {"a", "d", "<unk>"} <= set(small.get_vocab())
    assert [order[index] for index in small.encode("a d").ids] == full.encode("a d").ids
    full.add_special_tokens(["<far>"])
    with pytest.raises(DataError, match="padding"):
        trimmed(full, {0}, pad=6)


def test_pieces_of_scripts() -> None:
    backend = tokenizer_of("unigram").backend_tokenizer
    assert scripts_of(["de_DE", "sw_KE", "zh_TW", "zh_CN", "ja_XX"]) == {"Latn", "Hani", "Hira", "Kana"}
    kept = script_ids(backend, ["Latn"])
    for piece, index in backend.get_vocab().items():
        letters = [each for each in piece if unicodedata.category(each)[0] in "LM"]
        if not any(unicodedata.category(each)[0] == "M" for each in letters):  # some go with letters of any script
            assert (index in kept) == all(each < "\u0370" for each in letters), piece
