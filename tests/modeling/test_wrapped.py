"""What wraps or hooks a module takes effect: in the embeddings, in the heads, and in the loss without logits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize

from tests.support import assert_same_outputs, labels_like, ragged_batch, tiny_model
from xmodular import (
    XmodForCausalLM,
    XmodForMaskedLM,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
    XmodModel,
)
from xmodular.modeling import lm

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Wrapped(nn.Module):
    """As PEFT does it: the module inside, its `weight` and `bias` in sight, and an addition of low rank."""

    def __init__(self, inside: Any, width: int) -> None:
        super().__init__()
        self.inside = inside
        torch.manual_seed(1)
        rows = inside.num_embeddings if isinstance(inside, nn.Embedding) else inside.in_features
        self.down = nn.Parameter(torch.randn(rows, 2) * 0.5)
        self.up = nn.Parameter(torch.randn(2, width) * 0.5)

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias", "num_embeddings", "in_features", "out_features", "padding_idx"):
            return getattr(self.inside, name)
        return super().__getattr__(name)

    def forward(self, given: Tensor) -> Tensor:
        if isinstance(self.inside, nn.Embedding):
            return self.inside(given) + self.down[given] @ self.up
        return self.inside(given) + given @ self.down @ self.up

    def merged(self) -> Tensor:
        """The weight of a plain module that does the same."""
        added = self.down @ self.up
        return self.inside.weight + (added if isinstance(self.inside, nn.Embedding) else added.T)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def wrap(model: nn.Module, name: str) -> Wrapped:
    inside: Any = model.get_submodule(name)
    wrapped = Wrapped(inside, inside.embedding_dim if isinstance(inside, nn.Embedding) else inside.out_features)
    model.set_submodule(name, wrapped)
    return wrapped


def twins(cls: Any, **over: Any) -> tuple[Any, Any]:
    """Two equal models without dropout in training mode, nothing tied."""
    mine, other = (tiny_model(cls, "sdpa", tie_word_embeddings=False, **STILL, **over).train() for _ in range(2))
    return mine, other


LINEAR: list[tuple[Any, dict[str, Any], str]] = [
    (XmodForMaskedLM, {}, "lm_head.decoder"),
    (XmodForMaskedLM, {}, "lm_head.dense"),
    (XmodForCausalLM, {"is_decoder": True}, "lm_head.decoder"),
    (XmodForSequenceClassification, {}, "classifier.dense"),
    (XmodForSequenceClassification, {}, "classifier.out_proj"),
    (XmodForTokenClassification, {}, "classifier"),
    (XmodForMultipleChoice, {}, "classifier"),
    (XmodForMultipleChoice, {}, "roberta.pooler.dense"),
    (XmodForQuestionAnswering, {}, "qa_outputs"),
]
TABLES = ("word_embeddings", "token_type_embeddings", "position_embeddings")


def batch_for(cls: Any) -> dict[str, Tensor]:
    batch = ragged_batch()
    if cls is XmodForQuestionAnswering:
        return batch | {"start_positions": torch.tensor([1, 0, 3, 2]), "end_positions": torch.tensor([4, 2, 7, 2])}
    if cls is XmodForMultipleChoice:
        return {name: each.unflatten(0, (2, 2)) for name, each in batch.items()} | {"labels": torch.tensor([1, 0])}
    if cls is XmodForSequenceClassification:
        return batch | {"labels": torch.tensor([0, 1, 1, 0])}
    return batch | {"labels": labels_like(batch, 2 if cls is XmodForTokenClassification else 99)}


def both_ways(cls: Any) -> Iterator[dict[str, Any]]:
    yield {}
    if cls in (XmodForMaskedLM, XmodForCausalLM):
        yield {"sparse_prediction": True}


@pytest.mark.parametrize(("cls", "over", "name"), LINEAR, ids=lambda each: each if isinstance(each, str) else "")
def test_a_wrapped_linear_layer_takes_effect(
    cls: Any, over: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradients are those of a plain layer with the same product; its own parameters learn."""
    monkeypatch.setattr(lm, "LOGITS_PER_CHUNK", 99 * 4)
    for more in both_ways(cls):
        mine, plain = twins(cls, **over)
        wrapped = wrap(mine, name)
        plain.get_submodule(name).weight.data = wrapped.merged().detach()
        losses = [model(**batch_for(cls), **more).loss for model in (mine, plain)]
        torch.testing.assert_close(losses[0], losses[1])
        for loss in losses:
            loss.backward()
        expected = plain.get_submodule(name).weight.grad
        torch.testing.assert_close(wrapped.inside.weight.grad, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(wrapped.up.grad, (expected @ wrapped.down).T, atol=1e-5, rtol=1e-4)
        query = "roberta.encoder.layer.0.attention.self.query.weight"
        torch.testing.assert_close(
            mine.get_parameter(query).grad, plain.get_parameter(query).grad, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForTokenClassification])
