"""How far a graph and the model that it was made of agree on text, and how long each takes for one text."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmodular.console import progress
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks import Encoding, collate

Runner = Callable[..., Mapping[str, Any]]  # from a batch by name to outputs by name

_ROWS = 16  # of a batch
_TIMED, _ROUNDS = 10, 5  # texts, and how often each is read by either
_PER_TOKEN = ("last_hidden_state", "start_logits", "end_logits")
_TAGGERS = ("XmodForTokenClassification", "XmodForMaskedLM")


@dataclass(frozen=True)
class Agreement:
    """What the check of one language found.

    Attributes:
        language: its code.
        rows: number of texts that its adapter read.
        given: whether they are the user's rows; otherwise the built-in sentences.
        max_difference: the largest difference of an output at a real token.
        label_agreement: the share of texts, or of tokens for models that label tokens, whose highest label is the
            same; None for a model without labels.
    """

    language: str
    rows: int
    given: bool
    max_difference: float
    label_agreement: float | None


def compare(
    model: XmodPreTrainedModel,
    graph: Runner,
    outputs: Sequence[str],
    texts: Mapping[str, tuple[bool, Sequence[Encoding]]],
) -> list[Agreement]:
    """Run the model and the graph over texts, in batches of mixed languages.

    Args:
        model: in evaluation mode, on the CPU, with the languages of the graph.
        graph: what was made of it.
        outputs: the names of the graph's outputs.
        texts: by code of a language whose adapter reads them: whether they are the user's, and their encodings.

    Returns:
        A row for each language, in the order of `texts`.
    """
    pairs = [(code, each) for code, (_, encodings) in texts.items() for each in encodings]
    pairs.sort(key=lambda pair: max(map(len, pair[1].sequences)))
    differences: dict[str, list[float]] = {code: [] for code in texts}
    same: dict[str, list[Tensor]] = {code: [] for code in texts}
    ids = {code: number for number, code in enumerate(model.languages)}
    with torch.inference_mode(), progress("Checking", len(pairs)) as advance:
        for part in _parts(pairs):
            batch = collate([each for _, each in part], [ids[code] for code, _ in part], model.config.pad_token_id)
            ours, theirs = model(**batch, return_dict=True), graph(**batch)
            for row, (code, _) in enumerate(part):
                real = batch["attention_mask"][row].bool()
                kept = {name: _at(row, real, name, model) for name in outputs}
                differences[code].append(
                    max(float((at(ours[n]) - at(theirs[n])).abs().max()) for n, at in kept.items())
                )
                choices = [_chosen(model, [at(each[n]) for n, at in kept.items()]) for each in (ours, theirs)]
                if choices[0] is not None and choices[1] is not None:
                    same[code].append((choices[0] == choices[1]).flatten())
            advance(len(part))
    return [
        Agreement(
            code,
            len(encodings),
            given,
            float(torch.tensor(differences[code]).max()),  # NaN stays
            float(torch.cat(same[code]).float().mean()) if same[code] else None,
        )
        for code, (given, encodings) in texts.items()
    ]


def _parts(pairs: Sequence[tuple[str, Encoding]]) -> Iterator[list[tuple[str, Encoding]]]:
    """Batches; where there are choices, all of one number."""
    by_choices: dict[int, list[tuple[str, Encoding]]] = {}
    for pair in pairs:
        by_choices.setdefault(len(pair[1].sequences), []).append(pair)
    for alike in by_choices.values():
        for start in range(0, len(alike), _ROWS):
            yield alike[start : start + _ROWS]


def _at(row: int, real: Tensor, name: str, model: XmodPreTrainedModel) -> Callable[[Tensor], Tensor]:
    """What reads a row of an output, without padding."""
    per_token = name in _PER_TOKEN or type(model).__name__ in _TAGGERS
    return lambda values: values[row].float()[real] if per_token else values[row].float()


def _chosen(model: XmodPreTrainedModel, values: Sequence[Tensor]) -> Tensor | None:
    """The labels that a row's logits choose; None where there are none to choose from."""
    kind, logits = type(model).__name__, values[0]
    if kind == "XmodModel" or model.config.problem_type == "regression":
        return None
    if model.config.problem_type == "multi_label_classification" and kind == "XmodForSequenceClassification":
        return logits > 0
    if kind == "XmodForQuestionAnswering":
        return torch.stack([each.argmax() for each in values])
    return None if logits.shape[-1] == 1 else logits.argmax(-1)


def latency(
    model: XmodPreTrainedModel, graph: Runner, texts: Mapping[str, tuple[bool, Sequence[Encoding]]]
) -> dict[str, float]:
    """How long model and graph take for one text, in milliseconds, measured in turns.

    Args:
        model, graph, texts: as for `compare`.

    Returns:
        ``model`` and ``graph``: the medians; ``ratio``: that of the model by that of the graph; ``tokens``: the
        median length; ``threads``: of torch.
    """
    ids = {code: number for number, code in enumerate(model.languages)}
    pairs = [(code, each) for code, (_, encodings) in texts.items() for each in encodings]
    pairs = pairs[:: max(1, len(pairs) // _TIMED)][:_TIMED]
    batches = [collate([each], [ids[code]], model.config.pad_token_id) for code, each in pairs]
    times: dict[str, list[float]] = {"model": [], "graph": []}
    with torch.inference_mode(), progress("Timing", len(batches)) as advance:
        for batch in batches:
            best: dict[str, list[float]] = {"model": [], "graph": []}
            for _ in range(_ROUNDS):
                for name, run in (("model", model), ("graph", graph)):
                    start = time.perf_counter()
                    run(**batch)
                    best[name].append(1000 * (time.perf_counter() - start))
            for name, taken in best.items():
                times[name].append(statistics.median(taken))
            advance(1)
    found = {name: statistics.median(taken) for name, taken in times.items()}
    lengths = [batch["input_ids"].shape[-1] for batch in batches]
    ratio = found["model"] / found["graph"]
    return {**found, "ratio": ratio, "tokens": statistics.median(lengths), "threads": torch.get_num_threads()}
