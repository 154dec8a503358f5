"""One model over several processes: sharded weights, gradients and optimiser state (FSDP2, `fully_shard`).

Every process gathers a layer's weights, computes, and scatters the gradients. All must have gradients for the same
parameters, but a process whose batch lacks a language has none for its adapter. So every adapter takes part in the
backward pass with zero gradients, which are then removed from adapters that no process used: as in one process, the
optimiser does not change them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.adapters import Adapters, in_order
from xmodular.modeling.encoder import XmodLayer
from xmodular.modeling.routing import Routes


class Shards:
    """A sharded model.

    Args:
        model: the model, identical in all processes; it is sharded in place.
        device: the device of this process.
    """

    def __init__(self, model: XmodPreTrainedModel, device: torch.device) -> None:
        self.model = model
        self.made_of = type(model)  # sharding changes the class
        self.adapters = [module for module in model.modules() if isinstance(module, Adapters)]
        self.used = torch.zeros(len(self.adapters), len(model.languages), dtype=torch.int32)
        for layer, adapters in enumerate(self.adapters):
            adapters.register_forward_hook(self._takes_part(layer))
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for module in model.modules():
            if isinstance(module, XmodLayer):
                fully_shard(module, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def _takes_part(self, layer: int) -> Any:
        def hook(adapters: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return output
            routes: Routes = inputs[1]
            here = {language for language, _ in routes.segments}
            self.used[layer, list(here)] = 1
            others = [
                parameter
                for language, adapter in enumerate(in_order(cast(Adapters, adapters)))
                if language not in here
                for parameter in adapter.parameters()
                if parameter.requires_grad
            ]
            return _WithZeros.apply(output, *others) if others else output

        return hook

    def forget_unused(self) -> None:
        """Remove the gradients of adapters that no process used since the last call."""
        used = self.used.to(self.model.device, copy=True)
        dist.all_reduce(used, dist.ReduceOp.MAX)
        self.used.zero_()
        for adapters, row in zip(self.adapters, used.tolist(), strict=True):
            for adapter, seen in zip(in_order(adapters), row, strict=True):
                if not seen:
                    adapter.zero_grad(set_to_none=True)

    def gathered(self) -> XmodPreTrainedModel:
        """The whole model on the CPU, in every process; all must call it."""
        state = {name: _whole(tensor).cpu() for name, tensor in self.model.state_dict().items()}
        with torch.device("meta"):
            whole = self.made_of(self.model.config)
        whole.load_state_dict(state, assign=True)
        whole.tie_weights()
        return whole.train(self.model.training)

    def save_optimizer(self, optimizer: Any, path: Path) -> None:
        """Write this process's part of the optimiser's state."""
        record = optimizer.state_dict()
        state = {
            index: {name: value.to_local() if isinstance(value, DTensor) else value for name, value in values.items()}
            for index, values in record["state"].items()
        }
        torch.save({"state": state, "param_groups": record["param_groups"]}, path)

    def load_optimizer(self, optimizer: Any, path: Path) -> None:
        """Load the files of `save_optimizer`, with the same number of processes."""
        record = torch.load(path, map_location="cpu", weights_only=True)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, values in record["state"].items():
            like = parameters[index]
            for name, value in values.items():
                if value.shape == like.to_local().shape and value.dim():
                    values[name] = DTensor.from_local(
                        value.to(like.device), like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
                    )
        optimizer.load_state_dict(record)


class _WithZeros(torch.autograd.Function):
    """Its first argument; the others get a gradient of zeros."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, *others: Tensor) -> Tensor:
        ctx.likes = [(other.shape, other.dtype, other.device) for other in others]
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], *(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.likes)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()
