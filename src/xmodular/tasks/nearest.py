"""Which candidate is nearest to a query by cosine, and the rank of the right ones, in bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_AT_ONCE = 2**23  # cosines in memory: 32 MB
_TIED = 1e-6  # cosines that differ by less are equal: float32 sums in another order differ by as much


class Ranked(NamedTuple):
    """How well queries find their candidates.

    Attributes:
        found: (queries,) float64: 1 if a right candidate is nearest, 0 if not; in a tie, the chance of drawing a right
            one.
        reciprocal: (queries,) float64: one divided by the rank of the first right candidate, in a tie by its expected
            rank.
    """

    found: np.ndarray
    reciprocal: np.ndarray


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """float32 vectors of length 1; those that are zero, infinite or NaN become zero, so that they are near nothing.

    Args:
        vectors: *Shape: (texts, hidden)*.
    """
    made = np.where(np.isfinite(vectors).all(1, keepdims=True), vectors, 0).astype(np.float32)
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    unit: np.ndarray = made / np.where(lengths > 0, lengths, 1)
    return unit


def ranked(queries: np.ndarray, candidates: np.ndarray, right: np.ndarray) -> Ranked:
    """Find each query's candidates by cosine.

    Args:
        queries: (queries, hidden) float32 unit vectors.
        candidates: (candidates, hidden) float32 unit vectors.
        right: (pairs, 2) whole numbers: a query and a candidate that is right for it; every query needs one.
    """
    found, reciprocal = np.zeros(len(queries)), np.zeros(len(queries))
    right = right[np.argsort(right[:, 0], kind="stable")]
    step = max(1, _AT_ONCE // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        cosines = queries[start : start + step] @ candidates.T
        first, last = np.searchsorted(right[:, 0], (start, start + len(cosines)))
        rows, columns = right[first:last, 0] - start, right[first:last, 1]
        own = cosines[rows, columns]
        best = np.full(len(cosines), -np.inf, np.float32)
        np.maximum.at(best, rows, own)
        cosines[rows, columns] = -np.inf  # only others are counted
        above = (cosines > best[:, None] + _TIED).sum(1)
        tied = (cosines >= best[:, None] - _TIED).sum(1) - above
        rights = np.bincount(rows, own >= best[rows] - _TIED, len(cosines))
        found[start : start + step] = np.where(above == 0, rights / (rights + tied), 0.0)
        reciprocal[start : start + step] = 1 / (1 + above + tied / (rights + 1))
    return Ranked(found, reciprocal)
