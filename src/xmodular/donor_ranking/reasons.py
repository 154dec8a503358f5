"""Why a candidate came first, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from xmodular.donor_ranking.ranking import Candidate
from xmodular.languages import english_name
from xmodular.text import MeasuredText

_EQUAL = 1e-4  # bits per character
_LOST = 0.01  # share of the characters
_CUT = 0.8  # tokens per character: hardly more than single characters


def measured(candidates: Sequence[Candidate], singles: Sequence[Candidate], text: MeasuredText) -> tuple[str, ...]:
    """The reasons of a ranking by bits per character.

    Args:
        candidates: all, the best start first.
        singles: the single languages, the best reader first.
        text: the sample.
    """
    first, reader = candidates[0], singles[0]
    said = [
        f"Start from {first.name} (--init-from {first.init_from}): {first.bits_per_character:.3f} bits per character.",
        f"Read the text with {reader.name}, if nothing is trained: {reader.bits_per_character:.3f} bits per character.",
    ]
    equal = [each for each in singles if each.bits_per_character - reader.bits_per_character < _EQUAL]
    if len(equal) > 1:
        said.append(
            f"{len(equal)} languages are equal for the text, as adapters are that were not trained yet: the more "
            "closely related one comes first."
        )
    said += _of_vocabulary(text)
    return tuple(said)


def unmeasured(first: Candidate, language: str | None) -> tuple[str, ...]:
    """The reasons of a ranking without measures."""
    evidence = first.evidence
    known = []
    if evidence is not None:
        if evidence.rank is not None:
            known.append(f"is the closest relative of {english_name(language or '')}")
        if evidence.read_as:
            known.append(f"is what {evidence.read_as:.0%} of the lines are taken for")
        if evidence.script:
            known.append(f"has the script of {evidence.script:.0%} of the letters")
    because = f": it {', '.join(known)}" if known else ", but nothing speaks for it"
    return (
        "The model has no masked-LM head, so nothing was measured: languages are ranked by kinship, the language that "
        "the lines are taken for, script and pieces.",
        f"Start from {first.name} (--init-from {first.init_from}), or read the text with it{because}.",
    )


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
