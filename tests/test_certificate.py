"""The certificate: after every operation it names what moved, and nothing that moved escapes it."""

from __future__ import annotations

import copy
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodForSequenceClassification, XmodModel, diff
from xmodular.cli import app
from xmodular.comparison import PARTS, Certificate, sides
from xmodular.comparison.compare import compare_tensors
from xmodular.errors import ConfigurationError, DataError, LanguageError, PackError
from xmodular.packs import Pack, read_pack
from xmodular.tasks import load_saved
from xmodular.training import Run
from xmodular.vocabulary import save_tokenizer

from .support import LANGUAGES, tiny_model

# What a masked language model without an adapter LayerNorm has.
ALL = {"embeddings", "encoder", "lm head", *LANGUAGES}


@pytest.fixture
def model() -> Any:
    return tiny_model(XmodForMaskedLM)


def changed_copy(model: Any, change: Callable[[Any], object]) -> Any:
    other = copy.deepcopy(model)
    with torch.no_grad():
        change(other)
    return other


def weight(model: Any, name: str) -> Tensor:
    return model.get_parameter(name)


def adapter_weight(code: str, layer: int = 0, rest: str = "dense1.weight") -> str:
    return f"encoder.layer.{layer}.output.adapter_modules.{code}.{rest}"


def tokenizer_json(rows: int) -> str:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    vocabulary |= {f"w{number}": number for number in range(5, rows)}
    return Tokenizer(WordLevel(vocabulary, unk_token="<unk>")).to_str()


def own_vocabulary(model: Any, code: str, rows: int = 12) -> None:
    generator = torch.Generator().manual_seed(5)
    words = torch.randn(rows, model.config.hidden_size, generator=generator)
    model.set_vocabulary(code, tokenizer_json(rows), words, torch.randn(rows, generator=generator))