def test_a_wrapped_table_takes_effect(cls: Any, table: str) -> None:
    for more in both_ways(cls):
        mine, plain = twins(cls)
        wrapped = wrap(mine, f"roberta.embeddings.{table}")
        plain.get_submodule(f"roberta.embeddings.{table}").weight.data = wrapped.merged().detach()
        losses = [model(**batch_for(cls), **more).loss for model in (mine, plain)]
        torch.testing.assert_close(losses[0], losses[1])
        losses[0].backward()
        assert wrapped.up.grad.any()
        assert wrapped.down.grad.any()


def test_a_tied_table_that_is_wrapped_leaves_the_projection_its_weight() -> None:
    """As in transformers: the head has the weight, the wrapping is at the input alone."""
    mine, plain = (tiny_model(XmodForMaskedLM, "sdpa", **STILL).train() for _ in range(2))
    wrapped = wrap(mine, "roberta.embeddings.word_embeddings")
    plain.lm_head.decoder.weight = nn.Parameter(plain.lm_head.decoder.weight.detach().clone())
    plain.roberta.embeddings.word_embeddings.weight.data = wrapped.merged().detach()
    losses = [model(**batch_for(XmodForMaskedLM), sparse_prediction=True).loss for model in (mine, plain)]
    torch.testing.assert_close(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    both = plain.lm_head.decoder.weight.grad + plain.roberta.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(wrapped.inside.weight.grad, both, atol=1e-5, rtol=1e-4)


def test_a_wrapped_table_of_a_single_languages_vocabulary_takes_effect_at_both_ends() -> None:
    def models() -> Any:
        return tiny_model(XmodForMaskedLM, "sdpa", vocabularies={"sw_KE": 50}, **STILL).train()

    mine, plain = models(), models()
    wrapped = wrap(mine, "roberta.embeddings.language_embeddings.sw_KE")
    plain.roberta.embeddings.language_embeddings["sw_KE"].weight.data = wrapped.merged().detach()
    batch = ragged_batch(vocab_size=50) | {"lang_ids": torch.full((4,), 2)}
    batch["labels"] = labels_like(batch, 50)
    for more in both_ways(XmodForMaskedLM):
        losses = [model(**batch, **more).loss for model in (mine, plain)]
        torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("name", ["lm_head", "lm_head.decoder", "lm_head.layer_norm"])
def test_hooks_on_the_head_take_effect(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm, "LOGITS_PER_CHUNK", 99 * 4)
    model = tiny_model(XmodForMaskedLM, "sdpa", **STILL).train()
    batch = batch_for(XmodForMaskedLM)
    before = model(**batch).loss
    model.get_submodule(name).register_forward_hook(lambda module, given, output: output * 1.5)
    dense, sparse = model(**batch).loss, model(**batch, sparse_prediction=True).loss
    assert abs(dense - before) > 0.1
    torch.testing.assert_close(sparse, dense)
    grads = [torch.autograd.grad(loss, list(model.lm_head.parameters())) for loss in (dense, sparse)]
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_backward_hooks_on_the_projection_are_called() -> None:
    model = tiny_model(XmodForMaskedLM, "sdpa", **STILL).train()
    seen = []
    model.lm_head.decoder.register_full_backward_hook(lambda module, given, grads: seen.append(grads[0].shape))
    model(**batch_for(XmodForMaskedLM), sparse_prediction=True).loss.backward()
    assert seen
    assert seen[0][-1] == 99


def test_hooks_on_all_modules_see_every_layer() -> None:
    """Those that torch calls global."""
    model = tiny_model(XmodForMaskedLM, "sdpa", **STILL).train()
    seen: list[nn.Module] = []
    handle = register_module_forward_hook(lambda module, given, output: seen.append(module))
    try:
        model(**batch_for(XmodForMaskedLM), sparse_prediction=True)
    finally:
        handle.remove()
    embeddings = model.roberta.embeddings
    for module in (model.lm_head, model.lm_head.decoder, embeddings.word_embeddings, embeddings.token_type_embeddings):
        assert any(module is each for each in seen)


def test_parametrised_and_replaced_forwards_take_effect() -> None:
    batch = batch_for(XmodForMaskedLM)
    mine, plain = twins(XmodForMaskedLM)
    plain.lm_head.decoder.weight.data *= 2
    parametrize.register_parametrization(mine.lm_head.decoder, "weight", Doubled())
    torch.testing.assert_close(*(model(**batch, sparse_prediction=True).loss for model in (mine, plain)))
    words = mine.roberta.embeddings.word_embeddings
    old = words.forward
    words.forward = lambda ids: old(ids) * 3
    plain.roberta.embeddings.word_embeddings.weight.data *= 3
    torch.testing.assert_close(*(model(**batch, sparse_prediction=True).loss for model in (mine, plain)))


@pytest.mark.filterwarnings("ignore")  # torch calls this way of quantising deprecated
def test_a_quantised_projection_is_called() -> None:
    """Its `weight` is a method."""
    model = tiny_model(XmodForMaskedLM, "sdpa", tie_word_embeddings=False)
    batch = batch_for(XmodForMaskedLM)
    exact = model(**batch).loss
    model.lm_head = torch.ao.quantization.quantize_dynamic(model.lm_head, {nn.Linear}, torch.qint8)
    for more in ({}, {"sparse_prediction": True}):
        torch.testing.assert_close(model(**batch, **more).loss, exact, atol=0.1, rtol=0.02)
    assert not torch.equal(model(**batch).loss, exact)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("sparse", [False, True])
def test_hooks_on_a_table_see_the_batch_and_take_effect(table: str, sparse: bool) -> None:
    """(B, S) and (B, S, hidden), as in transformers; token types too if none are given."""
    model = tiny_model(XmodForMaskedLM, "sdpa", **STILL).train()
    batch = batch_for(XmodForMaskedLM)
    before = model(**batch).loss
    shapes = []

    def hook(module: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
        shapes.append((*given[0].shape, *output.shape))
        return output + torch.linspace(-1, 1, 32)

    handle = model.get_submodule(f"roberta.embeddings.{table}").register_forward_hook(hook)
    hooked = model(**batch, sparse_prediction=sparse).loss
    assert shapes == [(4, 9, 4, 9, 32)]
    handle.remove()
    with torch.no_grad():
        model.roberta.embeddings.token_type_embeddings.weight += torch.linspace(-1, 1, 32)
    torch.testing.assert_close(hooked, model(**batch).loss)
    assert abs(hooked - before) > 1e-3


def test_hooks_on_all_embeddings_see_the_batch_and_take_effect() -> None:
    model = tiny_model(XmodModel, "sdpa")
    batch = ragged_batch()
    shapes = []
    model.embeddings.register_forward_hook(lambda module, given, output: shapes.append(output.shape))
    whole = model(**batch).last_hidden_state
    assert shapes == [(4, 9, 32)]
    model.embeddings.register_forward_hook(lambda module, given, output: torch.zeros_like(output))
    assert (model(**batch).last_hidden_state - whole).abs().max() > 0.1


def test_embeddings_can_be_called_as_in_transformers(tmp_path: Any) -> None:
    model = tiny_model(XmodModel, "sdpa")
    batch = ragged_batch(side="left")
    plain = {name: batch[name] for name in ("attention_mask", "lang_ids")}
    embedded = model.embeddings(batch["input_ids"])
    hidden = model(**batch, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(embedded[real], hidden[0][real])
    words = model.get_input_embeddings()(batch["input_ids"])
    positions = model.embeddings.count_positions(real.shape, batch["input_ids"], real.device, 0)
    again = model(inputs_embeds=words, position_ids=positions, **plain)
    torch.testing.assert_close(again.last_hidden_state, hidden[-1])
    torch.testing.assert_close(
        model.embeddings(inputs_embeds=words, position_ids=positions, token_type_ids=torch.zeros(1, 9).long()), embedded
    )
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model.embeddings()


@pytest.mark.parametrize("sparse", [False, True])
def test_neftune_adds_its_noise(sparse: bool) -> None:
    """transformers' own hook, which reads the sizes of (batch, sequence, hidden)."""
    hooks = pytest.importorskip("transformers.integrations.neftune")
    model = tiny_model(XmodForMaskedLM, "sdpa", **STILL).train()
    batch = batch_for(XmodForMaskedLM)
    quiet = model(**batch, sparse_prediction=sparse).loss
    words = model.get_input_embeddings()
    words.neftune_noise_alpha = 50.0
    words.register_forward_hook(hooks.neftune_post_forward_hook)
    torch.manual_seed(0)
    assert not torch.isclose(model(**batch, sparse_prediction=sparse).loss, quiet)
    model.eval()
    torch.testing.assert_close(model(**batch).loss, quiet)


@pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForSequenceClassification])
@pytest.mark.parametrize("offload", ["memory", "disk"])
def test_offloaded_models_compute_the_same(cls: Any, offload: str, tmp_path: Any) -> None:
    model, batch = tiny_model(cls, "sdpa"), batch_for(cls)
    expected = [model(**batch), *(model(**batch, **more) for more in both_ways(cls))]
    place: Callable[..., Any] = cpu_offload if offload == "memory" else lambda of: disk_offload(of, str(tmp_path))
    place(model)
    found = [model(**batch), *(model(**batch, **more) for more in both_ways(cls))]
    for mine, other in zip(found, expected, strict=True):
        assert_same_outputs(mine, other, fields=("loss", "logits"))


@pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForCausalLM])
def test_vocabularies_of_single_languages_can_be_offloaded(cls: Any) -> None:
    model = tiny_model(cls, "sdpa", vocabularies={"sw_KE": 50}, is_decoder=cls is XmodForCausalLM)
    batch = ragged_batch(vocab_size=50)
    batch |= {"lang_ids": model.lang_ids(["sw"] * 4), "labels": labels_like(batch, 50)}
    expected = model(**batch)
    cpu_offload(model)
    batch["lang_ids"] = model.lang_ids(["sw"] * 4)
    assert_same_outputs(model(**batch), expected, fields=("loss", "logits"))
    torch.testing.assert_close(model(**batch, sparse_prediction=True).loss, expected.loss)


