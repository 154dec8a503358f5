"""Predictions for batches of tables: the same as those of `predict`, whatever the batch is and however it is cut."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import PreTrainedTokenizerFast

import xmodular
from tests.prediction.conftest import HEADS, LANGUAGES, SENTENCES
from tests.support import tiny_model
from xmodular.distributed import BatchPredictor
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.modeling.adapters_on_disk import on_disk
from xmodular.prediction import predict
from xmodular.vocabulary import train_tokenizer

TEXTS = [text for code in LANGUAGES for text in SENTENCES[code]]
ROWS: dict[str, list[dict[str, Any]]] = {
    "XmodForSequenceClassification": [{"text": text} for text in TEXTS],
    "XmodForTokenClassification": [{"words": text.split()} for text in TEXTS],
    "XmodForQuestionAnswering": [{"question": "Wer?", "context": text} for text in TEXTS],
    "XmodForMultipleChoice": [{"context": text, "choices": ["ja", "nein", "ndiyo"]} for text in TEXTS],
    "regress": [{"text1": text, "text2": "Врач"} for text in TEXTS],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of twenty languages for each kind of head."""
    tokenizer: PreTrainedTokenizerFast = train_tokenizer(
        {code: lines * 20 for code, lines in SENTENCES.items()}, 160, byte_fallback=False
    )
    languages, made = [*LANGUAGES, *(f"l{letter}_XX" for letter in "abcdefghijklmnop")], {}
    for number, name in enumerate(ROWS):
        cls = getattr(xmodular, name if name in HEADS else "XmodForSequenceClassification")
        more = HEADS.get(name, {"num_labels": 1, "problem_type": "regression"})
        shape = {"vocab_size": len(tokenizer), "languages": languages, "max_position_embeddings": 80}
        model = tiny_model(cls, attention="sdpa", seed=number, **shape, **more)
        model.config.task_language = "en_XX"
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
        tokenizer.save_pretrained(made[name])
    return made


@pytest.fixture(scope="module")
def topic(models: dict[str, Path]) -> Path:
    return models["XmodForSequenceClassification"]


def rows_of(name: str) -> list[dict[str, Any]]:
    languages = [code for code in LANGUAGES for _ in SENTENCES[code]]
    rows = [{"id": number, **row} for number, row in enumerate(ROWS[name])]
    return [
        {**row, "lang": code, "note": None if number % 3 else 1.5}
        for number, (row, code) in enumerate(zip(rows, languages, strict=True))
    ]


