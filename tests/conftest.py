"""A corpus of three made-up "languages" and models trained on it for a moment, made once for all tests."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything reads it: a name that is no folder is not looked up for a minute

import pytest
from transformers import PreTrainedTokenizerFast

from tests.training.nursery import Nursery
from xmodular.training import Run, finetune, pretrain
from xmodular.vocabulary import load_tokenizer

LANGUAGES = ("de_DE", "en_XX", "sw_KE")
DEVELOPMENT_DATA = Path(__file__).parents[2] / "shared" / "data"

_NOUNS = {
    "en_XX": ["the", "house", "river", "bread", "mountain", "doctor", "market"],
    "de_DE": ["das", "Haus", "Fluss", "Brot", "Gebirge", "Ärztin", "Markt"],
    "sw_KE": ["nyumba", "mto", "mkate", "mlima", "daktari", "soko"],
}
_VERBS = {
    "en_XX": ["sees", "finds", "likes", "opens", "washes"],
    "de_DE": ["sieht", "findet", "mag", "öffnet", "wäscht"],
    "sw_KE": ["anaona", "anapata", "anapenda", "anafungua", "anaosha"],
}
# Overrides that make a model small enough to train in a second.
MINIATURE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def sentence(language: str, draw: random.Random) -> str:
    """A sentence of the made-up language."""
    nouns, verbs = _NOUNS[language], _VERBS[language]
    objects = " ".join(draw.choices(nouns, k=draw.randint(1, 4)))
    return f"{draw.choice(nouns)} {draw.choice(verbs)} {objects} {draw.randint(1, 999)}."


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with text/, topic/ (label: the verb's position in its list, under or over 2) and tag/ (two tags)."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(0)
    for name in ("text", "topic", "tag"):
        (folder / name).mkdir()
    for size, language in zip((120, 400, 60), LANGUAGES, strict=True):
        lines = "".join(sentence(language, draw) + "\n" for _ in range(size))
        (folder / "text" / f"{language}.made.txt").write_text(lines, encoding="utf-8")
        verbs = _VERBS[language]
        for split in ("train", "dev", "test"):
            texts = [sentence(language, draw) for _ in range(40)]
            rows = [
                {"id": number, "text": text, "label": "rare" if verbs.index(text.split()[1]) < 2 else "common"}
                for number, text in enumerate(texts)
            ]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / "topic" / f"{language}.{split}.jsonl").write_text(lines, encoding="utf-8")
            tagged = "\n".join(
                "".join(f"{word}\t{'B-VERB' if word in verbs else 'O'}\n" for word in text.split()) for text in texts
            )
            (folder / "tag" / f"{language}.{split}.conll").write_text(tagged, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def base_run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A masked language model after six steps."""
    return pretrain(
        corpus / "text",
        output_dir=tmp_path_factory.mktemp("runs") / "base",
        vocab_size=200,
        preset="tiny",
        overrides=MINIATURE,
        dev_fraction=0.1,
        block_size=32,
        batch_size=8,
        max_steps=6,
        learning_rate=3e-3,
    )


@pytest.fixture(scope="session")
def topic_run(corpus: Path, base_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A classifier fine-tuned in English for a few steps."""
    return finetune(
        base_run.output_dir,
        corpus / "topic" / "en_XX.train.jsonl",
        language="en_XX",
        output_dir=tmp_path_factory.mktemp("runs") / "topic",
        batch_size=8,
        epochs=1,
        learning_rate=1e-3,
    )


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts `xmodular` in processes of its own."""
    made = Nursery(tmp_path_factory.mktemp("processes"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def tokenizer(base_run: Run) -> PreTrainedTokenizerFast:
    """The tokenizer of `base_run`."""
    return base_run.tokenizer


@pytest.fixture(scope="session")
def xlmr() -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer, from the development data."""
    path = DEVELOPMENT_DATA / "tokenizer" / "sentencepiece.bpe.model"
    if not path.is_file():
        pytest.skip("development data (../shared/data) is not there")
    return load_tokenizer(path)
