"""Rows in memory give the verbs what the same rows in a file give: equal predictions, scores and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.rows.test_memory import KINDS, in_turn
from xmodular import Predictor, evaluate, predict
from xmodular.errors import DataError, InputError, XmodularError

HEADS = {
    "classify": "XmodForSequenceClassification",
    "pairs": "XmodForSequenceClassification",
    "regress": "regress",
    "tag": "XmodForTokenClassification",
    "qa": "XmodForQuestionAnswering",
    "choice": "XmodForMultipleChoice",
}
LANGUAGES = ("en_XX", "de_DE", "sw_KE")
ROWS: dict[str, list[dict[str, Any]]] = {
    "classify": [
        {"text": "The doctor opens the house.", "label": "calm"},
        {"text": 'Sie mag Brot,\n"am Morgen"', "label": "glad"},
        {"text": "nyumba ya zamani", "label": "sad"},
    ],
    "pairs": [
        {"premise": "A doctor.", "hypothesis": "A house.", "label": "calm"},
        {"premise": "Brot", "hypothesis": "Markt", "label": "sad"},
        {"premise": "mkate", "hypothesis": "soko", "label": "glad"},
    ],
    "regress": [{"text": text, "score": score} for text, score in (("A house", 0.5), ("Brot", -2.25), ("soko", 1.0))],
    "tag": [
        {"words": ["Anna", "opens", "it"], "tags": ["B-PER", "O", "O"]},
        {"words": ["Brot"], "tags": ["O"]},
        {"words": ["mkate", "na", "soko"], "tags": ["O", "O", "B-PER"]},
    ],
    "qa": [
        {"question": "Who?", "context": "The doctor.", "answers": {"text": ["doctor"], "answer_start": [4]}},
        {"question": "Was?", "context": "Das alte Haus.", "answers": {"text": ["Haus"], "answer_start": [9]}},
        {"question": "Nini?", "context": "mkate na soko", "answers": {"text": ["soko"], "answer_start": [9]}},
    ],
    "choice": [
        {"premise": "It rains.", "choices": ["wet", "dry"], "label": 0},
        {"premise": "Brot", "choices": ["Markt", "Fluss"], "label": 1},
        {"premise": "soko", "choices": ["mkate", "mto"], "label": 1},
    ],
}
ROWS = {
    name: [{**row, "language": code} for row, code in zip(rows, LANGUAGES, strict=True)] for name, rows in ROWS.items()
}


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What files give, by task: the predictor of the task, the lines that `predict` writes, the rows of `evaluate`."""
    found = {}
    for name, rows in ROWS.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        predictor = Predictor(folders[HEADS[name]])
        predict(predictor.model, folder / "rows.jsonl", folder / "out.jsonl")
        results = evaluate(predictor.model, folder / "rows.jsonl", source="en_XX")
        found[name] = predictor, (folder / "out.jsonl").read_text(encoding="utf-8").splitlines(), results.rows
    return found


@pytest.mark.parametrize(("kind", "name"), in_turn())
def test_predictions_and_scores_are_those_of_a_file(
    expected: dict[str, Any], tmp_path: Path, kind: str, name: str
) -> None:
    rows, (predictor, lines, scores) = ROWS[name], expected[name]
    written = [json.loads(line) for line in lines]
    own = [name for name in predictor([rows[0]])[0] if name not in rows[0]]
    assert own
    for said, line in zip(predictor(KINDS[kind](rows)), written, strict=True):
        # A file calls a prediction otherwise where its name is that of a gold column.
        found = {column: line[column if column in line else f"predicted_{column}"] for column in own}
        assert {column: said[column] for column in own} == found
    predict(predictor.model, KINDS[kind](rows), tmp_path / "out.jsonl")
    again = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert again == written
    assert evaluate(predictor.model, KINDS[kind](rows), source="en_XX").rows == scores


