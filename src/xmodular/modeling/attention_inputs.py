"""What the layers' attention needs besides the hidden states: made once per forward pass, the same for all layers.

On a GPU every call costs, so that one call serves all runs of the packed layout (`AttentionInputs.one_call`).

Shapes: B sequences, S tokens per sequence as given, T tokens that are worked on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmodular.modeling import kernels
from xmodular.modeling.caches import Past
from xmodular.modeling.routing import Plan, sent


@dataclass(frozen=True)
class Padded:
    """Packed sequences as a grid *(sequences, longest)*.

    Attributes:
        shape: the grid's.
        places: *Shape: (T,)*, int64. The place of each token in the flattened grid.
        mask: *Shape: (sequences, 1, 1, longest)*, added to the scores. None with causal attention, as no token looks
            at the padding, which is at the end.
    """

    shape: tuple[int, int]
    places: Tensor
    mask: Tensor | None


@dataclass
class AttentionInputs:
    """The inputs of attention besides the hidden states.

    Attributes:
        plan: the plan of this forward.
        past: what there is of earlier tokens.
        backend: name of the attention implementation.
        mask: self-attention mask of the grid layout, in the backend's form.
        padding: *Shape: (B, S)*, bool: positions of the grid layout that are padding.
        cross_mask: mask over the encoder's states, in the backend's form.
        causal: whether a query attends only to keys up to its own position.
        want_weights: whether to return the probabilities.
        cumulative: *Shape: (sequences + 1,)*, int32, for variable-length kernels.
        padded: the packed sequences as a grid, for kernels that take only sequences of one length.
    """

    plan: Plan
    past: Past
    backend: str
    mask: Any = None
    padding: Tensor | None = None
    cross_mask: Any = None
    causal: bool = False
    want_weights: bool = False
    cumulative: Tensor | None = None
    padded: Padded | None = None

    def one_call(self, device: torch.device, dtype: torch.dtype, head_size: int, *, dropout: bool) -> None:
        """Decides how all runs are attended to in one call, where the device is slow to be called for each.

        Args:
            device, dtype: where and in which type it computes.
            head_size: the size of a head.
            dropout: whether weights are dropped, which only kernels for sequences of one length do.
        """
        runs = self.plan.runs or ()
        if "flash" in self.backend:
            self.cumulative = _cumulative(self.plan, device)
        elif self.backend == "sdpa" and kernels.calls_cost(device) and len(runs) > 1:
            if not dropout and kernels.attends(device, dtype, head_size):
                self.cumulative = _cumulative(self.plan, device)
            else:
                self.padded = _padded(self.plan, device, dtype, causal=self.causal)


def _cumulative(plan: Plan, device: torch.device) -> Tensor:
    """Where each packed sequence begins, and where the last one ends: *(sequences + 1,)*, int32."""
    lengths = torch.tensor([0, *(length for count, length in plan.runs or () for _ in range(count))])
    return sent(lengths.cumsum(0).int(), device)


def _padded(plan: Plan, device: torch.device, dtype: torch.dtype, *, causal: bool) -> Padded:
    lengths = torch.tensor([length for count, length in plan.runs or () for _ in range(count)])
    longest = -(-max(length for _, length in plan.runs or ()) // 8) * 8  # as wide as kernels for masks like it
    real = torch.arange(longest) < lengths[:, None]
    hidden = torch.zeros(real.shape, dtype=dtype).masked_fill(~real, torch.finfo(dtype).min)
    places = sent(real.flatten().nonzero().squeeze(1), device)
    return Padded((len(lengths), longest), places, None if causal else sent(hidden, device)[:, None, None])
