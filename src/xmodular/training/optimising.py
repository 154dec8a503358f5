"""The device, the optimiser and the learning rates of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from xmodular.console import console
from xmodular.errors import ConfigurationError
from xmodular.modeling.trainable import parameter_group
from xmodular.options import FinetuneOptions, LanguageModelOptions, Schedule, TrainingOptions


def training_arguments(options: TrainingOptions) -> TrainingArguments:
    """Arguments for transformers: device and optimiser; checkpoints go to ``<output_dir>/checkpoints``.

    Raises:
        ConfigurationError: the machine does not support the precision.
    """
    on_gpu = torch.cuda.is_available()
    if options.precision == "fp16" and not on_gpu:
        raise ConfigurationError("--precision fp16 needs a GPU; use fp32 or bf16 here.")
    bf16 = options.precision == "bf16" or (
        options.precision == "auto" and on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    values: dict[str, Any] = {
        "output_dir": str(options.output_dir / "checkpoints"),
        "per_device_train_batch_size": options.batch_size,
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
        # Without this, several processes on a machine without a GPU would each train alone.
        "use_cpu": not torch.accelerator.is_available(),
        # While the first process reads and tokenises, the others wait; half an hour, the default, is not enough.
        "ddp_timeout": 7 * 24 * 3600,
        "report_to": "none",
    }
    if isinstance(options, FinetuneOptions):
        values["adam_beta1"], values["adam_beta2"] = options.adam_betas
        values["adam_epsilon"] = options.adam_epsilon
    if isinstance(options, LanguageModelOptions):
        values["dataloader_num_workers"] = options.workers
    return TrainingArguments(**values)


def schedule(name: Schedule, steps: int, decay: float = 0.0) -> dict[str, Any]:
    """The learning rate schedule, as arguments for transformers.

    Args:
        name: name of the schedule.
        steps: number of steps of the run.
        decay: share of the steps in which "wsd" falls.
    """
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "wsd": ("warmup_stable_decay", {"num_decay_steps": max(1, round(decay * steps)), "decay_type": "linear"}),
        "polynomial": ("polynomial", {"power": 2.0, "lr_end": 0.0}),
        "constant": ("constant_with_warmup", {}),
    }
    kind, more = kinds.get(name, (name, {}))
    return {"lr_scheduler_type": kind, "lr_scheduler_kwargs": more}


def new_optimizer(model: nn.Module, args: TrainingArguments, head_rate: float | None) -> torch.optim.AdamW:
    """AdamW for the trainable parameters; biases and layer norms have no weight decay.

    Args:
        model: the model.
        args: learning rate, weight decay and so on.
        head_rate: peak learning rate of the task head; None: the same as for the rest.
    """
    rates = [args.learning_rate] if head_rate is None else [args.learning_rate, head_rate]
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": rate, "weight_decay": decay} for rate in rates for decay in (args.weight_decay, 0.0)
    ]
    norms = {id(weight) for part in model.modules() if isinstance(part, nn.LayerNorm) for weight in part.parameters()}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            is_head = head_rate is not None and parameter_group(name) == "task head"
            is_constant = name.endswith("bias") or id(weight) in norms
            groups[2 * is_head + is_constant]["params"].append(weight)
    betas = (args.adam_beta1, args.adam_beta2)
    return torch.optim.AdamW(groups, betas=betas, eps=args.adam_epsilon, fused=True)


def take_up(optimizer: torch.optim.Optimizer, scheduler: Any, step: int, load: Callable[[], None]) -> None:
    """Load the optimiser's state after a step; learning rates and weight decay are those of the present options.

    A checkpoint contains the learning rate, weight decay and so on of its own options, and the rate of its next step.
    Without this, a run that continues with other options would ignore some of them, and take one more step at the old
    rate, which is 0 if the old schedule had ended.

    Args:
        optimizer: a new one, made from the options.
        scheduler: the schedule of its learning rates.
        step: number of steps that the schedule has done.
        load: loads the state into the optimiser.
    """
    given = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    load()
    scheduler.last_epoch = step
    planned = float(optimizer.param_groups[0]["lr"])
    for group, own, rate in zip(optimizer.param_groups, given, scheduler.lr_lambdas, strict=True):
        group.update({**own, "lr": own["initial_lr"] * rate(step)})
    if (now := float(optimizer.param_groups[0]["lr"])) != planned:
        console.print(
            f"The learning rate continues at {now:.3g}, as in the present options after step {step}; under those of "
            f"the checkpoint, it would be {planned:.3g}."
        )
