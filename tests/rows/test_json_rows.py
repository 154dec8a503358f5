"""JSON Lines, lists of objects, SQuAD's layout."""

import json
import re
from pathlib import Path

import pytest

from tests.rows.support import read, values
from xmodular.errors import DataError
from xmodular.rows import BadRows, lines, read_rows


def test_lines_keep_their_values_and_places(tmp_path: Path):
    path = tmp_path / "sw_KE.test.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": 7, "text": "a\\u0000 \\ud83d\\ude00", "label": true}\r\n\n \t\n{"nested": [1.5, null]}'
    )
    rows, noted = read(path)
    assert not noted
    assert [(row.values, row.place, row.language) for row in rows] == [
        ({"id": 7, "text": "a\x00 😀", "label": True}, f"{path}:1", "sw_KE"),
        ({"nested": [1.5, None]}, f"{path}:4", "sw_KE"),
    ]


LONG = '{"text": "' + "x" * 10**6 + '"}'


def test_each_wrong_line_is_reported_and_spoils_no_other(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    good = b'{"text": "good"}'
    wrong = {
        b"{broken": r"not JSON \(Expecting property name .* at column 2\)",
        b'["text"]': "a row must be a JSON object; this one is a list",
        b"3": "this one is a number",
        b"null": "this one is null",
        b'{"text": "caf\xe9"}': r"not UTF-8 \(byte 0xe9 at position 14 of the line\)",
        b'{"ok": 1, "text": "half \\uD800"}': "'text' has an unpaired surrogate, which is not a character",
        b'{"a": [{"b": "\\udc00"}]}': "'a' has an unpaired surrogate",
        b"[" * 100_000: "JSON nested too deeply to be read",
        b'{"a": ' * 100_000: "JSON nested too deeply to be read",
        b'{"n": ' + b"9" * 5000 + b"}": r"not JSON \(Exceeds the limit",
        b'{"text": "a", "text": "b"}': "a name occurs twice in the object",
        b'{"text": "cut of': "not JSON",
    }
    path.write_bytes(b"\n".join(line for each in wrong for line in (good, each)))
    rows, noted = read(path)
    assert [row.place for row in rows] == [f"{path}:{2 * number + 1}" for number in range(len(wrong))]
    for number, ((place, reason), pattern) in enumerate(zip(noted, wrong.values(), strict=True)):
        assert place == f"{path}:{2 * number + 2}"
        assert re.search(pattern, reason)


def test_a_wrong_line_stops_where_bad_rows_are_not_skipped(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": 2\n')
    rows = read_rows(path, BadRows())
    assert next(rows).values == {"a": 1}
    with pytest.raises(DataError, match=r"a.jsonl:2: not JSON \(.* at column 9\)\.$"):
        next(rows)


def test_long_lines_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{LONG}\n{{"text": "short"}}\n{LONG}')
    assert [len(each["text"]) for each in values(path)] == [10**6, 5, 10**6]
    monkeypatch.setattr(lines, "LONGEST_LINE", 1000)
    rows, noted = read(path)
    assert [row.place for row in rows] == [f"{path}:2"]
    assert [place for place, _ in noted] == [f"{path}:1", f"{path}:3"]
    assert "the line is longer than" in noted[0][1]


@pytest.mark.parametrize("wrap", ["%s", '{"version": 1, "data": %s}'])
def test_a_list_of_objects(tmp_path: Path, wrap: str):
    path = tmp_path / "a.json"
    path.write_text("\ufeff" + wrap % '[{"text": "a"},\n {"text": "\\ud800"}, 5, {"text": "b"}, {"a": 1, "a": 2}]')
    rows, noted = read(path)
    assert [(row.values, row.place) for row in rows] == [
        ({"text": "a"}, f"{path} row 1"),
        ({"text": "b"}, f"{path} row 4"),
    ]
    assert [place for place, _ in noted] == [f"{path} row {number}" for number in (2, 3, 5)]


def test_one_row_per_question_of_squad(tmp_path: Path):
    answers = [{"text": "Ada", "answer_start": 0}]
    questions = [
        {"id": "1", "question": "Who?", "answers": answers},
        "none",
        {"id": "1", "question": "Who again?", "answers": [], "is_impossible": True},
    ]
    content = {
        "version": "1.1",
        "data": [
            {"title": "Ada", "paragraphs": [{"context": "Ada wrote.", "qas": questions}, {"context": "x"}, 5]},
            {"paragraphs": {}},
            {"paragraphs": [{"context": "y", "qas": [{"id": 2, "question": "?", "answers": answers}]}]},
        ],
    }
    path = tmp_path / "de_DE.test.json"
    path.write_text(json.dumps(content))
    rows, noted = read(path)
    assert [(row.values, row.place) for row in rows] == [
        ({"title": "Ada", "context": "Ada wrote.", **questions[0]}, f"{path} data[0].paragraphs[0].qas[0]"),
        ({"title": "Ada", "context": "Ada wrote.", **questions[2]}, f"{path} data[0].paragraphs[0].qas[2]"),
        ({"context": "y", "id": 2, "question": "?", "answers": answers}, f"{path} data[2].paragraphs[0].qas[0]"),
    ]
    assert [place.removeprefix(f"{path} data") for place, _ in noted] == [
        "[0].paragraphs[0].qas[1]",
        "[0].paragraphs[1]",
        "[0].paragraphs[2]",
        "[1]",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"a": 1},\n{"a": 2]', r"a.json:2: not JSON \(.* at column 8\)"),
        (b'{"a": 1}\n{"a": 2}', "a.json:2: not JSON .* A file with one object per line is JSON Lines: name it .jsonl"),
        (b'[{"a": 1},\n{"a": "\xff"}]', r"a.json:2: not UTF-8 \(byte 0xff\)"),
        (b"[" * 100_000, "a.json: JSON nested too deeply"),
        (b'{"rows": [], "x": 1}', "a.json must be a list of objects, .* SQuAD's .*; it is an object with rows, x"),
        (b'"text"', "it is a text"),
        (b"", "a.json:1: not JSON"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        list(read_rows(path, BadRows(skip=True)))


@pytest.mark.parametrize(
    "content",
    [
        '{"data": [{"paragraphs": [%s, {"context": "a", "context": "b", "qas": []}]}]}',
        '{"data": [{"paragraphs": [%s, {"context": "a", "qas": [], "qas": [{}]}]}]}',
        '{"data": [{"paragraphs": [%s]}, {"paragraphs": [], "paragraphs": []}]}',
    ],
)
def test_no_question_is_lost_to_a_name_that_occurs_twice(tmp_path: Path, content: str):
    path = tmp_path / "a.json"
    path.write_text(content % '{"context": "a", "qas": [{"question": "b"}]}')
    rows, noted = read(path)
    assert [row.values for row in rows] == [{"context": "a", "question": "b"}]
    assert [reason for _, reason in noted] == ["a name occurs twice in the object"]
    path.write_text('{"data": [{}], "data": []}')
    with pytest.raises(DataError, match=r"a.json: a name occurs twice in the object"):
        read(path)
