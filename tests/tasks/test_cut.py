"""Texts that are longer than what a model reads of them are known as such."""

from tests.support import example_of
from xmodular.tasks import TASKS, Room


def test_cut_texts_by_task(scripts_tokenizer):
    long, short = "the house " * 50, "a river"
    rows = {
        "classify": [
            {"text": long, "label": "x"},
            {"text": short, "label": "x"},
            {"premise": short, "hypothesis": long},
        ],
        "regress": [{"text": long, "score": 1}, {"text": short, "score": 1}],
        "choice": [{"context": short, "choices": [short, long]}, {"context": short, "choices": [short, short]}],
        "qa": [
            {"question": long, "context": short},
            {"question": short, "context": long},
            {"question": short, "context": short},
        ],
        "tag": [{"words": long.split()}, {"words": ["a"]}],
    }
    expected = {"classify": {0, 2}, "regress": {0}, "choice": {0}, "qa": {0}, "tag": set()}
    for name, own in rows.items():
        task = TASKS[name]
        examples = [example_of(task, **row) for row in own]
        encodings = task.encode(scripts_tokenizer, examples, ["x"], Room(24, 4))
        assert {each.example for each in encodings if each.cut} == expected[name], name
    # exactly as long as there is room is not cut
    ids = scripts_tokenizer(long, add_special_tokens=False)["input_ids"]
    task = TASKS["classify"]
    (whole,) = task.encode(scripts_tokenizer, [example_of(task, text=long)], [], Room(len(ids) + 2))
    assert not whole.cut
