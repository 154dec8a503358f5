"""Calls per layer that a GPU would be launched for, before and after: counted without one, on the meta device.

    python benchmarks/launches.py

20 ragged sequences of up to 12 tokens in 1, 8 or 20 languages, bfloat16. *Loops*: attention run by run (sequences of
equal length), and three calls for each language's adapter, as on a CPU. *One call*: as on an H100. Views and empty
tensors launch nothing and do not count; attention counts as one call, and so does the grouped product.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from xmodular import XmodConfig, XmodModel
from xmodular.modeling import kernels, model
from xmodular.modeling.routing import make_plan

CODES = [f"l{index:03d}_XX" for index in range(20)]
FREE = ("detach", "lift", "alias", "_unsafe_view")


class Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        self.count += not (func.is_view or name.startswith(FREE) or "empty" in name)
        return func(*args, **(kwargs or {}))


class AttentionIsOne(TorchFunctionMode):
    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.calls.count
        made = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.calls.count = before + 1
        return made


def on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: on_meta(getattr(value, field.name)) for field in fields(value)})
    return value


def calls(languages: int, *, gpu: bool, train: bool, per_token: bool) -> int:
    """Calls of a layer's forward pass."""
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "num_hidden_layers": 2}
    network = XmodModel(XmodConfig(vocab_size=99, languages=CODES, **sizes), add_pooling_layer=False)
    network = network.train(train).to("meta", torch.bfloat16)
    rows, length = 20, 12
    mask = (torch.arange(length) < 1 + torch.arange(rows)[:, None] % length).long()
    ids = torch.arange(rows) % languages
    ids = (ids[:, None] + torch.arange(length)) % languages if per_token else ids
    plan = on_meta(make_plan(ids, mask, rows, length, CODES, pack=True))
    batch = {"input_ids": torch.ones(rows, length).long(), "attention_mask": mask, "lang_ids": ids}
    counts: list[int] = []
    cost = patch.object(kernels, "calls_cost", lambda device: gpu)
    able = patch.object(kernels, "capability", lambda device: (9, 0) if gpu else (0, 0))
    planned = patch.object(model, "make_plan", lambda *args, **kwargs: plan)
    with Calls() as counter, AttentionIsOne(counter), cost, able, planned:
        network.encoder.layer[0].register_forward_pre_hook(lambda *_: counts.append(counter.count))
        network.encoder.layer[0].register_forward_hook(lambda *_: counts.append(counter.count))
        network(**{name: value.to("meta") for name, value in batch.items()})
    return counts[1] - counts[0]


def table() -> str:
    lines = ["| forward pass of a layer | languages | loops | one call |", "| --- | ---: | ---: | ---: |"]
    for train in (False, True):
        for per_token in (False, True):
            what = f"{'training, with dropout' if train else 'inference'}{', languages by token' if per_token else ''}"
            for languages in (1, 8, 20):
                before, after = (calls(languages, gpu=gpu, train=train, per_token=per_token) for gpu in (False, True))
                lines.append(f"| {what} | {languages} | {before} | {after} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
