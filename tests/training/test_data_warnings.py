"""What fine-tuning says of its rows before it begins, and of what came of them."""

import json
import math

import pyarrow
import pytest
from pyarrow import parquet

from tests.support import example_of
from xmodular import Predictor, evaluate, finetune, predict
from xmodular.errors import ConfigurationError, DataError
from xmodular.options import FinetuneOptions, build
from xmodular.tasks import TASKS
from xmodular.tasks.examples import content_hash
from xmodular.tasks.label_counts import no_labels, spread
from xmodular.training.data_warnings import learned_nothing, warnings_about

CLASSIFY, TAG = TASKS["classify"], TASKS["tag"]


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def labelled_rows(*labels):
    return [example_of(CLASSIFY, text=f"text {n}", label=label) for n, label in enumerate(labels)]


def tagged(*sentences):
    return [example_of(TAG, words=["w"] * len(tags.split()), tags=tags.split()) for tags in sentences]


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        (labelled_rows(*"aabbb"), "b 3, a 2"),
        (tagged("O O B-X", "O"), "O 3, B-X 1"),
        (
            [example_of(TASKS["choice"], context="a", choices=["b", "c"], label=n) for n in (1, 0, 1)],
            "choice 1 2, choi",
        ),
        ([example_of(TASKS["regress"], text="a", score=n) for n in (0, 1, 5)], "numbers from 0 to 5, mean 2"),
        ([example_of(TASKS["qa"], question="a", context="b", answers="b")], ""),
        (labelled_rows(*(f"{n:02}" for n in range(40))), ", 29 1 and 10 more"),
    ],
)
def test_what_the_gold_is(examples, expected):
    assert expected in spread(examples)
    assert bool(spread(examples)) == bool(expected)


FINE = ["a", "b"] * 10


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (FINE, None),
        (["1", "2", "10", "1.0"] * 10, "'1', '1.0'"),  # twins, as some tables make them
        ([f"l{n}" for n in range(15)] + FINE[:9], "There are 17 labels for 24 rows"),
        (["1", "2.5", "4"] * 5, "numbers with fractions (2.5)"),
        (["0,5", "1,0"] * 5, "--task regress"),
        (["1.0", "2.0", "3"] * 5, None),
        (["v2.5", "2.5"] * 5, None),
        (["Sport", "sport", "news"] * 5, "'Sport', 'sport'"),
        (["New York", "NewYork", "new  york"] * 5, "'New York', 'NewYork', 'new  york'"),
        (["caf\u00e9", "cafe\u0301", "tea"] * 5, "different labels"),
        (["s\u200bport", "sport", "\u00a0news", "news"] * 5, "sport"),
        (["Sport", "sports"] * 5, None),
    ],
)
def test_warnings_about_labels(labels, expected):
    found = warnings_about(labelled_rows(*labels), None)
    assert len(found) == (expected is not None), found
    if expected is not None:
        assert expected in found[0]


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (["B-X I-X O B-Y", "O", "B-X B-X I-X"], []),
        (["NOUN VERB", "X"], []),
        (["O O"], []),
        (
            ["O I-X I-X O", "B-X I-Y", "B-X O I-X"],
            ["3 spans begin with I- instead of B- as in IOB2 (the first at rows.jsonl"],
        ),
        (["S-X O B-X I-X E-X", "B-Y E-Y S-X"], ["BIOES"]),
        (["S-X O B-X I-X E-X", "B-Y O", "B-X"], ["BIOES", "2 tags do not match"]),
        (["U-X B-X L-X", "I-X L-X", "B-X L-Y", "B-X U-X"], ["BIOES", "3 tags do not match"]),
        (["B-X I-X O B-Y", "domain=en"], ["neither O nor begin with B- or I-: domain=en (the first at rows.jsonl:1)"]),
        (["B-X B-x"], ["'B-X', 'B-x'"]),
        ([" ".join(f"lemma{n}" for n in range(60)), "lemma1 lemma2"], ["There are 60 tags for 62 words"]),
        ([" ".join(f"T{n}" for n in range(60))] * 5, []),
        (["O PER O", "O O LOC"], ["The tags (LOC, PER) do not mark spans"]),
        (["B_PER I_PER", "O"], ["The tags (B_PER, I_PER) do not mark spans"]),
        (["b-per i-per o"], ["do not mark spans as B-PER"]),
        (["0 3 4"], ["The tags (0, 3, 4) do not mark spans"]),
        (["V O N", "N V"], []),  # a part of speech may be called O
    ],
)
def test_warnings_about_tags(sentences, expected):
    found = warnings_about(tagged(*sentences), None)
    assert len(found) == len(expected), found
    assert all(each in line for each, line in zip(expected, found, strict=True)), found


