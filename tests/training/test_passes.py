"""Batches of fine-tuning: every row once a pass, the same steps however they are divided."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodular.errors import ConfigurationError
from xmodular.training.epochs import Passes


def steps_of(size: int, rows: int, batches: int, ranks: int, **more) -> list[list[int]]:
    """Rows by step, over all processes."""
    made = [list(Passes(size, rows, batches, rank=rank, ranks=ranks, **more)) for rank in range(ranks)]
    return [
        [row for mine in made for batch in mine[start : start + batches] for row in batch]
        for start in range(0, len(made[0]), batches)
    ]


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_a_pass_has_each_row_once(size, rows, batches, ranks, seed):
    at_once = batches * ranks
    if size < at_once:
        with pytest.raises(ConfigurationError, match=f"{size} training rows, but a step has {at_once} batches"):
            Passes(size, rows, batches, epochs=1, ranks=ranks)
        return
    passes = Passes(size, rows, batches, epochs=2, seed=seed, ranks=ranks)
    steps = steps_of(size, rows, batches, ranks, epochs=2, seed=seed)
    assert len(steps) == passes.steps == 2 * passes.per_pass
    for start in (0, passes.per_pass):
        drawn = [row for step in steps[start : start + passes.per_pass] for row in step]
        assert len(set(drawn)) == len(drawn)
        assert len(drawn) > size - at_once
    assert all(batch for batch in passes)


@given(st.integers(12, 60), st.integers(1, 7), st.integers(0, 5))
def test_processes_and_accumulation_are_one(size, rows, seed):
    expected = [sorted(step) for step in steps_of(size, rows * 6, 1, 1, epochs=2.5, seed=seed)]
    for batches, ranks in ((6, 1), (3, 2), (2, 3), (1, 6)):
        made = [sorted(step) for step in steps_of(size, rows, batches, ranks, epochs=2.5, seed=seed)]
        whole = [step for step in expected if len(step) >= 6]
        assert made == whole[: len(made)]


def test_seeds_and_passes_have_orders_of_their_own():
    first, again, other = (steps_of(40, 40, 1, 1, epochs=2, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first[0] != first[1]
    assert first[0] != other[0]
    assert len(Passes(40, 8, 1, epochs=0.3)) == 2
    assert len(Passes(40, 8, 1, epochs=9, steps=3)) == 3


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=4),
    st.integers(1, 7),
    st.sampled_from([(1, 1), (4, 1), (2, 2), (1, 4), (3, 1)]),
    st.integers(0, 5),
)
def test_groups_share_no_batch_and_each_row_comes_once(sizes, rows, divided, seed):
    """Rows of several vocabularies; with as many batches a step, the steps are the same in one process or many."""
    size, (batches, ranks) = sum(sizes), divided
    if size < batches * ranks:
        return
    numbers = np.random.default_rng(seed).permutation(size)
    groups = np.split(numbers, np.cumsum(sizes)[:-1])
    of = {row: number for number, group in enumerate(groups) for row in group.tolist()}
    more = {"epochs": 2, "seed": seed, "groups": groups}
    made = [Passes(size, rows, batches, rank=rank, ranks=ranks, **more) for rank in range(ranks)]
    for passes in made:
        assert all(0 < len(batch) <= rows and len({of[row] for row in batch}) == 1 for batch in passes)
        assert len(list(passes)) == len(passes)
    steps = steps_of(size, rows, batches, ranks, **more)
    assert list(map(sorted, steps)) == list(map(sorted, steps_of(size, rows, batches * ranks, 1, **more)))
    half = made[0].per_pass
    assert len(steps) == 2 * half
    for part in (steps[:half], steps[half:]):
        drawn = [row for step in part for row in step]
        assert len(set(drawn)) == len(drawn)
        if batches * ranks == 1:
            assert len(drawn) == size
