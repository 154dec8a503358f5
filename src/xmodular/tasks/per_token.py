"""The adapter of each token of a row whose language changes inside a sentence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerFast

from xmodular.tasks.places import Places
from xmodular.tasks.readers import Reading, ReadSpan
from xmodular.tasks.tag import word_places
from xmodular.tasks.task import Encoding, Example, Task
from xmodular.tasks.tokens import words_of

_Adapters = list[list[str]]  # of each text's tokens


def with_adapters(
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    examples: Sequence[Example],
    readings: Sequence[Reading],
    windows: Sequence[Sequence[Encoding]],
) -> list[list[Encoding]]:
    """The encodings of examples, with the adapter of each token.

    A token is read by the adapter of the span that its first character is in, or else of the span before. Special
    tokens, and tokens before all spans, are read by that of the row.

    Args:
        tokenizer: the tokenizer that the encodings are of.
        task: the examples' task.
        examples: the examples.
        readings: the reading of each.
        windows: the encodings of each.
    """
    if task.of_words:
        found = [_of_words(*each) for each in zip(_words(tokenizer, examples), examples, readings, strict=True)]
    else:
        texts = list(dict.fromkeys(text for example in examples for text in example.texts))
        placed = {text: one.spans for text, one in zip(texts, Places(tokenizer)(texts), strict=True)}
        found = [
            [
                adapters_at([start for start, _ in placed[text]], number, reading)
                for number, text in enumerate(each.texts)
            ]
            for each, reading in zip(examples, readings, strict=True)
        ]
    return [
        [_routed(encoding, own, reading.adapter) for encoding in encodings]
        for encodings, own, reading in zip(windows, found, readings, strict=True)
    ]


def _words(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> list[list[int | None]]:
    """The word of each token."""
    return [tokens.word_ids for tokens in words_of(tokenizer, [example.texts[1:] for example in examples])]


def _of_words(words: Sequence[int | None], example: Example, reading: Reading) -> _Adapters:
    starts = [start for start, _ in word_places(example.texts)]
    return [adapters_at([starts[word or 0] for word in words], 0, reading)]


def adapters_at(starts: Sequence[int], text: int, reading: Reading) -> list[str]:
    """The adapters of a text's tokens, which begin at these characters."""
    spans: list[ReadSpan] = [span for span in reading.spans if span.text == text]
    edges = [span.start for span in spans]
    places = (bisect_right(edges, start) - 1 for start in starts)
    return [spans[place].adapter if place >= 0 else reading.adapter for place in places]


def _routed(encoding: Encoding, adapters: _Adapters, usual: str) -> Encoding:
    if not encoding.stretches:  # a task that does not say which tokens are of which text
        return encoding
    routes = []
    for sequence, stretches in zip(encoding.sequences, encoding.stretches, strict=True):
        codes = [usual] * len(sequence)
        for at, text, first, end in stretches:
            codes[at : at + end - first] = adapters[text][first:end]
        routes.append(tuple(codes))
    return replace(encoding, adapters=tuple(routes))
