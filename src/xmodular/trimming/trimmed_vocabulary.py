"""One vocabulary of a model: which of its pieces stay, checked and measured on text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.console import progress
from xmodular.errors import DataError, NoTextError
from xmodular.text.text_files import TextFiles
from xmodular.text.tokenising import steps
from xmodular.trimming.kept_pieces import Reader, Use, covering, safe_ids, script_ids
from xmodular.trimming.trim_report import Reading
from xmodular.trimming.trimmed_tokenizer import backend_of, content_of, like, needed, rewritten

HELD_OUT = 0.05  # share of the lines, without other text to measure on
MOST_HELD_OUT = 20_000  # lines of a language


@dataclass
class Cut:
    """How lines are cut by a tokenizer, and by a trimmed one.

    Attributes:
        lines, words, characters: how many there are; words are parted by white space.
        same: how many lines have the very same pieces.
        pieces: how many pieces there are, before and after.
        unknown: how many of them are unknown.
        different: the first line with other pieces, if there is one.
    """

    lines: int = 0
    words: int = 0
    characters: int = 0
    same: int = 0
    pieces: tuple[int, int] = (0, 0)
    unknown: tuple[int, int] = (0, 0)
    different: str | None = None

    @classmethod
    def of(
        cls,
        full: Reader,
        trimmed: Reader,
        order: Sequence[int],
        lines: Iterable[str],
        advance: Callable[[int], None] = lambda lines: None,
    ) -> Cut:
        """Compare two tokenizers on some lines.

        Args:
            full: with all pieces.
            trimmed: with some of them.
            order: the id in `full` of each piece of `trimmed`.
            lines: the text.
            advance: called with the number of lines done since the last call.
        """
        found, ids = cls(), np.array(order)
        for block, _ in steps([line] for line in lines):
            for line, before, after in zip(block, full(block), trimmed(block), strict=True):
                now = ids[after].tolist() if after else []
                if before == now:
                    found.same += 1
                elif found.different is None:
                    found.different = line
                found.pieces = found.pieces[0] + len(before), found.pieces[1] + len(now)
                found.unknown = (
                    found.unknown[0] + before.count(full.unknown),
                    found.unknown[1] + now.count(full.unknown),
                )
                found.words += len(line.split())
                found.characters += len(line)
            found.lines += len(block)
            advance(len(block))
        return found

    def reading(self, unseen: Cut) -> Reading:
        """The report on a language whose text is cut so, with how unseen text is cut."""
        is_measured, both = bool(unseen.lines), (unseen.characters, unseen.characters)
        return Reading(
            lines=self.lines,
            words=self.words,
            same=self.same / self.lines,
            held_out_lines=unseen.lines,
            held_out_words=unseen.words,
            held_out_same=unseen.same / unseen.lines if is_measured else None,
            pieces_per_word=_shares(unseen.pieces, (unseen.words, unseen.words)) if is_measured else None,
            characters_per_piece=_shares(both, unseen.pieces) if is_measured else None,
            unknown=_shares(unseen.unknown, unseen.pieces) if is_measured else None,
        )


def _shares(counts: tuple[int, int], totals: tuple[int, int]) -> tuple[float, float]:
    return counts[0] / max(1, totals[0]), counts[1] / max(1, totals[1])


@dataclass
class TrimmedVocabulary:
    """A vocabulary, and what stays of it once `choose` has been called.

    Attributes:
        owner: the language that it belongs to; None if it is the shared one.
        languages: those that it reads.
        tokenizer: with all pieces.
        pad: the id of the padding.
        named: ids that the configuration names.
        min_count: how often the text must use a piece for it to stay.
        coverage: share of the pieces in a language's text, as often as they are there, for which the most frequent
            ones stay; 1: all.
        trimmed: the tokenizer with the pieces that stay.
        order: the old id of each.
        readings: how the text of each language is cut.
    """

    owner: str | None
    languages: Sequence[str]
    tokenizer: PreTrainedTokenizerFast
    pad: int
    named: set[int]
    min_count: int
    coverage: float
    trimmed: PreTrainedTokenizerFast = field(init=False)
    order: list[int] = field(init=False)
    readings: dict[str, Reading] = field(default_factory=dict)

    def choose(self, texts: Mapping[str, TextFiles], held_out: Mapping[str, TextFiles], scripts: Sequence[str]) -> None:
        """Choose the pieces that stay, and measure how text is cut with them.

        Args:
            texts: text by language. Where nothing is held out, a share of it is, for measuring: those lines are
                measured with a tokenizer of the other lines' pieces, which then get those of the held-out lines too.
            held_out: other text to measure on, by language.
            scripts: those of which all pieces stay.

        Raises:
            NoTextError: a language has no text in its files.
            DataError: a line would be cut otherwise than before, although all of its pieces stay.
        """
        reader = Reader(self.tokenizer)
        rest = used = reader.use([])
        frequent: tuple[set[int], set[int]] = (set(), set())  # of the lines to choose from, and of all
        with progress("Reading text", None) as advance:
            for code, text in texts.items():
                parts = [text] if held_out else [replace(text, part="train"), replace(text, part="dev")]
                found = [reader.use(part, advance) for part in parts]
                rest, used = rest + found[0], functools.reduce(Use.__add__, found, used)
                whole = functools.reduce(Use.__add__, found)
                for ids, use in zip(frequent, (found[0], whole), strict=True):
                    ids.update(covering(use.counts, self.coverage))
                if not any(part.lines for part in found):
                    raise NoTextError(f"No text for {code} in {', '.join(map(str, text.files))}: {text.counts}.")
        self.trimmed, self.order = self._with(used, frequent[1], scripts)
        final = measuring = Reader(self.trimmed), self.order
        if texts and not held_out:
            without, order = self._with(rest, frequent[0], scripts)
            measuring = Reader(without), order
        with progress("Checking text", used.lines) as advance:
            for code, text in texts.items():
                all_lines = Cut.of(reader, *final, text, advance)
                if all_lines.different is not None and self.min_count == 1 and self.coverage == 1:
                    raise DataError(
                        f"The tokenizer cannot be trimmed: {all_lines.lines - all_lines.same:,} of "
                        f"{all_lines.lines:,} lines of {code} would be cut otherwise, as {all_lines.different!r:.200}."
                    )
                other = held_out.get(code) if held_out else replace(text, part="dev")
                unseen = Cut.of(reader, *measuring, islice(other or (), MOST_HELD_OUT))
                self.readings[code] = all_lines.reading(unseen)

    def _with(self, use: Use, frequent: set[int], scripts: Sequence[str]) -> tuple[PreTrainedTokenizerFast, list[int]]:
        """The tokenizer with the frequent pieces of a text and those that stay in any case, and their old ids."""
        backend = self.tokenizer.backend_tokenizer
        content = content_of(backend)
        ids = frequent & set((use.counts >= self.min_count).nonzero()[0].tolist())
        ids |= {*safe_ids(backend, use.characters), *self.named}
        if scripts:
            ids |= script_ids(backend, scripts)
        made, order = rewritten(content, needed(content, ids), self.pad)
        return like(self.tokenizer, backend_of(made, order, content)), order
