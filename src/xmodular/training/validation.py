"""Validation of a language model while it trains: each language by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from xmodular.console import progress
from xmodular.data import CausalLMCollator, LanguageBlocks, MaskedLMCollator
from xmodular.tasks import block_statistics, perplexity_metrics


class Validation:
    """Validation loss of each language on its first blocks, always under the same masks.

    The blocks are divided among the processes, and all of them get the result.

    Args:
        model: the model to start with; `model` may be set to another later.
        blocks: the languages' validation blocks.
        lang_ids: the model's id of each language.
        collator: chooses what is predicted.
        special_ids: ids of special tokens, which masks never cover; None for a causal model, which predicts all but
            padding and the first.
        characters: (vocabulary,) characters of each piece.
        pad_id: id of ``<pad>``.
        batch_size: blocks a forward pass.
        most: blocks of a language at most.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[LanguageBlocks],
        lang_ids: Mapping[str, int],
        collator: MaskedLMCollator | CausalLMCollator,
        *,
        characters: np.ndarray,
        special_ids: Sequence[int] | None,
        pad_id: int,
        batch_size: int,
        most: int,
    ) -> None:
        self.model = model
        self.lang_ids = lang_ids
        self.collator = collator
        self.batch_size = batch_size
        self.rows = [(each.language, block) for each in blocks for block in each.blocks[:most]]
        self.tokens: dict[str, int] = {}
        self.characters: dict[str, int] = {}
        for each in blocks:
            ids = np.asarray(each.blocks[:most])
            counted = ~np.isin(ids, special_ids) if special_ids is not None else ids != pad_id
            counted[:, 0] = False
            self.tokens[each.language] = int(counted.sum())
            self.characters[each.language] = int(characters[ids].sum())

    def per_language(self) -> dict[str, dict[str, float]]:
        """Loss (nats a predicted token), bits per character, perplexity, accuracy and predicted tokens by language."""
        sums = self._sums()
        answer = {}
        for language in dict.fromkeys(language for language, _ in self.rows):
            own = sums[[row[0] == language for row in self.rows]].sum(0)
            loss = float(own[0] / max(own[2], 1))
            bits = loss * self.tokens[language] / max(self.characters[language], 1) / math.log(2)
            answer[language] = {
                "loss": loss,
                **{name: float(value) for name, value in perplexity_metrics(own).items()},
                "bits_per_character": bits,
                "masked_tokens": int(own[2]),
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
                [self.rows[row][1] for row in padded],
                [self.lang_ids[self.rows[row][0]] for row in padded],
                padded,
                self.collator,
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
