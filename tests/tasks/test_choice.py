"""Multiple choice: layouts, encoding, accuracy."""

import numpy as np
import pytest

from tests.support import example_of
from xmodular.errors import DataError
from xmodular.tasks import TASKS, Room

CHOICE = TASKS["choice"]


def by_column(row):
    """A row's values by field, the way columns are found."""
    return {
        field: row[column]
        for field, columns in CHOICE.fields.items()
        if (column := next((column for column in columns if column in row), None)) is not None
    }


@pytest.mark.parametrize(
    ("row", "texts", "gold"),
    [
        # COPA: a cause comes before what it causes.
        (
            {"premise": "P", "question": "cause", "choice1": "A", "choice2": "B", "label": 1},
            ("A", "P", "B", "P"),
            1,
        ),
        (
            {"premise": "P", "question": "effect", "choice1": "A", "choice2": "B", "label": "0"},
            ("P", "A", "P", "B"),
            0,
        ),
        # SWAG
        (
            {"sent1": "S", "sent2": "She", "ending0": "runs", "ending1": "sits", "ending2": "eats", "label": 2},
            ("S", "She runs", "S", "She sits", "S", "She eats"),
            2,
        ),
        # A list, with and without a question, and a question alone
        ({"context": "C", "choices": ["x", "y"]}, ("C", "x", "C", "y"), None),
        ({"article": "C", "question": "Q?", "options": ["x", "y"], "answer": "B"}, ("C", "Q? x", "C", "Q? y"), 1),
        (
            {"question": "Q?", "choices": {"label": ["A", "B", "C"], "text": ["x", "y", "z"]}, "answerKey": "C"},
            ("Q?", "x", "Q?", "y", "Q?", "z"),
            2,
        ),
        ({"question": "Q?", "choices": {"A": "x", "B": "y"}, "label": "B"}, ("Q?", "x", "Q?", "y"), 1),
        ({"question": "Q?", "choices": {"A": "x", "B": "y"}, "answerKey": "b"}, ("Q?", "x", "Q?", "y"), 1),
        ({"question": "Q?", "choices": {"b": "x", "a": "y"}, "answerKey": "A"}, ("Q?", "x", "Q?", "y"), 1),
        ({"question": "Q?", "choices": '{"A": "x", "B": "y"}', "answer": "A"}, ("Q?", "x", "Q?", "y"), 0),
        ({"question": "Q?", "choices": {"A": "x", "B": "y", "C": None}, "label": "A"}, ("Q?", "x", "Q?", "y"), 0),
        ({"question": "Q?", "choices": {"1": "x", "2": "y"}, "label": 1}, ("Q?", "x", "Q?", "y"), 0),
        ({"question": "Q?", "A": "x", "B": "y", "C": "z", "answer": "C"}, ("Q?", "x", "Q?", "y", "Q?", "z"), 2),
        ({"question": "Q?", "choices": ["x", "y"], "label": "B"}, ("Q?", "x", "Q?", "y"), 1),
        ({"context": "C", "choices": ["x", "y"], "label": -1}, ("C", "x", "C", "y"), None),
        ({"context": "C", "choices": ["x", "y"], "label": "-"}, ("C", "x", "C", "y"), None),
        ({"context": "C", "choices": ["x", "y"], "label": ""}, ("C", "x", "C", "y"), None),
        ({"context": "C", "choices": ["x", "y"], "label": 1.0}, ("C", "x", "C", "y"), 1),
        ({"context": "C", "choices": ["x", "y"], "label": " 1\t"}, ("C", "x", "C", "y"), 1),
        ({"context": "C", "choices": ["x", "y"], "label": " B"}, ("C", "x", "C", "y"), 1),
        ({"context": "C", "choices": ["x", "y"], "label": " "}, ("C", "x", "C", "y"), None),
        (
            {"context": "C", "choices": {"label": ["a ", " b"], "text": ["x", "y"]}, "label": "b"},
            ("C", "x", "C", "y"),
            1,
        ),
        ({"context": "C", "choices": {"label": [1, 2], "text": ["x", "y"]}, "label": 1.0}, ("C", "x", "C", "y"), 0),
    ],
)
def test_layouts(row, texts, gold):
    assert CHOICE.parse(by_column(row)) == (texts, gold)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"context": "C", "choices": ["x"]}, "two choices at least"),
        ({"context": "C"}, "two choices at least"),
        ({"context": "C", "choices": "xy"}, "'choices' must be a list; it is 'xy'"),
        ({"context": "C", "choices": ["x", ""]}, "choice 1 must be a non-empty text; it is ''"),
        ({"context": "C", "choices": ["x", 3]}, "choice 1 must be a non-empty text; it is 3"),
        ({"context": "C", "choice1": "x", "choice3": "y"}, "'choice3' is given, but an earlier choice is missing"),
        ({"choices": ["x", "y"]}, "there is no 'context' and no 'question'"),
        ({"context": "", "choices": ["x", "y"]}, "'context' must be a non-empty text"),
        ({"question": "cause", "choices": ["x", "y"]}, "there is no 'context', or it is empty"),
        ({"context": "C", "choices": ["x", "y"], "label": 2}, "one of 0, 1; it is 2"),
        ({"context": "C", "choices": ["x", "y"], "label": "C"}, "one of 0, 1; it is 'C'"),
        ({"context": "C", "choices": ["x", "y"], "label": True}, "one of 0, 1; it is True"),
        ({"context": "C", "choices": ["x", "y"], "label": 0.5}, "one of 0, 1; it is 0.5"),
        ({"context": "C", "choices": ["x", "y"], "label": 2.0}, "one of 0, 1; it is 2"),
        ({"context": "C", "choices": {"B": "x", "C": "y"}, "label": "A"}, "one of B, C; it is 'A'"),
        (
            {"context": "C", "choices": {"B": "x", "C": ["y"]}, "label": "B"},
            r"choice 1 must be .* it is \['y'\]",
        ),
        ({"context": "C", "choices": {"text": ["x", "y"], "label": ["A"]}}, "2 choices, but the labels A"),
    ],
)
def test_a_wrong_row_says_why(row, reason):
    with pytest.raises(ValueError, match=reason):
        CHOICE.parse(row)


