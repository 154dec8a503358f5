"""fairseq's checkpoints both ways: bytes, numbers, configurations, heads, vocabularies, refusals."""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoTokenizer
from transformers.models import xmod as peer
from typer.testing import CliRunner

from tests.conversion.support import LANGUAGES, assert_same_bytes, save, tiny
from tests.reference.fairseq import BASE, LARGE_PRENORM, STACK, class_logits, lm_logits, settings, state_dict
from tests.support import TOLERANCE, assert_same_state, scatter_weights, tiny_config, tiny_model
from xmodular import XmodConfig, XmodForMaskedLM, XmodForSequenceClassification, XmodForTokenClassification, XmodModel
from xmodular.catalogue import RELEASES, SHAPES, Release
from xmodular.cli import app
from xmodular.conversion import convert
from xmodular.conversion.table import ignored, weights
from xmodular.errors import ConfigurationError, DataError
from xmodular.vocabulary import load_tokenizer, train_tokenizer

ROWS = ([0, 5, 9, 11, 2], [0, 17, 2], [0, 8, 40, 39, 4, 4, 21, 2])
FLAGS = pytest.mark.parametrize("flags", [BASE, LARGE_PRENORM], ids=["base", "large prenorm"])
# What the flags allow beyond the releases: every mix of the three of the adapter.
MIXES = [
    {
        "encoder_normalize_before": pre,
        "adapter_layer_norm": own,
        "adapter_reuse_layer_norm": reuse,
        "ln_before_adapter": ln,
    }
    for pre in (False, True)
    for own in (False, True)
    for reuse in (False, True)
    for ln in (False, True)
]


def loaded(cls: Any, folder: Path) -> Any:
    """The model, with nothing missing; what is left over may belong to the other head only."""
    model, report = cls.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    other = "lm_head." if "Classification" in cls.__name__ else "classifier."
    assert [name for name in report["unexpected_keys"] if not name.startswith(other)] == []
    return model.eval()


def model_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a written checkpoint, as torch itself reads them; the version's number apart."""
    content = torch.load(path / "model.pt", weights_only=True)
    assert content["args"] is None
    return content["model"]


@FLAGS
@pytest.mark.parametrize("cls", [XmodForMaskedLM, peer.XmodForMaskedLM], ids=["ours", "peer"])
@torch.inference_mode()
def test_masked_logits_are_fairseqs(flags: dict[str, Any], cls: Any, tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "in" / "model.pt", flags)
    answer = convert(path, output_dir=tmp_path / "out")
    assert answer.architecture == "XmodForMaskedLM"
    model = loaded(cls, tmp_path / "out")
    for language in LANGUAGES:
        for row in ROWS:
            ids = torch.tensor([row])
            logits = model(ids, lang_ids=torch.tensor([LANGUAGES.index(language)])).logits[0]
            torch.testing.assert_close(logits, lm_logits(state, args, row, language), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: "".join("ft"[value] for value in mix.values()))
@torch.inference_mode()
def test_every_mix_of_the_flags(mix: dict[str, bool], tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "in" / "model.pt", {**BASE, **mix})
    convert(path, output_dir=tmp_path / "out")
    model = loaded(XmodForMaskedLM, tmp_path / "out")
    logits = model(torch.tensor([ROWS[2]]), lang_ids=model.lang_ids("sw")).logits[0]
    torch.testing.assert_close(logits, lm_logits(state, args, ROWS[2], "sw_KE"), atol=TOLERANCE, rtol=0)


@FLAGS
@pytest.mark.parametrize(
    "cls", [XmodForSequenceClassification, peer.XmodForSequenceClassification], ids=["ours", "peer"]
)
@torch.inference_mode()
def test_class_logits_are_fairseqs(flags: dict[str, Any], cls: Any, tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "in" / "model.pt", flags, heads={"mnli": 3}, pooler_dropout=0.2)
    assert convert(path, output_dir=tmp_path / "out").architecture == "XmodForSequenceClassification"
    model = loaded(cls, tmp_path / "out")
    assert model.config.classifier_dropout == 0.2
    assert model.config.num_labels == 3
    for row in ROWS:
        logits = model(torch.tensor([row]), lang_ids=torch.tensor([1])).logits[0]
        torch.testing.assert_close(logits, class_logits(state, args, row, "mnli", "de_DE"), atol=TOLERANCE, rtol=0)


