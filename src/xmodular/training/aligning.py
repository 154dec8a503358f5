"""Train a new language's adapter on translations, so that sentences get the states of their translations.

The original model is the teacher: it reads a sentence's translations, each with its own adapter. The mean over
tokens and translations is the target of the new adapter for the sentence. The loss is the squared distance to it
(distillation on parallel sentences: Reimers and Gurevych 2020, equation 1; only its student term is needed, as nothing
else changes); or the cross-entropy of finding it by cosine (van den Oord et al. 2018) among the targets of all
sentences, which are all at hand, as the teacher does not change, and of finding the sentence among those of its batch
for its target; or both. Without the second way, vectors go where targets are told apart best, away from the teacher's,
and a target's nearest sentence may then be any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from xmodular.console import console, progress, table
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import ExtendOptions
from xmodular.tasks import Encoding, collate, longest, predict_logits, tokenizer_of
from xmodular.tasks.nearest import ranked, unit_vectors
from xmodular.training.growing import before_and_after, stages
from xmodular.training.pairs import Pair

_LINES, _FEWEST_LINES = 100, 10  # of held-out text, to compare states
_SHORTEST = 20  # characters of such a line


class _Means(nn.Module):
    """The mean over a text's tokens of an encoder's states, as ``logits``.

    Args:
        encoder: the encoder.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.training = encoder.training  # which is put back after reading

    def forward(self, **batch: Tensor) -> Any:
        states = self.encoder(**batch)
        states["logits"] = _mean(states.last_hidden_state, batch["attention_mask"])
        return states


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """(batch, hidden) float32: the mean of (batch, tokens, hidden) states over the tokens of a (batch, tokens) mask."""
    shares = mask / mask.sum(1, keepdim=True)
    return (states.float() * shares[:, :, None]).sum(1)


@dataclass(frozen=True)
class Aligned(Dataset[int]):
    """Sentences of a new language, and the states of their translations.

    Attributes:
        measures: names of the scores to show: a share, the main one, and another number.
        aim: what that share of sentences does.
        encodings: the sentences.
        targets: (sentences, hidden) float32.
        right: (sentences,) the number of a sentence's translations, the same for those with equal ones.
        lang_id: the language's id.
        pad_id: id of ``<pad>``.
    """

    measures: ClassVar[tuple[str, str]] = ("retrieval", "cosine")
    aim: ClassVar[str] = "find their translation"

    encodings: tuple[Encoding, ...]
    targets: np.ndarray
    right: np.ndarray
    lang_id: int
    pad_id: int

    @staticmethod
    def reader(model: XmodPreTrainedModel) -> nn.Module:
        """What gives each sentence its row of ``logits``: the mean state."""
        return _Means(model.base_model)

    @classmethod
    def read(
        cls,
        model: XmodPreTrainedModel,
        sentences: Sequence[Encoding],
        language: str,
        advance: Callable[[int], None] = lambda sentences: None,
    ) -> np.ndarray:
        """(sentences, hidden) what `reader` gives under a language's adapter: the targets, of translations."""
        ids = [model.languages.index(language)] * len(sentences)
        pad_id = model.config.pad_token_id
        return np.stack(predict_logits(cls.reader(model), sentences, ids, pad_id=pad_id, advance=advance))

    def __len__(self) -> int:
        return len(self.encodings)

    def __getitem__(self, index: int) -> int:
        return index

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch of sentences for the model, with ``targets``."""
        made = collate([self.encodings[index] for index in indices], [self.lang_id] * len(indices), self.pad_id)
        places = list(indices)
        return {
            **made,
            "targets": torch.from_numpy(self.targets[places]),
            "right": torch.from_numpy(self.right[places]),
        }

    def student(self, model: XmodPreTrainedModel) -> nn.Module:
        """The part of a model that is trained: its encoder."""
        return model.base_model

    @cached_property
    def candidates(self) -> np.ndarray:
        """All targets, each once, by their numbers: *(targets, hidden)* of length 1."""
        return unit_vectors(self.targets[np.unique(self.right, return_index=True)[1]])

    def scores(self, model: XmodPreTrainedModel, language: str | None = None) -> dict[str, float]:
        """How close the sentences are to their translations.

        Args:
            model: the model whose encoder reads the sentences.
            language: the language whose adapter is used; default: the language itself.

        Returns:
            ``retrieval``, the share of sentences whose nearest translation by cosine is their own, and of translations
            whose nearest sentence is (mean of both); ``cosine``, the mean cosine of such pairs; ``loss``.
        """
        return nearness(self.read(model, self.encodings, language or model.languages[self.lang_id]), self.targets)


def nearness(own: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Retrieval, cosine and loss of (sentences, hidden) states against those of their translations.

    If several are equally close, to six digits, each gets an equal share: states that are all the same find
    nothing.
    """
    one, other = unit_vectors(own), unit_vectors(targets)
    pairs = np.stack([np.arange(len(own))] * 2, 1)
    found = [ranked(one, other, pairs).found, ranked(other, one, pairs).found]
    return {
        "retrieval": float(np.mean(found)),
        "cosine": float((one * other).sum(1).mean()),
        "loss": float(((own - targets) ** 2).sum(1).mean()),
    }


def distance(model: nn.Module, batch: dict[str, Any], items: Tensor) -> Tensor:
    """The squared distances of a batch's states to their targets, divided by the sentences of a step."""
    batch.pop("right")
    targets = batch.pop("targets")
    return _distance(_vectors(model, batch), targets) / items


