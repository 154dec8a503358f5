"""The life of a language on a model: add, remove, rename, keep; vocabularies of their own."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from torch import Tensor

import xmodular
from tests.support import assert_round_trip, assert_same_state, ragged_batch, tiny_config, tiny_model
from xmodular import XmodConfig, XmodForCausalLM, XmodForMaskedLM, XmodForSequenceClassification, XmodModel
from xmodular.errors import ConfigurationError, InputError, LanguageError, PackError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.adapters import Adapters

CLASSES = [name for name in xmodular.__all__ if name.startswith("XmodFor") or name == "XmodModel"]
CODES = ("de_DE", "en_XX", "fr_XX", "sw_KE")
ROWS = 40


def model_of(cls: type[XmodPreTrainedModel] = XmodForMaskedLM, **over: Any) -> Any:
    return tiny_model(cls, languages=CODES, default_language="sw_KE", **over)


def snapshot(model: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, copy.deepcopy(model.config.to_dict())


def adapter(model: Any, language: str) -> dict[str, Tensor]:
    """A language's weights, by names without the language."""
    return {
        name.replace(f".{language}.", "."): tensor.clone()
        for name, tensor in model.state_dict().items()
        if f".adapter_modules.{language}." in name
    }


def others(model: Any, *languages: str) -> dict[str, Tensor]:
    """All weights but those of some languages."""
    return {
        name: tensor.clone()
        for name, tensor in model.state_dict().items()
        if not any(f".{language}." in name for language in languages)
    }


def logits(model: Any, language: str, **more: Any) -> Tensor:
    batch = ragged_batch(num_languages=1)
    batch["lang_ids"] = model.lang_ids([language] * 4)
    with torch.no_grad():
        answer = model(**batch)
    return answer.logits if hasattr(answer, "logits") else answer.last_hidden_state


@pytest.mark.parametrize("name", CLASSES)
def test_every_operation_leaves_the_rest_and_survives_the_file(name: str, tmp_path: Path) -> None:
    model = model_of(getattr(xmodular, name))
    pointers = {key: parameter.data_ptr() for key, parameter in model.named_parameters()}
    before = others(model)

    model.add_language("gsw", init_from="German")
    assert model.languages == (*CODES, "gsw")
    assert_same_state(others(model, "gsw"), before)
    assert_same_state(adapter(model, "gsw"), adapter(model, "de_DE"))

    model.rename_language("gsw", "gsw_CH")
    assert model.languages == (*CODES, "gsw_CH")
    assert_same_state(adapter(model, "gsw_CH"), adapter(model, "de_DE"))

    model.remove_language("fr")
    assert model.languages == ("de_DE", "en_XX", "sw_KE", "gsw_CH")
    assert_same_state(others(model, "gsw_CH"), {key: value for key, value in before.items() if ".fr_XX." not in key})
    assert model.config.default_language == "sw_KE"
    assert_round_trip(model, tmp_path / "kept")

    model.keep_languages(["sw", "de"])
    assert model.languages == ("sw_KE", "de_DE")
    assert [list(layer) for layer in _layers(model)] == [["sw_KE", "de_DE"]] * model.config.num_hidden_layers
    # Nothing else was copied or moved on the way.
    left = dict(model.named_parameters())
    assert left
    assert all(pointers[key] == parameter.data_ptr() for key, parameter in left.items())
    assert_round_trip(model, tmp_path / "few")
    if hasattr(model, "lm_head"):
        assert model.lm_head.decoder.weight is model.get_input_embeddings().weight


def _layers(model: Any) -> list[Any]:
    return [layer.output.adapter_modules for layer in model.base_model.encoder.layer]


def test_outputs_follow_the_language_not_its_id() -> None:
    model = model_of()
    expected = {code: logits(model, code) for code in CODES}
    model.keep_languages(["sw_KE", "fr_XX", "de_DE"])
    model.rename_language("fr_XX", "fr_CA")
    for code, name in (("sw_KE", "sw"), ("fr_XX", "fr_CA"), ("de_DE", "German")):
        torch.testing.assert_close(logits(model, name), expected[code], atol=0, rtol=0)


