"""What predict writes, all verbs read: the same texts, gold and other columns, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.prediction.conftest import SENTENCES
from xmodular import evaluate
from xmodular.prediction import predict
from xmodular.rows import BadRows, DataRow, read_rows
from xmodular.rows import writers as lines
from xmodular.tasks import TASKS, Task
from xmodular.tasks.examples import examples

EVERY = settings(
    derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ("a.jsonl", "a.jsonl.gz", "a.csv", "a.CSV", "a.csv.GZ", "a.tsv", "a.TSV.gz", "a.parquet", "a.PARQUET")
ODD = [
    *("007", "1e5", "NaN", "nan", "null", "None", "true", "1.0", "=1+1", "-3", "+x", "@a", "#", "-DOCSTART-", "sep=;"),
    *("\ufeffx", " x ", "\t", "a\tb\nc", "a\nb\tc\td", "\n", "\r", "a\rb", "a\r\n", '"', '""', '"a\tb"', "'", ",", ";"),
    *("[1]", '["a"]', " [", "{", '{"a": 1}', "\x00", "\u2028", "\x85", "\u200f", "a\\", "\\N", "<s>", "ä"),
]
TEXT = st.sampled_from(ODD) | st.text(max_size=5) | st.lists(st.sampled_from(ODD), max_size=4).map("".join)
FULL = TEXT.filter(str.strip)
NUMBER = st.integers(-(10**6), 10**6)
LABEL = FULL | NUMBER | st.booleans() | NUMBER.map(float)
CELL = TEXT | st.none()


def maybe(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Rows in which these columns are there, null or missing."""
    return st.fixed_dictionaries({}, optional={name: values | st.none() for name, values in columns.items()})


