"""Dense encoders become modular ones that compute the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import xmodular
from tests.support import TOLERANCE, scatter_weights, tiny_model
from xmodular import XmodForMaskedLM, XmodForSequenceClassification, XmodModel, upcycle
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.vocabulary import load_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
FAMILIES = {
    "Bert": {"pad_token_id": 0, "type_vocab_size": 2},
    "Roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "XLMRoberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "Camembert": {"pad_token_id": 1, "type_vocab_size": 1},
    "RobertaPreLayerNorm": {"pad_token_id": 1, "type_vocab_size": 1},
}
HEADS = {
    "Model": "Model",
    "ForMaskedLM": "ForMaskedLM",
    "ForCausalLM": "ForCausalLM",
    "ForSequenceClassification": "ForSequenceClassification",
    "ForMultipleChoice": "ForMultipleChoice",
    "ForTokenClassification": "ForTokenClassification",
    "ForQuestionAnswering": "ForQuestionAnswering",
}
CODES = ["en_XX", "de_DE", "mt"]


def dense(family: str, head: str = "Model", **over: Any) -> PreTrainedModel:
    """A tiny dense model with scattered weights."""
    name = "BertLMHeadModel" if (family, head) == ("Bert", "ForCausalLM") else f"{family}{head}"
    config_class = getattr(transformers, f"{family}Config")
    extra = {"num_labels": 2} if head == "ForQuestionAnswering" else {}
    extra |= {"is_decoder": True, "use_cache": False} if head == "ForCausalLM" else {}
    config = config_class(**{**SIZES, **FAMILIES[family], **extra, **over})
    model = getattr(transformers, name)(config)
    scatter_weights(model)
    model.tie_weights()
    return model.eval()


def batch(pad: int, *, types: bool = False) -> dict[str, Tensor]:
    """Four sequences of unequal length, filled up on the right."""
    generator = torch.Generator().manual_seed(3)
    lengths, longest = [9, 4, 1, 7], 9
    ids = torch.randint(5, 99, (len(lengths), longest), generator=generator)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    inputs = {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}
    if types:
        inputs["token_type_ids"] = (torch.arange(longest) >= 3).long().expand(len(lengths), -1) * mask
    return inputs


def results(model: PreTrainedModel, inputs: dict[str, Tensor], **more: Any) -> list[Tensor]:
    """What a model answers, padded positions zeroed."""
    with torch.no_grad():
        outputs = model(**inputs, **more)
    names = ("last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits")
    found = [outputs[name] for name in names if outputs.get(name) is not None]
    mask = inputs["attention_mask"]
    return [
        each.masked_fill((mask == 0).view(*mask.shape, *[1] * (each.dim() - 2)), 0)
        if each.shape[:2] == mask.shape
        else each
        for each in found
    ]


def assert_same(source: PreTrainedModel, modular: PreTrainedModel, *, types: bool = False) -> None:
    """Equal answers in every language and in a batch of several, in double precision: rounding hides nothing."""
    source, modular = source.double(), modular.double()
    inputs = batch(source.config.pad_token_id, types=types)
    choice = "MultipleChoice" in type(modular).__name__
    if choice:
        inputs = {name: values.unflatten(0, (2, 2)) for name, values in inputs.items()}
    wanted = results(source, inputs)
    rows = len(inputs["input_ids"])
    count = len(modular.languages)
    mixes = [torch.full((rows,), language) for language in range(count)] + [torch.arange(rows) % count]
    for lang_ids in mixes:
        found = results(modular, inputs, lang_ids=lang_ids)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_head_computes_the_same(family: str, head: str, attention: str, tmp_path: Path) -> None:
    source = dense(family, head)
    source.save_pretrained(tmp_path / "dense")
    converted = upcycle(tmp_path / "dense", ["en", "de", "mt"], output_dir=tmp_path / "modular")
    assert converted.architecture == f"Xmod{HEADS[head]}"
    modular = getattr(xmodular, converted.architecture).from_pretrained(
        tmp_path / "modular", attn_implementation=attention
    )
    assert list(modular.languages) == CODES
    assert_same(source, modular, types=family == "Bert")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Bert", "XLMRoberta"])
def test_tied_and_untied_language_model_heads(family: str, tied: bool, tmp_path: Path) -> None:
    source = dense(family, "ForMaskedLM", tie_word_embeddings=tied)
    source.save_pretrained(tmp_path / "dense")
    upcycle(tmp_path / "dense", CODES, output_dir=tmp_path / "modular")
    modular = XmodForMaskedLM.from_pretrained(tmp_path / "modular")
    assert (modular.lm_head.decoder.weight is modular.roberta.embeddings.word_embeddings.weight) is tied
    assert_same(source, modular)


@pytest.mark.parametrize("way", ["shards", "pickle", "gamma", "prefix"])
def test_the_forms_in_which_weights_lie_on_disk(way: str, tmp_path: Path) -> None:
    source, folder = dense("Bert"), tmp_path / "dense"
    source.save_pretrained(folder, max_shard_size="20KB" if way == "shards" else "1GB")
    if way != "shards":
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        if way == "gamma":
            spelled = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
            for new, old in spelled.items():
                state = {name.replace(new, old): tensor for name, tensor in state.items()}
        if way == "prefix":
            state = {f"bert.{name}": tensor for name, tensor in state.items()}
        if way == "pickle":
            torch.save(state | {"embeddings.position_ids": torch.arange(40)[None]}, folder / "pytorch_model.bin")
        else:
            save_file(state, folder / "model.safetensors", {"format": "pt"})
    else:
        assert len(list(folder.glob("model-*.safetensors"))) > 1
    upcycle(folder, CODES, output_dir=tmp_path / "modular")
    assert_same(source, XmodModel.from_pretrained(tmp_path / "modular"), types=True)


def test_a_pretraining_model_leaves_its_second_head_behind(tmp_path: Path) -> None:
    source = dense("Bert", "ForPreTraining")
    source.save_pretrained(tmp_path / "dense")
    converted = upcycle(tmp_path / "dense", CODES, output_dir=tmp_path / "modular")
    left = {"cls.seq_relationship.weight", "cls.seq_relationship.bias", "bert.pooler.dense.weight"}
    assert left <= converted.ignored.keys()
    inputs = batch(0)
    wanted = source(**inputs).prediction_logits
    found = XmodForMaskedLM.from_pretrained(tmp_path / "modular")(**inputs, lang_ids=torch.zeros(4, dtype=torch.long))
    real = inputs["attention_mask"] == 1
    torch.testing.assert_close(found.logits[real], wanted[real], atol=TOLERANCE, rtol=0)


def test_labels_and_bare_encoders(tmp_path: Path) -> None:
    source = dense("Roberta", "ForSequenceClassification", id2label={0: "no", 1: "yes", 2: "maybe"})
    source.save_pretrained(tmp_path / "dense")
    upcycle(tmp_path / "dense", CODES, output_dir=tmp_path / "modular")
    modular = XmodForSequenceClassification.from_pretrained(tmp_path / "modular")
    assert modular.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    bare = upcycle(tmp_path / "dense", CODES, output_dir=tmp_path / "bare", head=False)
    assert bare.architecture == "XmodModel"
    assert "classifier.dense.weight" in bare.ignored
    assert_same(source.roberta, XmodModel.from_pretrained(tmp_path / "bare", add_pooling_layer=False))


def test_adapters_add_nothing_and_can_learn(tmp_path: Path) -> None:
    dense("Bert").save_pretrained(tmp_path / "dense")
    upcycle(tmp_path / "dense", CODES, output_dir=tmp_path / "modular")
    model = XmodModel.from_pretrained(tmp_path / "modular", add_pooling_layer=False)
    model(**batch(0), lang_ids=torch.tensor([0, 0, 1, 1])).last_hidden_state.square().sum().backward()
    for name, parameter in model.named_parameters():
        if ".adapter_modules." in name:
            assert bool(parameter.any()) is ("dense1.weight" in name), name
            trained = parameter.grad is not None and bool(parameter.grad.any())
            assert trained is ("dense2" in name and ".mt." not in name), name


def word_pieces(folder: Path, rows: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as mBERT's: [PAD] 0, [CLS] 2, [SEP] 3."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c"]
    backend = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    roles = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{role}_token": token for role, token in roles.items()}
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_the_tokenizer_comes_along_and_gives_the_special_ids(tmp_path: Path) -> None:
    source = dense("Bert")
    source.save_pretrained(tmp_path / "dense")
    word_pieces(tmp_path / "dense", 99)
    converted = upcycle(tmp_path / "dense", CODES, output_dir=tmp_path / "modular")
    assert "tokenizer.json" in converted.files
    config = converted.config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 2, 3)


def test_the_positions_follow_the_tokenizers_padding(tmp_path: Path) -> None:
    """multilingual-e5's config.json pads with 0 where its tokenizer, XLM-R's, pads with 1."""
    source = dense("Bert")
    source.save_pretrained(tmp_path / "dense")
    roles = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    pieces = [(token, 0.0) for token in dict.fromkeys(roles.values())] + [("▁a", -1.0)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram(pieces, unk_id=3)),
        **{f"{role}_token": token for role, token in roles.items()},
    )
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    converted = upcycle(
        tmp_path / "dense", CODES, output_dir=tmp_path / "modular", tokenizer=str(tmp_path / "tokenizer")
    )
    assert (converted.config.pad_token_id, converted.config.max_position_embeddings) == (1, 42)
    source.config.pad_token_id = 1  # which its forward pass does not read
    assert_same(source, XmodModel.from_pretrained(tmp_path / "modular"))


def test_an_xmod_keeps_its_adapters_and_gets_new_ones(tmp_path: Path) -> None:
    source = tiny_model(XmodForMaskedLM)
    source.save_pretrained(tmp_path / "xmod")
    upcycle(tmp_path / "xmod", ["sw", "mt", "en"], output_dir=tmp_path / "modular")
    modular = XmodForMaskedLM.from_pretrained(tmp_path / "modular")
    assert list(modular.languages) == ["sw_KE", "mt", "en_XX"]
    inputs = batch(1)
    for code in ("sw_KE", "en_XX"):
        one, other = (results(model, inputs, lang_ids=model.lang_ids([code] * 4)) for model in (source, modular))
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)
    new = [tensor for name, tensor in modular.state_dict().items() if ".mt.dense2." in name]
    assert len(new) == 4
    assert not any(bool(tensor.any()) for tensor in new)


def test_an_xmods_own_code_of_a_language_counts(tmp_path: Path) -> None:
    """SwissBERT's German is de_CH; another code would get a new adapter beside it."""
    source = tiny_model(XmodForMaskedLM, languages=["de_CH", "rm_CH"])
    source.save_pretrained(tmp_path / "xmod")
    converted = upcycle(tmp_path / "xmod", ["de", "rm", "sw"], output_dir=tmp_path / "modular")
    assert converted.config.languages == ["de_CH", "rm_CH", "sw_KE"]
    modular = XmodForMaskedLM.from_pretrained(tmp_path / "modular")
    name = "roberta.encoder.layer.0.output.adapter_modules.de_CH.dense2.weight"
    assert torch.equal(modular.state_dict()[name], source.state_dict()[name])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("modernbert", "rotary"),
        ("eurobert", "gated"),
        ("albert", "share"),
        ("deberta-v2", "separately"),
        ("xlm-roberta-xl", "LayerNorm after its embeddings"),
        ("t5", "Supported: BERT"),
        ("made-up", "Supported: BERT"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(kind: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=kind) as caught:
        upcycle(tmp_path / "other", ["de"], output_dir=tmp_path / "modular")
    assert reason in str(caught.value)
    assert not (tmp_path / "modular").exists()


def test_a_head_that_xmod_lacks(tmp_path: Path) -> None:
    dense("Bert", "ForNextSentencePrediction").save_pretrained(tmp_path / "dense")
    with pytest.raises(ConfigurationError, match=r"BertForNextSentencePrediction.*--no-head"):
        upcycle(tmp_path / "dense", ["de"], output_dir=tmp_path / "modular")
    converted = upcycle(tmp_path / "dense", ["de"], output_dir=tmp_path / "modular", head=False)
    assert converted.ignored["cls.seq_relationship.weight"]
    dense("Bert", "ForMaskedLM", hidden_act="relu").save_pretrained(tmp_path / "relu")
    with pytest.raises(ConfigurationError, match="relu"):
        upcycle(tmp_path / "relu", ["de"], output_dir=tmp_path / "other")


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "twice", "integers"])
def test_every_weight_is_accounted_for(damage: str, tmp_path: Path) -> None:
    dense("Bert").save_pretrained(tmp_path / "dense")
    path = tmp_path / "dense" / "model.safetensors"
    state = load_file(path)
    name = "encoder.layer.1.output.dense.weight"
    tensor = state.pop(name)
    if damage == "unknown":
        state |= {name: tensor, "encoder.layer.1.gate.weight": tensor.clone()}
    if damage == "shape":
        state[name] = tensor[:, 1:].contiguous()
    if damage == "twice":
        state |= {name: tensor, f"bert.{name}": tensor.clone()}
    if damage == "integers":
        state[name] = tensor.long()
    save_file(state, path, {"format": "pt"})
    with pytest.raises(DataError, match=r"encoder\.layer\.1\."):
        upcycle(tmp_path / "dense", ["de"], output_dir=tmp_path / "modular")
    assert not (tmp_path / "modular").exists()


