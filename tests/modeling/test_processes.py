"""The model in torch's own DistributedDataParallel, with another language in each process."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from tests.support import labels_like, ragged_batch, tiny_model
from xmodular import XmodForMaskedLM


def one_row(rank: int) -> dict[str, Any]:
    """A row of six tokens in a language of its own."""
    batch = ragged_batch((6,), seed=rank)
    return {**batch, "lang_ids": torch.tensor([rank]), "labels": labels_like(batch, 99, seed=rank)}


def work(rank: int, port: int, folder: str) -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = tiny_model(XmodForMaskedLM, "sdpa")
    for module in model.modules():
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    spread = DistributedDataParallel(model, find_unused_parameters=True)
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        spread(**one_row(rank)).loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save(gradients, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_another_language_in_each_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, (port, str(tmp_path)), nprocs=2)
    model = tiny_model(XmodForMaskedLM, "sdpa")
    (sum(model(**one_row(rank)).loss for rank in range(2)) / 2).backward()
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, parameter in model.named_parameters():
        for gradients in found:
            if parameter.grad is None:  # of the language that no process has
                assert gradients[name] is None, name
            else:
                torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-5, msg=name)
