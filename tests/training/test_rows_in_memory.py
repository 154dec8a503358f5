"""Fine-tuning on rows in memory gives the weights that the same rows in a file give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from tests.rows.test_memory import KINDS, ROWS, TASK_OF, in_turn
from tests.support import assert_same_state
from xmodular import XmodForMaskedLM, predict
from xmodular.errors import ConfigurationError, DataError, XmodularError
from xmodular.options import FinetuneOptions, build
from xmodular.rows import sources_of
from xmodular.tasks import TASKS
from xmodular.training import Run, finetune
from xmodular.training.task_data import read


@pytest.fixture
def rows(corpus: Path) -> list[dict[str, Any]]:
    lines = (corpus / "topic" / "en_XX.train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def train(base: Run, data: Any, folder: Path, **more: Any) -> Run:
    options = {"language": "en", "batch_size": 8, "max_steps": 2, "learning_rate": 1e-2, **more}
    return finetune(base.output_dir, data, output_dir=folder, **options)


def test_weights_are_those_of_a_file(base_run: Run, corpus: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    file, half = corpus / "topic" / "en_XX.train.jsonl", len(rows) // 2
    expected = train(base_run, file, tmp_path / "file", dev=file)
    given = {
        "generator": (row for row in rows),
        "several": [datasets.Dataset.from_list(rows[:half]), pandas.DataFrame(rows[half:])],
    }
    for name, data in given.items():
        run = train(base_run, data, tmp_path / name, dev=rows if name == "generator" else file)
        assert_same_state(run.model.state_dict(), expected.model.state_dict())
        assert run.metrics["dev"] == expected.metrics["dev"]
    saved = json.loads((tmp_path / "several" / "options.json").read_text())
    assert saved["train"] == ["<train 1>", "<train 2>"]
    facts = json.loads((tmp_path / "several" / "run.json").read_text())["data"]["train"]
    assert [(each["rows"], each["sha256"] is None) for each in facts] == [(half, False), (len(rows) - half, False)]


@pytest.mark.parametrize(("kind", "name"), in_turn())
def test_training_rows_are_those_of_a_file(tmp_path: Path, kind: str, name: str) -> None:
    task, path = TASKS[TASK_OF.get(name, name)], tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]), encoding="utf-8")
    read_by = []
    for source in (path, KINDS[kind](ROWS[name])):
        values = {"model": "m", "output_dir": "o", "task": task.name, "train": sources_of(source, "train")}
        options = build(FinetuneOptions, values)
        found = read(task, options.train, options, ["en_XX", "de_DE"]).examples
        read_by.append([(each.texts, each.gold, each.language) for each in found])
    assert read_by[0] == read_by[1]


def test_seeds_read_the_same_rows_and_notice_others(base_run: Run, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    run = train(base_run, (row for row in rows), tmp_path, seeds=(1, 2))
    assert run.metrics["seeds"] == [1, 2]
    (tmp_path / "seeds.json").unlink()
    again = train(base_run, rows, tmp_path, seeds=(1, 2))  # both are done
    assert again.metrics == run.metrics
    (tmp_path / "seeds.json").unlink()
    with pytest.raises(ConfigurationError, match="<train>: changed since"):
        train(base_run, rows[1:], tmp_path, seeds=(1, 2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": ["a", "b"], "label": ["x", "y"]}, "<train> is a dictionary of columns"),
        ([("a text", "x"), ("another", "y")], "<train> row 0: it is .*a row is a mapping"),
        ([["a text", "x"]], "<train> row 0: it is .*a row is a mapping"),
        (pandas.Series(["a", "b"]), "<train> row 0: it is 'a': a row is a mapping"),
        (pandas.DataFrame({"review": ["a"], "label": ["x"]}), "<train> row 0: the task classify needs 'text'"),
        (pandas.DataFrame({"text": ["a"], "label": [None]}), "<train> row 0: .*the field for the gold"),
        ([], "is empty|has no rows"),
        (7, "train.* is not a collection of rows"),
        (b"abc", "train.* is one text"),
    ],
)
def test_what_would_be_misread_is_refused(base_run: Run, tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(XmodularError, match=message) as caught:
        train(base_run, data, tmp_path / "run")
    assert isinstance(caught.value, (DataError, ConfigurationError, ValueError))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_rows_in_several_vocabularies_train_together(base_run: Run, tmp_path: Path, task: str) -> None:
    """Their ids mean different pieces, so no batch may mix them."""
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    model.set_vocabulary("sw", base_run.tokenizer, model.get_input_embeddings().weight.detach())
    model.save_pretrained(tmp_path / "model")
    base_run.tokenizer.save_pretrained(tmp_path / "model")
    texts = ["die Tür ist alt", "sie mag Brot", "the house", "he opens"]
    gold = {"label": ["a", "b"]} if task == "classify" else {"tags": [["A", "B", "A", "B"], ["B", "A", "B"]]}
    rows = [
        {"text" if task == "classify" else "words": text if task == "classify" else text.split()[:3]}
        | {"language": language, **{field: values[place % 2][:3] for field, values in gold.items()}}
        for place, text in enumerate(texts * 3)
        for language in ("de", "sw", "en")
        if task == "classify" or len(text.split()) > 2
    ]
    options = {"task": task, "batch_size": 4, "epochs": 2, "learning_rate": 1e-2, "accumulation": 2}
    run = finetune(tmp_path / "model", rows, dev=rows, output_dir=tmp_path / "run", **options)
    assert {"sw_KE"} == set(run.model.config.vocabularies)
    labelled = predict(tmp_path / "run", rows, output=tmp_path / "labelled.jsonl")
    assert labelled.rows == len(rows)
