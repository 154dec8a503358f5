"""A real SentenceTransformer: vectors, saving, training, in their libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.embeddings.conftest import LANGUAGES, TEXTS
from xmodular.embeddings import Embedder, sentence_transformer
from xmodular.errors import ConfigurationError, InputError, LanguageError

pytest.importorskip("sentence_transformers", minversion="6.0")
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = [{"text": text, "language": language} for text, language in zip(TEXTS, LANGUAGES, strict=True)]


@pytest.fixture(scope="module")
def vectors(different: Path) -> np.ndarray:
    return Embedder(different)(TEXTS, LANGUAGES)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_encode_gives_the_vectors_of_the_embedder(different: Path, vectors: np.ndarray, batch_size: int) -> None:
    from sentence_transformers import SentenceTransformer

    model = sentence_transformer(different)
    assert isinstance(model, SentenceTransformer)
    assert np.abs(model.encode(TEXTS, language=LANGUAGES, batch_size=batch_size) - vectors).max() < 1e-6
    assert np.abs(model.encode(ROWS, batch_size=batch_size) - vectors).max() < 1e-6
    assert np.abs(model.encode(TEXTS, language="de") - Embedder(different)(TEXTS, "de")).max() < 1e-6
    assert np.abs(model.encode(TEXTS[2], language="de") - vectors[2]).max() < 1e-6
    assert model.get_embedding_dimension() == 32


def test_the_language_is_identified(different: Path) -> None:
    found = sentence_transformer(different).encode([TEXTS[3], "12"])
    assert np.abs(found - Embedder(different)([TEXTS[3], "12"], ["sw", "en"])).max() < 1e-6
    with pytest.raises(LanguageError, match="identify=True"):
        sentence_transformer(different, identify=False).encode(["12"])


def test_prompts_and_tokens(different: Path) -> None:
    model = sentence_transformer(different, prompts={"query": "query: "}, prefix="text: ")
    for encode, before in (
        (model.encode_query, "query: "),
        (model.encode_document, "text: "),
        (model.encode, "text: "),
    ):
        expected = Embedder(different)([before + "equal"], "en")[0]
        assert np.abs(encode("equal", language="en") - expected).max() < 1e-6
    ids = model.tokenizer("text: equal")["input_ids"]
    assert len(model.encode(["equal", TEXTS[2]], language="en", output_value="token_embeddings")[0]) == len(ids)
    model.max_seq_length = 6
    assert model.preprocess(ROWS)["input_ids"].shape == (5, 6)


@pytest.mark.parametrize(
    ("inputs", "language", "said"),
    [
        (["a"], "xx", "'xx'"),
        (["a", "b"], ["de"], "2 texts and 1 languages"),
        ([{"text": "a", "language": "de"}], "sw", "give one of them"),
        ([{"text": "a", "lang": "de"}], None, "'lang'"),
        ([("a", "b")], None, "pair of texts"),
        ([None], "de", "Text 0 is None"),
    ],
)
def test_bad_input(different: Path, inputs: Any, language: Any, said: str) -> None:
    with pytest.raises((InputError, LanguageError), match=said):
        sentence_transformer(different).encode(inputs, language=language)


def test_the_language_may_be_given_twice_if_it_is_the_same(different: Path, vectors: np.ndarray) -> None:
    assert np.abs(sentence_transformer(different).encode(ROWS, language=LANGUAGES) - vectors).max() < 1e-6


def test_saved_and_loaded_in_a_fresh_process(different: Path, tmp_path: Path) -> None:
    model = sentence_transformer(different, pooling="first", prefix="query: ", default_language="sw", identify=False)
    model.save_pretrained(str(tmp_path / "saved"))
    code = f"""
import json, numpy as np
from sentence_transformers import SentenceTransformer
from xmodular.embeddings import Embedder, sentence_transformer
rows = json.loads({json.dumps(json.dumps(ROWS))})
texts, languages = [row["text"] for row in rows], [row["language"] for row in rows]
folder = {str(tmp_path / "saved")!r}
ours = sentence_transformer(folder)
theirs = SentenceTransformer(folder, trust_remote_code=True)
found = [ours.encode(texts, language=languages), theirs.encode(rows), Embedder(folder)(texts, languages)]
found += [ours.encode(texts), theirs.encode(texts)]
assert ours[0].embedder.adapters.default.adapter == "sw_KE"
assert sentence_transformer(folder, default_language="de")[0].embedder.adapters.default.adapter == "de_DE"
assert sentence_transformer(folder, pooling="mean")[0].embedder.settings.prefix == "query: "
np.save({str(tmp_path / "found.npy")!r}, found)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    with_language, default = model.encode(TEXTS, language=LANGUAGES), model.encode(TEXTS)
    for found, expected in zip(np.load(tmp_path / "found.npy"), [with_language] * 3 + [default] * 2, strict=True):
        assert np.abs(found - expected).max() < 1e-6
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "`sw_KE`" in card
    assert 'SentenceTransformer("' not in card