def test_languages_are_named_once_and_plainly(tmp_path: Path) -> None:
    dense("Bert").save_pretrained(tmp_path / "dense")
    target = tmp_path / "modular"
    for names, wrong in ((["de", "German"], "twice"), ([], "no language"), (["1x"], "letter")):
        with pytest.raises(LanguageError, match=wrong):
            upcycle(tmp_path / "dense", names, output_dir=target)
    converted = upcycle(tmp_path / "dense", ["Maltese", "swa", "gsw"], output_dir=target)
    assert converted.config.languages == ["mt", "sw_KE", "gsw"]


def test_a_dense_checkpoint_is_not_loaded_with_adapters_drawn_at_random(tmp_path: Path) -> None:
    dense("XLMRoberta", "ForMaskedLM").save_pretrained(tmp_path / "dense")
    for cls in (XmodModel, XmodForMaskedLM, XmodForSequenceClassification):
        with pytest.raises(ConfigurationError, match=r"xlm-roberta.*xmodular upcycle"):
            cls.from_pretrained(tmp_path / "dense")
        with pytest.raises(ConfigurationError, match=r"xlm-roberta.*xmodular upcycle"):
            cls.from_pretrained(tmp_path / "dense", languages=["en"])


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "first"),
        (None, "first"),
    ],
)
def test_sentence_encoders_say_what_a_classifier_is_to_read(content: Any, pooling: str, tmp_path: Path) -> None:
    dense("Bert").save_pretrained(tmp_path / "dense")
    if content is not None:
        (tmp_path / "dense" / "1_Pooling").mkdir()
        (tmp_path / "dense" / "1_Pooling" / "config.json").write_text(json.dumps(content), encoding="utf-8")
    converted = upcycle(tmp_path / "dense", ["de"], output_dir=tmp_path / "modular")
    assert converted.config.classifier_pooling == pooling
    assert converted.config.embedding_settings.pooling == ("mean" if content is None else pooling)
    other = "first" if pooling == "mean" else "mean"
    upcycle(tmp_path / "dense", ["de"], output_dir=tmp_path / "other", pooling=other)
    assert XmodForSequenceClassification.from_pretrained(tmp_path / "other").config.classifier_pooling == other


