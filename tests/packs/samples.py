"""Small packs and the model that they fit, made once."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from tests.support import tiny_model
from xmodular import XmodForMaskedLM
from xmodular.packs.manifest import checksum

OWN_ROWS = 9
CODES = ("en_XX", "de_DE", "sw_KE")
SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 20,
    "max_position_embeddings": 10,
}


def tokenizer_text() -> str:
    """A tokenizer.json with seven pieces."""
    pieces = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [("▁a", -1.0), ("b", -2.0), ("<mask>", 0.0)]
    return Tokenizer(Unigram(pieces, unk_id=3)).to_str(pretty=True)


def small_model(**over: Any) -> Any:
    """The model that the samples fit, new each time."""
    return tiny_model(XmodForMaskedLM, **{**SMALL, "languages": list(CODES), **over})


def with_own_vocabulary() -> Any:
    """The same model with a vocabulary of its own for Swahili."""
    model = small_model()
    words = model.roberta.embeddings.word_embeddings.weight[:OWN_ROWS] * 2
    model.set_vocabulary("sw_KE", tokenizer_text(), words, model.lm_head.bias[:OWN_ROWS] + 1)
    return model


@lru_cache
def samples() -> dict[str, dict[str, bytes]]:
    """Three packs as file contents by name: two languages of the base, and one with a vocabulary of its own."""
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, model, language in (
            ("german", small_model(), "de_DE"),
            ("swahili", small_model(), "sw_KE"),
            ("own", with_own_vocabulary(), "sw_KE"),
        ):
            # A code that means no language, so that it is none of those in the model.
            model.rename_language(language, code := f"my{name}")
            score = {"metric": "accuracy", "value": 0.5, "low": None, "rows": 7}
            model.save_language(code, Path(folder, name), note="made up", licence="cc0-1.0", scores=[score])
            made[name] = {path.name: path.read_bytes() for path in Path(folder, name).iterdir()}
    return made


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def content_of(sample: str) -> dict[str, Any]:
    """A sample's pack.json."""
    return json.loads(samples()[sample]["pack.json"])


def sealed(content: Any) -> bytes:
    """A pack.json whose checksum fits, whatever is in it."""
    if isinstance(content, dict):
        content = {**content, "checksum": checksum(content)}
    return json.dumps(content).encode()
