"""Ways of doing the same work: chunks of rows, kernels of variable length, the grid in place of the packed layout."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.support import BASE_FLAGS, LARGE_FLAGS, ragged_batch, tiny_model
from xmodular import XmodForCausalLM, XmodModel
from xmodular.modeling import encoder

TOKENS = (torch.arange(36) % 3).view(4, 9)


@pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS])
@pytest.mark.parametrize("rows", [1, 5, 16])
def test_chunks_of_rows_change_nothing(flags: dict[str, Any], rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(XmodModel, "sdpa", **flags)
    batch = ragged_batch()
    with torch.no_grad():
        whole = model(**batch).last_hidden_state
        monkeypatch.setattr(encoder, "CHUNK_ROWS", rows)
        seen = []
        model.encoder.layer[0].intermediate.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
        chunked = model(**batch).last_hidden_state
    assert max(seen) <= rows
    assert sum(seen) == int(batch["attention_mask"].sum())
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=0)


def variable_length(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """What a flash kernel does with sequences end to end: `(1, heads, tokens, size)`, cut at `cu_seq_lens`."""
    assert attention_mask is None
    ends = options["cu_seq_lens_q"].tolist()
    assert max(b - a for a, b in itertools.pairwise(ends)) == options["max_length_q"]
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], is_causal=options["is_causal"], scale=options["scaling"]
        )
        for a, b in itertools.pairwise(ends)
    ]
    return torch.cat(parts, 2).transpose(1, 2), None


@pytest.mark.parametrize("cls", [XmodModel, XmodForCausalLM])
@pytest.mark.parametrize("per_token", [False, True])
def test_kernels_of_variable_length_get_the_packed_tokens(
    cls: Any, per_token: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    causal = cls is XmodForCausalLM
    model = tiny_model(cls, "sdpa", is_decoder=causal)
    batch = ragged_batch()
    if per_token:
        batch["lang_ids"] = TOKENS
    options = {"use_cache": False} if causal else {}
    expected = model(**batch, **options)[0]
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "flash_attention_2", variable_length)
    model.config._attn_implementation_internal = "flash_attention_2"
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(model(**batch, **options)[0][real], expected[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("per_token", [False, True])
def test_the_grid_equals_the_packed_layout(per_token: bool) -> None:
    """A mask of three dimensions that says the same takes the grid."""
    model = tiny_model(XmodModel, "sdpa")
    batch = ragged_batch()
    if per_token:
        batch["lang_ids"] = TOKENS
    mask = batch["attention_mask"]
    square = mask[:, None, :].expand(-1, mask.shape[1], -1)
    packed = model(**batch).last_hidden_state
    grid = model(**{**batch, "attention_mask": square}).last_hidden_state
    torch.testing.assert_close(grid[mask.bool()], packed[mask.bool()], atol=1e-5, rtol=0)


def test_a_sequence_of_padding_alone_gives_zeros() -> None:
    model = tiny_model(XmodModel, "sdpa")
    batch = ragged_batch()
    alone = model(**batch).last_hidden_state
    batch["attention_mask"][1] = 0
    result = model(**batch).last_hidden_state
    assert not result[1].any()
    torch.testing.assert_close(result[[0, 2, 3]], alone[[0, 2, 3]], atol=1e-5, rtol=0)
    batch["attention_mask"][:] = 0
    assert not model(**batch).last_hidden_state.any()
