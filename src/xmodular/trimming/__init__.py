"""Trim a model to some languages and the pieces that their text needs, with equal outputs on these pieces."""

from xmodular.trimming.trim_report import Trimmed
from xmodular.trimming.trimming import trim

__all__ = ["Trimmed", "trim"]
