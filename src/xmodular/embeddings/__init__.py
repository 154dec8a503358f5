"""Sentence embeddings: vectors of texts, each read by the adapter of its language."""

from xmodular.embeddings.embedder import Embedder
from xmodular.embeddings.mteb_encoder import MtebEncoder

__all__ = ["Embedder", "MtebEncoder"]
