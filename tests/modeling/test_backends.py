"""Attention backends, chunked feed-forward, and the tuples of `return_dict=False`."""

from typing import Any

import pytest
import torch

import xmodular
from tests.support import (
    BASE_FLAGS,
    LARGE_FLAGS,
    assert_same_gradients,
    assert_same_outputs,
    labels_like,
    ragged_batch,
    tiny_model,
)
from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodForMultipleChoice, XmodForQuestionAnswering, XmodModel
from xmodular.errors import ConfigurationError

EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
STYLES = pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])


@STYLES
@pytest.mark.parametrize("routing", ["interleaved", "tokens"])
def test_sdpa_is_eager(flags: dict[str, Any], routing: str) -> None:
    model = tiny_model(XmodModel, **flags)
    batch = ragged_batch(languages=routing)
    expected = model(**batch, output_hidden_states=True)
    model.set_attn_implementation("sdpa")
    assert model.config._attn_implementation == "sdpa"
    assert_same_outputs(
        model(**batch, output_hidden_states=True), expected, batch["attention_mask"], padding_is_zero=True
    )


@pytest.mark.slow  # compiles its kernel
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()  # which on the CPU has no backward
def test_flex_is_eager() -> None:
    model = tiny_model(XmodModel)
    batch = ragged_batch(languages="tokens")
    expected = model(**batch, output_hidden_states=True)
    model.set_attn_implementation("flex_attention")
    assert_same_outputs(
        model(**batch, output_hidden_states=True), expected, batch["attention_mask"], padding_is_zero=True
    )


def test_flex_says_what_it_cannot_do() -> None:
    """Relative positions and masks over pairs need scores that this backend keeps to itself."""
    batch = ragged_batch((5, 5))
    relative = tiny_model(XmodModel, "flex_attention", position_embedding_type="relative_key")
    with pytest.raises(ConfigurationError, match=r"'flex_attention'.*relative.*'sdpa' or 'eager'"):
        relative(**batch)
    model = tiny_model(XmodModel, "flex_attention")
    with pytest.raises(ConfigurationError, match=r"three dimensions.*'flex_attention'.*'sdpa' or 'eager'"):
        model(**batch | {"attention_mask": torch.ones(2, 5, 5)})


@pytest.mark.parametrize("position", ["absolute", "relative_key", "relative_key_query"])
@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
def test_gradients_agree_between_eager_and_sdpa(position: str, is_decoder: bool) -> None:
    over = {"position_embedding_type": position, "is_decoder": is_decoder}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    cls = XmodForCausalLM if is_decoder else XmodForMaskedLM
    models = [tiny_model(cls, attention, **over, **still) for attention in ("eager", "sdpa")]
    batch = ragged_batch()
    labels = labels_like(batch, 99)
    for model in models:
        model.train()(**batch, labels=labels).loss.backward()
    assert_same_gradients(*models)


@pytest.mark.parametrize("position", ["absolute", "relative_key"])
def test_attentions_come_from_every_backend_and_sum_to_one(position: str) -> None:
    """Asked for probabilities, a backend that has none gives way to the one that has, or says that it cannot."""
    eager, sdpa = (tiny_model(XmodModel, name, position_embedding_type=position) for name in ("eager", "sdpa"))
    batch = ragged_batch()
    result = eager(**batch, output_attentions=True)
    real = batch["attention_mask"].bool()
    for probabilities in result.attentions:
        rows = probabilities.transpose(1, 2)[real]
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
        hidden_keys = ~real[:, None, None, :].expand_as(probabilities)
        assert not probabilities[hidden_keys].any()
    assert_same_outputs(sdpa(**batch, output_attentions=True), result, batch["attention_mask"])