def test_integrated_gradients_of_the_word_embeddings_add_up() -> None:
    """As captum has it: the table's output is replaced by a hook, with more rows than the batch has tokens."""
    model = tiny_model(XmodForSequenceClassification, "sdpa").double()
    batch, steps = ragged_batch((7, 5)), 400
    many = {"attention_mask": batch["attention_mask"].repeat(steps, 1), "lang_ids": batch["lang_ids"].repeat(steps)}
    words = model.get_input_embeddings()
    whole = words(batch["input_ids"]).detach()
    points = ((torch.arange(steps) + 0.5) / steps).double()
    path = (points[:, None, None, None] * whole).flatten(0, 1).requires_grad_()
    handle = words.register_forward_hook(lambda module, given, output: path)
    logits = model(batch["input_ids"].repeat(steps, 1), **many).logits[:, 0]
    handle.remove()
    (slopes,) = torch.autograd.grad(logits.sum(), path)
    attributed = (slopes.unflatten(0, (steps, 2)).mean(0) * whole).sum((1, 2))
    ends = []
    for factor in (1, 0):
        handle = words.register_forward_hook(lambda module, given, output, by=factor: output * by)
        ends.append(model(**batch).logits[:, 0])
        handle.remove()
    torch.testing.assert_close(attributed, ends[0] - ends[1], atol=1e-3, rtol=0)


