"""Sentence embeddings: vectors of texts, each read by the adapter of its language."""

from xmodular.embeddings.embedder import Embedder

__all__ = ["Embedder"]
