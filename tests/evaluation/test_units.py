"""Which rows belong together, within a language and across languages; and that a mean's error knows."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.support import example_of
from xmodular import evaluate
from xmodular.evaluation.test_data import TestSet
from xmodular.evaluation.units import with_units
from xmodular.tasks import TASKS

TOPIC, PAIR, QA, CHOICE = (TASKS[name] for name in ("classify", "classify", "qa", "choice"))


def sets_of(task, rows, **languages):
    """Sets of the rows with these numbers."""

    def example(code, number):
        row = rows(code, number)
        name = row.pop("id", None)
        return replace(example_of(task, code, **row), id=None if name is None else str(name))

    return [
        TestSet(code, (f"{code}.jsonl",), tuple(example(code, number) for number in numbers))
        for code, numbers in languages.items()
    ]


def topics(code, number):
    return {"id": f"r{number}", "text": f"{code} {number}", "label": "abc"[number % 3]}


def test_translations_have_one_id(capsys):
    de, sw, fr = with_units(TOPIC, sets_of(TOPIC, topics, de=range(20), sw=range(4, 16), fr=range(50, 70)))
    assert sw.joined == de.joined[4:16]
    assert not set(fr.joined) & set(de.joined)
    assert len(set(de.units)) == 20
    assert (de.parallel, sw.parallel, fr.parallel) == (True, True, False)
    assert "Not known to be parallel to the others: fr." in " ".join(capsys.readouterr().err.split())


def test_order_does_not_matter_where_there_are_ids():
    de, sw = with_units(TOPIC, sets_of(TOPIC, topics, de=range(10), sw=range(9, -1, -1)))
    assert de.joined == sw.joined[::-1]
    # ... also where both stand in the order of their labels, so that the gold answers are the same in order
    draw = np.random.default_rng(1)
    by_label = [sorted(draw.permutation(30).tolist(), key=lambda number: number % 3) for _ in range(2)]
    de, sw = with_units(TOPIC, sets_of(TOPIC, topics, de=by_label[0], sw=by_label[1]))
    assert dict(zip(by_label[0], de.joined, strict=True)) == dict(zip(by_label[1], sw.joined, strict=True))
    assert de.parallel


def test_without_ids_equal_gold_answers_in_order_are_translations(capsys):
    def rows(code, number):
        return {name: value for name, value in topics(code, number).items() if name != "id"}

    de, sw, fr, it = with_units(TOPIC, sets_of(TOPIC, rows, de=range(12), sw=range(12), fr=range(1, 13), it=range(9)))
    assert de.joined == sw.joined
    assert not set(fr.joined) & set(de.joined)  # as many rows, other gold answers
    assert not set(it.joined) & set(de.joined)
    assert "others: fr, it." in " ".join(capsys.readouterr().err.split())


def test_questions_about_one_paragraph_are_one_unit_in_every_language():
    def rows(code, number):
        return {"id": number, "question": f"{number}?", "context": f"{code} paragraph {number // 5}", "answers": code}

    de, sw = with_units(QA, sets_of(QA, rows, de=range(50), sw=range(7, 43)))
    assert [len(set(each.units)) for each in (de, sw)] == [10, 8]
    assert sw.joined == de.joined[7:43]


def test_sentences_without_ids_go_by_their_place_and_are_not_called_parallel(capsys):
    def rows(code, number):
        return {"words": [code, str(number)], "tags": ["O", "B-X"]}

    de, sw, fr = with_units(TASKS["tag"], sets_of(TASKS["tag"], rows, de=range(9), sw=range(9), fr=range(8)))
    assert de.joined == sw.joined
    assert not set(fr.joined) & set(de.joined)
    assert "others: de, sw, fr." in " ".join(capsys.readouterr().err.split())


def test_premises_and_contexts_are_units():
    def pairs(code, number):
        return {"id": number, "premise": f"{code} {number // 3}", "hypothesis": f"{number}", "label": "ab"[number % 2]}

    (only,) = with_units(PAIR, sets_of(PAIR, pairs, de=range(30)))
    assert len(set(only.units)) == 10

    def causes(code, number):
        question = ("cause", "effect")[number % 2]
        return {"context": f"p{number // 2}", "question": question, "choices": [f"{number}a", f"{number}b"], "label": 0}

    (only,) = with_units(CHOICE, sets_of(CHOICE, causes, de=range(30)))
    assert len(set(only.units)) == 15


def test_ids_that_are_equal_by_accident_throw_no_paragraphs_together():
    def rows(code, number):
        paragraph = number // 5 if code == "de" else (number * 7 % 50) // 5
        return {"id": number, "question": f"{number}?", "context": f"{code} {paragraph}", "answers": code}

    de, sw = with_units(QA, sets_of(QA, rows, de=range(50), sw=range(50)))
    assert len(set(de.joined)) == len(set(sw.joined)) == 10
    assert not set(de.joined) & set(sw.joined)
    assert not de.parallel


@pytest.mark.parametrize("ids", [True, False])
def test_the_error_of_a_mean_over_unequal_parallel_sets(make_model, tmp_path, ids):
    """By hand, from the predictions of two models: rows that are translations of each other covary."""
    draw = np.random.default_rng(0)
    words = ["good", "bad", "gut", "haus", "daktari", "mkate", "the", "doctor"]
    rows = [
        {"id": n, "text": " ".join(draw.choice(words, 4)) + f" {n}", "label": ("calm", "glad", "sad")[n % 3]}
        for n in range(60)
    ]
    for code, kept in (("en_XX", rows), ("de_DE", rows), ("sw_KE", rows[:40])):
        lines = [{k: v for k, v in row.items() if ids or k != "id"} for row in kept]
        (tmp_path / f"{code}.test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    models = [make_model(name, seed) for name, seed in (("one", 1), ("other", 2))]
    results = evaluate(models, tmp_path, adapter=("right",), output_dir=tmp_path / "out", predictions=True)
    (mean,) = [each for each in results.comparisons if each.language is None]
    assert mean.over == ("de_DE", "sw_KE")
    right = {}
    for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        right.setdefault((row["run"], row["language"]), []).append(row["prediction"]["label"] == row["gold"])
    de, sw = (np.subtract(right["other", code], right["one", code], dtype=float) for code in ("de_DE", "sw_KE"))
    assert mean.difference == pytest.approx((de.mean() + sw.mean()) / 2)
    x, y = (each - each.mean() for each in (de, sw))
    pulls = [np.pad(z / math.sqrt(len(z) * (len(z) - 1)), (0, 60 - len(z))) for z in (x, y)]
    together = (pulls[0] + pulls[1]) ** 2 if ids else pulls[0] ** 2 + pulls[1] ** 2
    variance = together.sum() / 4
    wide = 2 * math.sqrt((variance * 100 * 99 + 1 + 200 * mean.difference**2 / 102) / (102 * 101))
    assert (mean.high - mean.low) / 2 == pytest.approx(wide, rel=0.02)
    data = {each["language"]: each["parallel"] for each in results.about["data"]}
    assert data["sw_KE"] is ids
    assert ("Not known to be parallel to the others" in results.markdown()) is not ids
