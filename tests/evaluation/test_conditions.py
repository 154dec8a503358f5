"""Ways to read: no adapter, a relative's; and the model as it was afterwards."""

import copy

import pytest
import torch

from tests.support import assert_same_state, ragged_batch, tiny_model
from xmodular import XmodForSequenceClassification, evaluate
from xmodular.evaluation.conditions import jobs_of
from xmodular.modeling.adapters import XmodAdapter
from xmodular.tasks.readers import Reading
from xmodular.tasks.running import without_adapters


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"pre_norm": True},
        {"adapter_layer_norm": True},
        {"adapter_reuse_layer_norm": True, "ln_before_adapter": False},
    ],
)
def test_no_adapter_is_an_adapter_of_zeros(shape):
    model = tiny_model(XmodForSequenceClassification, **shape)
    zero = copy.deepcopy(model)
    for module in zero.modules():
        if isinstance(module, XmodAdapter):
            for parameter in module.parameters():
                torch.nn.init.zeros_(parameter)
    before = copy.deepcopy(model.state_dict())
    batch = ragged_batch()
    with torch.no_grad():
        expected, own = zero(**batch).logits, model(**batch).logits
        with without_adapters(model):
            found = model(**batch).logits
        again = model(**batch).logits
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, own, atol=1e-3)
    assert torch.equal(again, own)
    assert_same_state(model.state_dict(), before)


def test_adapters_come_back_after_an_error():
    model = tiny_model(XmodForSequenceClassification)
    batch = ragged_batch()
    with torch.no_grad():
        own = model(**batch).logits
        with pytest.raises(KeyError), without_adapters(model):
            raise KeyError
        assert torch.equal(model(**batch).logits, own)


def test_jobs():
    languages = ["en_XX", "de_DE", "nl_XX", "sw_KE"]
    wanted = ("right", "source", "relative", "none")

    def table(language, reader):
        return {
            job.condition: (job.reading.adapter, job.reading.adapted)
            for job in jobs_of(language, reader, wanted, "en_XX", languages)
        }

    assert table("nl_XX", Reading("nl_XX", "nl_XX")) == {
        "right": ("nl_XX", True),
        "source": ("en_XX", True),
        "relative": ("de_DE", True),
        "none": ("nl_XX", False),
    }
    # the model lacks it: its relative's adapter stands for its own
    assert table("gsw", Reading("gsw", "de_DE")) == {
        "relative": ("de_DE", True),
        "source": ("en_XX", True),
        "none": ("de_DE", False),
    }
    # the source itself: its own adapter is the source's; no relative: none
    assert table("en_XX", Reading("en_XX", "en_XX")).keys() == {"right", "relative", "none"}
    assert table("sw_KE", Reading("sw_KE", "sw_KE")).keys() == {"right", "source", "none"}


def test_every_way_to_read_in_one_call(topic_run, corpus):
    before = copy.deepcopy(topic_run.model.state_dict())
    results = evaluate(topic_run.model, corpus / "topic", adapter=("right", "source", "relative", "none"))
    assert results.adapters() == ["right", "relative", "source", "none", "majority", "uniform"]
    assert results.value("en_XX", "relative").reader == "de_DE"
    assert results.value("de_DE", "none").reader is None
    assert results.value("sw_KE", "relative") is None  # it has none here
    assert_same_state(topic_run.model.state_dict(), before)
    pairs = {(each.adapter, each.baseline_adapter) for each in results.comparisons}
    assert pairs == {("right", "source"), ("right", "relative"), ("right", "none")}


def test_perplexity_without_adapters(base_run, corpus):
    results = evaluate(base_run.model, corpus / "text", adapter=("right", "none"), max_length=32)
    for language in results.languages():
        assert results.value(language, "none").value != results.value(language, "right").value
    assert {each.baseline_adapter for each in results.comparisons} == {"none"}
