"""The batches of a fine-tuning run: repeated passes over the rows, each in a new order."""

from __future__ import annotations

import math
from collections.abc import Iterator

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
    ) -> None:
        self.size = size
        self.rows = rows
        self.batches = batches
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        at_once = batches * ranks  # batches of a step
        if size < at_once:
            raise ConfigurationError(
                f"There are {size} training rows, but a step has {at_once} batches (--accumulation times the number of "
                "processes), and each needs a row."
            )
        left = size % (at_once * rows)
        self.per_pass = size // (at_once * rows) + (left >= at_once)
        self.steps = steps if steps is not None else max(fewest, math.ceil(epochs * self.per_pass))

    @classmethod
    def of(
        cls, options: TrainingOptions, arguments: TrainingArguments, size: int, epochs: float, fewest: int
    ) -> Passes:
        """This process's batches in a run with these options on this many rows."""
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
        )

    def __len__(self) -> int:
        return self.steps * self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.steps):
            number, place = divmod(step, self.per_pass)
            if place == 0:
                order = np.random.default_rng((self.seed, number)).permutation(self.size)
            whole = self.rows * self.batches * self.ranks
            chosen = order[place * whole : (place + 1) * whole]
            parts = np.array_split(chosen, self.batches * self.ranks)
            for part in parts[self.rank :: self.ranks]:
                yield part.tolist()
