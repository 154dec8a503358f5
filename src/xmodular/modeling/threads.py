"""Choose the number of threads for a piece of work.

torch divides every operation among all cores and waits for the slowest. For tiny operations, that gains
little on idle cores, and next to another busy process each operation waits until the operating system schedules the
second core. So small batches, and all batches of tiny models, use one thread, unless the user has set a number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from xmodular.modeling.pretrained import XmodPreTrainedModel

_SMALL = 2**24  # multiplications of one matrix product, which one core does in a millisecond or less
_TINY = 2**16  # weights of the largest matrix in a layer; with fewer, threads wait more than they work in any batch
_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEFAULT = torch.get_num_threads()


def one_is_enough(model: torch.nn.Module, tokens: int) -> bool:
    """Whether a batch, or its model, is small enough for one thread.

    Never if the environment (``OMP_NUM_THREADS``, ``MKL_NUM_THREADS``) or ``torch.set_num_threads`` sets
    the number of threads, or on an accelerator.

    Args:
        model: the model that reads it.
        tokens: number of tokens of the batch, padding included.
    """
    chosen = torch.get_num_threads() != _DEFAULT or any(name in os.environ for name in _SETTINGS)
    if chosen or _DEFAULT == 1 or not isinstance(model, XmodPreTrainedModel):
        return False
    weights = model.config.hidden_size * model.config.intermediate_size
    return (weights <= _TINY or tokens * weights <= _SMALL) and model.device.type == "cpu"


@contextmanager
def threads_for(model: torch.nn.Module, tokens: int) -> Iterator[None]:
    """Use one thread for small work (see `one_is_enough`), then restore the number of threads.

    Args:
        model, tokens: as there.
    """
    if not one_is_enough(model, tokens):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
