"""Layers of PEFT (LoRA and the like) in a model: find, save, load and merge them; PEFT is only imported for that."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from xmodular.configuration.peft_folder import METHODS, PREFIX, WEIGHTS, peft_settings
from xmodular.errors import ConfigurationError, DataError, InputError, in_one_line
from xmodular.modeling.adapters_on_disk import on_disk
from xmodular.modeling.trainable import language_of_weight, parameter_group
from xmodular.weight_names import ADAPTER

EXTRA = "pip install peft"


def has_peft(model: nn.Module) -> bool:
    """Whether PEFT has put layers into a model."""
    return bool(getattr(model, "peft_config", None))


def without_wrapper(model: Any) -> Any:
    """The X-MOD model inside a ``PeftModel``, with PEFT's layers in it; another object is returned unchanged.

    Raises:
        InputError: the PEFT model is of a method that is not in the model's layers.
    """
    if "peft" not in sys.modules or not isinstance(model, sys.modules["peft"].PeftModel):
        return model
    for config in model.peft_config.values():
        if (method := config.peft_type.value) not in METHODS:
            raise InputError(
                f"The model is a PEFT model with {method}, which is not in the layers of the model: call it yourself, "
                f"as with transformers' Trainer. Here, these work: {', '.join(sorted(METHODS))}."
            )
    return model.get_base_model()


def active_adapter(model: nn.Module) -> str:
    """The name of the adapter of PEFT that a model computes with.

    Raises:
        InputError: there are several, or none.
    """
    layers: Iterator[Any] = (module for module in model.modules() if _is_tuner_layer(module))
    active = {name for layer in layers if not layer.disable_adapters for name in layer.active_adapters}
    if len(active) != 1:
        names = ", ".join(sorted(active)) or "none"
        raise InputError(f"The model must have one active adapter of PEFT; it has {names}: call set_adapter first.")
    return active.pop()


def trained_module(module: Any) -> Any:
    """The copy of a module that PEFT trains whole (``modules_to_save``); any other module is returned unchanged."""
    copies = getattr(module, "modules_to_save", None)
    return module if copies is None else copies[module.active_adapters[0]]


def replace_trained_module(module: Any, new: nn.Module) -> None:
    """Put another module in the place of that copy."""
    module.modules_to_save[module.active_adapters[0]] = new


def in_language_adapters(model: nn.Module) -> bool:
    """Whether there are layers of PEFT inside the adapters of languages."""
    found = (name for name, module in model.named_modules() if _is_tuner_layer(module))
    return any(ADAPTER in f".{name}." for name in found)


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the active adapter, by the names they are saved under, without `PREFIX`."""
    peft = _peft()
    with _quiet():
        found: dict[str, Tensor] = peft.get_peft_model_state_dict(
            model, adapter_name=active_adapter(model), save_embedding_layers=False
        )
    return found


def check_all_saved(model: nn.Module) -> None:
    """Check that everything that trains is part of the adapter, and so is saved with it.

    Raises:
        InputError: nothing trains, or a parameter does that would not be saved.
    """
    kept = {tensor.data_ptr() for tensor in saved_tensors(model).values()}
    trains = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trains:
        raise InputError("No parameter of the PEFT model is trainable: load it with is_trainable=True.")
    if lost := [name for name, parameter in trains if parameter.data_ptr() not in kept]:
        raise InputError(
            f"{len(lost)} trainable parameters are no part of the PEFT adapter and would not be saved, among them "
            f"{lost[0]}: name their modules in modules_to_save, or freeze them."
        )


