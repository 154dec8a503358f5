"""--precision auto: what the processor does fast, if the predictions agree; the decision stays with the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from tests.prediction.conftest import SENTENCES
from xmodular import Predictor, evaluate
from xmodular.errors import DataError
from xmodular.prediction import predict
from xmodular.tasks import TASKS, load_saved, precision_probe, tokenizer_of
from xmodular.tasks.precision_probe import agreement, fast_bf16

TEXTS = [text for texts in SENTENCES.values() for text in texts]
SPOKEN = [code for code, texts in SENTENCES.items() for _ in texts]
MANY = [f"{TEXTS[number % 8]} {number}" for number in range(240)]
LANGUAGES = [SPOKEN[number % 8] for number in range(240)]


def processor(monkeypatch: pytest.MonkeyPatch, folder: Path, flags: str) -> None:
    """A processor with these flags."""
    (folder / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu sse2 {flags}\nbogomips : 1\n")
    monkeypatch.setattr(precision_probe, "_CPU_INFO", folder / "cpuinfo")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    processor(monkeypatch, tmp_path_factory.mktemp("cpu"), "avx512f avx512_bf16")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [{"text": text, "language": code, "label": "glad"} for text, code in zip(MANY, LANGUAGES, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path / "rows.jsonl"


def in_ties(topic: Path, folder: Path) -> Path:
    """A classifier whose logits differ by less than bf16 can hold: they end in ties."""
    model = load_saved(topic)
    with torch.no_grad():
        model.classifier.out_proj.bias.fill_(300)
    model.save_pretrained(folder)
    tokenizer_of(load_saved(topic), None).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("flags", "name"),
    [("avx2", None), ("avx512f avx512_bf16", "AVX512-BF16"), ("avx512_bf16 amx_tile amx_bf16", "AMX"), ("bf16x", None)],
)
def test_what_a_processor_does_fast_is_read_from_its_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, name: str | None
) -> None:
    processor(monkeypatch, tmp_path, flags)
    assert fast_bf16(torch.device("cpu")) == name
    monkeypatch.setattr(precision_probe, "_CPU_INFO", tmp_path / "not there")
    assert fast_bf16(torch.device("cpu")) is None


def test_labels_choices_and_answers_agree_by_row() -> None:
    labels = [{"label": "a", "score": 0.5}, {"label": "b", "score": 0.5}, {"label": "a", "score": 0.9}]
    assert agreement(TASKS["classify"], labels, [{**row, "score": 0.1} for row in labels]) == 1
    assert agreement(TASKS["classify"], labels, [labels[0], labels[0], labels[2]]) == pytest.approx(2 / 3)
    assert agreement(TASKS["choice"], [{"choice": 0}, {"choice": 1}], [{"choice": 0}, {"choice": 0}]) == 0.5
    said = {"answer": "Rome", "start": 3, "end": 7, "score": 1.0}
    assert agreement(TASKS["qa"], [said] * 4, [said, said, said, {**said, "start": 30, "end": 34}]) == 0.75
    assert agreement(TASKS["classify"], [], []) == 1


def test_tags_agree_by_word_and_by_span() -> None:
    def row(tags: str, *spans: tuple[str, int, int]) -> dict[str, Any]:
        named = [{"type": kind, "start": start, "end": end, "score": 1.0} for kind, start, end in spans]
        return {"tags": tags.split(), "spans": named}

    exact = [row("B-PER I-PER O O", ("PER", 0, 9)), row("O O O B-LOC", ("LOC", 6, 9)), row("O " * 92)]
    quick = [row("B-PER O O O", ("PER", 0, 4)), row("O O O B-LOC", ("LOC", 6, 9)), row("O " * 92)]
    assert agreement(TASKS["tag"], exact, exact) == 1
    assert agreement(TASKS["tag"], exact, quick) == 0.5  # 99 of 100 words, but one of two spans on both sides
    words = [{"tags": ["NOUN", "VERB"]}, {"tags": ["NOUN", "DET"]}]
    assert agreement(TASKS["tag"], words, [words[0], {"tags": ["NOUN", "NOUN"]}]) == 0.75


def test_scores_agree_by_the_variance_that_is_explained() -> None:
    draw = np.random.default_rng(0)
    exact = draw.normal(size=50)
    quick = exact + 0.1 * draw.normal(size=50)
    sides = [[{"score": float(score)} for score in side] for side in (exact, quick)]
    assert agreement(TASKS["regress"], *sides) == pytest.approx(r2_score(exact, quick))
    assert agreement(TASKS["regress"], [{"score": 1.0}] * 3, [{"score": 1.0}] * 3) == 1
    assert agreement(TASKS["regress"], [{"score": 1.0}] * 3, [{"score": 1.1}] * 3) == 0
    assert agreement(TASKS["regress"], sides[0], [{"score": float("nan")}] * 50) == 0


@pytest.mark.usefixtures("able")
def test_rows_that_agree_are_read_in_bf16(topic: Path) -> None:
    model = load_saved(topic)
    predictor = Predictor(model, precision="auto")
    few = predictor(TEXTS, SPOKEN)
    assert predictor.model.dtype == torch.float32
    assert "8 rows are too few" in str(predictor.chosen)
    assert few == Predictor(model)(TEXTS, SPOKEN)
    found = predictor(MANY, LANGUAGES)  # a later window may still be large enough
    assert (predictor.model.dtype, predictor.chosen.precision) == (torch.bfloat16, "bf16")
    assert found == Predictor(model, precision="bf16")(MANY, LANGUAGES)
    assert model.dtype == torch.float32  # the caller's own


@pytest.mark.usefixtures("able")
def test_rows_that_do_not_agree_stay_in_fp32(topic: Path, tmp_path: Path, source: Path, capsys: Any) -> None:
    tied = in_ties(topic, tmp_path / "tied")
    sides = ([row["label"] for row in Predictor(tied, precision=each)(MANY, LANGUAGES)] for each in ("fp32", "bf16"))
    assert sum(a != b for a, b in zip(*sides, strict=True)) > 5
    predict(tied, source, tmp_path / "auto.jsonl", precision="auto")
    predict(tied, source, tmp_path / "fp32.jsonl", precision="fp32")
    assert (tmp_path / "auto.jsonl").read_bytes() == (tmp_path / "fp32.jsonl").read_bytes()
    said = " ".join(capsys.readouterr().err.split())
    assert "Precision: fp32: in bf16 only" in said
    assert "99.5 % are needed" in said


def test_a_processor_without_bf16_keeps_fp32(
    topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    processor(monkeypatch, tmp_path, "avx2")
    for precision in ("keep", "bf16"):
        predictor = Predictor(load_saved(topic, precision), tokenizer_of(load_saved(topic), None), precision="auto")
        predictor(MANY, LANGUAGES)
        assert predictor.model.dtype == torch.float32
        assert "no instructions for bf16" in str(predictor.chosen)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("shards", [None, 220])
def test_a_resumed_run_keeps_the_precision_it_began_with(
    topic: Path, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, shards: int | None
) -> None:
    name, how = "out" if shards else "out.jsonl", {"precision": "auto", "window": 220, "shard_rows": shards}
    text = source.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    predict(topic, source, tmp_path / f"whole-{name}", **how)
    source.write_text("".join([*lines[:230], "{\n", *lines[230:]]), encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        predict(topic, source, tmp_path / name, **how)
    processor(monkeypatch, tmp_path, "avx2")  # goes on where another processor would have chosen fp32
    predict(topic, source, tmp_path / name, skip_bad_rows=True, **how)
    assert "Precision: bf16, as for the rows before" in " ".join(capsys.readouterr().err.split())
    for part in ("part-00000.jsonl", "part-00001.jsonl") if shards else ("",):
        assert (tmp_path / name / part).read_bytes() == (tmp_path / f"whole-{name}" / part).read_bytes()


@pytest.mark.usefixtures("able")
def test_evaluate_says_what_it_chose(topic: Path, tmp_path: Path, source: Path, capsys: Any) -> None:
    quick = evaluate(topic, source, precision="auto", output_dir=tmp_path / "auto", predictions=True)
    evaluate(topic, source, precision="bf16", output_dir=tmp_path / "bf16", predictions=True)
    first, second = ((tmp_path / name / "predictions.jsonl").read_text() for name in ("auto", "bf16"))
    assert first == second
    assert "precision bf16: 100.00 % of the predictions" in " ".join(capsys.readouterr().err.split())
    assert quick.about["models"][0]["precision"].startswith("bf16: 100.00 %")
    tied = evaluate(in_ties(topic, tmp_path / "tied"), source, precision="auto")
    assert tied.about["models"][0]["precision"].startswith("fp32: in bf16 only")
