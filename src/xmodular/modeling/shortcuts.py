"""Tell where a shortcut to the same result is safe: around unmodified modules, or with sizes known in advance."""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses import FakeTensor
from torch.nn.modules import module as torch_module

_PLAIN_PARAMETERS = (nn.Parameter, FakeTensor)  # the second stands in for a parameter while a model is exported


def tracing() -> bool:
    """Whether a graph is being recorded: no size may depend on data.

    By torch.compile, torch.export or torch.jit.trace, or of a GPU's calls by torch.cuda.graph.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or _captured()


def _captured() -> bool:
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module has exactly one of these classes, without wrappers or hooks.

    Only then may its parameters be used directly, or its output be changed in place; otherwise it must be called.
    Adapters (PEFT), quantised layers and parametrisations have their own classes, and so have some quantised weights;
    accelerate gives the instance its own `forward`.
    """
    return (
        type(module) in kinds
        and "forward" not in module.__dict__
        and all(parameter is None or type(parameter) in _PLAIN_PARAMETERS for parameter in module._parameters.values())
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
        and not (torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks)
        and not (torch_module._global_backward_hooks or torch_module._global_backward_pre_hooks)
    )
