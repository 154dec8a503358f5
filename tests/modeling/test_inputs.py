"""What comes in at the door: language ids, masks and embeddings, and what is said about bad ones."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support import LANGUAGES, assert_same_outputs, ragged_batch, tiny_model
from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodModel
from xmodular.errors import InputError, LanguageError


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model(XmodModel, "sdpa")


def said(model: Any, error: type[Exception], *parts: str, **inputs: Any) -> None:
    """The call fails with that error, and its text has all the parts."""
    with pytest.raises(error) as caught:
        model(**inputs)
    assert isinstance(caught.value, ValueError)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    ("lang_ids", "parts"),
    [
        (torch.tensor([0, 1, 3, 2]), ["lang_ids", "3", "0 to 2", "en_XX", "sw_KE"]),
        (torch.tensor([0, -1, 1, 2]), ["lang_ids", "-1", "0 to 2"]),
        (torch.full((4, 9), 7), ["lang_ids", "7", "0 to 2"]),
        (torch.full((4, 9), -100), ["lang_ids", "-100", "0 to 2"]),
    ],
    ids=["above", "below", "above-by-token", "below-by-token"],
)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_id_out_of_range_is_an_error_and_not_zeros(attention: str, lang_ids: Tensor, parts: list[str]) -> None:
    model = tiny_model(XmodModel, attention)
    said(model, LanguageError, *parts, **ragged_batch() | {"lang_ids": lang_ids})
    decoder = tiny_model(XmodForCausalLM, attention, is_decoder=True)
    said(decoder, LanguageError, *parts, **ragged_batch() | {"lang_ids": lang_ids})


def test_one_bad_token_among_good_ones_is_found(model: Any) -> None:
    batch = ragged_batch(languages="tokens")
    batch["lang_ids"][2, 8] = 3
    said(model, LanguageError, "3", "0 to 2", **batch)


def test_ids_at_padding_are_never_read(model: Any) -> None:
    batch = ragged_batch(languages="tokens")
    expected = model(**batch)
    batch["lang_ids"] = batch["lang_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    assert_same_outputs(model(**batch), expected, atol=0.0)


@pytest.mark.parametrize(
    ("lang_ids", "parts"),
    [
        (torch.tensor([0.0, 1.0, 2.0, 0.0]), ["lang_ids", "float32", "integer"]),
        (torch.tensor([True, False, True, True]), ["lang_ids", "bool", "integer"]),
        (torch.tensor([0, 1, 2]), ["lang_ids", "(3,)", "(4,)", "(4, 9)"]),
        (torch.tensor(1), ["lang_ids", "()", "(4,)"]),
        (torch.zeros(4, 8, dtype=torch.long), ["lang_ids", "(4, 8)", "(4, 9)"]),
        (torch.zeros(4, 9, 1, dtype=torch.long), ["lang_ids", "(4, 9, 1)", "(4, 9)"]),
        ("de_DE", ["lang_ids", "'de_DE'", "model.lang_ids(["]),
        (["de_DE", "en_XX", "de_DE", "sw_KE"], ["lang_ids", "'sw_KE'", "model.lang_ids(["]),
        ([0, 1, 2, 0], ["lang_ids", "[0, 1, 2, 0]", "list", "integer tensor"]),
        (1, ["lang_ids", "1", "int", "integer tensor"]),
    ],
    ids=["float", "bool", "short", "scalar", "narrow", "deep", "name", "names", "list", "number"],
)
def test_ids_of_the_wrong_form(model: Any, lang_ids: Any, parts: list[str]) -> None:
    said(model, InputError, *parts, **ragged_batch() | {"lang_ids": lang_ids})


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.uint8])
def test_any_integer_type_will_do(model: Any, dtype: torch.dtype) -> None:
    batch = ragged_batch()
    narrow = batch | {"lang_ids": batch["lang_ids"].to(dtype)}
    assert_same_outputs(model(**narrow), model(**batch), atol=0.0)


def test_no_language_at_all_says_how_to_set_one(model: Any) -> None:
    batch = ragged_batch()
    del batch["lang_ids"]
    assert model.config.default_language is None
    said(model, ValueError, "lang_ids", "set_default_language", "en_XX", **batch)


def test_names_become_ids_where_the_interface_says_so(model: Any) -> None:
    ids = model.lang_ids(["de_DE", "en_XX", "sw_KE", "de_DE"])
    assert ids.dtype == torch.long
    assert ids.tolist() == [1, 0, 2, 1]
    with pytest.raises(LanguageError, match=r"fi_FI.*en_XX, de_DE, sw_KE"):
        model.lang_ids(["en_XX", "fi_FI"])


def test_a_default_language_that_is_not_there_is_refused_when_it_is_set() -> None:
    model = tiny_model(XmodForMaskedLM, default_language="sw_KE")
    with pytest.raises(LanguageError) as caught:
        model.set_default_language("de_XE")
    assert all(part in str(caught.value) for part in ("de_XE", *LANGUAGES)), str(caught.value)
    assert model.config.default_language == "sw_KE"
    model.set_default_language("de_DE")
    assert model.config.default_language == "de_DE"


def test_a_default_language_written_past_the_check_is_refused_when_it_is_used() -> None:
    model = tiny_model(XmodModel)
    model.config.default_language = "gsw"
    batch = ragged_batch()
    del batch["lang_ids"]
    said(model, LanguageError, "gsw", "en_XX", **batch)


def test_exactly_one_of_ids_and_embeddings(model: Any) -> None:
    batch = ragged_batch()
    words = torch.zeros(4, 9, 32)
    said(model, InputError, "input_ids", "inputs_embeds", **batch, inputs_embeds=words)
    del batch["input_ids"]
    said(model, InputError, "input_ids", "inputs_embeds", **batch)


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("attention_mask", torch.ones(4, 8), ["attention_mask", "(4, 8)", "(4, 9)"]),
        ("attention_mask", torch.ones(3, 9), ["attention_mask", "(3, 9)", "(4, 9)"]),
        ("attention_mask", torch.ones(4, 9, 8), ["attention_mask", "(4, 9, 8)", "(4, 9, 9)"]),
        ("head_mask", torch.ones(3), ["head_mask", "(3,)", "(4,)", "(2, 4)"]),
        ("head_mask", torch.ones(3, 4), ["head_mask", "(3, 4)", "(2, 4)"]),
        ("token_type_ids", torch.zeros(4, 8, dtype=torch.long), ["token_type_ids", "(4, 8)", "(4, 9)"]),
        ("position_ids", torch.zeros(4, 8, dtype=torch.long), ["position_ids", "(4, 8)", "(4, 9)"]),
        ("inputs_embeds", torch.zeros(4, 9, 31), ["inputs_embeds", "(4, 9, 31)", "32"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_inputs_of_the_wrong_shape(model: Any, name: str, value: Tensor, parts: list[str]) -> None:
    batch: dict[str, Any] = ragged_batch() | {name: value}
    if name == "inputs_embeds":
        del batch["input_ids"]
    said(model, ValueError, *parts, **batch)


def test_a_sequence_longer_than_the_positions(model: Any) -> None:
    """Forty rows, of which the first two are padding's: 38 tokens fit, 39 do not."""
    fits = torch.full((1, 38), 5)
    assert model(fits, lang_ids=torch.tensor([0])).last_hidden_state.isfinite().all()
    said(
        model,
        ValueError,
        "39",
        "38",
        "max_position_embeddings",
        input_ids=torch.full((1, 39), 5),
        lang_ids=torch.tensor([0]),
    )


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("encoder_attention_mask", torch.ones(4, 6), ["encoder_attention_mask", "(4, 6)", "(4, 5)"]),
        ("encoder_attention_mask", torch.ones(3, 5), ["encoder_attention_mask", "(3, 5)", "(4, 5)"]),
        ("encoder_hidden_states", torch.ones(4, 5, 31), ["encoder_hidden_states", "(4, 5, 31)", "32"]),
        ("encoder_hidden_states", torch.ones(3, 5, 32), ["encoder_hidden_states", "(3, 5, 32)", "4"]),
    ],
    ids=["mask-length", "mask-batch", "states-width", "states-batch"],
)
def test_what_cross_attention_reads_has_to_fit(name: str, value: Tensor, parts: list[str]) -> None:
    decoder = tiny_model(XmodModel, "sdpa", is_decoder=True, add_cross_attention=True)
    read = {"encoder_hidden_states": torch.ones(4, 5, 32)} | {name: value}
    said(decoder, InputError, *parts, **ragged_batch(), **read)