def loss_of(options: ExtendOptions, sentences: Aligned) -> Callable[[nn.Module, dict[str, Any], Tensor], Tensor]:
    """The loss of a run, a function of model, batch and the sentences of a step.

    Args:
        options: of the run.
        sentences: those to train on.
    """
    if options.objective == "distance":
        return distance
    candidates = torch.from_numpy(sentences.candidates)

    def contrast(model: nn.Module, batch: dict[str, Any], items: Tensor) -> Tensor:
        targets, right = batch.pop("targets"), batch.pop("right")
        vectors = _vectors(model, batch)
        scaled = F.normalize(vectors, dim=1) @ candidates.to(vectors.device).T / options.temperature
        # From a target to the sentences of the batch, of which others with the same target are no wrong ones.
        same = (right[:, None] == right).fill_diagonal_(False)
        back = scaled[:, right].T.masked_fill(same, -torch.inf)
        own = torch.arange(len(back), device=back.device)
        loss = (F.cross_entropy(scaled, right, reduction="sum") + F.cross_entropy(back, own, reduction="sum")) / 2
        if options.objective == "both":
            loss = loss + _distance(vectors, targets)
        return loss / items

    return contrast


def _vectors(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """(batch, hidden) float32: the mean states of a batch."""
    return _mean(model(**batch).last_hidden_state, batch["attention_mask"])


def _distance(vectors: Tensor, targets: Tensor) -> Tensor:
    return (vectors - targets).square().sum()


def encoded(
    model: XmodPreTrainedModel, pairs: Sequence[Pair], options: ExtendOptions, kind: type[Aligned] = Aligned
) -> tuple[tuple[Encoding, ...], np.ndarray, np.ndarray]:
    """Encode and number sentences, and compute the targets from their translations, before the language is added."""
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    right = [numbers.setdefault(tuple(sorted(pair.translations.items())), len(numbers)) for pair in pairs]
    sums: Any = 0.0
    counts = np.zeros((len(pairs), 1), np.float32)
    languages = list(dict.fromkeys(language for pair in pairs for language in pair.translations))
    with progress("reading translations", sum(len(pair.translations) for pair in pairs)) as advance:
        for language in languages:
            places = [place for place, pair in enumerate(pairs) if language in pair.translations]
            sentences = _read(model, [pairs[place].translations[language] for place in places], language, options)
            targets = kind.read(model, sentences, language, advance)
            sums = np.zeros((len(pairs), targets.shape[1]), np.float32) if not counts.any() else sums
            sums[places] += targets
            counts[places] += 1
    return _read(model, [pair.text for pair in pairs], None, options), sums / counts, np.array(right, np.int64)


def replaced_scores(
    model: XmodPreTrainedModel, measured: Aligned, pairs: Sequence[Pair], options: ExtendOptions
) -> dict[str, dict[str, float]]:
    """How close held-out pairs are with the language's old adapter, in pieces of its own vocabulary, if it has one."""
    code = options.language
    if code not in model.languages:
        return {}
    own = _read(model, [pair.text for pair in pairs], code, options)
    return {"replaced": replace(measured, encodings=own).scores(model, code)}


def compared(
    model: XmodPreTrainedModel, lines: Iterable[str], code: str, other: str, options: ExtendOptions
) -> dict[str, Any] | None:
    """How close the states of lines with one language's adapter are to those of the same lines with another's.

    Args:
        model: a model with both languages.
        lines: held-out text; the first lines that are long enough are used.
        code: a language.
        other: another one.
        options: of the run.

    Returns:
        As `nearness`, with ``adapter``, the other language; None if there are too few lines.
    """
    texts = list(islice((line for line in lines if len(line) >= _SHORTEST), _LINES))
    if len(texts) < _FEWEST_LINES:
        return None
    own, others = (Aligned.read(model, _read(model, texts, each, options), each) for each in (code, other))
    return {"adapter": other, "lines": len(texts), **nearness(own, others)}


def _read(
    model: XmodPreTrainedModel, texts: Sequence[str], language: str | None, options: ExtendOptions
) -> tuple[Encoding, ...]:
    """Texts as the tokenizer of a language cuts them (None: the model's), no longer than the model or a block."""
    prefix = options.prefix or ""
    ids = tokenizer_of(model, None, language)(
        [prefix + text for text in texts], truncation=True, max_length=longest(model, options.block_size)
    )["input_ids"]
    return tuple(Encoding(place, (tuple(each),)) for place, each in enumerate(ids))


def print_scores(code: str, metrics: dict[str, Any], measured: Aligned, rate: float) -> None:
    """Print the scores of the held-out sentences, and whether the adapter helped."""
    main, other = measured.measures
    rows = [(name, f"{values[main]:.1%}", f"{values[other]:.4f}") for name, values in stages(code, metrics).items()]
    title = f"Held-out sentences of {code} and their translations ({len(measured)})"
    console.print(table(title, ("adapter", main, other), rows))
    *others, (_, after) = before_and_after(code, metrics).items()
    best, before = max(others, key=lambda each: each[1][main])
    # Two standard errors of the difference of two shares of the same sentences, at most.
    error = 2 * np.sqrt(max(before[main] * (1 - before[main]), 0.01) * 2 / len(measured))
    if after[main] < before[main] - error:
        console.print(
            f"The adapter is harmful: fewer sentences {measured.aim} than with that of {best}. Try a lower "
            f"learning rate than {rate:g}, fewer steps, or --init-from neutral."
        )
