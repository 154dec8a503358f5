"""The whole grid: every head, 20 languages, five shapes, three mixes of languages, in one graph each."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.export import Dim

import xmodular
from tests.support import ragged_batch, tiny_model
from xmodular.catalogue import RELEASES

CODES = sorted({code for release in RELEASES.values() for code in release.languages})[:20]
HEADS: dict[str, dict[str, Any]] = {
    "XmodModel": {},
    "XmodForMaskedLM": {},
    "XmodForCausalLM": {"is_decoder": True, "use_cache": False},
    "XmodForSequenceClassification": {"classifier_pooling": "mean"},
    "XmodForTokenClassification": {},
    "XmodForQuestionAnswering": {},
    "XmodForMultipleChoice": {},
}
SHAPES: list[dict[str, Any]] = [
    {"lengths": (7, 3, 9, 5)},
    {"lengths": (4, 11), "side": "left"},
    {"lengths": (6, 6, 6)},
    {"lengths": (2, 13, 5, 5, 1, 8)},
    {"lengths": (38,) * 21 + (3,), "side": "left"},
]
SIZES = [(2, 2), (2, 38), (3, 7), (5, 11), (8, 4), (13, 21), (21, 5), (32, 2), (33, 17), (64, 9)]


def model_of(name: str) -> Any:
    return tiny_model(getattr(xmodular, name), "sdpa", num_hidden_layers=1, languages=CODES, **HEADS[name])


def with_choices(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each row as a question whose second choice is the row backwards."""
    made = {}
    for name, values in batch.items():
        if name == "lang_ids":
            made[name] = values if values.dim() == 1 else torch.stack((values, values), 1)
        else:
            made[name] = torch.stack((values, values.flip(0)), 1)
    return made


def batch_of(name: str, shape: dict[str, Any], mix: str, seed: int = 0) -> dict[str, Tensor]:
    batch = ragged_batch(**shape, languages=mix, num_languages=len(CODES), seed=seed)
    if mix == "single":
        batch["lang_ids"] = torch.full_like(batch["lang_ids"], (7 * seed + 3) % len(CODES))
    elif mix == "interleaved":
        batch["lang_ids"] = (torch.arange(len(batch["lang_ids"])) * 7 + seed) % len(CODES)
    return with_choices(batch) if name == "XmodForMultipleChoice" else batch


def outputs_of(made: Any, batch: dict[str, Tensor]) -> list[Tensor]:
    """Every output, of tokens the real ones."""
    mask = batch.get("attention_mask")
    shape = batch["input_ids"].shape
    found = []
    for each in made.values():
        if isinstance(each, Tensor):
            is_of_tokens = mask is not None and mask.dim() == 2 and each.shape[:2] == shape
            found.append(each[mask.bool()] if is_of_tokens and mask is not None else each)
    return found


def assert_same(program: Any, model: Any, batch: dict[str, Tensor]) -> None:
    with torch.no_grad():
        ours, theirs = (outputs_of(each(**batch), batch) for each in (model, program))
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("mixes", [("single", "interleaved"), ("tokens",)])
def test_one_compiled_graph_serves_the_grid(name: str, mixes: tuple[str, ...]) -> None:
    """Ids for each sequence have one graph, ids for each token another."""
    torch._dynamo.reset()
    model, graphs = model_of(name), CompileCounter()
    compiled = torch.compile(model, backend=graphs, fullgraph=True, dynamic=True)
    for seed, shape in enumerate(SHAPES):
        for mix in mixes:
            assert_same(compiled, model, batch_of(name, shape, mix, seed))
    batch = batch_of(name, SHAPES[0], "interleaved")
    if mixes[0] == "single":
        for language in range(len(CODES)):
            assert_same(compiled, model, {**batch, "lang_ids": torch.full_like(batch["lang_ids"], language)})
    assert graphs.frame_count == 1
    torch._dynamo.reset()


def exported(model: Any, name: str, *, mask: bool) -> Any:
    free: dict[int, Any] = {0: Dim("batch", max=64)}
    place = 2 if name == "XmodForMultipleChoice" else 1
    both = {**free, place: Dim("length", max=38)}
    example = batch_of(name, {"lengths": (7, 3, 9, 5)}, "interleaved")
    if not mask:
        del example["attention_mask"]
    shapes = {each: free if each == "lang_ids" else both for each in example}
    return torch.export.export(model, (), example, dynamic_shapes=shapes).module()


def assert_sizes(name: str, *, mask: bool, sizes: list[tuple[int, int]]) -> None:
    model = model_of(name)
    program = exported(model, name, mask=mask)
    for seed, (rows, length) in enumerate(sizes):
        lengths = [1 + (seed + 5 * row) % length for row in range(rows - 1)] if mask else [length] * (rows - 1)
        batch = batch_of(name, {"lengths": [*lengths, length]}, "interleaved", seed)
        if not mask:
            del batch["attention_mask"]
        assert_same(program, model, batch)


@pytest.mark.parametrize("mask", [True, False])
def test_an_exported_program_takes_other_sizes(mask: bool) -> None:
    assert_sizes("XmodForSequenceClassification", mask=mask, sizes=SIZES[::3])


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("mask", [True, False])
def test_an_exported_program_takes_ten_sizes(name: str, mask: bool) -> None:
    assert_sizes(name, mask=mask, sizes=SIZES)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("mix", ["interleaved", "tokens"])
def test_a_trace_takes_ten_sizes_and_all_languages(name: str, mix: str) -> None:
    """torch.jit.trace warns that it may fix sizes; here it fixes none."""
    model = model_of(name)
    model.config.return_dict = False
    example = batch_of(name, {"lengths": (7, 3, 9, 5)}, mix)
    order = list(inspect.signature(model.forward).parameters)
    names = sorted(example, key=order.index)

    def positional(batch: dict[str, Tensor]) -> tuple[Tensor | None, ...]:
        """With zeros as token types, if they stand between."""
        last = max(order.index(each) for each in names)
        return tuple(batch.get(each, torch.zeros_like(batch["input_ids"])) for each in order[: last + 1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, positional(example), check_trace=False)
    for seed, (rows, length) in enumerate(SIZES):
        lengths = [1 + (seed + 5 * row) % length for row in range(rows - 1)]
        batch = batch_of(name, {"lengths": [*lengths, length]}, mix, seed + 1)
        mask = batch["attention_mask"]
        with torch.no_grad():
            pairs = list(zip(model(**batch), traced(*positional(batch)), strict=True))
        assert pairs
        for ours, theirs in pairs:
            keep = mask.bool() if mask.dim() == 2 and ours.shape[:2] == mask.shape else ...
            torch.testing.assert_close(theirs[keep], ours[keep], atol=1e-5, rtol=1e-5)


def test_one_compiled_graph_serves_a_head() -> None:
    torch._dynamo.reset()
    model, graphs = model_of("XmodForQuestionAnswering"), CompileCounter()
    compiled = torch.compile(model, backend=graphs, fullgraph=True, dynamic=True)
    for seed, shape in enumerate(SHAPES[:3]):
        assert_same(compiled, model, batch_of("XmodForQuestionAnswering", shape, "interleaved", seed))
    assert graphs.frame_count == 1
    torch._dynamo.reset()
