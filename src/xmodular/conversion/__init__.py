"""Checkpoints from other formats and to them, and modular models of dense encoders."""

from xmodular.conversion.fairseq import Converted, convert
from xmodular.conversion.upcycling import upcycle

__all__ = ["Converted", "convert", "upcycle"]