def test_a_copy_is_not_tied_to_its_donor() -> None:
    model = model_of()
    model.add_language("gsw", "de_DE")
    kept = adapter(model, "de_DE")
    with torch.no_grad():
        for parameter in _layers(model)[0]["gsw"].parameters():
            parameter.add_(1)
    assert_same_state(adapter(model, "de_DE"), kept)


def test_averages_and_weights() -> None:
    model = model_of()
    donors = {code: adapter(model, code) for code in CODES}
    model.add_language("avg", ["de", "fr", "sw"])
    model.add_language("mix", {"de": 3, "fr": 1, "sw": 0})
    model.add_language("one", {"de": 0, "fr": 0.3})
    for name, tensor in adapter(model, "avg").items():
        mean = torch.stack([donors[code][name] for code in ("de_DE", "fr_XX", "sw_KE")]).double().mean(0)
        torch.testing.assert_close(tensor.double(), mean, atol=1e-7, rtol=0)
    for name, tensor in adapter(model, "mix").items():
        torch.testing.assert_close(tensor, 0.75 * donors["de_DE"][name] + 0.25 * donors["fr_XX"][name])
    assert_same_state(adapter(model, "one"), donors["fr_XX"])
    for code in CODES:
        assert_same_state(adapter(model, code), donors[code])


def test_random_weights_follow_the_initializer_range() -> None:
    model = XmodModel(tiny_config(hidden_size=64, initializer_range=0.05, languages=CODES))
    model.add_language("gsw")
    weights = torch.cat([layer["gsw"].dense1.weight.flatten() for layer in _layers(model)])
    assert weights.std().item() == pytest.approx(0.05, rel=0.1)
    assert not any(layer["gsw"].dense2.bias.any() for layer in _layers(model))
    assert not torch.equal(_layers(model)[0]["gsw"].dense1.weight, _layers(model)[1]["gsw"].dense1.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_new_language_is_like_its_neighbours(dtype: torch.dtype) -> None:
    model = model_of().to(dtype)
    model.freeze_embeddings_and_language_adapters()
    model.add_language("gsw", ["de", "fr"])
    parameters = [parameter for layer in _layers(model) for parameter in layer["gsw"].parameters()]
    assert {parameter.dtype for parameter in parameters} == {dtype}
    assert all(parameter.requires_grad for parameter in parameters)
    assert not any(module.training for module in model.modules())


def test_only_the_new_language_trains() -> None:
    model = model_of().train()
    model.add_language("gsw", "de")
    model.set_trainable("adapters", languages=["gsw"])
    before = others(model, "gsw")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    batch = ragged_batch(num_languages=1)
    batch["lang_ids"] = model.lang_ids(["gsw", "de", "gsw", "sw"])
    model(**batch, labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)).loss.backward()
    optimizer.step()
    assert_same_state(others(model, "gsw"), before)
    assert not torch.equal(_layers(model)[0]["gsw"].dense1.weight, _layers(model)[0]["de_DE"].dense1.weight)


@pytest.mark.parametrize(
    ("operation", "error", "parts"),
    [
        (lambda m: m.add_language("de_DE"), LanguageError, ["already", "de_DE"]),
        (lambda m: m.add_language("../x"), LanguageError, ["'../x'", "de_DE"]),
        (lambda m: m.add_language("pop"), LanguageError, ["'pop'", "another part"]),
        (lambda m: m.add_language("German"), LanguageError, ["already has the language de_DE", "'German'"]),
        (lambda m: m.add_language("DE-de"), LanguageError, ["already has the language de_DE"]),
        (lambda m: m.add_language("gsw", 5), LanguageError, ["init_from is 5"]),
        (lambda m: m.lang_ids(None), LanguageError, ["languages is None"]),
        (lambda m: m.keep_languages(5), LanguageError, ["languages is 5"]),
        (lambda m: m.rename_language("sw", "English"), LanguageError, ["already has the language en_XX"]),
        (lambda m: m.add_language("gsw", "klingon"), LanguageError, ["klingon", "sw_KE"]),
        (lambda m: m.add_language("gsw", []), LanguageError, ["names no language"]),
        (lambda m: m.add_language("gsw", ["de", "German"]), LanguageError, ["de_DE twice"]),
        (lambda m: m.add_language("gsw", {"de": -1}), InputError, ["'de'", "-1"]),
        (lambda m: m.add_language("gsw", {"de": float("nan")}), InputError, ["nan"]),
        (lambda m: m.add_language("gsw", {"de": 0}), InputError, ["sum to 0"]),
        (lambda m: m.remove_language("es"), LanguageError, ["'es'", "sw_KE"]),
        (lambda m: m.rename_language("sw", "de_DE"), LanguageError, ["already"]),
        (lambda m: m.rename_language("sw", "a.b"), LanguageError, ["a.b"]),
        (lambda m: m.keep_languages([]), LanguageError, ["no language"]),
        (lambda m: m.keep_languages(["de", "deu"]), LanguageError, ["twice"]),
        (lambda m: m.keep_languages("de"), LanguageError, ["list"]),
    ],
)
def test_refusals_change_nothing(operation: Any, error: type[Exception], parts: list[str]) -> None:
    model = model_of()
    state, config = snapshot(model)
    with pytest.raises(error) as caught:
        operation(model)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert_same_state(model.state_dict(), state)
    assert model.config.to_dict() == config


