"""The languages of the words in a sequence, decided together: a hidden Markov model.

A sequence begins in language l with probability p(l). After each word, with probability q the language is drawn anew
from p, else it stays: P(l' | l) = (1 - q) [l = l'] + q p(l'). The best sequence is Viterbi's, the probabilities of
single words come from the forward and backward sums (Rabiner 1989, "A tutorial on hidden Markov models"). Both cost
words times languages, not languages squared, as all changes share q.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def best_paths(scores: Array, lengths: Array, prior: Array, switch: float) -> Array:
    """The most probable sequence of languages.

    Args:
        scores: *Shape: (B, T, L)*. Log-likelihood of each word in each language, up to a constant a word.
        lengths: *Shape: (B,)*. Words of each sequence, at least 1.
        prior: *Shape: (B, L)*. p, which sums to 1.
        switch: q, in (0, 1).

    Returns:
        *Shape: (B, T)*, int64; behind a sequence's end, its last language.
    """
    sequences, longest, _ = scores.shape
    logs = np.log(prior)
    staying, changing = np.log(1 - switch + switch * prior), np.log(switch) + logs
    best = logs + scores[:, 0]
    came = np.empty(scores.shape, dtype=np.int32)  # the language before, if a word is in a language
    rows, own = np.arange(sequences), np.arange(scores.shape[2])
    for place in range(1, longest):
        last = best.argmax(1)
        stay, change = best + staying, best[rows, last][:, None] + changing
        came[:, place] = np.where(stay >= change, own, last[:, None])
        there = (place < lengths)[:, None]
        best = np.where(there, np.maximum(stay, change) + scores[:, place], best)
        came[:, place] = np.where(there, came[:, place], own)
    paths = np.empty((sequences, longest), dtype=np.int64)
    paths[:, -1] = best.argmax(1)
    for place in range(longest - 1, 0, -1):
        paths[:, place - 1] = came[rows, place, paths[:, place]]
    return paths


def word_probabilities(scores: Array, lengths: Array, prior: Array, switch: float) -> Array:
    """The probability of each language at each word, given all words.

    Args:
        scores, lengths, prior, switch: as for `best_paths`.

    Returns:
        *Shape: (B, T, L)*, float64, which sums to 1 over the languages; zeros behind a sequence's end.
    """
    longest = scores.shape[1]
    likely = np.exp(scores - scores.max(2, keepdims=True))
    likely[np.arange(longest) >= lengths[:, None]] = 1.0
    forward = np.empty(scores.shape)
    at = prior * likely[:, 0]
    forward[:, 0] = at / at.sum(1, keepdims=True)
    for place in range(1, longest):
        at = ((1 - switch) * forward[:, place - 1] + switch * prior) * likely[:, place]
        forward[:, place] = at / at.sum(1, keepdims=True)
    found = np.zeros(scores.shape)
    backward = np.ones(prior.shape)
    for place in range(longest - 1, -1, -1):
        there = (place < lengths)[:, None]
        both = forward[:, place] * backward
        found[:, place] = np.where(there, both / both.sum(1, keepdims=True), 0.0)
        after = backward * likely[:, place]
        after = (1 - switch) * after + switch * (prior * after).sum(1, keepdims=True)
        backward = np.where(there, after / after.sum(1, keepdims=True), backward)
    return found


def sentence_priors(scores: Array, lengths: Array, switch: float, rounds: int, least: float) -> Array:
    """p for each sequence, learned from its own words: a text has few languages, and which ones, all its words tell.

    Expectation maximisation from equal p: each round makes p the shares of the languages among the words.

    Args:
        scores, lengths, switch: as for `best_paths`.
        rounds: how often p is learned; 0 leaves it equal.
        least: words that each language has before one is read.

    Returns:
        *Shape: (B, L)*.
    """
    sequences, _, languages = scores.shape
    prior = np.full((sequences, languages), 1 / languages)
    for _ in range(rounds):
        shares = word_probabilities(scores, lengths, prior, switch).sum(1) + least
        prior = shares / shares.sum(1, keepdims=True)
    return prior