def test_validation_rows_that_are_training_rows():
    train = labelled_rows(*FINE)
    assert not warnings_about(train, labelled_rows(*["c"] * 20))
    assert "20 of 20 validation rows are also training rows" in warnings_about(train, train[::-1])[0]
    assert "2 of 20 validation rows" in warnings_about(train, [*train[:2], *labelled_rows(*["c"] * 18)])[0]
    assert content_hash(train) == content_hash(train[::-1]) != content_hash(train[1:])


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        (["entailment", "neutral", "-"], {"-"}),
        (["entailment", "neutral", "-1"], {"-1"}),
        (["0", "1", "2", "-1"], {"-1"}),
        (["x", "y", "-", "-1"], {"-", "-1"}),
        (["-1", "0", "1"], set()),  # a scale
        (["-1", "1"], set()),
        (["-2", "-1", "2"], set()),
        (["+", "-", "0"], set()),
        (["-", "hate"], set()),
        (["a", "b"], set()),
    ],
)
def test_what_is_no_label(labels, missing):
    examples = labelled_rows(*labels)
    assert no_labels(examples) == missing
    assert no_labels(examples, set(labels) - missing) == missing
    assert no_labels(examples, labels) == set()


@pytest.mark.parametrize("mark", ["-", "-1", -1])
def test_rows_without_a_label_are_left_out_and_counted(mark, base_run, tmp_path, capsys):
    """In training, validation and test; a pair of files decides together."""
    rows = [{"premise": f"text {n}", "hypothesis": "a", "label": label} for n, label in enumerate("xyxy")]
    unlabelled = [{**rows[0], "label": mark}]
    train = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", rows[:1] + unlabelled * 2)
    dev = write(tmp_path / "dev.jsonl", rows[1:] + unlabelled)
    run = finetune(base_run.output_dir, train, dev=dev, language="en", output_dir=tmp_path / "run", max_steps=1)
    assert run.model.config.id2label == {0: "x", 1: "y"}
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert [each["rows"] for each in (*facts["train"], *facts["dev"])] == [4, 1, 3]
    line = said(capsys)
    assert "b.jsonl:2of3rowshavenolabel('-'or-1)andareskipped." in "".join(line.split())  # wherever lines break
    assert "1 of 4 rows have no label" in line
    results = evaluate(run.model, {"en": dev})
    assert results.rows[0].rows == 3
    assert "1 of 4 rows have no label" in said(capsys)
    with pytest.raises(DataError, match="has no row with a label: all 2 have '-' or -1"):
        evaluate(run.model, {"en": write(tmp_path / "none.jsonl", unlabelled * 2)})


def test_a_label_that_the_model_has_is_one(base_run, tmp_path):
    options = {"language": "en", "max_steps": 1}
    first = write(tmp_path / "a.jsonl", [{"text": "a", "label": label} for label in (-1, 0, 1)])
    run = finetune(base_run.output_dir, first, output_dir=tmp_path / "a", **options)
    assert run.model.config.id2label == {0: "-1", 1: "0", 2: "1"}
    more = write(tmp_path / "b.jsonl", [{"text": "a", "label": label} for label in (-1, 0, 1, 2)])
    run = finetune(run.output_dir, more, output_dir=tmp_path / "b", **options)
    assert run.model.config.id2label == {0: "-1", 1: "0", 2: "1", 3: "2"}


