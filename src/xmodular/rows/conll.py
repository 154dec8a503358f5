"""Sentences of tagged words: CoNLL (one word per line, its tag last) and CoNLL-U."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from xmodular.rows.lines import decoded
from xmodular.rows.row import BadRows, DataRow

_MOST_WORDS = 2**20  # of one sentence: a file without blank lines is not to fill the memory
_SPACES = re.compile("[ \t]+")
_CONLLU_COLUMNS = 10
_HEAD = 1000  # lines of a file that show how it is to be read
_DOCUMENT = re.compile(r"#(begin|end) document\b")
_NO_WORD = re.compile(rf"-DOCSTART-(\s|$)|{_DOCUMENT.pattern}")
_NUMBER = re.compile("[0-9]{1,9}")
_BESIDE = re.compile(r"[0-9]+([-.][0-9]+)")  # several words written as one, whose words follow; a word left unsaid
_IOB = re.compile("O|[BIESLUM]-.+")
_IOB_LAST = re.compile(rf"[ \t]({_IOB.pattern})$")


@dataclass
class _Sentence:
    start: int = 0
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    between: list[list[str]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    problem: tuple[int, str] | None = None
    last: int = -1

    def follows(self, number: int, name: str) -> None:
        """Take the number of a word in its file: where numbers start again, a sentence begins.

        Args:
            number: of the line.
            name: the word's number as it is written.
        """
        here = int(name) if _NUMBER.fullmatch(name) else self.last + 1
        if here <= self.last:
            self.wrong(number, f"word {here} follows word {self.last}; sentences must be separated by a blank line")
        self.last = here

    def wrong(self, number: int, reason: str) -> None:
        """Record the first problem of a sentence, and drop its words."""
        self.problem = self.problem or (number, reason)
        self.words, self.tags, self.between = [], [], []


@dataclass
class _Layout:
    """The layout of a CoNLL file, from its first lines.

    Attributes:
        tabs: what separates columns: tabs, or white space.
        columns: how many there are; 0 where no line is known to have a word.
        comments: whether comments stand before sentences; else a line with a word's columns is one.
        counted: whether the first column numbers the words.
        unnamed: whether it is not known which column has the words.
        tags: the last column of lines that have a word for certain.
        iob: whether these are IOB tags.
    """

    tabs: bool = False
    columns: int = 0
    comments: bool = False
    counted: bool = False
    unnamed: bool = False
    tags: set[str] = field(default_factory=set)
    iob: bool = False

    def split(self, line: str) -> list[str]:
        return line.split("\t") if self.tabs else _SPACES.split(line.strip(" "))

    def is_comment(self, line: str, begun: bool) -> bool:
        """Whether a line that is not blank has no word.

        Args:
            line: without its end.
            begun: whether words of its sentence stand before it.
        """
        if _NO_WORD.match(line):
            return True
        if not line.startswith("#"):
            return False
        if self.counted or self.unnamed:
            return True
        parts = self.split(line)
        spaced = line[1:2] in (" ", "\t")
        if len(parts) != self.columns:
            return spaced or (self.comments and not begun)
        return (self.comments or self.iob) and not begun and spaced and not self.has_tag(parts)

    def has_tag(self, parts: Sequence[str]) -> bool:
        """Whether the last column, of as many as words have, is a tag that words have too."""
        return self.columns == 1 or parts[-1] in self.tags or _IOB.fullmatch(parts[-1]) is not None

    def wrong(self, parts: Sequence[str], line: str) -> str:
        """What is wrong with a line that should have a word, if anything."""
        if len(parts) != self.columns:
            wanted = (
                "a word" if self.columns == 1 else "word and tag" if self.columns == 2 else f"{self.columns} columns"
            )
            separated = "" if self.columns == 1 else f", separated by {'tabs' if self.tabs else 'spaces'}"
            found = "this one has 1 column" if len(parts) == 1 else f"this one has {len(parts)} columns"
            return f"a line is {wanted}{separated}, as at the file's beginning; {found}: {line:.60}"
        if self.counted and not _NUMBER.fullmatch(parts[0]):
            return f"the first column numbers the words, as at the file's beginning; here it is {parts[0]!r:.60}"
        return ""


def conll(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[DataRow]:
    """``{"words": [...], "tags": [...]}`` per sentence; sentences are separated by blank lines.

    The first column is the word, the last the tag; those between are lists too, ``column2`` and so on. With one column
    there are no tags. The first line with a word determines the number of columns, and whether tabs or spaces separate
    them. If the first column numbers the words (from 0 or 1, or through the whole file), or is a document's name
    as in CoNLL-2012, the meaning of the columns is unknown: all are ``column1`` and so on.

    Lines that begin with ``-DOCSTART-``, ``#begin document`` or ``#end document`` are skipped, and so are comments:
    lines beginning with "#" and a space or tab that have another number of columns than words, or whose last column is
    no tag, before a sentence of a file that has comments before its first word or IOB tags; and all lines beginning
    with "#" where words are numbered.
    """
    decoded = _decoded(file)
    head = list(islice(decoded, _HEAD))
    layout = _layout(head)
    sentence = _Sentence()
    for number, line, reason in chain(head, decoded):
        if not reason and not line.strip(" "):
            yield from _ended(sentence, place, language, bad, unnamed=layout.unnamed)
            sentence = _Sentence()
            continue
        if not reason and layout.is_comment(line, begun=bool(sentence.start)):
            continue
        sentence.start = sentence.start or number
        parts = layout.split(line)
        if not reason and layout.counted and _BESIDE.fullmatch(parts[0]):
            continue
        if reason := reason or layout.wrong(parts, line):
            sentence.wrong(number, reason)
        else:
            if layout.comments:
                layout.tags.add(parts[-1])
            if layout.counted:
                sentence.follows(number, parts[0])
            _add(sentence, number, parts[0], parts[-1] if layout.columns > 1 else None, parts[1:-1])
    yield from _ended(sentence, place, language, bad, unnamed=layout.unnamed)


def _layout(head: Sequence[tuple[int, str, str]]) -> _Layout:
    """The layout of a file with these first lines."""
    lines = [line for _, line, reason in head if not reason and not _NO_WORD.match(line)]
    sure = [line for line in lines if line.strip(" ") and not line.startswith("#")]
    # A file may begin with the word "#", or have no other.
    first = next(iter(sure), next((line for line in lines if line.startswith("#") and _IOB_LAST.search(line)), None))
    if first is None:
        return _Layout()
    layout = _Layout(tabs="\t" in first)
    layout.columns = len(layout.split(first))
    alike = [parts for line in sure if len(parts := layout.split(line)) == layout.columns]
    layout.tags = {parts[-1] for parts in alike} if layout.columns > 1 else set()
    layout.iob = bool(layout.tags) and all(_IOB.fullmatch(tag) for tag in layout.tags)
    documents = any(_DOCUMENT.match(line) for _, line, reason in head if not reason)
    sentences = _sentences(lines, layout)
    layout.counted = _numbered(sentences, 0, layout.columns)
    named = layout.columns > 3 and _numbered(sentences, 2, layout.columns)
    constant = all(len({parts[0] for parts in sentence}) == 1 for sentence in sentences)
    layout.unnamed = layout.counted or (named and constant and (documents or any(len(each) > 1 for each in sentences)))
    for line in lines[: lines.index(first)]:
        if line.startswith("#"):
            parts = layout.split(line)
            alone = line[1:2] in (" ", "\t") and not layout.has_tag(parts)
            layout.comments |= len(parts) != layout.columns or alone
    return layout


def _sentences(lines: Sequence[str], layout: _Layout) -> list[list[list[str]]]:
    """The columns of lines that have a word for certain, sentence by sentence."""
    found: list[list[list[str]]] = [[]]
    for line in lines:
        if not line.strip(" "):
            found.append([])
        elif not line.startswith("#") and len(parts := layout.split(line)) == layout.columns:
            found[-1].append(parts)
    return [sentence for sentence in found if sentence]


def _numbered(sentences: Sequence[Sequence[Sequence[str]]], column: int, columns: int) -> bool:
    """Whether a column numbers the words of most sentences, from 0 or 1 in each or right through all of them.

    With two columns, the numbers may be words with tags; so it takes two sentences whose numbers start again.
    """
    good = anew = longest = last = count = 0
    for sentence in sentences:
        found = [parts[column] for parts in sentence if not _BESIDE.fullmatch(parts[column])]
        if not found or not all(_NUMBER.fullmatch(number) for number in found):
            count += 1
            continue
        for numbers in _runs([int(number) for number in found]):
            count += 1
            if numbers[0] in (0, 1, last + 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
                good += 1
                anew += numbers[0] in (0, 1)
                longest = max(longest, len(numbers))
            last = numbers[-1]
    return 2 * good > count and (columns > 2 or (columns == 2 and anew > 1 and longest > 1))


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers, split where they start again: a blank line may be missing there."""
    runs = [[numbers[0]]]
    for number in numbers[1:]:
        if number in (0, 1) and number <= runs[-1][-1]:
            runs.append([])
        runs[-1].append(number)
    return runs


