"""What of a text its tokens tell: characters, bytes behind <unk>; which lines are read."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram

from tests.conftest import DEVELOPMENT_DATA
from xmodular.errors import NoTextError
from xmodular.text import TextFiles, measured_text, say_unknown
from xmodular.vocabulary import from_json, train_tokenizer

LATIN = ["the house sees bread", "a doctor opens the market", "the river finds a mountain", "bread likes the market"]
PACKINGS = ("fill", "documents", "lines")


@pytest.fixture(scope="module")
def latin():
    """Tokenizers that know Latin letters only: without and with bytes."""
    return tuple(train_tokenizer({"en": LATIN * 5}, 60 + 256 * more, byte_fallback=more) for more in (False, True))


def measured(path, text, tokenizer, packing="fill", **more):
    path.write_text(text, encoding="utf-8")
    return measured_text(TextFiles("xx", (path,), **more), tokenizer, 16, packing)


@pytest.mark.parametrize("packing", PACKINGS)
def test_characters_are_those_of_the_text_in_every_vocabulary(latin, tmp_path, packing):
    # Unknown words, wide letters, one letter that is read as two, several spaces, a long line, a blank one.
    lines = ["the ΑΒΓ  house", "ｂｒｅａｄ ﬁnds ½", "ж", "", "a river " * 30, "bread 中文 the"]
    known = sum(len(line.strip()) + 1 for line in lines if line)
    for tokenizer in latin:
        text = measured(tmp_path / "a.txt", "\n".join(lines), tokenizer, packing)
        assert text.characters.sum() == known
        assert len(text.characters) == len(text.blocks)
        assert text.lines.empty == 1
        special = np.isin(text.blocks, tokenizer.all_special_ids)
        np.testing.assert_array_equal(text.ordinary, (~special).sum(1))


def test_unknown_text_is_counted_in_bytes(latin, tmp_path):
    unknown, bytes_too = latin
    # "ABΓ" of "abΓ" and the like: what is known beside it is told. The piece for ½ would be three others.
    line = "the αβγ house, ж 中文bread ½"
    hidden = "αβγ,ж中文½"
    text = measured(tmp_path / "a.txt", line, unknown)
    assert text.untold.sum() == len(hidden)
    assert text.untold_bytes.sum() == len(hidden.encode())
    assert text.unknown.sum() == 5  # neighbours are one
    twin = measured(tmp_path / "b.txt", line, bytes_too)
    assert twin.untold_bytes.sum() == 0
    assert twin.unknown_share == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.text("thehouse αβγж中\u0301ｂﬁ½—", min_size=1, max_size=12), min_size=1, max_size=6),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(PACKINGS),
)
def test_nothing_gets_lost(latin, tmp_path_factory, lines, packing):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    kept = list(TextFiles("xx", (_written(path, lines),), repeated=True))
    for tokenizer in latin:
        if not kept:
            with pytest.raises(NoTextError):
                measured_text(TextFiles("xx", (path,), repeated=True), tokenizer, 16, packing)
            continue
        text = measured_text(TextFiles("xx", (path,), repeated=True), tokenizer, 16, packing)
        assert text.characters.sum() == sum(len(line) + 1 for line in kept)
        assert (text.untold <= text.characters).all()
        assert (text.untold_bytes >= text.untold).all()
        # (Without <unk> a letter may be lost too: the normaliser drops the accent of a wide letter.)
        assert ((text.untold_bytes > 0) >= (text.unknown > 0)).all()


def _written(path, lines):
    path.write_text("\n".join(" ".join(line) for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("normalizer", "hidden"),
    [
        (normalizers.Lowercase(), "T"),
        (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "é"),
        (normalizers.Replace("house", ""), "house"),
        (normalizers.NFKC(), ""),
        (None, ""),
    ],
)
def test_what_a_tokenizer_changes_is_not_told(tmp_path, normalizer, hidden):
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *dict.fromkeys("▁TtheousédfiＡA"), "<mask>"]
    content = Tokenizer(Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    if normalizer is not None:
        content.normalizer = normalizer
    content.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer = from_json(content.to_str(), len(pieces))
    text = measured(tmp_path / "a.txt", "Thé house", tokenizer)
    assert text.untold_bytes.sum() == len(hidden.encode())
    assert text.characters.sum() == 10
    if isinstance(normalizer, normalizers.NFKC):
        assert measured(tmp_path / "a.txt", "Ａ ﬁ", tokenizer).untold_bytes.sum() == 0


@pytest.mark.parametrize("packing", PACKINGS)
def test_vocabularies_read_the_same_first_lines(latin, tmp_path, packing):
    draw = random.Random(1)
    lines = [" ".join(draw.choices(["the", "αβγ", "house", "ж", "sees"], k=draw.randint(1, 9))) for _ in range(60)]
    ends = np.cumsum([len(line.encode()) + 1 for line in lines])
    first = lines[: int((ends <= 400).sum())]
    assert 5 < len(first) < 50
    for tokenizer in latin:
        text = measured(tmp_path / "a.txt", "\n".join(lines), tokenizer, packing, most=400, repeated=True)
        assert text.characters.sum() == sum(len(line) + 1 for line in first)
    one = measured(tmp_path / "a.txt", "the house sees bread\na river", latin[0], packing, most=3)
    assert one.lines.kept == 1


def test_repeated_lines_are_kept_or_counted(latin, tmp_path):
    lines = "the house\na river\nthe house\nthe house\n"
    kept = measured(tmp_path / "a.txt", lines, latin[0], repeated=True)
    assert (kept.lines.kept, kept.lines.duplicate) == (4, 0)
    dropped = measured(tmp_path / "a.txt", lines, latin[0])
    assert (dropped.lines.kept, dropped.lines.duplicate) == (2, 2)
    assert kept.characters.sum() == 2 * 10 + dropped.characters.sum()


def test_unknown_text_is_said(latin, tmp_path, capsys):
    few = measured(tmp_path / "a.txt", "the house sees bread\n" * 40 + "ж", latin[0], repeated=True)
    many = measured(tmp_path / "a.txt", "the house sees bread\n" * 40 + "ж中文 " * 9, latin[0], repeated=True)
    none = measured(tmp_path / "a.txt", "the house", latin[0])
    say_unknown([none])
    assert capsys.readouterr().err == ""
    say_unknown([few])
    said = " ".join(capsys.readouterr().err.split())
    assert f"xx {few.unknown_share:.2%}" in said
    assert "--new-vocabulary" not in said
    say_unknown([many])
    said = " ".join(capsys.readouterr().err.split())
    assert f"Warning: the vocabulary does not suit xx. {many.unknown_share:.1%} of the tokens are <unk>" in said
    assert "--new-vocabulary" in said


@pytest.mark.parametrize("language", ["hi_IN", "zh_CN", "tt"])
def test_real_text_and_vocabulary(xlmr, language):
    path = DEVELOPMENT_DATA / "text_dev" / f"{language}.txt"
    text = measured_text(TextFiles(language, (path,), repeated=True), xlmr, 128)
    assert text.characters.sum() == sum(len(line) + 1 for line in path.read_text(encoding="utf-8").splitlines())
    assert 0 < text.unknown.sum() <= text.untold.sum()
    assert text.untold_share < 0.002  # NFKC and the like change much more
