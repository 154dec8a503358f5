"""The heads of X-MOD and their losses, as plainly as the encoder beside this file."""

import math
from typing import Any

import torch
from torch import Tensor

from tests.reference.encoder import ACTIVATIONS, State, layer_norm, linear, prefix_of

IGNORED = -100


def pool(state: State, hidden: Tensor) -> Tensor:
    """(batch, Q, H) -> (batch, H): the first token, through a tanh layer."""
    return torch.tanh(linear(state, f"{prefix_of(state)}pooler.dense", hidden[:, 0]))


def lm_logits(state: State, config: Any, hidden: Tensor) -> Tensor:
    """(..., H) -> (..., V); the decoder's rows are the word embeddings unless the state has its own."""
    x = ACTIVATIONS["gelu"](linear(state, "lm_head.dense", hidden))
    x = layer_norm(state, "lm_head.layer_norm", x, config.layer_norm_eps)
    words = "roberta.embeddings.word_embeddings.weight"
    rows = state[words] if config.tie_word_embeddings else state["lm_head.decoder.weight"]
    return x @ rows.T + state["lm_head.bias"]


def sequence_logits(state: State, hidden: Tensor) -> Tensor:
    """(batch, Q, H) -> (batch, labels)."""
    return linear(state, "classifier.out_proj", torch.tanh(linear(state, "classifier.dense", hidden[:, 0])))


def token_logits(state: State, hidden: Tensor) -> Tensor:
    """(batch, Q, H) -> (batch, Q, labels)."""
    return linear(state, "classifier", hidden)


def choice_logits(state: State, hidden: Tensor, choices: int) -> Tensor:
    """(batch · choices, Q, H) -> (batch, choices)."""
    return linear(state, "classifier", pool(state, hidden)).reshape(-1, choices)


def span_logits(state: State, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, Q, H) -> start and end, each (batch, Q)."""
    both = linear(state, "qa_outputs", hidden)
    return both[..., 0], both[..., 1]


def cross_entropy(logits: Tensor, labels: Tensor, ignored: int = IGNORED) -> Tensor:
    """Mean negative log likelihood over the rows of `logits` (N, classes) whose label is not ignored."""
    terms = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        if label != ignored:
            terms.append(torch.logsumexp(row, 0) - row[label])
    return torch.stack(terms).mean() if terms else logits.sum() * math.nan


def masked_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Every position predicts the label after it."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def regression_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return ((logits.flatten() - labels.flatten()) ** 2).mean()


def multi_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of every label on its own, from log sigmoid(x) = -softplus(-x)."""
    softplus = torch.nn.functional.softplus
    return (labels * softplus(-logits) + (1 - labels) * softplus(logits)).mean()


def span_loss(start: Tensor, end: Tensor, start_positions: Tensor, end_positions: Tensor) -> Tensor:
    """Mean of the two cross-entropies; a position behind the sequence takes no part."""
    length = start.shape[1]
    losses = []
    for logits, positions in ((start, start_positions), (end, end_positions)):
        losses.append(cross_entropy(logits, positions.clamp(0, length), ignored=length))
    return (losses[0] + losses[1]) / 2
