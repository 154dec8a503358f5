"""Validation of a language model during training, separately for each language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from xmodular.console import progress
from xmodular.perplexity import block_statistics, loss_a_token, perplexity_metrics, text_statistics, to_predict
from xmodular.text import CausalLMCollator, MaskedLMCollator, MeasuredText


@dataclass(eq=False)
class Validation:
    """Validation loss of each language on its text, always with the same masks.

    The blocks are divided among the processes, and all processes get the result.

    Attributes:
        model: the model to start with; it may be set to another later.
        texts: the languages' validation text.
        lang_ids: the model's id of each language.
        collator: makes the batches; it decides whether all tokens or masked ones are predicted.
        unk_id: id of ``<unk>``.
        batch_size: blocks per forward pass.
    """

    model: nn.Module
    texts: Sequence[MeasuredText]
    lang_ids: Mapping[str, int]
    collator: MaskedLMCollator | CausalLMCollator
    unk_id: int
    batch_size: int

    def __post_init__(self) -> None:
        self.rows: list[tuple[MeasuredText, int, np.ndarray | None]] = []  # text, block, tokens to predict
        for text in self.texts:
            blocks, chosen = to_predict(text, self.collator)
            self.rows += [(text, int(block), each) for block, each in zip(blocks, chosen, strict=True)]

    def per_language(self) -> dict[str, dict[str, float]]:
        """Loss (nats per token), perplexity, bits per character, accuracy, predicted tokens, share of ``<unk>``.

        By language. What ``<unk>`` stands for is counted in all of them, as in `xmodular.perplexity`.
        """
        sums = self._sums()
        causal = isinstance(self.collator, CausalLMCollator)
        answer = {}
        for text in self.texts:
            own = [row for row, (of, _, _) in enumerate(self.rows) if of is text]
            blocks = np.array([self.rows[row][1] for row in own], dtype=np.int64)
            total = text_statistics(text, blocks, sums[own], causal=causal).sum(0)
            metrics = {name: float(value) for name, value in perplexity_metrics(total).items()}
            answer[text.language] = {
                "loss": float(loss_a_token(total)),
                "perplexity": metrics["perplexity"],
                "accuracy": metrics["accuracy"],
                "bits_per_character": metrics["bits per character"],
                "masked_tokens": int(total[2]),
                "unknown": text.unknown_share,
            }
        return answer

    def __call__(self) -> dict[str, float]:
        """Losses by language as ``loss:<code>``, and their mean as ``loss``."""
        losses = {code: values["loss"] for code, values in self.per_language().items()}
        mean = sum(losses.values()) / max(len(losses), 1)
        return {"loss": mean, **{f"loss:{code}": loss for code, loss in losses.items()}}

    def _sums(self) -> np.ndarray:
        """(rows, 3) sums, as `block_statistics` has them."""
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        own = list(range(rank, len(self.rows), ranks))
        # All do as many forward passes, as those of a sharded model wait for each other.
        padded = own + [0] * (-(-len(self.rows) // ranks) - len(own))
        with progress("validating", len(padded)) as advance:
            part = block_statistics(
                self.model,
                [self.rows[row][0].blocks[self.rows[row][1]] for row in padded],
                [self.lang_ids[self.rows[row][0].language] for row in padded],
                padded,
                self.collator,
                chosen=[self.rows[row][2] for row in padded],
                unk_id=self.unk_id,
                batch_size=self.batch_size,
                advance=advance,
            )
        sums = np.zeros((len(self.rows), 3))
        sums[own] = part[: len(own)]
        if ranks == 1:
            return sums
        device = next(self.model.parameters()).device
        shared = torch.from_numpy(sums).to(device)
        dist.all_reduce(shared)
        return shared.cpu().numpy()