@pytest.mark.filterwarnings("ignore")  # PEFT's own
def test_peft_on_projection_and_tables_takes_effect() -> None:
    """The real one, where it is installed."""
    peft = pytest.importorskip("peft")
    model = tiny_model(XmodForMaskedLM, "sdpa", tie_word_embeddings=False, **STILL)
    batch = batch_for(XmodForMaskedLM)
    options = peft.LoraConfig(r=2, target_modules=["decoder", "word_embeddings", "dense"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, options).train()
    dense, sparse = wrapped(**batch).loss, wrapped(**batch, sparse_prediction=True).loss
    torch.testing.assert_close(sparse, dense)
    sparse.backward()
    trained = [name for name, p in wrapped.named_parameters() if p.requires_grad]
    assert any("lm_head.decoder" in name for name in trained)
    assert all(p.grad is not None for n, p in wrapped.named_parameters() if n in trained and "adapter_modules" not in n)
    merged = wrapped.merge_and_unload()
    torch.testing.assert_close(merged(**batch).loss, dense, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{"target_modules": ["query"]}, {"target_modules": ["decoder"]}])
def test_peft_trains_single_pieces(options: dict[str, Any]) -> None:
    """`trainable_token_indices` wraps the table; other rows keep their weights."""
    peft = pytest.importorskip("peft")
    model = tiny_model(XmodForMaskedLM, "sdpa", tie_word_embeddings=False, **STILL)
    batch = batch_for(XmodForMaskedLM)
    piece = int(batch["input_ids"][0, 1])
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=2, trainable_token_indices={"word_embeddings": [piece]}, **options)
    ).train()
    losses = [wrapped(**batch, **more).loss for more in both_ways(XmodForMaskedLM)]
    torch.testing.assert_close(*losses)
    losses[1].backward()
    (delta,) = (p for n, p in wrapped.named_parameters() if "trainable_tokens_delta" in n)
    assert delta.grad.any()


@pytest.mark.parametrize("layer", ["roberta.embeddings", "roberta.embeddings.word_embeddings"])
def test_captum_attributes_to_embeddings(layer: str) -> None:
    """The real one, where it is installed: what is attributed adds up to the difference that it explains."""
    attr = pytest.importorskip("captum.attr")
    model = tiny_model(XmodForSequenceClassification, "sdpa")
    batch = ragged_batch((7, 5))

    def score(ids: Tensor, mask: Tensor, lang_ids: Tensor) -> Tensor:
        return model(ids, attention_mask=mask, lang_ids=lang_ids).logits[:, 0]

    more = (batch["attention_mask"], batch["lang_ids"])
    empty = batch["input_ids"].where(batch["input_ids"] < 4, 3)
    found = attr.LayerIntegratedGradients(score, model.get_submodule(layer)).attribute(
        batch["input_ids"], empty, additional_forward_args=more, n_steps=200
    )
    assert found.shape == (2, 7, 32)
    expected = score(batch["input_ids"], *more) - score(empty, *more)
    torch.testing.assert_close(found.sum((1, 2)).float(), expected, atol=1e-2, rtol=0)
