"""Packing, the cache on disk, and the mixed data set."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodular.data import BlockCache, Draw, MixedBlocks, TextFiles, pack
from xmodular.data.blocks import pack_lines, token_stream
from xmodular.errors import DataError


def test_pack_as_drawn_in_the_documentation():
    stream = np.array([11, 12, 13, 2, 21, 22, 2, 31, 32, 33, 34, 2])
    assert pack(stream, 6, bos_id=0, pad_id=1).tolist() == [
        [0, 11, 12, 13, 2, 21],
        [0, 22, 2, 31, 32, 33],
        [0, 34, 2, 1, 1, 1],
    ]


def test_lines_as_drawn_in_the_documentation():
    stream = np.array([11, 12, 13, 2, 21, 22, 2, 31, 32, 33, 34, 2])
    assert pack_lines(stream, 6, bos_id=0, eos_id=2, pad_id=1).tolist() == [
        [0, 11, 12, 13, 2, 1],
        [0, 21, 22, 2, 1, 1],
        [0, 31, 32, 33, 34, 2],
    ]
    assert pack_lines(stream, 5, bos_id=0, eos_id=2, pad_id=1).tolist()[2:] == [[0, 31, 32, 33, 2], [0, 34, 2, 1, 1]]


def test_cached_lines_are_the_text(text, tokenizer, tmp_path):
    made = BlockCache(tmp_path / "cache", tokenizer, 24, "lines").get(text)
    assert len(made.blocks) == 50
    for line, block in zip(text, made.blocks, strict=True):
        assert block[block != tokenizer.pad_token_id].tolist() == tokenizer(line)["input_ids"]
    assert BlockCache(tmp_path / "cache", tokenizer, 24).get(text).blocks.shape != made.blocks.shape


@settings(deadline=None)
@given(st.lists(st.integers(4, 500), max_size=200), st.integers(8, 40))
def test_blocks_hold_the_whole_stream(stream: list[int], block_size: int):
    blocks = pack(np.array(stream, dtype=np.int64), block_size, bos_id=0, pad_id=1)
    assert (blocks[:, 0] == 0).all()
    back = blocks[:, 1:].ravel()
    assert back[: len(stream)].tolist() == stream
    assert (back[len(stream) :] == 1).all()
    assert len(back) - len(stream) < block_size - 1


@pytest.fixture
def text(tmp_path: Path) -> TextFiles:
    path = tmp_path / "en_XX.txt"
    path.write_text("".join(f"the house sees the river {number}\n" for number in range(50)))
    return TextFiles("en_XX", (path,))


def test_cached_blocks_are_the_text(text, tokenizer, tmp_path):
    made = BlockCache(tmp_path / "cache", tokenizer, 16).get(text)
    expected = [token for line in text for token in [*tokenizer(line, add_special_tokens=False)["input_ids"], 2]]
    flat = made.blocks[:, 1:].ravel()
    assert flat[flat != tokenizer.pad_token_id].tolist() == expected
    assert made.tokens == len(expected)
    assert made.lines.kept == 50
    assert isinstance(made.blocks, np.memmap)
    assert made.blocks.dtype == np.uint16


def test_cache_is_found_again_and_only_for_the_same_content(text, tokenizer, tmp_path):
    done: list[int] = []
    cache = BlockCache(tmp_path / "cache", tokenizer, 16)
    first = cache.get(text, done.append)
    assert sum(done) == 50
    again = BlockCache(tmp_path / "cache", tokenizer, 16).get(text, done.append)
    assert sum(done) == 50  # nothing tokenised anew
    np.testing.assert_array_equal(first.blocks, again.blocks)
    BlockCache(tmp_path / "cache", tokenizer, 12).get(text, done.append)
    assert sum(done) == 100
    text.files[0].write_text("another text\n")
    assert cache.get(text).lines.kept == 1
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]  # no remains


def test_special_tokens_in_text_lose_their_meaning(tokenizer):
    (ids,) = token_stream(["the <mask> house </s> <pad> sees"], tokenizer)
    assert ids[-1] == tokenizer.eos_token_id
    assert not set(ids[:-1].tolist()) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})


def test_no_lines_is_an_error(tokenizer, tmp_path):
    path = tmp_path / "sw_KE.txt"
    path.write_text("\n\n")
    with pytest.raises(DataError, match=r"No text for sw_KE in .*sw_KE.txt: 0 lines \(dropped: 2 empty\)"):
        BlockCache(tmp_path / "cache", tokenizer, 16).get(TextFiles("sw_KE", (path,)))


def test_mixed_blocks_know_their_language(text, tokenizer, tmp_path):
    other = tmp_path / "sw_KE.txt"
    other.write_text("nyumba mto mkate\n" * 2 + "mlima\n")
    cache = BlockCache(tmp_path / "cache", tokenizer, 16)
    languages = [cache.get(text), cache.get(TextFiles("sw_KE", (other,)))]
    mixed = MixedBlocks(languages, {"sw_KE": 0, "en_XX": 5})
    sizes = [len(each.blocks) for each in languages]
    assert len(mixed) == sum(sizes)
    rows = [mixed[Draw(number, 7)] for number in range(len(mixed))]
    assert [row["lang_id"] for row in rows] == [5] * sizes[0] + [0] * sizes[1]
    np.testing.assert_array_equal(
        np.stack([row["input_ids"] for row in rows]), np.concatenate([each.blocks for each in languages])
    )
    assert {row["draw"] for row in rows} == {7}
