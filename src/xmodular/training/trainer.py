"""The training loop: one step after another, with validation, checkpoints and a log.

A checkpoint has everything that the next step depends on, so an interrupted and resumed run gives the same bytes, log
and mean loss as an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather, load, wait_for_everyone
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, get_scheduler, set_seed
from transformers.trainer_utils import speed_metrics

from xmodular.errors import TrainingError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.threads import one_is_enough
from xmodular.training.checkpoint_weights import read_weights, write_weights
from xmodular.training.checkpoints import STAGING, last_checkpoint, publish, saving
from xmodular.training.optimising import new_optimizer, take_up
from xmodular.training.pace import Progress
from xmodular.training.sharding import Shards


@dataclass(frozen=True)
class Intervals:
    """When a run validates, saves and stops.

    Attributes:
        validate: steps between validations, with one more at the end; None: never.
        save: steps between checkpoints, with one more at the end; None: never.
        keep: how many checkpoints to keep, the newest ones; 0: all.
        best: whether to save and keep the best validated weights too. The last step then needs no checkpoint: its
            weights are in memory.
        patience: with `best`, stop after this many validations without improvement; None: never.
    """

    validate: int | None
    save: int | None
    keep: int = 0
    best: bool = False
    patience: int | None = None


def _without_gain(history: Sequence[Mapping[str, Any]]) -> int:
    """The number of validations in a log since the one with the best score (the first of equals)."""
    scores = [line["eval_score"] for line in history if "eval_score" in line]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def _items(batch: Mapping[str, Any]) -> int:
    """The number of items that a batch's loss is the mean of: labels that are not ignored, or rows."""
    labels = batch.get("labels")
    if labels is None or labels.is_floating_point():
        return len(batch["lang_ids"])
    return int((labels != -100).sum())


def own_loss(model: nn.Module, batch: dict[str, Any], items: Tensor) -> Tensor:
    """The loss computed by the model, summed over a batch and divided by the number of items in a step."""
    loss: Tensor = model(**batch, num_items_in_batch=items).loss
    return loss


