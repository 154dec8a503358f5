"""The cache of blocks on disk, and the mixed data set."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from xmodular.errors import DataError, NoTextError
from xmodular.text import BlockCache, Draw, MixedBlocks, TextFiles
from xmodular.text import blocks as blocks_module


def test_cached_lines_are_the_text(text, tokenizer, tmp_path):
    made = BlockCache(tmp_path / "cache", tokenizer, 24, "lines").get(text)
    assert len(made.blocks) == 50
    for line, block in zip(text, made.blocks, strict=True):
        assert block[block != tokenizer.pad_token_id].tolist() == tokenizer(line)["input_ids"]
    assert BlockCache(tmp_path / "cache", tokenizer, 24).get(text).blocks.shape != made.blocks.shape


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


def test_the_cache_goes_by_content_not_by_time(text, tokenizer, tmp_path):
    cache = BlockCache(tmp_path / "cache", tokenizer, 16)
    done: list[int] = []
    cache.get(text, done.append)
    path = text.files[0]
    stat = path.stat()
    path.write_text(path.read_text().replace("river", "house"))  # as long as before
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    cache.get(text, done.append)
    assert sum(done) == 100
    os.utime(path)
    cache.get(text, done.append)
    assert sum(done) == 100


def test_documents_have_blocks_of_their_own(tokenizer, tmp_path):
    path = tmp_path / "en_XX.txt"
    path.write_text("the house\nthe river\n\nbread\n\n" + "the mountain sees the market\n" * 3)
    made = BlockCache(tmp_path / "cache", tokenizer, 32, "documents").get(TextFiles("en_XX", (path,)))
    texts = [tokenizer.decode(block, skip_special_tokens=True) for block in made.blocks]
    assert texts[:2] == ["the house the river", "bread"]
    assert [text.count("market") for text in texts[2:]] in ([3], [1, 2], [2, 1])
    assert made.lines.kept == 6  # a document keeps its repeated lines


def test_a_full_disk_is_an_error_and_leaves_nothing(text, tokenizer, tmp_path, monkeypatch):
    cache = BlockCache(tmp_path / "cache", tokenizer, 16)

    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def add(self, *_: object) -> np.ndarray:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(blocks_module, "Packer", Full)
        with pytest.raises(DataError, match=r"blocks of en_XX cannot be written to .*cache: No space left on device"):
            cache.get(text)
    assert not list((tmp_path / "cache").iterdir())
    assert len(cache.get(text).blocks)


def test_an_interrupt_leaves_no_half_cache(text, tokenizer, tmp_path):
    def interrupt(lines: int) -> None:
        raise KeyboardInterrupt

    cache = BlockCache(tmp_path / "cache", tokenizer, 16)
    with pytest.raises(KeyboardInterrupt):
        cache.get(text, interrupt)
    assert not list((tmp_path / "cache").iterdir())


def test_no_space_for_the_cache_s_folder_is_an_error(text, tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        BlockCache(tmp_path / "file" / "cache", tokenizer, 16).get(text)


def test_no_lines_is_an_error(tokenizer, tmp_path):
    path = tmp_path / "sw_KE.txt"
    path.write_text("\n\n")
    with pytest.raises(NoTextError, match=r"No text for sw_KE in .*sw_KE.txt: 0 lines \(dropped: 2 empty\)"):
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
