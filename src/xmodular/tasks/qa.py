"""Extractive question answering: the span of a context that answers a question.

An example's texts are question and context; its gold is a list of answers, each with its first character.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xmodular.tasks.answer_match import exact_match, f1
from xmodular.tasks.places import Places
from xmodular.tasks.task import Encoding, Example, Outputs, Prediction, Room, Task
from xmodular.tasks.text_fields import IN_TABLES, listed, text_of
from xmodular.tasks.tokens import ids_of, special_tokens_of, windows

_LONGEST = 64  # tokens of an answer
_CANDIDATES = 20
_WINDOWS = 64  # decoded at once
_GUESSED_WORDS = 5
_DEPTH = 8  # tokens that share a character

Span = tuple[int, int]


def parse(values: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...] | None]:
    """Question and context, and the answers with their positions.

    Answers are SQuAD's list of objects, the Hub's object of lists, a text or a list of texts; without a position, an
    answer is at its first occurrence.
    """
    question, context = text_of(values, "question"), text_of(values, "context")
    given = values.get("answers")
    if isinstance(given, str) and given not in context:  # an answer that is found in the context is used unchanged
        given = listed(given)
    gold = tuple(_placed(context, text, start) for text, start in _answers(given))
    if "answers" in values and not gold:
        raise ValueError("'answers' is empty, as in SQuAD 2; here every question needs at least one answer.")
    return (question, context), gold or None


def _answers(given: Any) -> list[tuple[Any, Any]]:
    """Texts, and places or None."""
    if given is None:
        return []
    if isinstance(given, str):
        return [(given, None)]
    if isinstance(given, Mapping):
        if "text" not in given:
            raise ValueError(
                f"an answer needs a 'text' and an 'answer_start'; this one has {', '.join(map(str, given))}."
            )
        texts, starts = given["text"], given.get("answer_start")
        if not isinstance(texts, list | tuple):
            return [(texts, starts)]
        starts = [None] * len(texts) if starts is None else starts
        if not isinstance(starts, list | tuple) or len(texts) != len(starts):
            raise ValueError(f"there are {len(texts)} answers, but another number of positions: {starts!r:.60}.")
        return list(zip(texts, starts, strict=True))
    if not isinstance(given, list | tuple):
        raise ValueError(f"'answers' must be a list or a text; it is {given!r:.60}.")
    return [answer for each in given for answer in _answers(each)]


def _placed(context: str, text: Any, start: Any) -> tuple[str, int]:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"an answer must be a non-empty text; this one is {text!r:.60}.")
    if start is None:
        start = context.find(text)
        if start < 0:
            spelled = IN_TABLES if text.lstrip()[0] in "[{" else ""  # as str() of Python's lists and objects is no JSON
            raise ValueError(f"the answer {text!r:.60} is not in the context{spelled}.")
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"'answer_start' must be a whole number, 0 or more; it is {start!r:.60}.")
    if not context.startswith(text, start):
        there = context[start : start + len(text)]
        raise ValueError(f"the answer {text!r:.60} is not at character {start} of the context, but {there!r:.60}.")
    return text, start


def label_names(examples: Sequence[Example]) -> list[str]:
    """None."""
    return []


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], labels: Sequence[str], room: Room
) -> list[Encoding]:
    """``<s> question </s></s> context </s>``, for a long context in several windows, each with the question.

    A question longer than half the length is truncated. The target is the first and last token of the first answer: the
    smallest span of tokens that contains it; ``(0, 0)``, the first token, in a window that does not contain all of it.
    `Encoding.places` are the position of the first token of the context, and every token's characters in the context.
    """
    frame, places = special_tokens_of(tokenizer, 2), Places(tokenizer)
    free = room.max_length - frame.size
    questions = ids_of(tokenizer, [example.texts[0] for example in examples])
    contexts = places([example.texts[1] for example in examples])
    encodings = []
    for index, (example, question, (ids, spans)) in enumerate(zip(examples, questions, contexts, strict=True)):
        cut = len(question) > free // 2
        question = question[: free // 2]
        before = len(frame.before) + len(question) + len(frame.between)
        gold = None
        if example.gold is not None:
            text, start = example.gold[0]
            gold = _tokens(spans, *places.trim(example.texts[1], start, start + len(text)))
        for first, last in windows(len(ids), free - len(question), room.stride):
            target = None
            if example.gold is not None:
                inside = gold is not None and first <= gold[0] and gold[1] < last
                target = (gold[0] - first + before, gold[1] - first + before) if gold and inside else (0, 0)
            sequence = frame.around(question, ids[first:last])
            types = (frame.types(len(question), last - first),)
            stretches = (frame.stretches(len(question), last - first, first),)
            places_of = (before, tuple(spans[first:last]))
            encodings.append(Encoding(index, (sequence,), target, places_of, cut, types, stretches))
    return encodings


def _tokens(spans: Sequence[Span], start: int, end: int) -> Span | None:
    """The smallest span of tokens that covers these characters; None if none does."""
    real = [token for token, (a, b) in enumerate(spans) if a < b]
    starts = [spans[token][0] for token in real]
    after = bisect_right(starts, start)
    # One token's characters may lie within another's, so the last that begins in time need not be the one.
    covering = (place for place in range(after - 1, max(after - _DEPTH, 0) - 1, -1) if spans[real[place]][1] > start)
    first = next(covering, after)
    for token in real[first:]:
        if spans[token][1] >= end:
            return real[first], token
    return (real[first], real[-1]) if first < len(real) else None


def targets(encodings: Sequence[Encoding], longest: int) -> dict[str, Tensor]:
    """First and last token of each answer, (batch,) each, and positions that cannot be an answer, (batch, tokens).

    Answers are in the context; the first token means no answer.
    """
    pairs = torch.tensor([encoding.target for encoding in encodings])
    barred = torch.ones(len(encodings), longest, dtype=torch.bool)
    barred[:, 0] = False
    for row, encoding in zip(barred, encodings, strict=True):
        before, spans = encoding.places
        row[before : before + len(spans)] = False
    return {"start_positions": pairs[:, 0], "end_positions": pairs[:, 1], "p_mask": barred}


def columns(labels: Sequence[str]) -> dict[str, Any]:
    """An answer, its place in the context, and its score."""
    return {"answer": "", "start": 0, "end": 0, "score": 0.0}


def decode(example: Example, outputs: Outputs, labels: Sequence[str]) -> dict[str, Any]:
    """The best span of all windows, by the sum of its start and end logits.

    Its score is its share under a softmax over the 20 best spans. A context without tokens gives an empty answer.
    """
    best: dict[Span, float] = {}  # of a span that several windows hold, the highest
    for score, span in sorted(_candidates(outputs), key=lambda candidate: -candidate[0]):
        best.setdefault(span, score)
        if len(best) == _CANDIDATES:
            break
    if not best:
        return {"answer": "", "start": 0, "end": 0, "score": 0.0}
    start, end = next(iter(best))
    scores = np.array([*best.values()])
    share = 1 / np.exp(scores - scores[0]).sum()
    return {"answer": example.texts[1][start:end], "start": start, "end": end, "score": float(share)}


def _candidates(outputs: Outputs) -> list[tuple[float, Span]]:
    """The best spans of each window, of at most `_LONGEST` tokens, with their scores."""
    found: list[tuple[float, Span]] = []
    for first in range(0, len(outputs), _WINDOWS):
        part = outputs[first : first + _WINDOWS]
        places = [encoding.places[1] for encoding, _ in part]
        starts, ends = _edges(part)
        if not starts.shape[1]:
            continue
        values, begin, end = _best(starts, ends)
        good = np.isfinite(values)
        columns = (np.nonzero(good)[0], begin[good], end[good], values[good])
        for window, start, last, value in zip(*(column.tolist() for column in columns), strict=True):
            span = (places[window][start][0], places[window][last][1])
            if span[0] < span[1]:
                found.append((value, span))
    return found


def _edges(outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits of the context's tokens, (windows, tokens) each; minus infinity at impossible positions."""
    tokens = max(len(encoding.places[1]) for encoding, _ in outputs)
    edges = np.full((2, len(outputs), tokens), -np.inf)
    for window, (encoding, logits) in enumerate(outputs):
        before, spans = encoding.places
        real = np.array([start < end for start, end in spans], dtype=bool)
        edges[:, window, : len(spans)] = np.where(real, logits[before : before + len(spans)].T, -np.inf)
    return edges[0], edges[1]


