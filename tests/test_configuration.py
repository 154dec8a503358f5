"""The configuration: the page's defaults, what it refuses, the presets, and its way through JSON."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig
from transformers.models.xmod import XmodConfig as PeerConfig

from tests.support import tiny_config, tiny_options
from xmodular import XmodConfig, XmodForMaskedLM, pretrain, register
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
        ({"pruned_heads": {1: [0, 1, 2, 3]}}, ["pruned_heads", "must remain"]),
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


UNKNOWN = [
    ("hiden_size", "did you mean 'hidden_size'?"),
    ("num_layers", "did you mean 'num_hidden_layers'?"),
    ("language", "did you mean 'languages'?"),
    ("num_label", "did you mean 'num_labels'?"),
    ("max_length", "it is a generation setting, which belongs in model.generation_config"),
    ("frobnicate", "XmodConfig's documentation lists them"),
]


@pytest.mark.parametrize(("name", "hint"), UNKNOWN)
@pytest.mark.parametrize("way", ["class", "preset", "release"])
def test_an_unknown_name_is_refused_and_the_nearest_is_given(way: str, name: str, hint: str) -> None:
    make = {
        "class": XmodConfig,
        "preset": lambda **fields: XmodConfig.preset("tiny", **fields),
        "release": lambda **fields: XmodConfig.preset("xmod-base", **fields),
    }[way]
    with pytest.raises(ConfigurationError) as caught:
        make(**{name: 3})
    assert f"{name} is not a field: {hint}" in str(caught.value)


def test_an_unknown_override_ends_pretraining_before_it_starts(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="hiden_size is not a field: did you mean 'hidden_size'"):
        pretrain(text=corpus / "text", output_dir=tmp_path / "run", overrides="hiden_size=32")
    assert not (tmp_path / "run").exists()


def test_an_unknown_name_stands_beside_the_other_problems() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)hiden_size is not a field.*languages has duplicates"):
        tiny_config(hiden_size=30, languages=["en_XX", "en_XX"])


@pytest.mark.parametrize("load", [XmodConfig.from_pretrained, AutoConfig.from_pretrained])
def test_an_unknown_name_is_refused_when_loading(tmp_path: Path, load: Any) -> None:
    register()
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="hiden_size is not a field: did you mean 'hidden_size'"):
        load(tmp_path, hiden_size=3)
    again = load(tmp_path, hidden_size=64, num_labels=3, attn_implementation="eager", revision="main", token=None)
    assert (again.hidden_size, again.num_labels, again._attn_implementation) == (64, 3, "eager")
    assert again.vocab_size == 99


@pytest.mark.parametrize("cls", [XmodForMaskedLM, AutoModelForMaskedLM])
def test_a_model_is_not_loaded_with_an_unknown_name(tmp_path: Path, cls: Any) -> None:
    register()
    XmodForMaskedLM(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(
        ConfigurationError, match="hiden_dropout_prob is not a field: did you mean 'hidden_dropout_prob'"
    ):
        cls.from_pretrained(tmp_path, hiden_dropout_prob=0.3)
    model = cls.from_pretrained(tmp_path, hidden_dropout_prob=0.3, dtype=torch.float32, low_cpu_mem_usage=True)
    assert model.config.hidden_dropout_prob == 0.3


FOREIGN = {
    "hiden_size": 3,
    "auto_map": {"AutoConfig": "configuration_other.OtherConfig"},
    "torch_dtype": "float32",
    "transformers_version": "4.28.0",
    "tokenizer_class": "XLMRobertaTokenizer",
    "num_beams": 4,
    "max_length": 20,
    "gradient_checkpointing": False,
    "position_biased_input": True,
    "a_field_of_the_future": {"deep": [1, 2]},
    "id2label": {"0": "calm", "1": "glad", "2": "sad"},
}


def test_unknown_fields_of_files_load_and_stay(tmp_path: Path) -> None:
    register()
    tiny_config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text()) | FOREIGN
    path.write_text(json.dumps(fields))
    loaded = [
        XmodConfig.from_pretrained(tmp_path),
        AutoConfig.from_pretrained(tmp_path),
        XmodConfig.from_json_file(path),
        XmodConfig.from_dict(fields),
        XmodConfig.from_dict({name: value for name, value in fields.items() if name != "model_type"}),
        XmodConfig(**fields),
    ]
    for config in loaded:
        assert (config.hidden_size, config.num_labels, config.id2label[2]) == (32, 3, "sad")
        assert config.a_field_of_the_future == {"deep": [1, 2]}
        assert config.hiden_size == 3
        for again in (
            copy.copy(config),
            copy.deepcopy(config),
            pickle.loads(pickle.dumps(config)),
            XmodConfig(**config.to_dict()),
            XmodConfig.from_dict(config.to_dict()),
            XmodConfig.from_dict(config.to_diff_dict()),
        ):
            ignored = {"_name_or_path": ""}  # transformers leaves it out of the short form
            assert again.to_dict() | ignored == config.to_dict() | ignored
    config = loaded[0]
    config.a_note = "set on the object"  # as Trainer, PEFT and others do
    config.save_pretrained(tmp_path / "again")
    assert XmodConfig.from_pretrained(tmp_path / "again").a_note == "set on the object"
    _, unused = XmodConfig.from_pretrained(tmp_path, foo=False, hidden_size=64, return_unused_kwargs=True)
    assert unused == {"foo": False}


def test_a_released_file_of_version_4_loads() -> None:
    """The config.json of facebook/xmod-base, but for its languages, with all fields as they stand there."""
    fields = {
        "_name_or_path": "xmod-base",
        "adapter_layer_norm": False,
        "adapter_reduction_factor": 2,
        "adapter_reuse_layer_norm": True,
        "architectures": ["XmodForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "classifier_dropout": None,
        "default_language": None,
        "eos_token_id": 2,
        "languages": ["en_XX", "id_ID"],
        "ln_before_adapter": True,
        "max_position_embeddings": 514,
        "model_type": "xmod",
        "output_past": True,
        "pre_norm": False,
        "sep_token_id": 2,
        "torch_dtype": "float32",
        "transformers_version": "4.28.0.dev0",
        "type_vocab_size": 1,
        "use_cache": True,
        "vocab_size": 250002,
    }
    config = XmodConfig.from_dict(fields)
    assert config.output_past is True
    assert (config.vocab_size, config.dtype) == (250002, torch.float32)


def test_every_keyword_of_the_peer_is_taken() -> None:
    fields = {name: value for name, value in PeerConfig().to_dict().items() if name not in ("model_type",)}
    assert XmodConfig(**fields).to_dict().keys() >= fields.keys()
    more = {"num_labels": 3, "name_or_path": "x", "torch_dtype": "float32", "attn_implementation": "eager"}
    assert XmodConfig(**more, output_attentions=True).num_labels == 3
