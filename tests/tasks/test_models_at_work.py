"""Logits and losses of rows in batches, against one row at a time; each task with a model."""

import json

import numpy as np
import pytest
import torch

from tests.support import example_of, tiny_model
from xmodular import (
    XmodForMaskedLM,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
)
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.perplexity import block_statistics
from xmodular.tasks import (
    TASKS,
    Encoding,
    Room,
    collate,
    load_model,
    load_saved,
    predict_logits,
    read_labels,
    task_of,
    to_run,
    tokenizer_of,
)
from xmodular.text import MaskedLMCollator


def drawn(random, choices=1, most=20):
    """Encodings with random tokens, of very different lengths."""
    sequences = tuple((0, *random.integers(4, 90, size=random.integers(0, most)).tolist(), 2) for _ in range(choices))
    return Encoding(0, sequences)


def alone(model, encoding, lang_id):
    """The model's output for one encoding, no sequence padded (choices are read one by one)."""
    outputs = []
    for sequence in encoding.sequences:
        ids = torch.tensor([sequence])
        if isinstance(model, XmodForMultipleChoice):
            ids = ids[None]
        with torch.no_grad():
            outputs.append(model(ids, lang_ids=torch.tensor([lang_id])))
    return outputs


@pytest.mark.parametrize("batch_tokens", [1, 64, 8192])
def test_batched_logits_are_those_of_single_rows(batch_tokens):
    random = np.random.default_rng(0)
    lang_ids = random.integers(0, 3, 12).tolist()
    told = []
    for architecture, choices in (
        (XmodForSequenceClassification, [1]),
        (XmodForTokenClassification, [1]),
        (XmodForQuestionAnswering, [1]),
        (XmodForMultipleChoice, [2, 4, 3]),  # files may mix them
    ):
        model = tiny_model(architecture)
        encodings = [drawn(random, choices[number % len(choices)]) for number in range(12)]
        told.clear()
        logits = predict_logits(model, encodings, lang_ids, pad_id=1, batch_tokens=batch_tokens, advance=told.append)
        assert sum(told) == 12
        assert (len(told) == 12) == (batch_tokens == 1)
        for encoding, lang_id, found in zip(encodings, lang_ids, logits, strict=True):
            outputs = alone(model, encoding, lang_id)
            if architecture is XmodForQuestionAnswering:
                expected = torch.stack([outputs[0].start_logits, outputs[0].end_logits], -1)[0]
            elif architecture is XmodForMultipleChoice:
                expected = torch.cat([output.logits[0] for output in outputs])
            else:
                expected = outputs[0].logits[0]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_batches_keep_to_the_budget_and_leave_the_model_as_it_was():
    random = np.random.default_rng(1)
    model = tiny_model(XmodForSequenceClassification).train()
    shapes = []
    model.register_forward_pre_hook(
        lambda module, args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    encodings = [drawn(random) for _ in range(50)]
    predict_logits(model, encodings, [0] * 50, pad_id=1, batch_tokens=100)
    assert model.training
    assert sum(rows for rows, _ in shapes) == 50
    assert all(rows * tokens <= 100 for rows, tokens in shapes)
    # Sorted by length, little is padding.
    assert sum(rows * tokens for rows, tokens in shapes) < 1.3 * sum(len(each.sequences[0]) for each in encodings)
    with pytest.raises(InputError, match="50 encodings and 2 language ids"):
        predict_logits(model, encodings, [0, 1], pad_id=1)
    assert predict_logits(model, [], [], pad_id=1) == []


def test_batches_of_choices_are_alike():
    batch = collate([Encoding(0, ((0, 2), (0, 5, 2))), Encoding(1, ((0, 6, 7, 2), (0, 2)))], [2, 0], 1)
    assert batch["input_ids"].tolist() == [[[0, 2, 1, 1], [0, 5, 2, 1]], [[0, 6, 7, 2], [0, 2, 1, 1]]]
    assert batch["attention_mask"].tolist() == [[[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 1, 1, 1], [1, 1, 0, 0]]]
    assert batch["lang_ids"].tolist() == [2, 0]
    with pytest.raises(InputError, match=r"the same number of choices; these have \[2, 3\]"):
        collate([Encoding(0, ((0, 2),) * 2), Encoding(1, ((0, 2),) * 3)], [0, 0], 1)


ROWS = {
    "classify": [{"text": "the house", "label": "x"}, {"premise": "a", "hypothesis": "the river", "label": "y"}],
    "regress": [{"text": "the house", "score": 0.5}, {"text": "a", "score": -2}],
    "tag": [{"words": ["the", "house"], "tags": ["B-X", "O"]}, {"words": ["a"], "tags": ["O"]}],
    "qa": [
        {"question": "a", "context": "the house by the river", "answers": "house"},
        {"question": "the house", "context": "a river", "answers": "river"},
    ],
    "choice": [
        {"context": "a", "choices": ["river", "the house"], "label": 1},
        {"context": "the", "choices": ["a", "b"], "label": 0},
    ],
}


@pytest.mark.parametrize("name", sorted(ROWS))  # embed, which has no labels, learns in tests/training/test_embedding.py
def test_a_task_from_rows_to_predictions(name, scripts_tokenizer, tmp_path):
    """Its head is made, learns its rows by heart, is known again when loaded, and says what the rows say."""
    task = TASKS[name]
    examples = [example_of(task, **row) for row in ROWS[name]]
    labels = task.label_names(examples)
    base = tiny_model(XmodForMaskedLM, vocab_size=len(scripts_tokenizer), max_position_embeddings=66)
    base.config.problem_type = "multi_label_classification"  # left over from something else
    base.config.id2label = dict(enumerate("abcdefg"))
    base.save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base", task, labels)
    assert task_of(model) is task
    assert read_labels(model) == labels

    encodings = task.encode(scripts_tokenizer, examples, labels, Room(60))
    batch = collate(encodings, [0] * len(encodings), 1, task=task)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.eval()  # without dropout
    for _ in range(80):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "tuned")
    tuned = load_saved(tmp_path / "tuned")
    assert task_of(tuned) is task
    assert read_labels(tuned) == labels

    logits = predict_logits(tuned, encodings, [0] * len(encodings), pad_id=1)
    predictions = [
        task.decode(example, [(encoding, values)], labels)
        for example, encoding, values in zip(examples, encodings, logits, strict=True)
    ]
    json.dumps(predictions)  # what it says is plain values
    scores = task.metrics(task.statistics(examples, predictions, labels).sum(0), labels)
    assert next(iter(scores.values())) == pytest.approx(1)
    if name == "regress":
        assert scores["RMSE"] < 0.3
    for guess in task.guesses(examples, labels).values():
        if not isinstance(guess, dict):
            assert set(task.metrics(task.statistics(examples, guess, labels).sum(0), labels)) == set(scores)


