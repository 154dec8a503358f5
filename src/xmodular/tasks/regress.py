"""Regression: a number for a text or a pair of texts, such as the similarity of two sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xmodular.tasks.task import Encoding, Example, Outputs, Prediction, Room, Task
from xmodular.tasks.text_fields import TEXT_ALTERNATIVES, TEXT_FIELDS, encode_rows, texts_of


def parse(values: Mapping[str, Any]) -> tuple[tuple[str, ...], float | None]:
    """One text or two, and the number."""
    texts = texts_of(values)
    score = values.get("score")
    if score is None:
        return texts, None
    try:
        # Python reads "1_0" as 10.
        number = math.nan if isinstance(score, bool) or "_" in str(score) else float(score)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"'score' must be a number; it is {score!r:.60}.")
    return texts, number


def label_names(examples: Sequence[Example]) -> list[str]:
    """The name of the single output."""
    return ["score"]


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], labels: Sequence[str], room: Room
) -> list[Encoding]:
    """``<s> A </s>``, or ``<s> A </s></s> B </s>`` for a pair; the longer text is truncated first."""
    return encode_rows(tokenizer, examples, [example.gold for example in examples], room)


def targets(encodings: Sequence[Encoding], longest: int) -> dict[str, Tensor]:
    """The numbers (batch,), float32."""
    return {"labels": torch.tensor([encoding.target for encoding in encodings], dtype=torch.float32)}


def columns(labels: Sequence[str]) -> dict[str, Any]:
    """The number."""
    return {"score": 0.0}


def decode(example: Example, outputs: Outputs, labels: Sequence[str]) -> dict[str, Any]:
    """The number."""
    return {"score": float(outputs[0][1][0])}


def statistics(examples: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> np.ndarray:
    """(rows, 8): 1, the squared error, sums for the correlation of values, and the row's part of that of ranks.

    Values are standardised with the file's means and standard deviations, which keeps correlations and loses no
    digits. The mean of the parts of the rank correlation is the rank correlation of the whole file.
    """
    gold = np.array([example.gold for example in examples], dtype=np.float64)
    predicted = np.array([prediction["score"] for prediction in predictions], dtype=np.float64)
    columns = [np.ones_like(gold), (gold - predicted) ** 2]
    x, y = _standard(gold), _standard(predicted)
    columns += [x, y, x * x, y * y, x * y, _rank_parts(gold, predicted)]
    return np.stack(columns, axis=1)


def _rank_parts(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the file plus each row's influence on it, (rows,); 0 if one side is constant.

    A row has influence by its own ranks, and by the others', which it moves (Croux and Dehon 2010, Influence functions
    of the Spearman and Kendall correlation measures; here also for equal values, which share the mean of their ranks).
    """
    u, v = _standard(_ranks(gold)), _standard(_ranks(predicted))
    correlation = (u * v).mean()
    own = u * v - correlation * (u * u + v * v) / 2
    moved = _moved(gold, v - correlation * u) / _spread(gold) + _moved(predicted, u - correlation * v) / _spread(
        predicted
    )
    return correlation + own + moved


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1 up; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _spread(values: np.ndarray) -> float:
    """Standard deviation of ranks that are shares of the rows; 1 of equal values."""
    return float((_ranks(values) / len(values)).std()) or 1.0


def _moved(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each row's influence on the mean of ranks times weights: the weights ranked above it, minus their mean."""
    _, places = np.unique(values, return_inverse=True)
    equal = np.bincount(places, weights)
    above = (equal.sum() - np.cumsum(equal) + equal / 2)[places] / len(values)
    return above - above.mean()


def _standard(values: np.ndarray) -> np.ndarray:
    if (values == values[0]).all():
        return np.zeros_like(values)
    centred = values - values.mean()
    return centred / np.sqrt((centred * centred).mean())


def metrics(sums: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Pearson's and Spearman's correlation, 0 if one side is constant, and the root mean squared error."""
    rows = sums[..., 0]
    return {
        "Pearson": _correlation(rows, sums[..., 2:7]),
        "Spearman": sums[..., 7] / rows,
        "RMSE": np.sqrt(sums[..., 1] / rows),
    }


def _correlation(rows: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """From sums of x, y, x², y² and xy: (n Σxy - Σx Σy) / √((n Σx² - (Σx)²) (n Σy² - (Σy)²))."""
    x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread_x, spread_y = rows * xx - x * x, rows * yy - y * y
    # Equal rows leave rounding errors in place of zeros.
    real = (spread_x > 1e-12 * rows * xx) & (spread_y > 1e-12 * rows * yy)
    product = np.where(real, spread_x * spread_y, 1.0)
    return np.where(real, np.clip((rows * xy - x * y) / np.sqrt(product), -1, 1), 0.0)


def guesses(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, Sequence[Prediction] | dict[str, float]]:
    """One guess: always the file's mean, the best constant."""
    mean = float(np.mean([example.gold for example in examples]))
    return {"majority": [{"score": mean}] * len(examples)}


REGRESS = Task(
    name="regress",
    architecture="XmodForSequenceClassification",
    fields={**TEXT_FIELDS, "score": ("score", "label")},
    parse=parse,
    label_names=label_names,
    encode=encode,
    targets=targets,
    columns=columns,
    decode=decode,
    statistics=statistics,
    metrics=metrics,
    guesses=guesses,
    does="gives a text a number",
    pipeline="text-classification",
    aliases="regression sts stsb similarity",
    sample={"text": "..."},
    alternatives=TEXT_ALTERNATIVES,
    problem_type="regression",
)
