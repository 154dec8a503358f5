"""Why a candidate came first, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from xmodular.donor_ranking.evidence import Evidence
from xmodular.donor_ranking.ranking import Candidate
from xmodular.languages import english_name
from xmodular.text import MeasuredText

_EQUAL = 0.01  # bits per character
_LOST = 0.01  # share of the characters
_CUT = 0.8  # tokens per character: hardly more than single characters


def measured(
    candidates: Sequence[Candidate], singles: Sequence[Candidate], text: MeasuredText, language: str | None
) -> tuple[str, ...]:
    """The reasons of a ranking by bits per character.

    Args:
        candidates: all, the best start first.
        singles: the single languages, the best reader first.
        text: the sample.
        language: the text's language, if known.
    """
    first, reader = candidates[0], singles[0]
    fewest = reader.bits
    found = (
        "the vocabulary has no pieces for its script, and no language predicts its bytes better than at random"
        if first.bits_per_character is None
        else f"{first.bits:.3f} bits per character"
    )
    said = [
        f"Start from {first.name} (--init-from {first.init_from}): {found}.",
        f"If nothing is trained, read the text with {reader.name}: {fewest:.3f} bits per character"
        f"{_known(reader.evidence, language)}.",
    ]
    equal = sum(each.bits - fewest < _EQUAL for each in singles)
    if equal > 1:
        said.append(f"{equal} languages are equal to 0.01 bits: of these, the more closely related one comes first.")
    return (*said, *_of_vocabulary(text))


def unmeasured(first: Candidate, language: str | None, kind: str) -> tuple[str, ...]:
    """The reasons of a ranking without measures, of a model whose class is `kind`."""
    known = _known(first.evidence, language) or "; but nothing speaks for it"
    return (
        f"Nothing was measured, as that takes a masked-LM head and the model is an {kind}: languages are ranked by "
        "kinship, the language that the lines are taken for, script and pieces. If the model was fine-tuned from one "
        "with such a head, ask that one: it has the same adapters.",
        f"Start from {first.name} (--init-from {first.init_from}), or read the text with it{known}.",
    )


def _known(evidence: Evidence | None, language: str | None) -> str:
    """What speaks for a language besides the measure, as the end of a sentence."""
    if evidence is None:
        return ""
    known = []
    if evidence.rank == 0:
        known.append("it is the text's language")
    elif evidence.rank == 1:
        known.append(f"it is the closest relative of {english_name(language or '')}")
    elif evidence.rank is not None:
        known.append(f"it is a relative of {english_name(language or '')}")
    if evidence.read_as:
        known.append(f"{evidence.read_as:.0%} of the lines are taken for it")
    if evidence.script:
        known.append(f"{evidence.script:.0%} of the letters are in its script")
    return f"; {', '.join(known)}" if known else ""


def _of_vocabulary(text: MeasuredText) -> list[str]:
    """What the vocabulary does to the text, if it does not suit it."""
    tokens = int(text.ordinary.sum() + text.unknown.sum())
    if text.untold_share > _LOST:
        lost = f"{text.untold_share:.1%} of the characters are lost in the model's pieces"
    elif tokens > _CUT * text.characters.sum():
        lost = f"The model's vocabulary cuts the text into {tokens / text.characters.sum():.1f} pieces per character"
    else:
        return []
    return [f"{lost}: `xmodular extend --new-vocabulary` helps more than any start."]
