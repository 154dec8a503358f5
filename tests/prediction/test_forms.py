"""What goes in as plain text, and what comes out beside the likeliest answer: probabilities, CoNLL, short numbers."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.prediction.conftest import SENTENCES
from xmodular import Predictor, predict
from xmodular.cli import app
from xmodular.errors import ConfigurationError, DataError
from xmodular.prediction import predicting
from xmodular.rows import BadRows, read_rows, writers
from xmodular.tasks import load_saved, tokenizer_of

TEXTS = SENTENCES["de_DE"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_format_may_be_written_that_is_not_read(topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(writers._WRITERS, "lines", writers._WRITERS["jsonl"])
    monkeypatch.setattr(predicting, "WRITTEN", (*writers.WRITTEN, "lines"))
    predict(topic, [{"text": text} for text in TEXTS], tmp_path / "out.lines", language="de")
    assert len(lines(tmp_path / "out.lines")) == len(TEXTS)


# ---------------------------------------------------------------- probabilities


def test_probabilities_are_those_of_the_models_logits(topic: Path, tmp_path: Path) -> None:
    model = load_saved(topic).eval()
    predict(topic, [{"text": text} for text in TEXTS], tmp_path / "out.jsonl", language="de", probabilities=True)
    for text, row in zip(TEXTS, lines(tmp_path / "out.jsonl"), strict=True):
        with torch.no_grad():
            inputs = tokenizer_of(model, None)(text, return_tensors="pt")
            expected = model(**inputs, lang_ids=model.lang_ids("de")).logits[0].softmax(-1)
        assert list(row["probabilities"]) == ["calm", "glad", "sad"]
        assert list(row["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert row["score"] == row["probabilities"][row["label"]] == max(row["probabilities"].values())
    predict(topic, [{"text": TEXTS[0]}], tmp_path / "out.csv", language="de", probabilities=True)
    header, _ = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert header == "text,label,score,probabilities,language,adapter"


def test_probabilities_of_tags_and_choices(folders: dict[str, Path]) -> None:
    tagger = Predictor(folders["XmodForTokenClassification"], probabilities=True, max_length=12, stride=2)
    (tagged,) = tagger([TEXTS[0]], "de")
    assert len(tagged["probabilities"]) == len(tagged["tags"]) == len(TEXTS[0].split())
    for tag, score, each in zip(tagged["tags"], tagged["scores"], tagged["probabilities"], strict=True):
        assert score == each[tag] == max(each.values())
        assert sum(each.values()) == pytest.approx(1, abs=1e-5)
    row = {"premise": TEXTS[0], "choices": [TEXTS[1], "Haus", "Fluss"]}
    (chosen,) = Predictor(folders["XmodForMultipleChoice"], probabilities=True)([row], "de")
    assert chosen["score"] == chosen["probabilities"][chosen["choice"]] == max(chosen["probabilities"])
    assert sum(chosen["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("model", "task"), [("XmodForQuestionAnswering", "qa"), ("regress", "regress")])
def test_where_there_is_no_list_there_are_no_probabilities(folders: dict[str, Path], model: str, task: str) -> None:
    with pytest.raises(ConfigurationError, match=f"model for {task}, .* probabilities are for classify, tag, choice"):
        Predictor(folders[model], probabilities=True)


def test_numbers_are_short(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("XmodForSequenceClassification", "XmodForTokenClassification", "regress"):
        output = tmp_path / f"{name}.jsonl"
        predict(folders[name], [{"text": text} for text in TEXTS], output, identify=True, fallback="relative")
        numbers = re.findall(r"(?<=: )-?\d+\.\d+(?:e-\d+)?|(?<=\[)\d\.\d+(?:e-\d+)?", output.read_text())
        assert numbers
        for number in numbers:
            digits = re.sub(r"e.*", "", number).lstrip("-").replace(".", "").lstrip("0")
            assert len(digits) <= 6, number


# ---------------------------------------------------------------- CoNLL


@pytest.mark.parametrize("name", ["out.conll", "out.conll.gz"])
def test_tags_as_conll_are_read_again(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    model = folders["XmodForTokenClassification"]
    rows = [
        {"words": ["New York", "#", "Haus"], "tags": ["B-PER", "I-PER", "O"], "id": 7},
        {"words": ["–", "Fluss", "."], "tags": ["O", "O", "O"], "id": 8},
    ]
    predict(model, rows, tmp_path / name, language="de", window=1)
    expected = Predictor(model)([{"words": row["words"]} for row in rows], "de")
    again = list(read_rows(tmp_path / name, BadRows()))
    assert [row.values["words"] for row in again] == [row["words"] for row in rows]
    assert [row.values["tags"] for row in again] == [prediction["tags"] for prediction in expected]
    packed = (tmp_path / name).read_bytes()
    text = (gzip.decompress(packed) if name.endswith("gz") else packed).decode()
    assert text.startswith(f"New York\t{expected[0]['tags'][0]}\n#\t")


def test_conll_of_plain_text_has_its_words(folders: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "de_DE.txt"
    source.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    predict(folders["XmodForTokenClassification"], source, tmp_path / "out.conll")
    again = list(read_rows(tmp_path / "out.conll", BadRows()))
    assert [row.values["words"] for row in again] == [text.split() for text in TEXTS]


def test_conll_is_for_tags_and_words_without_tabs(folders: dict[str, Path], topic: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"out\.conll: CoNLL is for words with tags, .* model for classify"):
        predict(topic, [{"text": "a"}], tmp_path / "out.conll")
    rows = [{"words": ["a", "b\tc"]}, {"words": ["d"]}]
    with pytest.raises(DataError, match=r"'b\\tc' contains a tab or a line end"):
        predict(folders["XmodForTokenClassification"], rows, tmp_path / "out.conll", language="de")
    done = predict(
        *(folders["XmodForTokenClassification"], rows, tmp_path / "out.conll"),
        language="de",
        skip_bad_rows=True,
        overwrite=True,
    )
    assert (done.rows, done.bad) == (1, 1)
    assert (tmp_path / "out.conll").read_text(encoding="utf-8").startswith("d\t")


# ---------------------------------------------------------------- plain text


def test_a_text_file_is_a_row_a_line(topic: Path, tmp_path: Path) -> None:
    source = tmp_path / "de_DE.letters.txt"
    source.write_bytes(f"\ufeff{TEXTS[0]}\r\n\n   \n{TEXTS[1]}".encode())
    predict(topic, source, tmp_path / "out.jsonl")
    found = lines(tmp_path / "out.jsonl")
    assert [row["text"] for row in found] == TEXTS
    assert [{k: v for k, v in row.items() if k != "text"} for row in found] == Predictor(topic)(TEXTS, "de")


def test_a_line_that_is_not_utf8_is_named(topic: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(b"good\nb\xe4d\ntwo\rlines\n")
    done = predict(topic, source, tmp_path / "out.jsonl", skip_bad_rows=True, language="de")
    assert (done.rows, done.bad) == (1, 2)
    reasons = [row["reason"] for row in lines(tmp_path / "out.jsonl.bad.jsonl")]
    assert reasons[0].startswith("not UTF-8")
    assert "carriage return" in reasons[1]


def test_one_text_on_the_command_line(topic: Path) -> None:
    run = CliRunner().invoke(app, ["predict", "--model", str(topic), "--text", TEXTS[0], "--language", "de"])
    assert run.exit_code == 0, run.output
    (expected,) = Predictor(topic)(TEXTS[:1], "de")
    assert json.loads(run.stdout) == {"text": TEXTS[0], **expected}


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "Missing: --input"), ({"text": "a", "input": "b.csv"}, "Give either --input")],
)
def test_a_text_or_rows(topic: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        predict(topic, given.get("input"), text=given.get("text"))
