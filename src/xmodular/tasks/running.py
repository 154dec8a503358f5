"""Examples in, predictions out: vocabularies, encoding, batches, and the windows of each example joined again.

Examples of any languages go together, sorted by length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from xmodular.errors import InputError
from xmodular.exported_models import ExportedModel
from xmodular.modeling import XmodForSentenceEmbedding, XmodPreTrainedModel
from xmodular.modeling.adapters import Adapters
from xmodular.modeling.threads import threads_for
from xmodular.tasks.per_token import with_adapters
from xmodular.tasks.readers import Reading
from xmodular.tasks.sentence_vectors import prefixed
from xmodular.tasks.task import Encoding, Example, Room, Task

BATCH_TOKENS = 8192
_AT_ONCE = 2048  # examples that are tokenised together

# Of an encoding: one for all its tokens, one for each of its sequences, or those of the tokens of each sequence.
LanguageIds = int | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Encoded:
    """Examples, encoded for a model.

    Attributes:
        task: their task.
        examples: the examples.
        readings: the reading (language and adapter) of each.
        windows: the encodings of each.
    """

    task: Task
    examples: Sequence[Example]
    readings: Sequence[Reading]
    windows: Sequence[Sequence[Encoding]]

    @property
    def cut(self) -> list[bool]:
        """Which examples are truncated."""
        return [any(encoding.cut for encoding in own) for own in self.windows]

    @property
    def tokens(self) -> int:
        """The number of tokens, over all encodings."""
        return sum(len(sequence) for own in self.windows for encoding in own for sequence in encoding.sequences)

    def part(self, number: int, parts: int) -> Encoded:
        """One of several parts of about equal size: every n-th example."""
        return self._cut(slice(number, None, parts))

    def span(self, start: int, end: int) -> Encoded:
        """The examples from one place up to another."""
        return self._cut(slice(start, end))

    def one(self, place: int) -> Encoded:
        """A single example."""
        return self.span(place, place + 1)

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """The examples of several parts of one task, one after the other; there must be a part."""
        return cls(
            parts[0].task,
            [example for each in parts for example in each.examples],
            [reading for each in parts for reading in each.readings],
            [own for each in parts for own in each.windows],
        )

    def _cut(self, own: slice) -> Encoded:
        return Encoded(self.task, self.examples[own], self.readings[own], self.windows[own])

    def inputs(self, model: XmodPreTrainedModel, places: Sequence[int]) -> tuple[list[Encoding], list[LanguageIds]]:
        """The encodings of some examples in sequence, each with the language id of its adapter, or of several."""
        ids = {code: number for number, code in enumerate(model.languages)}
        encodings: list[Encoding] = []
        lang_ids: list[LanguageIds] = []
        for place in places:
            adapter = self.readings[place].adapter
            for encoding in self.windows[place]:
                encodings.append(encoding)
                of_tokens = [[ids[code] for code in own] for own in encoding.adapters]
                of_sequences = [ids[code or adapter] for code in encoding.languages]
                lang_ids.append(of_tokens or of_sequences or ids[adapter])
        return encodings, lang_ids


def passes(model: XmodPreTrainedModel, readings: Sequence[Reading]) -> dict[tuple[str | None, bool], list[int]]:
    """Groups of readings that can share batches, by position.

    Returns:
        Positions, by the language whose own vocabulary is used (None: the shared one) and whether adapters are on.
    """
    own = model.config.vocabularies
    found: dict[tuple[str | None, bool], list[int]] = {}
    for place, reading in enumerate(readings):
        vocabulary = reading.adapter if reading.adapter in own else None
        found.setdefault((vocabulary, reading.adapted), []).append(place)
    return found


def encode_examples(
    model: XmodPreTrainedModel,
    task: Task,
    examples: Sequence[Example],
    readings: Sequence[Reading],
    labels: Sequence[str],
    room: Room,
    tokenizers: Callable[[str | None], PreTrainedTokenizerFast],
    advance: Callable[[int], None] = lambda examples: None,
) -> Encoded:
    """Encode examples for a model, each with the vocabulary of the language it is read as.

    Args:
        model: the model, which knows the languages with their own vocabularies.
        task: their task.
        examples: the examples; one that appears several times, for several adapters, is encoded once.
        readings: the reading of each.
        labels: names of the model's labels.
        room: length and stride of the model's input.
        tokenizers: the tokenizer of a language with its own vocabulary, or, for None, of all others.
        advance: called with the number of examples encoded since the last call.

    Raises:
        DataError: a gold label is not among `labels`.
    """
    places: dict[str | None, dict[int, list[int]]] = {}  # of each example, by vocabulary
    for (vocabulary, _), own in passes(model, readings).items():
        by_example = places.setdefault(vocabulary, {})
        for place in own:
            by_example.setdefault(id(examples[place]), []).append(place)
    windows: list[list[Encoding]] = [[] for _ in examples]
    prefix = model.settings.prefix if isinstance(model, XmodForSentenceEmbedding) else ""
    for vocabulary, by_example in places.items():
        tokenizer, groups = tokenizers(vocabulary), list(by_example.values())
        for start in range(0, len(groups), _AT_ONCE):
            part = groups[start : start + _AT_ONCE]
            rows = prefixed([examples[own[0]] for own in part], prefix)
            for encoding in task.encode(tokenizer, rows, labels, room):
                for place in part[encoding.example]:
                    windows[place].append(encoding)
            advance(len(part))
    for (vocabulary, _), own in passes(model, readings).items():
        if mixed := [place for place in own if readings[place].is_mixed]:
            chosen = [examples[place] for place in mixed], [readings[place] for place in mixed]
            routed = with_adapters(tokenizers(vocabulary), task, *chosen, [windows[place] for place in mixed])
            for place, encodings in zip(mixed, routed, strict=True):
                windows[place] = encodings
    return Encoded(task, examples, readings, windows)


def predict_examples(
    model: XmodPreTrainedModel,
    encoded: Encoded,
    labels: Sequence[str],
    *,
    batch_tokens: int = BATCH_TOKENS,
    probabilities: bool = False,
    advance: Callable[[float], None] = lambda examples: None,
) -> tuple[list[dict[str, Any]], list[int]]:
    """The predictions of a model with a task head.

    Args:
        model: the model.
        encoded: the encoded examples.
        labels: names of the model's labels.
        batch_tokens: as for `predict_logits`.
        probabilities: also return the probabilities of all choices, as ``probabilities``.
        advance: called with the number of examples done since the last call; a window counts as a part of its example.

    Returns:
        Each example's prediction, and the number of its windows for which the model's outputs are infinite or NaN.
    """
    task = encoded.task
    predictions: list[dict[str, Any]] = [{}] * len(encoded.examples)
    strange = [0] * len(encoded.examples)
    for (_, adapted), places in passes(model, encoded.readings).items():
        encodings, lang_ids = encoded.inputs(model, places)
        told = partial(_tell, advance, len(places) / max(1, len(encodings)))
        with without_adapters(model, left_out=not adapted):
            pad_id = model.config.pad_token_id
            logits = predict_logits(model, encodings, lang_ids, pad_id=pad_id, batch_tokens=batch_tokens, advance=told)
        read = iter(zip(encodings, logits, strict=True))
        for place in places:
            example, own = encoded.examples[place], list(islice(read, len(encoded.windows[place])))
            predictions[place] = {**task.decode(example, own, labels)}
            if probabilities and task.probabilities is not None:
                predictions[place]["probabilities"] = task.probabilities(example, own, labels)
            strange[place] = sum(not np.isfinite(values).all() for _, values in own)
    return predictions, strange


def _tell(advance: Callable[[float], None], share: float, encodings: int) -> None:
    """Report progress in examples rather than encodings."""
    advance(share * encodings)


@contextmanager
def without_adapters(model: XmodPreTrainedModel, *, left_out: bool = True) -> Iterator[None]:
    """Turn the bottlenecks off temporarily; residual and LayerNorm stay. No weight is changed.

    Args:
        model: any model.
        left_out: whether to turn them off; False changes nothing.

    Raises:
        InputError: they are inside an exported graph.
    """
    if not left_out:
        yield
        return
    if isinstance(model, ExportedModel):
        raise InputError("An exported model cannot leave its adapters out: use the model that it was exported from.")
    modules: list[nn.Module] = [module for module in model.modules() if isinstance(module, Adapters)]
    handles = [module.register_forward_hook(_nothing) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _nothing(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return torch.zeros_like(output)


def collate(
    encodings: Sequence[Encoding], lang_ids: Sequence[LanguageIds], pad_id: int, *, task: Task | None = None
) -> dict[str, Tensor]:
    """Pad sequences to the longest.

    Args:
        encodings: encodings of one task; with choices, all have the same number.
        lang_ids: the model's language id for each encoding, for each of its sequences, or for each token of each.
        pad_id: id of ``<pad>``.
        task: adds its targets.

    Returns:
        ``input_ids`` and ``attention_mask``, (batch, tokens) or (batch, choices, tokens), and ``lang_ids``, (batch,),
        (batch, choices) if sequences have their own, or like ``input_ids`` if tokens have; int64; ``token_type_ids``
        like ``input_ids`` if a token has a type other than 0; with `task` also the targets of the loss.

    Raises:
        InputError: the numbers of choices differ.
    """
    counts = {len(encoding.sequences) for encoding in encodings}
    if len(counts) != 1:
        raise InputError(f"All rows of a batch need the same number of choices; these have {sorted(counts)}.")
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
        "lang_ids": _languages(lang_ids, choices, longest),
    }
    return batch if task is None else {**batch, **task.targets(encodings, longest)}


def _languages(lang_ids: Sequence[LanguageIds], choices: int, longest: int) -> Tensor:
    """The language ids of a batch, in the form of `collate`; at padding, that of the sequence's first token."""
    if all(isinstance(each, int) for each in lang_ids):
        return torch.tensor(lang_ids)
    sequences: list[int | Sequence[int]] = []
    for ids in lang_ids:
        sequences += [ids] * choices if isinstance(ids, int) else ids
    if all(isinstance(each, int) for each in sequences):
        return torch.tensor(sequences).view(-1, choices)
    found = np.empty((len(lang_ids), choices, longest), dtype=np.int64)
    for row, each in zip(found.reshape(-1, longest), sequences, strict=True):
        tokens = [each] if isinstance(each, int) else each
        row[:] = tokens[0]
        row[: len(tokens)] = tokens
    return torch.from_numpy(found[:, 0] if choices == 1 else found)


