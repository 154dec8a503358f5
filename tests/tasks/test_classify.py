"""Classification: rows, encoding, scores."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests.support import example_of
from xmodular.errors import DataError
from xmodular.tasks import TASKS, Room

CLASSIFY = TASKS["classify"]


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_one_text_and_pairs_side_by_side(scripts_tokenizer):
    rows = [
        example_of(CLASSIFY, text="the house", label="x"),
        example_of(CLASSIFY, premise="the house", hypothesis="river", label=1),
        example_of(CLASSIFY, text="river"),
    ]
    single, pair, unknown = CLASSIFY.encode(scripts_tokenizer, rows, ["1", "x"], Room(40))
    house, river = ids(scripts_tokenizer, "the house"), ids(scripts_tokenizer, "river")
    assert single.sequences == ((0, *house, 2),)
    assert pair.sequences == ((0, *house, 2, 2, *river, 2),)
    assert [single.target, pair.target, unknown.target] == [1, 0, None]
    assert CLASSIFY.targets([single, pair], 9)["labels"].tolist() == [1, 0]


def test_long_rows_are_cut_but_stay_closed(scripts_tokenizer):
    long, short = "the house " * 50, "river"
    cut = [
        CLASSIFY.encode(scripts_tokenizer, [example_of(CLASSIFY, **row)], [], Room(12))[0].sequences[0]
        for row in (
            {"text": long},
            {"premise": long, "hypothesis": short},
            {"premise": short, "hypothesis": long},
            {"premise": long, "hypothesis": long},
        )
    ]
    house, river = ids(scripts_tokenizer, long), ids(scripts_tokenizer, short)
    left = 12 - 4 - len(river)
    assert cut[0] == (0, *house[:10], 2)
    assert cut[1] == (0, *house[:left], 2, 2, *river, 2)
    assert cut[2] == (0, *river, 2, 2, *house[:left], 2)
    assert cut[3] == (0, *house[:4], 2, 2, *house[:4], 2)


def test_the_tokenizers_own_settings_do_not_count(scripts_tokenizer):
    """A call before, with truncation and padding, must not shorten or lengthen a row."""
    row = example_of(CLASSIFY, text="the house stands by the river")
    expected = CLASSIFY.encode(scripts_tokenizer, [row], [], Room(40))
    scripts_tokenizer(["a", "the house stands"], truncation=True, max_length=4, padding="max_length")
    assert CLASSIFY.encode(scripts_tokenizer, [row], [], Room(40)) == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"txt": "a", "label": "x"}, "there is no 'text', nor a 'premise' with a 'hypothesis'"),
        ({"text": " ", "label": "x"}, "'text' must be a non-empty text"),
        ({"text": 7, "label": "x"}, "'text' must be a non-empty text; it is 7"),
        (
            {"premise": "a", "label": "x"},
            "there is no 'hypothesis', or it is empty; name its column with --columns hypothesis=",
        ),
        ({"hypothesis": "a"}, "there is no 'premise', or it is empty; name its column with --columns premise="),
        ({"text": "a", "label": 0.5}, "'label' must be a name or a whole number; it is 0.5"),
        ({"text": "a", "label": ""}, "'label' must be a name or a whole number; it is ''"),
    ],
)
def test_a_wrong_row_says_why(row, reason):
    with pytest.raises(ValueError, match=reason):
        CLASSIFY.parse(row)


def test_a_label_that_the_model_does_not_know(scripts_tokenizer):
    row = example_of(CLASSIFY, text="a", label="sprot")
    with pytest.raises(DataError, match=r"rows.jsonl:1: the label 'sprot' is not one of the model's: health, sport"):
        CLASSIFY.encode(scripts_tokenizer, [row], ["health", "sport"], Room(40))


def test_the_score_is_the_labels_probability(scripts_tokenizer):
    row = example_of(CLASSIFY, text="a")
    (encoding,) = CLASSIFY.encode(scripts_tokenizer, [row], [], Room(40))
    logits = np.array([1.0, 3.0, -2.0], dtype=np.float32)
    found = CLASSIFY.decode(row, [(encoding, logits)], ["a", "b", "c"])
    assert found["label"] == "b"
    assert found["score"] == pytest.approx(np.exp(3) / np.exp([1, 3, -2]).sum())
    huge = CLASSIFY.decode(row, [(encoding, np.array([-4e4, 4e4], dtype=np.float32))], ["a", "b"])
    assert huge == {"label": "b", "score": 1.0}


def test_scores_are_sklearns():
    random = np.random.default_rng(0)
    labels = ["a", "b", "c", "d", "never"]
    for _ in range(20):
        gold = random.integers(0, 3, 50)
        predicted = np.where(random.random(50) < 0.6, gold, random.integers(0, 4, 50))
        examples = [example_of(CLASSIFY, text="a", label=labels[g]) for g in gold]
        statistics = CLASSIFY.statistics(examples, [{"label": labels[p]} for p in predicted], labels)
        values = CLASSIFY.metrics(statistics.sum(0), labels)
        assert values["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
        assert values["macro-F1"] == pytest.approx(f1_score(gold, predicted, average="macro"))


def test_scores_are_sklearns_where_gold_has_labels_that_the_model_lacks():
    random = np.random.default_rng(1)
    labels, names = ["b", "d", "never"], ["a", "b", "c", "d", "e", "never"]
    for _ in range(20):
        gold = random.choice(names[:5], 50)
        predicted = np.where((random.random(50) < 0.6) & np.isin(gold, labels), gold, random.choice(["b", "d"], 50))
        examples = [example_of(CLASSIFY, text="a", label=name) for name in gold]
        predictions = [{"label": name} for name in predicted]
        sums = CLASSIFY.statistics(examples, predictions, labels)
        values = CLASSIFY.metrics(sums.sum(0), labels)
        assert values["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
        assert values["macro-F1"] == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))
        guesses = CLASSIFY.guesses(examples, labels)
        most = CLASSIFY.metrics(CLASSIFY.statistics(examples, guesses["majority"], labels).sum(0), labels)
        assert most["accuracy"] == max((gold == name).mean() for name in names)
        assert guesses["uniform"]["accuracy"] == pytest.approx(np.isin(gold, labels).mean() / 3)


def test_guesses_need_no_model():
    examples = [example_of(CLASSIFY, text="a", label=label) for label in "xyyz"]
    guesses = CLASSIFY.guesses(examples, ["x", "y", "z"])
    assert guesses["majority"] == [{"label": "y"}] * 4
    assert guesses["uniform"] == {"accuracy": pytest.approx(1 / 3)}


def test_labels_that_are_numbers_are_in_their_order():
    def names(*labels):
        return CLASSIFY.label_names([example_of(CLASSIFY, text="a", label=label) for label in labels])

    assert names(10, 2, -1, 0) == ["-1", "0", "2", "10"]
    assert names(10, 2, "x") == ["10", "2", "x"]
    assert names("9" * 10_000, 2) == ["2", "9" * 10_000]


def test_a_label_is_the_same_however_a_file_spells_it():
    golds = [CLASSIFY.parse({"text": "a", "label": label})[1] for label in (1, 1.0, "1", " 1 ", "1\r")]
    assert golds == ["1"] * 5
    golds = [CLASSIFY.parse({"text": "a", "label": label})[1] for label in (True, "true", False, "false")]
    assert golds == ["true", "true", "false", "false"]
    for label in (0.5, float("inf"), " ", ["x"]):
        with pytest.raises(ValueError, match="'label' must be a name or a whole number"):
            CLASSIFY.parse({"text": "a", "label": label})
