"""Padding, labels and losses: what all heads share.

Shapes: B sequences, S tokens per sequence, N items that count.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional as F

from xmodular.errors import InputError

logger = logging.getLogger(__name__)

IGNORED = -100  # the label to ignore


def shape_of(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, ...]:
    """*(B, S)* of an input, if it can be determined; the model itself checks the input."""
    given = input_ids if input_ids is not None else inputs_embeds
    return () if given is None else tuple(given.shape[:2])


def check_labels(labels: Tensor, shape: tuple[int, ...], count: int, name: str = "labels") -> None:
    """Raises InputError if labels have a wrong shape, a non-integer type, or (on a CPU) values out of range."""
    if tuple(labels.shape) != shape:
        raise InputError(f"{name} have shape {tuple(labels.shape)}: they must have {shape}.")
    if labels.is_floating_point():
        raise InputError(
            f"{name} have dtype {labels.dtype}: they must be integers from 0 to {count - 1}, or {IGNORED} at places "
            "to ignore."
        )
    if labels.device.type == "cpu" and labels.numel() and not torch.compiler.is_compiling():
        counted = labels[labels != IGNORED]
        if len(counted) and (int(counted.min()) < 0 or int(counted.max()) >= count):
            wrong = int(counted.min()) if int(counted.min()) < 0 else int(counted.max())
            raise InputError(f"{name} have {wrong}: they must be from 0 to {count - 1}, or {IGNORED} to be ignored.")


def number_of_items(count: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    """The divisor of a summed loss: the number of items here, or of all accumulated batches if given.

    Without any item it is 1 and the loss 0, so that a batch without labels does not stop training.
    """
    items = count if num_items_in_batch is None else torch.as_tensor(num_items_in_batch, device=count.device)
    return items.clamp(min=1)


def check_padding(attention_mask: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises InputError if a mask does not have an entry for each token of a batch *(B, S)*."""
    if not isinstance(attention_mask, Tensor) or attention_mask.dim() != 2 or torch.jit.is_tracing():
        return  # the model itself checks the others
    if attention_mask.shape[0] != shape[0] or attention_mask.shape[1] < shape[1]:
        raise InputError(
            f"attention_mask has shape {tuple(attention_mask.shape)}: it must be {tuple(shape)}, one entry per token."
        )


def real_positions(attention_mask: Tensor | None, length: int) -> Tensor | None:
    """*Shape: (B, S)*, bool: the non-padding tokens, if the mask tells.

    In a mask that also covers a cache, the last columns are those of the tokens.
    """
    if not isinstance(attention_mask, Tensor) or attention_mask.dim() != 2:
        return None
    return attention_mask[:, -length:] != 0


def first_tokens(attention_mask: Tensor | None, length: int) -> Tensor | None:
    """*Shape: (B,)*, int64: the position of each sequence's first token after left padding, in a batch of that length.

    None if the mask does not tell: then it is position 0.
    """
    real = real_positions(attention_mask, length)
    return None if real is None else real.int().argmax(1)


def first_states(states: Tensor, first: Tensor | None) -> Tensor:
    """*Shape: (B, S, hidden)* to *(B, hidden)*: the states of the first tokens."""
    if first is None:
        return states[:, 0]
    places = first.to(states.device)[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, places).squeeze(1)  # take_along_dim would tie a graph to the sizes of its sample


def mean_states(states: Tensor, attention_mask: Tensor | None) -> Tensor:
    """*Shape: (B, S, hidden)* to *(B, hidden)*: the mean over the real tokens; zeros without any."""
    real = real_positions(attention_mask, states.shape[1])
    if real is None:
        return states.mean(1)
    share = real[:, :, None].to(states.device)
    summed = in_full(states).masked_fill(~share, 0).sum(1)
    return (summed / share.sum(1).clamp(min=1)).to(states.dtype)


def counted_labels(labels: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The labels, with -100 at padding, where labels are ignored."""
    check_padding(attention_mask, labels.shape)
    real = real_positions(attention_mask, labels.shape[1])
    return labels if real is None else labels.masked_fill(~real.to(labels.device), IGNORED)


def warn_of_uncounted(given: Tensor, counted: Tensor, num_items_in_batch: Tensor | int | None) -> None:
    """Warns about ignored labels if the caller has counted labels: Trainer counts all except -100."""
    if num_items_in_batch is None or torch.compiler.is_compiling() or given is counted:
        return
    if bool((given != counted).any()):
        logger.warning_once(  # type: ignore[attr-defined]  # transformers adds it
            "Some labels other than -100 are ignored: they are at padding, or would be predicted from padding. If "
            "num_items_in_batch includes them, as in Trainer, the loss is too small. Set them to -100."
        )


def in_full(tensor: Tensor) -> Tensor:
    """A tensor in at least single precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the cross entropies of logits *(N, classes)*, in at least single precision."""
    return F.cross_entropy(in_full(logits), targets, ignore_index=IGNORED, reduction="sum")