RESERVED = sorted({name for kind in (torch.nn.ModuleDict(), torch.nn.ParameterDict()) for name in dir(kind)})


@pytest.mark.parametrize(
    "code", [*(name for name in RESERVED if name[0] != "_"), "encoder", "embeddings", "Encoder", "lm_head", "Task-head"]
)
def test_names_of_other_things_are_no_codes(code: str) -> None:
    model = model_of()
    with pytest.raises(LanguageError, match=f"{code}"):
        model.add_language(code)
    with pytest.raises(ConfigurationError, match=f"{code}"):
        XmodConfig(languages=[code])
    assert model.languages == CODES


def test_methods_of_adapters_leave_codes_free() -> None:
    model = model_of()
    own = {name for name in vars(Adapters) if name[0] != "_"} - {"forward"}
    assert not own
    for code in ("in_order", "sources", "segments"):
        model.add_language(code)
    model(torch.tensor([[0, 5, 2]]), lang_ids=model.lang_ids(["sources"]))


def test_ids_of_no_name() -> None:
    assert model_of().lang_ids([]).dtype == torch.int64


def test_a_part_of_a_model_keeps_what_the_configuration_holds(tmp_path: Path) -> None:
    def bent(states: Tensor) -> Tensor:
        return torch.nn.functional.gelu(states)

    model_of().save_pretrained(tmp_path)
    config = XmodConfig.from_pretrained(tmp_path)
    config.hidden_act = bent
    part = XmodForMaskedLM.from_pretrained(tmp_path, languages=["sw"], config=config)
    assert part.config.hidden_act is bent
    assert part.languages == ("sw_KE",)
    assert tuple(config.languages) == CODES


def test_the_last_language_stays() -> None:
    model = model_of()
    model.keep_languages(["sw"])
    with pytest.raises(LanguageError, match="only language"):
        model.remove_language("sw")


def test_the_default_language_follows(caplog: pytest.LogCaptureFixture) -> None:
    model = model_of()
    model.config.task_language = "de_DE"
    model.rename_language("sw", "swh")
    model.rename_language("de", "de_AT")
    assert (model.config.default_language, model.config.task_language) == ("swh", "de_AT")
    model.remove_language("swh")
    assert model.config.default_language is None
    assert "swh was the default language" in caplog.text
    with pytest.raises(LanguageError, match="set_default_language"):
        model(torch.tensor([[0, 5, 2]]))


def test_language_as_a_context() -> None:
    model = model_of()
    batch = ragged_batch(num_languages=1)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        with model.language("German") as same:
            assert same is model
            torch.testing.assert_close(model(**inputs).logits, logits(model, "de_DE"), atol=0, rtol=0)
            with pytest.raises(RuntimeError), model.language("fr"):
                raise RuntimeError
            assert model.config.default_language == "de_DE"
        assert model.config.default_language == "sw_KE"
        with pytest.raises(LanguageError), model.language("es"):
            pass
    assert model.config.default_language == "sw_KE"


def test_a_context_puts_back_what_is_still_there(tmp_path: Path) -> None:
    model = model_of()
    with model.language("de"):
        model.rename_language("sw", "sw_TZ")
    assert model.config.default_language == "sw_TZ"
    with model.language("de"), model.language("fr"):
        model.remove_language("sw_TZ")
        model.remove_language("de")
    assert model.config.default_language is None
    assert_round_trip(model, tmp_path)


