"""What a GPU does in one call, against the loops that a CPU takes.

Without a GPU, the decisions of `kernels` are replaced: torch has its grouped product on a CPU too, and attention over
several lengths is written out here. On the meta device, whose tensors hold no values, nothing can wait for one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support import LARGE_FLAGS, assert_same_gradients, labels_like, ragged_batch, tiny_model
from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodForSequenceClassification, XmodModel
from xmodular.modeling import kernels, model
from xmodular.modeling.routing import Routes, make_plan

CODES = [f"l{index:03d}_XX" for index in range(20)]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

attend = F.scaled_dot_product_attention
grouped = pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="torch before 2.10 has no grouped product")


def attention_by_sequence(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, *, causal: bool, scaling: float
) -> Tensor:
    """What `kernels.attention` promises, plainly."""
    assert ends.dtype == torch.int32
    sizes = ends.diff().tolist()
    assert max(sizes) == longest
    parts = zip(*(part.transpose(0, 1).split(sizes, 1) for part in (query, key, value)), strict=True)
    return torch.cat([attend(*part, is_causal=causal, scale=scaling) for part in parts], 1).transpose(0, 1)


@contextmanager
def as_on_a_gpu(*, varlen: bool = True, groups: bool = True, least: int = 1) -> Iterator[dict[str, int]]:
    """The same code as on a GPU; yields how often each kernel was called."""
    calls = {"attention": 0, "grouped": 0, "padded": 0}

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "GROUPED_FROM", least)
        patch.setattr(kernels, "calls_cost", lambda device: True)
        patch.setattr(kernels, "attends", lambda *args: varlen)
        patch.setattr(kernels, "attention", counted("attention", attention_by_sequence))
        patch.setattr(kernels, "groups", lambda *args: groups)
        patch.setattr(kernels, "grouped_linear", counted("grouped", kernels.grouped_linear))
        patch.setattr(F, "scaled_dot_product_attention", counted("padded", F.scaled_dot_product_attention))
        yield calls


BATCHES: dict[str, dict[str, Any]] = {
    "mixed": {"lengths": (7, 3, 9, 5)},
    "left": {"lengths": (4, 11), "side": "left"},
    "tokens": {"lengths": (7, 3, 9, 5), "languages": "tokens"},
    "one language": {"lengths": (6, 2), "languages": "single"},
    "one token": {"lengths": (1,)},
    "one length": {"lengths": (5, 5, 5)},
}


def last(made: Any) -> Tensor:
    return made.logits if "logits" in made else made.last_hidden_state


@grouped
@pytest.mark.parametrize("flags", [{}, LARGE_FLAGS], ids=["base", "large"])
@pytest.mark.parametrize("varlen", [True, False], ids=["varlen", "padded"])
@pytest.mark.parametrize("batch", BATCHES)
def test_outputs_and_gradients_are_those_of_the_loops(batch: str, varlen: bool, flags: dict[str, Any]) -> None:
    inputs = ragged_batch(**BATCHES[batch])
    ours, loops = (tiny_model(XmodForMaskedLM, "sdpa", **flags, **STILL).train() for _ in range(2))
    labels = inputs["input_ids"]
    with as_on_a_gpu(varlen=varlen) as calls:
        found = ours(**inputs, labels=labels)
    expected = loops(**inputs, labels=labels)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found.logits[real], expected.logits[real], atol=1e-5, rtol=1e-5)
    found.loss.backward()
    expected.loss.backward()
    assert_same_gradients(ours, loops)
    one_call = varlen and batch not in ("one token", "one length")  # which are a single run
    assert calls["attention"] == (2 if one_call else 0)  # one for each layer
    assert calls["padded"] == (0 if one_call else 2)
    assert calls["grouped"] == (0 if batch in ("one token", "one language") else 4)


@grouped
@pytest.mark.parametrize("batch", BATCHES)
def test_bfloat16_differs_from_the_loops_by_rounding_only(batch: str) -> None:
    inputs = ragged_batch(**BATCHES[batch])
    exact = tiny_model(XmodModel, "sdpa")(**inputs).last_hidden_state
    plain = tiny_model(XmodModel, "sdpa").to(torch.bfloat16)
    with as_on_a_gpu():
        found = plain(**inputs).last_hidden_state
    assert found.dtype == torch.bfloat16
    loops = plain(**inputs).last_hidden_state
    rounding = (loops - exact).abs().max()
    assert (found - exact).abs().max() <= 2 * rounding + 1e-6


@grouped
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_decides_the_type(dtype: torch.dtype) -> None:
    inputs = ragged_batch()
    ours, loops = (tiny_model(XmodForMaskedLM, "sdpa", **STILL).train() for _ in range(2))
    for each in (ours, loops):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            if each is ours:
                with as_on_a_gpu() as calls:
                    made = each(**inputs, labels=labels_like(inputs, 99))
                assert calls["grouped"] == 4
            else:
                made = each(**inputs, labels=labels_like(inputs, 99))
        made.loss.backward()
    wanted = {name: each.grad for name, each in loops.named_parameters() if each.grad is not None}
    found = {name: each.grad for name, each in ours.named_parameters() if each.grad is not None}
    assert wanted.keys() == found.keys()
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert found[name].dtype == torch.float32
        apart = float((found[name] - gradient).abs().max())
        assert apart <= (1e-5 if dtype == torch.float32 else 0.02) * largest, name


@grouped
def test_a_decoder_looks_back_only() -> None:
    inputs = ragged_batch()
    decoder = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True)
    expected = decoder(**inputs, use_cache=False).logits
    for varlen in (True, False):
        with as_on_a_gpu(varlen=varlen):
            found = decoder(**inputs, use_cache=False).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@grouped
def test_the_last_layer_continues_with_labelled_tokens() -> None:
    inputs = ragged_batch(languages="tokens")
    labels = labels_like(inputs, 99).masked_fill(torch.arange(9) % 3 > 0, -100)
    ours, loops = (tiny_model(XmodForMaskedLM, "sdpa", **STILL).train() for _ in range(2))
    with as_on_a_gpu() as calls:
        ours(**inputs, labels=labels, sparse_prediction=True).loss.backward()
    loops(**inputs, labels=labels, sparse_prediction=True).loss.backward()
    assert calls["grouped"] == 4
    assert_same_gradients(ours, loops)


@grouped
def test_absent_and_frozen_languages_get_no_gradient() -> None:
    network = tiny_model(XmodForMaskedLM, "sdpa", languages=CODES[:5]).train()
    inputs = ragged_batch((3, 4, 5))
    inputs["lang_ids"] = torch.tensor([0, 1, 3])
    network.roberta.encoder.layer[0].output.adapter_modules[CODES[1]].requires_grad_(False)
    with as_on_a_gpu():
        network(**inputs, labels=labels_like(inputs, 99)).loss.backward()
    for index, layer in enumerate(network.roberta.encoder.layer):
        for code, adapter in layer.output.adapter_modules.items():
            there = code in (CODES[0], CODES[3]) or (code == CODES[1] and index == 1)
            assert all((parameter.grad is not None) == there for parameter in adapter.parameters()), (index, code)


@grouped
def test_attention_weights_are_dropped_in_training() -> None:
    """By the padded form, as the kernel for several lengths has no dropout."""
    network = tiny_model(XmodModel, "sdpa", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train()
    inputs = ragged_batch()
    with as_on_a_gpu() as calls:
        first, second = (network(**inputs).last_hidden_state for _ in range(2))
        assert calls["attention"] == 0
        assert calls["padded"] == 4
        assert not torch.allclose(first, second)
        network.eval()(**inputs)
        assert calls["attention"] == 2


@grouped
@pytest.mark.parametrize("where", ["hook", "lora", "activation"])
def test_what_wraps_an_adapter_takes_effect(where: str) -> None:
    inputs = ragged_batch()
    network = tiny_model(XmodModel, "sdpa", hidden_act="prelu" if where == "activation" else "gelu")
    adapter = network.encoder.layer[0].output.adapter_modules["de_DE"]
    if where == "hook":
        adapter.dense1.register_forward_hook(lambda module, given, output: output * 2)
    elif where == "lora":
        adapter.dense2 = nn.Sequential(adapter.dense2, nn.Tanh())
    else:
        nn.init.constant_(adapter.activation.weight, 3.0)
    expected = network(**inputs).last_hidden_state
    with as_on_a_gpu():
        torch.testing.assert_close(network(**inputs).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


@grouped
def test_every_change_of_a_weight_is_seen_at_once() -> None:
    """No copy of the weights outlives a product: nothing can be forgotten to be made anew."""
    network = tiny_model(XmodModel, "sdpa")
    inputs = ragged_batch()

    def check() -> Tensor:
        with as_on_a_gpu() as calls:
            found = network(**inputs).last_hidden_state
        assert calls["grouped"] == 4
        torch.testing.assert_close(found, network(**inputs).last_hidden_state, atol=1e-5, rtol=1e-5)
        return found.detach().clone()

    seen = [check()]
    weight = network.encoder.layer[0].output.adapter_modules["de_DE"].dense1.weight
    with torch.no_grad():
        weight.mul_(2)
    seen.append(check())
    weight.data[0] += 1  # which no counter of versions notices
    seen.append(check())
    network.load_state_dict({name: 0.9 * value for name, value in network.state_dict().items()})
    seen.append(check())
    network.add_language("fi_FI", init_from="de_DE")
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    with as_on_a_gpu():
        network(**inputs).last_hidden_state.square().mean().backward()
    optimizer.step()
    network.eval()
    seen.append(check())
    assert all(not torch.allclose(one, other) for one, other in itertools.pairwise(seen))


@grouped
def test_the_gradient_of_a_grouped_layer_is_right_to_the_second_order() -> None:
    """And for a gradient that is no tensor of its own, as that of a sum."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(11, 8, generator=generator, requires_grad=True)
    parameters = [torch.randn(*shape, generator=generator, requires_grad=True) for shape in [(16, 8)] * 3 + [(16,)] * 3]
    sizes = [4, 0, 7]
    groups = Routes(tuple(enumerate(sizes))).grouped(states.device, states.dtype).groups
    assert groups is not None

    def ours() -> Tensor:
        return kernels.grouped_linear(states, groups.ends, groups.owners, parameters[:3], parameters[3:])

    def plain() -> Tensor:
        parts = states.split(sizes)
        return torch.cat([F.linear(part, parameters[g], parameters[3 + g]) for g, part in enumerate(parts)])

    torch.testing.assert_close(ours(), plain(), atol=1e-6, rtol=1e-5)
    given = [states, *parameters]
    for loss in (lambda made: made.sum(), lambda made: made.pow(3).sum()):
        first = [torch.autograd.grad(loss(made()), given, create_graph=True) for made in (ours, plain)]
        torch.testing.assert_close(*first, atol=1e-4, rtol=1e-4)
    second = [
        torch.autograd.grad(sum(each.pow(2).sum() for each in found), given, allow_unused=True) for found in first
    ]
    torch.testing.assert_close(*second, atol=1e-2, rtol=1e-3)