def in_batches(kind: str, rows: list[dict[str, Any]], predictor: BatchPredictor, size: int) -> list[dict[str, Any]]:
    """The rows with predictions, by way of batches of a kind."""
    found: list[dict[str, Any]] = []
    table = pa.Table.from_pylist(rows)
    for start in range(0, len(rows), size):
        part = table.slice(start, size)
        if kind == "arrow":
            made = predictor(part)
            assert made.schema == predictor.schema(table.schema)
            found += made.to_pylist()
        elif kind == "pandas":
            frame = part.to_pandas().set_axis([f"r{number}" for number in range(part.num_rows)])
            made = predictor(frame)
            assert list(made.index) == list(frame.index)
            found += pa.Table.from_pandas(made, schema=predictor.schema(table.schema), preserve_index=False).to_pylist()
        else:
            made = predictor({name: np.array(part[name].to_pylist(), dtype=object) for name in part.column_names})
            found += [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    return found


@pytest.mark.parametrize("name", ROWS)
def test_batches_give_what_predict_writes(name: str, models, tmp_path: Path) -> None:
    rows = rows_of(name)
    more: dict[str, Any] = {"probabilities": True} if name not in ("regress", "XmodForQuestionAnswering") else {}
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    run = {"columns": {"language": "lang"}, "batch_tokens": 200, **more}
    predict(models[name], tmp_path / "in.parquet", tmp_path / "out.parquet", **run)
    whole = parquet.read_table(tmp_path / "out.parquet")
    predictor = BatchPredictor(models[name], **run)
    for kind, size in (("arrow", 3), ("pandas", 4), ("numpy", 8)):
        found = in_batches(kind, rows, predictor, size)
        assert [list(row) for row in found] == [whole.column_names] * len(rows), kind
        expected = whole.to_pylist()
        for ours, theirs in zip(found, expected, strict=True):
            for column, value in theirs.items():
                if isinstance(value, float):
                    assert ours[column] == pytest.approx(value, rel=1e-4), (kind, column)
                elif isinstance(value, list):
                    assert len(ours[column]) == len(value), (kind, column)
                elif isinstance(value, dict):
                    assert ours[column] == pytest.approx(value, rel=1e-4), (kind, column)
                else:
                    assert ours[column] == value or (value is None and ours[column] != ours[column]), (kind, column)
    assert predictor(pa.Table.from_pylist(rows)).schema.types == whole.schema.types


def test_only_the_languages_of_the_rows_are_in_memory(topic) -> None:
    rows = [{"text": SENTENCES["sw_KE"][0], "language": code} for code in ("sw_KE", "lg_XX")] * 3
    predictor = BatchPredictor(topic)
    assert predictor.resident_languages == ()
    predictor(pa.Table.from_pylist(rows))
    assert sorted(predictor.resident_languages) == ["lg_XX", "sw_KE"]
    whole, few = xmodular.Predictor(topic).model, predictor.predictor.model
    one = sum(each.numel() for name, each in whole.named_parameters() if ".la_XX." in name)
    shared = sum(each.numel() for each in few.parameters())
    assert shared == sum(each.numel() for each in whole.parameters()) - len(whole.languages) * one
    kept = [adapters[code] for adapters in on_disk(few) for code in adapters.kept]
    assert sum(each.numel() for adapter in kept for each in adapter.parameters()) == 2 * one


def test_it_can_be_pickled_before_and_after_its_first_use(topic) -> None:
    batch = pa.Table.from_pylist(rows_of("XmodForSequenceClassification"))
    predictor = BatchPredictor(str(topic), columns={"language": "lang"})
    size = len(pickle.dumps(predictor))
    again = pickle.loads(pickle.dumps(predictor))
    made = predictor(batch)
    assert again(batch) == made
    assert len(pickle.dumps(predictor)) == size  # without the model
    assert pickle.loads(pickle.dumps(predictor))(batch) == made


@pytest.mark.parametrize("bad_rows", ["error", "mark"])
def test_empty_batches_keep_their_columns(topic, bad_rows) -> None:
    predictor = BatchPredictor(topic, bad_rows=bad_rows)
    table = pa.table({"text": pa.array([], pa.string()), "n": pa.array([], pa.int64())})
    made = predictor(table)
    assert made.schema == predictor.schema(table.schema)
    names = ["text", "n", "label", "score", "language", "adapter", *(["problem"] if bad_rows == "mark" else [])]
    assert made.column_names == names
    assert list(predictor(table.to_pandas()).columns) == names
    assert list(predictor({"text": np.array([], dtype=object), "n": np.array([])})) == names
    assert predictor({})["label"].tolist() == []
    assert list(predictor.stream(iter([table.to_batches(), []][1]))) == []


BAD: list[dict[str, Any]] = [
    {"text": "Врач 👩‍🔬\u200c é", "language": "ru"},
    {"text": None, "language": "ru"},
    {"text": "", "language": "ru"},
    {"text": "ok", "language": "qqq"},
    {"text": "ok", "language": None},
    {"text": SENTENCES["de_DE"][0], "language": "de"},
]


@pytest.mark.parametrize("kind", ["arrow", "pandas", "numpy"])
def test_bad_rows_are_marked_and_the_others_stay_as_they_are(topic, kind) -> None:
    predictor = BatchPredictor(topic, bad_rows="mark")
    found = in_batches(kind, BAD, predictor, len(BAD))
    said = [row["problem"] for row in found]
    assert [isinstance(each, str) for each in said] == [False, True, True, True, True, False]
    assert "'text' is empty" in said[1]
    assert "qqq" in said[3]
    assert "its language is not known" in said[4]
    good = BatchPredictor(topic)(pa.Table.from_pylist([BAD[0], BAD[5]])).to_pylist()
    for row, expected in zip((found[0], found[5]), good, strict=True):
        assert {name: row[name] for name in expected} == expected
    for row in found[1:5]:
        assert all(row[name] is None or row[name] != row[name] for name in ("label", "score", "adapter"))
    assert [row["text"] for row in found] == [row["text"] for row in BAD]


def test_a_bad_row_stops_a_batch_and_is_named(topic) -> None:
    with pytest.raises(DataError, match=r"^row 1: 'text' is empty"):
        BatchPredictor(topic)(pa.Table.from_pylist(BAD))
    with pytest.raises(DataError, match=r"there is no column 'words'.*did you mean|there is no column 'words'"):
        BatchPredictor(topic, columns={"text": "words"})(pa.Table.from_pylist(BAD))


def test_whole_numbers_stay_whole_beside_null(models) -> None:
    predictor = BatchPredictor(models["XmodForQuestionAnswering"], language="de", bad_rows="mark")
    rows = [{"question": "Wer?", "context": TEXTS[2]}, {"question": "Wer?", "context": ""}]
    made = predictor(pandas.DataFrame(rows))
    assert str(made["start"].dtype) == "Int64"
    assert made["start"].isna().tolist() == [False, True]
    table = pa.Table.from_pandas(made, schema=predictor.schema(pa.Table.from_pylist(rows).schema))
    assert table["start"].type == pa.int64()


def test_columns_with_the_names_of_predictions_stay(topic, tmp_path) -> None:
    rows = [{"text": TEXTS[0], "score": 7, "adapter": "x", "predicted_adapter": "y", "problem": "z", "label": "calm"}]
    made = BatchPredictor(topic, language="en", bad_rows="mark")(pa.Table.from_pylist(rows)).to_pylist()[0]
    assert {name: made[name] for name in rows[0]} == rows[0]
    (tmp_path / "in.jsonl").write_text(json.dumps(rows[0]) + "\n")
    predict(topic, tmp_path / "in.jsonl", tmp_path / "out.jsonl", language="en")
    written = json.loads((tmp_path / "out.jsonl").read_text())
    assert list(made) == [*written, "predicted_problem"]
    assert {name: made[name] for name in written} == written


def test_other_columns_are_not_read(topic) -> None:
    """Bytes that are no text, dates that Python does not have, and nested values pass through."""
    table = pa.table(
        {
            "text": TEXTS[:2],
            "raw": pa.array([b"\xff\x00", None], pa.binary()),
            "when": pa.array([2**62, None], pa.timestamp("ns")).cast(pa.timestamp("ns")),
            "odd": pa.array([b"\xff", b"a"], pa.binary()).view(pa.binary()),
            "deep": [[{"a": [1]}], None],
        }
    )
    made = BatchPredictor(topic, language="en")(table)
    assert made.select(table.column_names) == table


def test_large_batches_are_read_in_windows(topic) -> None:
    draw = random.Random(0)
    texts = [draw.choice(TEXTS) for _ in range(300)]
    table = pa.table({"text": texts})
    whole = BatchPredictor(topic, language="de")(table)
    cut = BatchPredictor(topic, language="de", window=17, batch_tokens=64)(table)
    assert cut["label"].to_pylist() == whole["label"].to_pylist()
    assert cut["score"].to_numpy() == pytest.approx(whole["score"].to_numpy(), rel=1e-4)


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"thresold": 0.5}, ConfigurationError, "There is no setting 'thresold'; the settings are batch_tokens"),
        ({"bad_rows": "drop"}, ConfigurationError, "must be 'error' or 'mark'"),
        ({"precision": "auto"}, ConfigurationError, "each worker would decide"),
        ({"tokenizer": 3}, InputError, "tokenizer is a int"),
    ],
)
def test_mistakes_are_named_where_they_are_made(topic, more, error, said) -> None:
    with pytest.raises(error, match=said):
        BatchPredictor(topic, **more)


def test_what_is_no_batch_or_no_model_is_refused(topic) -> None:
    with pytest.raises(InputError, match="model is a Linear: give a folder"):
        BatchPredictor(__import__("torch").nn.Linear(1, 1))
    predictor = BatchPredictor(topic, language="en")
    with pytest.raises(InputError, match="A batch is a list"):
        predictor([{"text": "a"}])
    with pytest.raises(InputError, match="different lengths: 1, 2"):
        predictor({"text": ["a", "b"], "id": [1]})
    with pytest.raises(DataError, match="'text' appears twice"):
        predictor(pa.table([["a"], ["b"]], names=["text", "text"]))
    with pytest.raises(ConfigurationError, match="There is no folder"):
        BatchPredictor("./nowhere")({"text": ["a"]})
