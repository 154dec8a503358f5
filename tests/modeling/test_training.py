"""Training: precision, what gets a gradient, what an optimiser may touch, checkpointing, and freezing."""

from typing import Any

import pytest
import torch
from torch import Tensor

import xmodular
from tests.support import (
    BASE_FLAGS,
    LARGE_FLAGS,
    assert_same_gradients,
    labels_like,
    ragged_batch,
    tiny_model,
)
from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodForSequenceClassification, XmodModel
from xmodular.errors import ConfigurationError
from xmodular.modeling import lm

STYLES = pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def adapters_of(model: Any, language: str) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if f".adapter_modules.{language}." in name}


@STYLES
@pytest.mark.parametrize("routing", ["single", "interleaved", "tokens"])
@pytest.mark.parametrize(("attention", "sparse"), [("eager", False), ("sdpa", True)], ids=["eager", "sdpa"])
def test_autocast_to_bfloat16(flags: dict[str, Any], routing: str, attention: str, sparse: bool) -> None:
    """In training and in evaluation: it runs, stays near single precision, and gradients are single precision."""
    model = tiny_model(XmodForMaskedLM, attention, **STILL, **flags)
    batch = ragged_batch(languages=routing)
    batch["labels"] = labels_like(batch, 99)
    with torch.no_grad():
        exact = model(**batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(**batch, sparse_prediction=sparse)
    assert rough.loss.item() == pytest.approx(exact.loss.item(), rel=0.03)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(**batch, sparse_prediction=sparse).loss
    assert loss.item() == pytest.approx(exact.loss.item(), rel=0.03)
    loss.backward()
    twin = tiny_model(XmodForMaskedLM, attention, **STILL, **flags).train()
    twin(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        expected = twin.get_parameter(name).grad
        assert (parameter.grad is None) == (expected is None), name
        # softmax ignores what is added to all scores: the gradient of the keys' bias is rounding alone
        if expected is not None and not name.endswith("attention.self.key.bias"):
            assert parameter.grad.dtype == torch.float32
            error = (parameter.grad - expected).norm() / (expected.norm() + 1e-3)
            assert error < 0.15, f"{name}: {error:.3f}"


def test_autocast_of_a_decoder_with_a_cache() -> None:
    model = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True)
    ids, lang_ids = torch.arange(4, 16).view(2, 6), torch.tensor([2, 0])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = model(ids, lang_ids=lang_ids).logits[:, 4:]
        past = model(ids[:, :4], lang_ids=lang_ids).past_key_values
        rest = model(ids[:, 4:], lang_ids=lang_ids, past_key_values=past).logits
    torch.testing.assert_close(rest, whole, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("routing", ["rows", "tokens"])
@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
def test_languages_outside_the_batch_have_no_gradient(routing: str, is_decoder: bool) -> None:
    model = tiny_model(XmodForCausalLM if is_decoder else XmodForMaskedLM, "sdpa", is_decoder=is_decoder).train()
    batch = ragged_batch()
    batch["lang_ids"] = torch.tensor([2, 0, 2, 0])
    if routing == "tokens":
        batch["lang_ids"] = torch.where(torch.arange(9) % 2 == 0, 2, 0).expand(4, 9)
    model(**batch, labels=labels_like(batch, 99)).loss.backward()
    assert all(parameter.grad is None for parameter in adapters_of(model, "de_DE").values())
    for language in ("en_XX", "sw_KE"):
        assert all(parameter.grad.any() for parameter in adapters_of(model, language).values())


def test_a_language_that_only_pads_has_no_gradient() -> None:
    model = tiny_model(XmodForMaskedLM, "sdpa").train()
    batch = ragged_batch(languages="tokens")
    real = batch["attention_mask"].bool()
    batch["lang_ids"] = torch.where(real, 0, 1)
    model(**batch, labels=labels_like(batch, 99)).loss.backward()
    assert all(parameter.grad is None for parameter in adapters_of(model, "de_DE").values())


@STYLES
def test_an_optimiser_with_weight_decay_leaves_absent_languages_bit_identical(flags: dict[str, Any]) -> None:
    model = tiny_model(XmodForMaskedLM, "sdpa", **flags).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    batch = ragged_batch()
    labels = labels_like(batch, 99)

    def step(lang_ids: list[int]) -> None:
        optimiser.zero_grad()
        model(**batch | {"lang_ids": torch.tensor(lang_ids)}, labels=labels).loss.backward()
        optimiser.step()

    def snapshot(language: str) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in adapters_of(model, language).items()}

    def same(language: str, before: dict[str, Tensor]) -> list[bool]:
        return [torch.equal(p, before[name]) for name, p in adapters_of(model, language).items()]

    before = {language: snapshot(language) for language in model.languages}
    step([2, 0, 2, 0])
    step([0, 2, 2, 2])
    assert all(same("de_DE", before["de_DE"]))
    assert not any(same("en_XX", before["en_XX"]) + same("sw_KE", before["sw_KE"]))
    # momentum that a language has gathered does not move it while it is absent
    after = snapshot("sw_KE")
    step([0, 1, 0, 1])
    assert all(same("sw_KE", after))
    assert not any(same("de_DE", before["de_DE"]))


def checkpointing(model: Any, reentrant: bool) -> None:
    """Switch it on, under the name that the installed transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})
    assert all(layer.gradient_checkpointing for layer in model.roberta.encoder.layer)


@STYLES
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
def test_gradient_checkpointing_changes_nothing(flags: dict[str, Any], reentrant: bool, is_decoder: bool) -> None:
    """Dropout included: the second run of a layer drops what the first one did."""
    cls = XmodForCausalLM if is_decoder else XmodForMaskedLM
    plain, checkpointed = (tiny_model(cls, "sdpa", is_decoder=is_decoder, **flags).train() for _ in range(2))
    checkpointing(checkpointed, reentrant)
    batch = ragged_batch(languages="tokens")
    losses = []
    for model in (plain, checkpointed):
        torch.manual_seed(0)
        losses.append(model(**batch, labels=labels_like(batch, 99)).loss)
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0], atol=1e-6, rtol=0)
    assert_same_gradients(checkpointed, plain)


def test_gradient_checkpointing_with_sparse_prediction_and_frozen_embeddings() -> None:
    plain, checkpointed = (tiny_model(XmodForMaskedLM, "sdpa", **STILL).train() for _ in range(2))
    checkpointing(checkpointed, False)
    batch = ragged_batch()
    for model in (plain, checkpointed):
        model.freeze_embeddings_and_language_adapters()
        model(**batch, labels=labels_like(batch, 99), sparse_prediction=True).loss.backward()
    assert_same_gradients(checkpointed, plain)


@pytest.mark.parametrize("chunk", [1, 99, 300])
def test_the_loss_in_chunks_is_the_loss(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows of logits are held at once; also scaled, as gradient accumulation scales it."""
    monkeypatch.setattr(lm, "LOGITS_PER_CHUNK", chunk)
    dense, sparse = (tiny_model(XmodForMaskedLM, "sdpa", **STILL).train() for _ in range(2))
    batch = ragged_batch(languages="tokens")
    labels = labels_like(batch, 99)
    (dense(**batch, labels=labels).loss * 0.25).backward()
    loss = sparse(**batch, labels=labels, sparse_prediction=True).loss
    (loss * 0.25).backward()
    assert_same_gradients(sparse, dense)


def test_a_second_backward_through_the_sparse_loss_is_the_first_or_an_error() -> None:
    """And never silence: a graph that was kept may be walked twice."""
    model = tiny_model(XmodForMaskedLM, "sdpa", **STILL).train()
    batch = ragged_batch()
    loss = model(**batch, labels=labels_like(batch, 99), sparse_prediction=True).loss
    weight = model.roberta.encoder.layer[0].attention.self.query.weight
    (first,) = torch.autograd.grad(loss, weight, retain_graph=True)
    try:
        (second,) = torch.autograd.grad(loss, weight, allow_unused=True)
    except RuntimeError:
        return
    assert second is not None
    torch.testing.assert_close(second, first)


def test_the_loss_of_accumulated_batches_is_that_of_one() -> None:
    """With the number of labels of all pieces, the pieces' losses add up to the loss of the whole."""
    model = tiny_model(XmodForMaskedLM, "sdpa", **STILL)
    batch = ragged_batch()
    labels = labels_like(batch, 99)
    whole = model(**batch, labels=labels).loss
    count = (labels != -100).sum()
    total = torch.zeros(())
    for rows in ([0], [1, 2, 3]):
        piece = {key: value[rows] for key, value in batch.items()}
        for sparse in (False, True):
            loss = model(**piece, labels=labels[rows], num_items_in_batch=count, sparse_prediction=sparse).loss
            total = total + loss / 2
    torch.testing.assert_close(total, whole, atol=1e-5, rtol=0)


CLASSES = {
    "XmodModel": {},
    "XmodForMaskedLM": {},
    "XmodForCausalLM": {"is_decoder": True},
    "XmodForSequenceClassification": {},
    "XmodForTokenClassification": {},
    "XmodForMultipleChoice": {},
    "XmodForQuestionAnswering": {},
}


@STYLES
@pytest.mark.parametrize("name", CLASSES)
def test_freezing_takes_exactly_embeddings_and_adapters(name: str, flags: dict[str, Any]) -> None:
    """And the LayerNorm that adapters share, where there is one; also in the bare model."""
    model = tiny_model(getattr(xmodular, name), **CLASSES[name], **flags)
    model.freeze_embeddings_and_language_adapters()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.removeprefix("roberta.").startswith("embeddings.")
        or "adapter_modules" in name
        or "adapter_layer_norm" in name
    }
    assert frozen == expected
    assert len(frozen) == 5 + 2 * (3 * 4 + (2 if flags else 0))


