"""Examples out of rows: columns, languages, gold, bad rows."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import DEVELOPMENT_DATA
from tests.support import tiny_config
from xmodular.errors import ConfigurationError, DataError
from xmodular.rows import BadRows, DataRow, read_rows
from xmodular.tasks import TASKS, Example
from xmodular.tasks.examples import columns_of_training, examples, load

CLASSIFY = TASKS["classify"]
GOOD = '{"text": "fine", "label": "x"}'


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_texts_gold_place_id_and_language(tmp_path: Path):
    path = write(
        tmp_path / "sw_KE.test.jsonl",
        '{"id": 7, "text": "a", "label": "x"}',
        "",
        '{"id": 7, "premise": "a", "hypothesis": "b", "label": 1, "language": " de "}',
        '{"id": "c", "sentence1": "a", "sentence2": "b", "label": "y", "language": ""}',
    )
    assert load(CLASSIFY, path) == [
        Example(("a",), "x", f"{path}:1", "7", "sw_KE"),
        Example(("a", "b"), "1", f"{path}:3", "7", "de"),
        Example(("a", "b"), "y", f"{path}:4", "c", "sw_KE"),
    ]
    assert [example.language for example in load(CLASSIFY, path, language="it")] == ["it", "de", "it"]
    other = write(tmp_path / "train.jsonl", GOOD)
    assert load(CLASSIFY, other)[0].language is None


def test_columns_may_have_other_names(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("review,stars,lang,key,text\nnice,5,de,k1,other\nbad,1,,k2,other\n")
    columns = {"text": "review", "label": "stars", "language": "lang", "id": "key"}
    assert [(each.texts, each.gold, each.language, each.id) for each in load(CLASSIFY, path, columns=columns)] == [
        (("nice",), "5", "de", "k1"),
        (("bad",), "1", None, "k2"),
    ]


@pytest.mark.parametrize(
    ("name", "row", "columns", "texts"),
    [
        ("classify", {"q": "a", "sentence": "b"}, {"premise": "q", "hypothesis": "sentence"}, ("a", "b")),
        ("regress", {"text": "no", "sentence1": "a", "b": "b"}, {"hypothesis": "b"}, ("a", "b")),
        ("classify", {"review": "a", "premise": "b", "hypothesis": "c"}, {"text": "review"}, ("a",)),
        ("tag", {"tokens": ["no"], "raw": "a b"}, {"text": "raw"}, ("a b", "a", "b")),
        (
            "choice",
            {"options": ["no", "no"], "context": "p", "a": "x", "b": "y"},
            {"choice1": "a", "choice2": "b"},
            ("p", "x", "p", "y"),
        ),
    ],
)
def test_columns_that_are_named_count_and_not_others(name: str, row: dict, columns: dict, texts: tuple):
    (example,) = examples(TASKS[name], [DataRow(row, "row 1")], BadRows(), columns=columns, gold=False)
    assert example.texts == texts


def test_a_text_and_a_pair_in_one_row_are_not_chosen_from():
    row = DataRow({"text": "a", "sentence1": "b", "sentence2": "c"}, "row 1")
    with pytest.raises(
        DataError, match="row 1: there are both a 'text' and a 'premise' with a 'hypothesis': choose with --columns"
    ):
        list(examples(CLASSIFY, [row], BadRows(), gold=False))


def test_a_mapped_column_that_is_not_there_is_an_error_at_the_first_row(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", '{"review": "a", "label": 1}', '{"text": "b", "label": 1}')
    with pytest.raises(DataError, match=r"a.jsonl:1: there is no column 'txt'; the columns are 'review', 'label'\.$"):
        load(CLASSIFY, path, columns={"text": "txt"}, skip_bad_rows=True)
    bad = BadRows(skip=True)
    found = list(examples(CLASSIFY, read_rows(path, bad), bad, columns={"text": "review"}))
    assert [example.texts for example in found] == [("a",)]
    assert "a.jsonl:2: there is no column 'review'; the columns are 'text', 'label'" in bad.summary()
    with pytest.raises(ConfigurationError, match=r"no field 'review'; .*its fields are text, .*label, id, language"):
        load(CLASSIFY, path, columns={"review": "text"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "a row must be a JSON object"),
        (
            '{"txt": "a", "label": "x"}',
            "needs 'text', .* has 'txt', 'label': name the columns with --columns text=<column>,label=.* --task",
        ),
        (  # BoolQ's rows, which are for this task
            '{"question": "a", "passage": "b", "label": "x"}',
            r"does not fit 'question.*finetune --task qa, .* with --columns text=<column>,label=<column>",
        ),
        ('{"text": null, "label": "x"}', r"'text' is empty \(the row has 'text' \(null\), 'label'\)"),
        ("{}", "but the row has none: name the columns with --columns"),
        ('{"text": " ", "label": "x"}', "'text' must be a non-empty text"),
        ('{"text": ["a"], "label": "x"}', "'text' must be a non-empty text"),
        ('{"text": 5, "label": "x"}', "'text' must be a non-empty text"),
        ('{"text": "\\ud800", "label": "x"}', "'text' has an unpaired surrogate"),
        ('{"premise": "a", "label": "x"}', "there is no 'hypothesis', or it is empty"),
        (
            '{"text": "a", "label": null}',
            r"'label' is empty, the field .* with --columns label=<column> .*\(the row has 'text', 'label' \(null\)\)",
        ),
        (
            '{"text": "a"}',
            r"there is no column 'label' or 'gold_label', the field for the gold.*\(the row has 'text'\)",
        ),
        ('{"text": "a", "label": 0.5}', "'label' must be a name or a whole number; it is 0.5"),
        ('{"text": "a", "label": NaN}', "'label' must be a name or a whole number; it is nan"),
        ('{"text": "a", "label": "x", "language": 5}', "'language' must be a code or a name; it is 5"),
        ('{"text": "a", "label": "x", "id": [1]}', r"'id' must be a text or a number; it is \[1\]"),
    ],
)
def test_a_wrong_row_names_file_line_and_reason(tmp_path: Path, line: str, reason: str, capsys):
    path = write(tmp_path / "rows.jsonl", GOOD, line, GOOD)
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{reason}") as error:
        load(CLASSIFY, path)
    assert str(error.value).isprintable()
    assert [example.place[-2:] for example in load(CLASSIFY, path, skip_bad_rows=True)] == [":1", ":3"]
    assert "1 bad row was skipped" in " ".join(capsys.readouterr().err.split())


def test_files_without_good_rows(tmp_path: Path):
    with pytest.raises(DataError, match=r"empty.jsonl has no rows\.$"):
        load(CLASSIFY, write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(DataError, match=r"has no good rows. 2 bad rows were skipped: .*:1: not JSON"):
        load(CLASSIFY, write(tmp_path / "bad.jsonl", "{", "}"), skip_bad_rows=True)
    with pytest.raises(DataError, match="There is no file"):
        load(CLASSIFY, tmp_path / "absent.jsonl")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_what_is_empty_is_absent(tmp_path: Path, suffix: str):
    tables = {
        "classify": ({"text": "", "premise": "a", "hypothesis": "b", "label": "x", "id": ""}, ("a", "b"), "x"),
        "regress": ({"text": "a", "premise": "", "hypothesis": "", "score": "", "label": "2"}, ("a",), 2.0),
        "tag": ({"text": "a", "words": '["b"]', "tags": "", "ner_tags": '["O"]'}, ("b", "b"), ("O",)),
        "choice": (
            {"premise": "a", "question": "", "choice1": "b", "choice2": "c", "choice3": "", "label": "B"},
            ("a", "b", "a", "c"),
            1,
        ),
        "qa": ({"question": "q", "context": "", "passage": "a b", "answers": "b"}, ("q", "a b"), (("b", 2),)),
    }
    for name, (row, texts, gold) in tables.items():
        path = tmp_path / f"a.{suffix}"
        if suffix == "jsonl":
            write(path, json.dumps(row))
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, delimiter="," if suffix == "csv" else "\t").writerows([list(row), list(row.values())])
        (example,) = load(TASKS[name], path)
        assert (example.texts, example.gold, example.id) == (texts, gold, None)
    write(tmp_path / "a.jsonl", '{"text": "", "label": "x"}')
    with pytest.raises(DataError, match=r"'text' is empty \(the row has 'text' \(empty\), 'label'\)"):
        load(CLASSIFY, tmp_path / "a.jsonl")


ROW_OF = {
    "classify": {"text": "a"},
    "regress": {"text": "a"},
    "tag": {"words": ["a", "b"]},
    "qa": {"question": "Who?", "context": "Ada wrote it."},
    "choice": {"premise": "a", "choice1": "b", "choice2": "c"},
    "embed": {"text": "a"},
}


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("gold", [None, "", "unheard of", float("nan"), [], {"a": 1}, -1])
def test_gold_is_not_looked_at_where_it_is_not_asked_for(name: str, gold: object):
    task = TASKS[name]
    columns = task.fields[list(task.fields)[-1]]
    for column in columns:
        rows = [DataRow({**ROW_OF[name], column: gold}, "row 0")]
        (example,) = examples(task, rows, BadRows(), gold=False)
        assert example.gold is None
        assert example.texts == next(examples(task, [DataRow(ROW_OF[name], "row 0")], BadRows(), gold=False)).texts
    bad = BadRows(skip=True)
    assert not list(examples(task, [DataRow(ROW_OF[name], "row 0")], bad))
    assert "the field for the gold" in bad.summary()


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=3),
    st.text(st.characters(exclude_categories=()), max_size=6),
    st.sampled_from(["", " ", "\u200f", "\x00", "😀", "\ud800", "x" * 10**6, "a", "de", "cause"]),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none()), max_size=3),
    st.dictionaries(st.sampled_from(["text", "answer_start", "a"]), st.lists(st.integers(), max_size=2), max_size=2),
)


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("gold", [True, False])
@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_row_is_an_example_or_bad(name: str, gold: bool, data: st.DataObject):
    task = TASKS[name]
    columns = [column for columns in task.fields.values() for column in columns] + ["id", "language"]
    kind = st.dictionaries(st.sampled_from(columns), ODD, max_size=5)
    sound = {**ROW_OF[name], "id": 7}
    values = data.draw(st.lists(kind | kind.map(lambda odd: {**sound, **odd}) | st.just(sound), max_size=8))
    told: list[str] = []
    bad = BadRows(skip=True, told=lambda place, reason: told.append(place))
    rows = [DataRow(each, f"row {number}") for number, each in enumerate(values)]
    found = list(examples(task, rows, bad, gold=gold))
    assert [row.place for row in rows] == sorted(
        [example.place for example in found] + told, key=lambda place: int(place.split()[1])
    )
    for example in found:
        "".join(example.texts).encode()  # as tokenizers read it
        assert example.language is None or example.language.strip()
    if not gold:  # duplicates lose nothing
        assert len(found) >= values.count(sound)


def test_the_column_of_gold_need_not_be_there_where_gold_is_not_asked_for():
    rows = [DataRow({"review": "a"}, "row 0")]
    (example,) = examples(CLASSIFY, rows, BadRows(), columns={"text": "review", "label": "stars"}, gold=False)
    assert (example.texts, example.gold) == (("a",), None)


def test_a_packed_file(tmp_path: Path):
    path = tmp_path / "de_DE.test.jsonl.gz"
    path.write_bytes(
        gzip.compress(b"".join(json.dumps({"text": f"t{n}", "label": n}).encode() + b"\n" for n in range(3)))
    )
    assert [(each.texts, each.gold, each.language) for each in load(CLASSIFY, path)] == [
        ((f"t{number}",), str(number), "de_DE") for number in range(3)
    ]


@pytest.mark.skipif(not DEVELOPMENT_DATA.is_dir(), reason="development data (../shared/data) is not there")
@pytest.mark.parametrize(
    ("task", "name", "count"),
    [
        ("classify", "sib200/mi.test.jsonl", 204),
        ("classify", "xnli_nc/th_TH.test.jsonl", 600),
        ("classify", "pawsx/de_DE.test.jsonl", 769),
        ("tag", "ner/ru_RU.test.conll", 500),
        ("tag", "pos/gsw.test.conllu", 100),
        ("qa", "xquad/ar_AR.test.json", 426),
        ("qa", "tydiqa/sw_KE.test.json", 555),
        ("choice", "xcopa/ht.test.jsonl", 250),
    ],
)
def test_real_files(task: str, name: str, count: int):
    found = load(TASKS[task], DEVELOPMENT_DATA / name, knows=lambda language: True)
    assert len(found) == count
    assert {example.language for example in found} == {Path(name).name.split(".")[0]}


def test_the_columns_of_training_are_looked_at_first_and_a_named_column_counts_alone():
    """What fine-tuning noted holds where the rows have it, and not where they have other names, or none was asked."""
    usual = {"text": "review", "label": "stars"}
    rows = [DataRow({"review": "a", "stars": "x", "premise": "p", "hypothesis": "h", "text": "b"}, "row 0")]
    (own,) = examples(CLASSIFY, rows, BadRows(), usual=usual)
    assert (own.texts, own.gold) == (("a",), "x")
    (named,) = examples(CLASSIFY, rows, BadRows(), columns={"text": "text"}, usual=usual, gold=False)
    assert named.texts == ("b",)
    (other,) = examples(CLASSIFY, [DataRow({"text": "b", "label": "y"}, "row 0")], BadRows(), usual=usual)
    assert (other.texts, other.gold) == (("b",), "y")


@pytest.mark.parametrize("noted", [None, [], "text=a", {"text": 3, "nothing": "a"}, {"text": ["a"]}])
def test_columns_in_a_configuration_that_are_none_are_not_taken(noted):
    config = tiny_config()
    config.task_columns = noted
    assert columns_of_training(config, CLASSIFY) == {}


def test_a_row_for_embed_without_its_columns_is_told_those_it_needs(tmp_path):
    path = write(tmp_path / "pairs.tsv", "Good morning.\tGuten Morgen.", "Good night.\tGute Nacht.")
    with pytest.raises(
        DataError, match=r"embed needs 'text', 'positive', but .* --columns text=<column>,positive=<column>,"
    ):
        load(TASKS["embed"], path)
    without_gold = examples(TASKS["embed"], read_rows(path, BadRows()), BadRows(), gold=False)
    with pytest.raises(DataError, match=r"embed needs 'text', but .* --columns text=<column>\.$"):
        next(without_gold)
