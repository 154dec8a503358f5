"""Products by oneDNN, against torch's own: values, gradients, and when they must not be used."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.activations import ACT2FN

from tests.support import labels_like, ragged_batch, tiny_model
from xmodular import XmodForMaskedLM
from xmodular.modeling import encoder, products
from xmodular.modeling.lm import chunked_cross_entropy

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
ROWS = (1, 8, 9, 16, 17, 127, 128, 129, 140, 256, 300, 1024, 1030, 1300)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call, on any processor and for any work."""
    seen: list[int] = []
    real = products._onednn

    def counted(rows: Tensor, *more: Any) -> Tensor:
        seen.append(len(rows))
        return real(rows, *more)

    monkeypatch.setattr(products, "faster", lambda: True)
    monkeypatch.setattr(products, "_onednn", counted)
    monkeypatch.setattr(products, "WORK", 0)
    return seen


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("inputs", "outputs"), [(24, 40), (40, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_are_those_of_a_linear_layer(rows: int, inputs: int, outputs: int, bias: bool, calls: list[int]) -> None:
    states, weight = drawn(rows, inputs), drawn(outputs, inputs, seed=1)
    added = drawn(outputs, seed=2) if bias else None
    expected = F.linear(states, weight, added)
    torch.testing.assert_close(products.product(states, weight, added), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(products.product(states, weight, added, gelu=True), F.gelu(expected), atol=1e-4, rtol=0)
    assert bool(calls) == (rows > 8)
    assert all(each % (16 if each < 128 else 128) == 0 and each <= 1024 for each in calls)  # few programs


@pytest.mark.parametrize("rows", ROWS)
def test_gradients_are_those_of_a_linear_layer(rows: int, calls: list[int]) -> None:
    found = []
    for function in (products.product, F.linear):
        given = [drawn(2, rows, 24), drawn(40, 24, seed=1), drawn(40, seed=2)]
        for each in given:
            each.requires_grad_(True)
        output = function(*given)
        output.backward(drawn(*output.shape, seed=3))
        found.append([output.detach(), *(each.grad for each in given)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    assert bool(calls) == (rows > 4)


def test_only_the_gradients_that_are_needed_are_computed(calls: list[int]) -> None:
    states, weight = drawn(64, 24).requires_grad_(True), drawn(40, 24, seed=1)
    products.product(states, weight).sum().backward()
    assert len(calls) == 2
    assert weight.grad is None


def test_gradients_of_gradients() -> None:
    given, found = (drawn(32, 4), drawn(5, 4, seed=1)), []
    for function in (products.product, F.linear):
        one, other = (each.clone().requires_grad_(True) for each in given)
        (gradient,) = torch.autograd.grad(function(one, other).pow(3).sum(), one, create_graph=True)
        gradient.square().sum().backward()
        found.append((one.grad, other.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-4)


def test_what_a_frozen_weight_does_not_need_is_not_kept() -> None:
    states, weight, kept = drawn(64, 24).requires_grad_(True), drawn(40, 24, seed=1), []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.shape), lambda each: each):
        products.product(states, weight, drawn(40, seed=2).requires_grad_(True))
    assert kept == [weight.shape]


def test_backward_passes_are_counted_and_batched_as_torchs(calls: list[int]) -> None:
    given = [drawn(64, 24).requires_grad_(True), drawn(40, 24, seed=1).requires_grad_(True)]
    output = products.product(*given)
    before = len(calls)
    with FlopCounterMode(display=False) as counter:
        output.sum().backward(retain_graph=True)
    assert counter.get_total_flops() == 2 * 2 * 64 * 24 * 40
    several = drawn(3, 64, 40)
    batched = torch.autograd.grad(output, given, several, is_grads_batched=True, retain_graph=True)
    assert len(calls) == before
    for place, one in enumerate(several):
        for ours, theirs in zip(batched, torch.autograd.grad(output, given, one, retain_graph=True), strict=True):
            torch.testing.assert_close(ours[place], theirs, atol=1e-3, rtol=0)


def test_numbers_of_rows_need_few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = set(), products._onednn
    monkeypatch.setattr(products, "_onednn", lambda a, b, *more: (seen.add((a.shape, b.shape)), real(a, b, *more))[1])
    weight, bias = drawn(40, 24).requires_grad_(True), drawn(40).requires_grad_(True)
    for rows in range(1, 600, 7):
        states = drawn(rows, 24).requires_grad_(True)
        products.product(states, weight, bias).sum().backward()
        labels, divisor = torch.zeros(rows, dtype=torch.long), torch.tensor(1.0)
        chunked_cross_entropy(states, weight, bias, labels, divisor).backward()
    assert 0 < len(seen) < 60


def with_autocast(states: Tensor, layer: nn.Linear) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return products.linear(layer, states)


def with_a_mode(states: Tensor, layer: nn.Linear) -> Tensor:
    with FlopCounterMode(display=False) as counter:
        made = products.linear(layer, states)
    assert counter.get_total_flops() == 2 * states.numel() * layer.out_features
    return made


def with_functorch(states: Tensor, layer: nn.Linear) -> Tensor:
    return torch.func.vmap(lambda row: products.linear(layer, row))(states[None])[0]


def with_functorch_elsewhere(states: Tensor, layer: nn.Linear) -> Tensor:
    def loss(factor: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            made = products.linear(layer, states)
        return (factor * made).sum(), made

    return torch.func.grad(loss, has_aux=True)(torch.ones(()))[1].detach()


def with_dual_numbers(states: Tensor, layer: nn.Linear) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(products.linear(layer, forward_ad.make_dual(states, states))).primal


def without_onednn(states: Tensor, layer: nn.Linear) -> Tensor:
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags warns of other settings
    try:
        return products.linear(layer, states)
    finally:
        torch._C._set_mkldnn_enabled(True)


@pytest.mark.parametrize(
    "way",
    [with_autocast, with_a_mode, with_functorch, with_functorch_elsewhere, with_dual_numbers, without_onednn],
    ids=lambda way: way.__name__,
)
def test_what_oneDNN_cannot_do_is_torchs(way: Any, calls: list[int]) -> None:
    torch.manual_seed(0)
    layer, states = nn.Linear(24, 40), drawn(64, 24)
    with torch.no_grad():
        made = way(states, layer)
        torch.testing.assert_close(
            made.float(), layer(states), atol=2e-2 if made.dtype == torch.bfloat16 else 0, rtol=0
        )
    assert not calls


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("kind", ["strided bias", "expanded bias", "bias of one number", "sparse weight"])
def test_tensors_that_oneDNN_cannot_read_are_torchs(kind: str, calls: list[int]) -> None:
    states, weight = drawn(64, 24), drawn(40, 24, seed=1)
    one = drawn(1, seed=2)
    biases = {"strided bias": drawn(80, seed=2)[::2], "expanded bias": one.expand(40), "bias of one number": one}
    weight = weight.to_sparse_csr() if kind == "sparse weight" else weight
    made = products.product(states, weight, biases.get(kind))
    torch.testing.assert_close(made, F.linear(states, weight, biases.get(kind)), atol=1e-5, rtol=0)
    assert not calls


def test_sizes_that_do_not_match_are_refused_in_torchs_words() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        products.product(drawn(64, 24), drawn(40, 25))


@pytest.mark.parametrize("rows", [4, 64], ids=["small example", "large example"])
def test_graphs_are_for_any_number_of_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(24, 40)

        def forward(self, states: Tensor) -> Tensor:
            return products.linear(self.layer, states)

    monkeypatch.setattr(products, "WORK", 20 * 24 * 40)
    model = Model().eval()
    program = torch.export.export(model, (drawn(rows, 24),), dynamic_shapes=({0: torch.export.Dim("rows")},))
    for other in (2, 100):
        torch.testing.assert_close(program.module()(drawn(other, 24)), model(drawn(other, 24)), atol=1e-5, rtol=0)


def test_hooks_and_other_layers_are_called(calls: list[int]) -> None:
    layer = nn.Linear(24, 40)
    layer.register_forward_hook(lambda module, given, output: output * 0)
    assert not products.linear(layer, drawn(64, 24)).any()
    around: Any = nn.Sequential(layer)  # has no `out_features`
    assert not products.linear(around, drawn(64, 24)).any()
    assert not calls


@pytest.mark.parametrize("name", ["gelu", "relu", "gelu_new", "silu"])
@pytest.mark.parametrize("learns", [True, False])
def test_activations(name: str, learns: bool) -> None:
    torch.manual_seed(0)
    layer, states, activation = nn.Linear(24, 40), 3 * drawn(64, 24), ACT2FN[name]
    with torch.set_grad_enabled(learns):
        made = products.linear(layer, states, activation)
    torch.testing.assert_close(made, activation(layer(states)), atol=1e-5, rtol=0)
    assert made.requires_grad == learns


def test_a_model_and_its_gradients(monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    monkeypatch.setattr(encoder, "CHUNK_ROWS", 16)
    model = tiny_model(XmodForMaskedLM, "sdpa", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    batch = ragged_batch((7, 3, 9, 5, 30, 31, 12))
    batch["labels"] = labels_like(batch, 99)
    found, counts = [], []
    for fast in (True, False):
        monkeypatch.setattr(products, "faster", lambda fast=fast: fast)
        model.zero_grad()
        output = model(**batch)
        output.loss.backward()
        with torch.no_grad():
            states = model(**batch, output_hidden_states=True).hidden_states[-1]
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        found.append([output.loss.detach(), states, *gradients])
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [*range(1, 40), 127, 128, 129, 1023, 1024, 1025, 2047, 5000])
def test_sizes_cover_all_rows(rows: int) -> None:
    assert sum(products.sizes(rows)) == rows
    assert all(each > 0 for each in products.sizes(rows))


@pytest.mark.parametrize(
    ("told", "family"),
    [
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n\nprocessor", 26),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\n", 0),
        ("", 0),
    ],
)
def test_the_processor(told: str, family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.Path, "read_text", lambda *args, **more: told)
    assert products._family() == family


def test_a_processor_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **more: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(products.Path, "read_text", missing)
    monkeypatch.setattr(products.platform, "processor", lambda: "AMD64 Family 26 Model 2 Stepping 1, AuthenticAMD")
    assert products._family() == 26
