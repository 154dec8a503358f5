"""Decoding: caches of every form, cross-attention, the encoder-decoder wrapper, and generation with languages."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, EncoderDecoderModel
from transformers.models import xmod as peer

from tests.reference import encoder
from tests.support import (
    BASE_FLAGS,
    LARGE_FLAGS,
    assert_same_gradients,
    assert_same_outputs,
    ours_from_peer,
    peer_of,
    ragged_batch,
    state_of,
    tiny_model,
    tiny_peer,
)
from xmodular import XmodForCausalLM, XmodModel

EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
STYLES = pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
CROSS = {"is_decoder": True, "add_cross_attention": True}
LANG_IDS = torch.tensor([2, 0])


def token_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(4, 99, shape, generator=torch.Generator().manual_seed(seed))


def text_read(batch: int = 2) -> dict[str, Tensor]:
    """States of an encoder with ragged lengths."""
    states = torch.randn(batch, 6, 32, generator=torch.Generator().manual_seed(9))
    mask = torch.ones(batch, 6, dtype=torch.long)
    mask[-1, 4:] = 0
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def tuples_of(cache: Any) -> tuple[tuple[Tensor, ...], ...]:
    """The page's form of a cache: 2 tensors a layer, or 4 with cross-attention."""
    if isinstance(cache, EncoderDecoderCache):
        pairs = zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True)
        return tuple((a.keys, a.values, b.keys, b.values) for a, b in pairs)
    return tuple((layer.keys, layer.values) for layer in cache.layers)


@STYLES
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_causal_attention(flags: dict[str, Any], attention: str, tmp_path: Path) -> None:
    theirs = tiny_peer("XmodModel", attention, is_decoder=True, **flags)
    ours = ours_from_peer(theirs, tmp_path)
    batch = ragged_batch(languages="tokens")
    more = EVERYTHING if attention == "eager" else {"output_hidden_states": True}
    assert_same_outputs(
        ours(**batch, **more, use_cache=False), theirs(**batch, **more, use_cache=False), batch["attention_mask"]
    )


def test_a_token_does_not_see_the_next_ones() -> None:
    model = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True)
    ids = token_ids(2, 8)
    changed = ids.clone()
    changed[:, 5:] = token_ids(2, 3, seed=1)
    a, b = (model(x, lang_ids=LANG_IDS).logits for x in (ids, changed))
    torch.testing.assert_close(a[:, :5], b[:, :5], atol=1e-6, rtol=0)
    assert (a[:, 5] - b[:, 5]).abs().max() > 0.1


@STYLES
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_cross_attention(flags: dict[str, Any], attention: str, tmp_path: Path) -> None:
    theirs = tiny_peer("XmodModel", attention, **CROSS, **flags)
    ours = ours_from_peer(theirs, tmp_path)
    batch = {"input_ids": token_ids(2, 5), "lang_ids": LANG_IDS}
    more = EVERYTHING if attention == "eager" else {"output_hidden_states": True}
    expected = theirs(**batch, **text_read(), **more)
    assert_same_outputs(ours(**batch, **text_read(), **more), expected)
    if attention == "eager":
        assert expected.cross_attentions[0].shape == (2, 4, 5, 6)
    unmasked = {"encoder_hidden_states": text_read()["encoder_hidden_states"]}
    assert_same_outputs(ours(**batch, **unmasked), theirs(**batch, **unmasked))
    assert_same_outputs(ours(**batch), theirs(**batch))


def test_gradients_with_cross_attention(tmp_path: Path) -> None:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    theirs = tiny_peer("XmodForCausalLM", **CROSS, **still)
    ours = ours_from_peer(theirs, tmp_path)
    ids = token_ids(2, 5)
    for model in (ours.train(), theirs.train()):
        model(ids, lang_ids=LANG_IDS, labels=ids, **text_read()).loss.backward()
    assert_same_gradients(ours, theirs)


