"""Models whose adapters are loaded when a batch needs them: the same outputs, and no weight that is not needed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import xmodular
from tests.support import ragged_batch, tiny_model, with_own_vocabulary
from xmodular import Predictor
from xmodular.errors import DataError
from xmodular.on_demand import load_on_demand, resident_languages
from xmodular.saved_models import to_run
from xmodular.tasks.running import without_adapters

LANGUAGES = ["en_XX", "de_DE", *(f"l{letter}_XX" for letter in "abcdefghijklmnopqr")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    tiny_model(xmodular.XmodForSequenceClassification, languages=LANGUAGES, num_labels=3).save_pretrained(place)
    return place


def parameters(model: torch.nn.Module, device: str = "cpu") -> int:
    return sum(each.numel() for each in model.parameters() if each.device.type == device)


@pytest.mark.parametrize("precision", ["keep", "fp32", "bf16"])
def test_outputs_are_those_of_the_whole_model(folder: Path, precision) -> None:
    whole, lean = to_run(folder, precision), load_on_demand(folder, precision)
    assert lean.languages == whole.languages
    assert lean.config.default_language == whole.config.default_language
    one = sum(each.numel() for name, each in whole.named_parameters() if ".de_DE." in name)
    assert parameters(lean) == parameters(whole) - 19 * one
    assert resident_languages(lean) == ("en_XX",)
    batch = ragged_batch()
    with torch.inference_mode():
        for ids in ([7, 1, 7, 1], [19, 1, 0, 19], [3, 3, 3, 3]):
            batch["lang_ids"] = torch.tensor(ids)
            assert torch.equal(lean(**batch).logits, whole(**batch).logits)
    assert resident_languages(lean) == ("en_XX", "de_DE", "lb_XX", "lf_XX", "lr_XX")
    assert parameters(lean, "meta") == 15 * one
    assert {each.dtype for each in lean.parameters()} == {each.dtype for each in whole.parameters()}
    for name, own in lean.named_parameters():
        assert own.device.type == "meta" or torch.equal(own, whole.get_parameter(name)), name
        assert not own.is_inference()


def test_a_copy_loads_for_itself(folder: Path) -> None:
    lean = load_on_demand(folder)
    other = copy.deepcopy(lean)
    batch = ragged_batch() | {"lang_ids": torch.tensor([5, 5, 6, 6])}
    with without_adapters(other, left_out=False), torch.inference_mode():
        assert torch.equal(other(**batch).logits, to_run(folder)(**batch).logits)
    assert resident_languages(lean) == ("en_XX",)
    assert resident_languages(other) == ("en_XX", "ld_XX", "le_XX")


def test_a_default_language_needs_no_ids(folder: Path, tmp_path: Path) -> None:
    model = to_run(folder)
    model.set_default_language("lk_XX")
    model.save_pretrained(tmp_path)
    lean = load_on_demand(tmp_path)
    assert (resident_languages(lean), lean.config.default_language) == (("lk_XX",), "lk_XX")
    ids = {"input_ids": torch.tensor([[0, 9, 8, 2]])}
    with torch.inference_mode():
        assert torch.equal(lean(**ids).logits, model(**ids).logits)
        lean.set_default_language("de")
        model.set_default_language("de")
        assert torch.equal(lean(**ids).logits, model(**ids).logits)


def test_missing_weights_show_at_once(folder: Path, tmp_path: Path) -> None:
    to_run(folder).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if ".lr_XX." in name)
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=f"lacks weights of its languages, among them {lost}"):
        load_on_demand(tmp_path)


def test_a_language_with_its_own_vocabulary_is_there_at_once(topic_run, tmp_path: Path) -> None:
    model = with_own_vocabulary(topic_run)
    model.save_pretrained(tmp_path)
    topic_run.tokenizer.save_pretrained(tmp_path)
    rows = [{"text": "nyumba anaona mto", "language": "sw"}, {"text": "das Haus sieht Brot", "language": "de"}]
    lean = load_on_demand(tmp_path)
    assert "sw_KE" in resident_languages(lean)
    assert Predictor(lean)(rows) == Predictor(tmp_path)(rows)
