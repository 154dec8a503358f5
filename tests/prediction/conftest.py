"""Small models with heads and scattered weights, and a tokenizer trained on a few sentences in several scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import xmodular
from tests.support import tiny_model
from xmodular.vocabulary import train_tokenizer

LANGUAGES = ["en_XX", "de_DE", "sw_KE", "ru_RU"]
SENTENCES = {
    "en_XX": ["The doctor opens the old house by the river.", "She likes bread and the market in the morning."],
    "de_DE": ["Die Ärztin öffnet das alte Haus am Fluss.", "Sie mag Brot und den Markt am frühen Morgen."],
    "sw_KE": ["Daktari anafungua nyumba ya zamani kando ya mto.", "Anapenda mkate na soko asubuhi na mapema."],
    "ru_RU": ["Врач открывает старый дом у реки.", "Она любит хлеб и рынок рано утром."],
}
HEADS: dict[str, dict[str, Any]] = {
    "XmodForSequenceClassification": {"id2label": {0: "calm", 1: "glad", 2: "sad"}},
    "XmodForTokenClassification": {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}},
    "XmodForQuestionAnswering": {},
    "XmodForMultipleChoice": {},
    "XmodForMaskedLM": {},
}


@pytest.fixture(scope="session")
def small_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer({code: lines * 20 for code, lines in SENTENCES.items()}, 160, byte_fallback=False)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """A folder with model and tokenizer for each kind of head, and "regress"."""
    made = {}
    heads = {**HEADS, "regress": {"num_labels": 1, "problem_type": "regression"}}
    for number, (name, more) in enumerate(heads.items()):
        cls = getattr(xmodular, name if name in HEADS else "XmodForSequenceClassification")
        model = tiny_model(
            cls,
            attention="sdpa",
            seed=number,
            vocab_size=len(small_tokenizer),
            languages=LANGUAGES,
            max_position_embeddings=80,
            **more,
        )
        model.config.task_language = "en_XX"
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
        small_tokenizer.save_pretrained(made[name])
    return made


@pytest.fixture(scope="session")
def topic(folders: dict[str, Path]) -> Path:
    return folders["XmodForSequenceClassification"]