def _best(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each window's best spans: scores, first and last tokens, (windows, at most `_CANDIDATES`) each.

    All of them begin at one of the tokens from which the best span has the highest scores, `_CANDIDATES` in number.
    """
    rows, tokens = np.arange(len(starts))[:, None], starts.shape[1]
    width = min(_LONGEST, tokens)
    highest, reach = ends.copy(), 1  # of the ends at a token and the next ones, `reach` in all
    while reach < width:
        step = min(reach, width - reach)
        highest[:, :-step] = np.maximum(highest[:, :-step], highest[:, step:])
        reach += step
    begin = _highest(starts + highest, _CANDIDATES)
    padded = np.concatenate([ends, np.full((len(ends), width - 1), -np.inf)], axis=1)
    reached = padded[rows[:, :, None], begin[:, :, None] + np.arange(width)]  # (windows, beginnings, tokens more)
    scores = (starts[rows, begin][:, :, None] + reached).reshape(len(starts), -1)
    chosen = _highest(scores, _CANDIDATES)
    first = begin[rows, chosen // width]
    return scores[rows, chosen], first, first + chosen % width


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of each line's highest values, in any order."""
    count = min(count, values.shape[1])
    return np.argpartition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count :]


def statistics(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> np.ndarray:
    """(rows, 3): 1, then F1 and exact match, each the best over the gold answers."""
    return _statistics(examples, predictions, [example.language for example in examples])


# The ways to normalise answers before scoring, and their descriptions.
ANSWERS = {
    "mlqa": "normalised as in MLQA, by language",
    "squad": "normalised as in SQuAD in every language, as XTREME scores XQuAD and TyDi QA",
}


def squad_statistics(
    examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]
) -> np.ndarray:
    """`statistics`, with answers normalised as in SQuAD for all languages."""
    return _statistics(examples, predictions, [None] * len(examples))


