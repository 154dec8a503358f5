"""transformers' Trainer with three seams filled: our draws, our validation, our progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from xmodular.console import console, progress_bar
from xmodular.errors import ConfigurationError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import TrainingOptions


def training_arguments(options: TrainingOptions, **more: Any) -> TrainingArguments:
    """transformers' arguments for our options; checkpoints go to ``<output_dir>/checkpoints``.

    Raises:
        ConfigurationError: a precision that this machine does not have.
    """
    on_gpu = torch.cuda.is_available()
    if options.precision == "fp16" and not on_gpu:
        raise ConfigurationError("--precision fp16 needs a GPU; use fp32 or bf16 here.")
    bf16 = options.precision == "bf16" or (
        options.precision == "auto" and on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return TrainingArguments(
        output_dir=str(options.output_dir / "checkpoints"),
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup,
        optim="adamw_torch_fused",
        adam_beta2=0.98,
        adam_epsilon=1e-6,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        bf16=bf16,
        fp16=options.precision == "fp16",
        logging_steps=options.log_every,
        seed=options.seed,
        data_seed=options.seed,
        dataloader_pin_memory=on_gpu,
        # Without this, several processes on a machine without accelerator would each train alone.
        use_cpu=not torch.accelerator.is_available(),
        remove_unused_columns=False,
        # A language that is not in the batch leaves its adapters without gradient.
        ddp_find_unused_parameters=True,
        report_to="none",
        disable_tqdm=True,
        **more,
    )


class RoutedTrainer(Trainer):
    """Trainer that draws by a given sampler and validates by a given function.

    Args:
        sampler: draws the training rows; None shuffles them.
        validate: gives metrics of the model in evaluation mode, without the ``eval_`` prefix.
        model, args, train_dataset, data_collator: as Trainer's.
    """

    def __init__(
        self,
        *,
        model: XmodPreTrainedModel,
        args: TrainingArguments,
        train_dataset: Dataset,
        data_collator: Callable[[list[Any]], dict[str, Any]],
        sampler: Sampler | None = None,
        validate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self.sampler = sampler
        self.validate = validate
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            # Trainer asks for one if it is to validate; what is read is `validate`'s.
            eval_dataset=train_dataset if validate else None,
            data_collator=data_collator,
            callbacks=[_Progress()],
        )
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        return self.sampler if self.sampler is not None else super()._get_train_sampler(train_dataset)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The metrics of `validate`, each name with its prefix, logged."""
        assert self.validate is not None
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.validate().items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Progress(TrainerCallback):
    """A bar with step, loss and time; one line per validation, and per log where there is no terminal."""

    def __init__(self) -> None:
        self.bar = progress_bar()
        self.task = self.bar.add_task("training", total=None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar.update(self.task, total=state.max_steps, completed=state.global_step)
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        step = f"step {state.global_step}/{state.max_steps}"
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                console.print(f"[red]{step}: the loss is {logs['loss']}; a lower learning rate may help.[/red]")
            self.bar.update(self.task, description=f"training, loss {logs['loss']:.3f}")
            if not console.is_terminal:
                console.print(f"{step}  loss {logs['loss']:.3f}  learning rate {logs['learning_rate']:.2e}")
        elif any(name.startswith("eval_") for name in logs):
            shown = [
                f"{name.removeprefix('eval_')} {value:.4g}"
                for name, value in logs.items()
                if name.startswith("eval_") and ":" not in name
            ]
            console.print(f"{step}  validation: {', '.join(shown)}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()
