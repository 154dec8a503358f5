"""Sentences of words and tags."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import DEVELOPMENT_DATA
from tests.rows.support import read, values
from xmodular.errors import DataError
from xmodular.rows import BadRows, conll, read_rows
from xmodular.tasks import TASKS
from xmodular.tasks.examples import load

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
    assert second == {"column1": ["1"], "column2": ["Yes"], "column3": ["O"], "column4": ["-"]}
    with pytest.raises(DataError, match=r"a.conll:2: the task tag needs 'words', .* has 'column1', 'column2'"):
        load(TASKS["tag"], path)
    named = load(TASKS["tag"], path, columns={"words": "column2", "tags": "column3"})
    assert [(example.texts[1:], example.gold) for example in named] == [
        (("Ada", "wrote"), ("B-PER", "O")),
        (("Yes",), ("O",)),
    ]
    path.write_text("1\tO\n2\tO\n")
    assert values(path) == [{"words": ["1", "2"], "tags": ["O", "O"]}]


WORDS = {
    "with an id": "# id 1a2b\tdomain=en\nAda _ _ B-PER\n# _ _ O\n\n# id 3c4d\tdomain=en\n# _ _ O\nwrote _ _ O\n",
    "tabs": "# id 1a2b\tdomain=en\nAda\tB-PER\n#\tO\n\n# id 3c4d\tdomain=en\n#\tO\nwrote\tO\n",
    "late": "Ada\tB-PER\n#\tO\n\n# id 3c4d\tdomain=en\n#\tO\nwrote\tO\n",
    "three columns": "# id 1a2b\nAda NN B-PER\n# SYM O\n\n# id 3c4d\n# SYM O\nwrote VB O\n",
    "key and value": "# sent_id = 1\nAda x y B-PER\n# x y O\n\n# sent_id = 2\n# text = #\n# x y O\nwrote x y O\n",
    "none": "Ada B-PER\n# O\n\n# O\nwrote O\n",
    "documents": "#begin document (a); part 000\nAda B-PER\n# O\n\n# O\nwrote O\n#end document\n",
    "word for word": "-DOCSTART- O\n\n#sent=1\nAda B-PER\n# O\n\n#sent=2\n# O\nwrote O\n",
    "document in tabs": "-DOCSTART- -X-\tO\n\nAda\tB-PER\n#\tO\n\n-DOCSTART-\n\n#\tO\nwrote\tO\n",
}


@pytest.mark.parametrize("name", WORDS)
def test_comments_are_no_words_and_the_word_hash_is_no_comment(tmp_path: Path, name: str):
    path = tmp_path / "a.conll"
    path.write_text(WORDS[name])
    assert [(row["words"], row["tags"]) for row in values(path)] == [
        (["Ada", "#"], ["B-PER", "O"]),
        (["#", "wrote"], ["O", "O"]),
    ]


@pytest.mark.parametrize(
    "content", ["# O\nAda B-PER\n\n# O\n", "#x O\nAda B-PER\n\n#x O\n", "#\tSYM\nAda\tX\n#\tSYM\n"]
)
def test_a_file_may_begin_with_the_word_hash(tmp_path: Path, content: str):
    path = tmp_path / "a.conll"
    path.write_text(content)
    there = [[line.split()[0] for line in part.splitlines()] for part in content.split("\n\n")]
    if "SYM" not in content:
        assert [row["words"] for row in values(path)] == there
    path.write_text(content + "\nx SYM" if "SYM" not in content else content + "$\tSYM\n")
    assert values(path)[0]["words"][0] == there[0][0]


def test_words_that_are_hashes_alone(tmp_path: Path):
    path = tmp_path / "a.conll"
    path.write_text("#\n# x\n#x\n\nin\n#\n")
    assert values(path) == [{"words": ["#", "#x"]}, {"words": ["in", "#"]}]
    path.write_text("# O\n\n# B-X\n")
    assert values(path) == [{"words": ["#"], "tags": ["O"]}, {"words": ["#"], "tags": ["B-X"]}]
    path.write_text("# nothing else\n\n#begin document (a)\n")
    assert values(path) == []


@pytest.mark.parametrize("start", ["0", "1", "through"])
@pytest.mark.parametrize("header", ["", "#\thttp://de.wikipedia.org/wiki/Ada [2009-10-17]\n", "# a = b\tc\td\n"])
def test_numbers_of_words_are_found_in_every_sentence(tmp_path: Path, start: str, header: str):
    sentences = [["Yes"], ["Ada", "wrote", "#"], ["No"], ["1"]]
    path = tmp_path / "a.conll"
    content, number = "", 1
    for sentence in sentences:
        number = number if start == "through" else int(start)
        content += header
        for word in sentence:
            content += f"{number}\t{word}\tO\n"
            number += 1
        content += "\n"
    path.write_text(content)
    assert [row["column2"] for row in values(path)] == sentences
    assert not any("words" in row for row in values(path))
    assert len(load(TASKS["tag"], path, columns={"words": "column2", "tags": "column3"})) == 4
    path.write_text(content + "x\tAda\tO\n")
    with pytest.raises(
        DataError, match="the first column numbers the words, as at the file's beginning; here it is 'x'"
    ):
        list(read_rows(path, BadRows()))


def test_words_written_as_one_and_empty_nodes_of_numbered_files(tmp_path: Path):
    path = tmp_path / "a.conll"
    path.write_text(CONLLU)
    first, second = values(path)
    assert (first["column2"], second["column2"]) == (["Vamos", "nos", "a mar"], ["Sí"])
    assert first["column4"] == ["VERB", "PRON", "NOUN"]


def test_numbers_may_be_words(tmp_path: Path):
    path = tmp_path / "a.conll"
    for content in ("1 CD O\n2 CD O\n\nin NN O\n", "1 CD O\n3 CD O\n", "7 CD O\n\n2 CD O\n", "1\tO\n2\tO\n\n7\tO\n"):
        path.write_text(content)
        assert values(path)[0]["words"][0] == content[0]
    path.write_text("1\tAda\n2\twrote\n\n1\tYes\n")  # numbers and words
    assert [row["column2"] for row in values(path)] == [["Ada", "wrote"], ["Yes"]]


def test_conll_2012_names_no_word(tmp_path: Path):
    words = ("0   In   IN   (TOP(S(PP*   -   -", "1   it   PRP   *))   -   (1)")
    rows = "".join(f"bc/cctv/00/cctv_0000   0   {word}\n" for word in words)
    path = tmp_path / "a.conll"
    path.write_text(f"#begin document (bc/cctv/00/cctv_0000); part 000\n{rows}\n{rows}\n#end document\n")
    assert [row["column4"] for row in values(path)] == [["In", "it"]] * 2
    with pytest.raises(DataError, match="needs 'words'"):
        load(TASKS["tag"], path)
    assert load(TASKS["tag"], path, columns={"words": "column4", "tags": "column5"})[0].gold == ("IN", "PRP")


@pytest.mark.parametrize("name", ["a.conll", "a.conllu"])
def test_carriage_returns_alone_are_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    word = "1\tAda\t_\tPROPN" + "\t_" * 6 if name == "a.conllu" else "Ada\tB-PER"
    path.write_bytes(f"# id = 1\r{word}\r\r# id = 2\r{word}\r".encode())
    with pytest.raises(DataError, match=r":1: it contains a single carriage return; lines must end in"):
        list(read_rows(path, BadRows()))
    path.write_bytes(f"# id = 1\r\n{word}\r\n\r\n# id = 2\r\n{word}\r\n".encode())
    assert [row["words"] for row in values(path)] == [["Ada"], ["Ada"]]


WORD = st.text(st.characters(codec="utf-8", categories=("L", "P", "S")), min_size=1, max_size=4)
TAGGED = st.lists(
    st.lists(st.tuples(WORD | st.just("#"), st.sampled_from(["O", "B-X"])), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)
EVERY = settings(derandomize=True, deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))


@EVERY
@given(
    sentences=TAGGED,
    separator=st.sampled_from([" ", "\t"]),
    between=st.sampled_from([[], ["x"], ["_", "_"]]),
    comment=st.sampled_from(["", "# id 1a2b\tdomain=en", "# id 1a2b", "# sent_id = 5", "# text = # O #"]),
)
def test_what_is_written_with_comments_is_read(
    tmp_path: Path, sentences: list[list[tuple[str, str]]], separator: str, between: list[str], comment: str
):
    path = tmp_path / "a.conll"
    parts = []
    for sentence in sentences:
        lines = [separator.join([word, *between, tag]) for word, tag in sentence]
        parts.append("\n".join([*([comment] if comment else []), *lines]))
    path.write_text("\n\n".join(parts), encoding="utf-8")
    assert [list(zip(row["words"], row["tags"], strict=True)) for row in values(path)] == sentences


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
        ("a.conll", "x\tO\ncaf\xe9\tO\nx", 4, "not UTF-8 .byte 0xe9 at position 4 of the line"),
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


def test_byte_order_marks_of_files_that_were_put_together(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("\ufeffAda B-PER\n\n\ufeffHier O\n\n\ufeff-DOCSTART- O\n\n\ufeff# a comment\nda O\n")
    assert [row.values["words"] for row in read_rows(path, BadRows())] == [["Ada"], ["Hier"], ["da"]]


@pytest.mark.parametrize("kind", ["conllu", "conll"])
def test_sentences_without_a_blank_line_between_them_are_not_joined(tmp_path: Path, kind: str):
    """Where the numbers of the words begin anew, a blank line is missing."""
    rest = "\t_" * (6 if kind == "conllu" else 1)
    line = "{}\t{}\t_\tNOUN" + rest if kind == "conllu" else "{}\t{}" + rest + "\tO"
    sentences = [[line.format(number, f"w{number}") for number in (1, 2, 3)] for _ in range(3)]
    path = tmp_path / f"a.{kind}"
    path.write_text("\n".join([*sentences[0], *sentences[1], "", *sentences[2], ""]), encoding="utf-8")
    rows, noted = read(path)
    assert len(rows) == 1
    assert [(place, reason) for place, reason in noted] == [
        (f"{path}:4", "word 1 follows word 3; sentences must be separated by a blank line")
    ]
