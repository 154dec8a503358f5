"""Tagging: files, first sub-tokens, span F1."""

import random

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from tests.conftest import DEVELOPMENT_DATA
from xmodular.errors import DataError
from xmodular.tasks import TAG
from xmodular.tasks.tag import UPOS

CONLLU = """# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\t_\tVERB\t_\t_\t_\t_\t_\t_
2\tnos\t_\tPRON\t_\t_\t_\t_\t_\t_
2.1\tx\t_\tX\t_\t_\t_\t_\t_\t_
3\ta mar\t_\tNOUN\t_\t_\t_\t_\t_\t_

1\tSí\t_\tINTJ\t_\t_\t_\t_\t_\t_"""


def test_two_columns_and_conllu(tmp_path):
    conll = tmp_path / "a.conll"
    conll.write_text("Ada\tB-PER\r\nLovelace\tI-PER\r\n\r\n\r\nin\tO\n")
    rows = TAG.load(conll)
    assert [(row.parts, row.labels) for row in rows] == [(("Ada", "Lovelace"), ("B-PER", "I-PER")), (("in",), ("O",))]
    assert rows[1].place.endswith("a.conll:5")
    conllu = tmp_path / "a.conllu"
    conllu.write_text(CONLLU)
    assert [(row.parts, row.labels) for row in TAG.load(conllu)] == [
        (("Vamos", "nos", "a mar"), ("VERB", "PRON", "NOUN")),
        (("Sí",), ("INTJ",)),
    ]


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("a.conll", "Ada B-PER", "a row is word, tab, tag; this one has 1: Ada B-PER"),
        ("a.conll", "Ada\t", "the tag is empty"),
        ("a.conllu", "1\tAda\tPROPN", "CoNLL-U has 10 columns; this row has 3"),
    ],
)
def test_a_wrong_row_names_file_line_and_reason(tmp_path, name, line, reason):
    path = tmp_path / name
    path.write_text(f"\n{line}\n")
    with pytest.raises(DataError, match=rf"{name}:2: {reason}"):
        TAG.load(path)


def test_label_inventories_are_complete(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Ada\tB-PER\nin\tO\nParis\tI-LOC\n")
    assert TAG.label_names(TAG.load(path)) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    path.write_text("Ada\tPROPN\n")
    assert TAG.label_names(TAG.load(path)) == list(UPOS)
    path.write_text("Ada\tNE\nin\tOTHER\n")
    assert TAG.label_names(TAG.load(path)) == ["NE", "OTHER"]


def test_labels_stand_at_first_tokens(tmp_path, tokenizer):
    path = tmp_path / "a.conll"
    words = ["the", "unheardofword", "house"]
    path.write_text("".join(f"{word}\tT{number}\n" for number, word in enumerate(words)))
    (encoding,) = TAG.encode(tokenizer, TAG.load(path), {"T0": 0, "T1": 1, "T2": 2}, 60)
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert list(encoding.input_ids) == [0, *pieces[0], *pieces[1], *pieces[2], 2]
    assert len(pieces[1]) > 2
    expected = [-100]
    for number, own in enumerate(pieces):
        expected += [number] + [-100] * (len(own) - 1)
    assert TAG.target(encoding) == [*expected, -100]
    logits = np.zeros((len(encoding.input_ids), 3))
    for position, label in zip(encoding.positions, (2, 0, 1), strict=True):
        logits[position, label] = 1
    assert TAG.decode(encoding, logits) == (2, 0, 1)


def test_words_that_are_cut_off_count_as_wrong(tmp_path, tokenizer):
    path = tmp_path / "a.conll"
    path.write_text("house\tB-X\n" * 30)
    (encoding,) = TAG.encode(tokenizer, TAG.load(path), {"O": 0, "B-X": 1, "I-X": 2}, 10)
    assert len(encoding.input_ids) == 10
    predicted = TAG.decode(encoding, np.tile([0.0, 1.0, 0.0], (10, 1)))
    seen = sum(label == 1 for label in predicted)
    assert 0 < seen < 30
    assert predicted[seen:] == (-1,) * (30 - seen)
    labels = ["O", "B-X", "I-X"]
    values = TAG.metrics(TAG.statistics([encoding.labels], [predicted], labels).sum(0), labels)
    assert values["recall"] == pytest.approx(seen / 30)
    assert values["accuracy"] == pytest.approx(seen / 30)


def test_span_scores_are_seqevals():
    labels = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    draw = random.Random(3)
    gold = [tuple(draw.choices(range(5), weights=[5, 1, 1, 1, 1], k=draw.randint(1, 12))) for _ in range(80)]
    predicted = [tuple(g if draw.random() < 0.7 else draw.randrange(5) for g in row) for row in gold]
    values = TAG.metrics(TAG.statistics(gold, predicted, labels).sum(0), labels)
    names = [[[labels[k] for k in row] for row in rows] for rows in (gold, predicted)]
    assert values["F1"] == pytest.approx(f1_score(*names))
    assert values["precision"] == pytest.approx(precision_score(*names))
    assert values["recall"] == pytest.approx(recall_score(*names))


@pytest.mark.skipif(not DEVELOPMENT_DATA.is_dir(), reason="development data (../shared/data) is not there")
def test_real_files_load():
    entities = TAG.load(DEVELOPMENT_DATA / "ner" / "ru_RU.test.conll")
    assert len(entities) == 500
    assert set(TAG.label_names(entities)) == {"O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"}
    parts = TAG.load(DEVELOPMENT_DATA / "pos" / "ar_AR.test.conllu")
    assert len(parts) == 250
    assert TAG.label_names(parts) == list(UPOS)
