"""The form of the plan for tracing: torch.compile without graph breaks, and torch.export."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support import ragged_batch, tiny_model
from xmodular import XmodForMaskedLM, XmodForSequenceClassification, XmodModel

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
