"""Whatever a row says, a task refuses it with a reason or reads all of it, and answers with plain values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmodular.errors import ConfigurationError
from xmodular.tasks import TASKS, Example, Room

EVERY = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ODD = [
    "",
    " ",
    "\x00",
    "\u202e",
    "\u200d",
    "👩‍👩‍👧",
    "e\u0301\u0302",
    "</s>",
    "<mask>",
    "½",
    "ﷺ",
    "\n",
    "the house",
    "的",
    "\u2581",
]
TEXT = (
    st.lists(st.sampled_from(ODD) | st.text(max_size=4), max_size=12)
    .map("".join)
    .filter(lambda text: text.encode("utf-8", "ignore").decode() == text)
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "label", "answer_start"]), inner, max_size=3)
    ),
    max_leaves=5,
)
LABELS = {"classify": ["a", "b"], "regress": ["score"], "tag": ["O", "B-X", "I-X"], "qa": [], "choice": [], "embed": []}


def answered(task: Any, examples: list[Example], tokenizer: Any, room: Room, seed: int = 0) -> list[Any]:
    """Predictions from random logits, with everything checked on the way that must hold."""
    labels = LABELS[task.name]
    random = np.random.default_rng(seed)
    encodings = task.encode(tokenizer, examples, labels, room)
    order = [encoding.example for encoding in encodings]
    assert order == sorted(order)
    assert set(order) == set(range(len(examples)))
    readings: list[list[Any]] = [[] for _ in examples]
    for encoding in encodings:
        lengths = [len(sequence) for sequence in encoding.sequences]
        assert max(lengths) <= room.max_length
        shape = {"classify": (2,), "regress": (1,), "choice": (len(lengths),), "embed": (3,)}.get(
            task.name, (lengths[0], len(labels) or 2)
        )
        readings[encoding.example].append((encoding, random.normal(size=shape).astype(np.float32) * 5))
    predictions = [task.decode(example, own, labels) for example, own in zip(examples, readings, strict=True)]
    json.dumps(predictions, allow_nan=False, default=np.ndarray.tolist)
    for example, prediction in zip(examples, predictions, strict=True):
        if task.name == "tag":
            assert len(prediction["tags"]) == len(prediction["scores"]) == len(example.texts) - 1
        for span in [*prediction.get("spans", ()), *([prediction] if task.name == "qa" else ())]:
            context = example.texts[1] if task.name == "qa" else example.texts[0]
            assert context[span["start"] : span["end"]] == span.get("text", span.get("answer"))
    return predictions


@pytest.mark.parametrize("name", sorted(TASKS))
@given(data=st.data())
@EVERY
def test_any_values(name: str, data: Any, scripts_tokenizer: Any) -> None:
    task = TASKS[name]
    rows = data.draw(st.lists(st.dictionaries(st.sampled_from(sorted(task.fields)), VALUE), min_size=1, max_size=4))
    examples = []
    for row in rows:
        try:
            texts, _ = task.parse(row)
        except ValueError:
            continue
        examples.append(Example(texts, None, "here"))
    if examples:
        answered(task, examples, scripts_tokenizer, Room(data.draw(st.integers(6, 30)), data.draw(st.integers(0, 40))))


@pytest.mark.parametrize("name", sorted(TASKS))
@given(texts=st.lists(TEXT.filter(str.strip), min_size=3, max_size=3), length=st.integers(6, 40))
@EVERY
def test_any_texts(name: str, texts: list[str], length: int, scripts_tokenizer: Any) -> None:
    first, second, third = texts
    row = {
        "classify": {"premise": first, "hypothesis": second},
        "regress": {"text": first},
        "tag": {"text": first + " " + second},
        "qa": {"question": first, "context": second + third},
        "choice": {"context": first, "choices": [second, third]},
        "embed": {"text": first},
    }[name]
    answered(TASKS[name], [Example(TASKS[name].parse(row)[0], None, "here")], scripts_tokenizer, Room(length, 5))


@pytest.mark.parametrize("unit", ["a", "a ", "的", "\u0301", "\x01"])
def test_very_long_texts(unit: str, scripts_tokenizer: Any) -> None:
    long = "b" + unit * 50_000
    room = Room(64, 16)
    for name, row in {
        "classify": {"premise": long, "hypothesis": long},
        "tag": {"text": long},
        "qa": {"question": long, "context": long[:20_000]},
        "choice": {"context": long, "choices": ["a", long]},
        "embed": {"text": long},
    }.items():
        task = TASKS[name]
        answered(task, [Example(task.parse(row)[0], None, "here")], scripts_tokenizer, room)


def test_too_little_room() -> None:
    with pytest.raises(ConfigurationError, match="max_length is 5: a sequence needs at least 6 tokens"):
        Room(5)
    with pytest.raises(ConfigurationError, match="stride is -1"):
        Room(50, -1)


SPELLED = ["<s>", "</s>", "<pad>", "<mask>", "<unk>", "<s><mask></s>", "a<pad>", "the <mask> house", "＜mask＞"]
ROWS = {
    "classify": lambda one, two: ({"text": one}, {"premise": one, "hypothesis": two}),
    "regress": lambda one, two: ({"text": one}, {"premise": one, "hypothesis": two}),
    "tag": lambda one, two: ({"words": [one, two, one]}, {"text": f"{one} {two}"}),
    "qa": lambda one, two: ({"question": one, "context": f"the house {two} river"},),
    "choice": lambda one, two: ({"context": one, "choices": [two, one]}, {"question": one, "choices": [one, two]}),
    "embed": lambda one, two: ({"text": one},),
}


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("one", SPELLED)
def test_special_tokens_that_a_text_spells_are_text(scripts_tokenizer: Any, name: str, one: str) -> None:
    task, special = TASKS[name], set(scripts_tokenizer.all_special_ids) - {scripts_tokenizer.unk_token_id}
    for values in ROWS[name](one, "<pad> <mask>"):
        texts, _ = task.parse(values)
        plain, _ = task.parse(json.loads(json.dumps(values, ensure_ascii=False).replace("<", "(").replace("＜", "(")))
        made, same = (
            task.encode(scripts_tokenizer, [Example(each, None, "")], LABELS[name], Room(128))
            for each in (texts, plain)
        )
        for encoding, other in zip(made, same, strict=True):
            for sequence, likewise in zip(encoding.sequences, other.sequences, strict=True):
                count = sum(each in special for each in sequence)
                assert (
                    count == sum(each in special for each in likewise) == (2 if name == "tag" or len(texts) == 1 else 4)
                )


def test_an_answer_may_be_spelled_like_a_special_token(scripts_tokenizer: Any) -> None:
    context = "the house <mask> by the </s> river"
    for answer in ("<mask>", "</s>", "house <mask>"):
        texts, gold = TASKS["qa"].parse({"question": "<s>", "context": context, "answers": answer})
        (encoding,) = TASKS["qa"].encode(scripts_tokenizer, [Example(texts, gold, "")], [], Room(128))
        first, last = (edge - encoding.places[0] for edge in encoding.target)
        spans = encoding.places[1]
        assert context[spans[first][0] : spans[last][1]] == answer
