"""Warnings about the data of a fine-tuning run, and about its outcome."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from xmodular.options import FinetuneOptions
from xmodular.tasks import Example, Task, guessed
from xmodular.tasks.examples import row_hashes
from xmodular.tasks.label_counts import label_counts, label_names_of, some

_FRACTION = re.compile(r"[-+]?[0-9]*[.,][0-9]*[1-9][0-9]*")
_WHOLE = re.compile(r"[-+]?[0-9]+([.,]0*)?")
_POINT_ZERO = re.compile(r"(?<=[0-9])[.,]0*$")
_MARKED = re.compile("([BIESLUM])-.+")  # M as in BMES, L and U as in BILOU
_OTHERWISE = re.compile("o|[BIESLUM][-_].+|[0-9]+", re.IGNORECASE)  # similar to IOB2, or class numbers
_AGAIN = 0.1  # a share of validation rows that are training rows
_MANY_TAGS, _WORDS_A_TAG = 50, 4  # tags, and words a tag, that make a column look like one of lemmas
_CLOSE = 0.01  # to a guess
_ITS_LOSS = 0.97  # of a guess's


def warnings_about(train: Sequence[Example], dev: Sequence[Example] | None) -> list[str]:
    """Warnings about training and validation rows, one sentence each."""
    found = [*_label_warnings(train), *_tag_warnings(train)]
    if dev is not None:
        known = set(row_hashes(train))
        again = sum(each in known for each in row_hashes(dev))
        if again >= _AGAIN * len(dev):
            found.append(
                f"{again:,} of {len(dev):,} validation rows are also training rows: their scores say little about new "
                "text."
            )
    return found


def _label_warnings(examples: Sequence[Example]) -> list[str]:
    rows = [each.gold for each in examples if isinstance(each.gold, str)]
    names = {name for each in examples for name in label_names_of(each)}
    found = []
    if 2 * len(set(rows)) > len(rows):
        found.append(
            f"There are {len(set(rows)):,} labels for {len(rows):,} rows: if the labels are in another column, "
            "name it with --columns label=<column>."
        )
    words = sum(len(label_names_of(each)) for each in examples) - len(rows)
    if words and len(names) > _MANY_TAGS and words < _WORDS_A_TAG * len(names):
        found.append(
            f"There are {len(names):,} tags for {words:,} words: if the tags are in another column, "
            "name it with --columns tags=<column>."
        )
    fractions = {name for name in names if _FRACTION.fullmatch(name)}
    if rows and fractions and all(_FRACTION.fullmatch(name) or _WHOLE.fullmatch(name) for name in names):
        found.append(
            f"The labels are numbers with fractions ({some(fractions)}), treated as separate labels: --task regress "
            "learns them as numbers."
        )
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_folded(name), []).append(name)
    if twins := [", ".join(map(repr, group)) for group in groups.values() if len(group) > 1]:
        found.append(f"Labels that differ only in spelling are treated as different labels: {'; '.join(twins)}.")
    return found


def _folded(name: str) -> str:
    """A label without case, white space and invisible characters, and 1.0 as 1."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    kept = (char for char in folded if not char.isspace() and unicodedata.category(char) != "Cf")
    return _POINT_ZERO.sub("", "".join(kept))


def _tag_warnings(examples: Sequence[Example]) -> list[str]:
    """Problems with the marks of tags, if they mark spans."""
    tagged = [each for each in examples if isinstance(each.gold, tuple) and label_names_of(each)]
    names = {tag for each in tagged for tag in each.gold} - {"O"}
    marks = {match[1] for name in names if (match := _MARKED.fullmatch(name))}
    others = {name for name in names if not _MARKED.fullmatch(name)}
    if not marks & {"B", "I"} or 2 * len(others) >= len(names):
        return _unmarked(label_counts(tagged))
    if others:
        first = next(each.place for each in tagged if others.intersection(each.gold))
        return [
            f"Some tags are neither O nor begin with B- or I-: {some(others)} (the first at {first}). The score is "
            "word accuracy, not span F1."
        ]
    faults = [(each.place, count) for each in tagged if (count := _faults(each.gold, simple=marks <= {"B", "I"}))]
    count = sum(faulty for _, faulty in faults)
    where = f"the first at {faults[0][0]}" if faults else ""
    if marks <= {"B", "I"}:
        if not count:
            return []
        return [f"{count:,} spans begin with I- instead of B- as in IOB2 ({where}); they are treated as if with B-."]
    found = ["BIOES tags are scored by word accuracy; span F1 needs IOB2."]
    if count:
        found.append(f"{count:,} tags do not match their neighbours in BIOES ({where}).")
    return found