class Calls(TorchDispatchMode):
    """Counts what a device is called for, and fails where the host would wait for it."""

    WAITING = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "item", "equal")
    FREE = ("empty", "detach", "lift", "alias", "_unsafe_view")  # nothing is launched

    def __init__(self) -> None:
        super().__init__()
        self.count, self.names = 0, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        flat = [each for arg in args for each in (arg if isinstance(arg, list | tuple) else [arg])]
        given = [each for each in flat if isinstance(each, Tensor) and each.device.type == "meta"]
        if given:
            assert not name.startswith(self.WAITING), name
            by = args[1] if name.startswith("index") and isinstance(args[1], list) else []
            assert not any(each is not None and each.dtype == torch.bool for each in by), name
            assert torch.device("cpu") not in (kwargs or {}).values(), name
        if not func.is_view and not name.startswith(self.FREE) and "empty" not in name:
            self.count += 1
            self.names.append(name)
        return func(*args, **(kwargs or {}))


class AttentionIsOne(TorchFunctionMode):
    """On the meta device attention has no kernel, and falls into parts."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.calls.count
        made = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.calls.count = before + 1
        return made


def on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if is_dataclass(value):
        return replace(value, **{field.name: on_meta(getattr(value, field.name)) for field in fields(value)})
    return value


def layer_calls(languages: int, *, gpu: bool, train: bool, per_token: bool) -> int:
    """Calls of a layer's forward pass for 20 ragged sequences in so many languages; the backward pass runs too."""
    dropout = {} if train else STILL
    network = tiny_model(XmodModel, "sdpa", languages=CODES, **dropout).train(train).to("meta", torch.bfloat16)
    rows, length = 20, 12
    mask = (torch.arange(length) < 1 + torch.arange(rows)[:, None] % length).long()
    ids = torch.arange(rows) % languages
    ids = (ids[:, None] + torch.arange(length)) % languages if per_token else ids
    plan = on_meta(make_plan(ids, mask, rows, length, CODES, pack=True))
    batch = {"input_ids": torch.ones(rows, length).long(), "attention_mask": mask, "lang_ids": ids}
    counts: list[int] = []
    with pytest.MonkeyPatch.context() as patch, Calls() as calls, AttentionIsOne(calls):
        patch.setattr(model, "make_plan", lambda *args, **kwargs: plan)
        if gpu:
            patch.setattr(kernels, "calls_cost", lambda device: True)
            patch.setattr(kernels, "capability", lambda device: (9, 0))
        layer = network.encoder.layer[0]
        layer.register_forward_pre_hook(lambda *_: counts.append(calls.count))
        layer.register_forward_hook(lambda *_: counts.append(calls.count))
        made = network(**{name: value.to("meta") for name, value in batch.items()}).last_hidden_state
        if train:
            made.sum().backward()
    return counts[1] - counts[0]


