"""A task that a newcomer writes: one record, one line in the table, and every verb knows it."""

import dataclasses
import json

import numpy as np
import pytest

from xmodular import Predictor, evaluate, finetune
from xmodular.errors import ConfigurationError
from xmodular.tasks import TASKS, load_saved, task_of

CLASSIFY = TASKS["classify"]


def metrics(sums, labels):
    return {"share right": CLASSIFY.metrics(sums, labels)["accuracy"]}


def decode(example, readings, labels):
    return {**CLASSIFY.decode(example, readings, labels), "words": len(example.texts[0].split())}


RARITY = dataclasses.replace(
    CLASSIFY,
    name="rarity",
    fields={"text": ("saying",), "label": ("label",)},
    alternatives=(),
    decode=decode,
    metrics=metrics,
    does="says how rare a text's verb is",
    sample={"saying": "..."},
)


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(TASKS, RARITY.name, RARITY)


def test_every_verb_knows_it(known, corpus, base_run, tmp_path):
    columns = {"text": "text"}
    train, dev = (corpus / "topic" / f"en_XX.{split}.jsonl" for split in ("train", "dev"))
    run = finetune(
        base_run.output_dir,
        train,
        task="rarity",
        dev=dev,
        columns=columns,
        output_dir=tmp_path / "run",
        max_steps=3,
        learning_rate=1e-2,
    )
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "This model says how rare a text's verb is." in card
    assert '{"saying": "..."}' in card
    assert set(run.metrics["dev"]) >= {"share right"}
    model = load_saved(tmp_path / "run")
    assert task_of(model) is RARITY

    results = evaluate(tmp_path / "run", corpus / "topic", columns=columns)
    right = []
    predictor = Predictor(tmp_path / "run")
    for line in (corpus / "topic" / "sw_KE.test.jsonl").read_text(encoding="utf-8").splitlines():
        example = json.loads(line)
        (found,) = predictor([example["text"]], "sw", columns=columns)
        assert found["words"] == len(example["text"].split())
        right.append(found["label"] == example["label"])
    assert results.value("sw_KE", "right", "share right").value == pytest.approx(np.mean(right))


def test_it_is_not_compared_with_another_on_the_same_head(known, topic_run, corpus, tmp_path):
    model = load_saved(topic_run.output_dir)
    model.config.finetuning_task = "rarity"
    model.save_pretrained(tmp_path / "rarity")
    with pytest.raises(
        ConfigurationError, match=r"need the same task; .*topic: .*\(classify\); .*rarity: .*\(rarity\)"
    ):
        evaluate([topic_run.output_dir, tmp_path / "rarity"], corpus / "topic")


def test_without_its_record_a_model_is_what_its_head_says(corpus, topic_run):
    model = load_saved(topic_run.output_dir)
    assert model.config.finetuning_task == "classify"
    model.config.finetuning_task = "rarity"
    assert task_of(model) is CLASSIFY


def test_an_unknown_task_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"no task 'clasify'; did you mean classify\? The tasks are classify, reg"
    ):
        finetune("nowhere", tmp_path / "absent.jsonl", task="clasify", output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
