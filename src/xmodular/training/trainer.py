"""transformers' Trainer with its seams filled: our batches, validation, checkpoints, sharding, and a log that resumes.

Trainer writes checkpoints in place and averages the logged loss from where it was started; here checkpoints appear
whole (`checkpoints`) and bring the sums of the loss along, so that a resumed run logs what an unbroken one does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from xmodular.console import console
from xmodular.errors import ConfigurationError, TrainingError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.threads import one_is_enough
from xmodular.modeling.trainable import parameter_group
from xmodular.options import TrainingOptions
from xmodular.training.checkpoints import STAGING, checkpoint_step, last_checkpoint, publish, saving
from xmodular.training.log import RunLog
from xmodular.training.pace import Progress
from xmodular.training.sharding import Shards


def training_arguments(options: TrainingOptions, **more: Any) -> TrainingArguments:
    """transformers' arguments for our options; checkpoints go to ``<output_dir>/checkpoints``.

    Args:
        options: of the run.
        more: arguments besides, or in place of, what the options give.

    Raises:
        ConfigurationError: a precision that this machine does not have.
    """
    on_gpu = torch.cuda.is_available()
    if options.precision == "fp16" and not on_gpu:
        raise ConfigurationError("--precision fp16 needs a GPU; use fp32 or bf16 here.")
    bf16 = options.precision == "bf16" or (
        options.precision == "auto" and on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    values: dict[str, Any] = {
        "output_dir": str(options.output_dir / "checkpoints"),
        "num_train_epochs": options.epochs or 1.0,
        "max_steps": options.max_steps or -1,
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.accumulation,
        "learning_rate": options.learning_rate,
        "warmup_steps": options.warmup,
        "optim": "adamw_torch_fused",
        "adam_beta2": 0.98,
        "adam_epsilon": 1e-6,
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "bf16": bf16,
        "fp16": options.precision == "fp16",
        "logging_steps": options.log_every,
        "logging_nan_inf_filter": False,
        "seed": options.seed,
        "data_seed": options.seed,
        "dataloader_pin_memory": on_gpu,
        # Without this, several processes on a machine without accelerator would each train alone.
        "use_cpu": not torch.accelerator.is_available(),
        "remove_unused_columns": False,
        # While the first process reads and tokenises, the others wait; half an hour, the default, is not enough.
        "ddp_timeout": 7 * 24 * 3600,
        # A language that is not in the batch leaves its adapters without gradient.
        "ddp_find_unused_parameters": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return TrainingArguments(**{**values, **more})


class RoutedTrainer(Trainer):
    """Trainer that draws given batches and validates by a given function.

    Args:
        batches: this process's training batches; None shuffles the rows.
        validate: gives metrics of the model in evaluation mode, without the ``eval_`` prefix.
        sharded: whether the model is to be sharded over the processes.
        log: where losses and validations are written; None writes none.
        items: how many items a batch's loss is a mean over; None counts the labels that are not ignored.
        head_rate: peak learning rate of the task head; None takes that of the rest.
        callbacks: further callbacks.
        model, args, train_dataset, data_collator: as Trainer's; checkpoints go to ``args.output_dir``.
    """

    model: Any
    lr_scheduler: Any
    train_dataset: Any

    def __init__(
        self,
        *,
        model: XmodPreTrainedModel,
        args: TrainingArguments,
        train_dataset: Dataset,
        data_collator: Callable[[list[Any]], dict[str, Any]],
        batches: Sampler[list[Any]] | None = None,
        validate: Callable[[], Mapping[str, float]] | None = None,
        sharded: bool = False,
        log: RunLog | None = None,
        items: Callable[[Mapping[str, Any]], int] | None = None,
        head_rate: float | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.batches = batches
        self.validate = validate
        self.sharded = sharded
        self.items = items
        self.head_rate = head_rate
        self.shards: Shards | None = None
        self.staging = False
        self.seen: Any = None  # tokens of this process, padding not counted; a tensor after the first step
        self.tokens = 0  # those of all processes at the last log
        use_cache = model.config.use_cache  # Trainer sets it, for training; the model keeps its own
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            # Trainer asks for one if it is to validate; what is read is `validate`'s.
            eval_dataset=train_dataset if validate else None,
            data_collator=data_collator,
            callbacks=[Progress(lambda: self.tokens), _Resumption(self), *([log] if log else []), *callbacks],
        )
        model.config.use_cache = use_cache
        self.remove_callback(PrinterCallback)

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return Path(str(self.args.output_dir)).parent

    def whole_model(self) -> XmodPreTrainedModel:
        """The trained model, put together if it is sharded (all processes must call this then)."""
        return self.shards.gathered() if self.shards else self.model

    def get_train_dataloader(self) -> DataLoader:
        """This process's batches."""
        if self.batches is None:
            return super().get_train_dataloader()
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.sharded:
            # Here a checkpoint's weights are in the model, and the optimiser is not made yet.
            self.model.to(self.args.device)
            self.shards = Shards(self.model, self.args.device)
            self.is_distributed_loading_by_transformers = True  # so that nobody wraps it again
        return super()._prepare_for_training(*args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        if self.items is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        count = torch.tensor(sum(map(self.items, batch_samples)), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Make the optimiser; the task head's parameters are in groups of their own where they have another rate."""
        made = self.optimizer is not None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if self.head_rate is None or made:
            return optimizer
        head = {weight for name, weight in self.model.named_parameters() if parameter_group(name) == "task head"}
        for group in list(optimizer.param_groups):
            own = [weight for weight in group["params"] if weight in head]
            group["params"] = [weight for weight in group["params"] if weight not in head]
            optimizer.add_param_group({**group, "params": own, "lr": self.head_rate})
        return optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of a batch, whose tokens are counted; the first one decides about the threads."""
        if self.seen is None:
            self.seen = 0
            if one_is_enough(self.model, inputs["input_ids"].numel()):
                torch.set_num_threads(1)  # until `train` is left: the optimiser's steps are as small
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.seen = self.seen + inputs["attention_mask"].sum()  # no number yet: reading it would make a GPU wait
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log; the tokens of all processes are summed up where the loss is read anyway."""
        if "loss" in logs:
            total = torch.as_tensor(self.seen or 0, device=self.args.device).clone()
            if dist.is_initialized():
                dist.all_reduce(total)
            self.tokens = int(total)
        super().log(logs, *args, **kwargs)

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        """Nothing to do: the same seed, or the same checkpoint, made all processes' weights."""

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def _maybe_log_save_evaluate(self, tr_loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        # Reading the loss makes a GPU wait, so there it is read where it is logged or saved.
        if tr_loss.device.type == "cpu" or self.control.should_log or self.control.should_save:
            self._check(bool(torch.isfinite(tr_loss)), "The loss")
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)

    def _check(self, finite: bool, what: str) -> None:
        """Stop if something is no finite number (at saving: in any process)."""
        if self.control.should_save and dist.is_initialized():
            bad = torch.tensor(0 if finite else 1, device=self.args.device)
            dist.all_reduce(bad, dist.ReduceOp.MAX)
            finite = not bool(bad)
        if not finite:
            last = last_checkpoint(self.run_dir)
            left = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            raise TrainingError(
                f"{what} is not finite at step {self.state.global_step}, so the run stopped; {left}. "
                f"Try a lower learning rate than {self.args.learning_rate:g}, or a longer warm-up."
            )

    def _get_output_dir(self, trial: Any) -> str:
        folder = str(super()._get_output_dir(trial))
        return str(Path(folder) / STAGING) if self.staging else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        weights = (p.to_local() if hasattr(p, "to_local") else p for p in self.model.parameters())
        self._check(all(bool(torch.isfinite(weight).all()) for weight in weights), "A weight")
        folder = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staged = folder / STAGING / name
        with saving(f"The checkpoint of step {self.state.global_step}", self.run_dir):
            if self.args.should_save:
                shutil.rmtree(staged.parent, ignore_errors=True)
            self._wait()
            self.staging = True
            try:
                super()._save_checkpoint(model, trial)
                sums = {
                    "since_last_log": self._tr_loss.item(),
                    "last_log": self._globalstep_last_logged,
                    "before": self._total_loss_scalar,
                }
                (staged / f"loss-{self.args.process_index}.json").write_text(json.dumps(sums), encoding="utf-8")
                self._wait()
                best = self.state.best_global_step
                self.state.best_model_checkpoint = None  # or Trainer removes all others at the end
                if self.args.should_save:
                    publish(staged, folder / name, self.args.save_total_limit or 0, best)
            finally:
                self.staging = False
                if self.args.should_save:
                    shutil.rmtree(staged.parent, ignore_errors=True)
            self._wait()

    def _wait(self) -> None:
        """Wait for the other processes."""
        if dist.is_initialized():
            dist.barrier()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; a sharded one is put together first."""
        if self.shards is None:
            return super().save_model(output_dir, _internal_call)
        whole = self.whole_model()
        if self.args.should_save:
            whole.save_pretrained(str(output_dir or self.args.output_dir))
        self._wait()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.shards is None:
            return super()._save_optimizer_and_scheduler(output_dir)
        self.shards.save_optimizer(self.optimizer, Path(output_dir) / f"optimizer-{self.args.process_index}.pt")
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Take up the optimiser's state; what the options say of rates and decay holds from here on.

        A checkpoint has its own options' learning rate, weight decay and the like in it, and the rate of its next step.
        Without this a run that goes on with others would ignore some, and take one more step at the old rate, which is
        0 where the old schedule had ended.
        """
        if checkpoint is None:
            return
        given = [{name: value for name, value in group.items() if name != "params"} for group in self._groups()]
        if self.shards is None:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            self.shards.load_optimizer(self.optimizer, Path(checkpoint) / f"optimizer-{self.args.process_index}.pt")
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True))
        step = self.lr_scheduler.last_epoch
        planned = float(self._groups()[0]["lr"])
        for group, own, rate in zip(self._groups(), given, self.lr_scheduler.lr_lambdas, strict=True):
            group.update({**own, "lr": own["initial_lr"] * rate(step)})
        self.lr_scheduler.base_lrs = [group["initial_lr"] for group in self._groups()]
        self.lr_scheduler._last_lr = [group["lr"] for group in self._groups()]
        if (now := float(self._groups()[0]["lr"])) != planned:
            console.print(
                f"The learning rate goes on at {now:.3g}, as the present options have it after step {step}; by those "
                f"of the checkpoint it would be {planned:.3g}."
            )

    def _groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups of parameters."""
        optimizer: Any = self.optimizer
        return list(optimizer.param_groups)

    def take_up(self, checkpoint: Path) -> None:
        """Take up the sums of the loss where a checkpoint left them."""
        sums = self._sums_at(checkpoint)
        self._tr_loss.fill_(sums["since_last_log"])
        self._globalstep_last_logged = sums["last_log"]
        self._total_loss_scalar = sums["before"]
        self._initial_global_step = 0  # what the mean training loss counts from

    def mean_loss_at(self, checkpoint: Path) -> float:
        """The mean training loss of the steps up to a checkpoint, as `train` gives it at the end."""
        sums = self._sums_at(checkpoint)
        return float((sums["before"] + sums["since_last_log"]) / checkpoint_step(checkpoint))

    def _sums_at(self, checkpoint: Path) -> dict[str, Any]:
        path = checkpoint / f"loss-{self.args.process_index}.json"
        sums: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return sums

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from a checkpoint if one is given. Afterwards the model computes in its own precision again."""
        self.resumed = Path(resume_from_checkpoint) if isinstance(resume_from_checkpoint, str) else None
        threads = torch.get_num_threads()
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            torch.set_num_threads(threads)
            self._unwrap()

    def _unwrap(self) -> None:
        """Take off what accelerate puts around `forward`: autocast, and outputs turned into fp32."""
        original = self.model.__dict__.pop("_original_forward", None)
        if original is not None:
            del self.model.forward
            if getattr(original, "__func__", None) is not type(self.model).forward:  # somebody had set it before
                self.model.forward = original

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The metrics of `validate`, each name with its prefix, logged."""
        assert self.validate is not None
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.validate().items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Resumption(TrainerCallback):
    """What Trainer leaves out when it goes on from a checkpoint, and before a step of a sharded model."""

    def __init__(self, trainer: RoutedTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.compute_steps(args, state.max_steps)  # the checkpoint has those of the options that it was made with
        if self.trainer.resumed is not None:
            self.trainer.take_up(self.trainer.resumed)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.shards is not None:
            self.trainer.shards.forget_unused()
