"""Language shares and the sampler that keeps to them."""

import numpy as np
import pytest

from xmodular.errors import ConfigurationError, DataError
from xmodular.text import Batches, LanguageSampler, block_lengths, language_shares
from xmodular.text.packing import Packer

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


def counts(blocks: np.ndarray) -> np.ndarray:
    return np.histogram(blocks, bins=[0, 7_000, 7_700, 7_707])[0]


def assert_within(found: np.ndarray, shares: np.ndarray) -> None:
    """Three standard errors of draws that each have their own probabilities, (draws, languages)."""
    error = 3 * np.sqrt((shares * (1 - shares)).sum(0))
    assert (np.abs(found - shares.sum(0)) < error).all(), (found, shares.sum(0), error)


SIZES, DRAWS = [7_000, 700, 7], 100_000


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_draws_keep_the_shares_within_three_standard_errors(alpha):
    shares = np.array([share.drawn for share in language_shares(TOKENS, alpha).values()])
    sampler = LanguageSampler(SIZES, list(TOKENS.values()), DRAWS, seed=5, alpha=alpha)
    assert_within(counts(sampler.blocks()), np.tile(shares, (DRAWS, 1)))


def test_alpha_moves_on_a_line_within_three_standard_errors():
    natural = np.array(list(TOKENS.values())) / sum(TOKENS.values())
    weights = natural ** np.linspace(1.0, 0.2, DRAWS)[:, None]
    shares = weights / weights.sum(1, keepdims=True)
    blocks = LanguageSampler(SIZES, list(TOKENS.values()), DRAWS, seed=7, alpha=1.0, alpha_end=0.2).blocks()
    for part in np.array_split(np.arange(DRAWS), 4):
        assert_within(counts(blocks[part]), shares[part])