def test_classes_and_choices_without_a_label(base_run, tmp_path, capsys):
    table = pyarrow.table({"text": list("abcd"), "label": [0, 1, -1, 0]})
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    classes = tmp_path / "rows.parquet"
    parquet.write_table(table, classes)
    options = {"language": "en", "max_steps": 1}
    run = finetune(base_run.output_dir, classes, output_dir=tmp_path / "a", **options)
    assert run.model.config.id2label == {0: "no", 1: "yes"}
    assert "1 of 4 rows have no label" in said(capsys)
    evaluate(run.model, {"en": classes})
    assert "1 of 4 rows have no label" in said(capsys)
    rows = [{"context": "a", "choices": ["b", "c"], "label": label} for label in (0, 1, -1)]
    choices = write(tmp_path / "c.jsonl", rows)
    finetune(base_run.output_dir, choices, task="choice", output_dir=tmp_path / "b", **options)
    assert "1 of 3 rows have no label" in said(capsys)
    null = write(tmp_path / "null.jsonl", [{"text": "a", "label": "x"}, {"text": "b", "label": None}])
    with pytest.raises(DataError, match="the field for the gold"):
        finetune(base_run.output_dir, null, language="en", output_dir=tmp_path / "d")


def options_of(**more):
    return build(FinetuneOptions, {"model": "m", "train": "t", "output_dir": "o", "learning_rate": 2e-5, **more})


@pytest.mark.parametrize(
    ("scores", "learned"),
    [
        ({"accuracy": 0.5, "macro-F1": 1 / 3}, False),
        ({"accuracy": 0.4, "macro-F1": 0.3}, False),
        ({"accuracy": 0.505, "macro-F1": 1 / 3}, False),
        ({"accuracy": 0.5, "macro-F1": 0.5}, True),
        ({"accuracy": 0.6, "macro-F1": 0.6}, True),
    ],
)
def test_nothing_learned_shows_in_validation(scores, learned):
    rows = labelled_rows(*FINE)
    sentence = learned_nothing(CLASSIFY, rows, rows, ["a", "b"], {"train_loss": 9, "dev": scores}, options_of())
    assert (sentence is None) == learned
    if not learned:
        assert f"accuracy is {scores['accuracy']:.3f}; always the same answer would give 0.500" in sentence
        assert "Raise --learning-rate (it was 2e-05) or --epochs." in sentence


@pytest.mark.parametrize(
    ("task", "examples", "guess"),
    [
        ("classify", labelled_rows(*"abcd"), math.log(4)),
        ("classify", labelled_rows(*"aaab"), 0.75 * math.log(4 / 3) + 0.25 * math.log(4)),
        ("tag", tagged("O O O B-X"), 0.75 * math.log(4 / 3) + 0.25 * math.log(4)),
        ("choice", [example_of(TASKS["choice"], context="a", choices=["b", "c", "d"], label=1)], math.log(3)),
    ],
)
def test_nothing_learned_shows_in_the_training_loss(task, examples, guess):
    def say(loss):
        return learned_nothing(TASKS[task], examples, None, [], {"train_loss": loss}, options_of(max_steps=7))

    assert f"the final training loss is {guess:.3f}, and guessing would give {guess:.3f}" in say(guess)
    assert "Raise --learning-rate (it was 2e-05) or --max-steps (7)." in say(guess)
    assert say(0.9 * guess) is None


def test_where_there_is_no_guess_nothing_is_said():
    qa = [example_of(TASKS["qa"], question="a", context="b", answers="b")]
    assert learned_nothing(TASKS["qa"], qa, None, [], {"train_loss": 9}, options_of()) is None


def test_a_run_says_it_all_and_keeps_it(base_run, tmp_path, capsys):
    """Counts, cut texts, rows seen before, nothing learned: on the terminal, on the card, in evaluation's record."""
    rows = [{"text": f"the river {n} " * (60 if n == 7 else 1), "label": "ab"[n % 2]} for n in range(8)]
    train = write(tmp_path / "en_XX.train.jsonl", rows)
    dev = tmp_path / "other.csv"
    dev.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in reversed(rows)))
    options = {"max_steps": 1, "learning_rate": 1e-9, "max_length": 32, "language": "en"}
    finetune(base_run.output_dir, train, dev=dev, output_dir=tmp_path / "run", **options)
    line, card = said(capsys), (tmp_path / "run" / "README.md").read_text()
    assert "Training rows: a 4, b 4 Validation rows: " in line
    warnings = [
        "8 of 8 validation rows are also training rows",
        "1 of 8 training rows are truncated to 32 tokens.",
        "1 of 8 validation rows are truncated to 32 tokens.",
        "Validation shows no learning",
    ]
    for sentence in warnings:
        assert line.count(sentence) == card.count(sentence) == 1
    results = evaluate(tmp_path / "run", {"en": dev, "sw": write(tmp_path / "sw.jsonl", rows[:3])})
    first, second = (each["warning"] for each in results.about["warnings"])
    assert first == f"{dev} has training rows of run: its scores say nothing about new text."
    assert second == "run: 1 of 11 rows are truncated to 32 tokens (--max-length)."
    line = said(capsys)
    assert line.count("has training rows of") == line.count("rows are truncated to 32 tokens") == 1
    predict(tmp_path / "run", train, tmp_path / "out.jsonl")
    assert "1 row was truncated to 32 tokens (--max-length)." in said(capsys)
    predictor = Predictor(tmp_path / "run")
    predictor([row["text"] for row in rows], "en")
    assert predictor.cut == 1


