"""Tiny fairseq checkpoints on disk."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.reference.fairseq import BASE, settings, state_dict

LANGUAGES = ("en_XX", "de_DE", "sw_KE")


def save(path: Path, state: Mapping[str, Any], args: Mapping[str, Any] | None, **more: Any) -> Path:
    """Write a checkpoint as fairseq does: a namespace for the model inside a plain ``cfg``."""
    cfg = None if args is None else {"model": argparse.Namespace(**args), "task": {"_name": "multilingual_masked_lm"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"args": None, "cfg": cfg, "model": state, **more}, path)
    return path


def tiny(path: Path, flags: Mapping[str, Any] = BASE, heads: Mapping[str, int] | None = None, **over: Any) -> Any:
    """Settings, state dict and file of a tiny checkpoint."""
    args = settings(flags, LANGUAGES, **over)
    state = state_dict(args, heads=heads)
    return args, state, save(path, state, args)


def assert_same_bytes(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """The same names, dtypes and bits."""
    assert a.keys() == b.keys(), sorted(a.keys() ^ b.keys())
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype, name
        assert tensor.shape == b[name].shape, name
        assert torch.equal(tensor.contiguous().view(torch.uint8), b[name].contiguous().view(torch.uint8)), name
