"""Sentence embeddings: vectors of texts, each read by the adapter of its language."""

from typing import Any

from xmodular.embeddings.embedder import Embedder
from xmodular.embeddings.embedding_rows import embed
from xmodular.embeddings.mteb_encoder import MtebEncoder
from xmodular.embeddings.sentence_model import sentence_transformer

__all__ = ["Embedder", "LanguageCollator", "MtebEncoder", "embed", "sentence_transformer"]


def __getattr__(name: str) -> Any:
    if name != "LanguageCollator":
        raise AttributeError(f"module 'xmodular.embeddings' has no attribute {name!r}")
    from xmodular.embeddings.modular_transformer import LanguageCollator  # needs sentence-transformers

    return LanguageCollator