def test_a_trained_classifier_goes_on_reading_the_first_token(tmp_path: Path) -> None:
    dense("Bert", "ForSequenceClassification").save_pretrained(tmp_path / "dense")
    with pytest.raises(ConfigurationError, match=r"trained with 'first'.*--no-head"):
        upcycle(tmp_path / "dense", ["de"], output_dir=tmp_path / "modular", pooling="mean")
    (tmp_path / "dense" / "1_Pooling").mkdir()
    (tmp_path / "dense" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}', encoding="utf-8")
    converted = upcycle(tmp_path / "dense", ["de"], output_dir=tmp_path / "modular")
    assert converted.config.classifier_pooling == "first"


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_real_encoder_is_the_same(tmp_path: Path, attention: str) -> None:
    """XMODULAR_ENCODER names the folder of a dense multilingual encoder with its tokenizer, such as an XLM-R's.

    In double precision, as some tokens are so badly conditioned that the source's own single precision is off by 5e-5.
    """
    place = os.environ.get("XMODULAR_ENCODER")
    if place is None:
        pytest.skip("XMODULAR_ENCODER names no folder")
    upcycle(place, ["de", "sw", "mt"], output_dir=tmp_path / "modular", head=False)
    texts = ["Die Mannschaft hat gewonnen.", "Habari.", "Il-kelb " * 40, "日本語", "<mask> x"]
    batch = load_tokenizer(place)(texts, padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    source = transformers.AutoModel.from_pretrained(place, attn_implementation=attention).eval().double()
    model = XmodModel.from_pretrained(tmp_path / "modular", attn_implementation=attention).eval().double()
    with torch.inference_mode():
        expected = source(ids, attention_mask=mask).last_hidden_state
        for languages in (["de"], ["sw"], ["mt"], ["de", "sw", "mt", "sw", "de"]):
            lang_ids = model.lang_ids(languages).expand(len(texts))
            found = model(ids, lang_ids=lang_ids, attention_mask=mask).last_hidden_state
            assert (found - expected)[mask.bool()].abs().max() < 1e-10
