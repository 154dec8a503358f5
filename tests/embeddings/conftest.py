"""Dense encoders with each kind of tokenizer, and the modular models made of them, in three languages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests.kinds import dense, tokenizer_of
from tests.support import scatter_weights
from xmodular import XmodModel, upcycle

TEXTS = [
    "All human beings are born free",
    "equal",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft begabt",
    "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa.",
    "und",
]
LANGUAGES = ["en", "en", "de", "sw", "de"]


def pooled(model: PreTrainedModel, kind: str, texts: list[str], pooling: str) -> torch.Tensor:
    """The vectors of a dense encoder, one text at a time, without padding."""
    vectors = []
    for text in texts:
        ids = tokenizer_of(kind)(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids)[0][0]
        vector = states.mean(0) if pooling == "mean" else states[0]
        vectors.append(vector / vector.norm())
    return torch.stack(vectors)


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[PreTrainedModel, Path]]:
    """For each kind, the dense encoder and the folder of the modular one."""
    made = {}
    for kind in ("wordpiece", "bytes", "unigram"):
        folder = tmp_path_factory.mktemp(kind)
        model = dense(kind, "Model", folder / "dense")
        upcycle(folder / "dense", ["en", "de", "sw"], output_dir=folder / "modular")
        made[kind] = (model, folder / "modular")
    return made


@pytest.fixture(scope="session")
def different(encoders: dict[str, tuple[PreTrainedModel, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A modular encoder whose adapters differ from language to language."""
    folder = tmp_path_factory.mktemp("different")
    model = XmodModel.from_pretrained(encoders["unigram"][1])
    scatter_weights(model, 3)
    model.save_pretrained(folder)
    tokenizer_of("unigram").save_pretrained(folder)
    return folder
