"""What speaks for a language as the start for another, besides a model's measure: kinship, script, words, pieces."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.donor_ranking.text_sample import Sample, sample_of
from xmodular.errors import LanguageError
from xmodular.identification import Identifier
from xmodular.languages import Closeness, closeness, relatives, resolve_or_none
from xmodular.scripts import scripts_of, share_in
from xmodular.text import TextFiles, find_text

_MOST = 0.5  # share of the letters


@dataclass(frozen=True)
class Evidence:
    """What is known of a language of the model and the text.

    Attributes:
        closeness: to the text's language, if both are known.
        rank: its place among the relatives of the text's language, 0 for that language itself; None if it is neither.
        script: share of the text's letters that are in the language's script; None if that is unknown.
        read_as: share of the text's lines that the identifier takes for this language; None if it does not know it.
        pieces: share of the text's tokens that text in this language uses too; None without such text.
    """

    closeness: Closeness | None
    rank: int | None
    script: float | None
    read_as: float | None
    pieces: float | None

    @property
    def order(self) -> tuple[float, ...]:
        """A key that sorts the most promising language first, without any measure of a model."""
        distance = self.closeness.distance if self.closeness else math.inf
        rank = math.inf if self.rank is None else self.rank
        # A relative in another script is no help: the model reads letters.
        foreign = self.script is not None and self.script < _MOST
        return (foreign, rank, -(self.read_as or 0.0), -(self.script or 0.0), -(self.pieces or 0.0), distance)


def gathered_evidence(
    codes: Sequence[str],
    sample: Sample,
    tokenizer: PreTrainedTokenizerFast,
    *,
    language: str | None,
    reference: Path | None,
    size: int,
    text_field: str,
) -> dict[str, Evidence]:
    """The evidence for each language.

    Args:
        codes: languages of a model.
        sample: of the text.
        tokenizer: of the model.
        language: the text's language, if known.
        reference: folder with text in the languages, if there is one.
        size: bytes of that text to read, of each language.
        text_field: field or column with its text.

    Raises:
        DataError: the reference cannot be read.
    """
    related: list[str | None] = []
    if language is not None:
        related = [resolve_or_none(language, codes), *relatives(language, codes)]
    taken = _taken_for(codes, sample.lines)
    pieces = {} if reference is None else _common_pieces(codes, sample, tokenizer, reference, size, text_field)
    letters = "".join(sample.lines)
    found = {}
    for code in codes:
        try:
            script: float | None = share_in(letters, scripts_of([code]))
        except LanguageError:
            script = None
        found[code] = Evidence(
            closeness=None if language is None else closeness(language, code),
            rank=related.index(code) if code in related else None,
            script=script,
            read_as=taken.get(code),
            pieces=pieces.get(code),
        )
    return found


def _taken_for(codes: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
    """Share of the lines that the identifier takes for each language that it knows."""
    identifier = Identifier(codes)
    counts = Counter(each.language for each in identifier(lines))
    return {code: counts[code] / max(1, len(lines)) for code in identifier.known}


def _common_pieces(
    codes: Sequence[str],
    sample: Sample,
    tokenizer: PreTrainedTokenizerFast,
    reference: Path,
    size: int,
    text_field: str,
) -> dict[str, float]:
    """Share of the sample's tokens whose piece is in the text of each language."""
    files = find_text(reference)
    special = np.array(tokenizer.all_special_ids)
    tokens = sample.text.blocks[~np.isin(sample.text.blocks, special)]
    found = {}
    for code in codes:
        name = resolve_or_none(code, files)
        if name is not None:
            text = TextFiles(name, files[name], text_field=text_field)
            other = sample_of(text, tokenizer, size=size, block_size=sample.text.blocks.shape[1])
            found[code] = float(np.isin(tokens, other.text.blocks).mean()) if len(tokens) else 0.0
    return found