def test_runs_of_one_language_keep_the_shares_too():
    shares = np.array([share.drawn for share in language_shares(TOKENS, 0.3).values()])
    blocks = LanguageSampler(SIZES, list(TOKENS.values()), DRAWS, seed=3, alpha=0.3, run=8).blocks()
    languages = np.searchsorted([7_000, 7_700], blocks, side="right").reshape(-1, 8)
    assert (languages == languages[:, :1]).all()
    assert_within(np.bincount(languages[:, 0]), np.tile(shares, (DRAWS // 8, 1)))


def test_no_block_is_seen_twice_before_all_are_seen_once():
    blocks = LanguageSampler([5_000, 8], [1, 1], 9_000, seed=1).blocks()
    for start, end in ((0, 5_000), (5_000, 5_008)):
        seen = np.bincount(blocks[(blocks >= start) & (blocks < end)] - start, minlength=end - start)
        assert seen.max() - seen.min() <= 1


def test_draws_are_a_function_of_the_seed():
    def draws(seed: int, count: int = 9_000) -> list[tuple[int, int]]:
        return list(LanguageSampler([3_000, 20], [6, 4], count, seed))

    assert draws(0) == draws(0)
    assert draws(0, 5_000) == draws(0)[:5_000]  # a longer run begins like a shorter one
    assert [block for block, _ in draws(0)] != [block for block, _ in draws(1)]
    assert [number for _, number in draws(0)] == list(range(9_000))
    assert [block for block, _ in draws(0)] == LanguageSampler([3_000, 20], [6, 4], 9_000, 0).blocks().tolist()


def test_the_processes_share_the_batches():
    sampler = LanguageSampler([30, 20], [6, 4], 24, seed=0)
    alone = list(Batches(sampler, 6, 4))
    assert [draw for batch in alone for draw in batch] == list(sampler)
    parts = [Batches(sampler, 6, 4, rank=rank, ranks=2) for rank in (0, 1)]
    assert [len(part) for part in parts] == [3, 3]
    assert [batch for pair in zip(*parts, strict=True) for batch in pair] == alone


def test_batches_by_token_budget():
    lengths = np.random.default_rng(0).integers(3, 33, size=50)
    blocks = np.array([[5] * length + [1] * (32 - length) for length in lengths])
    assert block_lengths([blocks[:30], blocks[30:]], pad_id=1).tolist() == lengths.tolist()
    sampler = LanguageSampler([30, 20], [6, 4], 1, seed=0)
    batches = list(Batches(sampler, 200, 0, budget=100, lengths=lengths))
    tokens = [sum(int(lengths[draw.block]) for draw in batch) for batch in batches]
    assert len(batches) == 200
    assert max(tokens) <= 100
    following = [int(lengths[batch[0].block]) for batch in batches[1:]]
    assert all(own + more > 100 for own, more in zip(tokens, following, strict=False))  # none could take the next row


def corpus_of(packing: str, means: list[int], lines: list[int], seed: int) -> list[np.ndarray]:
    """Blocks of 32 tokens of some languages whose lines have such mean lengths, three or so to a document."""
    random = np.random.default_rng(seed)
    languages = []
    for mean, count in zip(means, lines, strict=True):
        sizes = random.poisson(mean, count) + 1
        stream = np.concatenate([np.append(random.integers(4, 99, size), 2) for size in sizes])
        starts = np.concatenate([[0], (sizes + 1).cumsum()[:-1]])[::3].tolist()
        packer = Packer(packing, 32, bos_id=0, eos_id=2, pad_id=1)
        languages.append(np.concatenate([packer.add(stream, starts), packer.end()]))
    return languages


def expected_draws(lengths: list[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """How likely a draw is of each language where those are its shares of the tokens, (..., languages)."""
    rows = shares / np.array([each.mean() for each in lengths])
    return rows / rows.sum(-1, keepdims=True)


def standard_errors(lengths: list[np.ndarray], shares: np.ndarray, draws: int) -> np.ndarray:
    """Of each language's share of the tokens in independent draws (delta method)."""
    chances = expected_draws(lengths, shares)
    means, squares = (np.array([(each.astype(float) ** power).mean() for each in lengths]) for power in (1, 2))
    total = chances @ means
    own, others = chances * squares * (1 - shares) ** 2, shares**2 * (chances @ squares - chances * squares)
    return np.sqrt((own + others) / draws) / total


@pytest.mark.parametrize("packing", ["fill", "documents", "lines"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("batches", "rows", "budget", "run"), [(1500, 16, None, 1), (1500, 16, None, 16), (1200, 0, 300, 1)]
)
def test_shares_hold_in_tokens_whatever_the_packing(packing, alpha, batches, rows, budget, run):
    """Lines of 2, 12 and 70 tokens: a row of one language can have ten times the tokens of another's."""
    blocks = corpus_of(packing, [2, 12, 70], [3000, 400, 150], seed=len(packing))
    lengths = [(each != 1).sum(1) for each in blocks]
    tokens = np.array([each.sum() for each in lengths])
    shares = (tokens / tokens.sum()) ** alpha
    shares /= shares.sum()
    sampler = LanguageSampler([len(each) for each in blocks], tokens.tolist(), 10**6, seed=3, alpha=alpha, run=run)
    made = Batches(sampler, batches, rows, budget=budget, lengths=np.concatenate(lengths))
    ends, flat = np.cumsum([len(each) for each in blocks]), np.concatenate(lengths)
    read, draws = np.zeros(3), 0
    for batch in made:
        for draw in batch:
            read[np.searchsorted(ends, draw.block, side="right")] += flat[draw.block]
            draws += 1
    assert draws > 10_000
    error = 3 * standard_errors(lengths, shares, draws // run)
    assert (np.abs(read / read.sum() - shares) < error).all(), (read / read.sum(), shares, error)
    assert made.tokens().tolist() == read.tolist()  # what the run says it read


def test_a_moving_alpha_is_one_of_tokens_and_spans_a_run_by_budget():
    blocks = corpus_of("lines", [2, 12, 70], [3000, 400, 150], seed=8)
    lengths = [(each != 1).sum(1) for each in blocks]
    tokens, flat = np.array([each.sum() for each in lengths]), np.concatenate(lengths)
    sizes = [len(each) for each in blocks]

    def made(draws: int) -> Batches:
        sampler = LanguageSampler(sizes, tokens.tolist(), draws, seed=7, alpha=1.0, alpha_end=0.0)
        return Batches(sampler, 4000, 0, budget=200, lengths=flat)

    batches = made(round(4000 * made(50_000).mean_rows()))
    drawn = np.array([draw.block for batch in batches for draw in batch])
    assert len(drawn) == pytest.approx(batches.draws.draws, rel=0.01)
    languages = np.searchsorted(np.cumsum(sizes), drawn, side="right")
    alphas = np.minimum(np.arange(len(drawn)) / (batches.draws.draws - 1), 1.0)
    weights = (tokens / tokens.sum()) ** (1 - alphas)[:, None]
    chances = expected_draws(lengths, weights / weights.sum(1, keepdims=True))
    for part in np.array_split(np.arange(len(drawn)), 4):
        assert_within(np.bincount(languages[part], minlength=3), chances[part])


def test_processes_and_a_longer_run_read_the_same_tokens():
    blocks = corpus_of("lines", [3, 40], [500, 90], seed=1)
    flat = block_lengths(blocks, pad_id=1)
    sampler = LanguageSampler([len(each) for each in blocks], [1700, 4000], 1, seed=0)
    for options in ({"rows": 8}, {"rows": 0, "budget": 90}):
        alone = Batches(sampler, 60, lengths=flat, **options)
        ranks = [Batches(sampler, 60, lengths=flat, rank=rank, ranks=3, **options) for rank in range(3)]
        assert all(each.tokens().tolist() == alone.tokens().tolist() for each in ranks)
        assert [batch for trio in zip(*ranks, strict=True) for batch in trio] == list(alone)
        assert list(Batches(sampler, 90, lengths=flat, **options))[:60] == list(alone)
