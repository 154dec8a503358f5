"""The machine, the optimiser and the learning rate's schedule, in transformers' terms."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

from xmodular.errors import ConfigurationError
from xmodular.options import Schedule, TrainingOptions


def training_arguments(options: TrainingOptions, **more: Any) -> TrainingArguments:
    """The machine, and how the optimiser steps, in transformers' terms; checkpoints go to ``<output_dir>/checkpoints``.

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
        "adam_beta2": 0.98,
        "adam_epsilon": 1e-6,
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "bf16": bf16,
        "fp16": options.precision == "fp16",
        "logging_steps": options.log_every,
        "seed": options.seed,
        "dataloader_pin_memory": on_gpu,
        # Without this, several processes on a machine without accelerator would each train alone.
        "use_cpu": not torch.accelerator.is_available(),
        # While the first process reads and tokenises, the others wait; half an hour, the default, is not enough.
        "ddp_timeout": 7 * 24 * 3600,
        "report_to": "none",
    }
    return TrainingArguments(**{**values, **more})


def schedule(name: Schedule, steps: int, decay: float = 0.0) -> dict[str, Any]:
    """The learning rate's schedule, in transformers' terms.

    Args:
        name: of the schedule.
        steps: steps of the run.
        decay: share of them in which "wsd" falls.
    """
    if name == "wsd":
        falling = {"num_decay_steps": max(1, round(decay * steps)), "decay_type": "linear"}
        return {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": falling}
    if name == "polynomial":
        return {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 2.0, "lr_end": 0.0}}
    if name == "constant":
        return {"lr_scheduler_type": "constant_with_warmup"}
    return {"lr_scheduler_type": name}