@FLAGS
@pytest.mark.parametrize("heads", [None, {"mnli": 3}], ids=["LM", "head"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_fairseq_to_ours_to_fairseq_is_byte_equal(
    flags: dict[str, Any], heads: dict[str, int] | None, dtype: torch.dtype, tmp_path: Path
) -> None:
    args = settings(flags, LANGUAGES)
    state = {name: tensor.to(dtype) for name, tensor in state_dict(args, heads=heads).items()}
    state["encoder.lm_head.weight"] = state[f"{STACK}.embed_tokens.weight"]
    convert(save(tmp_path / "in" / "model.pt", state, args), output_dir=tmp_path / "ours")
    convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    back = model_of(tmp_path / "back")
    assert_same_bytes(back, state)
    assert list(back) == list(state)
    assert back["encoder.lm_head.weight"].data_ptr() == back[f"{STACK}.embed_tokens.weight"].data_ptr()
    told = torch.load(tmp_path / "back" / "model.pt", weights_only=True)["cfg"]["model"]
    assert {name: told[name] for name in args} == args
    convert(tmp_path / "back", output_dir=tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@FLAGS
def test_ours_to_fairseq_to_ours(flags: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    large = {name: flags[name] for name in ("adapter_layer_norm", "adapter_reuse_layer_norm", "ln_before_adapter")}
    large |= {"pre_norm": flags["encoder_normalize_before"], "adapter_reduction_factor": flags["bottleneck"]}
    model = tiny_model(XmodForMaskedLM, type_vocab_size=1, tie_word_embeddings=tied, **large)
    model.roberta.embeddings.token_type_embeddings.weight.data.zero_()
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")
    assert convert(tmp_path / "fairseq", output_dir=tmp_path / "back").config.tie_word_embeddings is tied
    again = loaded(XmodForMaskedLM, tmp_path / "back")
    if not tied:  # the bias that is added; the other one is not used where they are not tied
        model.lm_head.bias.data.copy_(model.lm_head.decoder.bias.data)
    assert_same_state(again.state_dict(), model.state_dict())
    ignored_fields = {"_name_or_path", "dtype", "transformers_version", "default_language"}
    mine, theirs = ({k: v for k, v in m.config.to_dict().items() if k not in ignored_fields} for m in (again, model))
    assert mine == theirs


@torch.inference_mode()
def test_the_token_type_is_folded_into_the_positions(tmp_path: Path) -> None:
    model = tiny_model(XmodForMaskedLM, type_vocab_size=1)
    model.save_pretrained(tmp_path / "ours")
    answer = convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")
    assert any("position embeddings" in line for line in answer.derived)
    state = model_of(tmp_path / "fairseq")
    args = torch.load(tmp_path / "fairseq" / "model.pt", weights_only=True)["cfg"]["model"]
    logits = model(torch.tensor([ROWS[0]]), lang_ids=torch.tensor([2])).logits[0]
    torch.testing.assert_close(lm_logits(state, args, ROWS[0], "sw_KE"), logits, atol=TOLERANCE, rtol=0)


def test_dtypes_that_differ_stay_as_they_are(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "in" / "model.pt")
    half = f"{STACK}.layers.0.fc1.bias"
    state[half] = state[half].half()
    convert(save(path, state, args), output_dir=tmp_path / "ours")
    assert load_file(tmp_path / "ours" / "model.safetensors")[
        "roberta.encoder.layer.0.intermediate.dense.bias"
    ].dtype == (torch.float16)
    assert loaded(XmodForMaskedLM, tmp_path / "ours").dtype == torch.float32
    convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    assert_same_bytes(model_of(tmp_path / "back"), state)


def shrunk(release: Release) -> tuple[dict[str, Any], XmodConfig]:
    """A release's layers, languages and flags at tiny widths: fairseq's settings, and the configuration expected."""
    config = XmodConfig.preset(release.name, hidden_size=8, num_attention_heads=2, intermediate_size=6, vocab_size=9)
    config.max_position_embeddings = 10
    args = settings(
        LARGE_PRENORM if config.pre_norm else BASE,
        release.languages,
        encoder_layers=config.num_hidden_layers,
        encoder_embed_dim=8,
        encoder_attention_heads=2,
        encoder_ffn_embed_dim=6,
        max_positions=8,
    )
    return args, config


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_every_release_converts_whole_and_back(release: Release, tmp_path: Path) -> None:
    args, expected = shrunk(release)
    state = state_dict(args, pieces=9)
    answer = convert(save(tmp_path / "in" / "model.pt", state, args), output_dir=tmp_path / "ours")
    assert [name for name in answer.ignored if ignored(name) is None] == []
    assert set(answer.ignored) == {f"{STACK}.version"}
    differ = {"architectures", "dtype", "fairseq_head", "transformers_version"}
    mine, wanted = ({k: v for k, v in c.to_dict().items() if k not in differ} for c in (answer.config, expected))
    assert mine == wanted
    with safe_open(tmp_path / "ours" / "model.safetensors", framework="pt") as file:
        written = set(file.keys())
    types = "roberta.embeddings.token_type_embeddings.weight"
    assert written == {weight.ours for weight in weights(expected, None)} - {"lm_head.decoder.weight"} | {types}
    convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    assert_same_bytes(model_of(tmp_path / "back"), state)


def test_a_swissbert_of_four_languages_with_its_own_vocabulary(tmp_path: Path) -> None:
    languages = ("de_CH", "fr_CH", "it_CH", "rm_CH")
    args = settings(BASE, languages)
    convert(save(tmp_path / "in" / "model.pt", state_dict(args, pieces=23), args), output_dir=tmp_path / "ours")
    model = loaded(XmodForMaskedLM, tmp_path / "ours")
    assert model.languages == languages
    assert model.config.vocab_size == 23


# --- heads ---


def test_several_heads_need_a_choice(tmp_path: Path) -> None:
    _args, state, path = tiny(tmp_path / "in" / "model.pt", heads={"mnli": 3, "topic": 5})
    with pytest.raises(ConfigurationError, match=r"mnli, topic; choose one with --head"):
        convert(path, output_dir=tmp_path / "ours")
    with pytest.raises(ConfigurationError, match=r"no classification head 'ner'; it has: mnli, topic"):
        convert(path, output_dir=tmp_path / "ours", head="ner")
    answer = convert(path, output_dir=tmp_path / "ours", head="topic")
    assert "classification_heads.mnli.dense.weight" in answer.ignored
    assert answer.config.num_labels == 5
    convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    assert_same_bytes(model_of(tmp_path / "back"), {k: v for k, v in state.items() if ".mnli." not in k})
    convert(tmp_path / "ours", output_dir=tmp_path / "renamed", to="fairseq", head="other")
    assert "classification_heads.other.dense.weight" in model_of(tmp_path / "renamed")


def test_both_heads_are_in_the_folder(tmp_path: Path) -> None:
    _args, state, path = tiny(tmp_path / "in" / "model.pt", heads={"mnli": 3})
    convert(path, output_dir=tmp_path / "ours")
    lm = loaded(XmodForMaskedLM, tmp_path / "ours")
    assert torch.equal(lm.lm_head.bias, state["encoder.lm_head.bias"])
    assert torch.equal(lm.lm_head.decoder.bias, state["encoder.lm_head.bias"])


@FLAGS
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@torch.inference_mode()
def test_a_fine_tuned_classifier_goes_to_fairseq_and_back(flags: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    """As fine-tuning saves it: without the language-model head."""
    _args, _state, path = tiny(tmp_path / "in" / "model.pt", flags)
    convert(path, output_dir=tmp_path / "base")
    model = XmodForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3, tie_word_embeddings=tied)
    scatter_weights(model)
    model.roberta.embeddings.token_type_embeddings.weight.data.zero_()
    model.eval().save_pretrained(tmp_path / "tuned")

    written = convert(tmp_path / "tuned", output_dir=tmp_path / "fairseq", to="fairseq", head="topic")
    state = model_of(tmp_path / "fairseq")
    # fairseq makes the missing head where, and only where, this name is there.
    assert "encoder._ema" in state
    assert not any(name.startswith("encoder.lm_head.") for name in state)
    assert written.weights == len(model.state_dict()) - 1  # the token type has no counterpart
    assert "the model has no language-model head; fairseq creates a new one" in written.derived
    args = torch.load(tmp_path / "fairseq" / "model.pt", weights_only=True)["cfg"]["model"]
    logits = model(torch.tensor([ROWS[2]]), lang_ids=model.lang_ids("sw")).logits[0]
    expected = class_logits(state, args, ROWS[2], "topic", "sw_KE")
    torch.testing.assert_close(expected, logits, atol=TOLERANCE, rtol=0)

    answer = convert(tmp_path / "fairseq", output_dir=tmp_path / "back")
    assert answer.architecture == "XmodForSequenceClassification"
    assert answer.config.tie_word_embeddings is tied
    assert answer.weights == written.weights
    assert_same_bytes(
        load_file(tmp_path / "back" / "model.safetensors"), load_file(tmp_path / "tuned" / "model.safetensors")
    )
    loaded(XmodForSequenceClassification, tmp_path / "back")


def test_a_language_model_head_may_be_missing_only_where_the_file_says_so(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "in" / "model.pt", heads={"mnli": 3})
    bare = {name: value for name, value in state.items() if not name.startswith("encoder.lm_head.")}
    mark = {"encoder._ema": torch.zeros(0)}
    some = {"encoder.lm_head.bias": state["encoder.lm_head.bias"]}
    headless = {name: value for name, value in bare.items() if not name.startswith("classification_heads.")}
    for content in (bare, bare | mark | some, headless | mark):
        with pytest.raises(DataError, match=r"encoder\.lm_head\.dense\.weight is missing"):
            convert(save(path, content, args), output_dir=tmp_path / "ours")
    assert convert(save(path, bare | mark, args), output_dir=tmp_path / "ours").weights == len(bare) - 1


# --- configuration ---


def without_settings(path: Path, flags: dict[str, Any], **over: Any) -> tuple[dict[str, Any], Path]:
    args = settings(flags, LANGUAGES, encoder_embed_dim=128, encoder_attention_heads=2, **over)
    return args, save(path, state_dict(args, pieces=11), None)


@FLAGS
def test_settings_from_the_weights_alone(flags: dict[str, Any], tmp_path: Path) -> None:
    args, path = without_settings(tmp_path / "in" / "model.pt", flags)
    bare = convert(path, output_dir=tmp_path / "bare")
    told = convert(save(tmp_path / "told.pt", state_dict(args, pieces=11), args), output_dir=tmp_path / "told")
    assert bare.config.to_dict() == told.config.to_dict()
    assert any("num_attention_heads=2 (from the weights)" in line for line in bare.derived)


@pytest.mark.parametrize("form", ["args", "dictionary", "omegaconf"])
def test_settings_in_all_their_forms(form: str, tmp_path: Path) -> None:
    class DictConfig:
        def __init__(self, content: Any) -> None:
            self.content = content

        def __reduce__(self) -> Any:
            return DictConfig, (None,), {"_metadata": None, "_content": self.content}

    class AnyNode:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __reduce__(self) -> Any:
            return AnyNode, (None,), {"_val": self.value}

    args, state, _ = tiny(tmp_path / "model.pt", LARGE_PRENORM)
    globals().update(DictConfig=DictConfig, AnyNode=AnyNode)
    for cls in (DictConfig, AnyNode):
        cls.__qualname__ = cls.__name__
    forms: dict[str, dict[str, Any]] = {
        "args": {"args": argparse.Namespace(**args), "cfg": {"model": {"encoder_layers": 99}}},
        "dictionary": {"args": None, "cfg": {"model": args}},
        "omegaconf": {
            "cfg": DictConfig(
                {
                    "model": DictConfig(
                        {
                            name: DictConfig([AnyNode(v) for v in value]) if isinstance(value, list) else AnyNode(value)
                            for name, value in args.items()
                        }
                    )
                }
            )
        },
    }
    torch.save({**forms[form], "model": state}, tmp_path / "model.pt")
    answer = convert(tmp_path / "model.pt", output_dir=tmp_path / "out")
    assert answer.config.num_attention_heads == 4
    assert answer.config.languages == list(LANGUAGES)
    assert [line for line in answer.derived if "tokenizer" not in line] == []


def test_a_preset_fills_what_the_file_leaves_open(tmp_path: Path) -> None:
    shape = SHAPES["tiny"]
    args = settings(
        BASE,
        LANGUAGES,
        encoder_embed_dim=shape["hidden_size"],
        encoder_ffn_embed_dim=shape["intermediate_size"],
        encoder_attention_heads=2,
    )
    path = save(tmp_path / "model.pt", state_dict(args, pieces=11), None)
    answer = convert(path, output_dir=tmp_path / "ours", preset="tiny")
    assert "num_attention_heads=2 (from the preset)" in answer.derived
    with pytest.raises(ConfigurationError, match=r"preset mini says hidden_size=256, the file or its weights 128"):
        convert(path, output_dir=tmp_path / "other", preset="mini")
    with pytest.raises(ConfigurationError, match="there is no preset 'minni'"):
        convert(path, output_dir=tmp_path / "other", preset="minni")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"encoder_layers": 3}, r"encoder_layers=3, its weights say num_hidden_layers=2"),
        ({"encoder_embed_dim": 32}, r"encoder_embed_dim=32, its weights say hidden_size=16"),
        ({"max_positions": 512}, r"max_positions=512, its weights say max_position_embeddings=30"),
        ({"encoder_normalize_before": True}, r"encoder_normalize_before=True, its weights say pre_norm=False"),
        ({"adapter_layer_norm": True}, r"adapter_layer_norm=True, its weights say adapter_layer_norm=False"),
        ({"bottleneck": 4}, r"bottleneck factor is 4, but the adapters are 8 wide"),
        ({"bottleneck": 0}, r"bottleneck factor is 0"),
        ({"encoder_attention_heads": 3}, r"num_attention_heads \(3\)"),
        ({"encoder_attention_heads": "4"}, r"encoder_attention_heads='4', which must be of type int"),
        ({"dropout": 7.0}, r"hidden_dropout_prob is 7.0"),
        ({"activation_fn": "relu"}, r"activation_fn='relu'; only 'gelu'"),
        ({"no_scale_embedding": False}, r"no_scale_embedding=False; only True"),
        ({"languages": ["en_XX", "de_DE"]}, r"the file lists 2 languages, 3 have adapters; they differ in sw_KE"),
        ({"languages": [*LANGUAGES, "fr_XX"]}, r"differ in fr_XX"),
        ({"languages": [*LANGUAGES, "en_XX"]}, r"one of them twice"),
        ({"languages": 3}, r"languages=3, which must be a list"),
        ({"activation_fn": "tanh", "encoder_layers": 9}, r"(?s)encoder_layers=9.*activation_fn='tanh'"),
    ],
)
def test_what_file_and_weights_disagree_on_is_named(over: dict[str, Any], message: str, tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "model.pt")
    with pytest.raises(ConfigurationError, match=message):
        convert(save(path, state, {**args, **over}), output_dir=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_settings_that_hold_themselves(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "model.pt")
    itself = argparse.Namespace(_content=[])  # as OmegaConf's lists are pickled
    itself._content.append(itself)
    with pytest.raises(ConfigurationError, match=r"languages=<list>, which must be a list of codes"):
        convert(save(path, state, {**args, "languages": itself}), output_dir=tmp_path / "ours")
    with pytest.raises(ConfigurationError, match=r"activation_fn=<list>; only 'gelu'"):
        convert(save(path, state, {**args, "activation_fn": itself}), output_dir=tmp_path / "ours")


def test_the_order_of_languages_is_the_files_list(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "model.pt")
    args["languages"] = ["sw_KE", "en_XX_rom", "en_XX", "de_DE_zaw", "de_DE"]
    assert convert(save(path, state, args), output_dir=tmp_path / "a").config.languages == ["sw_KE", "en_XX", "de_DE"]
    args["languages"] = "de_DE,en_XX,sw_KE"
    assert convert(save(path, state, args), output_dir=tmp_path / "b").config.languages == ["de_DE", "en_XX", "sw_KE"]
    del args["languages"]
    answer = convert(save(path, state, args), output_dir=tmp_path / "c")
    assert answer.config.languages == list(LANGUAGES)
    assert "the languages' order (from the weights)" in answer.derived


def test_an_untied_head_is_kept_and_a_false_tie_refused(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "model.pt")
    state["encoder.lm_head.weight"] = state["encoder.lm_head.weight"] + 1
    with pytest.raises(ConfigurationError, match=r"untie_weights_roberta=False, but encoder.lm_head.weight differs"):
        convert(save(path, state, args), output_dir=tmp_path / "ours")
    args["untie_weights_roberta"] = True
    convert(save(path, state, args), output_dir=tmp_path / "ours")
    model = loaded(XmodForMaskedLM, tmp_path / "ours")
    assert torch.equal(model.lm_head.decoder.weight, state["encoder.lm_head.weight"])
    assert torch.equal(model.lm_head.decoder.bias, state["encoder.lm_head.bias"])
    with torch.inference_mode():
        logits = model(torch.tensor([ROWS[0]]), lang_ids=torch.tensor([0])).logits[0]
    torch.testing.assert_close(logits, lm_logits(state, args, ROWS[0]), atol=TOLERANCE, rtol=0)
    convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    assert_same_bytes(model_of(tmp_path / "back"), state)


# --- keys ---


def test_older_spellings_and_ignored_names(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "in" / "model.pt")
    old = {
        name.replace("encoder.", "decoder.", 1)
        .replace("layernorm_embedding", "emb_layer_norm")
        .replace("self_attn_layer_norm", "layer_norms.0")
        .replace("final_layer_norm", "layer_norms.1"): tensor
        for name, tensor in state.items()
    }
    old |= {"encoder._ema": {"decay": 0.9}, "encoder.regression_head.0.weight": torch.ones(2)}
    answer = convert(save(path, old, args, last_optimizer_state={"a": 1}), output_dir=tmp_path / "ours")
    assert set(answer.ignored) == {
        "decoder.sentence_encoder.version",
        "encoder._ema",
        "encoder.regression_head.0.weight",
        "last_optimizer_state",
    }
    convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    assert_same_bytes(model_of(tmp_path / "back"), state)


def test_all_problems_of_the_weights_come_at_once(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "model.pt")
    extra = {"encoder.extra": torch.ones(1), "another": torch.ones(1), "encoder.lm_head.dense.bias": [1.0]}
    with pytest.raises(
        DataError, match=r"(?s)model\.pt.*encoder\.extra.*another.*encoder\.lm_head\.dense\.bias is a list"
    ):
        convert(save(path, state | extra, args), output_dir=tmp_path / "ours")
    state.pop(f"{STACK}.layers.1.adapter_modules.de_DE.fc2.bias")
    state[f"{STACK}.layers.0.fc2.weight"] = torch.ones(3, 3)
    with pytest.raises(DataError, match=r"(?s)layers\.0\.fc2\.weight has shape \(3, 3\).*de_DE\.fc2\.bias is missing"):
        convert(save(path, state, args), output_dir=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_layer_that_is_missing_and_a_norm_too_many(tmp_path: Path) -> None:
    args, state, path = tiny(tmp_path / "model.pt", encoder_layers=3)
    del args["encoder_layers"]
    gone = {name: value for name, value in state.items() if ".layers.1." not in name}
    with pytest.raises(DataError, match=r"layers\.1\.self_attn\.k_proj\.weight is missing"):
        convert(save(path, gone, args), output_dir=tmp_path / "ours")
    del args["adapter_layer_norm"]
    state[f"{STACK}.layers.1.adapter_layer_norm.weight"] = torch.ones(16)
    with pytest.raises(DataError, match=r"layers\.0\.adapter_layer_norm\.weight is missing"):
        convert(save(path, state, args), output_dir=tmp_path / "ours")


# --- files and folders ---


def test_the_source_may_be_a_folder(tmp_path: Path) -> None:
    _args, _state, path = tiny(tmp_path / "in" / "checkpoint_best.pt")
    convert(tmp_path / "in", output_dir=tmp_path / "ours")
    shutil.copy(path, tmp_path / "in" / "other.pt")
    with pytest.raises(DataError, match=r"checkpoint_best\.pt, other\.pt"):
        convert(tmp_path / "in", output_dir=tmp_path / "again")
    with pytest.raises(DataError, match="no file or folder"):
        convert(tmp_path / "nowhere", output_dir=tmp_path / "again")


def test_nothing_is_replaced_unasked_and_never_the_source(tmp_path: Path) -> None:
    _args, _state, path = tiny(tmp_path / "in" / "model.pt")
    with pytest.raises(ConfigurationError, match="contains the source"):
        convert(path, output_dir=tmp_path / "in", overwrite=True)
    with pytest.raises(ConfigurationError, match="contains the source"):
        convert(path, output_dir=tmp_path, overwrite=True)
    (tmp_path / "letters").mkdir()
    convert(path, output_dir=tmp_path / "letters")  # an empty folder
    with pytest.raises(ConfigurationError, match="--overwrite"):
        convert(path, output_dir=tmp_path / "letters")
    (tmp_path / "letters" / "thesis.txt").touch()
    with pytest.raises(ConfigurationError, match=r"thesis\.txt is not part of a model"):
        convert(path, output_dir=tmp_path / "letters", overwrite=True)
    (tmp_path / "letters" / "thesis.txt").unlink()
    convert(path, output_dir=tmp_path / "letters", overwrite=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").touch()
    with pytest.raises(ConfigurationError, match="contains no model"):
        convert(path, output_dir=tmp_path / "home", overwrite=True)
    with pytest.raises(ConfigurationError, match="is a file"):
        convert(path, output_dir=tmp_path / "home" / "diary.txt", overwrite=True)


@pytest.mark.parametrize("content", [{}, {"args": None}, {"model": None}, {"model": {"model": {}}}, [1], "text"])
def test_files_without_a_model(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"model\.pt"):
        convert(tmp_path / "model.pt", output_dir=tmp_path / "ours")


def test_the_command(tmp_path: Path) -> None:
    _args, state, path = tiny(tmp_path / "in" / "model.pt")
    command = CliRunner()
    done = command.invoke(app, ["convert", str(path), "--output-dir", str(tmp_path / "ours")])
    assert done.exit_code == 0, done.output
    back = ["convert", str(tmp_path / "ours"), "--to", "fairseq", "--output-dir", str(tmp_path / "back")]
    assert command.invoke(app, back).exit_code == 0
    assert_same_bytes(model_of(tmp_path / "back"), state)
    assert command.invoke(app, back).exit_code == 2


# --- what fairseq cannot hold ---


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"type_vocab_size": 2}, "type_vocab_size is 2; fairseq has only 1"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps is 1e-12"),
        ({"pad_token_id": 3}, "pad_token_id is 3"),
        ({"languages": ["en_XX", "hi_IN_rom"]}, "hi_IN_rom"),
    ],
)
def test_what_fairseq_cannot_hold_is_listed(over: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = XmodForMaskedLM(tiny_config(**{"type_vocab_size": 1, **over}))
    model.save_pretrained(tmp_path / "ours")
    with pytest.raises(ConfigurationError, match=message):
        convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")
    assert not (tmp_path / "fairseq").exists()


@pytest.mark.parametrize("cls", [XmodModel, XmodForTokenClassification])
def test_models_without_fairseqs_heads(cls: Any, tmp_path: Path) -> None:
    cls(tiny_config(type_vocab_size=1)).save_pretrained(tmp_path / "ours")
    with pytest.raises(ConfigurationError, match=rf"the model is an {cls.__name__}; fairseq has"):
        convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")
    assert not (tmp_path / "fairseq").exists()


DAMAGED: list[Any] = [
    *([], "x", 5, None),
    {"num_labels": "x"},
    {"id2label": {"a": "b"}},
    {"hidden_size": [1]},
    *({"architectures": names} for names in (5, [5], ["XmodForMaskedLM"] * 2, {"a": 1}, [])),
]


@pytest.mark.parametrize("content", DAMAGED, ids=repr)
def test_a_damaged_configuration_is_an_error(content: Any, tmp_path: Path) -> None:
    model = XmodForMaskedLM(tiny_config(type_vocab_size=1))
    model.save_pretrained(tmp_path / "ours")
    path = tmp_path / "ours" / "config.json"
    whole = json.loads(path.read_text()) | content if isinstance(content, dict) else content
    path.write_text(json.dumps(whole))
    with pytest.raises(ConfigurationError):
        convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")
    assert not (tmp_path / "fairseq").exists()


def test_pruned_heads_and_false_options(tmp_path: Path) -> None:
    model = XmodForMaskedLM(tiny_config(type_vocab_size=1))
    model.prune_heads({0: [1]})
    model.save_pretrained(tmp_path / "ours")
    with pytest.raises(ConfigurationError, match=r"pruned in the layers \[0\]"):
        convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")
    with pytest.raises(ConfigurationError, match=r"(?s)--head is 'mnli', but the model has no"):
        convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq", head="mnli")
    with pytest.raises(ConfigurationError, match="--preset tiny is only for fairseq checkpoints"):
        convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq", preset="tiny")
    with pytest.raises(ConfigurationError, match="contains no model"):
        convert(tmp_path, output_dir=tmp_path / "fairseq" / "x", to="fairseq")


def test_a_folder_that_does_not_hold_what_it_says(tmp_path: Path) -> None:
    model = XmodForMaskedLM(tiny_config(type_vocab_size=1))
    model.save_pretrained(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    for field, value, message in (
        ("languages", ["en_XX", "de_DE"], r"adapter_modules\.sw_KE\.dense1\.weight is not in its config"),
        ("num_hidden_layers", 3, r"layer\.2\..* is missing"),
        ("intermediate_size", 36, r"has shape \(37, 32\), its config\.json requires \(36, 32\)"),
    ):
        (tmp_path / "ours" / "config.json").write_text(json.dumps(config | {field: value}))
        with pytest.raises(DataError, match=message):
            convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")


def test_shards_convert_too(tmp_path: Path) -> None:
    model = XmodForMaskedLM(tiny_config(type_vocab_size=1))
    scatter_weights(model)
    for name, size in (("whole", "5GB"), ("shards", "20KB")):
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        convert(tmp_path / name, output_dir=tmp_path / f"{name}.fairseq", to="fairseq")
    assert_same_bytes(model_of(tmp_path / "whole.fairseq"), model_of(tmp_path / "shards.fairseq"))


# --- vocabularies ---


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SentencePiece model and its dict.txt."""
    folder = tmp_path_factory.mktemp("vocabulary")
    stream = io.BytesIO()
    lines = ["the river sees the house", "das Haus sieht den Fluss", "mto unaona nyumba"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=stream, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    (folder / "sentencepiece.bpe.model").write_bytes(stream.getvalue())
    tokenizer = load_tokenizer(folder)
    pieces = tokenizer.convert_ids_to_tokens(list(range(4, len(tokenizer) - 1)))
    (folder / "dict.txt").write_text(
        "".join(f"{piece} {9000 - n}\n" for n, piece in enumerate(pieces)), encoding="utf-8"
    )
    return folder


@pytest.fixture
def worded(vocabulary: Path, tmp_path: Path) -> Path:
    """A checkpoint with the vocabulary beside it."""
    shutil.copytree(vocabulary, tmp_path / "in")
    args = settings(BASE, LANGUAGES)
    size = len(load_tokenizer(vocabulary))
    return save(tmp_path / "in" / "model.pt", state_dict(args, pieces=size), args).parent


def test_the_vocabulary_comes_along_both_ways(worded: Path, tmp_path: Path) -> None:
    convert(worded, output_dir=tmp_path / "ours")
    text = "the Haus, mto!"
    expected = load_tokenizer(worded)(text)["input_ids"]
    assert expected[0] == 0
    assert expected[-1] == 2
    assert load_tokenizer(tmp_path / "ours")(text)["input_ids"] == expected
    converted = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert converted(text)["input_ids"] == expected
    config = XmodConfig.from_pretrained(tmp_path / "ours")
    assert converted.model_max_length == config.max_position_embeddings - 2
    answer = convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    assert answer.files == ("dict.txt", "sentencepiece.bpe.model", "model.pt")
    for name in ("dict.txt", "sentencepiece.bpe.model"):
        assert (tmp_path / "back" / name).read_bytes() == (worded / name).read_bytes()


def test_a_dictionary_is_written_where_there_is_none(worded: Path, tmp_path: Path) -> None:
    lines = (worded / "dict.txt").read_text(encoding="utf-8").splitlines()
    (worded / "dict.txt").unlink()
    convert(worded, output_dir=tmp_path / "ours")
    convert(tmp_path / "ours", output_dir=tmp_path / "back", to="fairseq")
    written = (tmp_path / "back" / "dict.txt").read_text(encoding="utf-8").splitlines()
    assert [line.rpartition(" ")[0] for line in written] == [line.rpartition(" ")[0] for line in lines]
    (tmp_path / "ours" / "sentencepiece.bpe.model").unlink()
    answer = convert(tmp_path / "ours", output_dir=tmp_path / "alone", to="fairseq")
    assert answer.files == ("dict.txt", "model.pt")
    assert (tmp_path / "alone" / "dict.txt").read_bytes() == (tmp_path / "back" / "dict.txt").read_bytes()


def test_vocabularies_that_do_not_belong(worded: Path, tmp_path: Path) -> None:
    lines = (worded / "dict.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (worded / "dict.txt").write_text("".join([*lines[:3], lines[4], lines[3], *lines[5:]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"dict\.txt, line 4, is .*--no-tokenizer"):
        convert(worded, output_dir=tmp_path / "ours")
    (worded / "dict.txt").write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"dict\.txt, line {len(lines)}, is None"):
        convert(worded, output_dir=tmp_path / "ours")
    (worded / "dict.txt").unlink()
    (worded / "sentencepiece.bpe.model").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"not a SentencePiece model.*--no-tokenizer|--no-tokenizer"):
        convert(worded, output_dir=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert "no tokenizer: as requested" in convert(worded, output_dir=tmp_path / "ours", tokenizer=False).derived


def test_a_vocabulary_of_another_size(vocabulary: Path, tmp_path: Path) -> None:
    shutil.copytree(vocabulary, tmp_path / "in")
    tiny(tmp_path / "in" / "model.pt")
    size = len(load_tokenizer(vocabulary))
    with pytest.raises(
        DataError, match=rf"makes {size} ids, special tokens included; the word embeddings have 41 rows"
    ):
        convert(tmp_path / "in", output_dir=tmp_path / "ours")


def test_a_tokenizer_with_another_layout_cannot_go_to_fairseq(tmp_path: Path) -> None:
    tokenizer = train_tokenizer({"en_XX": ["some words in a line"] * 5}, 30)
    tokenizer.add_tokens(["<sep>"])
    XmodForMaskedLM(tiny_config(type_vocab_size=1)).save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    with pytest.raises(DataError, match=r"ends with \['<sep>'\]"):
        convert(tmp_path / "ours", output_dir=tmp_path / "fairseq", to="fairseq")


def test_a_model_folder_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="--to fairseq converts it"):
        convert(tmp_path, output_dir=tmp_path / "out")
