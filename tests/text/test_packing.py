"""Packing as drawn, whatever the pieces in which a stream comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodular.text import pack
from xmodular.text.packing import Packer, pack_lines

IDS = {"bos_id": 0, "eos_id": 2, "pad_id": 1}
STREAM = np.array([11, 12, 13, 2, 21, 22, 2, 31, 32, 33, 34, 2])

# A text: documents of lines of ids.
texts = st.lists(st.lists(st.lists(st.integers(4, 99), max_size=9), min_size=1, max_size=4), min_size=1, max_size=8)


def packed(text: list[list[list[int]]], packing: str, block_size: int, lines_a_piece: int) -> np.ndarray:
    """The blocks of a text that comes some lines at a time."""
    packer = Packer(packing, block_size, **IDS)
    lines = [([*line, 2], number == 0) for document in text for number, line in enumerate(document)]
    blocks = []
    for first in range(0, len(lines), lines_a_piece):
        tokens: list[int] = []
        starts = []
        for line, begins in lines[first : first + lines_a_piece]:
            if begins:
                starts.append(len(tokens))
            tokens += line
        blocks.append(packer.add(np.array(tokens), starts))
    return np.concatenate([*blocks, packer.end()])


def test_pack_as_drawn_in_the_documentation():
    assert pack(STREAM, 6, bos_id=0, pad_id=1).tolist() == [
        [0, 11, 12, 13, 2, 21],
        [0, 22, 2, 31, 32, 33],
        [0, 34, 2, 1, 1, 1],
    ]


def test_lines_as_drawn_in_the_documentation():
    assert pack_lines(STREAM, 6, **IDS).tolist() == [
        [0, 11, 12, 13, 2, 1],
        [0, 21, 22, 2, 1, 1],
        [0, 31, 32, 33, 34, 2],
    ]
    assert pack_lines(STREAM, 5, **IDS).tolist()[2:] == [[0, 31, 32, 33, 2], [0, 34, 2, 1, 1]]


def test_documents_as_drawn_in_the_documentation():
    blocks = packed([[[11, 12, 13], [21, 22]], [[31, 32, 33, 34]]], "documents", 6, 2)
    assert blocks.tolist() == [[0, 11, 12, 13, 2, 21], [0, 22, 2, 1, 1, 1], [0, 31, 32, 33, 34, 2]]


@settings(deadline=None)
@given(st.lists(st.integers(4, 500), max_size=200), st.integers(8, 40))
def test_blocks_hold_the_whole_stream(stream: list[int], block_size: int):
    blocks = pack(np.array(stream, dtype=np.int64), block_size, bos_id=0, pad_id=1)
    assert (blocks[:, 0] == 0).all()
    back = blocks[:, 1:].ravel()
    assert back[: len(stream)].tolist() == stream
    assert (back[len(stream) :] == 1).all()
    assert len(back) - len(stream) < block_size - 1


@settings(deadline=None)
@given(texts, st.sampled_from(["fill", "documents", "lines"]), st.integers(8, 12), st.integers(1, 20))
def test_no_token_is_lost_and_pieces_do_not_matter(text, packing: str, block_size: int, lines_a_piece: int):
    blocks = packed(text, packing, block_size, lines_a_piece)
    np.testing.assert_array_equal(blocks, packed(text, packing, block_size, 1000))
    flat = blocks[blocks > 2].tolist()
    assert flat == [token for document in text for line in document for token in line]


@settings(deadline=None)
@given(texts, st.integers(8, 12), st.integers(1, 20))
def test_no_block_mixes_documents(text, block_size: int, lines_a_piece: int):
    named = [[[10 + number] * (len(line) + 1) for line in document] for number, document in enumerate(text)]
    blocks = packed(named, "documents", block_size, lines_a_piece)
    assert all(len(set(block[block > 2].tolist())) <= 1 for block in blocks)
    expected = sum(-(-sum(len(line) + 1 for line in document) // (block_size - 1)) for document in named)
    assert len(blocks) == expected


def test_documents_are_no_more_than_fill_where_there_is_one():
    text = [[[7] * 30, [8] * 30]]
    np.testing.assert_array_equal(packed(text, "documents", 8, 1), packed(text, "fill", 8, 1))
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(packed(text * 2, "documents", 8, 1), packed(text * 2, "fill", 8, 1))