@grouped
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("per_token", [False, True])
def test_the_number_of_calls_does_not_depend_on_the_number_of_languages(train: bool, per_token: bool) -> None:
    few, many = (layer_calls(n, gpu=True, train=train, per_token=per_token) for n in (4, 20))
    assert few == many <= 40
    loops = [layer_calls(n, gpu=False, train=train, per_token=per_token) for n in (4, 20)]
    assert loops[1] > loops[0] > few


@pytest.mark.parametrize("cls", [XmodModel, XmodForMaskedLM, XmodForSequenceClassification])
@pytest.mark.parametrize("per_token", [False, True])
def test_what_a_gpu_records_has_sizes_that_do_not_depend_on_data(cls: Any, per_token: bool) -> None:
    """Of the whole forward pass, with the plan: tensors without values are enough. And it is right."""
    inputs = ragged_batch(languages="tokens" if per_token else "interleaved")
    network = tiny_model(cls, "sdpa")
    expected = network(**inputs)[0]
    real = inputs["attention_mask"].bool() if expected.dim() == 3 else ...
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with torch.no_grad():
            torch.testing.assert_close(network(**inputs)[0][real], expected[real], atol=1e-5, rtol=1e-5)
        with Calls(), torch.no_grad():
            made = network.to("meta")(**{name: value.to("meta") for name, value in inputs.items()})[0]
    assert made.shape == expected.shape


