"""Checkpoints of other libraries, both ways: fairseq's."""

from xmodular.conversion.fairseq import Converted, convert

__all__ = ["Converted", "convert"]
