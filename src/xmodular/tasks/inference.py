"""Batches in, logits out: rows of any languages together, sorted by length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from xmodular.errors import InputError


def pad_batch(rows: Sequence[Sequence[int]], lang_ids: Sequence[int], pad_id: int) -> dict[str, Tensor]:
    """Pad rows to the longest: ``input_ids`` and ``attention_mask`` (batch, longest), ``lang_ids`` (batch,), int64."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "lang_ids": torch.tensor(lang_ids)}


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    rows: Sequence[Sequence[int]],
    lang_ids: Sequence[int],
    *,
    pad_id: int,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda rows: None,
) -> list[np.ndarray]:
    """Run a model with a head over rows.

    Args:
        model: gives ``logits`` (batch, labels) or (batch, tokens, labels).
        rows: token ids.
        lang_ids: each row's language, as the model's id.
        pad_id: id of ``<pad>``.
        batch_size: rows a forward pass; languages are mixed, the model sorts them out.
        advance: told how many rows were done, again and again.

    Returns:
        float32 logits of each row, (labels,) or (its tokens, labels), in the order of `rows`.
    """
    if len(rows) != len(lang_ids):
        raise InputError(f"There are {len(rows)} rows and {len(lang_ids)} language ids; each row has one.")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    answer: list[np.ndarray] = [np.empty(0)] * len(rows)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = pad_batch([rows[index] for index in chosen], [lang_ids[index] for index in chosen], pad_id)
        logits = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits.float().cpu().numpy()
        for index, values in zip(chosen, logits, strict=True):
            answer[index] = values[: len(rows[index])].copy() if values.ndim == 2 else values.copy()
        advance(len(chosen))
    model.train(was_training)
    return answer