def test_relatives_stand_in_where_asked(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    model = model_of()
    with pytest.raises(LanguageError):
        model.lang_ids(["gsw"])
    assert model.lang_ids(["gsw", "sw"], fallback="relative").tolist() == [0, 3]
    assert "gsw" in caplog.text
    assert "de_DE" in caplog.text
    caplog.clear()
    with model.language("gsw", fallback="relative"):
        assert model.config.default_language == "de_DE"
    assert "de_DE" in caplog.text
    model.save_pretrained(tmp_path)
    part = XmodForMaskedLM.from_pretrained(tmp_path, languages=["gsw", "en"], fallback="relative")
    assert part.languages == ("de_DE", "en_XX")


# Vocabularies of their own.


def tokenizer_text(rows: int = ROWS) -> str:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *(f"▁w{number}" for number in range(rows - 5)), "<mask>"]
    return Tokenizer(Unigram([(piece, 0.0) for piece in pieces], unk_id=3, byte_fallback=False)).to_str()


def with_vocabulary(cls: type[XmodPreTrainedModel] = XmodForMaskedLM, **over: Any) -> Any:
    model = model_of(cls, **over)
    torch.manual_seed(7)
    model.set_vocabulary("sw", tokenizer_text(), torch.randn(ROWS, model.config.hidden_size), torch.randn(ROWS))
    return model


def swapped(model: Any) -> Any:
    """The same model with the Swahili vocabulary as its only one: what it must compute."""
    plain = type(model)(XmodConfig(**{**model.config.to_dict(), "vocabularies": {}, "vocab_size": ROWS}))
    state = {key: value for key, value in model.state_dict().items() if ".language_" not in key}
    words, bias = model.roberta.embeddings.words("sw_KE").weight, None
    state["roberta.embeddings.word_embeddings.weight"] = words
    if hasattr(model, "lm_head"):
        bias = model.lm_head.language_bias["sw_KE"]
        state |= {"lm_head.decoder.weight": words, "lm_head.decoder.bias": bias, "lm_head.bias": bias}
    plain.load_state_dict(state)
    plain.set_attn_implementation("eager")
    return plain.eval()


@pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForCausalLM, XmodForSequenceClassification])
def test_a_language_with_its_own_vocabulary_reads_and_writes_it(cls: type[XmodPreTrainedModel]) -> None:
    model = with_vocabulary(cls)
    plain = swapped(model)
    batch = ragged_batch(num_languages=1, vocab_size=ROWS)
    batch["lang_ids"] = model.lang_ids(["sw"] * 4)
    with torch.no_grad():
        mine, expected = model(**batch).logits, plain(**batch).logits
    torch.testing.assert_close(mine, expected, atol=1e-6, rtol=0)
    # The others still have the shared one.
    assert logits(model, "de_DE").shape[-1] == (99 if cls is not XmodForSequenceClassification else mine.shape[-1])


