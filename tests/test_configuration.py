"""The configuration: the page's defaults, what it refuses, the presets, and its way through JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig
from transformers.models.xmod import XmodConfig as PeerConfig

from tests.support import tiny_config, tiny_options
from xmodular import XmodConfig
from xmodular.configuration import read_config
from xmodular.errors import ConfigurationError

PAGE = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "use_cache": True,
    "classifier_dropout": None,
    "pre_norm": False,
    "adapter_reduction_factor": 2,
    "adapter_layer_norm": False,
    "adapter_reuse_layer_norm": True,
    "ln_before_adapter": True,
    "languages": ["en_XX"],
    "default_language": None,
    "chunk_size_feed_forward": 0,
}


def test_defaults_are_those_of_the_page() -> None:
    config = XmodConfig()
    assert isinstance(config, PretrainedConfig)
    assert config.model_type == "xmod"
    values = {name: getattr(config, name) for name in PAGE}
    assert values | {"languages": list(config.languages)} == PAGE


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_size": 30}, ["hidden_size", "30", "num_attention_heads", "4"]),
        ({"hidden_size": 0}, ["hidden_size", "0", "positive"]),
        ({"num_hidden_layers": -2}, ["num_hidden_layers", "-2"]),
        ({"vocab_size": "many"}, ["vocab_size", "'many'"]),
        ({"intermediate_size": 3.5}, ["intermediate_size", "3.5"]),
        ({"hidden_dropout_prob": 1.5}, ["hidden_dropout_prob", "1.5", "0 and 1"]),
        ({"classifier_dropout": -0.1}, ["classifier_dropout", "-0.1", "0 and 1"]),
        ({"hidden_act": "gelo"}, ["hidden_act", "'gelo'", "gelu"]),
        ({"position_embedding_type": "rotary"}, ["position_embedding_type", "'rotary'", "relative_key_query"]),
        ({"languages": []}, ["languages", "empty", "en_XX"]),
        ({"languages": "en_XX"}, ["languages", "'en_XX'", "['en_XX']"]),
        ({"languages": ["en_XX", "de_DE", "en_XX"]}, ["languages", "duplicates", "en_XX"]),
        ({"languages": ["en_XX", ""]}, ["languages", "''"]),
        ({"languages": ["en.XX"]}, ["languages", "'en.XX'"]),
        ({"languages": [3]}, ["languages", "3", "code"]),
        ({"default_language": "de_CH"}, ["default_language", "'de_CH'", "de_DE", "sw_KE"]),
        ({"adapter_reduction_factor": 33}, ["adapter_reduction_factor", "33", "at most 32"]),
        ({"adapter_reduction_factor": 0}, ["adapter_reduction_factor", "0", "positive"]),
        ({"adapter_reduction_factor": "2"}, ["adapter_reduction_factor", "'2'", "number"]),
        ({"add_cross_attention": True}, ["add_cross_attention", "is_decoder=True"]),
        ({"pad_token_id": 99}, ["pad_token_id", "99"]),
        ({"pad_token_id": None}, ["pad_token_id", "None"]),
        ({"max_position_embeddings": 2}, ["max_position_embeddings", "2", "at least 3"]),
        ({"pruned_heads": {0: [4]}}, ["pruned_heads", "0 to 3"]),
        ({"pruned_heads": {1: [0, 1, 2, 3]}}, ["pruned_heads", "must stay"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_impossible_field_is_refused_by_name_and_value(fields: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tiny_config(**fields)
    message = str(caught.value)
    assert all(part in message for part in said), message


def test_all_problems_stand_in_one_message() -> None:
    with pytest.raises(ValueError, match=r"(?s)hidden_size.*languages has duplicates.*hidden_act"):
        tiny_config(hidden_size=30, languages=["en_XX", "en_XX"], hidden_act="gelo")


def test_languages_come_from_any_iterable() -> None:
    for languages in (("de_DE", "en_XX"), iter(["de_DE", "en_XX"]), {"de_DE": 1, "en_XX": 2}):
        assert list(tiny_config(languages=languages).languages) == ["de_DE", "en_XX"]


@pytest.mark.parametrize(("factor", "width"), [(2, 16), (2.0, 16), (1.5, 21), (0.5, 64), (32, 1)])
def test_the_bottleneck_follows_the_reduction_factor(factor: float, width: int) -> None:
    config = tiny_config(adapter_reduction_factor=factor)
    assert config.bottleneck_size == width
    assert isinstance(config.bottleneck_size, int)


def test_saving_and_loading_keeps_every_field(tmp_path: Path) -> None:
    over = {
        "adapter_reduction_factor": 1.5,
        "default_language": "de_DE",
        "position_embedding_type": "relative_key",
        "pruned_heads": {1: [3, 0]},
        "pre_norm": True,
        "is_decoder": True,
        "add_cross_attention": True,
        "classifier_dropout": 0.25,
        "chunk_size_feed_forward": 3,
        "num_labels": 5,
    }
    config = tiny_config(**over)
    config.save_pretrained(tmp_path)
    again = XmodConfig.from_pretrained(tmp_path)
    for name, value in (tiny_options() | over | {"pruned_heads": {1: [0, 3]}}).items():
        assert getattr(again, name) == value, name
    assert again.to_dict() == config.to_dict()
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "xmod"


def test_the_peer_reads_our_file_and_we_read_its(tmp_path: Path) -> None:
    ours = tiny_config(pre_norm=True, default_language="sw_KE", adapter_layer_norm=True)
    ours.save_pretrained(tmp_path / "ours")
    theirs = PeerConfig.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = XmodConfig.from_pretrained(tmp_path / "theirs")
    for name in PAGE:
        mine, other = getattr(again, name), getattr(ours, name)
        assert (list(mine), list(other)) if name == "languages" else (mine == other), name


def test_a_bad_file_is_refused_when_it_is_read(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"languages": ["en_XX", "en_XX"]}))
    with pytest.raises(ConfigurationError, match="duplicates: en_XX"):
        XmodConfig.from_pretrained(tmp_path)


def test_a_callable_activation_works_and_is_not_saved(tmp_path: Path) -> None:
    config = tiny_config(hidden_act=torch.tanh)
    assert config.hidden_act is torch.tanh
    with pytest.raises(ConfigurationError, match=r"hidden_act is the callable.*cannot be saved"):
        config.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_released_presets() -> None:
    base, large = XmodConfig.preset("xmod-base"), XmodConfig.preset("xmod-large-prenorm")
    assert len(base.languages) == len(set(base.languages)) == 81
    assert list(base.languages) == list(large.languages)
    assert (base.languages[0], base.languages[8], base.languages[80]) == ("en_XX", "de_DE", "sa_IN")
    for config in (base, large):
        assert (config.vocab_size, config.max_position_embeddings, config.type_vocab_size) == (250_002, 514, 1)
        assert config.layer_norm_eps == 1e-5
    flags = ("pre_norm", "adapter_layer_norm", "adapter_reuse_layer_norm", "ln_before_adapter")
    assert [getattr(base, flag) for flag in flags] == [False, False, True, True]
    assert [getattr(large, flag) for flag in flags] == [True, True, False, False]
    assert (base.bottleneck_size, large.bottleneck_size) == (384, 256)
    assert (large.num_hidden_layers, large.hidden_size, large.num_attention_heads) == (24, 1024, 16)
    for size in (13, 30, 60, 75):
        languages = list(XmodConfig.preset(f"xmod-base-{size}-125k").languages)
        assert len(languages) == size
        assert languages == sorted(languages)


def test_a_preset_can_be_overridden_and_an_unknown_one_is_answered() -> None:
    config = XmodConfig.preset("xmod-base", languages=["gsw"], default_language="gsw", num_labels=3)
    assert (list(config.languages), config.num_labels, config.vocab_size) == (["gsw"], 3, 250_002)
    with pytest.raises(ConfigurationError, match=r"'xmod-bass'.*did you mean 'xmod-base'"):
        XmodConfig.preset("xmod-bass")


@pytest.mark.parametrize(("name", "hub"), [("nowhere", "facebook/xmod-base"), ("swissbert", "ZurichNLP/swissbert")])
def test_a_name_of_one_word_is_a_folder_and_not_looked_up(name, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(XmodConfig, "from_pretrained", None)
    with pytest.raises(ConfigurationError, match=rf"no folder {name}; on the Hub, models have names such as {hub}\."):
        read_config(name)