@STYLES
@pytest.mark.parametrize("form", ["object", "tuples", "own"])
@pytest.mark.parametrize("cross", [False, True], ids=["alone", "cross"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_past_stands_for_the_tokens_read(flags: dict[str, Any], form: str, cross: bool, attention: str) -> None:
    """In pieces of 4, 1 and 2 tokens as in one piece, whatever carries the past between them."""
    model = tiny_model(XmodModel, attention, is_decoder=True, add_cross_attention=cross, **flags)
    ids, more = token_ids(2, 7), {"lang_ids": LANG_IDS, **(text_read() if cross else {})}
    whole = model(ids, **more).last_hidden_state
    past: Any = None
    if form == "own":
        past = EncoderDecoderCache(DynamicCache(), DynamicCache()) if cross else DynamicCache()
    pieces = []
    for piece in ids.split([4, 1, 2], dim=1):
        result = model(piece, past_key_values=past, use_cache=True, **more)
        pieces.append(result.last_hidden_state)
        past = result.past_key_values
        if form == "tuples" and not isinstance(past, tuple):
            past = tuples_of(past)
            assert {len(layer) for layer in past} == {4 if cross else 2}
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)


def test_what_the_cache_holds_is_what_the_reference_keeps() -> None:
    model = tiny_model(XmodModel, **CROSS)
    batch = {"input_ids": token_ids(2, 5), "lang_ids": LANG_IDS, **text_read()}
    mine = model(**batch).past_key_values
    mine = mine if isinstance(mine, tuple) else tuples_of(mine)
    expected = encoder.encode(state_of(model), model.config, **batch).past_key_values
    for layer, other in zip(mine, expected, strict=True):
        for a, b in zip(layer, other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_mask_that_covers_the_past(tmp_path: Path) -> None:
    """Left padding in the past stays invisible to the tokens that come after it."""
    theirs = tiny_peer("XmodModel", is_decoder=True)
    ours = ours_from_peer(theirs, tmp_path)
    batch = ragged_batch((5, 3), side="left")
    mask = torch.cat([batch["attention_mask"], torch.ones(2, 2, dtype=torch.long)], 1)
    new = {"input_ids": token_ids(2, 2), "lang_ids": batch["lang_ids"], "attention_mask": mask}
    new["position_ids"] = torch.tensor([[7, 8], [5, 6]])
    mine = ours(**new, past_key_values=ours(**batch).past_key_values, **EVERYTHING)
    other = theirs(**new, past_key_values=theirs(**batch).past_key_values, **EVERYTHING)
    assert_same_outputs(mine, other)
    for row, length in enumerate((5, 3)):
        whole = torch.cat([batch["input_ids"][row, -length:], new["input_ids"][row]])[None]
        alone = ours(whole, lang_ids=batch["lang_ids"][row : row + 1]).last_hidden_state[:, -2:]
        torch.testing.assert_close(mine.last_hidden_state[row : row + 1], alone, atol=1e-5, rtol=0)


def test_use_cache_is_the_callers_and_the_configurations_choice() -> None:
    model = tiny_model(XmodForCausalLM, is_decoder=True)
    ids = token_ids(2, 4)
    assert model(ids, lang_ids=LANG_IDS).past_key_values is not None
    assert model(ids, lang_ids=LANG_IDS, use_cache=False).past_key_values is None
    model.config.use_cache = False
    assert model(ids, lang_ids=LANG_IDS).past_key_values is None
    encoder_only = tiny_model(XmodModel)
    assert encoder_only(ids, lang_ids=LANG_IDS).get("past_key_values") is None


def test_a_past_of_the_wrong_form_is_refused() -> None:
    model = tiny_model(XmodModel, is_decoder=True)
    past = tuples_of(model(token_ids(2, 4), lang_ids=LANG_IDS).past_key_values)
    with pytest.raises(ValueError, match=r"past_key_values.*1.*2"):
        model(token_ids(2, 1), lang_ids=LANG_IDS, past_key_values=past[:1])
    three = tuple((*layer, layer[0]) for layer in past)
    with pytest.raises(ValueError, match=r"past_key_values.*3"):
        model(token_ids(2, 1), lang_ids=LANG_IDS, past_key_values=three)


def test_cross_attention_that_is_not_there_is_refused() -> None:
    for over in ({"is_decoder": True}, {}):
        model = tiny_model(XmodModel, **over)
        with pytest.raises(ValueError, match=r"encoder_hidden_states.*add_cross_attention"):
            model(token_ids(2, 4), lang_ids=LANG_IDS, **text_read())


GENERATION = {"max_new_tokens": 7, "eos_token_id": None, "pad_token_id": 1}


def said_by(model: Any, text: Tensor, prompt: int, **more: Any) -> Tensor:
    """Logits for every token behind the prompt, read in one piece without a cache."""
    return model(text[:, :-1], use_cache=False, **more).logits[:, prompt - 1 :]


@STYLES
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_continues_what_forward_says(flags: dict[str, Any], use_cache: bool, tmp_path: Path) -> None:
    """Positions included: the first generated token stands where the prompt ends."""
    theirs = tiny_peer("XmodForCausalLM", "sdpa", is_decoder=True, **flags)
    ours = ours_from_peer(theirs, tmp_path)
    ids = token_ids(2, 5)
    options = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True, **GENERATION}
    result = ours.generate(ids, lang_ids=LANG_IDS, use_cache=use_cache, **options)
    expected = said_by(theirs, result.sequences, 5, lang_ids=LANG_IDS)
    torch.testing.assert_close(torch.stack(result.logits, 1), expected, atol=1e-5, rtol=0)
    assert result.sequences[:, 5:].tolist() == expected.argmax(-1).tolist()
    other = ours.generate(ids, lang_ids=(LANG_IDS + 1) % 3, **options)
    assert (other.logits[0] - result.logits[0]).abs().max() > 0.1


def test_generation_that_switches_language_goes_on_in_the_last_one() -> None:
    model = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True)
    ids = token_ids(2, 5)
    lang_ids = torch.tensor([[0, 0, 1, 1, 2], [2, 2, 2, 0, 0]])
    options = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True, **GENERATION}
    longer = torch.cat([lang_ids, lang_ids[:, -1:].expand(2, 6)], 1)
    for use_cache in (True, False):
        result = model.generate(ids, lang_ids=lang_ids, use_cache=use_cache, **options)
        expected = said_by(model, result.sequences, 5, lang_ids=longer)
        torch.testing.assert_close(torch.stack(result.logits, 1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"do_sample": True, "temperature": 1.5, "top_k": 20},
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 2, "num_return_sequences": 2, "do_sample": False},
    ],
    ids=["greedy", "sample", "beam", "beams-returned"],
)
def test_generation_is_the_peers(options: dict[str, Any], tmp_path: Path) -> None:
    """The peer counts positions from 0 unless it is given them, so it is given RoBERTa's."""
    theirs = tiny_peer("XmodForCausalLM", "sdpa", is_decoder=True)
    ours = ours_from_peer(theirs, tmp_path)
    ids = token_ids(3, 5)
    results = []
    for model, more in ((ours, {}), (theirs, {"position_ids": torch.arange(2, 7).expand(3, 5)})):
        torch.manual_seed(11)
        results.append(model.generate(ids, lang_ids=torch.tensor([2, 0, 1]), **options, **GENERATION, **more))
    assert results[0].tolist() == results[1].tolist()


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_from_prompts_of_different_length(use_cache: bool) -> None:
    """With padding on the left every prompt is continued as it would be alone."""
    model = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True)
    batch = ragged_batch((6, 3, 5), side="left")
    options = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True, **GENERATION}
    together = model.generate(**batch, use_cache=use_cache, **options)
    for row, length in enumerate((6, 3, 5)):
        text = together.sequences[row : row + 1, 6 - length :]
        alone = said_by(model, text, length, lang_ids=batch["lang_ids"][row : row + 1])
        torch.testing.assert_close(torch.stack(together.logits, 1)[row], alone[0], atol=1e-5, rtol=0)


