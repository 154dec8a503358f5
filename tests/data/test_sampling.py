"""Language shares and the sampler that keeps to them."""

import numpy as np
import pytest

from xmodular.data import LanguageSampler, language_shares
from xmodular.errors import ConfigurationError, DataError

TOKENS = {"en_XX": 1_000_000, "de_DE": 100_000, "sw_KE": 1_000}


def test_shares_follow_the_formula():
    shares = language_shares(TOKENS, 0.3)
    natural = np.array(list(TOKENS.values())) / sum(TOKENS.values())
    drawn = natural**0.3 / (natural**0.3).sum()
    assert [share.natural for share in shares.values()] == pytest.approx(natural)
    assert [share.drawn for share in shares.values()] == pytest.approx(drawn)
    assert [share.ratio for share in shares.values()] == pytest.approx(drawn / natural)
    assert [share.drawn for share in language_shares(TOKENS, 1.0).values()] == pytest.approx(natural)
    assert [share.drawn for share in language_shares(TOKENS, 0.0).values()] == pytest.approx([1 / 3] * 3)


def test_shares_errors():
    with pytest.raises(ConfigurationError, match=r"alpha must be between 0 .* got 1.5"):
        language_shares(TOKENS, 1.5)
    with pytest.raises(DataError, match="No text for sw_KE"):
        language_shares({"en_XX": 5, "sw_KE": 0}, 0.3)


def test_draws_keep_the_shares_within_three_standard_errors():
    shares = [share.drawn for share in language_shares(TOKENS, 0.3).values()]
    sizes, draws = [7_000, 700, 7], 100_000
    blocks = LanguageSampler(sizes, shares, draws, seed=5).blocks()
    counts = np.histogram(blocks, bins=[0, 7_000, 7_700, 7_707])[0]
    for count, share in zip(counts, shares, strict=True):
        assert count == pytest.approx(draws * share, abs=3 * (draws * share * (1 - share)) ** 0.5)


def test_no_block_is_seen_twice_before_all_are_seen_once():
    blocks = LanguageSampler([50, 8], [0.5, 0.5], 90, seed=1).blocks()
    for start, end in ((0, 50), (50, 58)):
        counts = np.bincount(blocks[(blocks >= start) & (blocks < end)] - start, minlength=end - start)
        assert counts.max() - counts.min() <= 1


def test_draws_are_a_function_of_seed_and_epoch():
    def draws(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = LanguageSampler([30, 20], [0.6, 0.4], 64, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draws(0, 3) == draws(0, 3)
    assert [block for block, _ in draws(0, 3)] != [block for block, _ in draws(0, 4)]
    assert [block for block, _ in draws(0, 3)] != [block for block, _ in draws(1, 3)]
    numbers = [number for epoch in range(3) for _, number in draws(0, epoch)]
    assert numbers == list(range(3 * 64))