gpu = pytest.mark.skipif(
    kernels.capability(torch.device("cuda", 0)) < (8, 0) if torch.cuda.is_available() else True,
    reason="needs a GPU of compute capability 8.0 or later",
)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("train", [False, True])
def test_on_a_gpu_it_is_as_on_the_cpu_and_no_layer_waits(dtype: torch.dtype, train: bool) -> None:
    inputs = ragged_batch((3, 9, 5, 7, 2, 8), languages="interleaved", num_languages=6)
    network = tiny_model(XmodForMaskedLM, "sdpa", languages=CODES[:6], **STILL).train(train)
    expected = network(**inputs).logits[inputs["attention_mask"].bool()]
    network = network.to("cuda", dtype)
    encoder = network.roberta.encoder
    encoder.register_forward_pre_hook(lambda *_: torch.cuda.set_sync_debug_mode("error"))
    encoder.register_forward_hook(lambda *_: torch.cuda.set_sync_debug_mode("default"))
    try:
        made = network(**{name: value.cuda() for name, value in inputs.items()})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = made.logits.float().cpu()[inputs["attention_mask"].bool()]
    torch.testing.assert_close(found, expected, atol=1e-4 if dtype == torch.float32 else 0.3, rtol=1e-2)
    if train:
        made.logits.float().square().mean().backward()
