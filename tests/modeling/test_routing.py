"""Plans: which tokens are worked on, in which order, by which adapter, and the way back."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xmodular.modeling.routing import Plan, Routes, make_plan

CODES = ["en_XX", "de_DE", "sw_KE", "fi_FI"]


def languages_of(routes: Routes, tokens: int) -> list[int]:
    """The language of every token, in the order of the layout."""
    flat = [language for language, count in routes.segments for _ in range(count)]
    assert len(flat) == tokens
    if routes.order is None:
        return flat
    undone = [0] * tokens
    for place, token in enumerate(routes.order.tolist()):
        undone[token] = flat[place]
    return undone


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A mask with any holes, and ids per sequence or per token."""
    rows, length = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    seed = draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(rows, length, generator=generator) < draw(st.sampled_from([0.3, 0.8, 1.0]))).long()
    shape = (rows, length) if draw(st.booleans()) else (rows,)
    return mask, torch.randint(0, draw(st.integers(1, 4)), shape, generator=generator)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(batches())
def test_every_real_token_is_worked_on_once_by_its_own_adapter(batch: tuple[Tensor, Tensor]) -> None:
    mask, ids = batch
    rows, length = mask.shape
    plan = make_plan(ids, mask, rows, length, CODES, pack=True)
    per_token = ids if ids.dim() == 2 else ids[:, None].expand(rows, length)
    real = int(mask.sum())
    assert sum(plan.run_tokens) == real
    numbers = torch.arange(rows * length).view(rows, length)
    packed = plan.pack(numbers)
    assert sorted(packed.tolist()) == numbers[mask.bool()].tolist()
    assert languages_of(plan.routes, real) == plan.pack(per_token).tolist()
    assert torch.equal(plan.unpack(packed + 1), (numbers + 1) * mask)
    # Sequences stay whole and in order, and runs are sequences of one length.
    start = 0
    for count, tokens in plan.runs or ():
        for _ in range(count):
            sequence = packed[start : start + tokens]
            row = int(sequence[0]) // length
            assert sequence.tolist() == numbers[row][mask[row].bool()].tolist()
            start += tokens


@settings(max_examples=100, deadline=None, derandomize=True)
@given(batches(), st.integers(0, 2**16))
def test_kept_tokens_keep_their_adapters(batch: tuple[Tensor, Tensor], seed: int) -> None:
    mask, ids = batch
    rows, length = mask.shape
    wanted = torch.rand(rows, length, generator=torch.Generator().manual_seed(seed)) < 0.4
    plan = make_plan(ids, mask, rows, length, CODES, pack=True).keep(wanted)
    per_token = ids if ids.dim() == 2 else ids[:, None].expand(rows, length)
    if plan.kept is None or plan.kept_routes is None:
        assert bool(wanted[mask.bool()].all())
        return
    assert languages_of(plan.kept_routes, len(plan.kept)) == plan.pack(per_token)[plan.kept].tolist()
    numbers = torch.arange(1, rows * length + 1).view(rows, length)
    assert torch.equal(plan.unpack_kept(plan.pack(numbers)[plan.kept]), numbers * mask * wanted)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=6), st.data())
def test_chunks_cut_segments_without_loss(segments: list[tuple[int, int]], data: st.DataObject) -> None:
    sizes, left = [], sum(tokens for _, tokens in segments)
    while left:
        sizes.append(data.draw(st.integers(1, left)))
        left -= sizes[-1]
    chunks = list(Routes(tuple(segments)).chunks(sizes))
    assert [sum(tokens for _, tokens in part.segments) for part in chunks] == sizes
    flat = [language for size, part in zip(sizes, chunks, strict=True) for language in languages_of(part, size)]
    assert flat == [language for language, count in segments for _ in range(count)]


def test_one_language_needs_no_reordering() -> None:
    plan = make_plan(2, None, 3, 5, CODES, pack=True)
    assert plan == Plan(3, 5, Routes(((2, 15),)), runs=((3, 5),))


def test_sequences_are_ordered_by_language_then_length() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]])
    plan = make_plan(torch.tensor([1, 0, 0, 1]), mask, 4, 4, CODES, pack=True)
    assert plan.routes.segments == ((0, 5), (1, 6))
    assert plan.routes.order is None
    assert plan.runs == ((1, 2), (1, 3), (1, 2), (1, 4))
