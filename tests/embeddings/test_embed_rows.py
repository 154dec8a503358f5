"""The verb `embed`: rows with vectors, whole after a kill, in all its formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.embeddings.conftest import LANGUAGES, TEXTS
from xmodular import XmodModel, embed
from xmodular.embeddings import Embedder
from xmodular.embeddings.row_embedder import RowEmbedder
from xmodular.errors import ConfigurationError, DataError

ROWS = [
    {"id": number, "text": text, "language": language}
    for number, (text, language) in enumerate(zip(TEXTS * 3, LANGUAGES * 3, strict=True))
]


@pytest.fixture(scope="module")
def vectors(different: Path) -> np.ndarray:
    return Embedder(different)(TEXTS * 3, LANGUAGES * 3)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.mark.parametrize(("stored", "tolerance"), [("fp32", 1e-6), ("fp16", 1e-3)])
def test_parquet_has_lists_of_fixed_size(
    different: Path, rows: Path, tmp_path: Path, vectors: np.ndarray, stored: Any, tolerance: float
) -> None:
    done = embed(different, rows, tmp_path / "out.parquet", vectors=stored)
    assert (done.rows, done.bad) == (15, 0)
    table = pq.read_table(tmp_path / "out.parquet")
    kind = pa.float32() if stored == "fp32" else pa.float16()
    assert table.schema.field("embedding").type == pa.list_(kind, 32)
    assert table.column_names == ["id", "text", "language", "predicted_language", "adapter", "embedding"]
    found = np.stack(table["embedding"].to_pylist())
    assert np.abs(found - vectors).max() < tolerance
    assert table["adapter"].to_pylist()[:5] == ["en_XX", "en_XX", "de_DE", "sw_KE", "de_DE"]


def test_the_other_formats(different: Path, rows: Path, tmp_path: Path, vectors: np.ndarray, capfd: Any) -> None:
    embed(different, rows, tmp_path / "out.npy")
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.float32
    assert np.abs(found - vectors).max() < 1e-6
    embed(different, rows, tmp_path / "out.npy", vectors="fp16", overwrite=True)
    assert np.load(tmp_path / "out.npy").dtype == np.float16
    embed(different, rows, tmp_path / "out.jsonl")
    embed(different, rows)
    for lines in ((tmp_path / "out.jsonl").read_text("utf-8"), capfd.readouterr().out):
        read = [json.loads(line) for line in lines.splitlines()]
        assert np.abs(np.array([row["embedding"] for row in read]) - vectors).max() < 1e-6
        assert [row["id"] for row in read] == list(range(15))


def test_killed_and_resumed_is_as_in_one_go(
    different: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(different, rows, tmp_path / "whole.parquet", window=4)
    predict, calls = RowEmbedder.predict, []

    def dies(self: Any, examples: Any, *rest: Any) -> Any:
        calls.append(len(examples))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(self, examples, *rest)

    monkeypatch.setattr(RowEmbedder, "predict", dies)
    with pytest.raises(KeyboardInterrupt):
        embed(different, rows, tmp_path / "out.parquet", window=4)
    assert not (tmp_path / "out.parquet").exists()
    with pytest.raises(ConfigurationError, match="prefix"):  # another run
        embed(different, rows, tmp_path / "out.parquet", window=4, prefix="query: ")
    embed(different, rows, tmp_path / "out.parquet", window=4)
    assert calls == [4, 4, 4, 4, 3]
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "rows.jsonl", "whole.parquet"]


def test_shards_are_parquet(different: Path, rows: Path, tmp_path: Path, vectors: np.ndarray) -> None:
    embed(different, rows, tmp_path / "out", shard_rows=6)
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert [pq.read_metadata(file).num_rows for file in files] == [6, 6, 3]
    found = np.concatenate([np.stack(pq.read_table(file)["embedding"].to_pylist()) for file in files])
    assert np.abs(found - vectors).max() < 1e-6


def test_columns_of_parquet_keep_their_types(different: Path, tmp_path: Path, vectors: np.ndarray) -> None:
    table = pa.table({"n": pa.array(range(15), pa.int16()), "text": TEXTS * 3, "language": LANGUAGES * 3})
    pq.write_table(table, tmp_path / "in.parquet")
    embed(different, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.field("n").type == pa.int16()
    assert np.abs(np.stack(found["embedding"].to_pylist()) - vectors).max() < 1e-6


def test_no_rows(different: Path, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("text,language\n")
    embed(different, tmp_path / "none.csv", tmp_path / "out.parquet")
    assert pq.read_schema(tmp_path / "out.parquet").field("embedding").type == pa.list_(pa.float32(), 32)
    embed(different, tmp_path / "none.csv", tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (0, 32)


def test_prefix_and_identification(different: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text(f"{TEXTS[2]}\n123\n", encoding="utf-8")
    more = {"identify": True, "prefix": "query: ", "pooling": "first"}
    embed(different, tmp_path / "rows.txt", tmp_path / "out.parquet", **more)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["adapter"].to_pylist() == ["de_DE", "en_XX"]
    expected = Embedder(different, **more)([TEXTS[2], "123"])
    assert np.abs(np.stack(table["embedding"].to_pylist()) - expected).max() < 1e-6


def test_bad_rows(different: Path, tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[1], "text": ""}, {**ROWS[2], "language": "xx"}, {**ROWS[3], "text": 3}, ROWS[4]]
    with pytest.raises(DataError, match="'text' is empty"):
        embed(different, rows, tmp_path / "out.npy")
    done = embed(different, rows, tmp_path / "out.npy", skip_bad_rows=True)
    assert (done.rows, done.bad) == (2, 3)
    assert np.load(tmp_path / "out.npy").shape == (2, 32)
    reasons = [json.loads(line)["reason"] for line in done.bad_rows.read_text("utf-8").splitlines()]
    assert ["empty" in reasons[0], "'xx'" in reasons[1], "non-empty text" in reasons[2]] == [True] * 3


def test_a_missing_vector_is_null(different: Path, tmp_path: Path) -> None:
    model = XmodModel.from_pretrained(different)
    model.encoder.layer[1].output.adapter_modules["sw_KE"].dense2.bias.data.fill_(float("inf"))
    model.save_pretrained(tmp_path / "model")
    more = {"tokenizer": different}
    embed(tmp_path / "model", ROWS[2:4], tmp_path / "out.parquet", **more)
    found = pq.read_table(tmp_path / "out.parquet")["embedding"]
    assert [each.as_py() is None for each in found] == [False, True]
    embed(tmp_path / "model", ROWS[2:4], tmp_path / "out.npy", **more)
    assert np.isnan(np.load(tmp_path / "out.npy")).any(1).tolist() == [False, True]


@pytest.mark.parametrize("output", ["out.csv", "out.conll", "out"])
def test_formats_without_vectors_are_refused(different: Path, rows: Path, tmp_path: Path, output: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\.parquet, \.npy, \.jsonl"):
        embed(different, rows, tmp_path / output)
