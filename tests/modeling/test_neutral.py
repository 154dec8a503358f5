"""Adapters that add nothing, as `upcycle` makes them: not computed, and nobody can tell but by the time."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support import BASE_FLAGS, LARGE_FLAGS, ragged_batch, tiny_model
from xmodular import XmodModel
from xmodular.exporting.graphs import capture
from xmodular.modeling.adapters import Adapters, XmodAdapter

FLAGS = {
    "base": BASE_FLAGS,
    "large": LARGE_FLAGS,
    "post-norm, residual before": {"ln_before_adapter": False},
    "no norm": {"adapter_reuse_layer_norm": False, "ln_before_adapter": False},
}


def neutral_model(neutral: tuple[str, ...] = ("en_XX", "de_DE", "sw_KE"), **over: Any) -> Any:
    model = tiny_model(XmodModel, **over)
    with torch.no_grad():
        for adapter in adapters_of(model, *neutral):
            adapter.dense2.weight.zero_()
            adapter.dense2.bias.zero_()
    return model.requires_grad_(False)


def adapters_of(model: nn.Module, *codes: str) -> list[XmodAdapter]:
    return [module for name, module in model.named_modules() if name.endswith(codes) and type(module) is XmodAdapter]


def computed(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The states with all adapters computed: a hook that does nothing keeps them from being passed over."""
    handles = [each.dense1.register_forward_hook(lambda *given: None) for each in adapters_of(model, *model.languages)]
    states = model(**batch).last_hidden_state
    for handle in handles:
        handle.remove()
    return states


def products(model: Any, batch: dict[str, Tensor]) -> int:
    """How many matrix products a pass takes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model(**batch)
    return sum(event.count for event in profile.key_averages() if event.key in ("aten::addmm", "aten::linear"))


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("layout", ["packed", "tokens", "grid"])
@pytest.mark.parametrize("neutral", [("en_XX", "de_DE", "sw_KE"), ("en_XX", "sw_KE"), ("de_DE",)], ids=len)
def test_the_states_are_the_same_bits(flags: str, layout: str, neutral: tuple[str, ...]) -> None:
    model = neutral_model(neutral, **FLAGS[flags])
    batch = ragged_batch(languages="tokens" if layout == "tokens" else "interleaved")
    if layout == "grid":
        mask = batch["attention_mask"]
        batch["attention_mask"] = mask[:, None, :] * mask[:, :, None]
    states = model(**batch).last_hidden_state
    assert torch.equal(states, computed(model, batch))


def test_they_take_no_products() -> None:
    model, batch = neutral_model(), ragged_batch()
    dense = neutral_model()
    for adapter in adapters_of(dense, *dense.languages):
        adapter._adds_something = True
    assert products(model, batch) < products(dense, batch)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_weights_that_change_are_noticed(part: str) -> None:
    model, batch = neutral_model(), ragged_batch()
    before = model(**batch).last_hidden_state
    getattr(adapters_of(model, "de_DE")[-1].dense2, part).data.flatten()[-1] = 5.0  # no version counter sees this
    after = model(**batch).last_hidden_state
    assert not torch.allclose(before, after)
    assert torch.equal(after, computed(model, batch))


def test_adapters_pickled_by_an_earlier_version_are_read() -> None:
    assert not vars(adapters_of(neutral_model(), "de_DE")[0]).keys() & {"_adds_something", "_left_out"}


def test_weights_that_are_not_numbers_are_no_zeros() -> None:
    model = neutral_model()
    adapters_of(model, "de_DE")[0].dense2.weight.data[1, 1] = float("nan")
    assert model(**ragged_batch()).last_hidden_state.isnan().any()


@pytest.mark.parametrize("where", ["adapters", "adapter", "dense2"])
def test_hooks_have_their_say(where: str) -> None:
    model, batch = neutral_model(), ragged_batch()
    before = model(**batch).last_hidden_state
    adapters = model.encoder.layer[0].output.adapter_modules
    module = {"adapters": adapters, "adapter": adapters["de_DE"], "dense2": adapters["de_DE"].dense2}[where]
    module.register_forward_hook(lambda module, given, output: output + 1)
    assert not torch.allclose(before, model(**batch).last_hidden_state)


def test_adapters_that_learn_get_gradients() -> None:
    model = neutral_model()
    (adapter,) = adapters_of(model.encoder.layer[1], "de_DE")
    adapter.requires_grad_(True)
    model(**ragged_batch()).last_hidden_state.square().sum().backward()
    assert adapter.dense2.weight.grad is not None
    assert adapter.dense2.weight.grad.abs().max() > 0


@pytest.mark.parametrize("flags", FLAGS)
def test_gradients_of_the_rest_are_the_same(flags: str) -> None:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    found = []
    for seen in (False, True):
        model = neutral_model(**FLAGS[flags], **still).train()
        for adapter in adapters_of(model, *model.languages):
            adapter._adds_something = seen
        model.embeddings.word_embeddings.weight.requires_grad_(True)
        model.encoder.layer[0].intermediate.dense.weight.requires_grad_(True)
        model(**ragged_batch()).last_hidden_state.square().sum().backward()
        found.append([each.grad for each in model.parameters() if each.requires_grad])
    for skipped, whole in zip(*found, strict=True):
        torch.testing.assert_close(skipped, whole)


@pytest.mark.parametrize("languages", [("de_DE",), ("en_XX", "de_DE", "sw_KE")], ids=len)
@pytest.mark.parametrize("flags", ["base", "large"])
def test_graphs_leave_them_out(flags: str, languages: tuple[str, ...]) -> None:
    model = neutral_model(languages, languages=list(languages), num_hidden_layers=3, type_vocab_size=1, **FLAGS[flags])
    batch = ragged_batch(num_languages=len(languages), languages="interleaved" if len(languages) > 1 else "single")
    if len(languages) == 1:
        del batch["lang_ids"]
    program = capture(model)
    with torch.no_grad():
        expected = model(**batch, return_dict=False)
    for found, wanted in zip(program.module()(**batch), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    nodes = {node.name: node for node in program.graph.nodes}
    used = [str(each.target) for each in program.graph_signature.input_specs if nodes[each.arg.name].users]
    layers = {name.split("layer.")[1][0] for name in used if "adapter_modules" in name}
    assert layers == (set() if len(languages) == 1 else {"0"})
    if len(languages) > 1:
        with pytest.raises((IndexError, RuntimeError)):
            program.module()(**batch | {"lang_ids": torch.full((4,), len(languages))})
    assert not any(module._left_out for module in model.modules() if isinstance(module, Adapters))


def test_graphs_keep_what_adds_something() -> None:
    model = neutral_model(("en_XX", "sw_KE"), type_vocab_size=1)
    batch = ragged_batch()
    with torch.no_grad():
        expected = model(**batch, return_dict=False)[0]
    torch.testing.assert_close(capture(model).module()(**batch)[0], expected, atol=1e-5, rtol=0)
