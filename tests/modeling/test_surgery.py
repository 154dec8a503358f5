"""Changing a model that exists: pruned heads, another vocabulary, and the library's automatic classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
    pipeline,
)

import xmodular
from tests.support import (
    BASE_FLAGS,
    LARGE_FLAGS,
    assert_round_trip,
    assert_same_outputs,
    ragged_batch,
    reload,
    tiny_config,
    tiny_model,
)
from xmodular import XmodConfig, XmodForMaskedLM, XmodForSequenceClassification, XmodModel
from xmodular.errors import ConfigurationError

STYLES = pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])


@STYLES
@pytest.mark.parametrize("position", ["absolute", "relative_key_query"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_pruned_heads_are_heads_masked(flags: dict[str, Any], position: str, attention: str) -> None:
    whole, pruned = (tiny_model(XmodModel, attention, position_embedding_type=position, **flags) for _ in range(2))
    pruned.prune_heads({0: [1, 3], 1: [0]})
    mask = torch.ones(2, 4)
    mask[0, [1, 3]] = 0
    mask[1, 0] = 0
    batch = ragged_batch(languages="tokens")
    fields = ("last_hidden_state", "pooler_output")
    assert_same_outputs(pruned(**batch), whole(**batch, head_mask=mask), batch["attention_mask"], fields=fields)
    assert pruned.encoder.layer[0].attention.self.query.weight.shape == (16, 32)
    assert pruned.encoder.layer[0].attention.output.dense.weight.shape == (32, 16)
    assert pruned.encoder.layer[1].attention.self.value.bias.shape == (24,)


def test_pruning_is_remembered_by_the_file(tmp_path: Path) -> None:
    model = tiny_model(XmodForMaskedLM)
    model.prune_heads({0: [1, 3]})
    again = assert_round_trip(model, tmp_path / "once")
    again.prune_heads({0: [0], 1: [2]})  # numbered as in the unpruned model
    again.prune_heads({0: [0, 1]})  # what is gone stays gone
    third = assert_round_trip(again, tmp_path / "twice")
    assert third.config.pruned_heads == {0: [0, 1, 3], 1: [2]}
    batch = ragged_batch()
    whole = tiny_model(XmodForMaskedLM)
    mask = torch.tensor([[0.0, 0, 1, 0], [1, 1, 0, 1]])
    expected = whole(**batch, head_mask=mask)
    assert_same_outputs(third(**batch), expected, batch["attention_mask"])


def test_a_pruned_model_takes_masks_over_the_heads_it_had() -> None:
    whole, pruned = tiny_model(XmodModel), tiny_model(XmodModel)
    pruned.prune_heads({0: [1], 1: [1]})
    batch = ragged_batch()
    mask = torch.tensor([0.5, 0.0, 1.0, 0.0])
    fields = ("last_hidden_state",)
    mine, other = pruned(**batch, head_mask=torch.tensor([0.5, 1.0, 1.0, 0.0])), whole(**batch, head_mask=mask)
    assert_same_outputs(mine, other, batch["attention_mask"], fields=fields)


def test_pruned_weights_can_be_trained() -> None:
    model = tiny_model(XmodForMaskedLM)
    model.prune_heads({0: [2]})
    batch = ragged_batch()
    model.train()(**batch, labels=batch["input_ids"]).loss.backward()
    assert model.roberta.encoder.layer[0].attention.self.query.weight.grad.shape == (24, 32)


@pytest.mark.parametrize(
    ("heads", "parts"),
    [
        ({0: [4]}, ["0: [4]", "0 to 3"]),
        ({2: [0]}, ["2: [0]", "0 to 1"]),
        ({1: [0, 1, 2, 3]}, ["1: [0, 1, 2, 3]", "must remain"]),
    ],
)
def test_pruning_what_is_not_there_or_everything_is_refused(heads: dict[int, list[int]], parts: list[str]) -> None:
    model = tiny_model(XmodModel)
    with pytest.raises(ConfigurationError) as caught:
        model.prune_heads(heads)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert not model.config.pruned_heads
    assert model.encoder.layer[1].attention.self.query.weight.shape == (32, 32)


@pytest.mark.parametrize("size", [120, 60])
def test_another_number_of_pieces(size: int, tmp_path: Path) -> None:
    """Old rows stay, the head follows, and the tie holds through a file."""
    model = tiny_model(XmodForMaskedLM)
    batch = ragged_batch(vocab_size=60)
    before = model(**batch).logits
    rows, bias = model.get_input_embeddings().weight.detach().clone(), model.lm_head.bias.detach().clone()
    model.resize_token_embeddings(size)
    kept = min(size, 99)
    assert model.config.vocab_size == size
    assert torch.equal(model.get_input_embeddings().weight[:kept], rows[:kept])
    assert torch.equal(model.lm_head.bias[:kept], bias[:kept])
    assert model.lm_head.bias.shape == (size,)
    assert model.lm_head.decoder.weight is model.get_input_embeddings().weight
    assert model.lm_head.decoder.bias is model.lm_head.bias
    after = model.eval()(**batch).logits
    assert after.shape[-1] == size
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(after[real][:, :kept], before[real][:, :kept], atol=1e-5, rtol=0)
    again = assert_round_trip(model, tmp_path)
    assert_same_outputs(again(**batch), model(**batch), real)
    labels = torch.full_like(batch["input_ids"], size - 1)
    assert again(**batch, labels=labels).loss.isfinite()


def test_another_number_of_pieces_in_models_without_a_language_head() -> None:
    for cls in (XmodModel, XmodForSequenceClassification):
        model = tiny_model(cls)
        model.resize_token_embeddings(105)
        assert model.get_input_embeddings().weight.shape == (105, 32)
        assert model.get_output_embeddings() is None
        model(torch.tensor([[0, 104, 2]]), lang_ids=torch.tensor([1]))


def test_embeddings_can_be_replaced() -> None:
    model = tiny_model(XmodForMaskedLM)
    words = torch.nn.Embedding(50, 32)
    model.set_input_embeddings(words)
    assert model.roberta.embeddings.word_embeddings is words
    head = torch.nn.Linear(32, 50)
    model.set_output_embeddings(head)
    assert model.get_output_embeddings() is head
    logits = model(torch.tensor([[0, 49, 2]]), lang_ids=torch.tensor([1])).logits
    assert logits.shape == (1, 3, 50)


@pytest.fixture
def registered() -> None:
    xmodular.register()


AUTO = {
    AutoModel: "XmodModel",
    AutoModelForMaskedLM: "XmodForMaskedLM",
    AutoModelForCausalLM: "XmodForCausalLM",
    AutoModelForSequenceClassification: "XmodForSequenceClassification",
    AutoModelForTokenClassification: "XmodForTokenClassification",
    AutoModelForQuestionAnswering: "XmodForQuestionAnswering",
    AutoModelForMultipleChoice: "XmodForMultipleChoice",
}


@pytest.mark.usefixtures("registered")
def test_automatic_classes_resolve_to_ours(tmp_path: Path) -> None:
    xmodular.register()  # twice does no harm
    for auto, name in AUTO.items():
        cls = getattr(xmodular, name)
        assert type(auto.from_config(tiny_config(is_decoder=name == "XmodForCausalLM"))) is cls
    tiny_model(XmodForMaskedLM).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is XmodConfig
    assert type(AutoModelForMaskedLM.from_pretrained(tmp_path)) is XmodForMaskedLM
    part = AutoModelForMaskedLM.from_pretrained(tmp_path, languages=["sw_KE"])
    assert (type(part), part.languages) == (XmodForMaskedLM, ("sw_KE",))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = [*special, *(f"w{index}" for index in range(99 - len(special)))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


@pytest.mark.usefixtures("registered")
def test_pipelines_read_our_models(tmp_path: Path) -> None:
    text = ["w3 w7 <mask> w1", "w2 <mask>"]
    model = tiny_model(XmodForMaskedLM, "sdpa", default_language="de_DE")
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    fill = pipeline("fill-mask", model=str(tmp_path))
    assert type(fill.model) is XmodForMaskedLM
    for line, found in zip(text, fill(text, batch_size=2, top_k=3), strict=True):
        ids = torch.tensor([tiny_tokenizer()(line)["input_ids"]])
        logits = model(ids).logits[0, ids[0].tolist().index(4)]
        assert [item["token"] for item in found] == logits.topk(3).indices.tolist()

    classifier = tiny_model(XmodForSequenceClassification, "sdpa", num_labels=3, default_language="sw_KE")
    classify = pipeline("text-classification", model=classifier, tokenizer=tiny_tokenizer())
    scores = {item["label"]: item["score"] for item in classify("w3 w4 w5", top_k=None)}
    ids = torch.tensor([tiny_tokenizer()("w3 w4 w5")["input_ids"]])
    expected = classifier(ids).logits.softmax(-1)[0]
    assert [scores[f"LABEL_{index}"] for index in range(3)] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_model_survives_reloading_under_another_head(tmp_path: Path) -> None:
    """Pruned, resized and of another head: the file says it all."""
    model = tiny_model(XmodForMaskedLM, default_language="de_DE")
    model.prune_heads({1: [0]})
    model.resize_token_embeddings(110)
    other = reload(model, XmodForSequenceClassification, tmp_path)
    batch = {"input_ids": torch.tensor([[0, 109, 2]])}
    a, b = model.roberta(**batch).last_hidden_state, other.roberta(**batch).last_hidden_state
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
