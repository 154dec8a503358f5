"""Fine-tuning of vectors on pairs: what is read, what trains, what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import xmodular
from tests.embeddings.conftest import different, encoders  # noqa: F401 (fixtures)
from tests.kinds import LINES
from xmodular import Predictor, XmodForSentenceEmbedding, XmodModel, finetune
from xmodular.embeddings import Embedder
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.tasks.sentence_vectors import Nearby, contrastive, guesses, statistics
from xmodular.tasks.task import Example

WORDS = {code: LINES[code].split()[:12] for code in ("en_XX", "de_DE", "sw_KE")}


@pytest.fixture(scope="module")
def tatoeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English, a tab, German; without a header."""
    path = tmp_path_factory.mktemp("pairs") / "de_DE.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in zip(WORDS["en_XX"], WORDS["de_DE"], strict=True)))
    return path


def train(model: Path, data: Any, output_dir: Path, **more: Any) -> Any:
    given = {"max_steps": 3, "batch_size": 4, "learning_rate": 1e-2, **more}
    return finetune(model, data, task="embed", output_dir=output_dir, **given)


@pytest.fixture(scope="module")
def run(different: Path, tatoeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    more = {"columns": {"text": "1", "positive": "2"}, "language": "en", "prefix": "query: "}
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(different, tatoeba, folder, temperature=0.1, pooling="first", **more)


def test_only_the_shared_layers_train(run: Any, different: Path) -> None:  # noqa: F811
    before = XmodModel.from_pretrained(different, add_pooling_layer=False).state_dict()
    after = XmodModel.from_pretrained(run.output_dir, add_pooling_layer=False).state_dict()
    assert before.keys() == after.keys()
    for name, weight in after.items():
        frozen = "embeddings" in name or "adapter" in name
        assert torch.equal(weight, before[name]) == frozen, name


def test_the_settings_are_stored_and_used(run: Any) -> None:
    config = json.loads((run.output_dir / "config.json").read_text())
    assert config["sentence_embedding"] == {
        **{"pooling": "first", "normalize": True},
        **{"prefix": "query: ", "temperature": 0.1},
    }
    assert config["architectures"] == ["XmodForSentenceEmbedding"]
    assert Embedder(run.output_dir).settings.pooling == "first"


def test_predictor_gives_the_vectors_of_the_embedder(run: Any) -> None:
    found = Predictor(run.output_dir)([{"text": "All", "language": "en"}, {"text": "Alle", "language": "de"}])
    assert [each["adapter"] for each in found] == ["en_XX", "de_DE"]
    vectors = Embedder(run.output_dir)(["All", "Alle"], ["en", "de"])
    assert np.abs(np.array([each["embedding"] for each in found]) - vectors).max() < 1e-5


def test_each_side_is_read_by_its_adapter(different: Path, tatoeba: Path, tmp_path: Path, monkeypatch: Any) -> None:  # noqa: F811
    seen: list[list[list[int]]] = []
    forward = XmodForSentenceEmbedding.forward

    def spy(self: Any, input_ids: Any = None, lang_ids: Any = None, *args: Any, **kwargs: Any) -> Any:
        if lang_ids.dim() == 2:
            seen.append(lang_ids.tolist())
        return forward(self, input_ids, lang_ids, *args, **kwargs)

    monkeypatch.setattr(XmodForSentenceEmbedding, "forward", spy)
    rows = [
        {"text": "All", "language": "en", "positive": "Alle", "positive_language": "de", "negative": "Watu"},
        {"text": "human", "language": "en", "positive": "watu", "positive_language": "sw", "negative": "Menschen"},
    ]
    train(different, rows, tmp_path / "rows", max_steps=1)
    assert sorted(seen.pop()) == [[0, 1, 1], [0, 2, 2]]
    columns = {"text": "1", "positive": "2"}
    train(different, tatoeba, tmp_path / "file", max_steps=1, columns=columns, language="en")
    assert seen.pop() == [[0, 1]] * 4
    train(different, tatoeba, tmp_path / "other", max_steps=1, columns=columns, language="en", positive_language="sw")
    assert seen.pop() == [[0, 2]] * 4


def test_it_learns(different: Path, tmp_path: Path) -> None:  # noqa: F811
    model = XmodModel.from_pretrained(different, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model.save_pretrained(tmp_path / "model")
    texts, others = (LINES[code].split() for code in ("en_XX", "de_DE"))
    texts, others = ([" ".join(words[place : place + 3]) for place in range(12)] for words in (texts, others))
    rows = [{"text": a, "positive": b} for a, b in zip(texts, others, strict=True)]
    more = {"language": "en", "positive_language": "de", "tokenizer": different, "eval_every": 20}
    more |= {"max_steps": 60, "batch_size": 12, "learning_rate": 3e-3}
    trained = train(tmp_path / "model", rows, tmp_path / "run", dev=rows, **more)

    def accuracy(model: Path) -> float:
        cosines = Embedder(model)(texts, "en") @ Embedder(model)(others, "de").T
        right = np.arange(len(texts))
        return float(((cosines.argmax(0) == right).mean() + (cosines.argmax(1) == right).mean()) / 2)

    assert trained.metrics["dev"]["accuracy"] == pytest.approx(accuracy(trained.output_dir), abs=0.05)
    assert accuracy(trained.output_dir) > max(0.7, accuracy(different) + 0.2)


@pytest.mark.parametrize("twins", [False, True])
def test_the_loss_against_its_formula(twins: bool) -> None:
    vectors = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(3 * 4 * 2).view(3, 4, 2)
    if twins:  # the same positive twice: neither is a negative of the other's text
        ids[2, 1], vectors[2, 1] = ids[0, 1], vectors[0, 1]

    class Model(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> Any:
            return type("Output", (), {"embeddings": vectors})

    cosine = F.normalize(vectors, dim=-1)
    expected = 0.0
    for row in range(3):
        candidates = [*cosine[:, 1], *cosine[:, 2:].flatten(0, 1)]
        scores = [cosine[row, 0] @ each / 0.2 for each in candidates]
        right = scores[row]
        if twins and row in (0, 2):
            del scores[2 - row]
        back = torch.stack([cosine[row, 1] @ each / 0.2 for each in cosine[:, 0]])
        expected -= float((right - torch.stack(scores).logsumexp(0) + back.log_softmax(0)[row]) / 2)
    found = contrastive(Model(), {"input_ids": ids}, torch.tensor(3), temperature=0.2)
    assert float(found) == pytest.approx(expected / 3, rel=1e-5)


def of_vectors(vectors: Any, texts: str = "abcd") -> list[list[float]]:
    """The statistics of rows with equal vectors of text and positive, without the number of rows."""
    examples = [Example((each,), Nearby((each,), ("de",)), "", language="en") for each in texts]
    found: list[list[float]] = statistics(examples, [{"embedding": each, "positive": each} for each in vectors], [])[
        :, 1:
    ].tolist()
    return found


def test_ties_are_no_success() -> None:
    assert of_vectors(np.eye(4)) == [[1, 1]] * 4
    assert of_vectors(np.ones((4, 3))) == [[0.25, 0.4]] * 4  # one of four is drawn
    assert of_vectors(np.full((4, 3), np.nan)) == [[0.25, 0.4]] * 4
    assert of_vectors([*np.eye(3), np.full(3, np.nan)])[:3] == [[1, 1]] * 3


def test_a_text_that_is_there_twice_is_right_both_times() -> None:
    assert of_vectors(np.eye(4)[[0, 1, 0, 2]], texts="abac") == [[1, 1]] * 4


@pytest.mark.parametrize(
    ("row", "more", "error", "said"),
    [
        ({"text": "a", "positive": "b", "language": "en", "positive_language": "xx"}, {}, LanguageError, "'xx'"),
        ({"text": "a", "positive": "", "language": "en"}, {}, DataError, "'positive' is empty"),
        ({"text": "a", "positive": 3, "language": "en"}, {}, DataError, "'positive' must be a non-empty text"),
        ({"text": "a", "positive": "b", "negative": [" "], "language": "en"}, {}, DataError, "'negative'"),
        ({"text": "a", "positive": "b"}, {}, DataError, "language is unknown"),
        ({"text": "a", "positive": "b"}, {"language": "en", "temperature": 0.0}, ConfigurationError, "temperature"),
    ],
)
def test_bad_input(different: Path, tmp_path: Path, row: Any, more: Any, error: Any, said: str) -> None:  # noqa: F811
    with pytest.raises(error, match=said):
        train(different, [row] * 4, tmp_path / "run", **more)


def test_rows_need_the_same_number_of_negatives(different: Path, tmp_path: Path) -> None:  # noqa: F811
    row = {"text": "a", "positive": "b", "language": "en"}
    with pytest.raises(DataError, match=r"0 hard negatives.*1"):
        train(different, [row, {**row, "negative": "c"}], tmp_path / "run")


def test_options_of_embed_are_for_embed(different: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ConfigurationError, match="--prefix 'query: ' is for embed; the task is classify"):
        finetune(different, [{"text": "a", "label": "b"}], output_dir=tmp_path / "run", prefix="query: ")


def test_one_adapter_makes_a_vector(run: Any) -> None:
    with pytest.raises(ConfigurationError, match="One adapter reads each text that becomes a vector"):
        Predictor(run.output_dir, identify="spans")


def test_the_graph_of_vectors_is_refused_with_what_to_do(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="export its encoder"):
        xmodular.export(run.output_dir, tmp_path / "graph", format="torch")
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize("texts", ["abcd", "aabc", "aaaa"])
def test_a_guess_is_among_the_different_texts(texts: str) -> None:
    """What vectors that are all alike score is a guess, with equal texts too, which statistics count once."""
    others = "xxyz"  # positives: the two directions have different numbers
    examples = [Example((a,), Nearby((b,), ("de",)), "", language="en") for a, b in zip(texts, others, strict=True)]
    flat = [{"embedding": np.ones(3), "positive": np.ones(3)}] * 4
    sums = statistics(examples, flat, []).mean(0)
    guess = guesses(examples, [])["uniform"]
    assert isinstance(guess, dict)
    assert guess["accuracy"] == pytest.approx(sums[1])
    harmonic = [float((1 / np.arange(1, len(set(each)) + 1)).mean()) for each in (texts, others)]
    assert guess["mrr"] == pytest.approx(sum(harmonic) / 2)
