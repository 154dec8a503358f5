"""Rows that lie elsewhere are predicted and scored like those beside us."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from tests.prediction.conftest import LANGUAGES, SENTENCES
from xmodular.embeddings import embed
from xmodular.errors import ConfigurationError, DataError
from xmodular.evaluation import evaluate
from xmodular.prediction import predict
from xmodular.prediction.parts import OutputParts


def test_rows_at_an_address(topic: Path, tmp_path: Path) -> None:
    rows = [{"text": SENTENCES[code][0], "language": code, "label": "glad"} for code in LANGUAGES]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    system = fsspec.filesystem("memory")
    system.pipe("/elsewhere/rows.jsonl", content.encode())
    try:
        for source, output in (("memory://elsewhere/rows.jsonl", "a.csv.zst"), (tmp_path / "rows.jsonl", "b.csv.zst")):
            predict(topic, source, tmp_path / output)
        assert (tmp_path / "a.csv.zst").read_bytes() == (tmp_path / "b.csv.zst").read_bytes()
        assert set(evaluate(topic, "memory://elsewhere/rows.jsonl").languages()) == set(LANGUAGES)
        with pytest.raises(DataError, match=r"There is no input memory://elsewhere/absent\.jsonl"):
            predict(topic, "memory://elsewhere/absent.jsonl", tmp_path / "c.jsonl")
    finally:
        system.rm("/elsewhere", recursive=True)


def test_a_folder_and_a_pattern_at_an_address(topic: Path, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for code in LANGUAGES:
        rows = [{"text": text, "label": "glad"} for text in SENTENCES[code]]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        system.pipe(f"/store/part=0/{code}.test.jsonl", content)
        (tmp_path / f"{code}.test.jsonl").write_bytes(content)
    try:
        here = evaluate(topic, tmp_path)
        for data in ("memory://store/part=0", "memory://store/part=0/*.test.jsonl", "memory://store/**/*.test.jsonl"):
            found = evaluate(topic, data)
            assert found.languages() == here.languages()
            assert [row.value for row in found.rows] == [row.value for row in here.rows]
        with pytest.raises(DataError, match=r"no files <language>\.dev\.jsonl .* in memory://store/part=0\."):
            evaluate(topic, "memory://store/part=0", split="dev")
        with pytest.raises(DataError, match=r"There are no files memory://store/\*\.csv"):
            evaluate(topic, "memory://store/*.csv")
        with pytest.raises(DataError, match="a folder at an address: name a file in it, or give --engine"):
            predict(topic, "memory://store/part=0", tmp_path / "out.jsonl")
    finally:
        system.rm("/store", recursive=True)


def test_only_a_run_over_files_writes_at_an_address(
    topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "en_XX.test.jsonl"
    rows.write_text(json.dumps({"text": SENTENCES["en_XX"][0], "label": "glad"}) + "\n", encoding="utf-8")
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match=r"s3://bucket/vectors\.npy is an address"):
        embed(topic, rows, "s3://bucket/vectors.npy")
    with pytest.raises(ConfigurationError, match="s3://bucket/results is an address"):
        evaluate(topic, rows, output_dir="s3://bucket/results")
    assert set(tmp_path.iterdir()) == before


def test_an_address_of_this_machine_is_a_path(topic: Path, tmp_path: Path) -> None:
    rows = tmp_path / "en_XX.jsonl"
    rows.write_text(json.dumps({"text": SENTENCES["en_XX"][0]}) + "\n", encoding="utf-8")
    before = rows.read_bytes()
    for source in (f"file://{rows}", Path(f"file://{rows}")):
        with pytest.raises(ConfigurationError, match="would replace the input"):
            predict(topic, source, rows, overwrite=True)
        assert rows.read_bytes() == before
        assert predict(topic, source, tmp_path / "made.jsonl", overwrite=True).rows == 1


def test_a_broken_run_does_not_go_on_with_another_file_at_its_address(
    topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "".join(json.dumps({"text": SENTENCES["en_XX"][0], "id": number}) + "\n" for number in range(6))
    system = fsspec.filesystem("memory")
    system.pipe("/elsewhere/en_XX.jsonl", content.encode())

    def run() -> int:
        return predict(topic, "memory://elsewhere/en_XX.jsonl", tmp_path / "made", shard_rows=2).rows

    closing = OutputParts.close
    try:
        monkeypatch.setattr(OutputParts, "close", lambda *args: (closing(*args), _interrupt()))
        with pytest.raises(KeyboardInterrupt):
            run()
        monkeypatch.undo()
        system.pipe("/elsewhere/en_XX.jsonl", content.encode() + b'{"text": "one more"}\n')
        with pytest.raises(ConfigurationError, match="differs in input_file"):
            run()
        system.pipe("/elsewhere/en_XX.jsonl", content.encode())
        assert run() == 6
    finally:
        system.rm("/elsewhere", recursive=True)


def _interrupt() -> None:
    raise KeyboardInterrupt
