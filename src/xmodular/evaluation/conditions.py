"""Which adapter reads what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from xmodular.errors import LanguageError
from xmodular.languages import relatives, resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.adapters import Adapters


class Reading(NamedTuple):
    """How a language's rows are read: by whose adapter, or as that language with the adapters left out."""

    language: str
    reader: str
    adapted: bool


class Job(NamedTuple):
    """A reading, and what it is called in the results."""

    condition: str
    reading: Reading


class Reader(NamedTuple):
    """The language of a model whose adapter reads some language, and whether that is the language itself."""

    code: str
    own: bool


def reader_of(name: str, languages: Sequence[str], fallback: str | None) -> Reader | None:
    """Who reads a language: its own adapter or, as a fallback, its nearest relative's; None if neither is there."""
    try:
        return Reader(resolve(name, languages), True)
    except LanguageError:
        if fallback is None:
            return None
    try:
        return Reader(resolve(name, languages, fallback=fallback), False)
    except LanguageError:
        return None


def jobs_of(
    language: str, reader: Reader, conditions: Sequence[str], source: str | None, languages: Sequence[str]
) -> list[Job]:
    """The ways in which one model reads one language.

    Args:
        language: what it is called in the results.
        reader: whose adapter stands for its own.
        conditions: of "right", "source", "relative" and "none".
        source: the language that the model was trained in.
        languages: those of the model.
    """
    nearest = next(iter(relatives(language, languages)), None) if reader.own else reader.code
    found: dict[str, Reading] = {}
    for condition in conditions:
        if condition == "right":
            found["right" if reader.own else "relative"] = Reading(language, reader.code, True)
        elif condition == "relative" and nearest is not None:
            found["relative"] = Reading(language, nearest, True)
        elif condition == "source" and source is not None and reader.code != source:  # it would be the same
            found["source"] = Reading(language, source, True)
        elif condition == "none":
            found["none"] = Reading(language, reader.code, False)
    return [Job(condition, reading) for condition, reading in found.items()]


@contextmanager
def without_adapters(model: XmodPreTrainedModel, *, left_out: bool = True) -> Iterator[None]:
    """For a while the bottlenecks add nothing; residual and LayerNorm stay. No weight is touched.

    Args:
        model: any.
        left_out: False changes nothing.
    """
    modules: list[nn.Module] = [module for module in model.modules() if isinstance(module, Adapters)]
    handles = [module.register_forward_hook(_nothing) for module in modules if left_out]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _nothing(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return torch.zeros_like(output)