def _types(encodings: Sequence[Encoding], rows: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The types of tokens, 0 at padding; empty if all are 0, as in models with a single type."""
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
    lang_ids: Sequence[LanguageIds],
    *,
    pad_id: int,
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] = lambda encodings: None,
) -> list[np.ndarray]:
    """Run a model with a head over encodings.

    Args:
        model: a model that returns ``logits``, ``embeddings``, or ``start_logits`` and ``end_logits``.
        encodings: encodings of one task.
        lang_ids: as for `collate`.
        pad_id: id of ``<pad>``.
        batch_tokens: most tokens per forward pass, padding included (one encoding always fits); languages are
            mixed.
        advance: called with the number of encodings done since the last call.

    Returns:
        float32 logits of each encoding, in the given order: (labels,), (tokens, labels), (tokens, 2: start and end) or
        (choices,); or vectors, (hidden,) or (sequences, hidden).
    """
    if len(encodings) != len(lang_ids):
        raise InputError(f"There are {len(encodings)} encodings and {len(lang_ids)} language ids; each needs one.")
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    was_training = model.training
    if was_training:  # to say so to thousands of modules, for each batch, takes longer than a tiny model
        model.eval()
    answer: list[np.ndarray] = [np.empty(0)] * len(encodings)
    try:
        for chosen in _batches(encodings, batch_tokens):
            batch = collate([encodings[index] for index in chosen], [lang_ids[index] for index in chosen], pad_id)
            with threads_for(model, batch["input_ids"].numel()):
                output = model(**{name: tensor.to(device) for name, tensor in batch.items()})
            if "start_logits" in output:
                logits = torch.stack((output.start_logits, output.end_logits), dim=-1)
            else:
                logits = output.embeddings if "embeddings" in output else output.logits
            for index, values in zip(chosen, logits.float().cpu().numpy(), strict=True):
                tokens = len(encodings[index].sequences[0])
                per_token = values.ndim == 2 and "embeddings" not in output
                answer[index] = values[:tokens].copy() if per_token else values.copy()
            advance(len(chosen))
    finally:
        if was_training:
            model.train()
    return answer


def _batches(encodings: Sequence[Encoding], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of indices, sorted by number of choices and length, the longest first; each as large as allowed."""
    sizes = [(len(each.sequences), max(map(len, each.sequences))) for each in encodings]
    order = sorted(range(len(encodings)), key=lambda index: sizes[index], reverse=True)
    start = 0
    while start < len(order):
        choices, longest = sizes[order[start]]
        end = start + max(1, batch_tokens // (choices * longest))
        chosen = [index for index in order[start:end] if sizes[index][0] == choices]
        yield chosen
        start += len(chosen)
