"""What might pass silently and must not: masks, hooks, ids at padding, keywords, values out of range."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support import ragged_batch, tiny_model
from xmodular import XmodForMaskedLM, XmodForQuestionAnswering, XmodModel
from xmodular.errors import InputError

TOKENS = (torch.arange(36) % 3).view(4, 9)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_boolean_mask_of_four_dimensions_hides_under_every_backend(backend: str) -> None:
    model = tiny_model(XmodModel, backend)
    batch = ragged_batch()
    visible = (batch["attention_mask"][:, None, :] != 0).expand(-1, 9, -1)
    expected = model(**{**batch, "attention_mask": visible.long()}).last_hidden_state
    square = {**batch, "attention_mask": visible[:, None]}
    torch.testing.assert_close(model(**square).last_hidden_state, expected, atol=1e-5, rtol=0)
    asked = model(**square, output_attentions=True)
    torch.testing.assert_close(asked.last_hidden_state, expected, atol=1e-5, rtol=0)
    assert not asked.attentions[0].masked_select(~visible[:, None].expand_as(asked.attentions[0])).any()


def test_hooks_see_the_same_with_and_without_gradients() -> None:
    model = tiny_model(XmodModel, "sdpa")
    seen: list[Any] = []
    layer = model.encoder.layer[0].output
    for module in (layer.adapter_modules, layer.dense):
        module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    with_gradient = model(**ragged_batch()) and list(seen)
    seen.clear()
    with torch.no_grad():
        model(**ragged_batch())
    for ours, expected in zip(seen, with_gradient, strict=True):
        torch.testing.assert_close(ours, expected.detach())


def test_ids_at_padding_are_not_read_in_either_layout() -> None:
    batch = ragged_batch()
    padded = TOKENS.masked_fill(batch["attention_mask"] == 0, -100)
    for options in ({}, {"is_decoder": True}):  # a decoder with its cache takes the grid
        model = tiny_model(XmodModel, "sdpa", **options)
        expected = model(**{**batch, "lang_ids": TOKENS}).last_hidden_state
        torch.testing.assert_close(model(**{**batch, "lang_ids": padded}).last_hidden_state, expected)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"is_causal": True}, "is_causal"),
        ({"cu_seq_lens_q": torch.tensor([0, 4])}, "cu_seq_lens_q"),
        ({"input_ids": torch.full((4, 9), 99)}, "input_ids has 99"),
        ({"input_ids": torch.ones(4, 9, dtype=torch.bool)}, "torch.bool"),
        ({"token_type_ids": torch.full((4, 9), 2)}, "token_type_ids has 2"),
        ({"position_ids": torch.full((4, 9), -1)}, "position_ids has -1"),
        ({"past_key_values": ()}, "must be a cache"),
    ],
)
def test_inputs_that_fit_in_form_only(change: dict[str, Any], text: str) -> None:
    model = tiny_model(XmodModel, "sdpa")
    with pytest.raises(InputError, match=text):
        model(**{**ragged_batch(), **change})


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("wrong", [99, -5])
def test_labels_out_of_range(sparse: bool, wrong: int) -> None:
    model = tiny_model(XmodForMaskedLM, "sdpa")
    labels = torch.full((4, 9), -100)
    labels[0, 1] = wrong
    with pytest.raises(InputError, match=f"labels have {wrong}"):
        model(**ragged_batch(), labels=labels, sparse_prediction=sparse)


def test_half_an_answer() -> None:
    model = tiny_model(XmodForQuestionAnswering, "sdpa")
    with pytest.raises(InputError, match="together"):
        model(**ragged_batch(), start_positions=torch.tensor([1, 1, 1, 1]))
