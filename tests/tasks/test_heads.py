"""Going on from a trained head: each label keeps its own row, whatever the order and number of the new labels."""

import copy
import json

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support import tiny_model
from xmodular import (
    Predictor,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
    finetune,
)
from xmodular.console import quiet_transformers
from xmodular.errors import ConfigurationError
from xmodular.tasks import TASKS, load_model, read_labels

HEADS = {"classify": XmodForSequenceClassification, "tag": XmodForTokenClassification}
INPUT = {"input_ids": torch.tensor([[0, 7, 9, 2]]), "lang_ids": torch.tensor([1])}


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def alike(a, b):
    return torch.allclose(a, b, atol=1e-5)


def logits_by_label(model):
    """Each label's logits, under its name."""
    with torch.no_grad():
        logits = model.eval()(**INPUT).logits
    return dict(zip(read_labels(model), logits.unbind(-1), strict=True))


def fitted(model, task, labels, path):
    """The model for other labels: by way of a folder, and as an object through `finetune`'s own door."""
    from xmodular.training.finetuning import _with_head

    with quiet_transformers():
        model.save_pretrained(path)
    return load_model(path, task, labels), _with_head(copy.deepcopy(model), task, labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("heads")


@pytest.mark.parametrize("name", HEADS)
@settings(deadline=None, max_examples=12, phases=[Phase.generate])
@given(before=st.permutations("abcdef"), after=st.sets(st.sampled_from("abcdefgh"), min_size=2), size=st.integers(2, 6))
def test_a_label_keeps_its_row(name, folder, before, after, size):
    before, after = before[:size], sorted(after)
    model = tiny_model(HEADS[name], id2label=dict(enumerate(before)))
    was = logits_by_label(model)
    for other in fitted(model, TASKS[name], after, folder / name):
        assert read_labels(other) == (list(before) if set(before) == set(after) else after)
        assert other.config.label2id == {label: index for index, label in other.config.id2label.items()}
        assert other.num_labels == other.config.num_labels == len(after)
        now = logits_by_label(other)
        assert now.keys() == set(after)
        for label in after:
            assert (label in was) == any(alike(now[label], row) for row in was.values())
            if label in was:
                torch.testing.assert_close(now[label], was[label])


def test_what_becomes_of_labels_is_said(tmp_path, capsys):
    model = tiny_model(XmodForSequenceClassification, id2label=dict(enumerate(("c", "a", "b"))))
    fitted(model, TASKS["classify"], ["a", "b", "c"], tmp_path)
    assert not said(capsys)
    fitted(model, TASKS["classify"], ["a", "b", "d"], tmp_path)
    line = "Labels kept from the model: a, b; new and untrained: d; dropped, as not in the training data: c."
    assert said(capsys) == f"{line} {line}"
    fitted(model, TASKS["classify"], ["x", "y"], tmp_path)
    assert "None of the model's labels (a, b, c) is in the training data: its last layer is initialised" in said(capsys)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize(
    "given", [{}, {"num_labels": 3}, {"id2label": {"2": "LABEL_2", "0": "LABEL_0", "1": "LABEL_1"}}]
)
def test_labels_without_names(name, given, tmp_path, capsys):
    """They are numbers if the data say so; else which is which cannot be known, and none is taken for another."""
    model = tiny_model(HEADS[name], **given)
    count = model.num_labels
    was = list(logits_by_label(model).values()) if model.config.id2label else None
    numbers, defaults = ([f"{start}{n}" for n in range(count)] for start in ("", "LABEL_"))
    for labels in (numbers, defaults):
        for other in fitted(model, TASKS[name], labels, tmp_path):
            assert read_labels(other) == labels
            if was is not None:
                assert all(map(alike, logits_by_label(other).values(), was))
    assert "is newly initialised" not in said(capsys)
    names = list("xyz"[:count])
    found = fitted(model, TASKS[name], names, tmp_path)
    assert said(capsys).count("The labels of the model's head have no names (LABEL_0, LABEL_1") == 2
    for other in found:
        assert read_labels(other) == names
        if was is not None:
            assert not any(alike(row, old) for row in logits_by_label(other).values() for old in was)
    more = [*names, "another"]
    assert read_labels(load_model(tmp_path, TASKS[name], more)) == more
    with pytest.raises(
        ConfigurationError, match=f"head for {count} labels, but the training data have {count + 1}: x, "
    ):
        fitted(model, TASKS[name], more, tmp_path)


def test_a_number_is_no_label(tmp_path, capsys):
    number = tiny_model(XmodForSequenceClassification, id2label={0: "score"}, problem_type="regression")
    row = logits_by_label(number)["score"]
    for other in fitted(number, TASKS["classify"], ["score", "x"], tmp_path):
        assert other.config.problem_type == "single_label_classification"
        assert not any(alike(row, each) for each in logits_by_label(other).values())
    assert said(capsys).count("trained for another kind of task: its last layer is newly initialised") == 2
    labels = tiny_model(XmodForSequenceClassification, id2label={0: "score", 1: "x"})
    for other in fitted(labels, TASKS["regress"], ["score"], tmp_path):
        assert other.config.problem_type == "regression"
        assert not alike(logits_by_label(other)["score"], logits_by_label(labels)["score"])
    capsys.readouterr()
    unnamed = tiny_model(XmodForSequenceClassification, num_labels=1)
    for model in (number, unnamed):
        for other in fitted(model, TASKS["regress"], ["score"], tmp_path):
            assert alike(logits_by_label(other)["score"], next(iter(logits_by_label(model).values())))
    assert not said(capsys)


@pytest.mark.parametrize(("name", "cls"), [("qa", XmodForQuestionAnswering), ("choice", XmodForMultipleChoice)])
def test_heads_without_labels_go_on_as_they_are(name, cls, tmp_path):
    model = tiny_model(cls)
    state = model.state_dict()
    for other in fitted(model, TASKS[name], [], tmp_path):
        assert all(torch.equal(tensor, state[key]) for key, tensor in other.state_dict().items())


@pytest.mark.parametrize("name", ["classify", "pairs", "tag"])
@pytest.mark.parametrize("is_object", [False, True])
def test_going_on_with_labels_in_another_order_changes_no_prediction(
    name, is_object, scripts_tokenizer, tmp_path, capsys
):
    """Through `finetune` itself, with steps too small to move a weight."""
    task = "tag" if name == "tag" else "classify"
    labels = ["O", "I-PER", "B-PER"] if task == "tag" else ["zebra", "yak", "ant"]
    texts = ["the house", "a river", "river market house", "the market stands"]
    model = tiny_model(
        HEADS[task], id2label=dict(enumerate(labels)), vocab_size=len(scripts_tokenizer), max_position_embeddings=66
    )
    model.save_pretrained(tmp_path / "model")
    scripts_tokenizer.save_pretrained(tmp_path / "model")
    rows = []
    for number, text in enumerate(texts):
        if task == "tag":
            words = text.split()
            rows.append({"words": words, "tags": (["B-PER", "I-PER", "O"] * 2)[number % 3 :][: len(words)]})
        elif name == "pairs":
            rows.append({"premise": text, "hypothesis": "a house", "label": labels[number % 3]})
        else:
            rows.append({"text": text, "label": labels[number % 3]})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = Predictor(tmp_path / "model")(rows, "en")
    given = HEADS[task].from_pretrained(tmp_path / "model") if is_object else tmp_path / "model"
    run = finetune(
        given,
        tmp_path / "train.jsonl",
        task=task,
        language="en",
        output_dir=tmp_path / "run",
        max_steps=1,
        learning_rate=1e-30,
        weight_decay=0,
    )
    assert read_labels(run.model) == labels
    assert Predictor(run.output_dir)(rows, "en") == before
