"""Tagging: a label for every word, such as entities (IOB2) or parts of speech.

An example's first text is the sentence, to which the positions of spans refer; the words follow.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xmodular.tasks.breakdown import Breakdown, breakdown
from xmodular.tasks.task import Encoding, Example, Outputs, Prediction, Room, Stretch, Task, label_id, softmax
from xmodular.tasks.text_fields import listed, no_list, text_of
from xmodular.tasks.tokens import special_tokens_of, windows, words_of

# The universal parts of speech, universaldependencies.org.
UPOS = tuple("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())  # noqa: SIM905

# Han and kana with their punctuation, full-width punctuation too.
_SINGLE = (
    "\u2e80-\u2fdf\u3001-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff0f"
    "\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\U00016fe0-\U00018aff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_MARKS = "\u0300-\u036f\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"  # of the character before
_WORDS = re.compile(rf"[{_SINGLE}][{_MARKS}]*|[^\s{_SINGLE}]+")
_UNSPACED = {
    script: re.compile(f"[{letters}]+")
    for script, letters in {
        "Thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
        "Lao": "\u0e81-\u0ecd\u0edc-\u0edf",
        "Tibetan": "\u0f40-\u0fbc",
        "Burmese": "\u1000-\u103f\u1050-\u108f\ua9e0-\ua9ef\uaa60-\uaa7f",
        "Khmer": "\u1780-\u17d3\u17dc",
        "Tai": "\u1950-\u19c9\u1a20-\u1a7c",
        "Javanese": "\ua980-\ua9c0",
    }.items()
}

_IGNORED = "-100"  # in data sets whose tags are the labels of tokens


def parse(values: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The sentence, its words, and the tags. A ``text`` without words is split (see `split`) and has no tags."""
    given, gold = listed(values.get("words")), listed(values.get("tags"))
    if given is None:
        if "text" not in values:
            raise ValueError(
                "there are no 'words', and no 'text' to split into words; name the column with --columns words=<column>"
            )
        if gold is not None:
            raise ValueError("tags need 'words', a list, but there are none.")
        text = text_of(values, "text")
        return (text, *split(text)), None
    words = _strings(given, "words")
    if not words:
        raise ValueError("'words' is empty; a row needs at least one.")
    if gold is None:
        return (" ".join(words), *words), None
    tags = _strings(gold, "tags")
    if len(tags) != len(words):
        raise ValueError(f"there are {len(words)} words but {len(tags)} tags.")
    return (" ".join(words), *words), tags


def split(text: str) -> list[str]:
    """The words of a text, as far as they can be found without knowing its language.

    White space separates words; each Chinese or Japanese character is a word.

    Raises:
        ValueError: it has letters of another script without spaces, such as Thai.
    """
    for script, letters in _UNSPACED.items():
        if found := letters.search(text):
            raise ValueError(
                f"'text' has {script} letters ({found[0]!r:.60}), which are written without spaces between "
                "words: give 'words', a list."
            )
    return _WORDS.findall(text)


def _strings(given: Any, field: str) -> tuple[str, ...]:
    if not isinstance(given, list | tuple):
        raise no_list(field, given)
    for each in given:
        if isinstance(each, bool) or not isinstance(each, (str, int) if field == "tags" else str):
            raise ValueError(f"{field!r} contains {each!r:.60}, which is not a text.")
        if not str(each).strip():
            raise ValueError(f"{field!r} contains an empty one.")
        if field == "tags" and str(each).strip() == _IGNORED:
            raise ValueError(f"'tags' contains {_IGNORED}, which means no tag; every word needs one.")
    return tuple(str(each).strip() if field == "tags" else each for each in given)


