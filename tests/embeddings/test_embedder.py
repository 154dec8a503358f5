"""Vectors are those of the dense encoder, and of the right adapter, whatever else is in the batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tests.embeddings.conftest import LANGUAGES, TEXTS, pooled
from tests.kinds import tokenizer_of
from xmodular import XmodForMaskedLM, XmodModel
from xmodular.embeddings import Embedder
from xmodular.errors import ConfigurationError, InputError, LanguageError
from xmodular.tasks.readers import Reading

Encoders = dict[str, tuple[PreTrainedModel, Path]]


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_vectors_are_those_of_the_dense_encoder(encoders: Encoders, kind: str, pooling: Any) -> None:
    dense, folder = encoders[kind]
    found = Embedder(folder, pooling=pooling, batch_tokens=64)(TEXTS, LANGUAGES)
    assert found.dtype == np.float32
    assert np.abs(found - pooled(dense, kind, TEXTS, pooling).numpy()).max() < 1e-5


def test_each_text_is_read_by_its_adapter(different: Path) -> None:
    model, tokenizer = XmodModel.from_pretrained(different).eval(), tokenizer_of("unigram")
    expected = []
    for text, language in zip(TEXTS, LANGUAGES, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected.append(model(ids, lang_ids=model.lang_ids(language)).last_hidden_state[0].mean(0).numpy())
    embedder = Embedder(different, normalize=False)
    found = embedder(TEXTS, LANGUAGES)
    assert np.abs(found - np.array(expected)).max() < 1e-5
    assert np.abs(found - embedder(TEXTS, "de")).max(1)[:2].min() > 1e-3  # the English texts by another adapter


@pytest.mark.parametrize("batch_tokens", [1, 40, 8192])
def test_the_batch_does_not_matter(different: Path, batch_tokens: int) -> None:
    alone = [Embedder(different)([text], language)[0] for text, language in zip(TEXTS, LANGUAGES, strict=True)]
    assert np.abs(Embedder(different, batch_tokens=batch_tokens)(TEXTS, LANGUAGES) - alone).max() < 1e-5


def test_without_adapters(different: Path) -> None:
    embedder = Embedder(different)
    readings = [Reading("en_XX", "en_XX"), Reading("en_XX", "en_XX", adapted=False)]
    own, without = embedder.read([TEXTS[0]] * 2, readings)
    assert np.abs(own - embedder([TEXTS[0]], "en")[0]).max() < 1e-6
    assert np.abs(own - without).max() > 1e-3


def test_a_model_object_is_used_and_not_changed(different: Path) -> None:
    model = XmodForMaskedLM(XmodModel.from_pretrained(different).config)
    model.roberta.load_state_dict(XmodModel.from_pretrained(different, add_pooling_layer=False).state_dict())
    record = model.config.to_json_string(use_diff=False)
    first = Embedder(model, tokenizer_of("unigram"), pooling="first", prefix="query: ")
    assert np.abs(Embedder(model, tokenizer_of("unigram"))(TEXTS, "de") - Embedder(different)(TEXTS, "de")).max() < 1e-6
    assert first.settings.pooling == "first"  # the second embedder has not changed it
    assert model.config.to_json_string(use_diff=False) == record
    assert model.training


def test_the_prefix_is_read(different: Path) -> None:
    plain, prefixed = Embedder(different), Embedder(different, prefix="query: ")
    assert np.array_equal(prefixed(["equal"], "en"), plain(["query: equal"], "en"))


@pytest.mark.parametrize(
    ("pooling", "modules", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, None, ("mean", True)),
        ({"pooling_mode_cls_token": True}, ["Transformer", "Pooling", "Normalize"], ("first", True)),
        ({"pooling_mode": "cls"}, ["Transformer", "Pooling"], ("first", False)),
        ({"pooling_mode_max_tokens": True}, ["Transformer", "Pooling"], ("mean", True)),
    ],
)
def test_pooling_of_sentence_transformers_files(
    different: Path, tmp_path: Path, pooling: Any, modules: Any, expected: Any
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(different, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    if modules:
        kinds = [{"type": f"sentence_transformers.models.{name}"} for name in modules]
        (folder / "modules.json").write_text(json.dumps(kinds))
    settings = Embedder(folder).settings
    assert (settings.pooling, settings.normalize) == expected
    assert Embedder(folder, pooling="cls").settings.pooling == "first"


def test_identification(different: Path) -> None:
    embedder = Embedder(different, identify=True)
    found = [each.adapter for each in embedder.readings(["Die Würde des Menschen", "12345", TEXTS[3]])]
    assert found == ["de_DE", "en_XX", "sw_KE"]
    assert [each.adapter for each in embedder.readings(TEXTS[2:4], ["en", None])] == ["en_XX", "sw_KE"]
    assert Embedder(different, identify=True, default_language="sw").readings(["123"])[0].adapter == "sw_KE"


def test_an_empty_text_is_its_special_tokens(encoders: Encoders) -> None:
    dense, folder = encoders["unigram"]
    found = Embedder(folder, default_language="de")(["", "und"])
    assert np.abs(found - pooled(dense, "unigram", ["", "und"], "mean").numpy()).max() < 1e-5
    assert Embedder(folder)([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("texts", "language", "error", "said"),
    [
        (["a"], "Klingon", LanguageError, "'Klingon'"),
        (["a"], None, LanguageError, "identify=True"),
        (["a", "b"], ["en"], InputError, "2 texts and 1 languages"),
        (["a"], [3], InputError, "language of text 0 is 3"),
        ("abc", "en", InputError, "give a list"),
        (["a", None], "en", InputError, "Text 1 is None"),
        (["a", "\ud800"], "en", InputError, "unpaired surrogate"),
    ],
)
def test_bad_input(different: Path, texts: Any, language: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Embedder(different)(texts, language)


@pytest.mark.parametrize("wrong", [{"pooling": "max"}, {"batch_tokens": 0}, {"threshold": 2.0}, {"precision": "int4"}])
def test_bad_arguments(different: Path, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Embedder(different, **wrong)