def test_a_sequence_per_choice(scripts_tokenizer):
    rows = [
        example_of(CHOICE, context="the house", choices=["river", "market"], label=1),
        example_of(CHOICE, context="a", choices=["b", "river", "c"]),
    ]
    first, second = CHOICE.encode(scripts_tokenizer, rows, [], Room(20))

    def pair(a, b):
        one, two = (scripts_tokenizer(text, add_special_tokens=False)["input_ids"] for text in (a, b))
        return (0, *one, 2, 2, *two, 2)

    assert first.sequences == (pair("the house", "river"), pair("the house", "market"))
    assert second.sequences == (pair("a", "b"), pair("a", "river"), pair("a", "c"))
    assert (first.target, second.target) == (1, None)
    found = CHOICE.decode(rows[0], [(first, np.array([0.0, np.log(3)], dtype=np.float32))], [])
    assert found == {"choice": 1, "score": pytest.approx(0.75)}
    with pytest.raises(DataError, match=r"3 choices here and 2 at rows.jsonl:1"):
        CHOICE.label_names(rows)


def test_accuracy_and_guesses():
    examples = [example_of(CHOICE, context="a", choices=["b", "c"], label=label) for label in (0, 1, 1, 1)]
    sums = CHOICE.statistics(examples, [{"choice": choice} for choice in (0, 0, 1, 1)], [])
    assert CHOICE.metrics(sums.sum(0), []) == {"accuracy": 0.75}
    assert CHOICE.guesses(examples, []) == {"majority": [{"choice": 1}] * 4, "uniform": {"accuracy": 0.5}}


def test_cause_and_effect_in_any_spelling():
    row = {"context": "P", "choices": ["A", "B"]}
    for spelled in ("Cause", " cause\n", "CAUSE"):
        assert CHOICE.parse({**row, "question": spelled}) == CHOICE.parse({**row, "question": "cause"})
    assert CHOICE.parse({**row, "question": "Effects?"})[0][1] == "Effects? A"