@pytest.mark.parametrize("sparse", [True, False])
def test_training_with_its_own_vocabulary(sparse: bool) -> None:
    model = with_vocabulary(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    plain = swapped(model).train()
    batch = ragged_batch(num_languages=1, vocab_size=ROWS)
    batch["lang_ids"] = model.lang_ids(["sw"] * 4)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    mine = model(**batch, labels=labels, sparse_prediction=sparse).loss
    theirs = plain(**batch, labels=labels, sparse_prediction=sparse).loss
    torch.testing.assert_close(mine, theirs)
    mine.backward()
    theirs.backward()
    own, other = model.roberta.embeddings.words("sw_KE").weight.grad, plain.get_input_embeddings().weight.grad
    torch.testing.assert_close(own, other, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.lm_head.language_bias["sw_KE"].grad, plain.lm_head.bias.grad, atol=1e-5, rtol=0)
    assert model.get_input_embeddings().weight.grad is None
    assert model.lm_head.bias.grad is None


def test_mixed_vocabularies_are_refused() -> None:
    model = with_vocabulary()
    batch = ragged_batch(num_languages=1, vocab_size=ROWS)
    for names in (["sw", "de", "sw", "sw"],):
        batch["lang_ids"] = model.lang_ids(names)
        with pytest.raises(InputError, match="mixes vocabularies: sw_KE has its own"):
            model(**batch)
    switching = torch.zeros_like(batch["input_ids"]) + 3
    switching[0, 1] = 0
    with pytest.raises(InputError, match="mixes vocabularies"):
        model(**{**batch, "lang_ids": switching})
    # What stands at padding does not count.
    switching[0, 1] = 3
    model(**{**batch, "lang_ids": switching.masked_fill(batch["attention_mask"] == 0, 0)})
    with pytest.raises(InputError, match="vocabulary of sw_KE"):
        model(torch.tensor([[0, ROWS, 2]]), lang_ids=model.lang_ids(["sw"]))
    with pytest.raises(InputError, match=f"0 to {ROWS - 1}"):
        model(torch.tensor([[0, 5, 2]]), lang_ids=model.lang_ids(["sw"]), labels=torch.tensor([[0, ROWS, 2]]))
    with model.language("sw"):
        assert model(torch.tensor([[0, 5, 2]])).logits.shape[-1] == ROWS


def test_vocabularies_live_with_their_language(tmp_path: Path) -> None:
    model = with_vocabulary()
    expected = logits_of_sw(model)
    again = assert_round_trip(model, tmp_path / "all")
    assert again.roberta.embeddings.tokenizers == model.roberta.embeddings.tokenizers
    assert json.loads((tmp_path / "all" / "config.json").read_text())["vocabularies"] == {"sw_KE": ROWS}
    torch.testing.assert_close(logits_of_sw(again), expected, atol=0, rtol=0)

    part = XmodForMaskedLM.from_pretrained(tmp_path / "all", languages=["de"])
    assert part.config.vocabularies == {}
    assert not any("language_" in name for name in part.state_dict())

    model.rename_language("sw", "swh")
    torch.testing.assert_close(logits_of_sw(model, "swh"), expected, atol=0, rtol=0)
    assert_round_trip(model, tmp_path / "renamed")
    model.remove_language("swh")
    assert model.config.vocabularies == {}
    assert not model.roberta.embeddings.tokenizers
    assert not any("language_" in name for name in model.state_dict())


def logits_of_sw(model: Any, name: str = "sw") -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([[0, 5, 9, 2]]), lang_ids=model.lang_ids([name])).logits


@pytest.mark.parametrize(
    ("tokenizer", "words", "bias", "part"),
    [
        (tokenizer_text(), torch.zeros(ROWS, 5), None, "(40, 5)"),
        (tokenizer_text(), torch.zeros(ROWS - 1, 32), None, "39"),
        (tokenizer_text(), torch.zeros(ROWS, 32), torch.zeros(3), "(3,)"),
        ("{}", torch.zeros(ROWS, 32), None, "not a tokenizer"),
        (tokenizer_text().replace("<pad>", "<nopad>"), torch.zeros(ROWS, 32), None, "<pad>"),
    ],
)
def test_vocabularies_that_do_not_fit(tokenizer: str, words: Tensor, bias: Tensor | None, part: str) -> None:
    model = model_of()
    assert model.config.hidden_size == 32
    state, config = snapshot(model)
    with pytest.raises(InputError) as caught:
        model.set_vocabulary("sw", tokenizer, words, bias)
    assert part in str(caught.value)
    assert_same_state(model.state_dict(), state)
    assert model.config.to_dict() == config


def test_a_copy_of_a_language_reads_its_vocabulary() -> None:
    model = with_vocabulary()
    model.add_language("swc", init_from="sw")
    torch.testing.assert_close(logits_of_sw(model, "swc"), logits_of_sw(model), atol=0, rtol=0)
    with torch.no_grad():
        model.roberta.embeddings.words("swc").weight.zero_()
    assert model.roberta.embeddings.words("sw_KE").weight.any()
    with pytest.raises(InputError, match="its own vocabulary"):
        model.add_language("mix", init_from=["sw_KE", "de"])
    assert "mix" not in model.languages


