"""What decides the language of a row: its texts as the model reads them, each side with an equal share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.prediction.conftest import SENTENCES
from tests.test_identify import full_width
from xmodular import Predictor, predict

GERMAN, RUSSIAN = (" ".join(SENTENCES[code]) for code in ("de_DE", "ru_RU"))


def test_full_width_letters_are_read_by_the_adapter_of_their_language(topic: Path, tmp_path: Path) -> None:
    texts = [*SENTENCES["en_XX"], *(full_width(text) for text in SENTENCES["en_XX"])]
    found = Predictor(topic, identify=True, default_language="sw")(texts)
    assert [row["adapter"] for row in found] == ["en_XX"] * 4
    assert [row["score"] for row in found[2:]] == pytest.approx([row["score"] for row in found[:2]], abs=1e-6)
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    predict(topic, source, tmp_path / "out.jsonl", identify=True, default_language="sw")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["adapter"] for row in written] == ["en_XX"] * 4


def test_both_texts_of_a_pair_decide(topic: Path) -> None:
    predictor = Predictor(topic, identify=True, threshold=0.0)

    def read(*pair: str) -> tuple[str, float]:
        (row,) = predictor([pair])
        return row["adapter"], row["confidence"]

    numbers = "12345 " * 1000
    for text, code in ((GERMAN, "de_DE"), (RUSSIAN, "ru_RU")):
        assert read(numbers, text)[0] == read(text, numbers)[0] == code  # a long text does not shut out the other
    one, other = read(GERMAN * 40, RUSSIAN * 40), read(RUSSIAN * 40, GERMAN * 40)
    assert one[0] == other[0]
    assert one[1] == pytest.approx(other[1], abs=0.01)


def test_a_text_counts_once(folders: dict[str, Path]) -> None:
    """A sentence is no surer for being given as words, nor a context for having several choices."""
    words = SENTENCES["de_DE"][0].split()
    tagger = Predictor(folders["XmodForTokenClassification"], identify=True)
    as_words, as_text = tagger([{"words": words}, {"text": SENTENCES["de_DE"][0]}])
    chooser = Predictor(folders["XmodForMultipleChoice"], identify=True)
    (row,) = chooser([{"premise": SENTENCES["de_DE"][0], "choices": [words[0], words[1]]}])
    assert as_words["confidence"] == as_text["confidence"] == row["confidence"]