def printed(certificate: Certificate) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(certificate.table())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_model_is_itself(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    certificate = diff(model, tmp_path)
    assert certificate.identical == ALL
    assert certificate.ok
    assert not certificate.configuration
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert sum(part.parameters for part in certificate.parts) == parameters
    assert sum(part.tensors for part in certificate.parts) == len(list(model.parameters()))


def test_fine_tuning_moves_the_encoder_only(base_run: Run, topic_run: Run) -> None:
    certificate = diff(base_run.output_dir, topic_run.output_dir, allow=("encoder", "lm head", "task head"))
    assert certificate.identical == {"embeddings", "de_DE", "en_XX", "sw_KE"}
    assert certificate.changed == {"encoder"}
    assert certificate.removed == {"lm head"}
    assert certificate.added == {"task head"}
    assert certificate.ok
    assert not diff(base_run.output_dir, topic_run.output_dir, allow=("encoder", "task head")).ok
    fields = {change.field: (change.a, change.b) for change in certificate.configuration}
    assert fields["architectures"] == (["XmodForMaskedLM"], ["XmodForSequenceClassification"])
    assert "transformers_version" not in fields
    assert not any("language id" in name for name in fields)
    encoder = next(part for part in certificate.parts if part.name == "encoder")
    before, after = base_run.model.state_dict(), topic_run.model.state_dict()
    moved = [name for name in before if name in after and not torch.equal(before[name], after[name])]
    assert encoder.tensors_changed == len(moved)
    assert encoder.difference == pytest.approx(max(float((before[name] - after[name]).abs().max()) for name in moved))


@pytest.mark.parametrize("policy", ["all", "adapters"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_training_one_language_moves_no_other(model: Any, policy: str, language: str) -> None:
    other = copy.deepcopy(model).train()
    other.set_trainable(policy, languages=[language])
    optimizer = torch.optim.AdamW([p for p in other.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    ids = torch.arange(4, 24).reshape(2, 10)
    for _ in range(2):
        other(ids, lang_ids=other.lang_ids([language] * 2), labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    certificate = diff(model, other)
    assert certificate.changed == {language} if policy == "adapters" else {language, "embeddings", "encoder", "lm head"}
    assert certificate.identical == ALL - certificate.changed
    assert diff(model, other, allow=sorted(certificate.changed)).ok


@pytest.mark.parametrize("init_from", [None, "de_DE", ["de_DE", "en_XX"]])
def test_adding_a_language(model: Any, init_from: Any) -> None:
    certificate = diff(model, changed_copy(model, lambda m: m.add_language("gsw", init_from)), allow=("gsw",))
    assert certificate.added == {"gsw"}
    assert certificate.identical == ALL
    assert certificate.ok
    assert [(c.field, c.a, c.b) for c in certificate.configuration] == [("language id of gsw", None, 3)]


def test_removing_a_language_moves_ids_but_no_weight(model: Any) -> None:
    certificate = diff(model, changed_copy(model, lambda m: m.remove_language("en")))
    assert certificate.removed == {"en_XX"}
    assert certificate.identical == ALL - {"en_XX"}
    assert not certificate.ok
    assert {(c.field, c.a, c.b) for c in certificate.configuration} == {
        ("language id of en_XX", 0, None),
        ("language id of de_DE", 1, 0),
        ("language id of sw_KE", 2, 1),
    }


def test_another_order_of_languages(model: Any) -> None:
    certificate = diff(model, changed_copy(model, lambda m: m.keep_languages(LANGUAGES[::-1])))
    assert certificate.identical == ALL
    assert not certificate.ok
    assert [c.field for c in certificate.decisive] == ["order of languages"]
    assert [c.field for c in certificate.configuration[1:]] == ["language id of en_XX", "language id of sw_KE"]


def test_a_vocabulary_of_its_own_is_the_languages(model: Any, tmp_path: Path) -> None:
    other = changed_copy(model, lambda m: own_vocabulary(m, "sw_KE"))
    certificate = diff(model, other)
    assert certificate.changed == {"sw_KE"}
    assert certificate.identical == ALL - {"sw_KE"}
    swahili = next(part for part in certificate.parts if part.name == "sw_KE")
    assert swahili.tensors_changed == 3
    assert swahili.changes[0].name == "tokenizer.sw_KE.json"
    assert {change.reason for change in swahili.changes} == {"only in b"}
    assert diff(changed_copy(model, lambda m: own_vocabulary(m, "sw_KE")), other).ok
    moved = changed_copy(other, lambda m: m.lm_head.language_bias["sw_KE"][3].add_(1))
    assert diff(other, moved).changed == {"sw_KE"}
    # Its output bias leaves with the head.
    other.save_pretrained(tmp_path)
    certificate = diff(other, XmodForSequenceClassification.from_pretrained(tmp_path))
    assert set(LANGUAGES) <= certificate.identical
    assert certificate.removed == {"lm head"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("roberta.embeddings.word_embeddings.weight", "embeddings"),
        ("roberta.embeddings.LayerNorm.bias", "embeddings"),
        ("roberta.encoder.layer.1.attention.self.query.weight", "encoder"),
        ("roberta.encoder.layer.1.output.LayerNorm.weight", "encoder"),
        ("roberta.encoder.layer.0.output.adapter_layer_norm.weight", "adapter norm"),
        (f"roberta.{adapter_weight('de_DE')}", "de_DE"),
        (f"roberta.{adapter_weight('sw_KE', 1, 'dense2.bias')}", "sw_KE"),
        ("lm_head.bias", "lm head"),
        ("lm_head.dense.weight", "lm head"),
    ],
)
def test_one_bit_is_found_and_named(name: str, part: str, tmp_path: Path) -> None:
    model = tiny_model(XmodForMaskedLM, adapter_layer_norm=True, adapter_reuse_layer_norm=False)

    def flip(other: Any) -> None:
        bits = weight(other, name).data.view(-1)[-1:].view(torch.int32)
        bits.bitwise_xor_(1)

    model.save_pretrained(tmp_path / "a")
    changed_copy(model, flip).save_pretrained(tmp_path / "b")
    certificate = diff(tmp_path / "a", tmp_path / "b")
    assert certificate.changed == {part}
    assert certificate.identical == (ALL | {"adapter norm"}) - {part}
    found = next(each for each in certificate.parts if each.name == part)
    assert [change.name for change in found.changes] == [name.removeprefix("roberta.")]
    assert found.changes[0].reason.startswith("1 of ")
    assert found.tensors_changed == 1
    assert 0 < found.difference < 1e-6


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("a", "b", "reason", "difference"),
    [
        ([1.0, NAN], [1.0, NAN], None, 0.0),
        ([0.0, 1.0], [-0.0, 1.0], "1 of 2 values differ in their bits only", 0.0),
        ([0.0, 1.0], [0.0, NAN], "1 of 2 values differ, by inf at most", INF),
        ([NAN, 1.0], [0.0, NAN], "2 of 2 values differ, by inf at most", INF),
        ([INF, 1.0], [INF, 1.5], "1 of 2 values differ, by 0.5 at most", 0.5),
        ([INF, 1.0], [-INF, 1.0], "1 of 2 values differ, by inf at most", INF),
        ([3e38, 1.0], [-3e38, 1.0], "1 of 2 values differ, by 6e+38 at most", 6e38),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "shape (2,) became (3,), of the first 2 rows all identical", 0.0),
        ([1.0, 2.0, 3.0], [1.0, 4.0], "shape (3,) became (2,), of the first 2 rows 1 of 2 values differ", 2.0),
        ([1.0, 2.0], [[1.0, 2.0]], "shape (2,) became (1, 2)", None),
        (1.0, [1.0], "shape () became (1,)", None),
        ([], [1.0], "shape (0,) became (1,)", None),
    ],
)
def test_two_tensors(a: Any, b: Any, reason: str | None, difference: float | None) -> None:
    found, largest = compare_tensors(torch.tensor(a), torch.tensor(b))
    assert (found is None) == (reason is None)
    assert reason is None or (found is not None and found.startswith(reason))
    assert largest == (difference if difference is None else pytest.approx(difference))


def test_nans_with_other_bits_differ() -> None:
    a, b = (torch.tensor([bits], dtype=torch.int32).view(torch.float32) for bits in (0x7FC00000, 0x7FC00001))
    assert compare_tensors(a, b) == ("1 of 1 values differ in their bits only", 0.0)


def test_large_tensors_are_compared_to_the_end() -> None:
    a = torch.zeros((1 << 20) + 7, dtype=torch.bfloat16)
    b = a.clone()
    b[-1], b[3] = 0.25, -2.0
    reason, difference = compare_tensors(a, b)
    assert reason is not None
    assert reason.startswith("2 of ")
    assert difference == 2.0


def test_another_dtype_is_a_change_with_its_reason(model: Any) -> None:
    certificate = diff(model, changed_copy(model, lambda m: m.bfloat16()))
    assert certificate.changed == ALL
    for part in certificate.parts:
        assert part.tensors_changed == part.tensors
        assert part.changes[0].reason.startswith("float32 became bfloat16, ")
        assert 0 < part.difference < 0.05
    exact, _ = compare_tensors(torch.tensor([0.5, NAN]), torch.tensor([0.5, NAN], dtype=torch.float16))
    assert exact == "float32 became float16, 0 of 2 values differ"


def test_grown_embeddings_show_that_old_rows_stayed(model: Any) -> None:
    other = copy.deepcopy(model)
    other.resize_token_embeddings(model.config.vocab_size + 5, mean_resizing=False)
    certificate = diff(model, other)
    assert certificate.changed == {"embeddings", "lm head"}
    words = next(part for part in certificate.parts if part.name == "embeddings")
    assert [change.reason for change in words.changes] == [
        "shape (99, 32) became (104, 32), of the first 99 rows all identical"
    ]
    assert words.difference == 0.0


@pytest.mark.parametrize("form", ["shards", "bin"])
def test_the_form_of_the_file_does_not_matter(model: Any, tmp_path: Path, form: str) -> None:
    model.save_pretrained(tmp_path / "a")
    if form == "shards":
        model.save_pretrained(tmp_path / "b", max_shard_size="10KB")
    else:
        model.config.save_pretrained(tmp_path / "b")
        # All names, second names of shared weights and old position ids included.
        state = model.state_dict() | {"roberta.embeddings.position_ids": torch.arange(40)[None]}
        assert "lm_head.decoder.weight" in state
        torch.save(state, tmp_path / "b" / "pytorch_model.bin")
    assert diff(tmp_path / "a", tmp_path / "b").identical == ALL
    assert diff(tmp_path / "b", tmp_path / "a").identical == ALL


def test_an_untied_head_is_compared_with_the_embeddings(model: Any) -> None:
    untied = tiny_model(XmodForMaskedLM, tie_word_embeddings=False)
    untied.load_state_dict(model.state_dict())
    assert diff(model, untied).identical == ALL
    with torch.no_grad():
        untied.lm_head.decoder.weight[7, 3] += 1
    for certificate in (diff(model, untied), diff(untied, model)):
        assert certificate.changed == {"lm head"}
        head = next(part for part in certificate.parts if part.name == "lm head")
        assert [change.name for change in head.changes] == ["lm_head.decoder.weight"]


def test_a_bare_model_against_a_task_model(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "task")
    bare = XmodModel.from_pretrained(tmp_path / "task", add_pooling_layer=False)
    bare.save_pretrained(tmp_path / "bare")
    certificate = diff(tmp_path / "bare", tmp_path / "task")
    assert certificate.identical == ALL - {"lm head"}
    assert certificate.added == {"lm head"}


@pytest.mark.parametrize("vocabulary", [False, True])
def test_packs(model: Any, tmp_path: Path, vocabulary: bool) -> None:
    if vocabulary:
        own_vocabulary(model, "sw_KE")
    model.save_language("sw_KE", tmp_path / "pack")
    certificate = diff(tmp_path / "pack", model)
    assert certificate.identical == {"sw_KE"}
    assert [part.name for part in certificate.parts] == ["sw_KE"]
    assert certificate.ok
    assert not certificate.configuration
    # Installed in another model, nothing else moves there.
    without = changed_copy(model, lambda m: m.remove_language("sw_KE"))
    with_it = changed_copy(without, lambda m: m.load_language(tmp_path / "pack"))
    assert diff(without, with_it, allow="sw").ok
    assert diff(model, with_it).ok
    assert diff(with_it, tmp_path / "pack").ok
    # Under another code it is the same language still.
    renamed = changed_copy(model, lambda m: m.rename_language("sw_KE", "swc"))
    renamed.save_language("swc", tmp_path / "renamed")
    certificate = diff(tmp_path / "pack", tmp_path / "renamed")
    assert certificate.identical == {"sw_KE"}
    assert [(c.field, c.a, c.b) for c in certificate.configuration] == [("language", "sw_KE", "swc")]
    # And one value is found.
    moved = changed_copy(model, lambda m: weight(m, f"roberta.{adapter_weight('sw_KE')}")[0, 0].add_(1))
    moved.save_language("sw_KE", tmp_path / "moved")
    for a, b in ((tmp_path / "pack", tmp_path / "moved"), (tmp_path / "moved", model), (model, tmp_path / "moved")):
        certificate = diff(a, b)
        assert certificate.changed == {"sw_KE"}
        assert certificate.parts[0].changes[0].name == adapter_weight("sw_KE")
    assert diff(tmp_path / "renamed", tmp_path / "moved", allow=("sw_KE",)).ok
    with pytest.raises(LanguageError, match="sw_KE"):
        diff(tmp_path / "pack", without)


def test_a_packs_output_bias_needs_a_head_to_be_compared(model: Any, tmp_path: Path) -> None:
    own_vocabulary(model, "sw_KE")
    model.save_language("sw_KE", tmp_path / "pack")
    classifier = tiny_model(XmodForSequenceClassification)
    classifier.load_state_dict(model.state_dict(), strict=False)
    classifier.remove_language("sw_KE")
    classifier.load_language(tmp_path / "pack", force=True)
    certificate = diff(tmp_path / "pack", classifier)
    assert certificate.identical == {"sw_KE"}
    assert certificate.parts[0].tensors == 2 * 4 + 1 + 1  # the embeddings and their tokenizer


def test_a_language_with_another_tokenizer_is_changed(model: Any, tmp_path: Path) -> None:
    """The same weights under another tokenizer are another language: its inputs are other ids."""
    own_vocabulary(model, "sw_KE")
    other = copy.deepcopy(model)
    other.tokenizers["sw_KE"] = other.tokenizers["sw_KE"].replace("w7", "v7")
    without = copy.deepcopy(model)
    del without.tokenizers["sw_KE"]
    made: dict[str, list[Any]] = {}
    for name, side in (("same", model), ("other", other), ("without", without)):
        side.save_pretrained(tmp_path / name)
        made[name] = [side, tmp_path / name]
        if name != "without":
            side.save_language("sw_KE", tmp_path / f"{name}-pack")
            made[name].append(tmp_path / f"{name}-pack")
    for a in made["same"]:
        for b in made["same"]:
            assert diff(a, b).ok
        for b, reason in [(b, "different content") for b in made["other"]] + [
            (b, "only in a") for b in made["without"]
        ]:
            certificate = diff(a, b)
            assert certificate.changed == {"sw_KE"}
            assert not certificate.ok
            part = next(part for part in certificate.parts if part.name == "sw_KE")
            assert [(change.name, change.reason) for change in part.changes] == [("tokenizer.sw_KE.json", reason)]
            assert part.tensors_changed == 1
            assert diff(a, b, allow="sw").ok


def test_the_tokenizer_of_a_model_on_the_hub(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_vocabulary(model, "sw_KE")
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.sw_KE.json").write_text(model.tokenizers["sw_KE"].replace("w7", "v7"))
    places = {"someone/model": tmp_path}

    def cached(source: str, name: str, **more: Any) -> str | None:
        path = places.get(source, Path(source)) / name
        return str(path) if path.exists() else None

    monkeypatch.setattr("xmodular.comparison.sides.cached_file", cached)
    for name in ("read_config", "open_weights"):
        true = getattr(sides, name)
        monkeypatch.setattr(sides, name, lambda source, true=true: true(places.get(source, source)))
    monkeypatch.setattr("xmodular.comparison.compare.load_tokenizer", lambda source: pytest.fail(source))
    model.config._name_or_path = ""
    assert diff(model, "someone/model").changed == {"sw_KE"}


def test_another_tokenizer_of_all_languages_is_shown(model: Any, base_run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
        base_run.tokenizer.save_pretrained(tmp_path / name)
    tokenizer = tmp_path / "b" / "tokenizer.json"
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    content["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    tokenizer.write_text(json.dumps(content), encoding="utf-8")
    assert diff(tmp_path / "a", tmp_path / "b").configuration == ()  # how a text is cut is not the tokenizer's affair
    content["model"]["vocab"][7][0] += "x"
    tokenizer.write_text(json.dumps(content), encoding="utf-8")
    certificate = diff(tmp_path / "a", tmp_path / "b")
    (change,) = certificate.configuration
    assert change.field == "tokenizer"
    assert change.a != change.b
    assert "tokenizer" in printed(certificate)
    assert not certificate.ok
    assert diff(tmp_path / "a", tmp_path / "b", allow=["configuration"]).ok
    tokenizer.unlink()
    assert diff(tmp_path / "a", tmp_path / "b").ok  # nothing to compare


def test_packs_are_read_tensor_by_tensor(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack may be larger than the memory, which costs its maker nothing if it is full of zeros."""
    own_vocabulary(model, "sw_KE")
    model.save_language("sw_KE", tmp_path / "pack")

    def whole(self: Pack) -> None:
        raise MemoryError

    monkeypatch.setattr(Pack, "adapter", whole)
    monkeypatch.setattr(Pack, "embeddings", whole)
    assert diff(tmp_path / "pack", model).identical == {"sw_KE"}


def test_a_pack_on_the_hub(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.save_language("sw_KE", tmp_path / "pack")

    def no_model(source: str) -> None:
        raise ConfigurationError(f"No model at {source}.")

    monkeypatch.setattr("xmodular.comparison.sides.read_config", no_model)
    monkeypatch.setattr(
        "xmodular.comparison.sides.read_pack",
        lambda source: read_pack({"someone/sw": tmp_path / "pack"}[source]),
    )
    assert diff("someone/sw", model).identical == {"sw_KE"}


def test_a_damaged_pack(model: Any, tmp_path: Path) -> None:
    model.save_language("sw_KE", tmp_path / "pack")
    path = tmp_path / "pack" / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(PackError):
        diff(tmp_path / "pack", model)


@pytest.mark.parametrize("name", ["de", "German", "Deutsch", "de_DE", " de-DE"])
def test_allow_takes_any_spelling_of_a_language(model: Any, name: str) -> None:
    other = changed_copy(model, lambda m: weight(m, f"roberta.{adapter_weight('de_DE')}").add_(1))
    certificate = diff(model, other, allow=(name,))
    assert certificate.allow == ("de_DE",)
    assert certificate.ok
    assert not diff(model, other).ok
    assert not diff(model, other, allow="sw,encoder").ok


@pytest.mark.parametrize("name", ["task head", "Task-Head", "task_head"])
def test_allow_takes_a_part(model: Any, name: str) -> None:
    assert diff(model, model, allow=(name,)).allow == ("task head",)


def test_allow_of_a_language_that_only_one_side_has(model: Any) -> None:
    other = changed_copy(model, lambda m: m.add_language("gsw"))
    assert diff(model, other, allow="gsw").ok
    assert diff(other, model, allow="gsw").ok


@pytest.mark.parametrize("name", ["encoders", "xx_YY", "adapters", "French"])
def test_allow_of_nothing_there_is(model: Any, name: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        diff(model, model, allow=(name,))
    assert name in str(error.value)
    assert all(part in str(error.value) for part in (*PARTS, *LANGUAGES))


def test_json_round_trip(model: Any, tmp_path: Path) -> None:
    def change(other: Any) -> None:
        weight(other, f"roberta.{adapter_weight('de_DE')}")[0, 0] = math.inf
        weight(other, "lm_head.dense.weight").add_(1)
        other.add_language("gsw")

    certificate = diff(model, changed_copy(model, change), allow=("gsw", "de"), output=tmp_path / "new" / "diff.json")
    path = tmp_path / "new" / "diff.json"
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert content["ok"] is False
    assert Certificate.from_json(path) == certificate
    assert next(part for part in certificate.parts if part.name == "de_DE").difference == math.inf
    for damaged in ("[]", "{", '{"a": 1}'):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(DataError, match="not a certificate"):
            Certificate.from_json(path)


def test_the_table_shows_all_parts_and_what_moved(model: Any) -> None:
    other = changed_copy(model, lambda m: weight(m, f"roberta.{adapter_weight('de_DE')}")[0, 0].add_(0.5))
    other.config.default_language = "de_DE"
    model.config._name_or_path = "a[bold]b"
    text = printed(diff(model, other, allow="de"))
    assert "a[bold]b -> model object" in text
    assert "5 identical, 1 changed" in text
    assert all(part in text for part in ALL)
    assert "changed (allowed)" in text
    assert "1 of 8" in text
    assert "0.5" in text
    assert f"{adapter_weight('de_DE')}: 1 of 512" in text
    assert 'default_language: null -> "de_DE"' in text


def test_only_the_first_changes_are_named(model: Any) -> None:
    part = diff(model, changed_copy(model, lambda m: m.bfloat16())).parts[1]
    assert part.name == "encoder"
    assert len(part.changes) < part.tensors_changed


def test_the_command(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "a")
    changed_copy(model, lambda m: m.remove_language("sw")).save_pretrained(tmp_path / "b")
    arguments = ["diff", str(tmp_path / "a"), str(tmp_path / "b")]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 1, run.output
    assert "removed" in run.output
    run = CliRunner().invoke(app, [*arguments, "--allow", "Swahili", "--output", str(tmp_path / "diff.json")])
    assert run.exit_code == 0, run.output
    assert Certificate.from_json(tmp_path / "diff.json").removed == {"sw_KE"}


def test_errors_come_before_work(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        diff(model, model, output=tmp_path)
    with pytest.raises(ConfigurationError, match=r"no config\.json"):
        diff(model, tmp_path)
    with pytest.raises(ConfigurationError, match="neither a model nor a language pack"):
        diff(tmp_path / "absent", model)
    model.config.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="has no weights"):
        diff(tmp_path, model)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="is damaged"):
        diff(tmp_path, model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "relu"),
        ("layer_norm_eps", 1e-3),
        ("ln_before_adapter", False),
        ("pad_token_id", 0),
        ("classifier_pooling", "mean"),
    ],
)
def test_a_configuration_that_decides_outputs_counts(base_run: Run, tmp_path: Path, field: str, value: Any) -> None:
    shutil.copytree(base_run.output_dir, tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    certificate = diff(base_run.output_dir, tmp_path / "other")
    assert not certificate.ok
    assert [change.field for change in certificate.decisive] == [field]
    assert diff(base_run.output_dir, tmp_path / "other", allow=["configuration"]).ok


def test_the_order_of_languages_counts_and_a_moved_id_does_not(base_run: Run) -> None:
    model = copy.deepcopy(base_run.model)
    model.remove_language("de")
    assert diff(base_run.output_dir, model, allow=["de"]).ok
    model = copy.deepcopy(base_run.model)
    model.keep_languages(["sw", "en", "de"])
    certificate = diff(base_run.output_dir, model)
    assert not certificate.changed
    assert not certificate.ok


def test_the_names_of_labels_count(topic_run: Run) -> None:
    model = copy.deepcopy(topic_run.model)
    assert diff(topic_run.output_dir, model).ok
    model.config.id2label = dict(enumerate(reversed(model.config.id2label.values())))
    certificate = diff(topic_run.output_dir, model)
    assert [change.field for change in certificate.decisive] == ["labels"]
    assert not certificate.ok


@pytest.mark.parametrize("content", ["garbage", "{}", "[]"])
def test_a_tokenizer_that_cannot_be_read_is_an_error(base_run: Run, tmp_path: Path, content: str) -> None:
    shutil.copytree(base_run.output_dir, tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match="tokenizer"):
        diff(base_run.output_dir, tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").unlink()
    certificate = diff(base_run.output_dir, tmp_path / "other")
    assert [change.field for change in certificate.configuration] == ["tokenizer of one side only"]
    assert certificate.ok


def rewritten(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), **fields}
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_hidden_layers": 1}, {"num_hidden_layers"}),
        ({"architectures": ["XmodModel"]}, {"architectures"}),
        ({"architectures": ["XmodForCausalLM"]}, {"architectures", "generation"}),
        ({"problem_type": "regression"}, {"problem_type"}),
        ({"dtype": "bfloat16"}, {"dtype"}),
        ({"task_max_length": 8}, {"task_max_length"}),
        ({"task_stride": 1}, {"task_stride"}),
        ({"task_language": "de_DE"}, {"task_language"}),
        ({"finetuning_task": "tag"}, {"finetuning_task"}),
        ({"default_language": "de_DE"}, {"default_language"}),
        ({"attn_implementation": "eager"}, {"attn_implementation"}),
        ({"layout": "grid"}, {"layout"}),
        ({"chunk_size_feed_forward": 1}, {"chunk_size_feed_forward"}),
        ({"vocabularies": {}}, {"vocabulary of sw_KE"}),
        ({"id2label": {"0": "b", "1": "a"}}, {"labels", "label2id"}),
        ({"nobody_knows": 1}, {"nobody_knows"}),
    ],
    ids=lambda value: str(sorted(value)),
)
def test_every_field_counts_that_is_not_known_to_be_harmless(
    model: Any, tmp_path: Path, fields: dict[str, Any], named: set[str]
) -> None:
    own_vocabulary(model, "sw_KE")
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
    rewritten(tmp_path / "b", **fields)
    for sides_ in ((tmp_path / "a", tmp_path / "b"), (tmp_path / "b", tmp_path / "a")):
        certificate = diff(*sides_)
        assert {change.field for change in certificate.decisive} == named
        assert not certificate.ok
    certificate = diff(tmp_path / "a", tmp_path / "b", allow=["configuration", "sw"])
    assert certificate.ok
    certificate.to_json(tmp_path / "diff.json")
    assert Certificate.from_json(tmp_path / "diff.json") == certificate


def test_a_number_written_otherwise_is_another(model: Any, tmp_path: Path) -> None:
    """64.0 is no length, and is not taken for one."""
    for name, length in (("a", 64), ("b", 64.0)):
        model.save_pretrained(tmp_path / name)
        rewritten(tmp_path / name, task_max_length=length)
    assert not diff(tmp_path / "a", tmp_path / "b").ok


def test_harmless_fields(model: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
    rewritten(
        tmp_path / "b",
        hidden_dropout_prob=0.5,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.3,
        initializer_range=1.0,
        task_data={"train": ["x"]},
        transformers_version="1",
        torch_dtype="float32",
        _name_or_path="x",
    )
    certificate = diff(tmp_path / "a", tmp_path / "b")
    assert certificate.ok
    assert {change.field for change in certificate.configuration} == {
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "initializer_range"),
        "task_data",
    }


def test_a_language_that_only_the_weights_have_is_not_read(model: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
    rewritten(tmp_path / "b", languages=["en_XX", "de_DE"])
    certificate = diff(tmp_path / "a", tmp_path / "b")
    assert certificate.removed == {"sw_KE"}
    assert not certificate.ok
    assert diff(tmp_path / "a", tmp_path / "b", allow=["sw"]).ok


def test_a_default_that_goes_with_its_language(model: Any) -> None:
    model.set_default_language("sw")
    other = changed_copy(model, lambda m: m.remove_language("sw"))
    assert other.config.default_language is None
    assert diff(model, other, allow=["sw"]).ok
    other.set_default_language("en")  # what was read as Swahili is read as English now
    assert not diff(model, other, allow=["sw"]).ok


def changed_state(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


WORDS = "embeddings.word_embeddings.weight"
NORM = "roberta.encoder.layer.0.output.LayerNorm."


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (WORDS, f"roberta.{WORDS}"),
        (f"roberta.roberta.{WORDS}", f"roberta.{WORDS}"),
        ("roberta.lm_head.bias", "lm_head.bias"),
        (f"{NORM}gamma", f"{NORM}weight"),
        (f"{NORM}beta", f"{NORM}bias"),
    ],
)
def test_two_tensors_of_one_weight_are_an_error(model: Any, tmp_path: Path, other: str, name: str) -> None:
    model.save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    changed_state(tmp_path / "b", lambda state: state.update({other: state[name] + 1}))
    with pytest.raises(DataError, match="are the same weight"):
        diff(tmp_path / "a", tmp_path / "b")


def test_weights_that_come_from_elsewhere_are_an_error(model: Any, tmp_path: Path) -> None:
    for name in ("a", "named", "adapter", "distributed", "mixed"):
        model.save_pretrained(tmp_path / name)
    rewritten(tmp_path / "named", transformers_weights="other.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    weights_ = tmp_path / "distributed" / "model.safetensors"
    shutil.copy(weights_, weights_.parent / "shard-00000-model-00001-of-00001.safetensors")
    rewritten(tmp_path / "mixed", dtype=None)
    changed_state(tmp_path / "mixed", lambda state: state.update({"lm_head.bias": state["lm_head.bias"].half()}))
    for name, error, message in (
        ("named", ConfigurationError, r"transformers_weights in its config\.json"),
        ("adapter", DataError, "a PEFT adapter"),
        ("distributed", DataError, "distributed checkpoint"),
        ("mixed", DataError, r"weights in float16 and float32, and no dtype"),
    ):
        with pytest.raises(error, match=message):
            diff(tmp_path / "a", tmp_path / name)
        if name in ("named", "distributed"):  # every verb that reads a model refuses these
            with pytest.raises(error, match=message):
                load_saved(tmp_path / name)


@pytest.mark.parametrize("where", ["nowhere", "another shard"])
def test_a_shard_with_more_than_the_index_says_is_an_error(model: Any, tmp_path: Path, where: str) -> None:
    """It would be loaded, as all of a shard is."""
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    places = index["weight_map"]
    name = next(name for name in places if name.endswith("word_embeddings.weight"))
    if where == "nowhere":
        del places[name]
        path.write_text(json.dumps(index))
    else:
        file = next(file for file in places.values() if file != places[name])
        extra = load_file(tmp_path / file) | {name: torch.zeros(99, 32)}
        save_file(extra, tmp_path / file, {"format": "pt"})
    for read in (load_saved, lambda source: diff(model, source)):
        with pytest.raises(DataError, match=r"which model\.safetensors\.index\.json does not list there"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("file", "values", "named"),
    [
        ("tokenizer_config.json", {"truncation_side": "left"}, {"tokenizer truncation side"}),
        ("tokenizer_config.json", {"padding_side": "left"}, {"tokenizer padding side"}),
        ("tokenizer_config.json", {"model_max_length": 7}, {"tokenizer model max length"}),
        ("tokenizer_config.json", {"split_special_tokens": True}, {"tokenizer split special tokens", "tokenizer"}),
        ("tokenizer_config.json", {"model_input_names": ["input_ids"]}, {"tokenizer model input names"}),
        ("tokenizer_config.json", {"chat_template": "x"}, set()),
        ("tokenizer_config.json", {"model_max_length": 4000}, {"tokenizer model max length"}),  # cuts too late
        (
            "tokenizer.json",
            {"truncation": {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 0}},
            {"tokenizer truncation side"},
        ),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_what_else_a_tokenizer_says_counts(
    model: Any, base_run: Run, tmp_path: Path, file: str, values: dict[str, Any], named: set[str]
) -> None:
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
        save_tokenizer(base_run.tokenizer, tmp_path / name, model.config)
    path = tmp_path / "b" / file
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")
    certificate = diff(tmp_path / "a", tmp_path / "b")
    assert {change.field for change in certificate.configuration} - {"tokenizer"} == named - {"tokenizer"}
    assert certificate.ok == (not named)


def test_lengths_beyond_the_positions_are_alike(model: Any, base_run: Run, tmp_path: Path) -> None:
    for name, length in (("a", 4000), ("b", 5000)):
        model.save_pretrained(tmp_path / name)
        save_tokenizer(base_run.tokenizer, tmp_path / name, model.config)
        path = tmp_path / name / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "model_max_length": length}))
    assert diff(tmp_path / "a", tmp_path / "b").configuration == ()


def test_how_a_causal_model_writes_counts(tmp_path: Path) -> None:
    model = tiny_model(XmodForCausalLM, is_decoder=True)
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
    assert diff(model, tmp_path / "a").ok
    (tmp_path / "b" / "generation_config.json").write_text(json.dumps({"repetition_penalty": 2.0, "eos_token_id": 2}))
    certificate = diff(tmp_path / "a", tmp_path / "b")
    assert [change.field for change in certificate.decisive] == ["generation"]
