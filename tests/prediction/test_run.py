"""The verb: what goes in comes out with its predictions, in every format; names, shards, resuming, refusals."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.prediction.conftest import SENTENCES
from xmodular import Predictor
from xmodular.cli import app
from xmodular.errors import ConfigurationError, DataError
from xmodular.options import PredictOptions, build
from xmodular.outputs import held
from xmodular.prediction import predict
from xmodular.prediction.windows import Work
from xmodular.rows import read_rows

TEXTS = [text for texts in SENTENCES.values() for text in texts]
SPOKEN = [code for code, texts in SENTENCES.items() for _ in texts]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[Any]) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [
        {"id": number, "text": text, "lang": code, "note": [number, {"é": None}]}
        for number, (text, code) in enumerate(zip(TEXTS * 2, SPOKEN * 2, strict=True))
    ]
    return write(tmp_path / "rows.jsonl", rows)


LANG = {"columns": "language=lang"}


def test_rows_keep_all_their_columns(topic: Path, source: Path, tmp_path: Path) -> None:
    done = predict(topic, source, tmp_path / "out.jsonl", window=5, **LANG)
    expected = Predictor(topic, window=5)(TEXTS * 2, SPOKEN * 2)
    found = lines(tmp_path / "out.jsonl")
    assert (done.rows, done.bad, done.bad_rows) == (16, 0, None)
    for row, out, prediction in zip(lines(source), found, expected, strict=True):
        assert list(out) == ["id", "text", "lang", "note", "label", "score", "language", "adapter"]
        assert {name: out[name] for name in row} == row
        assert {name: out[name] for name in prediction} == prediction | {"score": pytest.approx(prediction["score"])}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]


def test_every_format_says_the_same(topic: Path, source: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.csv", "out.tsv", "out.parquet"):
        predict(topic, source, tmp_path / name, window=5, **LANG)
    rows = lines(tmp_path / "out.jsonl")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        row | {"note": json.dumps(row["note"], ensure_ascii=False)}
        for row in rows  # a list of mixed types
    ]
    for name, delimiter in (("out.csv", ","), ("out.tsv", "\t")):
        with open(tmp_path / name, encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file, delimiter=delimiter))
        assert [row["adapter"] for row in table] == [row["adapter"] for row in rows]
        assert [float(row["score"]) for row in table] == [row["score"] for row in rows]
        assert [json.loads(row["note"]) for row in table] == [row["note"] for row in rows]


def test_parquet_and_csv_are_read(topic: Path, source: Path, tmp_path: Path) -> None:
    predict(topic, source, tmp_path / "out.jsonl", **LANG)
    rows = lines(source)
    pq.write_table(
        pa.table({name: [row[name] for row in rows] for name in ("id", "text", "lang")}), tmp_path / "rows.parquet"
    )
    predict(topic, tmp_path / "rows.parquet", tmp_path / "from_parquet.jsonl", **LANG)
    with open(tmp_path / "rows.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "lang"), *((row["text"], row["lang"]) for row in rows)])
    predict(topic, tmp_path / "rows.csv", tmp_path / "from_csv.jsonl", **LANG)
    expected = [(row["text"], row["label"], row["score"]) for row in lines(tmp_path / "out.jsonl")]
    for name in ("from_parquet.jsonl", "from_csv.jsonl"):
        assert [(row["text"], row["label"], row["score"]) for row in lines(tmp_path / name)] == expected


def test_the_output_is_named_as_it_is(topic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "rows.jsonl", [{"text": "a river"}])
    predict(topic, source, tmp_path / "out[test].jsonl", language="en")
    assert "out[test].jsonl" in capsys.readouterr().err.replace("\n", "")


def test_columns_of_the_same_name_are_kept(topic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"text": "a", "language": "de"},
        {"text": "b", "language": "de", "label": "gold", "score": 1, "predicted_label": 2},
    ]
    predict(topic, write(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl")
    for row, out in zip(rows, lines(tmp_path / "out.jsonl"), strict=True):
        assert {name: out[name] for name in row} == row
        assert out["predicted_predicted_label"] in ("calm", "glad", "sad")
        assert out["predicted_language"] == "de_DE"
    said = " ".join(capsys.readouterr().err.split())
    assert "label is predicted_predicted_label, score is predicted_score, language is predicted_language" in said


def test_a_late_column_of_a_predictions_name_is_no_loss(topic: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "de.jsonl", [{"text": "a"}, {"text": "b"}, {"text": "c", "label": "mine"}])
    with pytest.raises(DataError, match=r"de\.jsonl:3: it has a column 'label', the prediction's name"):
        predict(topic, source, tmp_path / "out.jsonl", window=2)
    done = predict(topic, source, tmp_path / "out.jsonl", window=2, skip_bad_rows=True)
    assert (done.rows, done.bad) == (2, 1)
    assert lines(done.bad_rows)[0]["row"] == {"text": "c", "label": "mine"}


def test_bad_rows_are_kept_apart(topic: Path, tmp_path: Path) -> None:
    rows = ["{", {"text": "a"}, {"text": 5, "id": "x"}, {"text": "b", "language": "tlh"}, {"text": "c"}, "[]"]
    source = write(tmp_path / "sw.test.jsonl", rows)
    with pytest.raises(DataError, match=r"sw\.test\.jsonl:1: not JSON"):
        predict(topic, source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    done = predict(topic, source, tmp_path / "out.jsonl", skip_bad_rows=True)  # goes on where it stopped
    assert [row["text"] for row in lines(tmp_path / "out.jsonl")] == ["a", "c"]
    bad = lines(tmp_path / "out.jsonl.bad.jsonl")
    assert (done.rows, done.bad, done.bad_rows) == (2, 4, tmp_path / "out.jsonl.bad.jsonl")
    assert [row["place"].rpartition(":")[2] for row in bad] == ["1", "3", "4", "6"]
    assert [row.get("row") for row in bad] == [None, {"text": 5, "id": "x"}, {"text": "b", "language": "tlh"}, None]
    assert all(row["reason"] for row in bad)


@pytest.mark.parametrize("rows", [[], ["{", "{"]], ids=["empty", "all bad"])
def test_no_readable_row_is_an_empty_output(topic: Path, tmp_path: Path, rows: list[Any]) -> None:
    source = write(tmp_path / "de.jsonl", rows)
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        done = predict(topic, source, tmp_path / name, skip_bad_rows=True)
        assert (done.rows, done.bad) == (0, len(rows))
        assert (tmp_path / name).is_file()


def test_shards(topic: Path, source: Path, tmp_path: Path) -> None:
    predict(topic, source, tmp_path / "whole.jsonl", window=3, **LANG)
    predict(topic, source, tmp_path / "shards", window=3, shard_rows=7, **LANG)
    parts = sorted((tmp_path / "shards").glob("part-*.jsonl"))
    assert [path.name for path in parts] == [f"part-{number:05d}.jsonl" for number in range(3)]
    assert [len(lines(path)) for path in parts] == [7, 7, 2]
    found = [row for path in parts for row in lines(path)]
    assert [row["label"] for row in found] == [row["label"] for row in lines(tmp_path / "whole.jsonl")]
    assert json.loads((tmp_path / "shards" / "predict.json").read_text())["complete"] is True
    with pytest.raises(ConfigurationError, match="contains a finished run; --overwrite replaces it"):
        predict(topic, source, tmp_path / "shards", window=3, shard_rows=7, **LANG)
    (tmp_path / "shards" / "README").write_text("mine")
    predict(topic, source, tmp_path / "shards", window=3, shard_rows=16, overwrite=True, **LANG)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        "README",
        "part-00000.jsonl",
        "predict.json",
    ]


@pytest.fixture
def interrupted(topic: Path, tmp_path: Path) -> Path:
    """A run that stopped at a bad row, after two windows."""
    rows = [{"text": f"{text} {number}"} for number, text in enumerate(TEXTS)]
    source = write(tmp_path / "de.jsonl", [*rows[:7], "{", *rows[7:]])
    with pytest.raises(DataError):
        predict(topic, source, tmp_path / "out.jsonl", window=3)
    assert len(list((tmp_path / "out.jsonl.parts").glob("part-*"))) == 2
    return source


def test_what_is_done_is_not_done_again(
    topic: Path, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, rows, *more: (read.append(len(rows)), original(self, rows, *more))[1]
    )
    predict(topic, interrupted, tmp_path / "out.jsonl", window=3, skip_bad_rows=True)
    assert read == [2]
    assert len(lines(tmp_path / "out.jsonl")) == 8
    assert len(lines(tmp_path / "out.jsonl.bad.jsonl")) == 1


def test_another_run_is_not_mixed_in(topic: Path, folders: dict, interrupted: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"window": 3, "skip_bad_rows": True}
    with pytest.raises(ConfigurationError, match=r"differs in window \(3, now 4\).*--overwrite"):
        predict(topic, interrupted, tmp_path / "out.jsonl", **more | {"window": 4})
    with pytest.raises(ConfigurationError, match=r"differs in precision \('keep', now 'bf16'\)"):
        predict(topic, interrupted, tmp_path / "out.jsonl", precision="bf16", **more)
    with pytest.raises(ConfigurationError, match="differs in model "):
        predict(folders["regress"], interrupted, tmp_path / "out.jsonl", **more)
    kept = interrupted.read_text(encoding="utf-8")
    interrupted.write_text(kept.replace("doctor", "dactor"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="differs in input_file "):
        predict(topic, interrupted, tmp_path / "out.jsonl", **more)
    done = predict(topic, interrupted, tmp_path / "out.jsonl", overwrite=True, **more)
    assert done.rows == 8
    assert "dactor" in (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert not (tmp_path / "out.jsonl.parts").exists()


def test_two_runs_at_once_do_not_share_an_output(topic: Path, interrupted: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"window": 3, "skip_bad_rows": True}
    output = tmp_path / "out.jsonl"
    parts = output.with_name("out.jsonl.parts")
    before = {path: path.read_bytes() for path in parts.iterdir()}
    with held(output), ThreadPoolExecutor(1) as other:
        for change in ({}, {"overwrite": True, "window": 4}):
            with pytest.raises(ConfigurationError, match=r"Another run is writing to .*out\.jsonl: wait"):
                other.submit(predict, topic, interrupted, output, **more | change).result()
    assert {path: path.read_bytes() for path in parts.iterdir()} == before
    assert predict(topic, interrupted, output, **more).rows == 8


def test_model_objects_are_told_apart_by_their_weights(topic: Path, interrupted: Path, tmp_path: Path) -> None:
    model = Predictor(topic).model
    with pytest.raises(ConfigurationError, match=r"differs in .*weights"):
        predict(model, interrupted, tmp_path / "out.jsonl", window=3, skip_bad_rows=True)


def test_nothing_is_replaced_unasked(topic: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"out\.jsonl already exists; --overwrite"):
        predict(topic, source, tmp_path / "out.jsonl", **LANG)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not a run of predict"):
        predict(topic, source, tmp_path / "folder", shard_rows=4, overwrite=True, **LANG)
    with pytest.raises(ConfigurationError, match=r"must end in \.jsonl, \.csv"):
        predict(topic, source, tmp_path / "out.txt", **LANG)
    with pytest.raises(DataError, match="There is no input"):
        predict(topic, tmp_path / "nowhere.jsonl", tmp_path / "new.jsonl", **LANG)
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "folder" / "thesis.tex").read_text() == "mine"


def test_standard_input_and_output(topic: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(topic, source, tmp_path / "out.jsonl", **LANG)
    arguments = ["predict", "--model", str(topic), "--input", "-", "--columns", "language=lang", "--skip-bad-rows"]
    result = CliRunner().invoke(app, [*arguments, "--output", "-"], input=source.read_bytes() + b"{\n")
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == (tmp_path / "out.jsonl").read_bytes()
    assert "<stdin>:17: not JSON" in " ".join(result.stderr.split())


def test_a_language_that_nobody_says_is_asked_for(topic: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", [{"text": "Die Ärztin öffnet das Haus."}])
    arguments = ["predict", "--model", str(topic), "--input", str(source), "--output", str(tmp_path / "out.jsonl")]
    result = CliRunner().invoke(app, arguments)
    assert not list(tmp_path.glob("out*"))
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert "--language" in said
    assert "--columns language=" in said
    assert "--identify" in said
    assert CliRunner().invoke(app, [*arguments, "--identify"]).exit_code == 0
    assert lines(tmp_path / "out.jsonl")[0]["adapter"] == "de_DE"
    assert 0 < lines(tmp_path / "out.jsonl")[0]["confidence"] <= 1


def test_a_files_name_is_a_language_only_where_the_model_has_it(
    topic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"text": "Die Ärztin öffnet das alte Haus am Fluss."}

    def read(name: str, model: Any = topic, **options: Any) -> tuple[str, str]:
        predict(model, write(tmp_path / name, [row]), tmp_path / "out.jsonl", overwrite=True, **options)
        (found,) = lines(tmp_path / "out.jsonl")
        return found["language"], found["adapter"]

    assert read("de.test.jsonl") == ("de_DE", "de_DE")
    assert read("mix.jsonl", identify=True) == ("de_DE", "de_DE")
    assert read("log.jsonl", default_language="sw") == ("sw_KE", "sw_KE")
    assert read("gsw.test.jsonl", fallback="relative") == ("gsw", "de_DE")
    with pytest.raises(DataError, match=r"mt\.test\.jsonl:1: its language is not known: give --language"):
        read("mt.test.jsonl")
    for options in ({}, {"identify": True}, {"default_language": "sw"}):  # a region: certainly a language
        with pytest.raises(DataError, match=r"there is no language 'de_CH' here: did you mean de_DE"):
            read("de_CH.test.jsonl", **options)
    assert "model's default" not in capsys.readouterr().err
    own = Predictor(topic).model
    own.add_language("de_CH", init_from="de_DE")
    for options in ({}, {"default_language": "en"}):
        with pytest.raises(DataError, match="the language 'de' is ambiguous: it could be de_DE or de_CH"):
            read("de.test.jsonl", own, tokenizer=topic, **options)
    own.remove_language("de_CH")
    own.set_default_language("sw")
    assert read("mt.test.jsonl", own, tokenizer=topic) == ("sw_KE", "sw_KE")
    said = " ".join(capsys.readouterr().err.replace("\n", " ").split())
    assert "'mt' is not one of the model's languages. Rows that name none use the adapter of sw_KE" in said
    assert read("train.jsonl", own, tokenizer=topic) == read("sw.jsonl", own, tokenizer=topic) == ("sw_KE", "sw_KE")
    assert "model's default" not in capsys.readouterr().err


def test_a_carriage_return_ends_no_record(topic: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "de.jsonl", [{"text": "a\rb"}, {"text": "a\r\nb"}])
    for name, delimiter in (("out.csv", ","), ("out.tsv", "\t")):
        predict(topic, source, tmp_path / name)
        with open(tmp_path / name, encoding="utf-8", newline="") as file:
            assert [row["text"] for row in csv.DictReader(file, delimiter=delimiter)] == ["a\rb", "a\r\nb"]
        assert (tmp_path / name).read_bytes().endswith(b"de_DE\n")


def test_a_parquet_column_that_widens_too_late_becomes_text(topic: Path, tmp_path: Path) -> None:
    rows = [{"text": "a", "n": 2**60 + 1}, {"text": "b", "n": 0.5}]
    predict(topic, write(tmp_path / "de.jsonl", rows), tmp_path / "out.parquet", window=1)
    assert [row["n"] for row in pq.read_table(tmp_path / "out.parquet").to_pylist()] == [str(2**60 + 1), "0.5"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("moment", ["before", "after", "tidying"])
def test_killed_about_the_last_rename(
    topic: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, there: bool
) -> None:
    predict(topic, source, tmp_path / "whole.jsonl", window=3, **LANG)
    output = tmp_path / "out.jsonl"
    if there:
        output.write_text("old\n")
    replace, unlink = os.replace, Path.unlink

    def killing(old: Path, new: Path) -> None:
        if moment == "after" or new != output:
            replace(old, new)
        if new == output and moment != "tidying":
            raise KeyboardInterrupt
        if new == output:
            replace(old, new)

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        if path.name == "part-00002.jsonl":
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killing)
        if moment == "tidying":
            patch.setattr(Path, "unlink", unlinking)
        with pytest.raises(KeyboardInterrupt):
            predict(topic, source, output, window=3, overwrite=there, **LANG)
    assert output.exists() == (there or moment != "before")
    done = predict(topic, source, output, window=3, **LANG)
    assert (done.rows, done.bad) == (16, 0)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl", "whole.jsonl"]


def test_strangers_stay(topic: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "part-00000.jsonl").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not a run of predict"):
        predict(topic, source, tmp_path / "folder", shard_rows=4, **LANG)
    (tmp_path / "out.jsonl.bad.jsonl").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"out\.jsonl\.bad\.jsonl already exists; --overwrite"):
        predict(topic, source, tmp_path / "out.jsonl", **LANG)
    assert (tmp_path / "folder" / "part-00000.jsonl").read_text() == "mine"
    assert (tmp_path / "out.jsonl.bad.jsonl").read_text() == "mine"


def test_the_input_is_never_replaced(topic: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    inside = write(tmp_path / "shards" / "de.jsonl", [{"text": "a"}])
    bad = write(tmp_path / "de.jsonl.bad.jsonl", [{"text": "a"}])
    for given, output, more in (
        (source, source, {}),
        (bad, tmp_path / "de.jsonl", {}),
        (inside, tmp_path / "shards", {"shard_rows": 4}),
    ):
        with pytest.raises(ConfigurationError, match="would replace the input"):
            predict(topic, given, output, overwrite=True, **more, **LANG)


def test_a_run_that_cannot_begin_replaces_nothing(topic: Path, source: Path, tmp_path: Path) -> None:
    predict(topic, source, tmp_path / "shards", shard_rows=7, **LANG)
    before = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    with pytest.raises(DataError, match="no column 'review'"):
        predict(topic, source, tmp_path / "shards", shard_rows=7, overwrite=True, columns={"text": "review"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()} == before


def test_another_standard_input_is_not_mixed_in(
    topic: Path, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = interrupted.read_bytes()
    more: dict[str, Any] = {"window": 3, "language": "de"}

    def given(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    given(content)
    with pytest.raises(DataError, match="<stdin>:8: not JSON"):
        predict(topic, "-", tmp_path / "piped.jsonl", **more)
    given(content.replace(b"doctor", b"dactor"))
    with pytest.raises(DataError, match=r"At <stdin>:1, the input differs from row 1 of the finished rows"):
        predict(topic, "-", tmp_path / "piped.jsonl", skip_bad_rows=True, **more)
    given(content)
    assert predict(topic, "-", tmp_path / "piped.jsonl", skip_bad_rows=True, **more).rows == 8


def test_a_reader_that_leaves_ends_the_run(
    topic: Path, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", closefd=True) as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert predict(topic, source, "-", window=3, **LANG).rows == 3


def test_the_first_rows_are_few_where_they_are_long(topic: Path, tmp_path: Path) -> None:
    long = "x" * 100
    source = write(tmp_path / "de.jsonl", [{"text": "a", "note": long}] * 5)
    options = build(PredictOptions, {"model": str(topic), "input": str(source), "output": "-"})
    work = Work(Predictor(topic), options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xmodular.prediction.windows.WINDOW_CHARACTERS", 150)
        assert len(work._head(read_rows(source, work.bad))) == 2
