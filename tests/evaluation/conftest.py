"""Small models of every task with scattered weights, and a tokenizer trained on a few sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import xmodular
from tests.support import tiny_model
from xmodular.vocabulary import train_tokenizer

LANGUAGES = ["en_XX", "de_DE", "sw_KE"]
_TEXT = {
    "en_XX": ["the doctor opens the old house", "she likes bread", "good", "bad"],
    "de_DE": ["die Ärztin öffnet das alte Haus", "sie mag Brot", "gut", "schlecht"],
    "sw_KE": ["daktari anafungua nyumba", "anapenda mkate", "nzuri", "mbaya"],
}
Maker = Callable[..., Path]


@pytest.fixture(scope="session")
def small_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer({code: lines * 20 for code, lines in _TEXT.items()}, 120, byte_fallback=False)


@pytest.fixture
def make_model(tmp_path: Path, small_tokenizer: PreTrainedTokenizerFast) -> Maker:
    """Makes a folder with a model of a class and its tokenizer."""

    def make(name: str, seed: int = 0, cls: str = "XmodForSequenceClassification", **more: Any) -> Path:
        if cls == "XmodForSequenceClassification":
            more.setdefault("id2label", {0: "calm", 1: "glad", 2: "sad"})
        source, options = more.pop("source", "en_XX"), more.pop("options", None)
        model = tiny_model(
            getattr(xmodular, cls),
            attention="sdpa",
            seed=seed,
            vocab_size=len(small_tokenizer),
            max_position_embeddings=66,
            **{"languages": LANGUAGES, **more},
        )
        model.config.task_language = source
        folder = tmp_path / name
        model.save_pretrained(folder)
        small_tokenizer.save_pretrained(folder)
        if options is not None:
            (folder / "options.json").write_text(json.dumps({"train": ["x.jsonl"], **options}))
        return folder

    return make


@pytest.fixture
def feelings(tmp_path: Path) -> Path:
    """Folder of 30 rows to classify in each of three languages."""
    folder = tmp_path / "feelings"
    folder.mkdir()
    for code, (first, second, *_) in _TEXT.items():
        words = [*first.split(), *second.split()]
        rows = [
            {"id": n, "text": " ".join(words[n % 5 : n % 5 + 1 + n % 4]), "label": ("calm", "glad", "sad")[n % 3]}
            for n in range(30)
        ]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{code}.test.jsonl").write_text(lines, encoding="utf-8")
    return folder
