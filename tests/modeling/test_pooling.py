"""What the classification head reads: the first token's state, or the mean over the real tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support import TOLERANCE, tiny_config, tiny_model
from xmodular import XmodForSequenceClassification
from xmodular.errors import ConfigurationError

LENGTHS = (5, 9, 1, 7)


def batch(side: str = "right") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 99, (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    mask = mask if side == "right" else mask.flip(1)
    lang_ids = torch.tensor([0, 2, 1, 2])
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask, "lang_ids": lang_ids}


def mean_model(**more: Any) -> Any:
    return tiny_model(XmodForSequenceClassification, classifier_pooling="mean", num_labels=3, **more)


@pytest.mark.parametrize("layout", ["packed", "grid"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_mean_is_over_the_real_tokens(attention: str, layout: str) -> None:
    model = mean_model(attention=attention, layout=layout)
    inputs = batch()
    states = model.roberta(**inputs).last_hidden_state
    head = model.classifier
    for row, length in enumerate(LENGTHS):
        mean = states[row, :length].mean(0)
        wanted = head.out_proj(torch.tanh(head.dense(mean)))
        torch.testing.assert_close(model(**inputs).logits[row], wanted, atol=TOLERANCE, rtol=0)


def test_padding_neither_its_side_nor_its_amount_matters() -> None:
    model, inputs = mean_model(), batch()
    wanted = model(**inputs).logits
    for row, length in enumerate(LENGTHS):
        alone = model(inputs["input_ids"][row : row + 1, :length], inputs["lang_ids"][row : row + 1]).logits
        torch.testing.assert_close(alone[0], wanted[row], atol=TOLERANCE, rtol=0)
    left = {name: values.clone() for name, values in inputs.items()}
    for row, length in enumerate(LENGTHS):
        for name, empty in (("input_ids", 1), ("attention_mask", 0)):
            left[name][row] = empty
            left[name][row, -length:] = inputs[name][row, :length]
    torch.testing.assert_close(model(**left).logits, wanted, atol=TOLERANCE, rtol=0)


def test_the_loss_reaches_every_token() -> None:
    model, inputs = mean_model().train(), batch()
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
    labels = torch.tensor([0, 1, 2, 0])
    model(**{**inputs, "input_ids": None}, inputs_embeds=embeds, labels=labels).loss.backward()
    assert embeds.grad is not None
    assert torch.equal(embeds.grad.abs().sum(-1) > 0, inputs["attention_mask"] == 1)


def test_a_graph_takes_other_sizes() -> None:
    model = mean_model()
    compiled = torch.compile(model, backend="eager", dynamic=True)
    for rows, length in ((4, 9), (2, 7)):
        whole = batch()
        inputs = {name: whole[name][:rows, :length].contiguous() for name in ("input_ids", "attention_mask")}
        inputs["lang_ids"] = whole["lang_ids"][:rows]
        wanted = model(**inputs).logits
        torch.testing.assert_close(compiled(**inputs).logits, wanted, atol=TOLERANCE, rtol=0)


def test_other_values_are_refused_and_the_default_is_the_first_token() -> None:
    assert tiny_config().classifier_pooling == "first"
    with pytest.raises(ConfigurationError, match="classifier_pooling is 'max'"):
        tiny_config(classifier_pooling="max")
