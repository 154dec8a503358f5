"""Batches in, logits out: rows of any languages together, sorted by length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from xmodular.errors import InputError
from xmodular.modeling.threads import threads_for
from xmodular.tasks.task import Encoding, Task


def collate(
    encodings: Sequence[Encoding], lang_ids: Sequence[int], pad_id: int, *, task: Task | None = None
) -> dict[str, Tensor]:
    """Pad sequences to the longest.

    Args:
        encodings: of one task; those with choices all have equally many.
        lang_ids: each encoding's language, as the model's id.
        pad_id: id of ``<pad>``.
        task: adds its targets.

    Returns:
        ``input_ids`` and ``attention_mask``, (batch, tokens) or (batch, choices, tokens), and ``lang_ids`` (batch,),
        int64; ``token_type_ids`` like ``input_ids`` where a token has another type than 0; with `task` also what the
        loss compares with.

    Raises:
        InputError: there are different numbers of choices.
    """
    counts = {len(encoding.sequences) for encoding in encodings}
    if len(counts) != 1:
        raise InputError(f"Rows of one batch have equally many choices; these have {sorted(counts)}.")
    sequences = [sequence for encoding in encodings for sequence in encoding.sequences]
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = int(lengths.max())
    ids = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    (choices,) = counts
    shape = (len(encodings), longest) if choices == 1 else (len(encodings), choices, longest)
    batch = {
        "input_ids": torch.from_numpy(ids).view(shape),
        **_types(encodings, ids.shape, shape),
        "attention_mask": torch.from_numpy(mask).view(shape),
        "lang_ids": torch.tensor(lang_ids),
    }
    return batch if task is None else {**batch, **task.targets(encodings, longest)}


def _types(encodings: Sequence[Encoding], rows: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The types of tokens, 0 at padding; nothing where all are 0, as in models that know no others."""
    types = [of_one for encoding in encodings for of_one in encoding.types or ((),) * len(encoding.sequences)]
    if not any(types):
        return {}
    kinds = np.zeros(rows, dtype=np.int64)
    for row, of_one in zip(kinds, types, strict=True):
        row[: len(of_one)] = of_one
    return {"token_type_ids": torch.from_numpy(kinds).view(shape)}


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    encodings: Sequence[Encoding],
    lang_ids: Sequence[int],
    *,
    pad_id: int,
    batch_tokens: int = 8192,
    advance: Callable[[int], None] = lambda encodings: None,
) -> list[np.ndarray]:
    """Run a model with a head over encodings.

    Args:
        model: gives ``logits``, or ``start_logits`` and ``end_logits``.
        encodings: of one task.
        lang_ids: each encoding's language, as the model's id.
        pad_id: id of ``<pad>``.
        batch_tokens: tokens of a forward pass at most, padding included (one encoding always fits); languages are
            mixed, the model sorts them out.
        advance: told how many encodings were done, again and again.

    Returns:
        float32 logits of each encoding, in the given order: (labels,), (tokens, labels), (tokens, 2: start and end) or
        (choices,).
    """
    if len(encodings) != len(lang_ids):
        raise InputError(f"There are {len(encodings)} encodings and {len(lang_ids)} language ids; each has one.")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    answer: list[np.ndarray] = [np.empty(0)] * len(encodings)
    for chosen in _batches(encodings, batch_tokens):
        batch = collate([encodings[index] for index in chosen], [lang_ids[index] for index in chosen], pad_id)
        with threads_for(model, batch["input_ids"].numel()):
            output = model(**{name: tensor.to(device) for name, tensor in batch.items()})
        if "start_logits" in output:
            logits = torch.stack((output.start_logits, output.end_logits), dim=-1)
        else:
            logits = output.logits
        for index, values in zip(chosen, logits.float().cpu().numpy(), strict=True):
            tokens = len(encodings[index].sequences[0])
            answer[index] = values[:tokens].copy() if values.ndim == 2 else values.copy()
        advance(len(chosen))
    model.train(was_training)
    return answer


def _batches(encodings: Sequence[Encoding], batch_tokens: int) -> Iterator[list[int]]:
    """Indices by number of choices and length, the longest first, as many at once as there is room for."""
    sizes = [(len(each.sequences), max(map(len, each.sequences))) for each in encodings]
    order = sorted(range(len(encodings)), key=lambda index: sizes[index], reverse=True)
    start = 0
    while start < len(order):
        choices, longest = sizes[order[start]]
        end = start + max(1, batch_tokens // (choices * longest))
        chosen = [index for index in order[start:end] if sizes[index][0] == choices]
        yield chosen
        start += len(chosen)
