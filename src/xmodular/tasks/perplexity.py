"""Perplexity of a text: how well a model restores masked tokens, or predicts each next one.

With a loss in nats per predicted token, over all tokens that a text has and its characters, bits per character are
loss * tokens / characters / ln 2. For a causal model that is the length of the text as the model would code it. For a
masked one it is a pseudo-measure, as every token is predicted with most of its neighbours on both sides in sight; it
compares models with different vocabularies on the same text, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from xmodular.data import CausalLMCollator, MaskedLMCollator
from xmodular.modeling import XmodForCausalLM

_MOST_LOGITS = 2**27  # of a causal model's forward pass: 512 MiB in fp32


@torch.no_grad()
def block_statistics(
    model: nn.Module,
    blocks: Sequence[np.ndarray],
    lang_ids: Sequence[int],
    draws: Sequence[int],
    collator: MaskedLMCollator | CausalLMCollator,
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda blocks: None,
) -> np.ndarray:
    """Loss of predicted tokens, block by block.

    A block's masks are a function of the collator's seed and the block's draw, not of `lang_ids` or batch size, so
    that runs with other adapters compare like with like.

    Args:
        model: masked or causal language model.
        blocks: (tokens,) ids each, all of one length.
        lang_ids: each block's language, as the model's id.
        draws: each block's number, which decides its masks.
        collator: chooses what is predicted, to suit the model.
        batch_size: blocks a forward pass; languages are mixed. A causal model with many logits takes fewer.
        advance: told how many blocks were done, again and again.

    Returns:
        (blocks, 3) sums: negative log-likelihood (nats), tokens predicted exactly, predicted tokens.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = np.zeros((len(blocks), 3))
    if isinstance(model, XmodForCausalLM) and len(blocks):
        batch_size = max(1, min(batch_size, _MOST_LOGITS // (len(blocks[0]) * model.config.vocab_size)))
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
        rows, columns = torch.nonzero(batch["labels"] != -100, as_tuple=True)
        labels = batch["labels"][rows, columns]
        logits = _logits(model, batch, rows, columns)  # (predicted tokens, vocabulary)
        losses = cross_entropy(logits.float(), labels, reduction="none").double().cpu().numpy()
        right = (logits.argmax(-1) == labels).cpu().numpy()
        for column, values in enumerate((losses, right, np.ones_like(losses))):
            np.add.at(sums[:, column], start + rows.cpu().numpy(), values)
        advance(len(places))
    model.train(was_training)
    return sums


def _logits(model: nn.Module, batch: dict[str, Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    if not isinstance(model, XmodForCausalLM):
        return model(**batch, sparse_prediction=True).logits
    inputs: dict[str, Any] = {name: values for name, values in batch.items() if name != "labels"}
    return model(**inputs, use_cache=False).logits[rows, columns - 1]


def perplexity_metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Perplexity and accuracy of predicted tokens, from (..., 3) sums."""
    predicted = np.maximum(sums[..., 2], 1)
    return {"perplexity": np.exp(sums[..., 0] / predicted), "accuracy": sums[..., 1] / predicted}


def piece_characters(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Characters that each piece stands for, (vocabulary,) int64.

    The space before a word counts as one, so that the first word's stands for the line's end. Special tokens have
    none, ``<unk>`` counts as one; of a character in bytes, the first byte is one and the others are none.
    """
    special = set(tokenizer.all_special_ids)
    counts = []
    for index, piece in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        byte = re.fullmatch("<0x([0-9A-F]{2})>", piece)
        if index in special:
            counts.append(int(index == tokenizer.unk_token_id))
        elif byte:
            counts.append(int(not 0x80 <= int(byte[1], 16) < 0xC0))
        else:
            counts.append(len(piece))
    return np.array(counts, dtype=np.int64)
