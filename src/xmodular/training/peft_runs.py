"""Fine-tuning of a model with layers of PEFT: what is checked before the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from xmodular.configuration import read_config
from xmodular.console import console
from xmodular.errors import ConfigurationError, InputError
from xmodular.modeling.peft_layers import active_adapter, check_all_saved, in_language_adapters
from xmodular.modeling.trainable import parameter_group
from xmodular.weight_names import PREFIX, bare
from xmodular.weights import open_weights


def check_tuned(model: Any, *, is_new: bool, trainable: str) -> None:
    """Check that what trains in a model is an adapter of PEFT that can be saved and found again.

    Args:
        model: an X-MOD model with layers of PEFT in it.
        is_new: whether its head was not loaded from its files.
        trainable: the option.

    Raises:
        ConfigurationError: `trainable` is not the default, as PEFT decides what trains.
        InputError: the adapter names no base model, trains a new head not at all, or parameters that are not saved.
    """
    if trainable != "shared":
        raise ConfigurationError(f"--trainable {trainable} does not apply to a PEFT model: its configuration decides.")
    base = model.peft_config[active_adapter(model)].base_model_name_or_path
    if not base:
        raise InputError(
            "The PEFT model does not know where its base model is saved, so its adapter could not be loaded again: "
            "save the base with save_pretrained, load it from there, and wrap that."
        )
    check_all_saved(model)
    still = [n for n, p in model.named_parameters() if parameter_group(n) == "task head" and not p.requires_grad]
    if is_new and (lost := [name for name in still if ".original_module." not in name]):
        part = bare(lost[0]).partition(".")[0]
        raise InputError(
            f"The head of the PEFT model is new, and its {part} does not train: add {part!r} to modules_to_save."
        )
    _check_base(model, base)
    if in_language_adapters(model):
        console.print(
            "PEFT has layers in the adapters of languages, of which only those of the training languages learn: their "
            'text is read in another way than before, other languages\' is not. exclude_modules=".*adapter_modules.*" '
            "leaves them alone."
        )


def _check_base(model: Any, base: str) -> None:
    """Check that a model's own weights are those in the folder that its adapter names; a name on the Hub is believed.

    Raises:
        InputError: a weight differs, or the model has a language that was added later.
    """
    if not Path(base).is_dir():
        return
    said = f"is not in its base model {base}, by which its adapter would be loaded: save the base first, and load it"
    if added := [code for code in model.languages if code not in read_config(base).languages]:
        raise InputError(f"The language {added[0]} of the PEFT model {said}.")
    with open_weights(base) as weights:
        for name, tensor in model.state_dict().items():
            own = name.replace(".base_layer.", ".").replace(".original_module.", ".")
            stored = next((each for each in (own, bare(own), f"{PREFIX}{own}") if each in weights), None)
            if stored is not None and not torch.equal(weights[stored].to(tensor), tensor):
                raise InputError(f"The value of {own} of the PEFT model {said}.")
