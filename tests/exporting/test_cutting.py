"""Batches of an exported model are cut by length as well as can be."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch

from xmodular.errors import InputError
from xmodular.exported_models import complete, cut


def cost(runs: list[tuple[int, int]], run: int) -> int:
    return sum(rows * length + run for rows, length in runs)


def best(lengths: list[int], run: int) -> int:
    """The least cost of all ways to cut sorted lengths, one after the other."""
    ordered = sorted(lengths)
    inner = range(1, len(ordered))
    ways = (places for count in range(len(ordered)) for places in combinations(inner, count))
    found = []
    for places in ways:
        bounds = [0, *places, len(ordered)]
        parts = [ordered[one:other] for one, other in pairwise(bounds)]
        found.append(cost([(len(part), part[-1]) for part in parts], run))
    return min(found)


@pytest.mark.parametrize("lengths", [[5], [7, 7, 7], [3, 90, 4, 5], [60, 1, 30, 31, 2, 59, 8], [9, 8, 7, 6, 5, 4, 3]])
@pytest.mark.parametrize("run", [0, 5, 24, 1000])
def test_no_other_way_to_cut_costs_less(lengths: list[int], run: int) -> None:
    runs = cut(lengths, run)
    assert sorted(row for rows, _ in runs for row in rows) == list(range(len(lengths)))
    assert all(length == max(lengths[row] for row in rows) for rows, length in runs)
    assert cost([(len(rows), length) for rows, length in runs], run) == best(lengths, run)


def test_what_a_batch_lacks_is_what_the_model_would_assume() -> None:
    ids = torch.tensor([[4, 5]])
    given = complete({"input_ids": ids}, ["input_ids", "attention_mask", "token_type_ids"])
    assert given["attention_mask"].tolist() == [[1, 1]]
    assert given["token_type_ids"].tolist() == [[0, 0]]
    with pytest.raises(InputError, match="needs the input lang_ids"):
        complete({"input_ids": ids}, ["input_ids", "lang_ids"])
