"""Losses and their gradients: in half precision, and however the same rows are cut, padded and spread."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import StaticCache, Trainer, TrainingArguments

from tests.support import labels_like, ragged_batch, tiny_model
from xmodular import (
    XmodForCausalLM,
    XmodForMaskedLM,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
)
from xmodular.errors import InputError
from xmodular.modeling import lm

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


# Half precision


def head_of(items: int, pieces: int = 300, hidden: int = 16, frequent: float = 0.5) -> dict[str, Tensor]:
    """A projection with items to predict, half of which are one piece (as in text), the others any of the first 50."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 50, (items,), generator=generator)
    labels[torch.rand(items, generator=generator) < frequent] = 7
    return {
        "states": F.layer_norm(torch.randn(items, hidden, generator=generator) * 3, (hidden,)) + 0.5,
        "weight": torch.randn(pieces, hidden, generator=generator) * 0.02,
        "bias": torch.randn(pieces, generator=generator) * 0.1,
        "labels": labels,
    }


def gradients_of_head(parts: dict[str, Tensor], scale: float, dtype: torch.dtype | None, weights: torch.dtype) -> Any:
    """The loss of the projection in chunks, and the gradients of its parts, divided by the scale in float64."""
    given = {name: parts[name].to(weights).requires_grad_() for name in ("states", "weight", "bias")}
    divisor = torch.tensor(len(parts["labels"]))
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        loss = lm.chunked_cross_entropy(**given, labels=parts["labels"], divisor=divisor)
    (loss * scale).backward()
    return loss, {name: tensor.grad.double() / scale for name, tensor in given.items()}


