"""Vectors of texts, trained to be near those of other texts: translations, paraphrases, answers.

A text's positive is the text that its vector should be nearest to among all texts of a batch (in-batch negatives:
Henderson et al. 2017, section 4.3), and nearer than to its own hard negatives, if the row has some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from xmodular.errors import ConfigurationError, DataError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks.nearest import ranked, unit_vectors
from xmodular.tasks.readers import Reading, reading_of
from xmodular.tasks.task import Encoding, Example, Outputs, Prediction, Room, Task
from xmodular.tasks.text_fields import TEXT_FIELDS, encode_texts, listed, text_of


class Nearby(NamedTuple):
    """What a text's vector should be near to, and what it should be far from.

    Attributes:
        texts: the positive, then the hard negatives.
        languages: of each, as the row names them; None where it does not.
    """

    texts: tuple[str, ...]
    languages: tuple[str | None, ...]


def parse(values: Mapping[str, Any]) -> tuple[tuple[str, ...], Nearby | None]:
    """The text, and its positive with hard negatives."""
    texts = (text_of(values, "text"),)
    if "positive" not in values:
        return texts, None
    negatives = listed(values.get("negative"))
    negatives = [] if negatives is None else negatives if isinstance(negatives, (list, tuple)) else [negatives]
    for negative in negatives:
        text_of({"negative": negative}, "negative")
    names = [values.get(f"{field}_language") for field in ("positive", "negative")]
    for name in names:
        if name is not None and not isinstance(name, str):
            raise ValueError(f"the language of a positive or negative must be a code or a name; it is {name!r:.60}")
    languages = (names[0], *[names[1]] * len(negatives))
    return texts, Nearby((text_of(values, "positive"), *negatives), languages)


def label_names(examples: Sequence[Example]) -> list[str]:
    """None: vectors have no names.

    Raises:
        DataError: rows have different numbers of hard negatives, which cannot be in one training batch.
    """
    counts = {len(each.gold.texts) - 1: each.place for each in reversed(examples) if each.gold is not None}
    if len(counts) > 1:
        (one, here), (other, there) = sorted(counts.items())[:2]
        raise DataError(f"{here} has {one} hard negatives, {there} {other}: all rows need the same number.")
    return []


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], labels: Sequence[str], room: Room
) -> list[Encoding]:
    """``<s> A </s>`` for the text, its positive and its negatives; truncated at the end."""
    rows = [(text,) for each in examples for text in (*each.texts, *(each.gold.texts if each.gold else ()))]
    read = iter(encode_texts(tokenizer, rows, room))
    encodings = []
    for index, example in enumerate(examples):
        languages = (None, *example.gold.languages) if example.gold else ()
        own = [next(read) for _ in range(max(1, len(languages)))]
        ids, kinds = tuple(row.ids for row in own), tuple(row.types for row in own)
        encodings.append(Encoding(index, ids, cut=any(row.cut for row in own), types=kinds, languages=languages))
    return encodings


def targets(encodings: Sequence[Encoding], longest: int) -> dict[str, Tensor]:
    """None: which texts belong together is said by their place in the batch."""
    return {}


def columns(labels: Sequence[str]) -> dict[str, Any]:
    """The vector."""
    return {"embedding": [0.0]}


def decode(example: Example, outputs: Outputs, labels: Sequence[str]) -> dict[str, Any]:
    """The vector, float32 (hidden,); with a positive, also the positive's, as ``positive``."""
    vectors = outputs[0][1]
    return {"embedding": vectors} if vectors.ndim == 1 else {"embedding": vectors[0], "positive": vectors[1]}


