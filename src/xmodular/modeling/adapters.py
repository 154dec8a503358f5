"""One bottleneck adapter per language (Pfeiffer et al. 2022, section 3.1).

Shapes: T tokens of all languages; in the grid layout, B sequences of S tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from xmodular.configuration import XmodConfig
from xmodular.modeling import kernels
from xmodular.modeling.products import linear
from xmodular.modeling.routing import Groups, Routes
from xmodular.modeling.shortcuts import is_plain, tracing


def activation(config: XmodConfig) -> Callable[[Tensor], Tensor]:
    """The activation of the feed-forward layer and of the adapters."""
    return ACT2FN[config.hidden_act] if isinstance(config.hidden_act, str) else config.hidden_act


class XmodAdapter(nn.Module):
    """The adapter of one language in one layer: down-projection, activation, up-projection."""

    _adds_something = False  # of the class, as pickled models lack it

    def __init__(self, config: XmodConfig) -> None:
        super().__init__()
        self.dense1 = nn.Linear(config.hidden_size, config.bottleneck_size)
        self.dense2 = nn.Linear(config.bottleneck_size, config.hidden_size)
        self.activation = activation(config)

    def forward(self, states: Tensor) -> Tensor:
        """*Shape: (T, hidden)* to *(T, hidden)*; the residual is added outside."""
        if self.is_neutral():
            return torch.zeros_like(states)
        return linear(self.dense2, linear(self.dense1, states, self.activation))

    def is_neutral(self) -> bool:
        """Whether the output is zero for any input, as `upcycle` makes adapters, so that nothing need be computed.

        Read from the weights, as anything may change them; once they were not zero, not again. False where reading
        would wait for a device or break a graph, and where the weights are to learn.
        """
        if tracing() or self._adds_something or not _gatherable(self):
            return False
        last = self.dense2
        if last.weight.device.type != "cpu" or (torch.is_grad_enabled() and _learns(self)):
            return False
        for parameter in (last.bias, last.weight):
            low, high = parameter.detach().aminmax()
            if not low == high == 0:
                self._adds_something = True
                return False
        return True


class Adapters(nn.ModuleDict):
    """The adapters of all languages in one layer, by code, in the order of the language ids.

    Only the adapters of languages in the batch are used, so the others get no gradient. Codes begin with a letter,
    so method names other than `forward` do not.
    """

    _left_out = False

    def __init__(self, config: XmodConfig) -> None:
        super().__init__({language: XmodAdapter(config) for language in config.languages})

    def forward(self, states: Tensor, routes: Routes) -> Tensor:
        """Sends every token through its language's adapter, whose input is flat: *(tokens, hidden)*.

        Args:
            states: *Shape: (T, hidden)* or *(B, S, hidden)*.
            routes: the adapter of each token.

        Returns:
            The same shape, in the same order.
        """
        if routes.lang_ids is not None:
            return self._by_index(states, routes.lang_ids)
        if states.dim() == 2:
            return self._by_segment(states, routes)
        return self._by_segment(states.flatten(0, 1), routes).view_as(states)

    def _by_segment(self, states: Tensor, routes: Routes) -> Tensor:
        segments, order = routes.segments, routes.order
        languages = [language for language, _ in segments]
        adapters = self._used(languages)
        if len(segments) == 1:
            return next(adapters)(states)
        if not segments:
            return torch.zeros_like(states)
        ordered = states if order is None else states.index_select(0, order)
        groups = routes.groups
        together = None if groups is None else self._together(languages, groups)
        if groups is not None and together is not None:
            adapted = _in_one_product(together, ordered, groups)
        else:
            slices = ordered.split([tokens for _, tokens in segments])
            adapted = torch.cat([adapter(part) for adapter, part in zip(adapters, slices, strict=True)])
        return adapted if order is None else torch.empty_like(adapted).index_copy(0, order, adapted)

    def _used(self, languages: Iterable[int]) -> Iterator[XmodAdapter]:
        """The adapters of some languages by id, one after the other."""
        ordered = in_order(self)
        return (ordered[language] for language in languages)

    def _together(self, languages: Sequence[int], groups: Groups) -> list[XmodAdapter] | None:
        """The adapters of some languages by id, if one product can serve them all."""
        used = list(self._used(languages))
        return used if _fit_one_product(used, groups) else None

    def _by_index(self, states: Tensor, ids: Tensor) -> Tensor:
        """The same without sizes that depend on data: *(B, S, hidden)* by ids *(B,)* or *(B, S)*.

        With one language per sequence the adapters' weights are gathered per sequence. With one per token, or where
        something wraps an adapter or hooks into it, every adapter sees every token, and a mask chooses.
        """
        adapters = in_order(self)
        if ids.dim() == 1 and all(map(_gatherable, adapters)):
            hidden = torch.baddbmm(
                _gather([adapter.dense1.bias for adapter in adapters], ids)[:, None],
                states,
                _gather([adapter.dense1.weight for adapter in adapters], ids).transpose(1, 2),
            )
            return torch.baddbmm(
                _gather([adapter.dense2.bias for adapter in adapters], ids)[:, None],
                adapters[0].activation(hidden),
                _gather([adapter.dense2.weight for adapter in adapters], ids).transpose(1, 2),
            )
        ids = ids if ids.dim() == 2 else ids[:, None]
        chosen = torch.zeros_like(states)
        for index, adapter in enumerate(adapters):
            chosen = torch.where((ids == index)[..., None], adapter(states), chosen)
        return chosen


def in_order(adapters: Adapters) -> list[XmodAdapter]:
    """The adapters by language id."""
    return cast("list[XmodAdapter]", list(adapters.values()))


def sources(adapters: Adapters, routes: Routes) -> list[nn.Module]:
    """The modules whose output a forward pass of `adapters` may return unchanged."""
    if type(adapters) is not Adapters:
        return [adapters]
    ordered = in_order(adapters)
    used = [ordered[language] for language, _ in routes.segments]
    return [adapters, *used, *(adapter.dense2 for adapter in used if type(adapter) is XmodAdapter)]


def are_neutral(adapters: Adapters, routes: Routes) -> bool:
    """Whether the output of a forward pass is zero for any input: every adapter that is used adds nothing."""
    if adapters._left_out:
        return True
    if tracing() or not routes.segments or not is_plain(adapters, Adapters):
        return False
    return all(adapter.is_neutral() for adapter in adapters._used(language for language, _ in routes.segments))


@contextmanager
def without_neutral(model: nn.Module) -> Iterator[None]:
    """Within, graphs of a model leave out the adapters of layers in which no language's adds anything.

    Weights must not change meanwhile. Of several languages the first layer keeps its adapters, so that a graph still
    has its input `lang_ids` and refuses ids that are out of range.
    """
    layers = [module for module in model.modules() if type(module) is Adapters]
    chosen = [each for each in layers if is_plain(each, Adapters) and all(one.is_neutral() for one in in_order(each))]
    chosen = [each for each in chosen if len(each) == 1 or each is not layers[0]]
    for each in chosen:
        each._left_out = True
    try:
        yield
    finally:
        for each in chosen:
            del each._left_out


def _gatherable(adapter: XmodAdapter) -> bool:
    """Whether an adapter is two plain linear layers and an activation that has no weights of its own."""
    act: Any = adapter.activation
    return (
        is_plain(adapter, XmodAdapter)
        and is_plain(adapter.dense1, nn.Linear)
        and is_plain(adapter.dense2, nn.Linear)
        and adapter.dense1.bias is not None
        and adapter.dense2.bias is not None
        and (not isinstance(act, nn.Module) or (is_plain(act, type(act)) and not any(True for _ in act.parameters())))
    )


def _learns(adapter: XmodAdapter) -> bool:
    return any(parameter.requires_grad for parameter in adapter.parameters())


def _fit_one_product(adapters: list[XmodAdapter], groups: Groups) -> bool:
    layer, dtype = adapters[0].dense1, groups.owners.dtype
    return (
        not tracing()
        and all(map(_gatherable, adapters))
        and kernels.computing_dtype(layer.weight.device, layer.weight.dtype) == dtype
        and kernels.groups(layer.weight.device, dtype, layer.in_features, layer.out_features)
    )


def _in_one_product(adapters: list[XmodAdapter], states: Tensor, groups: Groups) -> Tensor:
    """What a loop over the segments gives, *(tokens, hidden)*, in a number of calls that does not depend on theirs."""
    hidden = states.to(groups.owners.dtype)
    for name in ("dense1", "dense2"):
        layers = [cast(nn.Linear, getattr(adapter, name)) for adapter in adapters]
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        hidden = kernels.grouped_linear(hidden, groups.ends, groups.owners, weights, biases)
        hidden = adapters[0].activation(hidden) if name == "dense1" else hidden
    return hidden


def _gather(parameters: list[Tensor], ids: Tensor) -> Tensor:
    return torch.stack(parameters).index_select(0, ids)
