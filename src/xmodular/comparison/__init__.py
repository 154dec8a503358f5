"""Compare two models or packs part by part, bit by bit: the proof that nothing else changed.

Adding, installing, removing or training a language leaves all others as they were, and fine-tuning leaves embeddings
and adapters as they were. `diff` reads both sides tensor by tensor and reports what is identical.
"""

from xmodular.comparison.certificate import PARTS, Certificate, Change, FieldChange, Part
from xmodular.comparison.compare import diff

__all__ = ["PARTS", "Certificate", "Change", "FieldChange", "Part", "diff"]