def conllu(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[DataRow]:
    """``{"words": [...], "tags": [...]}`` per sentence from the columns FORM and UPOS, with ``id`` if it has one.

    Multiword tokens, whose words follow, and empty nodes are skipped. If no word has a part of speech, there are no
    tags. https://universaldependencies.org/format.html
    """
    sentence = _Sentence()
    for number, line, reason in _decoded(file):
        if not reason and not line.strip(" "):
            yield from _ended(sentence, place, language, bad, no_tag="_")
            sentence = _Sentence()
            continue
        if line.startswith("#") and not reason:
            key, is_pair, value = line[1:].partition("=")
            if is_pair and key.strip() == "sent_id":
                sentence.more["id"] = value.strip()
            continue
        sentence.start = sentence.start or number
        parts = line.split("\t")
        if reason:
            sentence.wrong(number, reason)
        elif len(parts) != _CONLLU_COLUMNS:
            sentence.wrong(number, f"CoNLL-U has 10 columns, separated by tabs; this line has {len(parts)}: {line:.60}")
        elif "-" not in parts[0] and "." not in parts[0]:
            sentence.follows(number, parts[0])
            _add(sentence, number, parts[1], parts[3])
    yield from _ended(sentence, place, language, bad, no_tag="_")


def _decoded(file: Any) -> Iterator[tuple[int, str, str]]:
    # Files that were put together have several byte order marks.
    return ((number, line.lstrip("\ufeff"), wrong) for number, line, wrong in decoded(file))


def _add(sentence: _Sentence, number: int, word: str, tag: str | None, between: Sequence[str] = ()) -> None:
    if sentence.problem:
        return
    if not word.strip():
        sentence.wrong(number, "the word is empty")
    elif tag is not None and not tag.strip():
        sentence.wrong(number, "the tag is empty")
    elif len(sentence.words) == _MOST_WORDS:
        sentence.wrong(number, f"a sentence of more than {_MOST_WORDS:,} words; blank lines separate sentences")
    else:
        sentence.words.append(word)
        sentence.between.append(list(between))
        if tag is not None:
            sentence.tags.append(tag)


def _ended(
    sentence: _Sentence,
    place: str,
    language: str | None,
    bad: BadRows,
    no_tag: str | None = None,
    *,
    unnamed: bool = False,
) -> Iterator[DataRow]:
    """The row of a complete sentence; none for a sentence without lines."""
    if sentence.problem:
        number, reason = sentence.problem
        bad.report(f"{place}:{number}", reason)
        return
    here = f"{place}:{sentence.start}"
    untagged = sentence.tags.count(no_tag) if no_tag else 0
    if 0 < untagged < len(sentence.tags):
        bad.report(here, f"{untagged} of {len(sentence.tags)} words have no tag")
    elif sentence.words:
        tags = {"tags": sentence.tags} if sentence.tags and not untagged else {}
        between = dict(enumerate(map(list, zip(*sentence.between, strict=True)), start=2))
        if unnamed:
            columns = {1: sentence.words, **between, len(between) + 2: sentence.tags}
            yield DataRow({f"column{number}": values for number, values in columns.items()}, here, language)
            return
        more = {f"column{number}": values for number, values in between.items()}
        yield DataRow({**sentence.more, "words": sentence.words, **tags, **more}, here, language)
    elif sentence.start:
        bad.report(here, "the sentence has no words")