def test_uploads_come_with_tokenizers_and_all_that_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_vocabulary()
    seen = {}

    def push(repository: str, **options: Any) -> None:
        seen.update(options, repository=repository, files={path.name for path in (tmp_path / "m").iterdir()})

    monkeypatch.setattr(model, "push_to_hub", push)
    asked = {"private": True, "create_pr": True, "revision": "dev", "token": "T"}
    model.save_pretrained(tmp_path / "m", True, None, True, repo_id="me/x", **asked)
    assert {name: seen[name] for name in asked} == asked
    assert seen["repository"] == "me/x"
    assert {"config.json", "tokenizer.sw_KE.json"} <= seen["files"]


def test_a_tokenizer_goes_with_its_language(tmp_path: Path) -> None:
    model = with_vocabulary()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.sw_KE.json").is_file()
    model.remove_language("sw")
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.sw_KE.json").exists()


def test_a_vocabulary_needs_its_language() -> None:
    with pytest.raises(ConfigurationError, match="vocabularies has 'sw_KE'"):
        XmodConfig(languages=["de_DE"], vocabularies={"sw_KE": 9})
    with pytest.raises(ConfigurationError, match="positive integer"):
        XmodConfig(languages=["de_DE"], vocabularies={"de_DE": 0})


# Packs.


def finetuned_from(model: Any, cls: type[XmodPreTrainedModel] = XmodForSequenceClassification) -> Any:
    """A task model of the same base, without Swahili, whose shared layers have moved."""
    config = XmodConfig(**{**model.config.to_dict(), "num_labels": 3})
    task = cls(config)
    task.load_state_dict(model.state_dict(), strict=False)
    task.keep_languages(["en", "de", "fr"])
    task.set_trainable("shared")
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    return task.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_pack_goes_into_a_finetuned_model_byte_for_byte(dtype: torch.dtype, tmp_path: Path) -> None:
    model = model_of().to(dtype)
    pack = model.save_language("Swahili", tmp_path / "sw", licence="cc-by-4.0", note="made up")
    task = finetuned_from(model).to(dtype)
    before = others(task)
    assert task.load_language(tmp_path / "sw", language="swh") == "swh"
    assert task.languages == ("en_XX", "de_DE", "fr_XX", "swh")
    assert_same_state(adapter(task, "swh"), adapter(model, "sw_KE"))
    assert_same_state(others(task, "swh"), before)
    again = task.save_language("swh", tmp_path / "again")
    assert again.files["adapter.safetensors"] == pack.files["adapter.safetensors"]
    assert_round_trip(task, tmp_path / "task")


def test_a_pack_of_a_single_precision_model_fits_it_in_16_bits(tmp_path: Path) -> None:
    model = model_of()
    model.save_language("sw", tmp_path / "sw")
    for dtype in (torch.bfloat16, torch.float16):
        small = copy.deepcopy(model).to(dtype)
        small.remove_language("sw")
        small.load_language(tmp_path / "sw")
        expected = {name: tensor.to(dtype) for name, tensor in adapter(model, "sw_KE").items()}
        assert_same_state(adapter(small, "sw_KE"), expected)


def test_a_pack_for_another_base_is_refused_with_every_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model_of().save_language("sw", tmp_path / "sw")
    wide = tiny_model(XmodForMaskedLM, languages=["de_DE"], hidden_size=16, num_hidden_layers=1, hidden_act="relu")
    state, config = snapshot(wide)
    with pytest.raises(PackError) as caught:
        wide.load_language(tmp_path / "sw", force=True)
    for part in ("hidden_size", "num_hidden_layers", "hidden_act", "position embeddings", "word embeddings"):
        assert part in str(caught.value)
    assert_same_state(wide.state_dict(), state)
    assert wide.config.to_dict() == config

    other = tiny_model(XmodForMaskedLM, languages=["de_DE"], seed=5)
    with pytest.raises(PackError, match="word embeddings differ"):
        other.load_language(tmp_path / "sw")
    assert other.languages == ("de_DE",)
    other.load_language(tmp_path / "sw", force=True)
    assert other.languages == ("de_DE", "sw_KE")
    assert "installed although" in caplog.text


def test_a_language_that_is_there_is_replaced_only_if_asked(tmp_path: Path) -> None:
    model = model_of()
    model.save_language("sw", tmp_path / "sw")
    state, _ = snapshot(model)
    with torch.no_grad():
        _layers(model)[0]["sw_KE"].dense1.weight.add_(1)
    with pytest.raises(LanguageError, match="already"):
        model.load_language(tmp_path / "sw")
    model.load_language(tmp_path / "sw", overwrite=True)
    assert model.languages == CODES
    assert_same_state(model.state_dict(), state)


