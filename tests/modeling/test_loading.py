"""Loading and saving: old and new layouts, shards, other heads, and only some of the languages."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    modeling_utils,
)
from transformers.models import xmod as peer

import xmodular
from tests.support import (
    BASE_FLAGS,
    LARGE_FLAGS,
    assert_round_trip,
    assert_same_outputs,
    assert_same_state,
    ragged_batch,
    tiny_config,
    tiny_model,
    tiny_peer,
)
from xmodular import XmodConfig, XmodForMaskedLM, XmodForSequenceClassification, XmodModel, XmodPreTrainedModel
from xmodular.errors import LanguageError, XmodularError

CLASSES = [
    "XmodModel",
    "XmodForMaskedLM",
    "XmodForCausalLM",
    "XmodForSequenceClassification",
    "XmodForTokenClassification",
    "XmodForMultipleChoice",
    "XmodForQuestionAnswering",
]
TIED = ("lm_head.decoder.weight", "lm_head.decoder.bias")


@pytest.mark.parametrize("name", CLASSES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    assert_round_trip(tiny_model(getattr(xmodular, name), default_language="de_DE", **LARGE_FLAGS), tmp_path)


def stored(tmp_path: Path, **over: Any) -> tuple[Any, dict[str, Tensor]]:
    """A masked LM of the peer's, its configuration on disk, and all its tensors as an old library would name them."""
    model = tiny_peer("XmodForMaskedLM", **over)
    model.config.save_pretrained(tmp_path)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return model, state


def loads_clean(path: Path, expected: Any) -> None:
    """Loads with nothing missing, nothing unexpected, and the outputs of `expected`."""
    ours, report = XmodForMaskedLM.from_pretrained(path, output_loading_info=True)
    assert {kind: list(found) for kind, found in report.items() if found} == {}
    batch = ragged_batch()
    assert_same_outputs(ours.eval()(**batch), expected(**batch), batch["attention_mask"], fields=("logits",))
    words = ours.roberta.embeddings.word_embeddings.weight
    assert ours.lm_head.decoder.weight is words
    assert ours.lm_head.decoder.bias is ours.lm_head.bias


@pytest.mark.parametrize("missing", [(), TIED, TIED[:1], TIED[1:]], ids=["all", "no-tied", "no-weight", "no-bias"])
@pytest.mark.parametrize("position_ids", [False, True], ids=["", "position-ids"])
def test_old_pickled_files(missing: tuple[str, ...], position_ids: bool, tmp_path: Path) -> None:
    model, state = stored(tmp_path)
    for name in missing:
        del state[name]
    if position_ids:
        state["roberta.embeddings.position_ids"] = torch.arange(40)[None]
    torch.save(state, tmp_path / "pytorch_model.bin")
    loads_clean(tmp_path, model)


