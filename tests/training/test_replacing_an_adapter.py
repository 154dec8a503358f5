"""`extend --replace`: the old adapter is measured before it goes, and may be the start of the new one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import sentence
from tests.support import assert_same_state
from xmodular import diff, extend
from xmodular.errors import LanguageError
from xmodular.tasks import load_saved
from xmodular.training.aligning import Aligned, print_scores

SMALL = {"block_size": 32, "batch_size": 8, "max_steps": 2, "learning_rate": 1e-3}
TEXT = {**SMALL, "dev_fraction": 0.2}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """German as text, and as translations of Swahili."""
    draw, folder = random.Random(5), tmp_path_factory.mktemp("again")
    lines = [sentence("de_DE", draw) for _ in range(150)]
    (folder / "de.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pairs = "".join(f"{sentence('sw_KE', draw)}\t{line}\n" for line in lines)
    (folder / "pairs.tsv").write_text(f"sw\tde\n{pairs}", encoding="utf-8")
    return {"text": folder / "de.txt", "parallel": folder / "pairs.tsv"}


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("kind", ["text", "parallel"])
def test_the_old_adapter_is_compared(base_run: Any, files: dict[str, Path], tmp_path: Path, capsys: Any, kind: str):
    given = {kind: files[kind], "output_dir": tmp_path / "run", "replace": True, **(TEXT if kind == "text" else SMALL)}
    run = extend(base_run.output_dir, "German", init_from="de", **given)
    said = capsys.readouterr().err
    assert one_line(said).startswith(f"Replacing the adapter of de_DE in {base_run.output_dir}")
    assert "Adding" not in said
    assert "The new adapter of de_DE is initialised from de (de_DE: its old adapter)." in one_line(said)
    (row,) = [line for line in said.splitlines() if "│ de_DE (replaced) " in line]
    metrics = run.metrics
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    assert "de_DE" not in metrics["existing"]
    assert metrics["best_existing"] != "de_DE"
    # The start is a copy of it.
    assert metrics["replaced"] == pytest.approx(metrics["start"], rel=1e-4)
    assert f"{metrics['replaced']['loss']:.3f}" in row if kind == "text" else "%" in row
    card = (tmp_path / "run" / "pack" / "README.md").read_text(encoding="utf-8")
    main = "bits_per_character" if kind == "text" else "retrieval"
    assert f"| {main} | de_DE (replaced) | {metrics['replaced'][main]:.4g} |" in card
    assert "initialised from de (de_DE: its old adapter)." in card
    assert diff(base_run.output_dir, run.output_dir).changed == {"de_DE"}


@pytest.mark.parametrize("kind", ["text", "parallel"])
def test_an_old_adapter_reads_its_own_vocabulary(base_run: Any, files: dict[str, Path], tmp_path: Path, kind: str):
    text = {"text": files["text"], "replace": True, **TEXT}
    first = extend(base_run.output_dir, "de", output_dir=tmp_path / "own", new_vocabulary=80, **text)
    if kind == "text":
        again = extend(first.output_dir, "de", output_dir=tmp_path / "again", init_from="en", **text)
        # On the same held-out lines, of which it said this when it was made.
        assert again.metrics["replaced"] == pytest.approx(first.metrics["after"], rel=1e-4)
    else:
        small = {"parallel": files["parallel"], "replace": True, **SMALL}
        again = extend(first.output_dir, "de", output_dir=tmp_path / "again", **small)
        with torch.no_grad():  # and not shared pieces
            model = load_saved(first.output_dir)
            wrong = load_saved(base_run.output_dir)
        assert set(model.config.vocabularies) == {"de_DE"}
        assert 0 <= again.metrics["replaced"]["retrieval"] <= 1
        wrong = extend(wrong, "de", output_dir=tmp_path / "shared", **small)
        assert again.metrics["replaced"] != wrong.metrics["replaced"]
    assert not again.model.config.vocabularies


def test_a_found_start_may_be_the_old_adapter_and_that_is_said(
    base_run: Any, files: dict[str, Path], tmp_path: Path, capsys: Any
):
    """As when it is named: what reads the text best is the best start."""
    small = {"replace": True, **TEXT}
    found = extend(base_run.output_dir, "de", files["text"], init_from="auto", output_dir=tmp_path / "auto", **small)
    record = json.loads((tmp_path / "auto" / "donors.json").read_text(encoding="utf-8"))
    assert "de_DE" in [each["init_from"] for each in record["candidates"]]
    assert record["reader"] == "de_DE"
    said = found.metrics["initialisation"]
    assert said.startswith(f"initialised from {', '.join(record['init_from'].split(','))} (de_DE: its old adapter), ")
    assert f"The new adapter of de_DE is {said}" in one_line(capsys.readouterr().err)
    named = extend(
        *(base_run.output_dir, "de", files["text"]),
        init_from=record["init_from"],
        output_dir=tmp_path / "named",
        **small,
    )
    assert_same_state(named.model.state_dict(), found.model.state_dict())
    other = extend(base_run.output_dir, "de", files["text"], init_from="de=0,en=1", output_dir=tmp_path / "o", **small)
    assert other.metrics["initialisation"] == "initialised from de=0, en=1"


def test_a_language_that_the_model_lacks_has_no_adapter_to_replace(
    base_run: Any, files: dict[str, Path], tmp_path: Path
):
    with pytest.raises(LanguageError, match=r"no language 'gsw' here.* Without --replace, gsw is added\."):
        extend(base_run.output_dir, "gsw", files["text"], replace=True, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_that_is_worse_than_the_old_one_is_called_harmful(base_run: Any, capsys: Any):
    measured = Aligned((None,) * 400, None, None, 0, 0)  # type: ignore[arg-type]
    values = {"cosine": 0.5, "loss": 1.0}
    metrics = {
        "best_existing": "en_XX",
        "existing": {"en_XX": {**values, "retrieval": 0.5}},
        "replaced": {**values, "retrieval": 0.9},
        "start": {**values, "retrieval": 0.5},
        "after": {**values, "retrieval": 0.6},
    }
    print_scores("de_DE", metrics, measured, 1e-3)
    assert "fewer sentences find their translation than with that of de_DE (replaced)" in one_line(
        capsys.readouterr().err
    )
