"""Packs written, read and compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import Tensor

from tests.packs.samples import CODES, OWN_ROWS, samples, small_model, with_own_vocabulary, write
from tests.support import assert_same_state
from xmodular.errors import InputError, LanguageError, PackError
from xmodular.languages import code_problem
from xmodular.packs import Base, Pack, manifest, read_pack, write_pack
from xmodular.packs.fingerprints import fingerprints

SHAPE = {"hidden_size": 6, "num_hidden_layers": 3, "bottleneck_size": 2, "hidden_act": "gelu", "pre_norm": False}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def adapter_tensors(seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"dense1.weight": (2, 6), "dense1.bias": (2,), "dense2.weight": (6, 2), "dense2.bias": (6,)}
    return {
        f"layer.{layer}.{name}": scale * torch.randn(shape, generator=draw)
        for layer in range(3)
        for name, shape in shapes.items()
    }


def frame_and_words(seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {"positions": torch.randn(5, 6, generator=draw), "norm": torch.randn(6, generator=draw)}, torch.randn(
        11, 6, generator=draw
    )


def base(**over: Any) -> Base:
    return Base.of({**SHAPE, **over}, *frame_and_words(), name="facebook/xmod-base", tokenizer="a" * 64)


def save(folder: Path, **over: Any) -> Pack:
    return write_pack(folder, **{"language": "gsw_CH", "adapter": adapter_tensors(), "base": base(), **over})


@pytest.mark.parametrize("precision", ["keep", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize("stored", DTYPES.values(), ids=DTYPES)
def test_every_precision_comes_back(precision: str, stored: torch.dtype, tmp_path: Path) -> None:
    adapter = {name: tensor.to(stored) for name, tensor in adapter_tensors().items()}
    dtype = stored if precision == "keep" else DTYPES[precision]
    written = save(tmp_path / "pack", adapter=adapter, precision=precision)
    pack = read_pack(tmp_path / "pack")
    pack.check()
    assert pack == written
    assert pack.dtype == str(dtype).removeprefix("torch.")
    assert_same_state(pack.adapter(), {name: tensor.to(dtype) for name, tensor in adapter.items()})
    assert sorted(path.name for path in pack.folder.iterdir()) == ["README.md", "adapter.safetensors", "pack.json"]


def test_what_a_pack_says(tmp_path: Path) -> None:
    scores = [{"metric": "accuracy", "value": 0.25, "low": None, "rows": 3}]
    pack = save(tmp_path / "pack", licence="CC-BY-4.0", note="From a\nchronicle.", scores=scores)
    again = read_pack(str(tmp_path / "pack"))
    assert again.language == "gsw_CH"
    assert again.names["bcp47"] == "gsw"
    assert again.names["english"].startswith("Swiss German")  # type: ignore[union-attr]
    assert (again.licence, again.note, list(again.scores)) == ("CC-BY-4.0", "From a\nchronicle.", scores)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", again.created)
    assert again.writer.startswith("xmodular")
    assert again.base == base()
    assert again.vocabulary is None
    assert save(tmp_path / "xx", language="qqq1").names == {"english": None, "native": None, "bcp47": None}
    assert pack.title == "gsw_CH (Swiss German)"
    with pytest.raises(PackError, match="no vocabulary of its own"):
        pack.embeddings()
    keys = json.loads((tmp_path / "pack" / "pack.json").read_text("utf-8")).keys()
    assert all("gsw_CH" not in name for name in [*keys, *pack.adapter()])


def test_model_to_pack_to_another_model_byte_by_byte(tmp_path: Path) -> None:
    for name, source in (("plain", small_model()), ("own", with_own_vocabulary())):
        pack = source.save_language("sw_KE", tmp_path / name)
        other = small_model()
        untouched = {key: tensor.clone() for key, tensor in other.state_dict().items()}
        code = other.load_language(tmp_path / name, language="gsw")
        assert_same_state({key: tensor for key, tensor in other.state_dict().items() if ".gsw" not in key}, untouched)
        again = other.save_language(code, tmp_path / f"{name}-again")
        for file in pack.files:
            assert (pack.folder / file).read_bytes() == (again.folder / file).read_bytes(), file
        assert again.vocabulary == (OWN_ROWS if name == "own" else None)


def test_a_16_bit_model_knows_the_pack_of_the_same_model_in_32_bits(tmp_path: Path) -> None:
    full = small_model()
    packs = [full.save_language("sw_KE", tmp_path / "fp32")]
    for dtype in (torch.bfloat16, torch.float16):
        half = small_model().to(dtype)
        packs.append(half.save_language("sw_KE", tmp_path / str(dtype)))
        assert packs[-1].base.words.keys() == {str(dtype).removeprefix("torch.")}
        assert half.misfits(packs[0]) == []
        assert full.misfits(packs[-1]) == []
        assert small_model(seed=1).to(dtype).misfits(packs[0])
        assert half.load_language(packs[0], language="gsw") == "gsw"
    (misfit, *_) = small_model().to(torch.float16).misfits(packs[1])
    assert "load the model in float32" in misfit.message
    assert misfit.forcible


def test_fingerprints_see_every_bit_name_and_shape() -> None:
    frame, words = frame_and_words()
    prints = fingerprints(frame)
    assert list(prints) == ["float32", "bfloat16", "float16"]
    assert prints == fingerprints({name: frame[name].clone() for name in reversed(frame)})
    touched = {**frame, "norm": frame["norm"].clone()}
    touched["norm"].view(torch.int32)[3] ^= 1
    assert fingerprints(touched)["float32"] != prints["float32"]
    assert fingerprints({**frame, "positions": frame["positions"].reshape(6, 5)}) != prints
    assert fingerprints({"a": frame["positions"], "norm": frame["norm"]}) != prints
    assert fingerprints({"w": words.T})["float32"] == fingerprints({"w": words.T.contiguous()})["float32"]
    assert fingerprints({**frame, "norm": frame["norm"].bfloat16()}).keys() == {"bfloat16"}
    with pytest.raises(InputError, match="int64"):
        fingerprints({"ids": torch.arange(3)})
    with pytest.raises(InputError, match="meta"):
        fingerprints({"w": torch.empty(3, device="meta")})


def test_every_misfit_at_once(tmp_path: Path) -> None:
    pack = save(tmp_path / "pack")
    frame, words = frame_and_words()
    assert pack.misfits(SHAPE, frame, words, tokenizer="a" * 64) == []
    assert pack.misfits(SHAPE, frame, words, tokenizer=None) == []
    assert pack.misfits(SHAPE, frame, torch.cat([words, words]), tokenizer=None) == []  # added tokens
    shape = {**SHAPE, "pre_norm": True, "hidden_act": "relu", "extra": 1}
    other_frame, other_words = frame_and_words(1)
    found = pack.misfits(shape, other_frame, other_words, tokenizer="b" * 64)
    assert [misfit.part for misfit in found] == ["shape"] * 3 + ["frame", "words", "tokenizer"]
    assert [misfit.forcible for misfit in found] == [False] * 3 + [True] * 3
    assert "hidden_act is 'gelu' in the pack's base and 'relu' in the model" in found[0].message
    (fewer,) = pack.misfits(SHAPE, frame, words[:7])
    assert "11" in fewer.message
    assert "7" in fewer.message


def test_a_vocabulary_of_its_own_is_not_compared_with_the_bases(tmp_path: Path) -> None:
    pack = read_pack(write(tmp_path / "pack", samples()["own"]))
    other = small_model(vocab_size=15)
    other.roberta.embeddings.load_state_dict(
        {k: v for k, v in small_model().roberta.embeddings.state_dict().items() if not k.startswith("word_")},
        strict=False,
    )
    assert other.misfits(pack, tokenizer_hash="c" * 64) == []
    assert {misfit.part for misfit in other.misfits(read_pack(write(tmp_path / "de", samples()["german"])))} == {
        "words"
    }


def test_force_installs_beside_other_weights_but_not_in_another_shape(tmp_path: Path) -> None:
    pack = small_model().save_language("sw_KE", tmp_path / "pack")
    other = small_model(seed=1)
    with pytest.raises(PackError, match=r"(?s)LayerNorms differ.*word embeddings differ"):
        other.load_language(pack, language="gsw")
    assert other.load_language(pack, language="gsw", force=True) == "gsw"
    with pytest.raises(PackError, match="intermediate_size"):
        small_model(intermediate_size=16).load_language(pack, language="gsw", force=True)
    with pytest.raises(LanguageError, match="sw_KE"):
        other.load_language(pack, force=True)
    other.load_language(pack, force=True, overwrite=True)
    assert other.languages == (*CODES, "gsw")


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"language": "../x"}, "language"),
        ({"language": "keys"}, "name of another part"),
        ({"language": "encoder"}, "name of another part"),
        ({"precision": "int8"}, "int8"),
        (
            {"adapter": {**adapter_tensors(), "layer.3.dense1.bias": torch.ones(2)}},
            "layer.3.dense1.bias does not belong",
        ),
        ({"adapter": dict(list(adapter_tensors().items())[1:])}, "layer.0.dense1.weight is missing"),
        ({"adapter": {**adapter_tensors(), "layer.1.dense2.bias": torch.ones(5)}}, "shape"),
        ({"adapter": {**adapter_tensors(), "layer.1.dense2.bias": torch.ones(6).half()}}, "one precision"),
        ({"adapter": {name: tensor.double() for name, tensor in adapter_tensors().items()}}, "float64"),
        ({"adapter": adapter_tensors(scale=1e5), "precision": "fp16"}, "too large for float16"),
        (
            {
                "adapter": {name: torch.full_like(tensor, 3.4e38) for name, tensor in adapter_tensors().items()},
                "precision": "bf16",
            },
            "too large for bfloat16",
        ),
        ({"tokenizer": "{}"}, "only one"),
        ({"embeddings": {"word_embeddings.weight": torch.ones(3, 6)}}, "only one"),
        ({"embeddings": {"lm_head.bias": torch.ones(3)}, "tokenizer": "{}"}, "word_embeddings.weight"),
        ({"embeddings": {"word_embeddings.weight": torch.ones(3, 6)}, "tokenizer": "{}"}, "tokenizer.json"),
        ({"note": "\x1b[31m"}, "note"),
        ({"scores": [{"value": float("nan")}]}, "value"),
        ({"note": "x" * (1 << 20)}, "too long"),
        ({"base": base(bottleneck_size=3)}, "dense1.bias has shape"),
    ],
)
def test_what_cannot_be_a_pack_is_not_written(over: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=re.escape(words)):
        save(tmp_path / "pack", **over)
    assert list(tmp_path.iterdir()) == []


def test_only_packs_are_replaced(tmp_path: Path) -> None:
    save(tmp_path / "pack")
    with pytest.raises(PackError, match="already exists"):
        save(tmp_path / "pack", language="als")
    assert read_pack(tmp_path / "pack").language == "gsw_CH"
    save(tmp_path / "pack", language="als", overwrite=True)
    assert read_pack(tmp_path / "pack").language == "als"
    (tmp_path / "pack" / "pack.json").write_text("{")  # damaged, but a pack
    save(tmp_path / "pack", overwrite=True)
    (tmp_path / "pack" / "thesis.tex").write_text("years of work")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, words in (("pack", "thesis.tex"), ("model", "no language pack"), ("file", "is a file")):
        with pytest.raises(PackError, match=words):
            save(tmp_path / name, overwrite=True)
    assert (tmp_path / "pack" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "model" / "README.md").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "ctrl-c"])
@pytest.mark.parametrize("moment", ["tensors", "card", "first rename", "second rename"])
def test_an_interrupted_write_leaves_the_old_pack(
    moment: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = save(tmp_path / "pack")
    adapter = old.adapter()
    calls = 0
    true_replace = os.replace

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    def replace(a: Any, b: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == (1 if moment == "first rename" else 2):
            raise error
        true_replace(a, b)

    if moment == "tensors":
        monkeypatch.setattr("xmodular.packs.pack_writing.save_file", fail)
    elif moment == "card":
        monkeypatch.setattr("xmodular.packs.pack_writing.pack_card", fail)
    else:
        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr("xmodular.files._exchange", lambda one, other: False)  # as on systems that cannot
    with pytest.raises(type(error)):
        save(tmp_path / "pack", adapter=adapter_tensors(1), overwrite=True)
    monkeypatch.undo()
    again = read_pack(tmp_path / "pack")
    again.check()
    assert again == old
    assert_same_state(again.adapter(), adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_the_card_is_a_model_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scores = [{"metric": "accuracy", "value": 1 / 3, "adapter": "right|own"}, {"metric": "f1", "rows": 3}]
    save(tmp_path / "pack", licence="CC-BY-4.0", note="Sent by the valley's archive.", scores=scores)
    text = (tmp_path / "pack" / "README.md").read_text("utf-8")
    data = huggingface_hub.ModelCard(text).data.to_dict()
    assert data["language"] == "gsw"
    assert data["license"] == "cc-by-4.0"
    assert data["library_name"] == "xmodular"
    assert data["base_model"] == "facebook/xmod-base"
    assert {"xmod", "language-pack"} <= set(data["tags"])
    assert "Sent by the valley's archive." in text
    assert "| accuracy | 0.3333 | right\\|own |  |" in text
    compile(text.split("```python\n")[1].split("```")[0], "card", "exec")
    for model, name in ((small_model(), None), (small_model(), "home")):
        model.config._name_or_path = str(tmp_path / name) if name else ""
        pack = model.save_language("de_DE", tmp_path / f"from-{name}")
        assert pack.base.name == name
        for path in pack.folder.iterdir():
            assert str(tmp_path).encode() not in path.read_bytes()
        card = huggingface_hub.ModelCard((pack.folder / "README.md").read_text("utf-8")).data
        assert card.to_dict().get("base_model") is None


def test_an_edited_card_does_no_harm(tmp_path: Path) -> None:
    pack = save(tmp_path / "pack")
    (tmp_path / "pack" / "README.md").write_text("# Mine now")
    read_pack(tmp_path / "pack").check()
    (tmp_path / "pack" / "README.md").unlink()
    read_pack(tmp_path / "pack").check()
    assert read_pack(tmp_path / "pack") == pack


@pytest.mark.parametrize(
    "code", ["de_DE", "x", "keys", "9x", "", "a b", "a.b", "a/b", "type", "forward", "zh-TW", "é", "encoder", "x" * 65]
)
def test_codes_are_those_of_configurations(code: str) -> None:
    content = json.loads(samples()["german"]["pack.json"]) | {"language": code}
    assert (code_problem(code) is None) == (not list(manifest.problems(content)))


def test_no_pack_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for source, words in (
        (tmp_path / "empty", "no pack.json"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "nothing", "no such folder"),
        ("nothing", "no such folder"),
        ("../a/b", "no such folder"),
        ("", "no pack.json"),  # the current folder
    ):
        with pytest.raises(PackError, match=words):
            read_pack(source)


def test_packs_load_without_transformers() -> None:
    script = "import sys, xmodular.packs; sys.exit('transformers' in sys.modules or 'xmodular.modeling' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
