"""Choose the precision of a run: what the device computes fast, if the predictions stay the same.

bf16 halves the memory of the weights, and processors with instructions for it compute about twice as fast. It keeps
eight significant bits, so that near ties may be decided otherwise. How many are, depends on the model and on the rows;
so some of the user's own rows are predicted in both precisions first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from xmodular.modeling import XmodPreTrainedModel
from xmodular.saved_models import to_run
from xmodular.tasks.running import Encoded, predict_examples
from xmodular.tasks.task import Prediction, Task

Predictions = Sequence[Prediction]

AGREEMENT = 0.995  # of predictions that must be the same
_SAME_DIRECTION = 0.999  # cosine of vectors that are the same
MOST = 400  # rows that are predicted twice
LEAST = 200  # with fewer rows, a share of 0.995 means nothing: of 200, one may differ

_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "bf16": "Arm BF16"}  # as /proc/cpuinfo calls them
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class ChosenPrecision:
    """A precision, and why it was chosen.

    Attributes:
        precision: that of the weights, and so of the computation.
        because: the reason, as the end of a sentence.
        agreement: share of predictions that are the same as in fp32, from 0 to 1; None if no rows were tried.
    """

    precision: Literal["fp32", "bf16", "fp16"]
    because: str
    agreement: float | None = None

    def __str__(self) -> str:
        return f"{self.precision}: {self.because}"


def fast_bf16(device: torch.device) -> str | None:
    """The instructions with which a device computes in bf16; None if it has none.

    Args:
        device: where the model is. Only processors under Linux are known, and CUDA.
    """
    if device.type == "cuda":
        return "the GPU" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type != "cpu":
        return None
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return next((name for flag, name in _INSTRUCTIONS.items() if flag in flags), None)


def without_trying(model: XmodPreTrainedModel) -> ChosenPrecision | None:
    """The precision where no rows need to be tried; None where bf16 would be fast and the weights are in fp32."""
    fast = fast_bf16(model.device)
    if model.dtype == torch.float16 and model.device.type == "cuda":
        return ChosenPrecision("fp16", "the precision of the weights")
    if fast is None:
        if model.device.type == "cpu":
            return ChosenPrecision("fp32", "this processor has no instructions for bf16 (AVX512-BF16 or AMX)")
        return ChosenPrecision("fp32", f"nothing is known of bf16 on {model.device.type}")
    if model.dtype == torch.bfloat16:
        return ChosenPrecision("bf16", "the precision of the weights")
    return None


def choose_precision(
    model: XmodPreTrainedModel,
    encoded: Encoded,
    labels: Sequence[str],
    *,
    batch_tokens: int,
) -> tuple[ChosenPrecision, XmodPreTrainedModel]:
    """The precision for a run, and the model in it.

    At most `MOST` rows, evenly spread, are predicted in fp32 and in bf16; bf16 is chosen if `AGREEMENT` of the
    predictions (see `agreement`) are the same. With fewer than `LEAST` rows nothing is tried: fp32.

    Args:
        model: the model, which is not changed.
        encoded: rows as it reads them.
        labels: names of its labels.
        batch_tokens: tokens per forward pass.
    """
    if (known := without_trying(model)) is not None:
        return known, to_run(model, known.precision)
    exact = to_run(model, "fp32")
    if (rows := len(encoded.examples)) < LEAST:
        few = f"{rows} rows are too few to try bf16 on ({LEAST} are needed)"
        return ChosenPrecision("fp32", few), exact
    tried = encoded.part(0, -(-rows // MOST))
    quick = to_run(model, "bf16")
    ours, theirs = (predict_examples(each, tried, labels, batch_tokens=batch_tokens)[0] for each in (exact, quick))
    same = agreement(tried.task, ours, theirs)
    said = f"{100 * same:.2f} % of the predictions for {len(ours)} rows are the same as in fp32"
    if same < AGREEMENT:
        return ChosenPrecision("fp32", f"in bf16 only {said}; {100 * AGREEMENT:g} % are needed", same), exact
    return ChosenPrecision("bf16", f"{said}, and {fast_bf16(model.device)} computes it fast", same), quick


def agreement(task: Task, exact: Predictions, quick: Predictions) -> float:
    """The share of predictions that are the same, from 0 to 1.

    Of labels and choices, the share of rows; of answers, the share of rows with the same answer in the same place; of
    tags, the share of words, or, if that is less, the F1 of one side's spans against the other's; of scores (regress),
    the share of the variance of one side's that the other's explains: 1 - Σ(a - b)² / Σ(a - mean a)²; of vectors, the
    share with a cosine of 0.999 or more.

    Args:
        task: the task.
        exact, quick: predictions for the same rows, in the same order, as the task makes them.
    """
    if not exact:
        return 1.0
    if task.name == "regress":
        return _explained(*(np.array([row["score"] for row in side], dtype=np.float64) for side in (exact, quick)))
    if task.name == "embed":
        one, other = (np.stack([row["embedding"] for row in side]) for side in (exact, quick))
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        return float(np.mean((one * other).sum(1) >= _SAME_DIRECTION * lengths))
    if task.name == "tag":
        pairs = [pair for a, b in zip(exact, quick, strict=True) for pair in zip(a["tags"], b["tags"], strict=True)]
        return min(_share(pairs), _span_f1(exact, quick))
    names = [name for name in ("label", "choice", "answer", "start", "end") if name in exact[0]]
    sides = ([tuple(row[name] for name in names) for row in side] for side in (exact, quick))
    return _share(list(zip(*sides, strict=True)))


def _share(pairs: Sequence[tuple[object, object]]) -> float:
    """The share of pairs of the same; 1 of none."""
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0


def _span_f1(exact: Predictions, quick: Predictions) -> float:
    """F1 of spans: those that both sides have, doubled, by those of either; 1 without spans."""
    one, other = (
        Counter(
            (row, tuple(span[key] for key in ("type", "start", "end")))
            for row, each in enumerate(side)
            for span in each.get("spans") or ()
        )
        for side in (exact, quick)
    )
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def _explained(exact: np.ndarray, quick: np.ndarray) -> float:
    """The share of the variance of scores that others explain; not less than 0."""
    error, variance = ((exact - quick) ** 2).sum(), ((exact - exact.mean()) ** 2).sum()
    if not np.isfinite(error):
        return 0.0
    return float(max(0.0, 1 - error / variance)) if variance > 0 else float(error == 0)
