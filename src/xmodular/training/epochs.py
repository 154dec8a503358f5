"""The batches of a fine-tuning run: repeated passes over the rows, each in a new order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler
from transformers import TrainingArguments

from xmodular.errors import ConfigurationError
from xmodular.options import TrainingOptions


class Passes(Sampler[list[int]]):
    """The batches of one process, determined only by the seed and the position, so that a run can resume anywhere.

    A step takes `rows` rows for each of its batches, over all processes; the last step of a pass takes the remaining
    rows, divided evenly. Fewer rows than batches wait for the next pass. So one process that accumulates
    two batches and two processes with one each see the same rows in each step.

    Rows of several groups are never in one batch: each group is cut into batches of its own, in random order, and the
    largest are halved until all steps are full.

    Args:
        size: number of rows.
        rows: rows per batch.
        batches: batches per step in one process.
        epochs: number of passes.
        steps: steps of the run, instead of `epochs`.
        fewest: minimum number of steps with `epochs`.
        seed: random seed of the orders.
        rank: number of this process.
        ranks: number of processes.
        groups: places of the rows that may share a batch; default: all may.

    Attributes:
        per_pass: number of steps per pass.
        steps: number of steps of the run.

    Raises:
        ConfigurationError: a step has more batches than there are rows.
    """

    def __init__(
        self,
        size: int,
        rows: int,
        batches: int,
        *,
        epochs: float,
        steps: int | None = None,
        fewest: int = 0,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        groups: Sequence[Sequence[int]] = (),
    ) -> None:
        self.size = size
        self.rows = rows
        self.batches = batches
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.groups = groups if len(groups) > 1 else ()
        at_once = batches * ranks  # batches of a step
        if size < at_once:
            raise ConfigurationError(
                f"There are {size} training rows, but a step has {at_once} batches (--accumulation times the number of "
                "processes), and each needs a row."
            )
        if self.groups:
            made = sum(math.ceil(len(group) / rows) for group in self.groups)
            self.per_pass = made // at_once if (full := math.ceil(made / at_once)) * at_once > size else full
        else:
            left = size % (at_once * rows)
            self.per_pass = size // (at_once * rows) + (left >= at_once)
        self.steps = steps if steps is not None else max(fewest, math.ceil(epochs * self.per_pass))

    @classmethod
    def of(
        cls,
        options: TrainingOptions,
        arguments: TrainingArguments,
        size: int,
        epochs: float,
        fewest: int,
        groups: Sequence[Sequence[int]] = (),
    ) -> Passes:
        """This process's batches in a run with these options on this many rows, in these groups."""
        return cls(
            size,
            options.batch_size,
            options.accumulation,
            epochs=epochs,
            steps=options.max_steps,
            fewest=fewest,
            seed=options.seed,
            rank=arguments.process_index,
            ranks=arguments.world_size,
            groups=groups,
        )

    def __len__(self) -> int:
        return self.steps * self.batches

    def __iter__(self) -> Iterator[list[int]]:
        at_once = self.batches * self.ranks
        for step in range(self.steps):
            number, place = divmod(step, self.per_pass)
            if place == 0:
                parts = self._parts(np.random.default_rng((self.seed, number)))
            for part in parts[place * at_once + self.rank : (place + 1) * at_once : self.ranks]:
                yield part.tolist()

    def _parts(self, draws: np.random.Generator) -> list[np.ndarray]:
        """The batches of a pass, over all processes."""
        at_once = self.batches * self.ranks
        if not self.groups:
            order, whole = draws.permutation(self.size), self.rows * at_once
            steps = (order[place * whole : (place + 1) * whole] for place in range(self.per_pass))
            return [part for chosen in steps for part in np.array_split(chosen, at_once)]
        orders = [draws.permutation(group) for group in self.groups]
        parts = [order[at : at + self.rows] for order in orders for at in range(0, len(order), self.rows)]
        while len(parts) < self.per_pass * at_once:
            largest = parts.pop(max(range(len(parts)), key=lambda place: len(parts[place])))
            parts += np.array_split(largest, 2)
        return [parts[place] for place in draws.permutation(len(parts))]