@dataclass(eq=False)
class RoutedTrainer:
    """Trains a model, in one process or in several, each with the whole model or a shard.

    Attributes:
        model: the model, with `requires_grad` set for the parameters to train; it is trained in place.
        args: device, optimiser and schedule; ``max_steps`` is the length of the run.
        dataset: the examples, or blocks, that batches are made of.
        collate: makes a batch from items of the data set.
        batches: all batches of the run for this process.
        intervals: when to validate, save and stop.
        checkpoint: the checkpoint to resume from; None: start at the first step.
        loss: computes the loss of a batch, divided by the number of items in a step.
        validate: returns the metrics of the model in evaluation mode, without the ``eval_`` prefix.
        sharded: whether to shard the model over the processes.
        head_rate: peak learning rate of the task head; None: the same as for the rest.
        callbacks: called with the events of the run, in the first process only.
        state: the progress of the run, and its log.
        tokens: number of tokens that all processes had read at the last log entry, without padding.
    """

    model: Any
    args: TrainingArguments
    dataset: Dataset[Any]
    collate: Callable[[list[Any]], dict[str, Any]]
    batches: Iterable[list[Any]]
    intervals: Intervals
    checkpoint: Path | None = None
    loss: Callable[[nn.Module, dict[str, Any], Tensor], Tensor] = own_loss
    validate: Callable[[], Mapping[str, float]] | None = None
    sharded: bool = False
    head_rate: float | None = None
    callbacks: Sequence[TrainerCallback] = ()
    state: TrainerState = field(init=False, default_factory=TrainerState)
    tokens: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        args = self.args
        self.model = self.model.to(args.device)
        self.callbacks = [Progress(lambda: self.tokens), *self.callbacks] if args.should_save else []
        self.shards: Shards | None = None
        self.scaler = torch.amp.GradScaler(args.device.type, enabled=args.fp16)
        self.seen: Any = None  # tokens of this process; a tensor after the first step: reading it makes a GPU wait
        # The sum of this process's losses since the last log entry, the step of that entry, the sum of logged losses.
        self.unlogged, self.last_log, self.logged = torch.tensor(0.0, device=args.device), 0, 0.0
        if self.checkpoint is not None:
            self.state = TrainerState.load_from_json(str(self.checkpoint / "trainer_state.json"))
            sums = json.loads((self.checkpoint / f"loss-{args.process_index}.json").read_text(encoding="utf-8"))
            self.unlogged.fill_(sums["since_last_log"])
            self.last_log, self.logged = sums["last_log"], sums["before"]
        self.state.max_steps = args.max_steps
        self.waited = _without_gain(self.state.log_history)
        set_seed(args.seed)

    def whole_model(self) -> XmodPreTrainedModel:
        """The trained model, gathered if it is sharded (then all processes must call this)."""
        whole: XmodPreTrainedModel = self.shards.gathered() if self.shards else self.model
        return whole

    @property
    def mean_loss(self) -> float:
        """The mean loss of the steps so far."""
        return float((self.logged + self.unlogged.item()) / self.state.global_step)

    @property
    def is_over(self) -> bool:
        """Whether no step is left, or too many validations passed without improvement."""
        patience = self.intervals.patience
        return self.state.global_step >= self.args.max_steps or (patience is not None and self.waited >= patience)

    def train(self) -> None:
        """Train to the end.

        Raises:
            TrainingError: the loss or a weight is no longer finite, or a checkpoint cannot be written.
        """
        threads = torch.get_num_threads()
        try:
            self._train(self._prepare())
        finally:
            torch.set_num_threads(threads)

    def _train(self, model: nn.Module) -> None:
        args, state, checkpoint = self.args, self.state, self.checkpoint
        batches = iter(
            DataLoader(
                self.dataset,
                batch_sampler=islice(self.batches, state.global_step * args.gradient_accumulation_steps, None),
                collate_fn=self.collate,
                num_workers=args.dataloader_num_workers,
                pin_memory=args.dataloader_pin_memory,
            )
        )
        began = time.time()
        self._tell("on_train_begin")
        while not self.is_over:
            together = list(islice(batches, args.gradient_accumulation_steps))
            items = gather(torch.tensor(sum(map(_items, together)), device=args.device)).sum()
            if checkpoint is not None:
                self._restore_randomness(checkpoint)  # after the first batches: their loader draws random numbers
                checkpoint = None
            self._tell("on_step_begin")
            for place, batch in enumerate(together, start=1):
                with self._reducing(model, place == len(together)):
                    self.unlogged += self.training_step(model, batch, items)
            norm = self._clip_grad_norm(model)
            if self.shards is not None:
                norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
                self.shards.forget_unused()
            rate = self.optimizer.param_groups[0]["lr"]
            if self._step():
                self.lr_scheduler.step()
            model.zero_grad()
            state.global_step += 1
            state.epoch = state.global_step / args.max_steps
            self._tell("on_step_end")
            self._log_validate_save(norm, rate)
        done, rows = state.global_step, args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.log({**speed_metrics("train", began, done * rows, done), "train_loss": self.mean_loss})
        self._tell("on_train_end")

    def training_step(self, model: nn.Module, inputs: dict[str, Any], items: Tensor) -> Tensor:
        """Forward and backward pass of a batch, with its tokens counted; the first one decides the thread count."""
        if self.seen is None:
            self.seen = 0
            if one_is_enough(self.model, inputs["input_ids"].numel()):
                torch.set_num_threads(1)  # until `train` returns: the optimiser's steps are just as small
        model.train()
        batch = {name: each.to(self.args.device) if torch.is_tensor(each) else each for name, each in inputs.items()}
        with self._autocast():
            loss = self.loss(model, batch, items) * self.args.world_size  # the processes' gradients are averaged
        self.scaler.scale(loss).backward()
        self.seen = self.seen + inputs["attention_mask"].sum()
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        args = self.args
        kind = torch.float16 if args.fp16 else torch.bfloat16
        return torch.autocast(args.device.type, dtype=kind, enabled=args.fp16 or args.bf16)

    def _reducing(self, model: Any, last: bool) -> AbstractContextManager[Any]:
        """Exchange gradients between processes only after the last batch of a step."""
        if self.shards is not None:
            model.set_requires_gradient_sync(last)
        elif not last and isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return nullcontext()

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip the gradient; returns its norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm or math.inf)

    def _step(self) -> bool:
        """Let the optimiser step; False if the gradients overflowed fp16, so that it did not."""
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before

    def _log_validate_save(self, norm: Tensor, rate: float) -> None:
        """Log, validate and save if it is time to, after a step."""
        state, due = self.state, self.intervals
        step, is_last = state.global_step, state.global_step == self.args.max_steps
        logs = step % self.args.logging_steps == 0
        saves = due.save is not None and (step % due.save == 0 or is_last) and not (due.best and is_last)
        # Reading the loss makes a GPU wait, so on a GPU it is only read for logging and saving.
        if logs or saves or self.unlogged.device.type == "cpu":
            self._check(bool(torch.isfinite(self.unlogged)), "The loss", together=saves)
        if logs:
            mean = gather(self.unlogged).mean().item()
            self.log({"loss": mean / (step - self.last_log), "grad_norm": norm.item(), "learning_rate": rate})
            self.unlogged.zero_()
            self.last_log, self.logged = step, self.logged + mean
        if self.validate is not None and due.validate is not None and (step % due.validate == 0 or is_last):
            with self._autocast():
                metrics = {f"eval_{name}": value for name, value in self.validate().items()}
            self.log(metrics)
            self.waited = _without_gain(state.log_history)
            if due.best and self.waited == 0:
                state.best_global_step, state.best_metric = step, metrics["eval_score"]
                saves = not is_last
        if saves:
            self._save_checkpoint()

    def log(self, logs: dict[str, float]) -> None:
        """Log, and add up the tokens of all processes; done when the loss is read anyway."""
        if "loss" in logs:
            self.tokens = int(gather(torch.as_tensor(self.seen or 0, device=self.args.device)).sum())
        logs["epoch"] = self.state.epoch
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._tell("on_log", logs=logs)

    def _tell(self, event: str, **more: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.args, self.state, TrainerControl(), model=self.model, **more)

    def _check(self, finite: bool, what: str, together: bool) -> None:
        """Stop if something is not finite (`together`: in any process)."""
        if together:
            finite = bool(gather(torch.tensor(int(finite), device=self.args.device)).min())
        if not finite:
            last = last_checkpoint(Path(str(self.args.output_dir)).parent)
            left = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            raise TrainingError(
                f"{what} is not finite at step {self.state.global_step}, so the run stopped; {left}. "
                f"Try a lower learning rate than {self.args.learning_rate:g}, or a longer warm-up."
            )

    def _prepare(self) -> nn.Module:
        """Make optimiser and schedule, restored from the checkpoint if there is one; returns the model to call."""
        args, model = self.args, self.model
        if self.checkpoint is not None:
            read_weights(model, self.checkpoint)
        if self.sharded:
            self.shards = Shards(model, args.device)
        elif args.world_size > 1:
            # Adapters of languages that are not in the batch get no gradient.
            devices = None if args.device.type == "cpu" else [args.device]
            model = DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)
        self.optimizer = new_optimizer(self.model, args, self.head_rate)
        self.lr_scheduler = get_scheduler(
            args.lr_scheduler_type,
            self.optimizer,
            num_warmup_steps=args.get_warmup_steps(args.max_steps),
            num_training_steps=args.max_steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,  # type: ignore[arg-type]
        )
        if self.checkpoint is not None:
            scheduled = torch.load(self.checkpoint / "scheduler.pt", weights_only=True)["last_epoch"]
            take_up(self.optimizer, self.lr_scheduler, scheduled, self._load_optimizer)
        model.zero_grad()
        return model

    def _save_checkpoint(self) -> None:
        weights = (p.to_local() if hasattr(p, "to_local") else p for p in self.model.parameters())
        self._check(all(bool(torch.isfinite(weight).all()) for weight in weights), "A weight", together=True)
        folder, step = Path(str(self.args.output_dir)), self.state.global_step
        staged = folder / STAGING / f"checkpoint-{step}"
        with saving(f"The checkpoint of step {step}", folder.parent):
            if self.args.should_save:
                shutil.rmtree(staged.parent, ignore_errors=True)
            wait_for_everyone()
            try:
                self._write(staged)
                wait_for_everyone()
                if self.args.should_save:
                    publish(staged, folder / staged.name, self.intervals.keep, self.state.best_global_step)
            finally:
                if self.args.should_save:
                    shutil.rmtree(staged.parent, ignore_errors=True)
            wait_for_everyone()

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        model = self.whole_model()
        if self.args.should_save:
            write_weights(model, folder)
            torch.save(self.args, folder / "training_args.bin")
            self.state.save_to_json(str(folder / "trainer_state.json"))
        self._save_optimizer_and_scheduler(folder)
        randomness = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            several = self.args.world_size > 1
            randomness["cuda"] = torch.cuda.get_rng_state_all() if several else torch.cuda.get_rng_state()
        torch.save(randomness, folder / self._randomness)
        sums = {"since_last_log": self.unlogged.item(), "last_log": self.last_log, "before": self.logged}
        (folder / f"loss-{self.args.process_index}.json").write_text(json.dumps(sums), encoding="utf-8")

    @property
    def _randomness(self) -> str:
        """The file with the random state of this process."""
        return f"rng_state_{self.args.process_index}.pth" if self.args.world_size > 1 else "rng_state.pth"

    def _restore_randomness(self, checkpoint: Path) -> None:
        if not (checkpoint / self._randomness).is_file():
            return  # it was written by a different number of processes
        states = load(checkpoint / self._randomness, weights_only=True)
        random.setstate(states["python"])
        np.random.set_state(states["numpy"])
        torch.set_rng_state(states["cpu"])
        if torch.cuda.is_available() and "cuda" in states:
            if isinstance(states["cuda"], list):  # of all GPUs, which may have been more then
                torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
            else:
                torch.cuda.set_rng_state(states["cuda"])

    def _save_optimizer_and_scheduler(self, folder: Path) -> None:
        if self.shards is not None:
            self.shards.save_optimizer(self.optimizer, folder / f"optimizer-{self.args.process_index}.pt")
        elif self.args.should_save:
            torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), folder / "scheduler.pt")
            if self.scaler.is_enabled():
                torch.save(self.scaler.state_dict(), folder / "scaler.pt")

    def _load_optimizer(self) -> None:
        assert self.checkpoint is not None
        if self.shards is not None:
            self.shards.load_optimizer(self.optimizer, self.checkpoint / f"optimizer-{self.args.process_index}.pt")
        else:
            state = torch.load(self.checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
            self.optimizer.load_state_dict(state)
        if self.scaler.is_enabled() and (self.checkpoint / "scaler.pt").is_file():
            self.scaler.load_state_dict(torch.load(self.checkpoint / "scaler.pt", weights_only=True))