def test_old_shards_of_pickled_files(tmp_path: Path) -> None:
    model, state = stored(tmp_path)
    names = sorted(state)
    places = {}
    for index, part in enumerate((names[:20], names[20:]), start=1):
        file = f"pytorch_model-{index:05}-of-00002.bin"
        torch.save({name: state[name] for name in part}, tmp_path / file)
        places |= dict.fromkeys(part, file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    loads_clean(tmp_path, model)


class _Trap:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    _, state = stored(tmp_path)
    trap = tmp_path / "sprung"
    torch.save(state | {"trap": _Trap(trap)}, tmp_path / "pytorch_model.bin")
    with pytest.raises((pickle.UnpicklingError, OSError, ValueError, RuntimeError)):
        XmodForMaskedLM.from_pretrained(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
def test_shards_both_ways(flags: dict[str, Any], tmp_path: Path) -> None:
    ours = tiny_model(XmodForMaskedLM, **flags)
    ours.save_pretrained(tmp_path / "ours", max_shard_size="20KB")
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 2
    theirs = peer.XmodForMaskedLM.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    again = XmodForMaskedLM.from_pretrained(tmp_path / "theirs")
    assert_same_state(again.state_dict(), ours.state_dict())


def test_names_on_disk_are_the_peers(tmp_path: Path) -> None:
    ours = tiny_model(XmodForMaskedLM)
    ours.save_pretrained(tmp_path / "ours")
    peer.XmodForMaskedLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert_same_state(a, b)


@pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
@pytest.mark.parametrize("name", CLASSES)
def test_the_peers_files_come_back_byte_for_byte(name: str, flags: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_peer(name, **flags)
    theirs.save_pretrained(tmp_path / "theirs")
    getattr(xmodular, name).from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    a, b = ((tmp_path / side / "model.safetensors").read_bytes() for side in ("theirs", "ours"))
    assert a == b


def test_the_bare_model_and_the_heads_read_each_other(tmp_path: Path) -> None:
    """A base model's names have no prefix; with a head they have one. Only the head is new."""
    bare = tiny_model(XmodModel)
    bare.save_pretrained(tmp_path / "bare")
    headed, report = XmodForSequenceClassification.from_pretrained(
        tmp_path / "bare", num_labels=3, output_loading_info=True
    )
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"classifier"}
    shared = {name: tensor for name, tensor in bare.state_dict().items() if not name.startswith("pooler")}
    assert_same_state({k: v for k, v in headed.roberta.state_dict().items() if k in shared}, shared)
    headed.save_pretrained(tmp_path / "headed")
    again = XmodModel.from_pretrained(tmp_path / "headed", add_pooling_layer=False)
    assert_same_state(again.state_dict(), headed.roberta.state_dict())


def test_a_checkpoint_in_another_precision(tmp_path: Path) -> None:
    tiny_model(XmodForMaskedLM, "sdpa").save_pretrained(tmp_path)
    model = XmodForMaskedLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    batch = ragged_batch(languages="tokens")
    logits = model(**batch).logits
    assert logits.dtype == torch.bfloat16
    exact = XmodForMaskedLM.from_pretrained(tmp_path).eval()(**batch).logits
    real = batch["attention_mask"].bool()
    assert (logits[real].float() - exact[real]).abs().mean() < 0.1 * exact[real].abs().mean()


def test_new_weights_follow_the_initializer_range() -> None:
    model = XmodForMaskedLM(tiny_config(vocab_size=500, hidden_size=160, initializer_range=0.05))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name.lower():
            assert (parameter == 1).all(), name
        elif parameter.numel() > 10_000:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.05), name
    words = model.roberta.embeddings.word_embeddings.weight
    assert not words[1].any()
    assert model.lm_head.decoder.weight is words


@pytest.fixture
def tensors_read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the tensors whose data was asked for while loading."""
    names: set[str] = set()

    class Recorder:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._file = safe_open(*args, **kwargs)

        def __enter__(self) -> "Recorder":
            self._file.__enter__()
            return self

        def __exit__(self, *args: Any) -> None:
            self._file.__exit__(*args)

        def get_tensor(self, name: str) -> Tensor:
            names.add(name)
            return self._file.get_tensor(name)

        def get_slice(self, name: str) -> Any:
            return _Slice(self._file.get_slice(name), name)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    class _Slice:
        """The header of a tensor may be looked at; taking numbers out of it is reading."""

        def __init__(self, part: Any, name: str) -> None:
            self._part, self._name = part, name

        def __getitem__(self, index: Any) -> Tensor:
            names.add(self._name)
            return self._part[index]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._part, name)

    monkeypatch.setattr(modeling_utils, "safe_open", Recorder)
    return names


def test_only_the_languages_asked_for_are_read(tmp_path: Path, tensors_read: set[str]) -> None:
    whole = tiny_model(XmodForMaskedLM)
    whole.save_pretrained(tmp_path)
    part, report = XmodForMaskedLM.from_pretrained(tmp_path, languages=["sw_KE", "en_XX"], output_loading_info=True)
    assert {kind: list(found) for kind, found in report.items() if found} == {}
    assert part.languages == ("sw_KE", "en_XX")
    assert list(part.config.languages) == ["sw_KE", "en_XX"]
    assert list(part.roberta.encoder.layer[0].output.adapter_modules) == ["sw_KE", "en_XX"]
    assert any(".sw_KE." in name for name in tensors_read), "the recorder saw nothing"
    assert not [name for name in tensors_read if ".de_DE." in name]

    part.save_pretrained(tmp_path / "alone")
    assert tensors_read == set(load_file(tmp_path / "alone" / "model.safetensors"))  # each once, and no other

    batch = ragged_batch()
    names = ["sw_KE", "en_XX", "en_XX", "sw_KE"]
    expected = whole(**batch | {"lang_ids": whole.lang_ids(names)})
    result = part.eval()(**batch | {"lang_ids": part.lang_ids(names)})
    assert_same_outputs(result, expected, batch["attention_mask"])
    assert_round_trip(part, tmp_path / "part")


def test_part_of_the_languages_from_shards_and_with_a_changed_configuration(tmp_path: Path) -> None:
    whole = tiny_model(XmodForMaskedLM, default_language="de_DE")
    whole.save_pretrained(tmp_path, max_shard_size="20KB")
    part = XmodForSequenceClassification.from_pretrained(tmp_path, languages=["German"], num_labels=4)
    assert part.languages == ("de_DE",)
    assert part.config.default_language == "de_DE"
    assert part.classifier.out_proj.out_features == 4
    name = "encoder.layer.1.output.adapter_modules.de_DE.dense2.weight"
    assert torch.equal(part.roberta.get_parameter(name), whole.roberta.get_parameter(name))
    other = XmodForMaskedLM.from_pretrained(tmp_path, languages=["en_XX"])
    assert other.config.default_language == "en_XX"  # the only one


def test_one_language_alone_is_the_default(tmp_path: Path) -> None:
    whole = tiny_model(XmodModel)
    whole.save_pretrained(tmp_path)
    batch = ragged_batch(languages="single")
    del batch["lang_ids"]
    for name in ("sw", "German"):
        part = XmodModel.from_pretrained(tmp_path, languages=[name])
        assert part.config.default_language == part.languages[0]
        expected = whole(**batch, lang_ids=whole.lang_ids(name)).last_hidden_state
        torch.testing.assert_close(part(**batch).last_hidden_state, expected, atol=1e-5, rtol=0)
    with pytest.raises(LanguageError, match="language of the input is unknown"):
        whole(**batch)
    whole.keep_languages(["sw"])  # however it came to have one
    torch.testing.assert_close(
        whole(**batch).last_hidden_state, whole(**batch, lang_ids=torch.tensor([0])).last_hidden_state
    )
    whole.add_language("fi_FI")
    with pytest.raises(LanguageError, match="language of the input is unknown"):
        whole(**batch)


@pytest.mark.parametrize("how", ["folder", "config"])
def test_a_default_language_beside_the_languages_is_taken(how: str, tmp_path: Path) -> None:
    tiny_model(XmodModel, default_language="en_XX").save_pretrained(tmp_path)
    more = {} if how == "folder" else {"config": XmodConfig.from_pretrained(tmp_path)}

    def default(languages: list[str], **given: Any) -> Any:
        return XmodModel.from_pretrained(tmp_path, languages=languages, **more, **given).config.default_language

    assert default(["en", "de"]) == "en_XX"
    assert default(["sw", "de"]) is None
    assert default(["sw", "de"], default_language="German") == "de_DE"
    assert default(["en", "de"], default_language="de_DE") == "de_DE"
    assert default(["en", "de"], default_language=None) is None
    with pytest.raises(LanguageError, match=r"'sw'.*en_XX, de_DE"):
        default(["en", "de"], default_language="sw")


def test_the_auto_classes_look_names_of_languages_up(tmp_path: Path) -> None:
    """They put them into the configuration before the file's are known; new adapters would be random."""
    xmodular.register()
    model = tiny_model(XmodForMaskedLM, default_language="en_XX")
    model.save_pretrained(tmp_path)
    batch = ragged_batch()
    for names, codes in ((["Swahili"], ("sw_KE",)), (["sw", "en"], ("sw_KE", "en_XX"))):
        loaded = AutoModelForMaskedLM.from_pretrained(tmp_path, languages=names, attn_implementation="eager")
        assert loaded.languages == codes
        assert loaded.languages[loaded.default_lang_id()] == codes[-1]
        found = loaded(batch["input_ids"], loaded.lang_ids(["sw"]), batch["attention_mask"]).logits
        expected = model(batch["input_ids"], model.lang_ids(["sw"]), batch["attention_mask"]).logits
        torch.testing.assert_close(found, expected)
    tiny_model(XmodForMaskedLM, vocabularies={"sw_KE": 50}).save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path, languages=["de_DE"])
    assert (loaded.languages, loaded.config.vocabularies) == (("de_DE",), {})
    with pytest.raises(LanguageError, match="Quechua"):
        AutoModelForMaskedLM.from_pretrained(tmp_path, languages=["Quechua"])


