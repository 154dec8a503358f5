"""Batches for masked language modelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch


class MaskedLMCollator:
    """Turns blocks into a batch with masks, as BERT does it (Devlin et al. 2019, section 3.1, task 1).

    Each token that is not special is chosen with `probability`; of the chosen, 80 % become ``<mask>``, 10 % a random
    token, 10 % stay. The masks are a function of the seed and the batch's first draw: the same in any process, with
    any number of workers, and after resuming.

    Args:
        special_ids: ids that are never chosen and never put in at random.
        mask_id: id of ``<mask>``.
        pad_id: id of ``<pad>``.
        vocab_size: rows of the vocabulary.
        probability: share of tokens to choose.
        seed: what the masks are a function of, with the draws.
    """

    def __init__(
        self,
        *,
        special_ids: Sequence[int],
        mask_id: int,
        pad_id: int,
        vocab_size: int,
        probability: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.is_special = np.zeros(vocab_size, dtype=bool)
        self.is_special[list(special_ids)] = True
        self.ordinary = np.flatnonzero(~self.is_special)
        self.mask_id = mask_id
        self.pad_id = pad_id
        self.probability = probability
        self.seed = seed

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate.

        Args:
            rows: each with ``input_ids`` (sequence,), ``lang_id`` and ``draw``.

        Returns:
            ``input_ids``, ``attention_mask`` and ``labels`` (batch, sequence) int64, labels -100 where nothing is
            predicted; ``lang_ids`` (batch,) int64; ``sparse_prediction`` True.
        """
        ids = np.stack([row["input_ids"] for row in rows]).astype(np.int64)  # (batch, sequence)
        inputs, labels = self.mask(ids, np.random.default_rng([self.seed, rows[0]["draw"]]))
        return {
            "input_ids": torch.from_numpy(inputs),
            "attention_mask": torch.from_numpy((ids != self.pad_id).astype(np.int64)),
            "lang_ids": torch.tensor([row["lang_id"] for row in rows]),
            "labels": torch.from_numpy(labels),
            "sparse_prediction": True,
        }

    def mask(self, ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels for token ids (batch, sequence) int64; both have that shape."""
        chance = random.random(ids.shape)
        chance[self.is_special[ids]] = 1.0
        chosen = chance < self.probability
        if not chosen.any() and chance.min() < 1.0:
            # A short batch may have no chosen token, and then no loss.
            chosen.flat[chance.argmin()] = True
        labels = np.where(chosen, ids, -100)
        fate = random.random(ids.shape)
        inputs = np.where(chosen & (fate < 0.8), self.mask_id, ids)
        replaced = chosen & (fate >= 0.8) & (fate < 0.9)
        inputs[replaced] = random.choice(self.ordinary, size=int(replaced.sum()))
        return inputs, labels