def test_the_columns_of_a_table_are_no_rows(topic: Path) -> None:
    rows = pandas.DataFrame({"text": ["The doctor.", "Brot"], "other": [1, 2]})
    predictor = Predictor(topic, default_language="en")
    found = predictor(rows)
    assert len(found) == 2
    assert found == predictor(["The doctor.", "Brot"])
    assert list(predictor.stream(rows)) == found
    assert predictor(rows["text"]) == found
    assert predictor(rows.rename(columns={"text": "review"}), columns={"text": "review"}) == found


def test_languages_beside_the_rows_may_be_a_column(topic: Path) -> None:
    rows = pandas.DataFrame({"text": ["The doctor.", "Brot", "soko"], "spoken": ["en_XX", "de_DE", None]})
    predictor = Predictor(topic, default_language="sw")
    assert [row["adapter"] for row in predictor(rows[["text"]], rows["spoken"])] == ["en_XX", "de_DE", "sw_KE"]
    assert [row["adapter"] for row in predictor(rows, columns={"language": "spoken"})] == ["en_XX", "de_DE", "sw_KE"]
    with pytest.raises(InputError, match="The language of row 1 is 3"):
        predictor(["a", "b"], ["en", 3])  # type: ignore[list-item]


def test_data_by_language_may_be_rows(topic: Path, tmp_path: Path) -> None:
    rows = ROWS["classify"]
    plain = {code: {"text": row["text"], "label": row["label"]} for code, row in zip(LANGUAGES, rows, strict=True)}
    expected = evaluate(topic, rows).rows
    by_language = {"en": [plain["en_XX"]], "de": pandas.DataFrame([plain["de_DE"]]), "sw": tmp_path / "sw.jsonl"}
    (tmp_path / "sw.jsonl").write_text(json.dumps(plain["sw_KE"]))
    found = evaluate(topic, by_language)
    assert sorted(map(str, found.rows)) == sorted(map(str, expected))
    assert "command" not in found.about  # no command line has these rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"text": ["a", "b"], "label": ["x", "y"]}, "text"),
        (["a text", "another"], "a text|mapping"),
        (pandas.Series(["a text"]), "a row is a mapping"),
        (("one", "two"), "one|tuple of two"),
        (b"text", "one text"),
        (7, "is not a collection of rows"),
    ],
)
def test_verbs_refuse_what_they_would_misread(topic: Path, tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(XmodularError, match=message):
        predict(topic, rows, tmp_path / "out.jsonl", default_language="en")
    with pytest.raises(XmodularError, match=message):
        evaluate(topic, rows)


def test_rows_in_memory_without_text_name_their_columns(topic: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"<input> row 0: the task classify needs 'text'.*'review'"):
        predict(topic, pandas.DataFrame({"review": ["a"]}), tmp_path / "out.jsonl", default_language="en")
    found = predict(
        topic, [{"text": "a"}, {"text": None}], tmp_path / "out.csv", default_language="en", skip_bad_rows=True
    )
    assert (found.rows, found.bad) == (1, 1)


def test_a_run_goes_on_with_the_same_rows(topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pandas.DataFrame({"text": [f"text {number}" for number in range(6)]})
    whole = tmp_path / "whole.jsonl"
    predict(topic, rows, whole, default_language="en", window=2)
    with monkeypatch.context() as patched:
        calls = []
        real = Predictor.predict

        def breaks(self: Predictor, *arguments: Any) -> Any:
            calls.append(None)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(self, *arguments)

        patched.setattr(Predictor, "predict", breaks)
        with pytest.raises(KeyboardInterrupt):
            predict(topic, rows, tmp_path / "parts", default_language="en", window=2, shard_rows=2)
    predict(topic, rows, tmp_path / "parts", default_language="en", window=2, shard_rows=2)
    parts = sorted((tmp_path / "parts").glob("part-*"))
    assert "".join(part.read_text() for part in parts) == whole.read_text()


def test_perplexity_reads_files_only(folders: dict[str, Path]) -> None:
    for data in ([{"text": "a"}], {"en": [{"text": "a"}]}):
        with pytest.raises(DataError, match="rows in memory; perplexity needs text files"):
            evaluate(folders["XmodForMaskedLM"], data)
