"""Every example runs offline, on a corpus and a model that are made small for it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {"steps": 4, "lines": 60, "rows": 48, "vocab-size": 400, "hidden-size": 32}
# What each prints when it has done its work.
SAID = {
    "answer_questions": r"(?s)F1: [\d.]+% over German and Swahili\n.*\? '.*', at \d+ \(\d\.\d\d\)\n",
    "choose": r"Mean accuracy in the other languages: [\d.]+%; half is chance",
    "classify_zero_shot": r"Mean accuracy in the other languages: [\d.]+% with their own adapters, [\d.]+% with",
    "language_packs": r"Added: sw_KE\. All else identical: True\n(?:\w+  \d\.\d+\n){3}",
    "fill_mask": r"(?s)en  0\.\d\d  The.* won the match\.\n.*\nde  0\.\d\d  Die.*\nfr  0\.\d\d  L'équipe ",
    "mixed_languages": r"\d+ hidden tokens in 64 rows.*\n  all English +\d\.\d+\n  all German +\d\.\d+\n  each token's",
    "predict": r"(?s)Languages given: [\d.]+% right, 100\.0% of \d+ rows.*identified: [\d.]+%.*is read by de_DE\n",
    "pairs": r"languages: [\d.]+%; a third is chance\.\n.*  (entailment|neutral|contradiction) \(\d\.\d\d\)\n",
    "predict_ray": r"(?m)^(\d+) rows of \1, 100\.0% with the label",
    "predict_spark": r"(?m)^(\d+) rows of \1, 100\.0% with the label",
    "prepare": r"^$",
    "regress": r"Pearson: -?[\d.]+ over the other languages\n",
    "tag": r"F1: [\d.]+%(?s:.*)accuracy: [\d.]+% over the other languages",
}
# They start clusters, of packages that only extras bring.
CLUSTERS = {"predict_ray": "ray", "predict_spark": "pyspark"}
QUIET = pytest.mark.filterwarnings("ignore")  # their own code uses what they call deprecated


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples") / "demo"


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow, QUIET]) if name in CLUSTERS else name
        for name in sorted(SAID, key=lambda name: name != "prepare")
    ],
)
def test_example(
    name: str, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in CLUSTERS:
        pytest.importorskip(CLUSTERS[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    small = [text for option, value in SMALL.items() for text in (f"--{option}", str(value))]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--start", str(start), "--output-dir", "out", *small])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    said = re.sub(r"(?m)^Writing a corpus in .*\n", "", printed)
    assert re.search(SAID[name], said), printed
    assert (start / "base" / "model.safetensors").is_file()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
