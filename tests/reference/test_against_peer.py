"""The oracle against the peer, for everything that the peer has: an oracle that is wrong settles nothing."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models import xmod as peer

from tests.reference import encoder, heads
from tests.support import (
    BASE_FLAGS,
    LARGE_FLAGS,
    assert_same_gradients,
    assert_same_outputs,
    labels_like,
    ragged_batch,
    state_of,
    tiny_peer,
)

EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
FLAGS = [
    dict(zip(("pre_norm", "adapter_layer_norm", "adapter_reuse_layer_norm", "ln_before_adapter"), values, strict=True))
    for values in itertools.product((False, True), repeat=4)
]


def reference_of(model: Any, **inputs: Any) -> encoder.Encoded:
    """The oracle on a model's weights, with the fields that the library keeps out of its configuration."""
    fields = model.config.to_dict() | {"position_embedding_type": "absolute"}
    return encoder.encode(state_of(model), SimpleNamespace(**fields), **inputs)


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "".join(str(int(value)) for value in flags.values()))
@pytest.mark.parametrize("languages", ["interleaved", "tokens"])
def test_flags(flags: dict[str, bool], languages: str) -> None:
    model = tiny_peer("XmodModel", **flags)
    batch = ragged_batch((5, 3), languages)
    theirs = model(**batch, **EVERYTHING)
    result = reference_of(model, **batch)
    fields = ("hidden_states", "last_hidden_state", "attentions")
    assert_same_outputs(result, theirs, batch["attention_mask"], fields=fields)
    torch.testing.assert_close(heads.pool(state_of(model), result.last_hidden_state), theirs.pooler_output)


@pytest.mark.parametrize("act", ["relu", "silu", "gelu_new"])
def test_activations_positions_and_token_types(act: str) -> None:
    model = tiny_peer("XmodModel", hidden_act=act)
    batch = ragged_batch((6, 4), side="left")
    generator = torch.Generator().manual_seed(1)
    batch["token_type_ids"] = torch.randint(0, 2, (2, 6), generator=generator)
    words = {"inputs_embeds": torch.randn(2, 6, 32, generator=generator), "lang_ids": batch["lang_ids"]}
    positions = batch | {"position_ids": torch.randint(0, 40, (2, 6), generator=generator)}
    for inputs in (batch, positions, words):
        theirs = model(**inputs, **EVERYTHING)
        result = reference_of(model, **inputs)
        assert_same_outputs(result, theirs, inputs.get("attention_mask"), fields=("hidden_states",))


@pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
def test_decoder_with_cross_attention_and_past(flags: dict[str, Any]) -> None:
    model = tiny_peer("XmodModel", is_decoder=True, add_cross_attention=True, **flags)
    generator = torch.Generator().manual_seed(2)
    read = {
        "encoder_hidden_states": torch.randn(2, 6, 32, generator=generator),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]),
    }
    ids = torch.randint(4, 99, (2, 8), generator=generator)
    langs = torch.tensor([2, 0])
    fields = ("hidden_states", "attentions", "cross_attentions")
    whole = model(input_ids=ids, lang_ids=langs, **read, **EVERYTHING, use_cache=False)
    assert_same_outputs(reference_of(model, input_ids=ids, lang_ids=langs, **read), whole, fields=fields)

    first = reference_of(model, input_ids=ids[:, :5], lang_ids=langs, **read)
    past = first.past_key_values
    second = reference_of(model, input_ids=ids[:, 5:], lang_ids=langs, past_key_values=past, **read)
    theirs = model(input_ids=ids[:, :5], lang_ids=langs, **read, use_cache=True)
    theirs = model(input_ids=ids[:, 5:], lang_ids=langs, past_key_values=theirs.past_key_values, **read, **EVERYTHING)
    assert_same_outputs(second, theirs, fields=fields)
    torch.testing.assert_close(second.last_hidden_state, whole.last_hidden_state[:, 5:], atol=1e-5, rtol=0)


def test_language_model_heads() -> None:
    batch = ragged_batch()
    labels = labels_like(batch, 99)
    for name, over, loss in (
        ("XmodForMaskedLM", {}, heads.masked_lm_loss),
        ("XmodForCausalLM", {"is_decoder": True}, heads.causal_lm_loss),
    ):
        model = tiny_peer(name, **over)
        theirs = model(**batch, labels=labels)
        logits = heads.lm_logits(state_of(model), model.config, reference_of(model, **batch).last_hidden_state)
        result = SimpleNamespace(logits=logits, loss=loss(logits, labels))
        assert_same_outputs(result, theirs, batch["attention_mask"], fields=("logits", "loss"))


def test_task_heads() -> None:
    batch = ragged_batch()
    mask = batch["attention_mask"]
    for problem, labels, loss in (
        ("single_label_classification", torch.tensor([0, 2, 1, 2]), heads.cross_entropy),
        ("multi_label_classification", torch.eye(4, 3), heads.multi_label_loss),
        ("regression", torch.randn(4, 3), heads.regression_loss),
    ):
        model = tiny_peer("XmodForSequenceClassification", num_labels=3, problem_type=problem)
        logits = heads.sequence_logits(state_of(model), reference_of(model, **batch).last_hidden_state)
        result = SimpleNamespace(logits=logits, loss=loss(logits, labels))
        assert_same_outputs(result, model(**batch, labels=labels))

    model = tiny_peer("XmodForTokenClassification", num_labels=5)
    labels = labels_like(batch, 5)
    logits = heads.token_logits(state_of(model), reference_of(model, **batch).last_hidden_state)
    result = SimpleNamespace(logits=logits, loss=heads.masked_lm_loss(logits, labels))
    assert_same_outputs(result, model(**batch, labels=labels), mask)

    # the peer's softmax over a sequence runs over its padding too, so rows of one length
    model = tiny_peer("XmodForQuestionAnswering")
    even = ragged_batch((8, 8, 8, 8))
    starts, ends = torch.tensor([1, 2, 3, 30]), torch.tensor([4, 2, 9, 50])
    start, end = heads.span_logits(state_of(model), reference_of(model, **even).last_hidden_state)
    loss = heads.span_loss(start, end, starts, ends)
    result = SimpleNamespace(start_logits=start, end_logits=end, loss=loss)
    assert_same_outputs(result, model(**even, start_positions=starts, end_positions=ends))

    model = tiny_peer("XmodForMultipleChoice")
    theirs = model(batch["input_ids"][None], attention_mask=batch["attention_mask"][None], lang_ids=torch.tensor([1]))
    flat = reference_of(model, **(batch | {"lang_ids": 1})).last_hidden_state
    torch.testing.assert_close(heads.choice_logits(state_of(model), flat, 4), theirs.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
def test_gradients(flags: dict[str, Any]) -> None:
    model, twin = (tiny_peer("XmodForMaskedLM", **flags) for _ in range(2))
    batch = ragged_batch((6, 4), "tokens")
    labels = labels_like(batch, 99)
    twin(**batch, labels=labels).loss.backward()
    logits = heads.lm_logits(state_of(model), model.config, reference_of(model, **batch).last_hidden_state)
    heads.masked_lm_loss(logits, labels).backward()
    assert_same_gradients(model, twin)
    assert isinstance(model, peer.XmodForMaskedLM)