def attach(model: Any, source: Path, *, drop_head: bool) -> set[str]:
    """Load the adapter in a folder into its base model, and merge it.

    Args:
        model: the base, changed in place.
        source: the adapter's folder.
        drop_head: leave out the head that was saved with the adapter.

    Returns:
        Names of the head's weights that were saved with it and loaded.

    Raises:
        ConfigurationError: PEFT is not installed, or the adapter does not fit the model, or languages are on disk that
            it changes.
        DataError: its weights are damaged, or some are missing.
    """
    peft, settings = _peft(), peft_settings(source)
    try:
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(source / WEIGHTS).items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{source / WEIGHTS} is damaged or not a safetensors file: {in_one_line(error)}") from error
    codes = set(model.config.languages)
    tensors = {n: t for n, t in tensors.items() if (code := language_of_weight(f".{n}")) is None or code in codes}
    if on_disk(model) and any(language_of_weight(f".{name}") is not None for name in tensors):
        raise ConfigurationError(
            f"The PEFT adapter {source} has layers in the adapters of languages, which resident_languages leaves on "
            "disk: load it without resident_languages."
        )
    head = {name for name in tensors if parameter_group(name) == "task head"}
    if drop_head:
        tensors = {name: tensor for name, tensor in tensors.items() if name not in head}
    known = {name: value for name, value in settings.items() if value is not None}
    try:
        with _quiet():
            config = peft.get_peft_config(known)
            if drop_head:
                config.modules_to_save = None
            peft.inject_adapter_in_model(config, model, "default")
            report = peft.set_peft_model_state_dict(model, tensors)
            missing = saved_tensors(model).keys() - tensors.keys()
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise ConfigurationError(
            f"The PEFT adapter {source} does not fit the model {settings.get('base_model_name_or_path')}: "
            f"{in_one_line(error):.300}"
        ) from error
    if wrong := sorted(report.unexpected_keys) or sorted(missing):
        said = "has a weight that is not in its model" if report.unexpected_keys else "lacks the weight"
        raise DataError(f"{source / WEIGHTS} {said}: {wrong[0]}.")
    try:
        _merge(model)
    except ValueError as error:  # numbers that are none
        raise DataError(f"{source / WEIGHTS} cannot be merged into its model: {in_one_line(error):.300}") from error
    return set() if drop_head else head


def merged(model: Any) -> Any:
    """A copy of a model, with PEFT's layers merged into the weights as they compute now; it is plain again.

    Raises:
        InputError: PEFT cannot merge them.
    """
    if not has_peft(model):
        return copy.deepcopy(model)
    plain = copy.deepcopy(model)
    try:
        _merge(plain)
    except (ValueError, NotImplementedError, AttributeError, TypeError) as error:
        raise InputError(f"PEFT cannot merge its layers into the model: {in_one_line(error):.300}") from error
    return plain


def _merge(model: Any) -> None:
    """Merge PEFT's active layers into the weights, and take the layers out."""
    _untie(model)
    done: list[str] = []
    for name, module in list(model.named_modules()):
        if any(name.startswith(f"{outer}.") for outer in done):
            continue
        if hasattr(module, "unload_and_optionally_merge_module"):  # a whole module that was trained
            plain = module.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
        elif _is_tuner_layer(module):
            if not module.disable_adapters:
                module.merge(safe_merge=True)
            plain = module.get_base_layer()
        else:
            continue
        model.set_submodule(name, plain)
        done.append(name)
    del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(True)


def _untie(model: Any) -> None:
    """Give the projection of a head its own weights if only one of the two tied layers has layers of PEFT."""
    ends = [end for end in (model.get_input_embeddings(), model.get_output_embeddings()) if end is not None]
    touched = [end for end in ends if hasattr(end, "base_layer") or hasattr(end, "token_adapter")]
    bare = [end.get_base_layer() if hasattr(end, "get_base_layer") else end for end in ends]
    if len(ends) == 2 and touched and bare[0].weight is bare[1].weight:
        bare[1].weight = nn.Parameter(bare[1].weight.detach().clone())
        model.config.tie_word_embeddings = False


def _is_tuner_layer(module: nn.Module) -> bool:
    tuners = sys.modules.get("peft.tuners.tuners_utils")
    return tuners is not None and isinstance(module, tuners.BaseTunerLayer)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigurationError(f"Adapters of PEFT need the package peft: {EXTRA}") from error
    return peft


@contextmanager
def _quiet() -> Iterator[None]:
    """Without PEFT's warnings: what they are about is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trained_state(model: nn.Module) -> Mapping[str, Tensor]:
    """What a checkpoint of a model with layers of PEFT has: the parameters that train, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
