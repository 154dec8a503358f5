"""Processes for the tests that need real ones, and a small file for every task."""

import json
import random
from pathlib import Path

import pytest

from tests.conftest import sentence


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A training file in English for each task; rows of very different lengths."""
    folder = tmp_path_factory.mktemp("tasks")
    draw = random.Random(5)
    texts = [" ".join(sentence("en_XX", draw) for _ in range(draw.choice((1, 1, 2, 9)))) for _ in range(24)]
    rows: dict[str, list[dict]] = {
        "classify": [{"text": text, "label": draw.choice("abc")} for text in texts],
        "regress": [{"text": text, "score": len(text) / 100} for text in texts],
        "tag": [
            {
                "words": text.split(),
                "tags": ["B-X" if word.isdigit() or word[-1] == "." else "O" for word in text.split()],
            }
            for text in texts
        ],
        "choice": [
            {"premise": text, "choice1": draw.choice(texts), "choice2": "the river", "label": draw.choice((0, 1))}
            for text in texts
        ],
    }
    for task, made in rows.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        (folder / f"{task}.jsonl").write_text(lines, encoding="utf-8")
    paragraphs = []
    for number in range(24):
        text = " ".join(sentence("en_XX", draw) for _ in range(draw.choice((1, 1, 1, 3))))
        answer = next(word for word in text.split() if word[-1] == ".")
        answers = [{"text": answer, "answer_start": text.index(answer)}]
        question = {"id": str(number), "question": "likes the market ?", "answers": answers}
        paragraphs.append({"context": text, "qas": [question]})
    squad = {"data": [{"title": "made", "paragraphs": paragraphs}]}
    (folder / "squad.json").write_text(json.dumps(squad), encoding="utf-8")
    return {task: folder / f"{task}.jsonl" for task in rows} | {"qa": folder / "squad.json"}