def label_names(examples: Sequence[Example]) -> list[str]:
    """The tags, completed: all 17 for universal parts of speech, B- and I- of every type and O for IOB2."""
    names = {tag for example in examples for tag in example.gold}
    if names <= set(UPOS):
        return list(UPOS)
    if _is_iob(names):
        types = sorted({name[2:] for name in names if name != "O"})
        return ["O", *(f"{begin}-{kind}" for kind in types for begin in "BI")]
    return sorted(names)


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], labels: Sequence[str], room: Room
) -> list[Encoding]:
    """The words' tokens between ``<s>`` and ``</s>``, for a long sentence in several windows.

    A word's label is at its first token, in the one window where that token has the most context on both sides.
    `Encoding.places` are (word, position) pairs of the words whose labels come from a window.
    """
    frame = special_tokens_of(tokenizer, 1)
    encodings = []
    label_ids = {name: index for index, name in enumerate(labels)}
    for index, (example, tokens) in enumerate(
        zip(examples, words_of(tokenizer, [example.texts[1:] for example in examples]), strict=True)
    ):
        gold = None
        if example.gold is not None:
            gold = [label_ids[tag] if tag in label_ids else label_id(example, tag, labels) for tag in example.gold]
        firsts: dict[int, int] = {}  # token by word, both in order
        for position, word in enumerate(tokens.word_ids):
            if word is not None:
                firsts.setdefault(word, position)
        ids = tokens.ids  # a copy each time
        words, positions = list(firsts), list(firsts.values())
        parts = windows(len(ids), room.max_length - frame.size, room.stride)
        for (start, end), share in zip(parts, _shares(parts), strict=True):
            first, last = (bisect_left(positions, edge) for edge in share)
            if start and first == last:  # the inside of one very long word
                continue
            moved = len(frame.before) - start
            places = tuple((words[place], positions[place] + moved) for place in range(first, last))
            target = None if gold is None else {position: gold[word] for word, position in places}
            types, stretches = (frame.types(end - start),), ((Stretch(len(frame.before), 0, start, end),),)
            sequence = frame.around(ids[start:end])
            encodings.append(Encoding(index, (sequence,), target, places, types=types, stretches=stretches))
    return encodings


