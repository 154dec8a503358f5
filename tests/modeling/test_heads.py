"""The heads: their losses, the labels they take, and the language ids of multiple choice."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.reference import encoder, heads
from tests.support import (
    assert_same_gradients,
    assert_same_outputs,
    labels_like,
    ragged_batch,
    state_of,
    tiny_model,
)
from xmodular import (
    XmodForCausalLM,
    XmodForMaskedLM,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
    XmodModel,
)


def hidden_of(model: Any, **inputs: Any) -> Tensor:
    return encoder.encode(state_of(model), model.config, **inputs).last_hidden_state


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("num_labels", "labels", "kind", "loss"),
    [
        (3, torch.tensor([0, 2, 1, 1]), "single_label_classification", heads.cross_entropy),
        (
            3,
            torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1.0]]),
            "multi_label_classification",
            heads.multi_label_loss,
        ),
        (1, torch.tensor([0.5, -2.0, 1.0, 0.0]), "regression", heads.regression_loss),
        (2, torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), "regression", heads.regression_loss),
    ],
    ids=["single-label", "multi-label", "regression", "regression-2"],
)
@pytest.mark.parametrize("named", [True, False])
def test_sequence_classification(num_labels: int, labels: Tensor, kind: str, loss: Any, named: bool) -> None:
    """The problem type is the configuration's, or is read off the number and the type of the labels."""
    if not named and kind == "regression" and num_labels > 1:
        kind, loss = "multi_label_classification", heads.multi_label_loss
    more = {"problem_type": kind} if named else {}
    model = tiny_model(XmodForSequenceClassification, num_labels=num_labels, **more)
    batch = ragged_batch()
    result = model(**batch, labels=labels)
    expected = heads.sequence_logits(state_of(model), hidden_of(model, **batch))
    close(result.logits, expected)
    close(result.loss, loss(expected, labels))


def test_one_regression_target_as_a_column_is_not_broadcast() -> None:
    """Labels (batch, 1) and (batch,) mean the same; a silent (batch, batch) difference would not."""
    model = tiny_model(XmodForSequenceClassification, num_labels=1)
    batch, labels = ragged_batch(), torch.tensor([0.5, -2.0, 1.0, 0.0])
    close(model(**batch, labels=labels[:, None]).loss, model(**batch, labels=labels).loss)
    one = {key: value[:1] for key, value in batch.items()}
    assert model(**one, labels=labels[:1]).loss.shape == ()


def test_token_classification_ignores_what_has_no_label() -> None:
    model = tiny_model(XmodForTokenClassification, num_labels=5)
    batch = ragged_batch(languages="tokens")
    labels = labels_like(batch, 5)
    logits = heads.token_logits(state_of(model), hidden_of(model, **batch))
    result = SimpleNamespace(logits=logits, loss=heads.masked_lm_loss(logits, labels))
    assert_same_outputs(model(**batch, labels=labels), result, batch["attention_mask"], fields=("logits", "loss"))


def test_question_answering_ignores_positions_outside_the_sequence() -> None:
    model = tiny_model(XmodForQuestionAnswering)
    batch = ragged_batch((8, 8, 8))
    starts, ends = torch.tensor([1, 8, 3]), torch.tensor([4, 20, 7])
    start, end = heads.span_logits(state_of(model), hidden_of(model, **batch))
    result = model(**batch, start_positions=starts, end_positions=ends)
    close(result.start_logits, start)
    close(result.end_logits, end)
    close(result.loss, heads.span_loss(start, end, starts, ends))
    columns = model(**batch, start_positions=starts[:, None], end_positions=ends[:, None])
    close(columns.loss, result.loss)
    kept = {key: value[[0, 2]] for key, value in batch.items()}
    close(model(**kept, start_positions=starts[[0, 2]], end_positions=ends[[0, 2]]).loss, result.loss)
    before = model(**batch, start_positions=torch.tensor([1, -1, 3]), end_positions=ends)
    close(before.loss, result.loss)


def choices(shape: tuple[int, int] = (2, 3)) -> dict[str, Tensor]:
    """Two questions with three answers of different length."""
    batch = ragged_batch((7, 3, 9, 5, 2, 6))
    del batch["lang_ids"]
    return {key: value.unflatten(0, shape) for key, value in batch.items()}


@pytest.mark.parametrize("form", ["batch", "choices", "sequence", "default"])
@pytest.mark.parametrize("embeds", [False, True], ids=["ids", "embeds"])
def test_multiple_choice_takes_language_ids_of_every_form(form: str, embeds: bool) -> None:
    model = tiny_model(XmodForMultipleChoice)
    batch: dict[str, Any] = choices()
    generator = torch.Generator().manual_seed(7)
    lang_ids = {
        "batch": torch.tensor([2, 0]),
        "choices": torch.tensor([[2, 0, 1], [1, 1, 0]]),
        "sequence": torch.randint(0, 3, (2, 3, 9), generator=generator),
        "default": None,
    }[form]
    flat: dict[str, Any] = {key: value.flatten(0, 1) for key, value in batch.items()}
    if form == "default":
        model.set_default_language("de_DE")
        flat["lang_ids"] = torch.ones(6, dtype=torch.long)
    else:
        flat["lang_ids"] = lang_ids.repeat_interleave(3) if form == "batch" else lang_ids.flatten(0, 1)
        batch["lang_ids"] = lang_ids
    if embeds:
        words = torch.randn(2, 3, 9, 32, generator=generator)
        batch["inputs_embeds"], flat["inputs_embeds"] = words, words.flatten(0, 1)
        del batch["input_ids"], flat["input_ids"]
    labels = torch.tensor([2, 0])
    result = model(**batch, labels=labels)
    logits = heads.choice_logits(state_of(model), hidden_of(model, **flat), 3)
    assert logits.shape == (2, 3)
    close(result.logits, logits)
    close(result.loss, heads.cross_entropy(logits, labels))


