"""The tables that pretraining prints: sampling shares, tokens read, and validation by language."""

from __future__ import annotations

from collections.abc import Mapping

from xmodular.console import compact, console, table
from xmodular.text import LanguageBlocks, Share

_Scores = Mapping[str, Mapping[str, float]]


def print_shares(blocks: list[LanguageBlocks], shares: dict[str, Share], end: dict[str, Share] | None) -> None:
    """Size and shares of the languages, at the beginning and, if they change, at the end."""
    names = ["language", "lines", "tokens", "blocks", "natural", "sampled", "ratio"]
    if end is not None:
        names += ["sampled at the end", "ratio at the end"]
    rows = []
    for each in blocks:
        share = shares[each.language]
        cells = [
            each.language,
            f"{each.lines.kept:,}",
            f"{share.tokens:,}",
            f"{len(each.blocks):,}",
            f"{share.natural:.1%}",
        ]
        for drawn in (share, *([end[each.language]] if end is not None else [])):
            cells += [f"{drawn.drawn:.1%}", f"{drawn.ratio:.2f}"]
        rows.append(cells)
    console.print(table("Languages", names, rows, left=2))


def print_read(blocks: list[LanguageBlocks], read: dict[str, int]) -> None:
    """Tokens read in a run: draws match the shares on average, in short runs less closely than in long ones."""
    total, sizes = sum(read.values()), {each.language: int(each.lengths.sum()) for each in blocks}
    rows = [
        (code, f"{tokens:,}", f"{tokens / total:.1%}", f"{tokens / sizes[code]:.2f}") for code, tokens in read.items()
    ]
    console.print(table("Tokens read", ("language", "tokens", "share", "passes"), rows))


def print_validation(after: _Scores, before: _Scores) -> None:
    """Validation by language, next to that of the model before training, if there was one."""
    if before:
        columns = ["language", "loss before", "after", "bits per character before", "after", "<unk>"]
    else:
        columns = ["language", "loss", "perplexity", "bits per character", "accuracy", "<unk>"]
    rows = []
    for code, values in after.items():
        cells = [f"{values['loss']:.3f}"]
        bits = f"{values['bits_per_character']:.3f}"
        if before:
            was = before[code]
            cells = [f"{was['loss']:.3f}", *cells, f"{was['bits_per_character']:.3f}", bits]
        else:
            cells += [compact(values["perplexity"]), bits, f"{values['accuracy']:.1%}"]
        rows.append((code, *cells, f"{values['unknown']:.2%}"))
    console.print(table("Validation", columns, rows))
