"""A new language's adapter in closed form: ridge regression from sentences to their translations, without training.

Only the last layer's adapter changes anything. What it adds to a token's states is a linear map of its input plus a
constant, M u + c, so that the mean states of sentences come near those of their translations. The layer's last
LayerNorm divides by the deviation of a token's states and multiplies by a gain; with the mean m of one divided by
that deviation, and mean states z, targets t and mean inputs u of sentences, the regression is of (t - z) / (gain m) on
u. The strength of the ridge is chosen by retrieval in five folds of the sentences.

A map of rank r fits in 2 r hidden units of a bottleneck with GELU, GELU(x) - GELU(-x) = x, so M is cut to half as many
directions as the bottleneck has units.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xmodular.console import console, progress
from xmodular.errors import ConfigurationError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks.nearest import ranked, unit_vectors
from xmodular.training.aligning import Aligned

_ODD = ("gelu", "relu", "silu", "swish")  # activations of which f(x) - f(-x) = x
# Of the ridge, in mean eigenvalues of the inputs' covariance.
_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FOLDS = 5


class _Read(NamedTuple):
    """What is known of sentences, each *(sentences, hidden)* float64 but for `narrow`.

    Attributes:
        inputs: the mean input of the adapter.
        states: the mean state.
        narrow: the mean, over all tokens, of one divided by the deviation of the states before the last LayerNorm.
    """

    inputs: np.ndarray
    states: np.ndarray
    narrow: float


def solve_adapter(model: XmodPreTrainedModel, code: str, sentences: Aligned, batch_tokens: int) -> None:
    """Set the last layer's adapter of a language, whose adapters add nothing yet, to the best linear map.

    Args:
        model: the model with the language.
        code: the language.
        sentences: those to learn from.
        batch_tokens: tokens per forward pass, padding included.

    Raises:
        ConfigurationError: the adapters' activation cannot be made linear.
    """
    encoder: Any = model.base_model
    check_activation(model)
    output = encoder.encoder.layer[-1].output
    norm = encoder.encoder.LayerNorm if model.config.pre_norm else output.LayerNorm
    read = _read(encoder, output, norm, sentences, batch_tokens)
    gain = norm.weight.detach().double().cpu().numpy() * read.narrow
    wanted = (sentences.targets - read.states) / np.where(np.abs(gain) > 1e-6, gain, np.inf)
    best = max(_STRENGTHS, key=lambda strength: _score(read, wanted, gain, sentences, strength))
    console.print(f"Linear adapter of {code}: ridge of {best:g} mean eigenvalues, by retrieval in {_FOLDS} folds")
    _put(output.adapter_modules[code], *_ridge(read.inputs, wanted, best))


def check_activation(model: XmodPreTrainedModel) -> None:
    """Raises ConfigurationError if the adapters' activation cannot be made linear."""
    name = model.config.hidden_act
    if name not in _ODD:
        raise ConfigurationError(
            f"--objective linear needs an activation of which f(x) - f(-x) = x ({', '.join(_ODD)}); it has {name}."
        )


def _ridge(inputs: np.ndarray, wanted: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Map *(hidden, hidden)* and constant *(hidden,)*: wanted = inputs M + c."""
    middle, mean = inputs.mean(0), wanted.mean(0)
    centred = inputs - middle
    covariance = centred.T @ centred
    covariance += strength * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    solved = np.linalg.solve(covariance, centred.T @ (wanted - mean))
    return solved, mean - middle @ solved


def _score(read: _Read, wanted: np.ndarray, gain: np.ndarray, sentences: Aligned, strength: float) -> float:
    """How well left-out sentences find their targets among all, as far as the map is linear, and their mean cosine."""
    right = np.unique(sentences.right, return_inverse=True)[1].reshape(-1)
    fold = np.random.default_rng(0).permutation(right.max() + 1)[right] % _FOLDS  # versions of a sentence stay together
    found = []
    for number in range(_FOLDS):
        held = fold == number
        if held.sum() < 2 or held.all():
            continue
        solved, constant = _ridge(read.inputs[~held], wanted[~held], strength)
        moved = unit_vectors(read.states[held] + gain * (read.inputs[held] @ solved + constant))
        pairs = np.stack([np.arange(len(moved)), right[held]], 1)
        near = ranked(moved, sentences.candidates, pairs).reciprocal.mean()
        found.append(near + 0.1 * (moved * sentences.candidates[right[held]]).sum(1).mean())
    return float(np.mean(found)) if found else strength


def _put(adapter: Any, solved: np.ndarray, constant: np.ndarray) -> None:
    """Write a map into an adapter, cut to its largest directions: each is two hidden units of opposite sign."""
    width = adapter.dense1.out_features
    rank = min(width // 2, len(solved))
    left, sizes, right = np.linalg.svd(solved)
    roots = np.sqrt(sizes[:rank])
    first, second = left[:, :rank] * roots, right[:rank].T * roots
    down, up = np.zeros((width, len(first))), np.zeros((len(second), width))
    down[:rank], down[rank : 2 * rank] = first.T, -first.T
    up[:, :rank], up[:, rank : 2 * rank] = second, -second
    with torch.no_grad():
        for parameter, values in (
            (adapter.dense1.weight, down),
            (adapter.dense1.bias, np.zeros(width)),
            (adapter.dense2.weight, up),
            (adapter.dense2.bias, constant),
        ):
            parameter.copy_(torch.from_numpy(values))


@torch.inference_mode()
def _read(encoder: Any, output: Any, norm: nn.Module, sentences: Aligned, batch_tokens: int) -> _Read:
    """Mean inputs of the last adapter and mean states, and the mean narrowness."""
    order = sorted(range(len(sentences)), key=lambda place: len(sentences.encodings[place].sequences[0]))
    inputs = np.zeros(sentences.targets.shape)
    states, narrow, tokens = np.zeros_like(inputs), 0.0, 0
    seen: dict[str, Tensor] = {}
    hooks = [
        output.adapter_modules.register_forward_pre_hook(lambda module, given: seen.update(inputs=given[0])),
        norm.register_forward_pre_hook(lambda module, given: seen.update(before=given[0])),
    ]
    device = next(encoder.parameters()).device
    try:
        with _in_grid(encoder), progress("reading sentences", len(order)) as advance:
            while order:
                longest = len(sentences.encodings[order[-1]].sequences[0])
                part = order[-max(1, batch_tokens // longest) :]
                del order[-len(part) :]
                batch = {name: each.to(device) for name, each in sentences.batch(part).items()}
                batch.pop("right"), batch.pop("targets")
                last = encoder(**batch).last_hidden_state
                mask = batch["attention_mask"].double()
                shares = (mask / mask.sum(1, keepdim=True))[:, :, None]
                inputs[part] = (seen["inputs"].double() * shares).sum(1).cpu().numpy()
                states[part] = (last.double() * shares).sum(1).cpu().numpy()
                spread = seen["before"].double().var(-1, correction=0).add(encoder.config.layer_norm_eps).rsqrt()
                narrow += float((spread * mask).sum())
                tokens += int(mask.sum())
                advance(len(part))
    finally:
        for hook in hooks:
            hook.remove()
    return _Read(inputs, states, narrow / tokens)


@contextmanager
def _in_grid(encoder: Any) -> Iterator[None]:
    """The layers see all tokens of all texts, in their order; without dropout."""
    layout, training = encoder.config.layout, encoder.training
    encoder.config.layout = "grid"
    encoder.eval()
    try:
        yield
    finally:
        encoder.config.layout = layout
        encoder.train(training)
