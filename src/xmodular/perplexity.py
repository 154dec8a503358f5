"""Perplexity of a text: how well a model predicts masked tokens, or the next token.

A model's mean loss at predicted tokens, in nats, is extrapolated to all predictable tokens. Text lost in the tokens
(mainly ``<unk>``) is added with 8 bits per UTF-8 byte, so that a vocabulary with gaps has no advantage. From
the sum of both over a text,

    perplexity = exp(nats / tokens)        bits per character = nats / ln 2 / characters

with the characters of the text as read. For a causal model, this is the length of the text encoded with
the model. For a masked model it is a pseudo-measure, as every token is predicted with most of its neighbours on both
sides visible; it can only compare models on the same text, also with different vocabularies. Perplexity is per token,
and only comparable between models with the same vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xmodular.modeling import XmodForCausalLM
from xmodular.modeling.threads import threads_for
from xmodular.text import CausalLMCollator, MaskedLMCollator, MeasuredText

_MOST_LOGITS = 2**27  # in a forward pass of a causal model: 512 MiB in fp32


def to_predict(
    text: MeasuredText, collator: MaskedLMCollator | CausalLMCollator
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Choose the tokens of a text to predict; they depend on the collator's seed and the text's tokens only.

    Args:
        text: the text.
        collator: a collator that suits the model.

    Returns:
        Numbers of the blocks with tokens to predict; for each of these, (block_size,) bool, true at these tokens, or
        None for a causal model, which predicts all.
    """
    if isinstance(collator, CausalLMCollator):
        return np.arange(len(text.blocks)), [None] * len(text.blocks)
    chosen = collator.choose(text.blocks)
    blocks = np.flatnonzero(chosen.any(1))
    return blocks, list(chosen[blocks])


@torch.no_grad()
def block_statistics(
    model: nn.Module,
    blocks: Sequence[np.ndarray],
    lang_ids: Sequence[int],
    draws: Sequence[int],
    collator: MaskedLMCollator | CausalLMCollator,
    *,
    chosen: Sequence[np.ndarray | None],
    unk_id: int,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda blocks: None,
) -> np.ndarray:
    """The loss of predicted tokens, block by block.

    The masking of the chosen tokens depends on the collator's seed and the block's draw, not on `lang_ids` or
    batch size, so that runs with other adapters are comparable.

    Args:
        model: masked or causal language model.
        blocks: (tokens,) ids each, all of the same length.
        lang_ids: the model's language id for each block.
        draws: the number of each block.
        collator: makes the batches; it must suit the model.
        chosen: (tokens,) bool each, the tokens to predict (at least one); None for a causal model, which predicts all.
        unk_id: id of ``<unk>``, which never counts as predicted exactly, because the original text is unknown.
        batch_size: blocks per forward pass; languages are mixed. A causal model with many logits uses fewer.
        advance: called with the number of blocks done since the last call.

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
        rows = [
            {
                "input_ids": blocks[place],
                "lang_id": lang_ids[place],
                "draw": draws[place],
                "chosen": chosen[place],
            }
            for place in places
        ]
        made = collator(rows)
        batch = {name: made[name].to(device) for name in ("input_ids", "attention_mask", "lang_ids", "labels")}
        at, columns = torch.nonzero(batch["labels"] != -100, as_tuple=True)
        labels = batch["labels"][at, columns]
        with threads_for(model, batch["input_ids"].numel()):
            logits = _logits(model, batch, at, columns)  # (predicted tokens, vocabulary)
        losses = cross_entropy(logits.float(), labels, reduction="none").double().cpu().numpy()
        right = ((logits.argmax(-1) == labels) & (labels != unk_id)).cpu().numpy()
        for column, values in enumerate((losses, right, np.ones_like(losses))):
            np.add.at(sums[:, column], start + at.cpu().numpy(), values)
        advance(len(places))
    model.train(was_training)
    return sums


def _logits(model: nn.Module, batch: dict[str, Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    if not isinstance(model, XmodForCausalLM):
        return model(**batch, sparse_prediction=True).logits
    inputs: dict[str, Any] = {name: values for name, values in batch.items() if name != "labels"}
    return model(**inputs, use_cache=False).logits[rows, columns - 1]


def text_statistics(text: MeasuredText, blocks: np.ndarray, predicted: np.ndarray, *, causal: bool) -> np.ndarray:
    """The sums for the measures of a text, block by block.

    Args:
        text: the text.
        blocks: numbers of the blocks with predicted tokens.
        predicted: (these blocks, 3) sums, from `block_statistics`.
        causal: whether the model is causal, and so predicts ``<unk>`` and line ends too.

    Returns:
        (blocks, 7) sums: these three; predictable tokens; tokens that are never predicted; characters; bytes
        that no token represents.
    """
    sums = np.zeros((len(text.blocks), 7))
    sums[blocks, :3] = predicted
    sums[:, 3] = sums[:, 2] if causal else text.ordinary
    sums[:, 4] = 0 if causal else text.unknown
    sums[:, 5], sums[:, 6] = text.characters, text.untold_bytes
    return sums


def loss_a_token(sums: np.ndarray) -> np.ndarray:
    """Nats per token (...), from (..., 7) sums of `text_statistics`; NaN if nothing was predicted."""
    losses, _, predicted, known, unknown, _, untold = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Extrapolated from the predicted tokens to all predictable ones.
        told = np.where(known > 0, losses / predicted * known, 0.0)
    return (told + untold * math.log(256)) / np.maximum(known + unknown, 1)


PERPLEXITY_METRICS = ("perplexity", "bits per character", "accuracy")


def perplexity_metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Perplexity, bits per character and accuracy, from (..., 7) sums of `text_statistics`."""
    _, right, predicted, known, unknown, characters, _ = np.moveaxis(sums, -1, 0)
    tokens, loss = np.maximum(known + unknown, 1), loss_a_token(sums)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return {
            "perplexity": np.exp(loss),
            "bits per character": loss * tokens / math.log(2) / np.maximum(characters, 1),
            "accuracy": np.where(known > 0, right / predicted * known, 0.0) / tokens,
        }
