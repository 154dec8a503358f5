"""Adapters that are read from the checkpoint when a batch needs them; those used last stay in memory.

A model with 81 languages so needs the memory of a few. Each layer keeps the adapters of the same number of languages.
A batch holds what it uses itself, one language at a time, so that threads need not wait for each other: an adapter that
is dropped while it computes is freed when it is done, and a batch in more languages than are kept costs reads, not
memory. Only the list of those kept is locked.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.languages import resolve_all
from xmodular.modeling.adapters import Adapters, XmodAdapter
from xmodular.stored_tensors import StoredTensors
from xmodular.weight_names import PREFIX

_WHERE = ("revision", "token")
_KEEPING = threading.Lock()  # one for all layers: held for a moment, and a layer that had its own could not be copied


class AdaptersOnDisk(Adapters):
    """The adapters of one layer, of which the files have all and memory those used last.

    They are read in the device and precision of the layer, and do not train.

    Args:
        config: of the model, with all its languages.
        tensors: the checkpoint's.
        prefix: what the names of this layer's weights begin with there, up to the language.
        most: how many languages are kept.

    Raises:
        DataError: the files lack a language, or have it in another shape.
    """

    def __init__(self, config: XmodConfig, tensors: StoredTensors, prefix: str, most: int) -> None:
        nn.ModuleDict.__init__(self)
        self._config, self._tensors, self._prefix, self._most = config, tensors, prefix, most
        self._codes = tuple(config.languages)
        self._kept: OrderedDict[str, XmodAdapter] = OrderedDict()  # no submodules: others may iterate over those
        self.register_buffer("_like", torch.empty(0), persistent=False)
        with torch.device("meta"):
            shapes = {name: tuple(each.shape) for name, each in XmodAdapter(config).named_parameters()}
        self._names = tuple(shapes)
        for code in self._codes:
            for name, shape in shapes.items():
                stored = f"{prefix}{code}.{name}"
                if stored not in tensors:
                    raise DataError(f"{tensors.files[0].parent} has no weight {stored!r}.")
                if (found := tensors.shape(stored)) != shape:
                    raise DataError(f"{stored!r} has the shape {found}; by config.json it must be {shape}.")

    @property
    def files(self) -> tuple[Path, ...]:
        """The checkpoint's."""
        return self._tensors.files

    @property
    def kept(self) -> tuple[str, ...]:
        """The languages in memory, the one used last at the end."""
        with _KEEPING:
            return tuple(self._kept)

    def __getitem__(self, code: str) -> XmodAdapter:
        adapter = self._kept.get(code)
        if adapter is None:
            adapter = self._read(code)
        with _KEEPING:
            adapter = self._kept.setdefault(code, adapter)  # another thread may have read it, or dropped it, meanwhile
            self._kept.move_to_end(code)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return adapter

    def _read(self, code: str) -> XmodAdapter:
        if code not in self._codes:
            raise KeyError(code)
        like: Any = self._like
        with torch.device("meta"):  # no time for random weights
            adapter = XmodAdapter(self._config)
        for name in self._names:
            module, _, parameter = name.rpartition(".")
            tensor = self._tensors[f"{self._prefix}{code}.{name}"].to(like.device, like.dtype)
            setattr(adapter.get_submodule(module), parameter, nn.Parameter(tensor, requires_grad=False))
        return adapter.train(self.training)

    def _used(self, languages: Iterable[int]) -> Iterator[XmodAdapter]:
        return (self[self._codes[language]] for language in languages)

    def _together(self, languages: Sequence[int], groups: Any) -> None:
        """None: a batch has one language in memory at a time."""

    def _apply(self, *args: Any, **more: Any) -> Any:
        with _KEEPING:
            self._kept.clear()  # in the old precision, or on the old device
        return super()._apply(*args, **more)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if any(name.startswith(prefix) for name in state_dict):  # with strict=False they would be passed over
            self._refuse()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __len__(self) -> int:
        return len(self._codes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._codes)

    def __contains__(self, code: object) -> bool:
        return code in self._codes

    def keys(self) -> Any:
        """The languages, in the order of their ids."""
        return dict.fromkeys(self._codes).keys()

    def _refuse(self, *args: Any, **more: Any) -> NoReturn:
        """Raises InputError: what is asked for needs all languages in memory."""
        raise InputError(
            "this model reads its languages from disk as they are needed (resident_languages), so it can neither be "
            "changed nor traced nor trained as a whole, nor take languages from a state_dict: load it without "
            "resident_languages."
        )

    values = items = clear = update = pop = __setitem__ = __delitem__ = _refuse


def on_disk(model: nn.Module) -> list[AdaptersOnDisk]:
    """The layers whose adapters are read as they are needed."""
    return [module for module in model.modules() if isinstance(module, AdaptersOnDisk)]


def check_in_memory(adapters: Adapters) -> None:
    """Raises InputError if adapters are on disk: they cannot be changed."""
    if isinstance(adapters, AdaptersOnDisk):
        adapters._refuse()


def load_on_demand(
    cls: Any, source: Any, args: Any, loading: dict[str, Any], languages: Sequence[str] | None, most: int, **more: Any
) -> Any:
    """Load a model with its languages left on disk.

    A language with its own vocabulary keeps that in memory.

    Args:
        cls: the class of the model.
        source, args, loading, languages: as for `from_pretrained`.
        most: number of languages in memory.
        more: the rest of the arguments.

    Raises:
        ConfigurationError: `most` is less than 1.
        DataError: the weights are not in safetensors files, or lack a language.
    """
    if most < 1:
        raise ConfigurationError(f"resident_languages is {most}: it must be at least 1.")
    where = {name: loading[name] for name in _WHERE if loading.get(name) is not None}
    config = loading.get("config")
    if not isinstance(config, XmodConfig):
        config = XmodConfig.from_pretrained(config or source, **where)
    default = loading.pop("default_language", config.default_language if languages is None else None)
    codes = list(config.languages)
    if languages is not None:
        codes = resolve_all(languages, codes, **more)
        if config.default_language in codes:
            default = default or config.default_language
    at_first = [code for code in codes if code in config.vocabularies] or codes[:1]
    loaded = cls.from_pretrained(source, *args, languages=at_first, **loading)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    model.config.languages = codes
    model.config.default_language = codes[0] if len(codes) == 1 else None
    if default is not None:
        model.set_default_language(default, **more)
    tensors = StoredTensors.of_model(source, **where)
    for name, module in list(model.named_modules()):
        if not isinstance(module, Adapters):
            continue
        parent, _, own = name.rpartition(".")
        given = [f"{begin}{name.removeprefix(PREFIX)}." for begin in (PREFIX, "")]
        prefix = next((each for each in given if f"{each}{codes[0]}.dense1.weight" in tensors), given[0])
        like = next(module.parameters())
        replacing = AdaptersOnDisk(model.config, tensors, prefix, most).to(like.device, like.dtype)
        setattr(model.get_submodule(parent), own, replacing.train(module.training))
    return loaded
