"""Convert checkpoints from and to other formats, and dense encoders to modular models."""

from xmodular.conversion.fairseq import Converted, convert
from xmodular.conversion.upcycling import upcycle

__all__ = ["Converted", "convert", "upcycle"]
