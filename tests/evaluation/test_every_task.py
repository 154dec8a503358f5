"""Every task from file to page, all ways to read."""

import json
import math

import pytest
import torch

from xmodular import evaluate
from xmodular.prediction import predict
from xmodular.results import Results
from xmodular.tasks import TASKS, load_saved
from xmodular.tasks.answer_match import f1
from xmodular.tasks.examples import load

_CONTEXT = "the doctor opens the old house and she likes bread"
_ROWS = {
    "tag": [{"words": ["the", "doctor", "likes", "bread"], "tags": ["O", "B-PER", "O", "O"]}],
    "qa": [{"question": "who?", "context": _CONTEXT, "answers": [{"text": "doctor", "answer_start": 4}]}],
    "choice": [{"premise": "she likes bread", "choice1": "good", "choice2": "bad", "question": "effect", "label": 0}],
    "regress": [{"text": "good", "label": 0.5}, {"text": "bad bread", "label": -1.0}, {"text": "old", "label": 0.1}],
}
_MODELS = {
    "tag": {"cls": "XmodForTokenClassification", "id2label": {0: "O", 1: "B-PER", 2: "I-PER"}},
    "qa": {"cls": "XmodForQuestionAnswering"},
    "choice": {"cls": "XmodForMultipleChoice"},
    "regress": {"id2label": {0: "score"}, "problem_type": "regression"},
}
_METRICS = {"tag": "F1", "qa": "F1", "choice": "accuracy", "regress": "Pearson"}


@pytest.mark.parametrize("task", _ROWS)
def test_from_file_to_page(task, make_model, tmp_path):
    for code in ("en_XX", "sw_KE"):
        lines = "".join(json.dumps(row) + "\n" for row in _ROWS[task] * 4)
        (tmp_path / f"{code}.test.jsonl").write_text(lines, encoding="utf-8")
    models = [make_model(f"model {seed}", seed, **_MODELS[task]) for seed in (0, 1)]
    results = evaluate(
        models,
        tmp_path,
        adapter=("right", "source", "none"),
        output_dir=tmp_path / "out",
        predictions=True,
    )
    assert results.metrics()[0] == _METRICS[task]
    assert results.rows[0].task == task
    for row in results.rows:
        assert row.low is None or row.low <= row.high
        assert row.rows == 4 * len(_ROWS[task])
    assert {"uniform", "majority"} & set(results.adapters())
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 4 * len(_ROWS[task]) * (2 + 1 + 2)  # own, source's, none
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(each in page for each in results.metrics())


def test_answers_are_normalised_as_asked_and_the_report_says_how(make_model, tmp_path):
    """German articles count in SQuAD's normalisation, which knows English ones, and not in MLQA's."""
    context = "die Frau und die Katze und die Maus"
    row = {"question": "wer?", "context": context, "answers": [context]}
    (tmp_path / "de_DE.test.jsonl").write_text(json.dumps(row) + "\n")
    model = make_model("model", 0, **_MODELS["qa"])
    found = {}
    for answers in ("mlqa", "squad"):
        out = tmp_path / answers
        results = evaluate(
            model, {"de": tmp_path / "de_DE.test.jsonl"}, answers=answers, output_dir=out, predictions=True
        )
        said = json.loads((out / "predictions.jsonl").read_text().splitlines()[0])["prediction"]["answer"]
        expected = max(f1(said, gold, "de" if answers == "mlqa" else None) for gold in row["answers"])
        assert results.value("de_DE", metric="F1").value == pytest.approx(expected)
        found[answers] = expected
        for name in ("report.html", "results.md", "results.json"):
            assert ("SQuAD in every language" in (out / name).read_text()) is (answers == "squad")
            assert ("as in MLQA, by language" in (out / name).read_text()) is (answers == "mlqa")
    assert found["mlqa"] != found["squad"]


@pytest.mark.parametrize("task", [*_ROWS, "perplexity"])
def test_what_a_diverged_model_leaves_can_be_read(task, make_model, tmp_path):
    more = {"packing": "lines"} if task == "perplexity" else {"predictions": True}
    for code in ("en_XX", "sw_KE"):
        if task == "perplexity":  # two blocks: the intervals have no end
            (tmp_path / f"{code}.txt").write_text("the doctor opens the old house\nshe likes bread\n")
        else:
            lines = "".join(json.dumps(row) + "\n" for row in _ROWS[task])
            (tmp_path / f"{code}.test.jsonl").write_text(lines, encoding="utf-8")
    models = [make_model(f"model {seed}", seed, **_MODELS.get(task, {"cls": "XmodForMaskedLM"})) for seed in (0, 1)]
    diverged = load_saved(models[1])
    with torch.no_grad():
        for parameter in diverged.parameters():
            parameter.fill_(math.nan)
    diverged.save_pretrained(models[1])
    results = evaluate(models, tmp_path, output_dir=tmp_path / "out", **more)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    for name in ("results.json", *(["predictions.jsonl"] if "predictions" in more else [])):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        for part in [text] if name == "results.json" else text.splitlines():
            json.loads(part, parse_constant=refuse)
    assert Results.from_json(tmp_path / "out" / "results.json").markdown() == results.markdown()
    assert {row.run for row in results.rows} == {"model 0", "model 1"}


_ODD_ROWS = {
    "tag": [
        {"words": ["the", '"doctor"', "likes,", "[1]"], "tags": ["O", "B-PER", "I-PER", "O"]},
        {"words": ["bread"], "tags": ["O"]},
    ],
    "qa": [
        {"question": "who, [1]?", "context": _CONTEXT, "answers": {"text": ["doctor"], "answer_start": [4]}},
        {"question": "what?", "context": _CONTEXT, "answers": [{"text": "old house", "answer_start": 21}]},
        {"question": "which [?", "context": f'"{_CONTEXT}"\n[1]', "answers": ["[1]", "bread"]},
    ],
    "choice": [
        {"premise": "she likes bread", "choices": ["good,", '"bad"'], "label": 1},
        {"premise": "the old house", "choices": ["[good]", "bad", "old"], "label": 0},
    ],
}


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("task", _ODD_ROWS)
def test_what_predict_writes_as_a_table_is_read_back(task, suffix, make_model, tmp_path):
    model, (source, table) = (
        make_model("model", **_MODELS[task]),
        (tmp_path / f"de.test.{s}" for s in ("jsonl", suffix)),
    )
    source.write_text("".join(json.dumps(row) + "\n" for row in _ODD_ROWS[task]), encoding="utf-8")
    predict(model, source, table)
    there, back = (load(TASKS[task], path) for path in (source, table))
    assert [(each.texts, each.gold) for each in back] == [(each.texts, each.gold) for each in there]
    rows, again = (evaluate(model, path).rows for path in (source, table))
    assert rows == again
    if task == "tag":  # measured against its own predictions, a model is right
        own = evaluate(model, table, columns={"tags": "predicted_tags"})
        assert own.value("de_DE", metric="accuracy").value == 1
