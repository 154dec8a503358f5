"""Rows that are read by the language that they are identified as: what that costs, and how often it is right."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from xmodular import Predictor, evaluate
from xmodular.cli import app
from xmodular.errors import ConfigurationError, LanguageError
from xmodular.results import Results

CONTEXT = "the doctor opens the old house and she likes bread"
ROWS = {
    "classify": [{"text": "die alte Frau", "label": "calm"}, {"text": "she likes bread", "label": "sad"}],
    "tag": [
        {"words": ["the", "doctor", "likes", "Brot"], "tags": ["O", "B-PER", "O", "O"]},
        {"words": ["alte", "Frau"]},
    ],
    "qa": [
        {"question": "who?", "context": CONTEXT, "answers": ["doctor"]},
        {"question": "wer?", "context": "die Frau"},
    ],
    "choice": [{"premise": "she likes", "choice1": "good", "choice2": "bad", "question": "effect", "label": 0}] * 2,
    "regress": [{"text": "good", "label": 0.5}, {"text": "bad Brot", "label": -1.0}],
}
MODELS = {
    "classify": {},
    "tag": {"cls": "XmodForTokenClassification", "id2label": {0: "O", 1: "B-PER", 2: "I-PER"}},
    "qa": {"cls": "XmodForQuestionAnswering"},
    "choice": {"cls": "XmodForMultipleChoice"},
    "regress": {"id2label": {0: "score"}, "problem_type": "regression"},
}
ROWS["tag"][1]["tags"] = ["O", "B-PER"]
ROWS["qa"][1]["answers"] = ["Frau"]


def as_english(texts: list[str]) -> list[str]:
    return ["English"] * len(texts)


def by_letters(texts: list[str]) -> list[tuple[str, float] | None]:
    """Sure of German with a capital, unsure of Swahili's words, English else."""
    return [("de", 0.9) if any(map(str.isupper, text)) else ("sw", 0.2) if "k" in text else "en" for text in texts]


