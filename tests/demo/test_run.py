"""The demo's road, on a corpus and with steps too few to learn from."""

import functools
import json

import pytest

from xmodular.demo import corpus, run
from xmodular.errors import ConfigurationError
from xmodular.results import Results

SMALL = {"sentences_per_language": 300, "task_train": 60, "task_test": 12}


def test_the_demo_leaves_every_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "write_corpus", functools.partial(corpus.write_corpus, **SMALL))
    results = run.run(tmp_path / "demo", pretrain_steps=4)
    assert results.source == "en_XX"
    assert set(results.languages()) == set(corpus.LANGUAGES)
    for part in ("base", "topic", "names"):
        folder = tmp_path / "demo" / part / "eval"
        saved = Results.from_json(folder / "results.json")
        assert set(saved.languages()) == set(corpus.LANGUAGES)
        assert saved.mean("right") is not None
        assert saved.mean("source") is not None
        assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "results.md").is_file()
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["steps"] == 4
    assert "results.md" in capsys.readouterr().err  # it says what it wrote

    with pytest.raises(ConfigurationError, match="holds a finished run"):
        run.run(tmp_path / "demo", pretrain_steps=4)