def _shares(parts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The part of each window that is used: up to the middle of its overlap with its neighbours."""
    edges = [(right[0] + left[1]) // 2 for left, right in pairwise(parts)]
    return zip([0, *edges], [*edges, parts[-1][1]], strict=True)


def targets(encodings: Sequence[Encoding], longest: int) -> dict[str, Tensor]:
    """Label ids (batch, longest) at first tokens, -100 elsewhere."""
    labels = torch.full((len(encodings), longest), -100)
    for row, encoding in zip(labels, encodings, strict=True):
        if encoding.target:
            row[torch.tensor(list(encoding.target))] = torch.tensor(list(encoding.target.values()))
    return {"labels": labels}


def columns(labels: Sequence[str]) -> dict[str, Any]:
    """A tag a word with its probability, for IOB2 also spans; the probabilities of all tags a word."""
    found = {"type": "", "start": 0, "end": 0, "text": "", "score": 0.0}
    spans = {"spans": [found]} if _is_iob(set(labels)) else {}
    return {"tags": [""], "scores": [0.0], **spans, "probabilities": [dict.fromkeys(labels, 0.0)]}


def decode(example: Example, outputs: Outputs, labels: Sequence[str]) -> dict[str, Any]:
    """The most probable tag of each word with its probability; for IOB2 also the spans.

    A word that the tokenizer drops (control characters) gets O, X or the first label, with score 0. A span's
    score is the lowest of its words' scores; its positions are characters of the sentence.
    """
    words = example.texts[1:]
    nothing = next((name for name in ("O", "X") if name in labels), labels[0])
    tags, scores = [nothing] * len(words), [0.0] * len(words)
    for encoding, logits in outputs:
        if not encoding.places:
            continue
        at = logits[[position for _, position in encoding.places]].astype(np.float64)
        best = at.argmax(-1)
        probabilities = 1 / np.exp(at - at.max(-1, keepdims=True)).sum(-1)
        for (word, _), label, probability in zip(encoding.places, best, probabilities, strict=True):
            tags[word], scores[word] = labels[label], float(probability)
    answer: dict[str, Any] = {"tags": tags, "scores": scores}
    if _is_iob(set(labels)):
        places = word_places(example.texts)
        answer["spans"] = [
            {
                "type": kind,
                "start": places[first][0],
                "end": places[last][1],
                "text": example.texts[0][places[first][0] : places[last][1]],
                "score": min(scores[first : last + 1]),
            }
            for kind, first, last in spans(tags)
        ]
    return answer


def probabilities(example: Example, outputs: Outputs, labels: Sequence[str]) -> list[dict[str, float] | None]:
    """The probability of each tag, word by word; None for words that the tokenizer drops."""
    found: list[dict[str, float] | None] = [None] * (len(example.texts) - 1)
    for encoding, logits in outputs:
        for word, position in encoding.places:
            found[word] = dict(zip(labels, softmax(logits[position]).tolist(), strict=True))
    return found


def word_places(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Where each word begins and ends in the sentence: the first of the texts, the others being its words."""
    sentence, *words = texts
    places = []
    cursor = 0
    for word in words:
        start = sentence.index(word, cursor)
        places.append((start, start + len(word)))
        cursor = start + len(word)
    return places


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first and last word of the spans in IOB2 tags.

    An ``I-`` that does not continue a span of its type begins one, as in CoNLL (Tjong Kim Sang and Buchholz
    2000) and in seqeval. So do equal tags of another form, which files may have but IOB2 models never predict.
    """
    found: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags):
        if tag == "O":
            continue
        iob = tag[:2] in ("B-", "I-")
        kind = tag[2:] if iob else f"?{tag}"  # which no prediction may equal
        if tag[:2] != "B-" and found and found[-1][0] == kind and found[-1][2] == place - 1:
            found[-1] = (kind, found[-1][1], place)
        else:
            found.append((kind, place, place))
    return found


def statistics(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> np.ndarray:
    """Words and right words of each sentence; for IOB2 also spans, predicted spans and right spans.

    Gold tags that the model lacks count as missed words and spans.
    """
    iob = _is_iob(set(labels))
    rows = []
    for example, prediction in zip(examples, predictions, strict=True):
        gold, predicted = example.gold, prediction["tags"]
        row = [len(gold), sum(a == b for a, b in zip(gold, predicted, strict=True))]
        if iob:
            true, found = set(spans(gold)), set(spans(predicted))
            row += [len(true), len(found), len(true & found)]
        rows.append(row)
    return np.array(rows, dtype=float)


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Span F1 with precision and recall if tags are IOB2 (micro-averaged, exact spans), and word accuracy."""
    accuracy = sums[..., 1] / np.maximum(sums[..., 0], 1)
    if not _is_iob(set(labels)):
        return {"accuracy": accuracy}
    true, found, right = sums[..., 2], sums[..., 3], sums[..., 4]
    return {
        "F1": 2 * right / np.maximum(true + found, 1),
        "precision": right / np.maximum(found, 1),
        "recall": right / np.maximum(true, 1),
        "accuracy": accuracy,
    }


def by_label(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> Breakdown:
    """Spans by type if tags are IOB2, confused if only the type differs; otherwise words by tag."""
    rows = [(example.gold, each["tags"]) for example, each in zip(examples, predictions, strict=True)]
    if not _is_iob(set(labels)):
        return breakdown("words", (pair for gold, said in rows for pair in zip(gold, said, strict=True)), labels)
    pairs: list[tuple[str | None, str | None]] = []
    for gold, said in rows:
        there, found = ({(first, last): kind.lstrip("?") for kind, first, last in spans(tags)} for tags in (gold, said))
        pairs += [(there.get(ends), found.get(ends)) for ends in {**there, **found}]
    return breakdown("spans", pairs, list(dict.fromkeys(name[2:] for name in labels if name != "O")))


def guesses(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, Sequence[Prediction] | dict[str, float]]:
    """Two guesses: always the most frequent tag of the file, and a random one of the model's for every word."""
    counts = Counter(tag for example in examples for tag in example.gold)
    commonest = counts.most_common(1)[0][0]
    drawn = sum(counts[tag] for tag in set(labels)) / counts.total() / len(labels)
    constant = [{"tags": [commonest] * len(example.gold)} for example in examples]
    return {"majority": constant, "uniform": {"accuracy": drawn}}


def _is_iob(names: set[str]) -> bool:
    return any(name != "O" for name in names) and all(name == "O" or name[:2] in ("B-", "I-") for name in names)


TAG = Task(
    name="tag",
    architecture="XmodForTokenClassification",
    fields={
        "words": ("words", "tokens"),
        "text": ("text", "sentence"),
        "tags": ("tags", "ner_tags", "pos_tags", "upos", "labels"),
    },
    parse=parse,
    label_names=label_names,
    encode=encode,
    targets=targets,
    columns=columns,
    decode=decode,
    statistics=statistics,
    metrics=metrics,
    guesses=guesses,
    does="gives each word of a sentence a tag",
    pipeline="token-classification",
    aliases="ner pos upos tagging token-classification entities sequence-labeling sequence-labelling",
    telling=("words", "tokens"),
    sample={"text": "..."},
    in_windows=True,
    of_words=True,
    alternatives=(("words",), ("text",)),
    breakdown=by_label,
    probabilities=probabilities,
)
