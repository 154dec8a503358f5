"""Masked-language-model perplexity: how well a model restores masked tokens of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from xmodular.data import MaskedLMCollator


@torch.inference_mode()
def block_statistics(
    model: nn.Module,
    blocks: Sequence[np.ndarray],
    lang_ids: Sequence[int],
    draws: Sequence[int],
    collator: MaskedLMCollator,
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda blocks: None,
) -> np.ndarray:
    """Loss of masked tokens, block by block.

    A block's masks are a function of the collator's seed and the block's draw, not of `lang_ids` or batch size, so
    that runs with other adapters compare like with like.

    Args:
        model: masked language model.
        blocks: (tokens,) ids each, all of one length.
        lang_ids: each block's language, as the model's id.
        draws: each block's number, which decides its masks.
        collator: chooses the masks.
        batch_size: blocks a forward pass; languages are mixed.
        advance: told how many blocks were done, again and again.

    Returns:
        (blocks, 3) sums: negative log-likelihood (nats), tokens restored exactly, masked tokens.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = np.zeros((len(blocks), 3))
    for start in range(0, len(blocks), batch_size):
        places = range(start, min(start + batch_size, len(blocks)))
        batches = [
            collator([{"input_ids": blocks[place], "lang_id": lang_ids[place], "draw": draws[place]}])
            for place in places
        ]
        batch = {
            name: torch.cat([each[name] for each in batches]).to(device)
            for name in ("input_ids", "attention_mask", "lang_ids", "labels")
        }
        logits = model(**batch, sparse_prediction=True).logits  # (masked tokens, vocabulary)
        rows, columns = torch.nonzero(batch["labels"] != -100, as_tuple=True)
        labels = batch["labels"][rows, columns]
        losses = cross_entropy(logits.float(), labels, reduction="none").double().cpu().numpy()
        right = (logits.argmax(-1) == labels).cpu().numpy()
        for column, values in enumerate((losses, right, np.ones_like(losses))):
            np.add.at(sums[:, column], start + rows.cpu().numpy(), values)
        advance(len(places))
    model.train(was_training)
    return sums


def perplexity_metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Perplexity and accuracy of masked tokens, from (..., 3) sums."""
    masked = np.maximum(sums[..., 2], 1)
    return {"perplexity": np.exp(sums[..., 0] / masked), "accuracy": sums[..., 1] / masked}
