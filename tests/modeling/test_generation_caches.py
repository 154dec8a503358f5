"""Generation where caches, masks and languages meet in less usual ways: each against one plain forward a token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import StaticCache

from tests.support import tiny_model
from xmodular import XmodForCausalLM, XmodModel
from xmodular.errors import InputError

GENERATION: dict[str, Any] = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 1}
PER_TOKEN = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 0, 1, 1]])


def token_ids(rows: int, length: int) -> Tensor:
    """Pieces that are none of the special ones."""
    return torch.randint(4, 99, (rows, length), generator=torch.Generator().manual_seed(7))


def by_hand(model: Any, ids: Tensor, lang_ids: Tensor) -> Tensor:
    """Greedy decoding without a cache: new tokens speak the last token's language."""
    for _ in range(GENERATION["max_new_tokens"]):
        logits = model(ids, lang_ids=lang_ids, use_cache=False).logits[:, -1]
        logits[:, model.config.eos_token_id] = float("-inf")
        ids = torch.cat((ids, logits.argmax(1, keepdim=True)), 1)
        if lang_ids.dim() == 2:
            lang_ids = torch.cat((lang_ids, lang_ids[:, -1:]), 1)
    return ids


@pytest.fixture(params=["absolute", "relative_key"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_model(XmodForCausalLM, "sdpa", is_decoder=True, position_embedding_type=request.param)


@pytest.mark.parametrize("lang_ids", [torch.tensor([2, 1]), PER_TOKEN], ids=["sequences", "tokens"])
@pytest.mark.parametrize("how", [{}, {"cache_implementation": "static"}, {"prefill_chunk_size": 2}])
def test_every_cache_continues_alike(model: Any, lang_ids: Tensor, how: dict[str, Any]) -> None:
    ids = token_ids(2, 5)
    result = model.generate(ids, lang_ids=lang_ids, disable_compile=True, **how, **GENERATION)
    assert result.tolist() == by_hand(model, ids, lang_ids).tolist()


def test_generation_from_embeddings(model: Any) -> None:
    ids = token_ids(2, 5)
    embeds = model.get_input_embeddings()(ids)
    result = model.generate(inputs_embeds=embeds, lang_ids=PER_TOKEN, **GENERATION)
    assert result.tolist() == by_hand(model, ids, PER_TOKEN)[:, 5:].tolist()


def test_a_mask_as_wide_as_a_static_cache(model: Any) -> None:
    ids, lang_ids = token_ids(2, 5), torch.tensor([2, 1])
    cache = StaticCache(config=model.config, max_cache_len=9)
    wide = torch.zeros(2, 9, dtype=torch.long)
    wide[:, :4] = 1
    model(ids[:, :4], lang_ids=lang_ids, attention_mask=wide, past_key_values=cache)
    wide[:, 4] = 1
    step = model(ids[:, 4:], lang_ids=lang_ids, attention_mask=wide, past_key_values=cache).logits
    whole = model(ids, lang_ids=lang_ids, use_cache=False).logits[:, 4:]
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=0)


def test_a_mask_that_forgets_the_past_is_refused(model: Any) -> None:
    ids, lang_ids = token_ids(2, 5), torch.tensor([2, 1])
    cache = model(ids[:, :3], lang_ids=lang_ids, use_cache=True).past_key_values
    with pytest.raises(InputError, match=r"attention_mask has shape \(2, 2\): it must be \(2, 5\)"):
        model(ids[:, 3:], lang_ids=lang_ids, attention_mask=torch.ones(2, 2), past_key_values=cache)


def test_returned_hidden_states_have_gradients() -> None:
    model = tiny_model(XmodModel, "sdpa")
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    ids = token_ids(2, 5).masked_fill(mask == 0, 1)
    result = model(ids, attention_mask=mask, lang_ids=torch.tensor([2, 1]), output_hidden_states=True)
    for states in result.hidden_states:
        states.retain_grad()
    result.last_hidden_state[:, 0].sum().backward()
    assert all(states.grad is not None for states in result.hidden_states)
    assert all(bool(states.grad[:, :3].any(-1).all()) for states in result.hidden_states[:-1])