def _unmarked(counts: Counter[str]) -> list[str]:
    """Whether tags that mark no spans look as if they should: PER with many O, B_PER, b-per, numbers."""
    names = set(counts) - {"O"}
    outside = bool(names) and counts.most_common(1)[0][0] == "O"
    spelled = bool(names) and all(_OTHERWISE.fullmatch(name) for name in names)
    if not outside and not spelled:
        return []
    return [
        f"The tags ({some(names)}) do not mark spans as B-PER and I-PER do: the score is word accuracy, not span F1."
    ]


def _faults(tags: Sequence[str], *, simple: bool) -> int:
    """How many tags do not follow from the one before: in IOB2, or in BIOES, BILOU and BMES."""
    count, inside = 0, ""  # the type of the open span
    for tag in (*tags, "O"):
        mark, kind = ("O", "") if tag == "O" else (tag[0], tag[2:])
        goes_on = mark in "IELM"
        count += (inside != kind) if goes_on else (bool(inside) and not simple)
        inside = kind if mark in "BIM" else ""
    return count


def learned_nothing(
    task: Task,
    train: Sequence[Example],
    dev: Sequence[Example] | None,
    labels: Sequence[str],
    metrics: Mapping[str, Any],
    options: FinetuneOptions,
) -> str | None:
    """A warning if a run is no better than a guess; None if it is better.

    Args:
        task: the task.
        train: its training rows.
        dev: its validation rows, which decide if there are any; otherwise the training loss decides.
        labels: the model's.
        metrics: the final ``train_loss``, in nats, and the validation scores as ``dev``.
        options: of the run.
    """
    longer, now = ("--epochs", options.epochs) if options.max_steps is None else ("--max-steps", options.max_steps)
    advice = (
        f"Raise --learning-rate (it was {options.learning_rate:g}) or {longer}{'' if now is None else f' ({now:g})'}."
    )
    if dev is not None:
        name, guess, value = _best_guess(task, dev, labels)
        scores = metrics["dev"]
        if not value or any(scores.get(metric, math.inf) > value[metric] + _CLOSE for metric in list(value)[:2]):
            return None
        return (
            f"Validation shows no learning: {name} is {scores[name]:.3f}; {guess} would give {value[name]:.3f}. "
            f"{advice}"
        )
    loss, of_a_guess = metrics["train_loss"], _entropy(train)
    if not of_a_guess or loss < _ITS_LOSS * of_a_guess:
        return None
    return (
        f"Little or nothing was learned: the final training loss is {loss:.3f}, and guessing would give "
        f"{of_a_guess:.3f}. {advice}"
    )


def _best_guess(task: Task, examples: Sequence[Example], labels: Sequence[str]) -> tuple[str, str, Mapping[str, float]]:
    """The main metric, the guess that is best in it in words, and its values; no values if the task has no guesses."""
    found = {name: values for name, values in guessed(task, examples, labels).items() if values}
    if not found:
        return "", "", {}
    metric = next(iter(next(iter(found.values()))))
    best = max(found, key=lambda name: found[name].get(metric, -math.inf))
    return metric, {"majority": "always the same answer", "uniform": "random guessing"}.get(best, best), found[best]


def _entropy(examples: Sequence[Example]) -> float:
    """The loss in nats per label of a guess that knows how often each label occurs; 0 if gold has no names."""
    if isinstance(examples[0].gold, int):
        return math.log(len(examples[0].texts) // 2)
    counts: Counter[str] = label_counts(examples)
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())
