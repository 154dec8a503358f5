"""Equality with the plain reference, where the peer dropped a feature or never had it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reference import encoder, heads
from tests.support import (
    BASE_FLAGS,
    LARGE_FLAGS,
    assert_round_trip,
    assert_same_gradients,
    assert_same_outputs,
    labels_like,
    ragged_batch,
    state_of,
    tiny_model,
)
from xmodular import XmodForMaskedLM, XmodForSequenceClassification, XmodModel

EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
FIELDS = ("hidden_states", "last_hidden_state", "attentions")
STYLES = pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
RELATIVE = pytest.mark.parametrize("position", ["relative_key", "relative_key_query"])


def reference_of(model: Any, **inputs: Any) -> encoder.Encoded:
    return encoder.encode(state_of(model), model.config, **inputs)


@STYLES
@RELATIVE
@pytest.mark.parametrize("side", ["right", "left"])
def test_relative_positions(position: str, flags: dict[str, Any], side: str) -> None:
    model = tiny_model(XmodModel, position_embedding_type=position, **flags)
    batch = ragged_batch((6, 3, 6), "tokens", side=side)
    result = model(**batch, **EVERYTHING)
    assert_same_outputs(
        result, reference_of(model, **batch), batch["attention_mask"], fields=FIELDS, padding_is_zero=True
    )


@RELATIVE
def test_relative_positions_count_places_and_not_real_tokens(position: str) -> None:
    """A hole in the middle of a row keeps its width."""
    model = tiny_model(XmodModel, position_embedding_type=position)
    batch = ragged_batch((6, 6))
    batch["attention_mask"][0, 2:4] = 0
    assert_same_outputs(model(**batch), reference_of(model, **batch), batch["attention_mask"], fields=FIELDS[1:2])


@RELATIVE
def test_relative_positions_matter_and_are_a_weight_like_the_others(position: str, tmp_path: Path) -> None:
    model = tiny_model(XmodModel, position_embedding_type=position)
    name = "encoder.layer.1.attention.self.distance_embedding.weight"
    assert model.state_dict()[name].shape == (2 * 40 - 1, 8)
    again = assert_round_trip(model, tmp_path)
    batch = ragged_batch()
    before = again(**batch).last_hidden_state
    torch.testing.assert_close(before, model(**batch).last_hidden_state)
    with torch.no_grad():
        again.get_parameter(name).zero_()
    assert (again(**batch).last_hidden_state - before).abs().max() > 0.01


@RELATIVE
def test_gradients_through_relative_positions(position: str) -> None:
    model, twin = (tiny_model(XmodForMaskedLM, position_embedding_type=position) for _ in range(2))
    batch = ragged_batch((5, 4), "tokens")
    labels = labels_like(batch, 99)
    model(**batch, labels=labels).loss.backward()
    logits = heads.lm_logits(state_of(twin), twin.config, reference_of(twin, **batch).last_hidden_state)
    heads.masked_lm_loss(logits, labels).backward()
    assert_same_gradients(model, twin)
    assert model.roberta.encoder.layer[0].attention.self.distance_embedding.weight.grad.any()


@RELATIVE
def test_relative_positions_in_a_decoder_with_a_past(position: str) -> None:
    """Several new tokens behind a past stand where they would have stood in one piece."""
    model = tiny_model(XmodModel, is_decoder=True, add_cross_attention=True, position_embedding_type=position)
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(4, 99, (2, 7), generator=generator)
    more = {"lang_ids": torch.tensor([2, 0]), "encoder_hidden_states": torch.randn(2, 5, 32, generator=generator)}
    assert "encoder.layer.0.crossattention.self.distance_embedding.weight" not in model.state_dict()
    whole = model(input_ids=ids, **more, **EVERYTHING, use_cache=False)
    fields = ("hidden_states", "attentions", "cross_attentions")
    assert_same_outputs(whole, reference_of(model, input_ids=ids, **more), fields=fields)
    first = model(input_ids=ids[:, :4], **more)
    second = model(input_ids=ids[:, 4:], past_key_values=first.past_key_values, **more)
    torch.testing.assert_close(second.last_hidden_state, whole.last_hidden_state[:, 4:], atol=1e-5, rtol=0)


@STYLES
@pytest.mark.parametrize("form", ["heads", "layers-heads"])
def test_head_mask(form: str, flags: dict[str, Any]) -> None:
    model = tiny_model(XmodModel, **flags)
    batch = ragged_batch()
    mask = torch.tensor([[1.0, 0.0, 1.0, 0.5], [0.0, 1.0, 1.0, 1.0]])
    mask = mask[0] if form == "heads" else mask
    result = model(**batch, head_mask=mask, **EVERYTHING)
    assert_same_outputs(result, reference_of(model, **batch, head_mask=mask), batch["attention_mask"], fields=FIELDS)
    assert not result.attentions[0][:, 1].any()
    assert (result.last_hidden_state - model(**batch).last_hidden_state).abs().max() > 0.01


def test_head_mask_of_ones_changes_nothing() -> None:
    model = tiny_model(XmodModel, attention="sdpa")
    batch = ragged_batch()
    assert_same_outputs(model(**batch, head_mask=torch.ones(2, 4)), model(**batch), batch["attention_mask"])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("position", ["absolute", "relative_key"])
def test_head_mask_reaches_the_heads_of_every_class(attention: str, position: str) -> None:
    model = tiny_model(XmodForSequenceClassification, attention, position_embedding_type=position)
    batch = ragged_batch((4, 3))
    mask = torch.tensor([0.0, 1.0, 0.0, 1.0])
    expected = heads.sequence_logits(state_of(model), reference_of(model, **batch, head_mask=mask).last_hidden_state)
    torch.testing.assert_close(model(**batch, head_mask=mask).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
@pytest.mark.parametrize("dtype", [torch.long, torch.float, torch.bool])
def test_a_mask_over_pairs_is_taken_at_its_word(is_decoder: bool, dtype: torch.dtype) -> None:
    """Three dimensions say which token sees which, in an encoder and in a decoder alike."""
    model = tiny_model(XmodModel, is_decoder=is_decoder)
    batch = ragged_batch((6, 6), "tokens")
    generator = torch.Generator().manual_seed(5)
    pairs = torch.rand(2, 6, 6, generator=generator) < 0.5
    pairs |= torch.eye(6, dtype=torch.bool)
    batch["attention_mask"] = pairs.to(dtype)
    more = {"use_cache": False} if is_decoder else {}
    assert_same_outputs(model(**batch, **EVERYTHING, **more), reference_of(model, **batch), fields=FIELDS)


def test_two_blocks_in_one_row_do_not_see_each_other() -> None:
    """The use of a mask over pairs: packed sentences."""
    model = tiny_model(XmodModel)
    ids = torch.randint(4, 99, (1, 7), generator=torch.Generator().manual_seed(6))
    pairs = torch.block_diag(torch.ones(4, 4), torch.ones(3, 3))[None]
    positions = torch.tensor([[2, 3, 4, 5, 2, 3, 4]])
    lang_ids = torch.tensor([[0, 0, 0, 0, 2, 2, 2]])
    both = model(ids, attention_mask=pairs, position_ids=positions, lang_ids=lang_ids).last_hidden_state
    first = model(ids[:, :4], lang_ids=torch.tensor([0])).last_hidden_state
    second = model(ids[:, 4:], lang_ids=torch.tensor([2])).last_hidden_state
    torch.testing.assert_close(both, torch.cat([first, second], 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [2.0, 1.5, 8])
def test_any_reduction_factor(factor: float) -> None:
    model = tiny_model(XmodModel, adapter_reduction_factor=factor)
    batch = ragged_batch((4, 3), "tokens")
    assert_same_outputs(model(**batch), reference_of(model, **batch), batch["attention_mask"], fields=FIELDS[1:2])


def test_a_callable_activation() -> None:
    model = tiny_model(XmodModel, hidden_act=torch.tanh)
    batch = ragged_batch((4, 3))
    assert_same_outputs(model(**batch), reference_of(model, **batch), batch["attention_mask"], fields=FIELDS[1:2])


def test_every_combination_of_adapter_flags() -> None:
    names = ("pre_norm", "adapter_layer_norm", "adapter_reuse_layer_norm", "ln_before_adapter")
    batch = ragged_batch((4, 2), "tokens")
    for bits in range(16):
        flags = {name: bool(bits >> place & 1) for place, name in enumerate(names)}
        model = tiny_model(XmodModel, **flags)
        assert_same_outputs(model(**batch), reference_of(model, **batch), batch["attention_mask"], fields=FIELDS[1:2])