def _statistics(
    examples: Sequence[Example], predictions: Sequence[Prediction], languages: Sequence[str | None]
) -> np.ndarray:
    rows = []
    for example, prediction, language in zip(examples, predictions, languages, strict=True):
        pairs = [(prediction["answer"], text, language) for text, _ in example.gold]
        rows.append((1.0, max(f1(*pair) for pair in pairs), max(exact_match(*pair) for pair in pairs)))
    return np.array(rows)


def topic(example: Example) -> str:
    """The context, which several questions may share."""
    return example.texts[1]


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Mean F1 and share of exact matches."""
    return {"F1": sums[..., 1] / sums[..., 0], "EM": sums[..., 2] / sums[..., 0]}


def guesses(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, Sequence[Prediction] | dict[str, float]]:
    """A random guess: one to five consecutive words of the context, with a fixed seed."""
    draw = random.Random(0)
    answers = []
    for example in examples:
        words = list(re.finditer(r"\S+", example.texts[1]))
        first = draw.randrange(len(words))
        last = min(first + draw.randrange(_GUESSED_WORDS), len(words) - 1)
        start, end = words[first].start(), words[last].end()
        answers.append({"answer": example.texts[1][start:end], "start": start, "end": end})
    return {"uniform": answers}


QA = Task(
    name="qa",
    architecture="XmodForQuestionAnswering",
    fields={
        "question": ("question",),
        "context": ("context", "passage"),
        "answers": ("answers", "answer"),
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
    does="finds the answer to a question in a text",
    pipeline="question-answering",
    has_labels=False,
    aliases="question-answering squad mlqa xquad extractive-qa answers",
    telling=("question", "answers"),
    sample={"question": "...", "context": "..."},
    in_windows=True,
    topic=topic,
)