def test_generation_with_the_default_language() -> None:
    model = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True, default_language="sw_KE")
    ids = token_ids(2, 5)
    named = model.generate(ids, lang_ids=torch.tensor([2, 2]), do_sample=False, **GENERATION)
    assert model.generate(ids, do_sample=False, **GENERATION).tolist() == named.tolist()


def wrapped(encoder_model: Any, decoder_model: Any) -> EncoderDecoderModel:
    model = EncoderDecoderModel(encoder=encoder_model, decoder=decoder_model).eval()
    model.config.decoder_start_token_id, model.config.pad_token_id = 0, 1
    return model


@pytest.mark.filterwarnings("ignore:Version v4.12.0 introduces a better way:FutureWarning")
def test_the_encoder_decoder_wrapper(tmp_path: Path) -> None:
    """Each side has its own languages; loss, logits and greedy text are the peer's."""
    ours_parts = tiny_model(XmodModel, "sdpa", seed=1), tiny_model(XmodForCausalLM, "sdpa", seed=2, **CROSS)
    parts = [peer_of(part, tmp_path / str(index)) for index, part in enumerate(ours_parts)]
    ours, theirs = wrapped(*ours_parts), wrapped(*parts)
    assert isinstance(theirs.decoder, peer.XmodForCausalLM)
    batch = ragged_batch((7, 4))
    targets = {"labels": token_ids(2, 5, seed=5), "decoder_lang_ids": torch.tensor([1, 0])}
    assert_same_outputs(ours(**batch, **targets), theirs(**batch, **targets), fields=("loss", "logits"))
    swapped = ours(**batch, **targets | {"decoder_lang_ids": torch.tensor([0, 1])})
    assert (swapped.logits - ours(**batch, **targets).logits).abs().max() > 0.01

    start = torch.zeros(2, 1, dtype=torch.long)
    read = {key: batch[key] for key in ("input_ids", "attention_mask", "lang_ids")}
    expected = start
    for _ in range(6):
        logits = theirs(**read, decoder_input_ids=expected, decoder_lang_ids=targets["decoder_lang_ids"]).logits
        expected = torch.cat([expected, logits[:, -1:].argmax(-1)], 1)
    result = ours.generate(
        **read,
        decoder_lang_ids=targets["decoder_lang_ids"],
        decoder_start_token_id=0,
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=1,
    )
    assert result.tolist() == expected.tolist()
