"""The weights in a checkpoint: a whole model or, of one with layers of PEFT, only what trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from xmodular.errors import TrainingError
from xmodular.modeling.peft_layers import has_peft, trained_state
from xmodular.tasks import load_saved

_TRAINED = "trained.safetensors"


def write_weights(model: Any, folder: Path) -> None:
    """Write a model's weights to a checkpoint."""
    if has_peft(model):
        state = {name: tensor.cpu().contiguous() for name, tensor in trained_state(model).items()}
        save_file(state, folder / _TRAINED, metadata={"format": "pt"})
    else:
        model.save_pretrained(folder)


@torch.no_grad()
def read_weights(model: Any, folder: Path) -> None:
    """Load a checkpoint's weights into the model that it was written from.

    Raises:
        TrainingError: it is of a model in which other parameters train.
    """
    if not has_peft(model):
        model.load_state_dict(load_saved(folder).state_dict())
        return
    state, own = load_file(folder / _TRAINED), trained_state(model)
    if {name: tensor.shape for name, tensor in state.items()} != {name: tensor.shape for name, tensor in own.items()}:
        raise TrainingError(f"In {folder}, other parameters of the PEFT model were trained than now: start over.")
    for name, tensor in own.items():
        tensor.copy_(state[name])