def rows_of(*kinds: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Rows that have all of these columns, in any order."""
    merged = st.tuples(*kinds).map(lambda parts: {name: value for part in parts for name, value in part.items()})
    return merged.flatmap(lambda row: st.permutations(list(row)).map(lambda names: {name: row[name] for name in names}))


OTHERS = maybe(
    id=FULL | NUMBER | NUMBER.map(float),
    language=st.sampled_from(["de", " sw ", ""]),
    **dict.fromkeys(("note", "\ufeffa", "a\tb", "c\nd", 'x"y', "", "007"), CELL),
)
TEXTS = st.fixed_dictionaries({"text": FULL}) | st.fixed_dictionaries({"premise": FULL, "hypothesis": FULL})
ANSWERS = st.sampled_from(
    [
        "a b",
        ["a b"],
        ["a"],
        {"text": ["b"], "answer_start": [2]},
        [{"text": "a", "answer_start": 0}],
        {"text": "a"},
        "",
        [],
    ]
)
SCORE = NUMBER | st.floats(-1e9, 1e9) | st.sampled_from(["1e5", " 3", "007"])
CHOSEN = maybe(
    label=st.sampled_from([0, 1, 1.0, "1", " 0", "A", " B ", "C"]), question=st.sampled_from(["cause", "W?", ""])
)
ASKED = st.tuples(FULL, TEXT).map(lambda pair: {"question": pair[0], "context": f"a b {pair[1]}"})
TABLES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "classify": rows_of(TEXTS, maybe(label=LABEL), OTHERS),
    "regress": rows_of(TEXTS, maybe(score=SCORE), OTHERS),
    "tag": rows_of(
        st.lists(st.tuples(FULL, st.sampled_from(["O", "B-X", 3, " O "])), min_size=1, max_size=4).flatmap(
            lambda pairs: st.sampled_from(
                [
                    {"words": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]},
                    {"words": [word for word, _ in pairs]},
                    {"text": " ".join(word for word, _ in pairs), "words": None},
                ]
            )
        ),
        OTHERS,
    ),
    "qa": rows_of(ASKED, maybe(answers=ANSWERS), OTHERS),
    "choice": rows_of(
        st.lists(FULL, min_size=2, max_size=3).flatmap(
            lambda texts: st.sampled_from(
                [
                    {"choices": texts},
                    {"choices": {"text": texts, "label": list("ABC")[: len(texts)]}},
                    {f"choice{place}": text for place, text in enumerate(texts, start=1)},
                    {**{f"choice{place}": text for place, text in enumerate(texts, start=1)}, "choice4": ""},
                ]
            )
        ),
        st.fixed_dictionaries({"premise": FULL}),
        CHOSEN,
        OTHERS,
    ),
    "embed": rows_of(
        st.fixed_dictionaries({"text": FULL}),
        maybe(positive=FULL, negative=FULL | st.lists(FULL, max_size=2), positive_language=st.sampled_from(["de", ""])),
        OTHERS,
    ),
}  # fmt: skip


def read(task: Task, rows: list[DataRow], gold: bool) -> list[Any]:
    """What a task reads of each row, None of one that is wrong."""
    found = []
    for row in rows:
        given = list(examples(task, [row], BadRows(skip=True), gold=gold))
        found.append([(each.texts, each.gold, each.id, each.language) for each in given])
    return found


def check(folder: Path, task: Task, rows: list[DataRow]) -> None:
    """Write rows with predictions in every format, and hold what is read against them."""
    added = {"predicted": ["x"], "p": 0.5, "adapter": "de_DE"}
    parts = []
    for number, part in enumerate((rows[:1], rows[1:])):
        parts.append(folder / f"part-{number}.jsonl")
        parts[-1].write_bytes(b"".join(lines.with_more(lines.line_of(row.values), added) for row in part))
    for file in NAMES:
        lines.write_as(parts, folder / file, file, {**added, "text": ""})
        back = list(read_rows(folder / file, BadRows()))
        assert len(back) == len(rows)
        for gold in (False, True):
            assert read(task, back, gold) == read(task, rows, gold), file
        for one, other in zip(rows, back, strict=True):
            for column, value in one.values.items():
                if isinstance(value, str):
                    assert (other.values[column] or "") == value, file
                elif value is None:
                    assert other.values.get(column) is None, file


@EVERY
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_format_gives_back_what_was_written(tmp_path: Path, name: str, data: st.DataObject) -> None:
    task = TASKS[name]
    drawn = [DataRow(values, "row") for values in data.draw(st.lists(TABLES[name], max_size=4))]
    # Only rows that can be read are written.
    check(tmp_path, task, [row for row, found in zip(drawn, read(task, drawn, gold=False), strict=True) if found])


@pytest.mark.parametrize("tabs", range(8))
def test_lines_of_a_text_that_look_like_rows(tmp_path: Path, tabs: int) -> None:
    between = "\t" * tabs
    texts = [f"a{between}\nb", f"a\n{between}b", f"{between}a\n{between}b\n{between}", f'"a{between}\nb"{between}"']
    check(tmp_path, TASKS["classify"], [DataRow({"text": text, "label": "x"}, "row") for text in texts])
    check(
        tmp_path,
        TASKS["classify"],
        [DataRow({"label": "x", "premise": text, "hypothesis": "b"}, "row") for text in texts],
    )


@pytest.mark.parametrize("context", ['a ["a"] b', 'a  ["a"] b', '["a"]\n   ["a"] a', '{"text": "a"} a', "a []"])
def test_lists_that_stand_in_a_text(tmp_path: Path, context: str) -> None:
    answers: tuple[Any, ...] = (["a"], {"text": "a"}, "a", [])
    rows = [DataRow({"question": "?", "context": context, "answers": each}, "row") for each in answers]
    check(tmp_path, TASKS["qa"], rows)


GOLD: dict[str, Any] = {
    "XmodForSequenceClassification": {"label": ["calm", "sad"]},
    "regress": {"label": [0.5, 2]},
    "XmodForTokenClassification": {"ner_tags": [["O"] * 4, ["B-PER", "O", "O", "O"]]},
    "XmodForQuestionAnswering": {"answers": ["Daktari", {"text": ["soko"], "answer_start": [18]}]},
    "XmodForMultipleChoice": {"answer": [" A", 1]},
}


@pytest.mark.parametrize("head", sorted(GOLD))
def test_output_is_evaluated_as_the_input_is(folders: dict[str, Path], tmp_path: Path, head: str) -> None:
    read_as: dict[str, Any] = {
        "XmodForTokenClassification": lambda text: {"words": text.split()[:4]},
        "XmodForQuestionAnswering": lambda text: {"question": "Nani?\n\t", "context": text},
        "XmodForMultipleChoice": lambda text: {"premise": text, "choice1": "a\tb", "choice2": "\nc", "choice3": None},
    }
    (gold,) = GOLD[head].items()
    rows = [
        {**read_as.get(head, lambda text: {"text": text, "premise": ""})(text), gold[0]: right, "language": "sw"}
        for text, right in zip(SENTENCES["sw_KE"], gold[1], strict=True)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    expected = evaluate(folders[head], source).rows
    for name in ("a.jsonl.GZ", "a.csv", "a.TSV.gz", "a.parquet"):
        for again in (source, tmp_path / name):  # predict reads its own output too
            predict(folders[head], again, tmp_path / f"twice-{name}", overwrite=True)
            (tmp_path / f"twice-{name}").replace(tmp_path / name)
            assert evaluate(folders[head], tmp_path / name).rows == expected, (name, again)