def test_own_vocabularies(different: Path, tmp_path: Path) -> None:
    from tests.kinds import LINES
    from xmodular import XmodModel
    from xmodular.vocabulary import train_tokenizer

    model = XmodModel.from_pretrained(different)
    own = train_tokenizer({"sw_KE": [LINES["sw_KE"]] * 4}, 60)
    model.set_vocabulary("sw", own, torch.randn(len(own), 32, generator=torch.Generator().manual_seed(1)))
    model.save_pretrained(tmp_path / "own")
    sentence_transformer(different)[0].save_tokenizer(str(tmp_path / "own"))
    made = sentence_transformer(tmp_path / "own")
    expected = [
        Embedder(tmp_path / "own")([text], language)[0] for text, language in zip(TEXTS, LANGUAGES, strict=True)
    ]
    assert np.abs(made.encode(TEXTS, language=LANGUAGES) - expected).max() < 1e-6
    made.save_pretrained(str(tmp_path / "saved"))
    assert np.abs(sentence_transformer(tmp_path / "saved").encode(ROWS) - expected).max() < 1e-6


def test_training_changes_only_what_trains(different: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from xmodular.embeddings import LanguageCollator

    model = sentence_transformer(different)
    model[0].model.set_trainable("shared")
    before = {name: parameter.detach().clone() for name, parameter in model[0].model.named_parameters()}
    data = datasets.Dataset.from_dict(
        {"anchor": TEXTS, "positive": TEXTS[::-1], "anchor_language": LANGUAGES, "positive_language": LANGUAGES[::-1]}
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), max_steps=2, learning_rate=1e-2, report_to=[], save_strategy="no", use_cpu=True
    )
    seen = []
    model[0].model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["lang_ids"]), with_kwargs=True)
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=MultipleNegativesRankingLoss(model),
        data_collator=LanguageCollator(model.preprocess),
    ).train()
    assert [sorted(ids.tolist()) for ids in seen] == [[0, 0, 1, 1, 2]] * 4  # two steps, two columns
    for name, parameter in model[0].model.named_parameters():
        frozen = "embeddings" in name or "adapter" in name
        assert torch.equal(parameter, before[name]) == frozen, name
    model.save_pretrained(str(tmp_path / "saved"))
    assert "MultipleNegativesRankingLoss" in (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    loaded = sentence_transformer(tmp_path / "saved")
    assert np.abs(loaded.encode(ROWS) - model.encode(ROWS)).max() < 1e-6


def test_setfit(different: Path, tmp_path: Path) -> None:
    setfit = pytest.importorskip("setfit")
    datasets = pytest.importorskip("datasets")
    linear_model = pytest.importorskip("sklearn.linear_model")

    body = sentence_transformer(different)
    model = setfit.SetFitModel(model_body=body, model_head=linear_model.LogisticRegression(), labels=["no", "yes"])
    rows = {"text": [*TEXTS, *TEXTS], "label": [0, 0, 1, 1, 1] * 2}
    arguments = setfit.TrainingArguments(batch_size=4, max_steps=2, output_dir=str(tmp_path), report_to="none")
    setfit.Trainer(model=model, args=arguments, train_dataset=datasets.Dataset.from_dict(rows)).train()
    assert np.abs(body.encode(TEXTS) - Embedder(different, identify=True)(TEXTS)).max() > 1e-3  # it has trained
    expected = model.model_head.predict(body.encode(TEXTS))
    assert [["no", "yes"].index(each) for each in model.predict(TEXTS)] == expected.tolist()
    model.save_pretrained(tmp_path / "saved")
    loaded = setfit.SetFitModel.from_pretrained(str(tmp_path / "saved"), trust_remote_code=True)
    assert np.abs(loaded.model_body.encode(TEXTS) - body.encode(TEXTS)).max() < 1e-6


def test_without_the_extra(different: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'xmodular\[embed\]'"):
        sentence_transformer(different)
