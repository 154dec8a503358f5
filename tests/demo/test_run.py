"""The demo's road, on a corpus and with steps too few to learn from."""

import functools
import json

import pytest

from xmodular.demo import embedded_demo, parallel_corpus
from xmodular.errors import ConfigurationError
from xmodular.results import Results

SMALL = {"sentences_per_language": 300, "task_train": 60, "task_test": 12}


def test_the_demo_leaves_every_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedded_demo, "write_corpus", functools.partial(parallel_corpus.write_corpus, **SMALL))
    results = embedded_demo.run(tmp_path / "demo", pretrain_steps=4)
    assert results.source == "en_XX"
    assert set(results.languages()) == set(parallel_corpus.LANGUAGES)  # the added one too
    for part in ("base-id", "topic", "names", "questions"):
        folder = tmp_path / "demo" / part / "eval"
        saved = Results.from_json(folder / "results.json")
        assert set(saved.languages()) == set(parallel_corpus.LANGUAGES)
        assert saved.mean("right") is not None
        # Of the tasks, the small model does not show what adapters are for, so nothing is said to be compared there.
        assert (saved.mean("source") is not None) == (saved.mean("none") is not None) == (part == "base-id")
        assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "results.md").is_file()
        assert (folder / "report.html").is_file()
    assert json.loads((tmp_path / "demo" / "base-id" / "certificate.json").read_text())["ok"]
    mixed = [json.loads(line) for line in (tmp_path / "demo" / "mixed.topics.jsonl").read_text().splitlines()]
    assert len(mixed) == len(parallel_corpus.LANGUAGES) * SMALL["task_test"]
    assert {row["adapter"] for row in mixed} >= {"en_XX", "ru_RU", embedded_demo.ADDED}
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["steps"] == 4
    assert "results.md" in capsys.readouterr().err  # it says what it wrote

    with pytest.raises(ConfigurationError, match="contains a finished run"):
        embedded_demo.run(tmp_path / "demo", pretrain_steps=4)