def test_a_language_is_replaced_under_any_of_its_names(tmp_path: Path) -> None:
    model = model_of()
    model.save_language("de", tmp_path / "de")
    for name in ("German", "deu"):
        with pytest.raises(LanguageError, match="already has the language de_DE"):
            model.load_language(tmp_path / "de", language=name)
        assert model.load_language(tmp_path / "de", language=name, overwrite=True) == "de_DE"
    assert model.languages == CODES


def test_values_too_large_for_the_model_are_refused(tmp_path: Path) -> None:
    model = model_of()
    with torch.no_grad():
        _layers(model)[1]["sw_KE"].dense2.bias[3] = 1e6
    model.save_language("sw", tmp_path / "sw")
    small = model_of()
    small.remove_language("sw")
    small.half()
    state, config = snapshot(small)
    with pytest.raises(InputError, match="too large for float16"):
        small.load_language(tmp_path / "sw", force=True)
    assert_same_state(small.state_dict(), state)
    assert small.config.to_dict() == config
    bias = torch.zeros(ROWS)
    bias[5] = 1e6
    model.set_vocabulary("de", tokenizer_text(), torch.zeros(ROWS, 32), bias)
    model.save_language("de", tmp_path / "de")
    with pytest.raises(InputError, match="too large for float16"):
        small.load_language(tmp_path / "de", language="nds", force=True)
    assert_same_state(small.state_dict(), state)
    assert small.config.to_dict() == config
    with pytest.raises(InputError, match="too large for float16"):
        small.set_vocabulary("de", tokenizer_text(), torch.full((ROWS, 32), 1e6))
    assert small.config.vocabularies == {}


def test_added_tokens_do_not_matter(tmp_path: Path) -> None:
    model = model_of()
    model.save_language("sw", tmp_path / "sw")
    model.remove_language("sw")
    model.resize_token_embeddings(model.config.vocab_size + 3)
    model.load_language(tmp_path / "sw")
    assert model.languages[-1] == "sw_KE"


@pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForSequenceClassification, XmodModel])
def test_a_pack_with_its_own_vocabulary(cls: type[XmodPreTrainedModel], tmp_path: Path) -> None:
    model = with_vocabulary()
    expected = logits_of_sw(model)
    pack = model.save_language("sw", tmp_path / "sw")
    assert pack.vocabulary == ROWS
    model_of().save_pretrained(tmp_path / "base")
    target = cls.from_pretrained(tmp_path / "base", attn_implementation="eager").eval()
    # The words that the others share do not matter to it.
    with torch.no_grad():
        target.get_input_embeddings().weight.add_(1)
    target.load_language(tmp_path / "sw", overwrite=True)
    assert target.config.vocabularies == {"sw_KE": ROWS}
    embeddings = target.base_model.embeddings
    assert torch.equal(embeddings.words("sw_KE").weight, model.roberta.embeddings.words("sw_KE").weight)
    assert embeddings.tokenizers == model.roberta.embeddings.tokenizers
    if cls is XmodForMaskedLM:
        target.load_state_dict(others(model, "sw_KE"), strict=False)
        torch.testing.assert_close(logits_of_sw(target), expected, atol=0, rtol=0)
        again = target.save_language("sw", tmp_path / "again")
        assert again.files == pack.files
    # A pack without a vocabulary takes its place.
    target = cls.from_pretrained(tmp_path / "base")
    target.save_language("sw", tmp_path / "plain")
    target.set_vocabulary("sw", tokenizer_text(), torch.zeros(ROWS, 32))
    target.load_language(tmp_path / "plain", overwrite=True)
    assert target.config.vocabularies == {}
    assert not any(".language_" in name for name in target.state_dict())


def test_a_vocabulary_without_its_tokenizer_makes_no_pack(tmp_path: Path) -> None:
    model = with_vocabulary()
    model.roberta.embeddings.tokenizers.clear()
    with pytest.raises(PackError, match="tokenizer of sw_KE"):
        model.save_language("sw", tmp_path / "sw")
    assert not (tmp_path / "sw").exists()
