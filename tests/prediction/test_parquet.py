"""Parquet through predict: types and shards stay; and input without rows keeps its columns."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.prediction.conftest import SENTENCES
from xmodular import evaluate
from xmodular.errors import ConfigurationError, DataError
from xmodular.prediction import predict
from xmodular.rows import BadRows, read_rows

TEXTS = [text for texts in SENTENCES.values() for text in texts] * 50
AT = pa.struct({"at": pa.timestamp("ms"), "none": pa.null()})
NEW = {"score": pa.float64(), "adapter": pa.string(), "predicted_label": pa.string(), "predicted_language": pa.string()}


def table(start: int = 0, count: int = len(TEXTS)) -> pa.Table:
    """Columns of every kind that Arrow has and JSON has not."""
    numbers = range(start, start + count)
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5, 678901)
    names = pa.array([f"kind {number % 7}" for number in numbers])
    columns = {
        "text": pa.array([TEXTS[number % len(TEXTS)] for number in numbers], pa.large_string()),
        "language": pa.array(["de"] * count, pa.dictionary(pa.int8(), pa.string())),
        "label": pa.array([number % 2 for number in numbers], pa.int64()),
        "moment": pa.array([moment] * count, pa.timestamp("us", "Europe/Zurich")),
        "nanoseconds": pa.array([1_600_000_000_000_000_000 + number for number in numbers], pa.timestamp("ns")),
        "day": pa.array([moment.date()] * count, pa.date32()),
        "time": pa.array([moment.time()] * count, pa.time64("us")),
        "long": pa.array([datetime.timedelta(days=1, microseconds=number) for number in numbers], pa.duration("us")),
        "price": pa.array([decimal.Decimal(number) / 100 for number in numbers], pa.decimal128(12, 2)),
        "kind": names.dictionary_encode().cast(pa.dictionary(pa.int16(), pa.string())),
        "small": pa.array([None if number % 3 else number % 100 for number in numbers], pa.int8()),
        "half": pa.array([0.1] * count, pa.float32()),
        "bytes": pa.array([bytes([number % 256]) for number in numbers], pa.binary()),
        "words": pa.array([["a", None]] * count, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        "view": pa.array([f"a text that needs a view {number}" for number in numbers], pa.string_view()),
        "views": pa.array([[b"\xff", None]] * count, pa.list_(pa.binary_view())),
        "pairs": pa.array([[("a", number)] for number in numbers], pa.map_(pa.string(), pa.int32())),
        "nested": pa.array([{"at": moment, "none": None}] * count, AT),
        "nothing": pa.nulls(count),
    }
    features = {"label": {"names": ["sad", "calm"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), "mine": "kept"}
    return pa.table(columns).replace_schema_metadata(metadata)


def same(found: pa.Table, given: pa.Table) -> bool:
    """Whether a table has the columns of another, of the same types, with the same values."""
    mine = found.select(given.column_names)
    assert mine.schema == given.schema
    return mine.to_pylist() == given.to_pylist()  # whatever the order of categories is


def test_types_stay(topic: Path, tmp_path: Path) -> None:
    given = table()
    pq.write_table(given, tmp_path / "rows.parquet", row_group_size=123)
    done = predict(topic, tmp_path / "rows.parquet", tmp_path / "out.parquet", window=100)
    found = pq.read_table(tmp_path / "out.parquet")
    assert same(found, given)
    assert found.schema.metadata[b"mine"] == b"kept"
    assert {name: found.schema.field(name).type for name in found.column_names[len(given.column_names) :]} == NEW
    predict(topic, tmp_path / "rows.parquet", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert done.rows == len(rows) == len(TEXTS)
    assert [row["predicted_label"] for row in rows] == found["predicted_label"].to_pylist()
    assert found["score"].to_pylist() == pytest.approx([row["score"] for row in rows], abs=1e-6)
    assert [row["label"] for row in rows] == [("sad", "calm")[number % 2] for number in range(len(TEXTS))]
    expected = evaluate(topic, tmp_path / "rows.parquet").rows
    assert evaluate(topic, tmp_path / "out.parquet").rows == expected


def test_bad_rows_are_left_out_of_both_sides(topic: Path, tmp_path: Path) -> None:
    given = table(count=300)
    texts = [
        None if number in (0, 17, 255, 256, 299) else text for number, text in enumerate(given["text"].to_pylist())
    ]
    given = given.set_column(0, "text", pa.array(texts, pa.string()))
    pq.write_table(given, tmp_path / "rows.parquet")
    done = predict(topic, tmp_path / "rows.parquet", tmp_path / "out.parquet", window=64, skip_bad_rows=True)
    found = pq.read_table(tmp_path / "out.parquet")
    assert (done.rows, done.bad, found.num_rows) == (295, 5, 295)
    kept = [row for row, text in zip(given.to_pylist(), texts, strict=True) if text is not None]
    assert same(found, pa.Table.from_pylist(kept, given.schema))
    pairs = dict(zip(TEXTS, found["predicted_label"].to_pylist()[: len(TEXTS)], strict=False))
    predict(topic, tmp_path / "out.parquet", tmp_path / "again.parquet")
    again = pq.read_table(tmp_path / "again.parquet")
    assert again["predicted_predicted_label"].to_pylist() == again["predicted_label"].to_pylist()
    assert pairs


def shards(folder: Path, sizes: tuple[int, ...]) -> pa.Table:
    folder.mkdir()
    start = 0
    for number, size in enumerate(sizes):
        pq.write_table(table(start, size), folder / f"train-{number:05d}-of-{len(sizes):05d}.parquet")
        start += size
    (folder / "_SUCCESS").touch()
    (folder / "README.md").touch()
    return table(0, start)


def test_shards_in_and_out(topic: Path, tmp_path: Path) -> None:
    whole = shards(tmp_path / "shards", (70, 1, 0, 60))
    done = predict(topic, tmp_path / "shards", tmp_path / "out", shard_rows=50, window=20)
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == [*(f"part-{n:05d}.parquet" for n in range(3)), "predict.json"]
    tables = [pq.read_table(path) for path in written[:3]]
    assert [each.num_rows for each in tables] == [50, 50, 31]
    assert len({str(each.schema) for each in tables}) == 1
    assert same(pa.concat_tables(tables), whole)
    assert (done.rows, done.output) == (131, tmp_path / "out")
    # The shards are read again, as one; a run is only replaced where that is asked for.
    predict(topic, tmp_path / "out", tmp_path / "one.parquet")
    assert same(pq.read_table(tmp_path / "one.parquet"), whole)
    assert evaluate(topic, {"de": tmp_path / "out"}).rows
    with pytest.raises(ConfigurationError, match="out already exists; --overwrite"):
        predict(topic, tmp_path / "shards", tmp_path / "out", shard_rows=100)
    predict(topic, tmp_path / "shards", tmp_path / "out", shard_rows=100, overwrite=True)
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 2
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ConfigurationError, match=r"also contains thesis\.tex"):
        predict(topic, tmp_path / "shards", tmp_path / "out", shard_rows=10, overwrite=True)
    with pytest.raises(ConfigurationError, match="is in the folder of the input"):
        predict(topic, tmp_path / "shards", tmp_path / "shards" / "out.parquet")
    with pytest.raises(ConfigurationError, match="would replace the input"):
        predict(topic, tmp_path / "out", tmp_path / "out", shard_rows=10, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.parquet", "out", "shards"]


def test_interrupted_shards_go_on(topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards(tmp_path / "shards", (30, 30))
    more: dict[str, Any] = {"shard_rows": 7, "window": 7}
    predict(topic, tmp_path / "shards", tmp_path / "whole", **more)
    for place in (
        "xmodular.prediction.windows.Work.lines",
        "xmodular.prediction.predicting.sync",
        "xmodular.prediction.predicting.discard",
    ):
        calls = 0
        with monkeypatch.context() as patch:
            module, _, name = place.rpartition(".")
            owner: Any = (
                __import__("xmodular.prediction.windows", fromlist=["Work"]).Work if name == "lines" else module
            )
            real = getattr(owner, name) if name == "lines" else None

            def failing(*given: Any, real: Any = real) -> Any:
                nonlocal calls
                calls += 1
                if real is None or calls == 4:
                    raise KeyboardInterrupt
                return real(*given)

            patch.setattr(place, failing)
            with pytest.raises(KeyboardInterrupt):
                predict(topic, tmp_path / "shards", tmp_path / "out", **more)
        predict(topic, tmp_path / "shards", tmp_path / "out", **more)
        for path in (tmp_path / "whole").glob("*.parquet"):
            assert same(pq.read_table(tmp_path / "out" / path.name), pq.read_table(path))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shards", "whole"]
        predict(topic, tmp_path / "shards", tmp_path / "out", overwrite=True, **more)
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        (tmp_path / "out").rmdir()


def test_shards_that_differ_are_read_and_their_types_found_anew(topic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), folder / "a.PARQUET")
    pq.write_table(pa.table({"text": ["b"], "m": ["x"]}), folder / "b.parquet")
    predict(topic, folder, tmp_path / "out.parquet", language="de")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["text"], row["n"], row["m"]) for row in rows] == [("a", 1, None), ("b", None, "x")]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="is a folder without Parquet files"):
        predict(topic, tmp_path / "none", tmp_path / "new.parquet", language="de")


EMPTY = {
    "rows.csv": "text,lang,label\n",
    "rows.tsv": '"text"\t"lang"\t"label"\n',
    "rows.jsonl": "",
    "rows.parquet": "",
}


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("name", EMPTY)
def test_no_rows_keep_their_header(folders: dict[str, Path], topic: Path, tmp_path: Path, name: str, bad: bool) -> None:
    columns = [] if name == "rows.jsonl" else ["text", "lang", "label"]
    path = tmp_path / name
    if name == "rows.parquet":
        kinds = pa.schema({"text": pa.string(), "lang": pa.dictionary(pa.int8(), pa.string()), "label": pa.date32()})
        pq.write_table(pa.table({each: [None] * bad for each in columns}, schema=kinds), path)
    else:
        path.write_text(
            EMPTY[name] + ("" if not bad else "{\n" if not columns else ",,\n".replace(",", EMPTY[name][-8]))
        )
    added = ["predicted_label" if columns else "label", "score", "language", "adapter", "confidence"]
    for output in ("out.csv", "out.tsv.gz", "out.parquet"):
        done = predict(topic, path, tmp_path / output, skip_bad_rows=bad, identify=True)
        assert (done.rows, done.bad) == (0, int(bad))
        assert list(read_rows(tmp_path / output, BadRows())) == []
        if output == "out.csv":
            assert (tmp_path / output).read_text() == ",".join([*columns, *added]) + "\n"
        if output == "out.parquet":
            schema = pq.read_schema(tmp_path / output)
            assert schema.names == [*columns, *added]
            assert [schema.field(each).type for each in added[:4]] == [
                pa.string(),
                pa.float64(),
                pa.string(),
                pa.string(),
            ]
            if name == "rows.parquet":
                assert pa.schema([schema.field(each) for each in columns]) == kinds
    assert predict(topic, path, tmp_path / "out.jsonl", skip_bad_rows=bad).rows == 0
    for head, model in folders.items():
        if head != "XmodForMaskedLM":
            predict(model, path, tmp_path / f"{head}.csv", skip_bad_rows=bad)
            assert (tmp_path / f"{head}.csv").read_text().startswith(",".join([*columns, ""]))
