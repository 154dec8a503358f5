"""Sentences of words with tags: CoNLL (a word a line, its tag last) and CoNLL-U."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xmodular.rows.lines import TOO_LONG, lines, not_utf8
from xmodular.rows.row import BadRows, Row

_MOST_WORDS = 2**20  # of one sentence: a file without blank lines is not to fill the memory
_SPACES = re.compile("[ \t]+")
_DOCUMENT = "-DOCSTART-"
_CONLLU_COLUMNS = 10


@dataclass
class _Sentence:
    start: int = 0
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    between: list[list[str]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    problem: tuple[int, str] | None = None

    def wrong(self, number: int, reason: str) -> None:
        """The first thing that is wrong with it counts; its words are let go."""
        self.problem = self.problem or (number, reason)
        self.words, self.tags, self.between = [], [], []


def conll(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[Row]:
    """``{"words": [...], "tags": [...]}`` per sentence; sentences are separated by blank lines.

    Columns are separated by tabs, or by spaces where the file's first line has no tab. The first is the word, the last
    the tag, those between are lists too, ``column2`` and so on; with one column there are no tags. Where the first of
    three or more counts the words, it is not known which is what, and all are ``column1`` and so on. All lines have as
    many columns as the first. Lines that begin with "# " and have another number are comments, and ``-DOCSTART-`` lines
    are left out.
    """
    tabs, columns = False, 0
    sentence = _Sentence()
    for number, line, reason in _decoded(file):
        if not reason and not line.strip(" "):
            yield from _ended(sentence, place, language, bad)
            sentence = _Sentence()
            continue
        parts = line.split("\t") if tabs or (not columns and "\t" in line) else _SPACES.split(line.strip(" "))
        if not reason and ((line.startswith("# ") and len(parts) != columns) or parts[0] == _DOCUMENT):
            continue
        if not columns and not reason:
            tabs, columns = "\t" in line, len(parts)
        sentence.start = sentence.start or number
        if reason:
            sentence.wrong(number, reason)
        elif len(parts) != columns:
            wanted = "a word" if columns == 1 else "word and tag" if columns == 2 else f"{columns} columns"
            separated = "" if columns == 1 else f", separated by {'tabs' if tabs else 'spaces'}"
            found = "this one has 1 column" if len(parts) == 1 else f"this one has {len(parts)} columns"
            sentence.wrong(number, f"a line is {wanted}{separated}, as at the file's beginning; {found}: {line:.60}")
        else:
            _add(sentence, number, parts[0], parts[-1] if columns > 1 else None, parts[1:-1])
    yield from _ended(sentence, place, language, bad)


def conllu(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[Row]:
    """``{"words": [...], "tags": [...]}`` per sentence from the columns FORM and UPOS, with ``id`` where it has one.

    Multiword tokens, whose words follow, and empty nodes are left out. Where no word has a part of speech, there are no
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
            _add(sentence, number, parts[1], parts[3])
    yield from _ended(sentence, place, language, bad, no_tag="_")


def _decoded(file: Any) -> Iterator[tuple[int, str, str]]:
    """Number, text without its line end, and what is wrong with it, if anything."""
    for number, raw in lines(file):
        if raw is None:
            yield number, "", TOO_LONG
            continue
        try:
            yield number, raw.decode("utf-8").rstrip("\r\n"), ""
        except UnicodeDecodeError as error:
            yield number, "", not_utf8(error)


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
    sentence: _Sentence, place: str, language: str | None, bad: BadRows, no_tag: str | None = None
) -> Iterator[Row]:
    """The row of a sentence that is complete; one without a line is none."""
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
        counted = len(sentence.words) > 1 and all(word == str(n) for n, word in enumerate(sentence.words, start=1))
        if between and counted:
            columns = {1: sentence.words, **between, len(between) + 2: sentence.tags}
            yield Row({f"column{number}": values for number, values in columns.items()}, here, language)
            return
        more = {f"column{number}": values for number, values in between.items()}
        yield Row({**sentence.more, "words": sentence.words, **tags, **more}, here, language)
    elif sentence.start:
        bad.report(here, "the sentence has no words")
