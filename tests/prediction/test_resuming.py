"""An interrupted run goes on only if what its rows depend on is the same; all else may change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.prediction.conftest import SENTENCES
from xmodular import XmodForSequenceClassification, embed, predict
from xmodular.errors import ConfigurationError
from xmodular.prediction.parts import JOURNAL, OutputParts

OWN = "def own(texts):\n    return [('de', 0.9)] * len(texts)\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"{SENTENCES['de_DE'][0]} {number}"}) + "\n" for number in range(6)))
    return path


def interrupted(verb: Any, *args: Any, **more: Any) -> None:
    """A run that ends after its first part of two rows."""

    def closing(self: OutputParts, *given: Any) -> None:
        close(self, *given)
        raise KeyboardInterrupt

    close = OutputParts.close
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OutputParts, "close", closing)
        with pytest.raises(KeyboardInterrupt):
            verb(*args, window=2, **more)


def test_a_changed_identifier_is_noticed(
    topic: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "resumed_identifier.py"
    module.write_text(OWN)
    more = {"identify": "resumed_identifier:own", "shard_rows": 2}
    out = tmp_path / "out"
    interrupted(predict, topic, source, out, **more)
    module.write_text(OWN.replace("'de'", "'ru'"))
    monkeypatch.delitem(sys.modules, "resumed_identifier")
    with pytest.raises(ConfigurationError, match="differs in identifier "):
        predict(topic, source, out, window=2, **more)
    assert predict(topic, source, out, window=2, overwrite=True, **more).rows == 6


def test_a_changed_model_of_fasttext_is_noticed(
    topic: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class German:
        def predict(self, text: str, k: int, threshold: float) -> tuple[tuple[str, ...], tuple[float, ...]]:
            return ("__label__deu_Latn",), (1.00001,)

    monkeypatch.setattr("xmodular.identification.fasttext_models._loaded", lambda path: German())
    model = tmp_path / "lid.bin"
    model.write_bytes(b"one")
    more = {"identify": f"fasttext:{model}", "shard_rows": 2}
    predict(topic, source, tmp_path / "out", **more)
    model.write_bytes(b"other")
    with pytest.raises(ConfigurationError, match="differs in identifier "):
        predict(topic, source, tmp_path / "out", **more)


def test_a_changed_function_is_noticed(topic: Path, source: Path, tmp_path: Path) -> None:
    def one(texts: list[str]) -> list[str]:
        return ["de"] * len(texts)

    def other(texts: list[str]) -> list[str]:
        return ["ru"] * len(texts)

    other.__qualname__ = one.__qualname__  # as if it had been edited
    interrupted(predict, topic, source, tmp_path / "out", identify=one, shard_rows=2)
    with pytest.raises(ConfigurationError, match="differs in identifier "):
        predict(topic, source, tmp_path / "out", identify=other, shard_rows=2, window=2)
    assert predict(topic, source, tmp_path / "out", identify=one, shard_rows=2, window=2).rows == 6


def test_the_languages_in_memory_may_change(topic: Path, source: Path, tmp_path: Path) -> None:
    interrupted(predict, topic, source, tmp_path / "out", language="de", shard_rows=2)
    done = predict(topic, source, tmp_path / "out", language="de", shard_rows=2, window=2, resident_languages=1)
    assert done.rows == 6


def test_a_run_from_before_an_option_was_there_goes_on(topic: Path, source: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"language": "de", "shard_rows": 2}
    interrupted(predict, topic, source, tmp_path / "out", **more)
    journal = tmp_path / "out" / JOURNAL
    noted = json.loads(journal.read_text())
    for name in ("identify_languages", "resident_languages", "engine", "workers", "worker_threads", "worker_gpus"):
        noted["run"].pop(name, None)
    journal.write_text(json.dumps(noted))
    assert predict(topic, source, tmp_path / "out", window=2, **more).rows == 6


def test_changed_files_of_pooling_are_noticed(topic: Path, source: Path, tmp_path: Path) -> None:
    model = XmodForSequenceClassification.from_pretrained(topic)
    interrupted(embed, model, source, tmp_path / "out", language="de", shard_rows=2, tokenizer=topic)
    model.config.sentence_embedding = {"pooling": "first"}
    with pytest.raises(ConfigurationError, match="vector_settings"):
        embed(model, source, tmp_path / "out", language="de", shard_rows=2, window=2, tokenizer=topic)


def test_changed_adapters_on_disk_are_noticed(topic: Path, source: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"language": "de", "shard_rows": 2, "tokenizer": topic}
    whole = XmodForSequenceClassification.from_pretrained(topic)
    whole.save_pretrained(tmp_path / "model")
    model = XmodForSequenceClassification.from_pretrained(tmp_path / "model", resident_languages=1)
    interrupted(predict, model, source, tmp_path / "out", **more)
    whole.roberta.encoder.layer[0].output.adapter_modules["de_DE"].dense1.weight.data += 1.0
    whole.save_pretrained(tmp_path / "model")
    model = XmodForSequenceClassification.from_pretrained(tmp_path / "model", resident_languages=1)
    with pytest.raises(ConfigurationError, match="differs in weights "):
        predict(model, source, tmp_path / "out", window=2, **more)