def test_a_token_outside_the_vocabulary(model: Any) -> None:
    """Torch finds it on the CPU; it may not pass."""
    with pytest.raises((IndexError, ValueError)):
        model(torch.tensor([[0, 99, 2]]), lang_ids=torch.tensor([0]))


def test_ids_of_the_wrong_rank(model: Any) -> None:
    said(model, InputError, "input_ids", "(7,)", input_ids=torch.full((7,), 5), lang_ids=torch.tensor([0]))


def test_masks_of_any_type(model: Any) -> None:
    batch = ragged_batch()
    expected = model(**batch)
    for dtype in (torch.bool, torch.float32, torch.int32, torch.uint8):
        narrow = batch | {"attention_mask": batch["attention_mask"].to(dtype)}
        assert_same_outputs(model(**narrow), expected, atol=0.0)


def test_without_a_mask_every_token_counts(model: Any) -> None:
    batch = ragged_batch((6, 6))
    expected = model(**batch)
    del batch["attention_mask"]
    assert_same_outputs(model(**batch), expected, atol=1e-6)


def test_an_empty_batch_and_an_all_padding_batch_do_not_crash(model: Any) -> None:
    empty = model(torch.zeros(0, 5, dtype=torch.long), lang_ids=torch.zeros(0, dtype=torch.long))
    assert empty.last_hidden_state.shape == (0, 5, 32)
    batch = ragged_batch((3, 3))
    batch["attention_mask"].zero_()
    assert not model(**batch).last_hidden_state.any()