@STYLES
@pytest.mark.parametrize("chunk", [1, 2, 4, 1000])
def test_chunks_of_the_feed_forward_change_nothing(flags: dict[str, Any], chunk: int) -> None:
    """Also where the number of tokens is no multiple of the chunk; products of another size may round otherwise."""
    whole, pieces = tiny_model(XmodModel, **flags), tiny_model(XmodModel, chunk_size_feed_forward=chunk, **flags)
    batch = ragged_batch((7, 3, 9, 4), "tokens")
    assert_same_outputs(pieces(**batch), whole(**batch), batch["attention_mask"])


ORDER = {
    "XmodModel": ["last_hidden_state", "pooler_output", "hidden_states", "attentions"],
    "XmodForMaskedLM": ["loss", "logits", "hidden_states", "attentions"],
    "XmodForSequenceClassification": ["loss", "logits", "hidden_states", "attentions"],
    "XmodForTokenClassification": ["loss", "logits", "hidden_states", "attentions"],
    "XmodForMultipleChoice": ["loss", "logits", "hidden_states", "attentions"],
    "XmodForQuestionAnswering": ["loss", "start_logits", "end_logits", "hidden_states", "attentions"],
}


def flattened(values: Any) -> list[torch.Tensor]:
    return [tensor for value in values for tensor in ([value] if isinstance(value, torch.Tensor) else value)]


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("full", [True, False])
def test_tuples_have_the_order_of_the_page(name: str, full: bool) -> None:
    """With everything asked for and with nothing: what is None is left out."""
    model = tiny_model(getattr(xmodular, name), num_labels=2)
    batch: dict[str, Any] = ragged_batch((5, 5))
    labels: dict[str, Any] = {}
    if isinstance(model, XmodForQuestionAnswering):
        labels = {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 3])}
    elif isinstance(model, XmodForMultipleChoice):
        batch = {key: value[None] for key, value in batch.items()}
        labels = {"labels": torch.tensor([1])}
    elif name != "XmodModel":
        labels = {"labels": torch.tensor([0, 1]) if "Sequence" in name else labels_like(batch, 2)}
    options = labels | EVERYTHING if full else {}
    named = model(**batch, **options)
    plain = model(**batch, **options, return_dict=False)
    left_out = () if full else ("loss", "hidden_states", "attentions")
    assert list(named.keys()) == [field for field in ORDER[name] if field not in left_out]
    assert isinstance(plain, tuple)
    assert len(plain) == len(named)
    for a, b in zip(flattened(plain), flattened(named.values()), strict=True):
        assert torch.equal(a, b)


def test_a_decoders_tuple_has_its_past_third() -> None:
    model = tiny_model(XmodForCausalLM, is_decoder=True, add_cross_attention=True)
    batch = ragged_batch((5, 5))
    more = {"encoder_hidden_states": torch.ones(2, 3, 32)}
    named = model(**batch, **more, **EVERYTHING, use_cache=True)
    assert list(named.keys()) == ["logits", "past_key_values", "hidden_states", "attentions", "cross_attentions"]
    plain = model(**batch, **more, **EVERYTHING, use_cache=True, return_dict=False)
    assert torch.equal(plain[0], named.logits)
    assert torch.equal(plain[-1][0], named.cross_attentions[0])
    labelled = model(**batch, **more, labels=batch["input_ids"], return_dict=False)
    assert [value.shape for value in labelled] == [(), (2, 5, 99)]


def test_the_configuration_can_ask_for_outputs_and_tuples() -> None:
    model = tiny_model(XmodModel, output_hidden_states=True)
    batch = ragged_batch((5, 3))
    assert len(model(**batch).hidden_states) == 3
    model.config.return_dict = False
    result = model(**batch)
    assert isinstance(result, tuple)
    assert [len(value) for value in result] == [2, 2, 3]


def test_hidden_states_end_with_the_final_norm() -> None:
    for flags in (BASE_FLAGS, LARGE_FLAGS):
        model = tiny_model(XmodModel, **flags)
        result = model(**ragged_batch(), output_hidden_states=True)
        assert torch.equal(result.hidden_states[-1], result.last_hidden_state)
        assert len(result.hidden_states) == 3
