"""A label for every word: entities (CoNLL, IOB2) and parts of speech (CoNLL-U)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.errors import DataError
from xmodular.tasks.task import Encoding, Example, Task, label_ids, open_text

# The universal parts of speech, universaldependencies.org.
UPOS = tuple("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())  # noqa: SIM905


def load(path: Path) -> list[Example]:
    """Read word and tag, tab-separated, blank lines between sentences; or CoNLL-U (``.conllu``) with its UPOS column.

    Raises:
        DataError: a row that is not so (with file, line and reason), or no rows.
    """
    is_conllu = path.suffix == ".conllu"
    examples: list[Example] = []
    words: list[str] = []
    tags: list[str] = []
    start = 1
    for number, line in enumerate([*open_text(path), ""], start=1):
        line = line.rstrip("\r")
        if not line.strip():
            if words:
                examples.append(Example(tuple(words), tuple(tags), f"{path}:{start}"))
            words, tags, start = [], [], number + 1
            continue
        columns = line.split("\t")
        if is_conllu:
            if line.startswith("#"):
                continue
            if len(columns) != 10:
                raise DataError(f"{path}:{number}: CoNLL-U has 10 columns; this row has {len(columns)}.")
            if "-" in columns[0] or "." in columns[0]:
                continue  # a multiword token, whose words follow, or an empty node
            word, tag = columns[1], columns[3]
        elif len(columns) != 2:
            raise DataError(f"{path}:{number}: a row is word, tab, tag; this one has {len(columns)}: {line:.60}")
        else:
            word, tag = columns
        if not word.strip() or not tag.strip():
            raise DataError(f"{path}:{number}: the {'tag' if word.strip() else 'word'} is empty.")
        words.append(word)
        tags.append(tag)
    if not examples:
        raise DataError(f"{path} has no rows.")
    return examples


def label_names(examples: Sequence[Example]) -> list[str]:
    """The tags, completed: all 17 for universal parts of speech, B- and I- of every type and O for IOB2."""
    names = {label for example in examples for label in example.labels}
    if names <= set(UPOS):
        return list(UPOS)
    if _is_iob(names):
        types = sorted({name[2:] for name in names if name != "O"})
        return ["O", *(f"{begin}-{kind}" for kind in types for begin in "BI")]
    return sorted(names)


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], ids: Mapping[str, int], max_length: int
) -> list[Encoding]:
    """The words' tokens between ``<s>`` and ``</s>``; a word's label stands at its first token."""
    batch = tokenizer(
        [list(example.parts) for example in examples],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
    )
    encodings = []
    for index, example in enumerate(examples):
        positions = [-1] * len(example.parts)
        for position, word in enumerate(batch.word_ids(index)):
            if word is not None and positions[word] == -1:
                positions[word] = position
        encodings.append(Encoding(tuple(batch["input_ids"][index]), label_ids(example, ids), tuple(positions)))
    return encodings


def target(encoding: Encoding) -> list[int]:
    """Label ids at first tokens, -100 elsewhere."""
    targets = [-100] * len(encoding.input_ids)
    for position, label in zip(encoding.positions, encoding.labels, strict=True):
        if position >= 0:
            targets[position] = label
    return targets


def decode(encoding: Encoding, logits: np.ndarray) -> tuple[int, ...]:
    """The likeliest tag at each word's first token; -1 for a word that was cut off."""
    best = logits.argmax(-1)
    return tuple(int(best[position]) if position >= 0 else -1 for position in encoding.positions)


def statistics(
    gold: Sequence[tuple[int, ...]], predicted: Sequence[tuple[int, ...]], labels: Sequence[str]
) -> np.ndarray:
    """Words and right words of each sentence; for IOB2 also entities, predicted ones and right ones."""
    from seqeval.metrics.sequence_labeling import get_entities  # slow to import

    rows = []
    iob = _is_iob(set(labels))
    for g, p in zip(gold, predicted, strict=True):
        row = [len(g), sum(a == b for a, b in zip(g, p, strict=True))]
        if iob:
            true, found = (set(get_entities([labels[k] if k >= 0 else "O" for k in sequence])) for sequence in (g, p))
            row += [len(true), len(found), len(true & found)]
        rows.append(row)
    return np.array(rows, dtype=float)


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Span F1 with precision and recall where tags are IOB2 (micro-averaged, exact spans), and word accuracy."""
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


def _is_iob(names: set[str]) -> bool:
    return any(name != "O" for name in names) and all(name == "O" or name[:2] in ("B-", "I-") for name in names)


TAG = Task(
    name="tag",
    architecture="XmodForTokenClassification",
    suffixes=(".conll", ".conllu"),
    load=load,
    label_names=label_names,
    encode=encode,
    target=target,
    decode=decode,
    statistics=statistics,
    metrics=metrics,
)
