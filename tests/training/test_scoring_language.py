"""Validation scores a row in the language that it is read in, as evaluation does."""

import dataclasses
import json

import pytest

from xmodular import evaluate, finetune
from xmodular.tasks import TASKS
from xmodular.tasks.readers import training_readings
from xmodular.training.task_data import encoded_data

CONTEXT = "sie sah das Haus am Fluss"


@pytest.fixture
def articles(monkeypatch):
    """Question answering that always answers with the article before the answer."""

    def decode(example, readings, labels):
        return {"answer": "das Haus", "start": 8, "end": 16, "score": 1.0}

    monkeypatch.setitem(TASKS, "qa", dataclasses.replace(TASKS["qa"], decode=decode))


@pytest.mark.parametrize("said", ["option", "column", "name"])
def test_the_same_answers_score_the_same_in_validation_and_evaluation(said, articles, base_run, tmp_path):
    """German drops its articles, English would not: F1 2/3."""
    row = {"question": "was", "context": CONTEXT, "answers": {"text": ["Haus"], "answer_start": [12]}}
    if said == "column":
        row["language"] = "German"
    path = tmp_path / ("de_DE.rows.jsonl" if said == "name" else "rows.jsonl")
    path.write_text((json.dumps(row) + "\n") * 3)
    options = {"language": "de"} if said == "option" else {}
    run = finetune(base_run.output_dir, path, dev=path, task="qa", output_dir=tmp_path / "run", max_steps=1, **options)
    assert run.metrics["dev"] == {"score": 1.0, "F1": 1.0, "EM": 1.0}
    results = evaluate(run.model, {"de": path} if said == "option" else str(path))
    assert [results.value("de_DE", "right", name).value for name in ("F1", "EM")] == [1.0, 1.0]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_rows_of_every_task_know_the_language_that_they_are_scored_in(name, base_run):
    from tests.support import example_of
    from xmodular.options import FinetuneOptions, build

    task = TASKS[name]
    values = {
        "classify": {"text": "a", "label": "x"},
        "regress": {"text": "a", "score": 1.0},
        "tag": {"words": ["a"], "tags": ["O"]},
        "qa": {"question": "a", "context": "b", "answers": "b"},
        "choice": {"context": "a", "choices": ["b", "c"], "label": 0},
        "embed": {"text": "a", "positive": "b"},
    }[name]
    nameless = dataclasses.replace(example_of(task, **values), language=None)
    rows = (nameless, dataclasses.replace(nameless, language="gsw"))
    options = build(FinetuneOptions, {"model": "m", "train": "t", "output_dir": "o", "task": name})
    codes = training_readings(rows, "de", base_run.model.languages)
    read = encoded_data(task, rows, codes, task.label_names(rows), base_run.model, options)
    assert [each.language for each in read.examples] == ["de_DE", "gsw"]