def test_freezing_twice_or_after_other_freezing_only_adds() -> None:
    model = tiny_model(XmodForSequenceClassification)
    model.classifier.dense.weight.requires_grad_(False)
    model.freeze_embeddings_and_language_adapters()
    assert not model.classifier.dense.weight.requires_grad
    assert model.classifier.dense.bias.requires_grad


def groups_that_train(model: Any) -> set[str]:
    kinds = {
        "embeddings": "roberta.embeddings.word_embeddings.weight",
        "adapters": "roberta.encoder.layer.0.output.adapter_modules.de_DE.dense1.weight",
        "adapter norm": "roberta.encoder.layer.1.output.adapter_layer_norm.bias",
        "encoder": "roberta.encoder.layer.1.attention.self.query.weight",
        "final norm": "roberta.encoder.LayerNorm.weight",
        "output norm": "roberta.encoder.layer.0.output.LayerNorm.weight",
        "head": "classifier.out_proj.weight",
    }
    return {kind for kind, name in kinds.items() if model.get_parameter(name).requires_grad}


@pytest.mark.parametrize(
    ("policy", "trains"),
    [
        ("all", {"embeddings", "adapters", "adapter norm", "encoder", "final norm", "output norm", "head"}),
        ("shared", {"encoder", "final norm", "output norm", "head"}),
        ("adapters", {"adapters", "head"}),
        ("head", {"head"}),
    ],
)
def test_the_table_of_what_trains(policy: str, trains: set[str]) -> None:
    """Set from any state: a policy says what trains and what does not."""
    model = tiny_model(XmodForSequenceClassification, **LARGE_FLAGS)
    for before in ("head", "all"):
        model.set_trainable(before)
        rows = model.set_trainable(policy)
        assert groups_that_train(model) == trains
    assert sum(row.total for row in rows) == model.num_parameters()
    assert sum(row.trainable for row in rows) == model.num_parameters(only_trainable=True)