def test_languages_that_are_not_there_or_named_twice_are_refused(tmp_path: Path) -> None:
    tiny_model(XmodModel).save_pretrained(tmp_path)
    with pytest.raises(LanguageError, match=r"fi_FI.*en_XX.*de_DE.*sw_KE"):
        XmodModel.from_pretrained(tmp_path, languages=["en_XX", "fi_FI"])
    with pytest.raises(LanguageError, match=r"de_DE.*twice"):
        XmodModel.from_pretrained(tmp_path, languages=["de_DE", "German"])
    with pytest.raises(LanguageError, match="'en_XX'"):
        XmodModel.from_pretrained(tmp_path, languages="en_XX")


def test_an_adapter_that_the_file_lacks_is_reported(tmp_path: Path) -> None:
    """A configuration that promises a language without weights is no silent random language."""
    tiny_model(XmodModel).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(file).items() if ".sw_KE." not in name}
    save_file(state, file, metadata={"format": "pt"})
    _, report = XmodModel.from_pretrained(tmp_path, output_loading_info=True)
    missing = [name for name in report["missing_keys"] if ".adapter_modules.sw_KE." in name]
    assert len(missing) == 2 * 4


ARGUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"languages": ["German", "sw"]},
    {"languages": ["de", "sw"], "default_language": "Swahili"},
    {"languages": ["sw"], "default_language": None},
    {"languages": ["nl"], "fallback": "relative"},
    {"default_language": "German"},
    {"default_language": None},
    {"default_language": "nl", "fallback": "relative"},
    {"layout": "grid", "languages": ["sw"], "attn_implementation": "eager"},
    {"dtype": torch.bfloat16, "classifier_pooling": "mean", "hidden_dropout_prob": 0.3},
    {"num_labels": 5, "ignore_mismatched_sizes": True, "languages": ["de"]},
    {"config": "its own", "languages": ["sw"], "default_language": "sw"},
    # refused
    {"languages": []},
    {"languages": "de"},
    {"languages": ["Quechua"]},
    {"default_language": "Quechua"},
    {"languages": ["de"], "fallback": "nonsense"},
    {"langauges": ["de"]},
    {"layout": "x"},
)


