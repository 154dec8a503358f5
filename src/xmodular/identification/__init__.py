"""Which language a text is in, and which language each part of a text is in."""

from xmodular.identification.chosen import Identify, OwnIdentifier, TextIdentifier, chosen_identifier, source_of
from xmodular.identification.fasttext_models import FastTextIdentifier
from xmodular.identification.identifier import THRESHOLD, Identified, Identifier
from xmodular.identification.spans import Span, SpanIdentifier, main_language

__all__ = [
    "THRESHOLD",
    "FastTextIdentifier",
    "Identified",
    "Identifier",
    "Identify",
    "OwnIdentifier",
    "Span",
    "SpanIdentifier",
    "TextIdentifier",
    "chosen_identifier",
    "main_language",
    "source_of",
]
