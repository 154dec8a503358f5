"""Classification: files, encoding, scores."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from xmodular.errors import DataError
from xmodular.tasks import CLASSIFY


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_one_text_and_pairs(tmp_path, tokenizer):
    single = CLASSIFY.load(
        write(tmp_path / "a.jsonl", '{"text": "the house", "label": "x"}', "", '{"text": "b", "label": 1}')
    )
    assert [(example.parts, example.labels) for example in single] == [(("the house",), ("x",)), (("b",), ("1",))]
    assert single[1].place.endswith("a.jsonl:3")
    pairs = CLASSIFY.load(write(tmp_path / "b.jsonl", '{"premise": "the house", "hypothesis": "river", "label": "x"}'))
    (encoding,) = CLASSIFY.encode(tokenizer, pairs, {"x": 4}, 40)
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the house", "river")]
    assert list(encoding.input_ids) == [0, *words[0], 2, 2, *words[1], 2]
    assert CLASSIFY.target(encoding) == 4


def test_long_rows_are_cut_but_stay_closed(tmp_path, tokenizer):
    rows = CLASSIFY.load(
        write(tmp_path / "a.jsonl", '{"premise": "' + "the house " * 50 + '", "hypothesis": "river", "label": "x"}')
    )
    (encoding,) = CLASSIFY.encode(tokenizer, rows, {"x": 0}, 12)
    assert len(encoding.input_ids) == 12
    assert (encoding.input_ids[0], encoding.input_ids[-1]) == (0, 2)
    assert encoding.input_ids.count(2) == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "a row is a JSON object"),
        (
            '{"txt": "a", "label": "x"}',
            r"no text; a row has 'text', or 'premise' and 'hypothesis'. It has \['txt', 'label'\]",
        ),
        ('{"text": " ", "label": "x"}', "'text' must be a text that is not empty"),
        ('{"premise": "a", "label": "x"}', "'hypothesis' must be a text that is not empty; it is None"),
        ('{"text": "a", "label": null}', "'label' must be a name or a whole number; it is None"),
        ('{"text": "a", "label": 0.5}', "'label' must be a name or a whole number; it is 0.5"),
        ('{"premise": "a", "hypothesis": "b", "label": "x"}', "one text here and two elsewhere|all rows must be alike"),
    ],
)
def test_a_wrong_row_names_file_line_and_reason(tmp_path, line, reason):
    path = write(tmp_path / "rows.jsonl", '{"text": "fine", "label": "x"}', line)
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{reason}"):
        CLASSIFY.load(path)


def test_wrong_files_and_labels(tmp_path, tokenizer):
    with pytest.raises(DataError, match="There is no file"):
        CLASSIFY.load(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="has no rows"):
        CLASSIFY.load(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "caf\xe9", "label": "x"}')
    with pytest.raises(DataError, match=r"latin.jsonl is not UTF-8"):
        CLASSIFY.load(tmp_path / "latin.jsonl")
    rows = CLASSIFY.load(write(tmp_path / "a.jsonl", '{"text": "a", "label": "sprot"}'))
    with pytest.raises(DataError, match=r"a.jsonl:1: the label 'sprot' is not one of the model's: health, sport"):
        CLASSIFY.encode(tokenizer, rows, {"health": 0, "sport": 1}, 40)


def test_scores_are_sklearns():
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, 200)
    predicted = np.where(random.random(200) < 0.6, gold, random.integers(0, 4, 200))
    labels = ["a", "b", "c", "d", "never"]
    statistics = CLASSIFY.statistics([(g,) for g in gold], [(p,) for p in predicted], labels)
    values = CLASSIFY.metrics(statistics.sum(0), labels)
    assert values["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    assert values["macro-F1"] == pytest.approx(f1_score(gold, predicted, average="macro"))