@pytest.mark.parametrize("given", ARGUMENTS, ids=repr)
def test_the_auto_classes_take_every_argument_that_ours_take(given: dict[str, Any], tmp_path: Path) -> None:
    xmodular.register()
    tiny_model(
        XmodForSequenceClassification, num_labels=3, default_language="en_XX", vocabularies={"sw_KE": 50}
    ).save_pretrained(tmp_path)

    def outcome(cls: Any) -> Any:
        torch.manual_seed(0)  # of a new head
        more = {"config": XmodConfig.from_pretrained(tmp_path)} if "config" in given else {}
        try:
            model = cls.from_pretrained(tmp_path, **{**given, **more})
        except XmodularError as error:
            return type(error), str(error)
        return type(model), model.dtype, model.config.to_dict(), model.state_dict()

    ours, auto = outcome(XmodForSequenceClassification), outcome(AutoModelForSequenceClassification)
    assert ours[:3] == auto[:3]
    assert (len(ours) == 2) is (given in ARGUMENTS[12:])
    if len(ours) == 4:
        assert_same_state(ours[3], auto[3])
        assert ours[2]["default_language"] in (None, *ours[2]["languages"])


def test_every_auto_class_that_knows_the_architecture_gives_ours(tmp_path: Path) -> None:
    xmodular.register()
    tiny_model(XmodForMaskedLM).save_pretrained(tmp_path)
    for auto in (AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining):
        assert isinstance(auto.from_pretrained(tmp_path, languages=["de"]), XmodPreTrainedModel)