def statistics(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> np.ndarray:
    """(rows, 3): 1; how often the nearest of all is the right one, mean of both directions; 1 by its mean rank."""
    one, other = (unit_vectors(np.stack([each[name] for each in predictions])) for name in ("embedding", "positive"))
    texts, positives = _both_places(examples)
    ways = np.stack([_found(one, other, positives), _found(other, one, texts)])
    return np.stack([np.ones(len(one)), *ways.mean(0).T], axis=1)


def _both_places(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) each: the first row with the same text, and with the same positive."""
    texts = [(each.texts[0], each.language) for each in examples]
    return _places(texts), _places([(each.gold.texts[0], each.gold.languages[0]) for each in examples])


def _places(texts: Sequence[Any]) -> np.ndarray:
    """(rows,): the first row with the same text in the same language."""
    first: dict[Any, int] = {}
    return np.array([first.setdefault(text, place) for place, text in enumerate(texts)])


def _found(queries: np.ndarray, candidates: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(rows, 2): whether each vector finds its own among all different texts, and 1 by the rank of that."""
    once, own = np.unique(places, return_inverse=True)
    found = ranked(queries, candidates[once], np.stack([np.arange(len(own)), own], axis=1))
    return np.stack(found, axis=1)


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """How often the nearest is the right one, and the mean reciprocal rank, both over both directions."""
    return {"accuracy": sums[..., 1] / sums[..., 0], "mrr": sums[..., 2] / sums[..., 0]}


def guesses(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, Sequence[Prediction] | dict[str, float]]:
    """One guess: any of the different texts, mean of both directions."""
    counts = [len(np.unique(each)) for each in _both_places(examples)]
    ranks = [1 / np.arange(1, count + 1) for count in counts]
    return {
        "uniform": {
            "accuracy": float(np.mean([1 / count for count in counts])),
            "mrr": float(np.mean([each.mean() for each in ranks])),
        }
    }


def contrastive(model: nn.Module, batch: dict[str, Any], items: Tensor, *, temperature: float) -> Tensor:
    """The loss of a batch: cross entropy of each text with its positive among all, and of each positive with its text.

    Args:
        model: returns ``embeddings``, (rows, texts, hidden): of each row the text, the positive, the negatives.
        batch: arguments of the model.
        items: rows of the step, by which the sum is divided.
        temperature: by which cosines are divided.
    """
    vectors = F.normalize(model(**batch).embeddings, dim=-1)
    texts, positives = vectors[:, 0], vectors[:, 1]
    candidates = torch.cat([positives, vectors[:, 2:].flatten(0, 1)])
    ids = batch["input_ids"]
    _, same = torch.unique(torch.cat([ids[:, 1], ids[:, 2:].flatten(0, 1)]), dim=0, return_inverse=True)
    _, own = torch.unique(ids[:, 0], dim=0, return_inverse=True)
    rows = len(texts)
    right = torch.arange(rows, device=texts.device)

    def loss(cosines: Tensor, twins: Tensor) -> Tensor:
        twins = twins & (torch.arange(twins.shape[1], device=twins.device) != right[:, None])
        scores = (cosines / temperature).masked_fill(twins, -torch.inf)  # the right text a second time is not wrong
        return F.cross_entropy(scores, right, reduction="sum")

    there = loss(texts @ candidates.T, same[:rows, None] == same)
    back = loss(positives @ texts.T, own[:, None] == own)
    total: Tensor = (there + back) / 2 / items
    return total


def prefixed(examples: Sequence[Example], prefix: str) -> list[Example]:
    """The examples with something before each of their texts."""
    if not prefix:
        return list(examples)
    return [
        replace(
            each,
            texts=tuple(prefix + text for text in each.texts),
            gold=each.gold and Nearby(tuple(prefix + text for text in each.gold.texts), each.gold.languages),
        )
        for each in examples
    ]


def paired(
    examples: Sequence[Example],
    readings: Sequence[Reading],
    positive_language: str | None,
    model: XmodPreTrainedModel,
) -> list[Example]:
    """The examples with a language of the model for each of their texts.

    A positive is in the language that its row names, else in `positive_language`, else in the example's, which is that
    of the file's name, else in that of the text; a negative likewise in that of the positive.

    Raises:
        LanguageError: the model lacks a language.
        ConfigurationError: a pair has two vocabularies.
    """
    codes, own = model.languages, model.config.vocabularies
    names = {name for each in examples for name in (*each.gold.languages, each.language, positive_language)}
    known = {name: reading_of(name, codes).adapter for name in names if name is not None}
    made = []
    for each, reading in zip(examples, readings, strict=True):
        first, *negatives = each.gold.languages
        positive = known.get(first or positive_language or each.language, reading.adapter)
        languages = (positive, *(known.get(name, positive) for name in negatives))
        others = [code for code in languages if code != reading.adapter]
        if other := next((code for code in others if code in own or reading.adapter in own), None):
            raise ConfigurationError(
                f"{each.place}: {reading.adapter} and {other} do not share a vocabulary, so that they cannot be in one "
                "training batch."
            )
        made.append(replace(each, gold=Nearby(each.gold.texts, languages)))
    return made


EMBED = Task(
    name="embed",
    architecture="XmodForSentenceEmbedding",
    fields={
        "text": (*TEXT_FIELDS["text"], "anchor", "query", "sentence1", "text1"),
        "negative": ("negative", "negatives"),
        "positive_language": ("positive_language", "language2"),
        "negative_language": ("negative_language",),
        "positive": ("positive", "translation", "answer", "sentence2", "text2"),
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
    does="gives the vector of a text, which is near those of its translations and of similar texts",
    pipeline="feature-extraction",
    has_labels=False,
    aliases="embedding embeddings sentence-similarity contrastive",
    telling=("positive", "anchor"),
    sample={"text": "..."},
    alternatives=(("text",),),
)