def test_models_without_a_task():
    assert task_of(tiny_model(XmodForMaskedLM)) is None
    assert task_of(tiny_model(XmodForSequenceClassification, problem_type="multi_label_classification")) is None
    assert task_of(tiny_model(XmodForSequenceClassification, num_labels=1)) is TASKS["regress"]
    assert task_of(tiny_model(XmodForSequenceClassification, num_labels=3)) is TASKS["classify"]


def test_block_losses_are_the_models_own(base_run):
    tokenizer = base_run.tokenizer
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids, mask_id=tokenizer.mask_token_id, pad_id=1, vocab_size=len(tokenizer)
    )
    random = np.random.default_rng(1)
    blocks = [np.array([0, *random.integers(4, 190, size=24), *[1] * 7]) for _ in range(9)]
    lang_ids, draws = [number % 3 for number in range(9)], list(range(100, 109))
    chosen = list(collator.choose(np.stack(blocks)))
    assert all(each.any() for each in chosen)
    more = {"chosen": chosen, "unk_id": 3}
    sums = block_statistics(base_run.model, blocks, lang_ids, draws, collator, batch_size=4, **more)
    again = block_statistics(base_run.model, blocks, lang_ids, draws, collator, batch_size=9, **more)
    np.testing.assert_allclose(sums, again, atol=1e-4)
    for block, lang_id, draw, which, own in zip(blocks, lang_ids, draws, chosen, sums, strict=True):
        row = {"input_ids": block, "lang_id": lang_id, "draw": draw, "chosen": which}
        batch = collator([row]) | {"sparse_prediction": False}
        with torch.no_grad():
            output = base_run.model(**batch)
        labelled = batch["labels"] != -100
        assert own[2] == int(labelled.sum())
        assert own[0] / own[2] == pytest.approx(float(output.loss), abs=1e-4)
        assert own[1] == int((output.logits.argmax(-1) == batch["labels"])[labelled].sum())


def test_other_adapters_read_the_same_masks(base_run):
    tokenizer = base_run.tokenizer
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids, mask_id=tokenizer.mask_token_id, pad_id=1, vocab_size=len(tokenizer)
    )
    blocks = [np.array([0, *range(4, 30)]), np.array([0, *range(50, 76)])]
    more = {"chosen": list(collator.choose(np.stack(blocks))), "unk_id": 3}
    own, other = (block_statistics(base_run.model, blocks, ids, [0, 1], collator, **more) for ids in ([0, 1], [2, 2]))
    np.testing.assert_array_equal(own[:, 2], other[:, 2])
    assert not np.allclose(own[:, 0], other[:, 0])


def test_what_is_named_runs_on_the_gpu_and_what_is_given_stays(tmp_path, monkeypatch):
    model, moved = tiny_model(XmodForSequenceClassification), []
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, where: moved.append(where) or self)
    assert to_run(model) is model
    assert not moved
    assert to_run(tmp_path, "fp16").dtype == torch.float16
    assert moved == ["cuda"]


def test_what_cannot_be_loaded_is_named(tmp_path, base_run):
    with pytest.raises(ConfigurationError, match=r"contains no model: it has no config.json"):
        load_saved(tmp_path)
    with pytest.raises(DataError, match=r"neither tokenizer.json nor"):
        tokenizer_of(base_run.model, tmp_path)


def test_a_model_in_training_stays_so_where_reading_fails():
    model = tiny_model(XmodForSequenceClassification).train()
    encodings = [Encoding(0, ((0, 5, 2),)), Encoding(1, ((0, 10**9, 2),))]
    with pytest.raises(InputError, match="input_ids has"):
        predict_logits(model, encodings, [0, 0], pad_id=1, batch_tokens=3)
    assert model.training
