"""These models in transformers' own doors: its Auto classes and pipelines."""

from xmodular.registration.auto import register

__all__ = ["register"]
