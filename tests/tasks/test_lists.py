"""Lists that a table holds as JSON: read where a field wants a list, and nowhere else."""

import pytest

from xmodular.rows import BadRows, read_rows
from xmodular.tasks import TASKS
from xmodular.tasks.examples import examples, load

CLASSIFY, TAG, QA, CHOICE = (TASKS[name] for name in ("classify", "tag", "qa", "choice"))


def test_fields_that_want_lists():
    words = ["the", '"', "[1]"]
    assert TAG.parse({"words": '["the", "\\"", "[1]"]', "tags": ' ["O", "O", 3]'}) == TAG.parse(
        {"words": words, "tags": ["O", "O", "3"]}
    )
    assert TAG.parse({"words": '["the"]', "tags": ""}) == (("the", "the"), None)  # as tables have nothing
    assert TAG.parse({"words": "", "tags": "", "text": "the house"}) == (("the house", "the", "house"), None)
    pair = {"premise": "x", "context": "x", "label": "1"}
    assert CHOICE.parse({**pair, "choices": '["a", "b"]'}) == CHOICE.parse({**pair, "choices": ["a", "b"]})
    named = {"text": ["a", "b"], "label": ["1", "2"]}
    assert CHOICE.parse({**pair, "choices": '{"text": ["a", "b"], "label": ["1", "2"]}'}) == CHOICE.parse(
        {**pair, "choices": named}
    )
    asked = {"question": "q", "context": "the house"}
    for answers in ('["house"]', '{"text": ["house"], "answer_start": [4]}', '[{"text": "house", "answer_start": 4}]'):
        assert QA.parse({**asked, "answers": answers})[1] == (("house", 4),)


def test_texts_stay_texts():
    assert CLASSIFY.parse({"text": "[1]", "label": "[1]"}) == (("[1]",), "[1]")
    assert TAG.parse({"text": '["a"]'})[0] == ('["a"]', '["a"]')
    asked = {"question": "[]", "context": 'see [1] and ["a"]'}
    assert QA.parse({**asked, "answers": "[1]"}) == (("[]", asked["context"]), (("[1]", 4),))
    assert QA.parse({**asked, "answers": '["a"]'})[1] == (('["a"]', 12),)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("the house", r"'words' must be a list; it is 'the house' \(in tables, lists are JSON"),
        ("['the', 'house']", r"'words' must be a list; it is .* lists are JSON"),
        ('["the"', r"'words' must be a list"),
        ('{"a": 1}', r"'words' must be a list"),
        ("[" * 100_000, r"'words' must be a list"),
        ("[" + "9" * 10_000 + "]", r"'words' must be a list"),
        ("[]", r"'words' is empty"),
        ("[null]", r"'words' contains None"),
        ('["\\ud800"]', r"contains an unpaired surrogate"),
    ],
)
def test_what_is_no_list_says_why(words, reason):
    with pytest.raises(ValueError, match=reason):
        TAG.parse({"words": words})


def test_one_bad_row_spoils_no_other(tmp_path):
    path = tmp_path / "de.test.tsv"
    path.write_text('words\ttags\n["a", "b"]\t["O", "O"]\na b\t["O", "O"]\n["a"]\t\n["c"]\t["O"]\n')
    noted = []
    bad = BadRows(skip=True, told=lambda place, reason: noted.append((place, reason)))
    assert [each.texts for each in examples(TAG, read_rows(path, bad), bad)] == [("a b", "a", "b"), ("c", "c")]
    assert [place for place, _ in noted] == [f"{path}:3", f"{path}:4"]
    assert "'words' must be a list; it is 'a b'" in noted[0][1]
    assert "the field for the gold" in noted[1][1]
    assert len(load(TAG, path, skip_bad_rows=True)) == 2