def test_multiple_choice_with_types_and_positions() -> None:
    model = tiny_model(XmodForMultipleChoice)
    batch = choices() | {"lang_ids": torch.tensor([2, 0])}
    generator = torch.Generator().manual_seed(8)
    more = {
        "token_type_ids": torch.randint(0, 2, (2, 3, 9), generator=generator),
        "position_ids": torch.randint(0, 40, (2, 3, 9), generator=generator),
    }
    flat = {key: value.flatten(0, 1) for key, value in (batch | more).items() if key != "lang_ids"}
    hidden = hidden_of(model, **flat, lang_ids=torch.tensor([2, 2, 2, 0, 0, 0]))
    close(model(**batch, **more).logits, heads.choice_logits(state_of(model), hidden, 3))


def test_multiple_choice_says_which_shapes_it_takes() -> None:
    model = tiny_model(XmodForMultipleChoice)
    with pytest.raises(ValueError, match=r"lang_ids.*\(3,\)"):
        model(**choices(), lang_ids=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"input_ids.*\(6, 9\)"):
        model(input_ids=choices()["input_ids"].flatten(0, 1), lang_ids=torch.tensor([0, 1]))


def test_causal_loss_predicts_the_next_token() -> None:
    model = tiny_model(XmodForCausalLM, is_decoder=True)
    batch = ragged_batch()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    logits = heads.lm_logits(state_of(model), model.config, hidden_of(model, **batch))
    result = SimpleNamespace(logits=logits, loss=heads.causal_lm_loss(logits, labels))
    ours = model(**batch, labels=labels)
    assert_same_outputs(ours, result, batch["attention_mask"], fields=("logits", "loss"))
    assert ours.past_key_values is None


@pytest.mark.parametrize("routing", ["single", "interleaved", "tokens"])
@pytest.mark.parametrize("over", [{}, {"pre_norm": True}, {"tie_word_embeddings": False}], ids=["", "pre", "untied"])
def test_sparse_prediction_is_the_dense_loss(routing: str, over: dict[str, Any]) -> None:
    """Same loss, same gradients, logits at labelled positions only, in row-major order of the batch."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    dense, sparse = (tiny_model(XmodForMaskedLM, **still, **over) for _ in range(2))
    batch = ragged_batch(languages=routing)
    labels = labels_like(batch, 99)
    expected = dense(**batch, labels=labels)
    result = sparse(**batch, labels=labels, sparse_prediction=True)
    close(result.loss, expected.loss)
    close(result.logits, expected.logits[labels != -100])
    whole = dense.train()(**batch, labels=labels)
    part = sparse.train()(**batch, labels=labels, sparse_prediction=True)
    assert part.logits is None
    close(part.loss, whole.loss)
    whole.loss.backward()
    part.loss.backward()
    assert_same_gradients(sparse, dense)


def test_sparse_prediction_without_a_label() -> None:
    model = tiny_model(XmodForMaskedLM)
    batch = ragged_batch()
    with pytest.raises(ValueError, match=r"sparse_prediction.*labels"):
        model(**batch, sparse_prediction=True)
    nothing = torch.full_like(batch["input_ids"], -100)
    result = model(**batch, labels=nothing, sparse_prediction=True)
    assert result.logits.shape == (0, 99)


def test_sparse_prediction_reads_labels_at_padding_as_the_dense_loss_does() -> None:
    model = tiny_model(XmodForMaskedLM)
    batch = ragged_batch()
    labels = torch.randint(0, 99, (4, 9), generator=torch.Generator().manual_seed(0))
    dense = model(**batch, labels=labels).loss
    close(model(**batch, labels=labels, sparse_prediction=True).loss, dense)


def test_labels_out_of_range_do_not_pass() -> None:
    for cls, count in ((XmodForMaskedLM, 99), (XmodForTokenClassification, 3)):
        model = tiny_model(cls, num_labels=3)
        batch = ragged_batch()
        labels = labels_like(batch, 3)
        labels[0, 1] = count
        with pytest.raises((ValueError, IndexError)):
            model(**batch, labels=labels)


def test_the_pooler_can_be_left_out() -> None:
    model = tiny_model(XmodModel)
    batch = ragged_batch()
    result = model(**batch)
    close(result.pooler_output, heads.pool(state_of(model), hidden_of(model, **batch)))
    bare = XmodModel(model.config, add_pooling_layer=False).eval()
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("pooler")})
    without = bare(**batch)
    assert without.pooler_output is None
    close(without.last_hidden_state, result.last_hidden_state)


def test_classifier_dropout_has_its_own_rate() -> None:
    """None means the hidden dropout; zero means none."""
    batch = ragged_batch()
    for cls in (XmodForSequenceClassification, XmodForTokenClassification):
        quiet = tiny_model(cls, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
        loud = tiny_model(cls, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.5)
        assert torch.equal(quiet.train()(**batch).logits, quiet.eval()(**batch).logits)
        assert not torch.equal(loud.train()(**batch).logits, loud.eval()(**batch).logits)