def written(folder, rows, codes=("en_XX", "de_DE", "sw_KE")):
    folder.mkdir()
    for code in codes:
        (folder / f"{code}.test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize("task", ROWS)
def test_every_task(task, make_model, tmp_path):
    """Taken for English, all rows are read as with the source's adapter; the source's as with its own."""
    folder = written(tmp_path / "data", ROWS[task] * 5)
    model = make_model("model", 3, **MODELS[task])
    results = evaluate(
        model,
        folder,
        adapter=("own", "source", "none"),
        identify=as_english,
        predictions=True,
        output_dir=tmp_path / "o",
    )
    for code in ("de_DE", "sw_KE"):
        for metric in results.metrics():
            assert results.value(code, "identified", metric).value == results.value(code, "source", metric).value
        assert results.value(code, "identified").reader is None
    assert results.value("en_XX", "identified") == results.value("en_XX", "own").__class__(
        **{**vars(results.value("en_XX", "own")), "reader": None}
    )
    told = {each["language"]: each for each in results.about["identified"]}
    assert [told[code]["right"] for code in ("en_XX", "de_DE", "sw_KE")] == [1.0, 0.0, 0.0]
    assert told["de_DE"] == {
        **{"run": "model", "language": "de_DE", "rows": 10, "right": 0.0, "unsure": 0.0, "other": 1.0},
        "mostly": "en_XX",
    }
    assert {(each.adapter, each.baseline_adapter) for each in results.comparisons} >= {("right", "identified")}
    rows = [json.loads(line) for line in (tmp_path / "o" / "predictions.jsonl").read_text().splitlines()]
    assert {row["reader"] for row in rows if row["adapter"] == "identified"} == {"en_XX"}
    assert all("reader" not in row for row in rows if row["adapter"] != "identified")
    for name in ("report.html", "results.md"):
        assert "identified" in (tmp_path / "o" / name).read_text(encoding="utf-8")
    assert Results.from_json(tmp_path / "o" / "results.json").about["identified"] == results.about["identified"]


def test_the_value_is_what_a_predictor_scores(make_model, feelings):
    model = make_model("model", 5)
    results = evaluate(model, feelings, adapter=["own"], identify=by_letters, threshold=0.5)
    assert results.adapters(guesses=False) == ["right", "identified"]
    predictor = Predictor(model, identify=by_letters, threshold=0.5)
    differ = 0
    for code in ("de_DE", "sw_KE"):
        rows = [json.loads(line) for line in (feelings / f"{code}.test.jsonl").read_text().splitlines()]
        found = predictor([row["text"] for row in rows])
        right = sum(one["label"] == row["label"] for one, row in zip(found, rows, strict=True))
        assert results.value(code, "identified").value == pytest.approx(right / len(rows))
        share = next(each for each in results.about["identified"] if each["language"] == code)
        assert share["right"] == pytest.approx(sum(one["language"] == code for one in found) / len(rows), abs=1e-4)
        assert share["unsure"] == pytest.approx(sum(one["language"] is None for one in found) / len(rows), abs=1e-4)
        assert share["right"] + share["unsure"] + share["other"] == pytest.approx(1, abs=2e-4)
        differ += share["right"] < 1
    assert differ
    assert (
        evaluate(model, feelings, adapter=["own"], identify=by_letters, threshold=0.1).about["identified"]
        != (results.about["identified"])
    )


def test_parts_of_a_row_and_rows_in_memory(make_model):
    class Halves:
        def spans(self, texts):
            return [[(0, len(text) // 2, "de", 0.9), (len(text) // 2, len(text), "sw", 0.8)] for text in texts]

    rows = [{"text": "alte Frau nyumba nzuri", "label": "calm"}, {"text": "gut mbaya", "label": "sad"}] * 4
    model = make_model("model", 5)
    results = evaluate(model, {"de": rows, "sw": rows}, identify=Halves(), identify_languages=["de", "sw"])
    predicted = Predictor(model, identify=Halves())([row["text"] for row in rows])
    assert all(each["language_spans"][0]["adapter"] == "de_DE" for each in predicted)
    right = sum(one["label"] == row["label"] for one, row in zip(predicted, rows, strict=True)) / len(rows)
    assert results.value("de_DE", "identified").value == results.value("sw_KE", "identified").value
    assert results.value("de_DE", "identified").value == pytest.approx(right)


def test_several_models_and_seeds_are_compared(make_model, feelings, tmp_path):
    models = [make_model(f"model {seed}", seed) for seed in (0, 1)]
    results = evaluate(models, feelings, adapter=["identified"], identify=as_english)
    assert results.adapters(guesses=False) == ["identified"]
    assert {each["run"] for each in results.about["identified"]} == {"model 0", "model 1"}


def test_retrieval(make_model, tmp_path, capsys):
    """All taken for English: as the source's adapter, which is the pivot's."""
    lines = {"en_XX": ["the house", "good bread", "old doctor"], "de_DE": ["das Haus", "gutes Brot", "alte Frau"]}
    for code, texts in lines.items():
        (tmp_path / f"{code}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    encoder = make_model("encoder", cls="XmodModel", source=None)
    found = evaluate(encoder, tmp_path, adapter=("own", "source"), identify=as_english)
    for metric in found.metrics():
        assert found.value("de_DE", "identified", metric).value == found.value("de_DE", "source", metric).value
    assert [(each["language"], each["rows"], each["right"]) for each in found.about["identified"]] == [
        ("de_DE", 3, 0.0)
    ]
    assert "the language of 0.0 % of the rows is identified rightly" in " ".join(capsys.readouterr().err.split())
    real = evaluate(encoder, tmp_path, identify=True)
    assert real.about["identified"][0]["rows"] == 3
    with pytest.raises(ConfigurationError, match="without spans"):
        evaluate(encoder, tmp_path, identify="spans")


def test_from_the_command_line(make_model, feelings, tmp_path):
    words = [
        "evaluate",
        "--model",
        str(make_model("model")),
        "--data",
        str(feelings),
        "--output-dir",
        str(tmp_path / "o"),
    ]
    run = CliRunner().invoke(app, [*words, "--adapter", "own", "--identify", "--gate", str(gates(tmp_path))])
    assert run.exit_code == 1, run.output
    results = Results.from_json(tmp_path / "o" / "results.json")
    assert results.adapters(guesses=False) == ["right", "identified"]
    assert "--identify" in results.about["command"]
    assert [gate.adapter for gate in results.gates] == ["identified"] * 3
    assert "identified" in CliRunner().invoke(app, [*words, "--adapter", "identified", "--overwrite"]).output


def gates(folder):
    (folder / "gates.yaml").write_text("adapter: identified\nfloors: 0.99\n")
    return folder / "gates.yaml"


def test_what_is_refused(make_model, feelings, tmp_path):
    model = make_model("model")
    with pytest.raises(ConfigurationError, match="must be py3langid"):
        evaluate(model, feelings, identify="nonsense")
    with pytest.raises(LanguageError, match="'fr'"):
        evaluate(model, feelings, identify=True, identify_languages=["fr"])
    with pytest.raises(ConfigurationError, match="--identify-languages de needs --identify"):
        evaluate(model, feelings, identify_languages=["de"])
    with pytest.raises(ConfigurationError, match=r"give it with --source"):
        evaluate(make_model("other", source=None, languages=["de_DE", "sw_KE"]), feelings, identify=True)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "en_XX.txt").write_text("the old house\n" * 9)
    with pytest.raises(ConfigurationError, match="Perplexity is of blocks"):
        evaluate(make_model("lm", cls="XmodForMaskedLM"), tmp_path / "text", identify=True)
