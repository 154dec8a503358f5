"""Compiled, exported, traced: one graph for all sizes, languages and masks, with whatever wraps the layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from tests.support import LARGE_FLAGS, ragged_batch, tiny_model
from xmodular import (
    XmodForMaskedLM,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
    XmodModel,
)
from xmodular.errors import ConfigurationError
from xmodular.modeling.routing import Routes

TOKENS = (torch.arange(36) % 3).view(4, 9)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("cls", [XmodModel, XmodForMaskedLM, XmodForSequenceClassification])
@pytest.mark.parametrize("languages", ["default", "sequences", "tokens"])
def test_a_traced_model_equals_the_model(cls: Any, languages: str) -> None:
    model = tiny_model(cls, "sdpa", default_language="sw_KE")
    batch = ragged_batch()
    if languages == "default":
        del batch["lang_ids"]
    elif languages == "tokens":
        batch["lang_ids"] = TOKENS
    traced = torch.compile(model, backend="eager", fullgraph=True)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        ours, theirs = model(**batch)[0], traced(**batch)[0]
    if ours.dim() == 3:
        ours, theirs = ours[real], theirs[real]
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("wrong", [3, -1])
@pytest.mark.parametrize("per_token", [False, True])
def test_a_traced_model_refuses_ids_out_of_range(wrong: int, per_token: bool) -> None:
    traced = torch.compile(tiny_model(XmodModel, "sdpa"), backend="eager", fullgraph=True)
    batch = ragged_batch()
    ids = TOKENS.clone() if per_token else batch["lang_ids"].clone()
    ids.view(-1)[0] = wrong
    with torch.no_grad(), pytest.raises(IndexError):
        traced(**{**batch, "lang_ids": ids})


def test_export_keeps_the_language_as_an_input() -> None:
    model = tiny_model(XmodModel, "sdpa")
    batch = ragged_batch()
    exported = torch.export.export(model, (), dict(batch)).module()
    other = {**batch, "lang_ids": (batch["lang_ids"] + 1) % 3}
    real = batch["attention_mask"].bool()
    for inputs in (batch, other):
        torch.testing.assert_close(exported(**inputs)[0][real], model(**inputs)[0][real], atol=1e-5, rtol=0)


# Sizes, languages and places of padding that one graph must serve; the last has more tokens than a chunk.
SHAPES: list[dict[str, Any]] = [
    {"lengths": (7, 3, 9, 5)},
    {"lengths": (4, 11), "side": "left"},
    {"lengths": (6, 6, 6), "languages": "single"},
    {"lengths": (2, 13, 5, 5, 1)},
    {"lengths": (38,) * 27 + (3,), "side": "left"},
]


def assert_equal_everywhere(traced: Any, model: Any, *, per_token: bool = False) -> None:
    """Equal to the model at real tokens, whatever the sizes, the languages and the mask."""
    for shape in SHAPES:
        batch = ragged_batch(**(shape | {"languages": "tokens"} if per_token else shape))
        with torch.no_grad():
            theirs, ours = traced(**batch), model(**batch)
        theirs, ours = (each if isinstance(each, Tensor) else each[0] for each in (theirs, ours))
        if ours.dim() == 3:
            real = batch["attention_mask"].bool()
            assert not theirs[~real].any() or ours[~real].any()  # zeros where the model has zeros
            theirs, ours = theirs[real], ours[real]
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def exported(model: Any, *, per_token: bool = False) -> Any:
    """One program for any batch and any length."""
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=38)
    both = {0: batch, 1: length}
    shapes = {"input_ids": both, "attention_mask": both, "lang_ids": both if per_token else {0: batch}}
    example = ragged_batch(languages="tokens" if per_token else "interleaved")
    return torch.export.export(model, (), dict(example), dynamic_shapes=shapes).module()


def by_name(traced: Any) -> Callable[..., Any]:
    return lambda input_ids, attention_mask, lang_ids: traced(input_ids, lang_ids, attention_mask)


def jit_traced(model: Any, *, per_token: bool = False) -> Callable[..., Any]:
    """What torch.jit.trace makes of one batch."""
    example = ragged_batch(languages="tokens" if per_token else "interleaved")
    model.config.return_dict = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and warns of every size that is read
        traced = torch.jit.trace(model, (example["input_ids"], example["lang_ids"], example["attention_mask"]))
    return by_name(traced)


@pytest.mark.parametrize(("cls", "per_token"), [(XmodModel, False), (XmodForMaskedLM, True)])
def test_one_compiled_graph_serves_all_sizes_languages_and_masks(cls: Any, per_token: bool) -> None:
    model, graphs = tiny_model(cls, "sdpa", num_hidden_layers=1), CompileCounter()
    compiled = torch.compile(model, backend=graphs, dynamic=True)
    assert_equal_everywhere(compiled, model, per_token=per_token)
    assert graphs.frame_count == 1


@pytest.mark.parametrize(
    ("cls", "attention", "per_token"),
    [(XmodModel, "eager", False), (XmodForMaskedLM, "sdpa", True), (XmodForTokenClassification, "sdpa", False)],
)
def test_one_exported_program_serves_them_too(cls: Any, attention: str, per_token: bool) -> None:
    model = tiny_model(cls, attention, chunk_size_feed_forward=5, num_hidden_layers=1)
    assert_equal_everywhere(exported(model, per_token=per_token), model, per_token=per_token)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize(
    ("cls", "flags"),
    [(XmodModel, {}), (XmodForMaskedLM, LARGE_FLAGS), (XmodForQuestionAnswering, {})],
)
def test_one_trace_serves_them_too(cls: Any, flags: dict[str, Any], per_token: bool) -> None:
    model = tiny_model(cls, "sdpa", chunk_size_feed_forward=5, **flags)
    assert_equal_everywhere(jit_traced(model, per_token=per_token), model, per_token=per_token)


def test_choices_are_traced_for_any_number_of_questions() -> None:
    model = tiny_model(XmodForMultipleChoice, "sdpa", return_dict=False)

    def questions(count: int) -> tuple[Tensor, ...]:
        rows = ragged_batch([3 + row % 5 for row in range(2 * count - 1)] + [2 + count])
        ids, mask = (rows[name].unflatten(0, (count, 2)) for name in ("input_ids", "attention_mask"))
        return ids, torch.arange(count) % 3, torch.zeros_like(ids), mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, questions(3))
    for count in (1, 2, 5):
        torch.testing.assert_close(traced(*questions(count))[0], model(*questions(count))[0], atol=1e-5, rtol=0)


def test_the_older_onnx_exporter_keeps_mask_and_languages_as_inputs(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = tiny_model(XmodForMaskedLM, "sdpa", return_dict=False)
    example = ragged_batch()
    names = ["input_ids", "lang_ids", "attention_mask"]
    both = {0: "batch", 1: "length"}
    axes = {"input_ids": both, "attention_mask": both, "lang_ids": {0: "batch"}, "logits": both}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(example[name] for name in names),
            str(tmp_path / "model.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))

    def run(**batch: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})[0])

    assert_equal_everywhere(run, model)
    with pytest.raises(Exception, match=r"(?i)indices|out of"):
        run(**{**example, "lang_ids": torch.tensor([0, -1, 2, 1])})


def test_where_the_graph_breaks_the_mask_still_holds() -> None:
    """The forward pass then runs outside a graph, and what it calls inside: one decision for both."""
    model = tiny_model(XmodModel, "sdpa", num_hidden_layers=1)

    class Break(nn.Module):
        def forward(self, states: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return states

    model.embeddings.dropout = Break()
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", dynamic=True)
        assert_equal_everywhere(compiled, model)


@pytest.mark.slow
def test_a_default_language_has_a_graph_of_its_own_and_ids_share_one() -> None:
    codes = ["en_XX", "de_DE", "sw_KE"]
    model, graphs = tiny_model(XmodModel, "sdpa", languages=codes, num_hidden_layers=1), CompileCounter()
    compiled = torch.compile(model, backend=graphs, dynamic=True)
    batch = ragged_batch()
    del batch["lang_ids"]
    real = batch["attention_mask"].bool()
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=2):
        for code in codes:  # more than torch compiles: the rest runs uncompiled, and is right
            with model.language(code):
                torch.testing.assert_close(compiled(**batch)[0][real], model(**batch)[0][real], atol=1e-5, rtol=0)
        torch._dynamo.reset()
        graphs = CompileCounter()
        compiled = torch.compile(model, backend=graphs, dynamic=True)
        for code in codes:
            ids = model.lang_ids(code)
            found, expected = compiled(**batch, lang_ids=ids)[0], model(**batch, lang_ids=ids)[0]
            torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)
        assert graphs.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("cls", [XmodModel, XmodForMaskedLM])
def test_the_default_compiler_gives_the_same(cls: Any) -> None:
    model = tiny_model(cls, "sdpa")
    assert_equal_everywhere(torch.compile(model, dynamic=True), model)


@pytest.mark.slow
def test_compiled_wrapped_layers_take_effect() -> None:
    wrapped, plain = tiny_model(XmodModel, "sdpa"), tiny_model(XmodModel, "sdpa")
    wrap_linears(wrapped)
    merge_linears(plain)
    compiled = torch.compile(wrapped, backend="aot_eager", dynamic=True)
    assert_equal_everywhere(compiled, plain)
    assert_equal_everywhere(compiled, plain, per_token=True)


class LowRank(nn.Module):
    """A linear layer with a low-rank update beside it, as PEFT's LoRA wraps one."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        generator = torch.Generator().manual_seed(base_layer.in_features)
        self.down = nn.Parameter(torch.randn(base_layer.in_features, 2, generator=generator) / 4)
        self.up = nn.Parameter(torch.randn(2, base_layer.out_features, generator=generator) / 4)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base_layer.bias

    def forward(self, states: Tensor) -> Tensor:
        return self.base_layer(states) + states @ self.down @ self.up