def test_shared_is_the_papers_freezing() -> None:
    a, b = tiny_model(XmodForMaskedLM, **LARGE_FLAGS), tiny_model(XmodForMaskedLM, **LARGE_FLAGS)
    a.set_trainable("shared")
    b.freeze_embeddings_and_language_adapters()
    assert [p.requires_grad for p in a.parameters()] == [p.requires_grad for p in b.parameters()]


def test_adapters_of_some_languages_only() -> None:
    model = tiny_model(XmodForMaskedLM)
    model.set_trainable("adapters", languages=["sw_KE"])
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(adapters_of(model, "sw_KE"))


def test_an_unknown_policy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'adapter'.*all, shared, adapters, head"):
        tiny_model(XmodModel).set_trainable("adapter")


def test_gradients_reach_inputs_embeds_and_encoder_states() -> None:
    model = tiny_model(XmodModel, "sdpa", is_decoder=True, add_cross_attention=True)
    words, states = torch.randn(2, 5, 32).requires_grad_(), torch.randn(2, 4, 32).requires_grad_()
    result = model(inputs_embeds=words, encoder_hidden_states=states, lang_ids=torch.tensor([2, 0]))
    result.last_hidden_state.square().sum().backward()
    assert words.grad.abs().sum() > 0
    assert states.grad.abs().sum() > 0
