"""How many threads a piece of work is worth.

torch divides every operation among all cores and waits for the slowest. Where the operations are tiny, that gains
little on quiet cores, and beside another busy process each of them waits until the operating system gives the second
core back. So small work takes one thread, unless the user has said how many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from xmodular.modeling.pretrained import XmodPreTrainedModel

_SMALL = 2**24  # multiplications of one matrix product, which one core does in a millisecond or less
_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEFAULT = torch.get_num_threads()


def one_is_enough(model: torch.nn.Module, tokens: int) -> bool:
    """Whether a batch is small work that may be given to one thread.

    It may not where the environment (``OMP_NUM_THREADS``, ``MKL_NUM_THREADS``) or ``torch.set_num_threads`` has said
    how many threads there are to be, and need not on an accelerator.

    Args:
        model: that reads it.
        tokens: of the batch, padding included.
    """
    chosen = torch.get_num_threads() != _DEFAULT or any(name in os.environ for name in _SETTINGS)
    if chosen or _DEFAULT == 1 or not isinstance(model, XmodPreTrainedModel):
        return False
    work = tokens * model.config.hidden_size * model.config.intermediate_size
    return work <= _SMALL and model.device.type == "cpu"


@contextmanager
def threads_for(model: torch.nn.Module, tokens: int) -> Iterator[None]:
    """One thread for small work (see `one_is_enough`), afterwards as many as before.

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
