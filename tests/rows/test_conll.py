"""Sentences of words and tags."""

from pathlib import Path

import pytest

from tests.conftest import DEVELOPMENT_DATA
from tests.rows.support import read, values
from xmodular.errors import DataError
from xmodular.rows import BadRows, conll, read_rows
from xmodular.tasks import TASKS
from xmodular.tasks.loading import load

CONLLU = """# newdoc
# sent_id = es-1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\t_\tVERB\t_\t_\t_\t_\t_\t_
2\tnos\t_\tPRON\t_\t_\t_\t_\t_\t_
2.1\tx\t_\tX\t_\t_\t_\t_\t_\t_
3\ta mar\t_\tNOUN\t_\t_\t_\t_\t_\t_

1\tSí\t_\tINTJ\t_\t_\t_\t_\t_\t_"""


def test_word_and_tag(tmp_path: Path):
    path = tmp_path / "sv_SE.test.conll"
    path.write_text(
        "\ufeff\nAda\tB-PER\r\nNew York\tI-PER\r\n\r\n \r\nin\tO\n#tag\tO\n# id = 2\n\xa0x\u2028y\tO", newline=""
    )
    rows, noted = read(path)
    assert not noted
    assert [(row.values, row.place, row.language) for row in rows] == [
        ({"words": ["Ada", "New York"], "tags": ["B-PER", "I-PER"]}, f"{path}:2", "sv_SE"),
        ({"words": ["in", "#tag", "\xa0x\u2028y"], "tags": ["O", "O", "O"]}, f"{path}:6", "sv_SE"),
    ]


def test_more_columns_and_spaces(tmp_path: Path):
    path = tmp_path / "a.conll"
    path.write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nsaid  VBD B-VP O\n# NN B-NP O\n\n-DOCSTART- O\n\nx X X O\n"
    )
    assert values(path) == [
        {
            "words": ["EU", "said", "#"],
            "tags": ["B-ORG", "O", "O"],
            "column2": ["NNP", "VBD", "NN"],
            "column3": ["B-NP", "B-VP", "B-NP"],
        },
        {"words": ["x"], "tags": ["O"], "column2": ["X"], "column3": ["X"]},
    ]


def test_numbers_of_words_are_not_taken_for_words(tmp_path: Path):
    path = tmp_path / "a.conll"
    path.write_text("# id = 1\n1\tAda\tB-PER\t-\n2\twrote\tO\t-\n\n1\tYes\tO\t-\n")
    first, second = values(path)
    assert first == {
        "column1": ["1", "2"],
        "column2": ["Ada", "wrote"],
        "column3": ["B-PER", "O"],
        "column4": ["-", "-"],
    }
    assert second == {"words": ["1"], "tags": ["-"], "column2": ["Yes"], "column3": ["O"]}
    with pytest.raises(DataError, match=r"a.conll:2: no words; .*the row has 'column1', 'column2'"):
        load(TASKS["tag"], path)
    named = load(TASKS["tag"], path, columns={"words": "column2", "tags": "column3"})
    assert [(example.texts[1:], example.gold) for example in named] == [
        (("Ada", "wrote"), ("B-PER", "O")),
        (("Yes",), ("O",)),
    ]
    path.write_text("1\tO\n2\tO\n")
    assert values(path) == [{"words": ["1", "2"], "tags": ["O", "O"]}]


def test_words_alone_have_no_tags(tmp_path: Path):
    path = tmp_path / "a.conll"
    path.write_text("Ada\nLovelace\n\nin\n")
    assert values(path) == [{"words": ["Ada", "Lovelace"]}, {"words": ["in"]}]


def test_conllu_has_parts_of_speech(tmp_path: Path):
    path = tmp_path / "a.conllu"
    path.write_text(CONLLU)
    assert values(path) == [
        {"id": "es-1", "words": ["Vamos", "nos", "a mar"], "tags": ["VERB", "PRON", "NOUN"]},
        {"words": ["Sí"], "tags": ["INTJ"]},
    ]
    path.write_text(CONLLU.replace("VERB", "_").replace("PRON", "_").replace("NOUN", "_").replace("X", "_"))
    assert values(path) == [
        {"id": "es-1", "words": ["Vamos", "nos", "a mar"]},
        {"words": ["Sí"], "tags": ["INTJ"]},
    ]


@pytest.mark.parametrize(
    ("name", "wrong", "line", "reason"),
    [
        (
            "a.conll",
            "x\tO\nAda B-PER\n",
            4,
            "a line is word and tag, separated by tabs, as .*this one has 1 column: Ada B-PER",
        ),
        ("a.conll", "x\tX\tO\n", 3, "this one has 3 columns"),
        ("a.conll", "Ada\t\n", 3, "the tag is empty"),
        ("a.conll", "\tO\n", 3, "the word is empty"),
        ("a.conll", "\t\n", 3, "the word is empty"),
        ("a.conll", "x\tO\ncaf\xe9\tO\nx", 4, "not UTF-8 .byte 0xe9 is the line's number 4"),
        ("a.conllu", "1\tAda\tPROPN\n", 3, "CoNLL-U has 10 columns, separated by tabs; this line has 3"),
        ("a.conllu", "1-2\tAda" + "\t_" * 8, 3, "the sentence has no words"),
        ("a.conllu", "1\t \t_\tX" + "\t_" * 6, 3, "the word is empty"),
        ("a.conllu", "1\ta\t_\tX" + "\t_" * 6 + "\n2\ta\t_\t_" + "\t_" * 6, 3, "1 of 2 words have no tag"),
    ],
)
def test_a_wrong_line_spoils_its_sentence_alone(tmp_path: Path, name: str, wrong: str, line: int, reason: str):
    good = "word\tO\n" if name == "a.conll" else "1\tword\t_\tX" + "\t_" * 6 + "\n"
    path = tmp_path / name
    path.write_bytes(f"{good}\n{wrong}\n\n{good}".encode("latin-1"))
    rows, noted = read(path)
    assert [row.values["words"] for row in rows] == [["word"], ["word"]]
    assert len(noted) == 1
    assert noted[0][0] == f"{path}:{line}"
    with pytest.raises(DataError, match=f"{name}:{line}: .*{reason}"):
        list(read_rows(path, BadRows()))


def test_a_file_without_blank_lines_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conll, "_MOST_WORDS", 100)
    path = tmp_path / "a.conll"
    path.write_text("x\tO\n" * 100 + "\n" + "x\tO\n" * 101 + "\nx\tO\n")
    rows, noted = read(path)
    assert [len(row.values["words"]) for row in rows] == [100, 1]
    assert noted == [(f"{path}:202", "a sentence of more than 100 words; blank lines separate sentences")]


@pytest.mark.skipif(not DEVELOPMENT_DATA.is_dir(), reason="development data (../shared/data) is not there")
def test_real_files():
    entities = values(DEVELOPMENT_DATA / "ner" / "ru_RU.test.conll")
    assert len(entities) == 500
    assert {tag for row in entities for tag in row["tags"]} == {
        "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"
    }  # fmt: skip
    assert len(values(DEVELOPMENT_DATA / "pos" / "ar_AR.test.conllu")) == 250
