"""Equality with the peer: its checkpoints here and ours there, within 1e-5 in single precision on real tokens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models import xmod as peer

import xmodular
from tests.support import (
    BASE_FLAGS,
    LANGUAGES,
    LARGE_FLAGS,
    TOLERANCE,
    assert_same_gradients,
    assert_same_outputs,
    assert_same_state,
    labels_like,
    ours_from_peer,
    peer_of,
    ragged_batch,
    tiny_model,
    tiny_peer,
)
from xmodular import XmodConfig, XmodForMaskedLM, XmodModel

EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
STYLES = pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
EIGHTY_ONE = list(XmodConfig.preset("xmod-base").languages)

HEADS = {
    "XmodForMaskedLM": {},
    "XmodForCausalLM": {"is_decoder": True},
    "XmodForSequenceClassification": {"num_labels": 3},
    "XmodForTokenClassification": {"num_labels": 3},
    "XmodForQuestionAnswering": {},
    "XmodForMultipleChoice": {},
}


@STYLES
@pytest.mark.parametrize("routing", ["single", "interleaved", "tokens"])
@pytest.mark.parametrize("languages", [LANGUAGES[:1], LANGUAGES, EIGHTY_ONE], ids=["1", "3", "81"])
def test_the_bare_model(flags: dict[str, Any], routing: str, languages: list[str], tmp_path: Path) -> None:
    over = {"languages": list(languages), "num_hidden_layers": 1 if len(languages) == 81 else 2}
    theirs = tiny_peer("XmodModel", **flags, **over)
    ours = ours_from_peer(theirs, tmp_path)
    assert isinstance(ours, XmodModel)
    batch = ragged_batch((7, 3, 9, 5, 3, 9), routing, num_languages=len(languages))
    assert_same_outputs(
        ours(**batch, **EVERYTHING), theirs(**batch, **EVERYTHING), batch["attention_mask"], padding_is_zero=True
    )


@STYLES
@pytest.mark.parametrize("name", HEADS)
def test_heads_and_losses_both_ways(name: str, flags: dict[str, Any], tmp_path: Path) -> None:
    ours = tiny_model(getattr(xmodular, name), **HEADS[name], **flags)
    theirs = peer_of(ours, tmp_path / "ours")
    again = ours_from_peer(theirs, tmp_path / "theirs")
    assert_same_state(again.state_dict(), theirs.state_dict())
    batch = ragged_batch((7, 7, 7, 7) if name == "XmodForQuestionAnswering" else (7, 3, 9, 5))
    mask = batch["attention_mask"]
    if name == "XmodForSequenceClassification":
        labels = {"labels": torch.tensor([0, 2, 1, 1])}
    elif name == "XmodForQuestionAnswering":
        labels = {"start_positions": torch.tensor([1, 0, 3, 90]), "end_positions": torch.tensor([2, 6, 7, 3])}
    elif name == "XmodForMultipleChoice":
        # the peer takes one language for all choices of all rows
        batch = {key: value.unflatten(0, (2, 2)) for key, value in batch.items()} | {"lang_ids": torch.tensor([2])}
        labels = {"labels": torch.tensor([1, 0])}
    else:
        labels = {"labels": labels_like(batch, ours.config.vocab_size if "LM" in name else 3)}
    expected = theirs(**batch, **labels, **EVERYTHING)
    if name == "XmodForMultipleChoice":
        batch["lang_ids"] = torch.tensor([2, 2])
        mask = mask.flatten(0, 1) if mask.dim() == 3 else mask
    for model in (ours, again):
        assert_same_outputs(model(**batch, **labels, **EVERYTHING), expected, mask)


@STYLES
@pytest.mark.parametrize("routing", ["interleaved", "tokens"])
def test_gradients_of_shared_weights(flags: dict[str, Any], routing: str, tmp_path: Path) -> None:
    ours = tiny_model(XmodForMaskedLM, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **flags)
    theirs = peer_of(ours, tmp_path).train()
    ours.train()
    batch = ragged_batch((7, 3, 9, 5), routing)
    labels = labels_like(batch, ours.config.vocab_size)
    for model in (ours, theirs):
        model(**batch, labels=labels).loss.backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("act", ["relu", "silu", "gelu_new"])
def test_activations(act: str, tmp_path: Path) -> None:
    theirs = tiny_peer("XmodModel", hidden_act=act)
    batch = ragged_batch()
    ours = ours_from_peer(theirs, tmp_path)
    assert_same_outputs(ours(**batch), theirs(**batch), batch["attention_mask"])


@pytest.mark.parametrize("side", ["left", "both"])
def test_padding_anywhere(side: str, tmp_path: Path) -> None:
    """Real tokens may start late, and stop and start again: nothing says that padding stands on the right."""
    theirs = tiny_peer("XmodModel")
    ours = ours_from_peer(theirs, tmp_path)
    batch = ragged_batch((6, 3, 9), "tokens", side="left")
    if side == "both":
        batch["attention_mask"][0] = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1, 0])
        batch["attention_mask"][2, 4] = 0
    mine, other = ours(**batch, **EVERYTHING), theirs(**batch, **EVERYTHING)
    fields = ("hidden_states", "attentions", "last_hidden_state")
    assert_same_outputs(mine, other, batch["attention_mask"], fields=fields, padding_is_zero=True)


def test_a_row_without_real_tokens_is_zeros_and_disturbs_nobody() -> None:
    model = tiny_model(XmodModel)
    batch = ragged_batch((7, 3, 9))
    batch["attention_mask"][1] = 0
    result = model(**batch, **EVERYTHING)
    rest = model(**{key: value[[0, 2]] for key, value in batch.items()})
    assert not result.last_hidden_state[1].any()
    torch.testing.assert_close(result.last_hidden_state[[0, 2]], rest.last_hidden_state, atol=1e-5, rtol=0)
    assert all(states.isfinite().all() for states in result.hidden_states)


@STYLES
def test_explicit_positions_types_and_embeddings(flags: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_peer("XmodModel", **flags)
    ours = ours_from_peer(theirs, tmp_path)
    batch = ragged_batch()
    generator = torch.Generator().manual_seed(1)
    shape = batch["input_ids"].shape
    more = {
        "token_type_ids": torch.randint(0, 2, shape, generator=generator),
        "position_ids": torch.randint(0, 40, shape, generator=generator),
    }
    assert_same_outputs(ours(**batch, **more), theirs(**batch, **more), batch["attention_mask"])
    one_row = more | {"position_ids": more["position_ids"][:1]}
    expected = theirs(**batch, **more | {"position_ids": one_row["position_ids"].expand(shape)})
    assert_same_outputs(ours(**batch, **one_row), expected, batch["attention_mask"])
    words = torch.randn(*shape, 32, generator=generator)
    embeds = {"inputs_embeds": words, "attention_mask": batch["attention_mask"], "lang_ids": batch["lang_ids"]}
    assert_same_outputs(ours(**embeds), theirs(**embeds), batch["attention_mask"])


def test_the_default_language_and_its_change(tmp_path: Path) -> None:
    theirs = tiny_peer("XmodModel", default_language="de_DE")
    ours = ours_from_peer(theirs, tmp_path)
    batch = ragged_batch()
    mask, ids = batch["attention_mask"], batch.pop("lang_ids")
    assert_same_outputs(ours(**batch), theirs(**batch), mask)
    for model in (ours, theirs):
        model.set_default_language("sw_KE")
    assert_same_outputs(ours(**batch), theirs(**batch), mask)
    assert_same_outputs(ours(**batch), ours(**batch, lang_ids=torch.full_like(ids, 2)), mask)
    assert_same_outputs(ours(**batch, lang_ids=ids), theirs(**batch, lang_ids=ids), mask)


def test_results_depend_on_the_language_and_not_on_the_company() -> None:
    """A row reads the same alone and in any batch, and another language reads it otherwise."""
    model = tiny_model(XmodModel)
    batch = ragged_batch((7, 3, 9, 5, 9, 1))
    together = model(**batch).last_hidden_state
    for row, length in enumerate((7, 3, 9, 5, 9, 1)):
        alone = {"input_ids": batch["input_ids"][row : row + 1, :length], "lang_ids": batch["lang_ids"][row : row + 1]}
        single = model(**alone).last_hidden_state[0]
        torch.testing.assert_close(single, together[row, :length], atol=TOLERANCE, rtol=0)
        other = model(**alone | {"lang_ids": (alone["lang_ids"] + 1) % 3}).last_hidden_state[0]
        assert (other - single).abs().max() > 0.1


def test_both_kinds_of_ids_agree() -> None:
    model = tiny_model(XmodModel)
    batch = ragged_batch()
    spread = batch["lang_ids"][:, None].expand(batch["input_ids"].shape)
    a = model(**batch, **EVERYTHING)
    b = model(**batch | {"lang_ids": spread}, **EVERYTHING)
    assert_same_outputs(a, b, batch["attention_mask"], atol=1e-6)


@pytest.mark.parametrize("name", ["xmod-base", "xmod-large-prenorm"])
def test_released_weights_have_their_public_names_and_shapes(name: str) -> None:
    """The whole released models, without memory: names, shapes, and the number of parameters (852.7M, 1581.9M)."""
    ours_config = XmodConfig.preset(name)
    fields = {key: value for key, value in ours_config.to_dict().items() if key in peer.XmodConfig().to_dict()}
    with torch.device("meta"):
        ours = XmodForMaskedLM(ours_config)
        theirs = peer.XmodForMaskedLM(peer.XmodConfig(**fields))
    mine, other = ({k: v.shape for k, v in m.state_dict().items()} for m in (ours, theirs))
    assert mine == other
    assert "roberta.encoder.layer.3.output.adapter_modules.de_DE.dense1.weight" in mine
    millions = {"xmod-base": 852.7, "xmod-large-prenorm": 1581.9}[name]
    assert round(ours.num_parameters() / 1e6, 1) == millions