def wrap_linears(model: Any) -> None:
    for parent in list(model.encoder.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and not isinstance(parent, LowRank):
                setattr(parent, name, LowRank(child))


def merge_linears(model: Any) -> None:
    """The same in plain linear layers: what the wrapped model has to equal."""
    for child in model.encoder.modules():
        if type(child) is nn.Linear:
            wrapped = LowRank(child)
            with torch.no_grad():
                child.weight += (wrapped.down @ wrapped.up).T


def assert_same_model(wrapped: Any, plain: Any) -> None:
    """Uncompiled and exported."""
    for program in (wrapped, exported(wrapped)):
        assert_equal_everywhere(program, plain)


def test_what_wraps_linear_layers_takes_effect() -> None:
    wrapped, plain = (tiny_model(XmodModel, "sdpa", num_hidden_layers=1) for _ in range(2))
    wrap_linears(wrapped)
    merge_linears(plain)
    assert_same_model(wrapped, plain)
    assert_equal_everywhere(jit_traced(wrapped, per_token=True), plain, per_token=True)


@pytest.mark.parametrize("where", ["dense1", "activation"])
def test_hooks_take_effect_wherever_they_are(where: str) -> None:
    """A hook that doubles what a layer of an adapter gives, or its activation, equals doubled weights."""
    hooked, plain = (tiny_model(XmodModel, "sdpa", hidden_act="relu", num_hidden_layers=1) for _ in range(2))
    adapter = hooked.encoder.layer[0].output.adapter_modules["sw_KE"]
    adapter.get_submodule(where).register_forward_hook(lambda module, args, output: output * 2)
    adapter = plain.encoder.layer[0].output.adapter_modules["sw_KE"]
    with torch.no_grad():
        adapter.dense1.weight *= 2
        adapter.dense1.bias *= 2
    assert_same_model(hooked, plain)


def test_backward_hooks_on_adapters_are_called_where_ids_choose_them() -> None:
    model = tiny_model(XmodModel, "sdpa", num_hidden_layers=1)
    adapters = model.encoder.layer[0].output.adapter_modules
    seen: list[int] = []
    adapters["sw_KE"].dense1.register_full_backward_hook(lambda module, given, grads: seen.append(grads[0].numel()))
    states = torch.randn(2, 3, 32, requires_grad=True)
    adapters(states, Routes(lang_ids=torch.tensor([2, 0]))).sum().backward()
    assert seen


def test_an_exported_model_looks_up_the_weights_of_one_adapter_for_each_row() -> None:
    """And does not run all of them over all tokens, which is for layers that something wraps."""
    model = tiny_model(XmodModel, "sdpa", num_hidden_layers=1)
    program = torch.export.export(model, (), dict(ragged_batch()))
    assert sum("baddbmm" in str(node.target) for node in program.graph.nodes) == 2


def test_activations_with_weights_of_their_own_are_each_adapters_own() -> None:
    model = tiny_model(XmodModel, "sdpa", hidden_act="prelu", num_hidden_layers=1)
    for layer in model.encoder.layer:
        for index, adapter in enumerate(layer.output.adapter_modules.values()):
            nn.init.constant_(adapter.activation.weight, 0.3 * index)
    assert_equal_everywhere(exported(model), model)


def test_quantised_layers_are_called() -> None:
    model = tiny_model(XmodModel, "sdpa", num_hidden_layers=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated in favour of torchao
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert type(quantised.encoder.layer[0].output.adapter_modules["sw_KE"].dense1) is not nn.Linear
    batch = ragged_batch()
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = model(**batch)[0][real]
        found = quantised(**batch)[0][real]
        traced = jit_traced(quantised)(**batch)[0][real]
    assert 0 < (found - expected).abs().max() < 0.5  # rounded, and near
    # A layer's rounding depends on what it is given together, so this is no more equal than the model is to itself.
    assert (traced - expected).abs().max() < 0.5


def test_relative_positions_call_their_table() -> None:
    model = tiny_model(XmodModel, "sdpa", position_embedding_type="relative_key_query")
    batch = ragged_batch()
    with torch.no_grad():
        expected = model(**batch)[0]
        for layer in model.encoder.layer:
            table = layer.attention.self.distance_embedding
            table.register_forward_hook(lambda module, args, output: output + 0.5)
        assert (model(**batch)[0] - expected).abs().max() > 0.01


def test_heads_of_wrapped_layers_are_not_pruned_in_silence() -> None:
    model = tiny_model(XmodModel, "sdpa")
    wrap_linears(model)
    with pytest.raises(ConfigurationError, match="layer 1 has a LowRank"):
        model.prune_heads({1: [0]})
