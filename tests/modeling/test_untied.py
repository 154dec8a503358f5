"""A head that is not tied to the word embeddings: one bias, that trains, is saved and is loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import EncoderDecoderModel

import xmodular
from tests.support import labels_like, ours_from_peer, peer_of, ragged_batch, reload, tiny_model, tiny_peer
from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodModel

UNTIED = {"tie_word_embeddings": False}
BOTH = pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForCausalLM])
BIASES = ("lm_head.bias", "lm_head.decoder.bias")


def model_of(cls: Any, **over: Any) -> Any:
    return tiny_model(cls, is_decoder=cls is XmodForCausalLM, **{**UNTIED, **over})


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(**ragged_batch()).logits[ragged_batch()["attention_mask"].bool()]


def assert_untied(model: Any) -> None:
    assert model.lm_head.bias is model.lm_head.decoder.bias
    assert model.lm_head.decoder.weight is not model.get_input_embeddings().weight


@BOTH
@pytest.mark.parametrize("sparse", [False, True])
def test_every_parameter_of_the_head_learns(cls: Any, sparse: bool) -> None:
    model, batch = model_of(cls).train(), ragged_batch()
    assert_untied(model)
    model(**batch, labels=labels_like(batch, 99), sparse_prediction=sparse).loss.backward()
    for name, parameter in model.lm_head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@BOTH
@pytest.mark.parametrize("size", [120, 60])
def test_the_bias_is_kept_through_resizing_saving_and_loading(cls: Any, size: int, tmp_path: Path) -> None:
    model = model_of(cls)
    before = model.lm_head.bias.detach().clone()
    model.resize_token_embeddings(size, mean_resizing=False)
    assert_untied(model)
    kept = min(size, 99)
    assert torch.equal(model.lm_head.bias[:kept], before[:kept])
    again = reload(model, cls, tmp_path)
    assert_untied(again)
    assert torch.equal(again.lm_head.bias, model.lm_head.bias)
    assert torch.equal(again.lm_head.decoder.weight, model.lm_head.decoder.weight)
    batch = ragged_batch(vocab_size=min(size, 99))
    torch.testing.assert_close(again(**batch).logits, model(**batch).logits, atol=0, rtol=0)


@BOTH
@pytest.mark.parametrize("over", [UNTIED, {"tie_word_embeddings": True}], ids=["untied", "tied"])
@pytest.mark.parametrize("present", [BIASES, BIASES[:1], BIASES[1:]], ids=["both", "bias", "decoder.bias"])
@pytest.mark.parametrize("pickled", [False, True])
def test_the_bias_of_a_file_is_used_under_either_name(
    cls: Any, over: dict[str, Any], present: tuple[str, ...], pickled: bool, tmp_path: Path
) -> None:
    """Releases before 5 wrote one, the other, or both."""
    model = model_of(cls, **over)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(path).items() if name not in BIASES}
    state |= {name: model.lm_head.bias.detach().clone() for name in present}
    if pickled:
        path.unlink()
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:
        save_file(state, path, {"format": "pt"})
    again = cls.from_pretrained(tmp_path, attn_implementation="eager")
    assert again.lm_head.bias is again.lm_head.decoder.bias
    torch.testing.assert_close(logits_of(again), logits_of(model), atol=0, rtol=0)


@BOTH
def test_of_two_biases_the_one_that_worked_is_used(cls: Any, tmp_path: Path) -> None:
    """Files of untied models that held two, one of which had no effect."""
    model = model_of(cls)
    model.save_pretrained(tmp_path / "first")
    path = tmp_path / "first" / "model.safetensors"
    save_file(load_file(path) | {"lm_head.bias": torch.zeros(99)}, path, {"format": "pt"})
    loaded = cls.from_pretrained(tmp_path / "first", attn_implementation="eager")
    assert_untied(loaded)
    torch.testing.assert_close(logits_of(loaded), logits_of(model), atol=0, rtol=0)
    again = reload(loaded, cls, tmp_path / "second")
    torch.testing.assert_close(logits_of(again), logits_of(model), atol=0, rtol=0)


@BOTH
def test_to_the_peer_and_back(cls: Any, tmp_path: Path) -> None:
    model = model_of(cls)
    theirs = peer_of(model, tmp_path / "ours")
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-5, rtol=0)
    theirs = tiny_peer(cls.__name__, is_decoder=cls is XmodForCausalLM, **UNTIED)  # whose two biases differ
    ours = ours_from_peer(theirs, tmp_path / "theirs")
    assert_untied(ours)
    torch.testing.assert_close(logits_of(ours), logits_of(theirs), atol=1e-5, rtol=0)


def test_inside_an_encoder_decoder_model(tmp_path: Path) -> None:
    xmodular.register()
    decoder = model_of(XmodForCausalLM, add_cross_attention=True)
    model = EncoderDecoderModel(encoder=tiny_model(XmodModel), decoder=decoder).eval()
    model.encoder.set_default_language("de_DE")
    model.decoder.set_default_language("de_DE")
    again = reload(model, EncoderDecoderModel, tmp_path)
    assert_untied(again.decoder)
    assert torch.equal(again.decoder.lm_head.bias, decoder.lm_head.bias)


class Around(nn.Module):
    """As PEFT keeps a layer: under another name, with no bias of its own."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, *given: Tensor) -> Tensor:
        return self.inside(*given)


@BOTH
def test_a_wrapped_projection_can_be_tied_again(cls: Any) -> None:
    """As accelerate does with what it prepares: the wrapper stays, and so do the weights."""
    model = model_of(cls)
    expected = logits_of(model)
    model.lm_head.decoder = Around(model.lm_head.decoder)
    model.tie_weights()
    torch.testing.assert_close(logits_of(model), expected, atol=0, rtol=0)
    assert model.lm_head.decoder.inside.bias is model.lm_head.bias
