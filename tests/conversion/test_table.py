"""The table converts both ways and knows every spelling."""

import pytest
import torch

from tests.support import BASE_FLAGS, LARGE_FLAGS, tiny_config
from xmodular import XmodForMaskedLM, XmodForSequenceClassification
from xmodular.conversion.table import RULES, fairseq_parts, ignored, modern, to_fairseq, weights

STACK = "encoder.sentence_encoder"


def to_ours(name: str) -> str | None:
    """The name here of a fairseq weight, in any of its spellings; None if no row matches."""
    parts = fairseq_parts(modern(name))
    return parts.rule.ours.format(**parts.values) if parts else None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.fairseq)
def test_every_row_goes_both_ways(rule) -> None:
    values = {"layer": "11", "language": "zh_TW", "head": "mnli"}
    fairseq, ours = rule.fairseq.format(**values), rule.ours.format(**values)
    assert to_ours(fairseq) == ours
    assert to_fairseq(ours, head="mnli") == fairseq


def test_no_name_stands_twice() -> None:
    assert len({rule.fairseq for rule in RULES}) == len({rule.ours for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("decoder.lm_head.dense.bias", "lm_head.dense.bias"),
        ("decoder.sentence_encoder.emb_layer_norm.weight", "roberta.embeddings.LayerNorm.weight"),
        (f"{STACK}.layers.3.layer_norms.0.bias", "roberta.encoder.layer.3.attention.output.LayerNorm.bias"),
        (f"{STACK}.layers.3.layer_norms.1.bias", "roberta.encoder.layer.3.output.LayerNorm.bias"),
        (
            f"{STACK}.layers.0.adapter_modules.layers.fc1.bias",
            "roberta.encoder.layer.0.output.adapter_modules.layers.dense1.bias",
        ),
        ("classification_heads.layers.dense.bias", "classifier.dense.bias"),
    ],
)
def test_older_spellings_and_odd_names(name: str, meant: str) -> None:
    assert to_ours(name) == meant


@pytest.mark.parametrize(
    "name",
    [
        "",
        "encoder",
        f"{STACK}.layers.{{layer}}.fc1.weight",
        f"{STACK}.layers.01.fc1.weight",
        f"{STACK}.layers.-1.fc1.weight",
        f"{STACK}.layers.٣.fc1.weight",
        f"{STACK}.layers.0.adapter_modules.en_XX.fc3.weight",
        f"{STACK}.layers.0.adapter_modules.en.XX.fc1.weight",
        f"{STACK}.layers.0.fc1.weight.extra",
        f" {STACK}.embed_tokens.weight",
        "classification_heads.mnli.out_proj.weight_orig",
    ],
)
def test_what_it_does_not_know(name: str) -> None:
    assert fairseq_parts(modern(name)) is None
    assert ignored(modern(name)) is None


@pytest.mark.parametrize(
    "name", [f"{STACK}.version", "encoder._ema", "encoder._ema.x", "encoder.regression_head.0.bias"]
)
def test_what_is_ignored_has_a_reason_and_no_row(name: str) -> None:
    assert ignored(name)
    assert fairseq_parts(modern(name)) is None


@pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
def test_the_weights_of_a_configuration_are_those_of_its_models(flags) -> None:
    config = tiny_config(num_labels=3, **flags)
    with torch.device("meta"):
        states = [model(config).state_dict() for model in (XmodForMaskedLM, XmodForSequenceClassification)]
    expected = {name: tuple(tensor.shape) for state in states for name, tensor in state.items()}
    for alone in ("roberta.embeddings.token_type_embeddings.weight", "lm_head.decoder.bias"):
        del expected[alone]
    assert {weight.ours: weight.shape for weight in weights(config, "mnli")} == expected
    assert {weight.ours for weight in weights(config, None)} == {
        name for name in expected if not name.startswith("classifier.")
    }