@pytest.mark.parametrize(("items", "pieces"), [(2048, 3000), (65_536, 300)])
def test_half_precision_with_a_loss_scale(items: int, pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gradient rounds to nothing before the scale reaches it, and no sum over the items leaves fp16."""
    monkeypatch.setattr(lm, "LOGITS_PER_CHUNK", 2**22)
    parts = head_of(items, pieces)
    exact = {name: parts[name].double().requires_grad_() for name in ("states", "weight", "bias")}
    loss = F.cross_entropy(F.linear(exact["states"], exact["weight"], exact["bias"]), parts["labels"])
    loss.backward()
    found_loss, found = gradients_of_head(parts, 65_536, torch.float16, torch.float32)
    assert found_loss.item() == pytest.approx(loss.item(), rel=1e-3)
    for name, tensor in exact.items():
        assert relative_error(found[name], tensor.grad) < 0.01, name
    for row in (*range(8), *range(50, pieces, pieces // 12)):  # pieces of the text, and pieces that no item is
        assert relative_error(found["weight"][row], exact["weight"].grad[row]) < 0.01, row


def test_half_precision_of_confident_predictions() -> None:
    """Where nearly all is known already, what is left of the gradient keeps its direction."""
    parts = head_of(2048, frequent=1.0)
    parts["bias"][7] = 14.0
    exact = gradients_of_head(parts, 1.0, None, torch.float64)[1]
    found = gradients_of_head(parts, 65_536, torch.float16, torch.float32)[1]
    for name, tensor in exact.items():
        assert relative_error(found[name], tensor) < 0.02, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_sum_over_many_chunks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum in half precision stops growing after some hundred chunks."""
    monkeypatch.setattr(lm, "LOGITS_PER_CHUNK", 300 * 4)
    parts = {name: part if name == "labels" else part.to(dtype) for name, part in head_of(4096).items()}
    exact = gradients_of_head(parts, 1.0, None, torch.float64)[1]
    found = gradients_of_head(parts, 4096.0, None, dtype)[1]
    assert relative_error(found["weight"], exact["weight"]) < 0.02
    assert relative_error(found["states"], exact["states"]) < 0.02


def test_double_precision_stays_double() -> None:
    parts = head_of(64)
    exact = {name: parts[name].double().requires_grad_() for name in ("states", "weight", "bias")}
    F.cross_entropy(F.linear(exact["states"], exact["weight"], exact["bias"]), parts["labels"]).backward()
    found = gradients_of_head(parts, 1.0, None, torch.float64)[1]
    for name, tensor in exact.items():
        torch.testing.assert_close(found[name], tensor.grad, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_model_in_half_precision_with_a_loss_scale(tied: bool) -> None:
    """2,048 labels, through all layers. With 65,536 the dense loss, too, has layers whose gradient leaves fp16 here."""
    scale = 4096
    models = [tiny_model(XmodForMaskedLM, "sdpa", tie_word_embeddings=tied, **STILL).train() for _ in range(2)]
    batch = ragged_batch([34] * 64)
    batch["labels"] = torch.randint(4, 99, (64, 34), generator=torch.Generator().manual_seed(1))
    batch["labels"][:, 32:] = -100
    models[0](**batch, sparse_prediction=True).loss.backward()
    with torch.autocast("cpu", torch.float16):
        loss = models[1](**batch, sparse_prediction=True).loss
    (loss * scale).backward()
    exact = torch.cat([p.grad.flatten() for p in models[0].parameters() if p.grad is not None])
    found = torch.cat([p.grad.flatten() / scale for p in models[1].parameters() if p.grad is not None])
    assert relative_error(found, exact) < 0.01
    for name in ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight", "lm_head.bias"):
        mine, other = (model.get_parameter(name).grad for model in reversed(models))
        assert relative_error(mine / scale, other) < 0.01, name


# Cut, padded and spread otherwise

ROWS = 8
LENGTHS = (7, 3, 9, 5, 4, 8, 2, 6)


def sequences() -> dict[str, Tensor]:
    return ragged_batch(LENGTHS)


def with_labels(count: int, share: float = 0.5) -> Callable[[], dict[str, Tensor]]:
    def batch() -> dict[str, Tensor]:
        return (found := sequences()) | {"labels": labels_like(found, count, share)}

    return batch


def next_tokens() -> dict[str, Tensor]:
    batch = sequences()
    return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


def shifted() -> dict[str, Tensor]:
    """As collators that pack texts give them: beside the labels, and not all of those count."""
    batch = next_tokens()
    moved = F.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    return batch | {"shift_labels": moved.masked_fill(torch.arange(9) == 2, -100)}


def one_each(values: Tensor) -> Callable[[], dict[str, Tensor]]:
    return lambda: sequences() | {"labels": values}


def answers(barred: bool = False) -> dict[str, Tensor]:
    ends = torch.tensor(LENGTHS) - 1
    batch = sequences() | {"start_positions": ends // 2, "end_positions": ends}
    if barred:
        places = torch.arange(max(LENGTHS))
        batch["p_mask"] = (places % 3 == 0) & (places != ends[:, None]) & (places != ends[:, None] // 2)
    return batch


def answers_in_part() -> dict[str, Tensor]:
    """Two rows without an answer in sight, one whose answer is cut."""
    batch = answers()
    batch["start_positions"][[2, 5]] = -1
    batch["end_positions"][[2, 5, 6]] = 99
    return batch


def choices() -> dict[str, Tensor]:
    batch = {key: value.unflatten(0, (ROWS, 2)) for key, value in ragged_batch(LENGTHS * 2).items()}
    return batch | {"labels": torch.tensor([0, 1, 1, -100, 0, 1, 0, 0])}


NOISE = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(5)).double()
SOME = (NOISE > 0).double().masked_fill(NOISE.abs() < 0.1, -100)
SINGLE = torch.tensor([0, 2, 1, -100, 1, 0, 2, 2])


def of_labels(batch: dict[str, Tensor]) -> Any:
    return (batch["labels"] != -100).sum()


HEADS: dict[str, tuple[Any, dict[str, Any], Callable[[], dict[str, Tensor]], Callable[..., Any]]] = {
    "masked": (XmodForMaskedLM, {}, with_labels(99), of_labels),
    "untied": (XmodForMaskedLM, {"tie_word_embeddings": False}, with_labels(99), of_labels),
    "causal": (XmodForCausalLM, {"is_decoder": True}, next_tokens, lambda of: (of["labels"][:, 1:] != -100).sum()),
    "shifted": (XmodForCausalLM, {"is_decoder": True}, shifted, lambda of: (of["shift_labels"] != -100).sum()),
    "single": (XmodForSequenceClassification, {"num_labels": 3}, one_each(SINGLE), of_labels),
    "multi": (
        XmodForSequenceClassification,
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        one_each(SOME),
        of_labels,
    ),
    "regression": (XmodForSequenceClassification, {"num_labels": 1}, one_each(NOISE[:, 0]), lambda of: ROWS),
    "regression of 3": (
        XmodForSequenceClassification,
        {"num_labels": 3, "problem_type": "regression"},
        one_each(NOISE),
        lambda of: 3 * ROWS,
    ),
    "tokens": (XmodForTokenClassification, {"num_labels": 5}, with_labels(5), of_labels),
    "choice": (XmodForMultipleChoice, {}, choices, of_labels),
    "answers": (XmodForQuestionAnswering, {}, answers, lambda of: ROWS),
    "answers, some barred": (XmodForQuestionAnswering, {}, lambda: answers(True), lambda of: ROWS),
    "answers in part": (XmodForQuestionAnswering, {}, answers_in_part, lambda of: torch.tensor([6, 5])),
}
WAYS = [*((head, False) for head in HEADS), *((head, True) for head in ("masked", "untied", "causal", "shifted"))]
EVERY_HEAD = pytest.mark.parametrize("head", HEADS)


def model_of(head: str) -> Any:
    cls, options, _, _ = HEADS[head]
    return tiny_model(cls, "sdpa", **STILL, **options).double().train()


PER_TOKEN = {"input_ids": 1, "attention_mask": 0, "labels": -100, "shift_labels": -100, "p_mask": 1}


def is_per_token(name: str, tensor: Tensor, length: int) -> bool:
    return name in PER_TOKEN and tensor.dim() > 1 and tensor.shape[-1] == length


def rows_of(batch: dict[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    """Some rows, without the columns that only pad."""
    length = batch["input_ids"].shape[-1]
    some = {name: tensor[rows] for name, tensor in batch.items()}
    longest = int(some["attention_mask"].sum(-1).max())
    return {
        name: tensor[..., :longest] if is_per_token(name, tensor, length) else tensor for name, tensor in some.items()
    }


def padded(batch: dict[str, Tensor], left: int, right: int) -> dict[str, Tensor]:
    """With more padding on either side."""
    length = batch["input_ids"].shape[-1]
    wider = {
        name: F.pad(tensor, (left, right), value=PER_TOKEN[name]) if is_per_token(name, tensor, length) else tensor
        for name, tensor in batch.items()
    }
    for name in ("start_positions", "end_positions"):
        if name in wider:
            wider[name] = batch[name].where(batch[name] < 0, batch[name] + left)
    return wider


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_as_whole(model: nn.Module, loss: float, head: str) -> None:
    """The loss, and the gradients in the model, are those of the plain loss of all rows."""
    plain = model_of(head)
    whole = plain(**HEADS[head][2]()).loss
    whole.backward()
    assert loss == pytest.approx(whole.item(), abs=1e-6)
    mine, expected = gradients(model), gradients(plain)
    assert mine.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(mine[name], tensor, atol=1e-6, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("head", "sparse"), WAYS)
def test_accumulated_batches_are_one(head: str, sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of different size and length, each padded for itself; what is divided by is the number of items of all."""
    monkeypatch.setattr(lm, "LOGITS_PER_CHUNK", 99 * 4)
    _, _, make, count = HEADS[head]
    model, batch = model_of(head), make()
    more = {"num_items_in_batch": count(batch)} | ({"sparse_prediction": True} if sparse else {})
    losses = [model(**rows_of(batch, rows), **more).loss for rows in ([6], [0, 1, 2], [3], [4, 5, 7])]
    for loss in losses:
        loss.backward()
    assert_as_whole(model, sum(loss.item() for loss in losses), head)


@EVERY_HEAD
@pytest.mark.parametrize(("left", "right"), [(0, 20), (5, 0), (3, 3)])
def test_padding_changes_nothing(head: str, left: int, right: int) -> None:
    model = model_of(head)
    loss = model(**padded(HEADS[head][2](), left, right)).loss
    loss.backward()
    assert_as_whole(model, loss.item(), head)


@pytest.mark.parametrize(("head", "sparse"), [each for each in WAYS if each[0] != "choice"])
def test_a_prefix_of_keys_moves_no_label(head: str, sparse: bool) -> None:
    """The mask covers the prefix; that is hidden here, so all is as without it, at the positions of before."""
    model, batch = model_of(head), padded(HEADS[head][2](), 2, 1)
    places = model.base_model.embeddings.count_positions(batch["input_ids"].shape, batch["input_ids"], "cpu", 0)
    batch |= {"position_ids": places} | ({"sparse_prediction": True} if sparse else {})
    pairs = tuple((torch.ones(ROWS, 4, 3, 8).double(), torch.ones(ROWS, 4, 3, 8).double()) for _ in range(2))
    mask = torch.cat((torch.zeros(ROWS, 3).long(), batch["attention_mask"]), 1)
    loss = model(**{**batch, "attention_mask": mask}, past_key_values=pairs).loss
    loss.backward()
    assert_as_whole(model, loss.item(), head)


@EVERY_HEAD
def test_several_processes_are_one(head: str) -> None:
    """Each divides by the items of all and multiplies by the number of processes; their gradients are averaged."""
    _, _, make, count = HEADS[head]
    batch, ranks = make(), [[0, 5, 6, 7, 4], [1, 2, 3]]
    models, total = [], 0.0
    for rows in ranks:
        model = model_of(head)
        loss = model(**rows_of(batch, rows), num_items_in_batch=count(batch)).loss * len(ranks)
        loss.backward()
        models.append(model)
        total += loss.item() / len(ranks)
    for parameters in zip(*(model.parameters() for model in models), strict=True):
        found = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if found:
            parameters[0].grad = torch.stack(found).sum(0) / len(ranks)
    assert_as_whole(models[0], total, head)


class RowsOf(Dataset):
    def __init__(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> int:
        return row

    def collate(self, rows: list[int]) -> dict[str, Tensor]:
        return rows_of(self.batch, rows)


class Watched(Trainer):
    """Notes loss and gradients of its only step."""

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self.seen = getattr(self, "seen", 0.0) + float(loss)
        self.gradients = gradients(self.model)
        return loss


# Trainer counts nothing but labels: of several batches with answers it averages the means, so these are of one size.
@pytest.mark.parametrize(
    ("head", "batch_size", "accumulation"),
    [
        *((head, 8, 1) for head in HEADS),
        *((head, 3, 3) for head in HEADS if "answers" not in head),
        *((head, 4, 2) for head in ("answers", "answers, some barred")),
    ],
)
def test_transformers_trainer_has_the_plain_loss(head: str, batch_size: int, accumulation: int, tmp_path: Any) -> None:
    """In its training and in its evaluation."""
    model, data = model_of(head), RowsOf(HEADS[head][2]())
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=ROWS,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=0.0,
        max_grad_norm=0.0,
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Watched(model=model, args=arguments, train_dataset=data, eval_dataset=data, data_collator=data.collate)
    evaluated = trainer.evaluate()["eval_loss"]
    trainer.train()
    for name, parameter in model.named_parameters():
        parameter.grad = trainer.gradients.get(name)
    assert_as_whole(model, trainer.seen, head)
    assert evaluated == pytest.approx(trainer.seen, abs=1e-6)


@pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForCausalLM, XmodForTokenClassification])
def test_labels_that_only_the_caller_counts_are_told(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At padding they do not count, but Trainer counted them."""
    told: list[str] = []
    monkeypatch.setattr("xmodular.modeling.labels.logger.warning_once", told.append, raising=False)
    model = tiny_model(cls, is_decoder=cls is XmodForCausalLM, num_labels=99)
    batch = sequences()
    model(**batch, labels=batch["input_ids"])
    clean = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model(**batch, labels=clean, num_items_in_batch=44)
    assert not told
    model(**batch, labels=batch["input_ids"], num_items_in_batch=72)
    assert len(told) == 1
    assert "-100" in told[0]


@pytest.mark.parametrize("head", [head for head in HEADS if head != "choice"])
@pytest.mark.parametrize("shape", [(ROWS, 8), (ROWS - 1, 9), (ROWS, 10)])
def test_a_mask_that_does_not_fit_is_refused_in_words(head: str, shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"attention_mask has shape \({shape[0]}, {shape[1]}\)"):
        model_of(head)(**{**HEADS[head][2](), "attention_mask": torch.ones(shape)})


def test_labels_with_a_cache_of_fixed_size_are_refused() -> None:
    """Its mask is longer than the tokens that are there, and no label may be taken for padding by that."""
    model = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True)
    cache = StaticCache(config=model.config, max_cache_len=20)
    batch = next_tokens()
    batch["attention_mask"] = F.pad(batch["attention_mask"], (0, 11))
    with pytest.raises(InputError, match="labels are given with a StaticCache"):
        model(**batch, past_key_values=cache)