def test_weights_chosen_by_the_test_rows(base_run, tmp_path, capsys):
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(6)]
    train, dev = write(tmp_path / "a.jsonl", rows[:3]), write(tmp_path / "b.jsonl", rows[3:])
    run = finetune(base_run.output_dir, train, dev=dev, language="en", output_dir=tmp_path / "run", max_steps=1)
    assert "also training rows" not in said(capsys)
    evaluate(run.output_dir, {"en": dev})
    assert "contains the validation rows of run: scores on new text may be lower." in said(capsys)
    again = finetune(run.output_dir, dev, language="en", output_dir=tmp_path / "again", max_steps=1)
    for file in (train, dev):  # what it was trained on before counts too
        evaluate(again.model, {"en": file})
        assert "has training rows of again" in said(capsys)
    evaluate(again.model, {"en": write(tmp_path / "c.jsonl", rows[2:4])})
    assert "again" not in said(capsys).split("Saved")[0].replace("Evaluating again", "").split("again: No better")[0]


def test_one_label_only_is_refused_whatever_is_missing(base_run, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": "x"}] * 2)
    with pytest.raises(ConfigurationError, match="only one label"):
        finetune(base_run.output_dir, path, language="en", output_dir=tmp_path / "run")


def test_files_with_the_same_rows_are_named(base_run, tmp_path, capsys):
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate("xyxy")]
    train = [
        write(tmp_path / name, part)
        for name, part in (("a.jsonl", rows), ("b.jsonl", rows[::-1]), ("c.jsonl", rows[:3]))
    ]
    finetune(base_run.output_dir, train, language="en", output_dir=tmp_path / "run", max_steps=1)
    line = f"These have the same rows, which are used repeatedly: {train[0]}, {train[1]}."
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    for text in (said(capsys), card):
        assert "".join(line.split()) in "".join(text.split())  # wherever lines break


def test_snli_says_its_label_in_a_column_of_its_own(base_run, tmp_path):
    names = ("neutral", "entailment", "-")
    rows = [{"gold_label": name, "sentence1": f"a {name}", "sentence2": "b", "label1": "neutral"} for name in names]
    run = finetune(
        base_run.output_dir, write(tmp_path / "a.jsonl", rows), language="en", output_dir=tmp_path / "run", max_steps=1
    )
    assert list(run.model.config.label2id) == ["entailment", "neutral"]
    done = predict(run.output_dir, tmp_path / "a.jsonl", tmp_path / "out.csv", language="en")
    header, *_ = done.output.read_text(encoding="utf-8").splitlines()
    assert "predicted_label" in header  # so that the gold is read again
    again = evaluate(run.output_dir, {"en": tmp_path / "out.csv"}).rows
    assert again == evaluate(run.output_dir, {"en": tmp_path / "a.jsonl"}).rows


def test_what_the_first_steps_cost_is_not_held_against_a_run(base_run, tmp_path, capsys):
    """The mean loss of a run whose head begins far from the labels' shares is above that of a guess for long."""
    rows = [{"words": ["the"] * 7 + ["river"], "tags": ["O"] * 7 + ["B-X"]}] * 8
    options = {"task": "tag", "learning_rate": 1e-2, "max_steps": 16, "log_every": 4, "schedule": "constant"}
    train = write(tmp_path / "en_XX.train.jsonl", rows)
    run = finetune(base_run.output_dir, train, output_dir=tmp_path / "run", **options)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    guess = -sum(share * math.log(share) for share in (7 / 8, 1 / 8))
    assert logged[-1]["loss"] < 0.9 * guess < run.metrics["train_loss"]
    assert "was learned" not in said(capsys)
