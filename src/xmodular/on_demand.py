"""Load a model without its adapters: each language's are read when a batch first needs them.

Most of a massively multilingual model are adapters, and most texts are in few of its languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xmodular.configuration import read_config
from xmodular.errors import DataError
from xmodular.exported_models import is_exported
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.adapters import Adapters, XmodAdapter
from xmodular.options import WeightPrecision
from xmodular.saved_models import load_saved, to_run
from xmodular.weights import open_weights


def load_on_demand(source: str | Path, precision: WeightPrecision = "keep") -> XmodPreTrainedModel:
    """A model for inference, as `to_run` gives it, whose adapters are loaded with the first batch that needs them.

    Its languages and their ids are those of the checkpoint. Until a language is needed, its adapters are on the "meta"
    device, where they take no memory. Languages with vocabularies of their own are loaded at once.

    Args:
        source: model folder, or a name on the Hub. An exported model has all its languages in its graph.
        precision: as for `to_run`.

    Raises:
        ConfigurationError, DataError: as `to_run`; weights of a language are missing.
    """
    if is_exported(source):
        return to_run(source, precision)
    config = read_config(source)
    usual = (config.default_language, config.task_language, config.languages[0])
    first = next(code for code in usual if code in config.languages)
    model = load_saved(source, precision, languages=[*dict.fromkeys([first, *config.vocabularies])])
    if torch.cuda.is_available():
        nn.Module.to(model, "cuda")
    for adapters in _adapters_in(model).values():
        here = dict(adapters.items())
        adapters.clear()
        with torch.device("meta"):
            absent = {code: XmodAdapter(config) for code in config.languages if code not in here}
        dtype = next(adapter for adapter in here.values()).get_parameter("dense1.weight").dtype
        adapters.update({code: here[code] if code in here else absent[code].to(dtype) for code in config.languages})
    model.config.languages = list(config.languages)
    model.config.default_language = config.default_language
    with open_weights(source) as weights:
        names = [name for name, parameter in model.named_parameters() if parameter.device.type == "meta"]
        if missing := next((name for name in names if name not in weights), None):
            raise DataError(f"The model at {source} lacks weights of its languages, among them {missing}.")
    model.register_forward_pre_hook(partial(_bring, str(source)), with_kwargs=True)
    return model.eval()


def resident_languages(model: XmodPreTrainedModel) -> tuple[str, ...]:
    """The languages whose adapters are in memory."""
    first = next(iter(_adapters_in(model).values()), None)
    if first is None:
        return model.languages
    return tuple(code for code, adapter in first.items() if not _is_absent(adapter))


def _adapters_in(model: nn.Module) -> dict[str, Adapters]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Adapters)}


def _is_absent(adapter: nn.Module) -> bool:
    return any(parameter.device.type == "meta" for parameter in adapter.parameters())


def _bring(source: str, model: Any, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
    """Before a forward pass: load the adapters of the languages in the batch that are not in memory."""
    ids = inputs.get("lang_ids")
    needed = [model.default_lang_id()] if ids is None else ids.unique().tolist()
    codes = [model.languages[number] for number in needed if 0 <= number < len(model.languages)]
    layers = _adapters_in(model)
    first = next(iter(layers.values()))
    codes = [code for code in codes if _is_absent(first[code])]
    if not codes:
        return
    like = model.base_model.embeddings.word_embeddings.weight
    with torch.inference_mode(False), torch.no_grad(), open_weights(source) as weights:
        for path, adapters in layers.items():
            for code in codes:
                names = [name for name, _ in adapters[code].named_parameters()]
                state = {name: weights[f"{path}.{code}.{name}"].to(like.device, like.dtype) for name in names}
                adapters[code].load_state_dict(state, assign=True)
