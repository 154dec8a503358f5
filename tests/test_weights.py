"""Weights on disk: every format gives the same tensors, one by one, and damage is named."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from xmodular import XmodForMaskedLM
from xmodular.errors import DataError
from xmodular.weights import open_weights

from .support import tiny_model

STATE = {
    "b.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a.bias": torch.tensor([1.5, -0.0, float("nan")], dtype=torch.bfloat16),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 4, dtype=torch.float16),
}


def write_index(folder: Path, kind: str, places: Mapping[str, object]) -> None:
    content = {"metadata": {}, "weight_map": places}
    (folder / f"{kind}.index.json").write_text(json.dumps(content), encoding="utf-8")


def write(folder: Path, form: str, state: Mapping[str, Tensor] = STATE) -> Path:
    """Save a state in one of the four forms."""
    folder.mkdir(exist_ok=True)
    suffix = "safetensors" if form.endswith("safetensors") else "bin"
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = sorted(state)
    parts = [names[:2], names[2:]] if form.startswith("shards of") else [names]
    places = {}
    for number, part in enumerate(parts, start=1):
        file = f"{stem}.{suffix}" if len(parts) == 1 else f"{stem}-{number:05}-of-{len(parts):05}.{suffix}"
        tensors = {name: state[name] for name in part}
        save_file(tensors, folder / file) if suffix == "safetensors" else torch.save(tensors, folder / file)
        places.update(dict.fromkeys(part, file))
    if len(parts) > 1:
        write_index(folder, f"{stem}.{suffix}", places)
    return folder


@pytest.mark.parametrize("form", ["safetensors", "shards of safetensors", "bin", "shards of bin", "legacy bin"])
def test_every_form_gives_the_same_tensors(tmp_path: Path, form: str) -> None:
    if form == "legacy bin":
        torch.save(STATE, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        write(tmp_path, form)
    with open_weights(tmp_path) as weights:
        assert sorted(weights.names) == sorted(STATE)
        assert len(weights) == len(STATE)
        for name, tensor in STATE.items():
            assert name in weights
            read = weights[name]
            assert read.dtype == weights.dtype(name) == tensor.dtype
            assert tuple(read.shape) == weights.shape(name) == tuple(tensor.shape)
            assert torch.equal(read.contiguous().view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8))
        assert "c" not in weights
        with pytest.raises(DataError, match=r"no weight 'c'"):
            weights["c"]


def test_tensors_outlive_the_file(tmp_path: Path) -> None:
    write(tmp_path, "safetensors")
    with open_weights(tmp_path) as weights:
        tensor = weights["b.weight"]
    write(tmp_path / "other", "safetensors", {"b.weight": torch.zeros(2, 3)})
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    assert torch.equal(tensor, STATE["b.weight"])


@pytest.mark.parametrize("shards", [False, True])
def test_a_saved_model_is_read_whole(tmp_path: Path, shards: bool) -> None:
    model = tiny_model(XmodForMaskedLM)
    model.save_pretrained(tmp_path, max_shard_size="10KB" if shards else "1GB")
    assert (tmp_path / "model.safetensors.index.json").is_file() == shards
    parameters = dict(model.named_parameters())
    with open_weights(tmp_path) as weights:
        assert set(weights.names) == set(parameters)
        assert all(torch.equal(weights[name], parameter) for name, parameter in parameters.items())


def test_safetensors_go_first(tmp_path: Path) -> None:
    write(tmp_path, "bin", {"old": torch.zeros(1)})
    write(tmp_path, "shards of bin", {"a": torch.zeros(1), "b": torch.zeros(1), "c": torch.zeros(1)})
    with open_weights(tmp_path) as weights:
        assert weights.names == ("old",)
    write(tmp_path, "shards of safetensors")
    with open_weights(tmp_path) as weights:
        assert set(weights.names) == set(STATE)
    write(tmp_path, "safetensors", {"new": torch.zeros(1)})
    with open_weights(tmp_path) as weights:
        assert weights.names == ("new",)


def opened(source: Path | str) -> None:
    with open_weights(source):
        pass


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no weights.*model\.safetensors"):
        opened(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        opened(tmp_path / "file")


@pytest.mark.parametrize(
    ("form", "damage"),
    [
        *product(("safetensors", "shards of safetensors", "bin", "shards of bin"), ("cut", "empty", "noise")),
        ("shards of safetensors", "missing"),
        ("shards of bin", "missing"),
    ],
)
def test_damage_is_named(tmp_path: Path, form: str, damage: str) -> None:
    write(tmp_path, form)
    victim = max(path for path in tmp_path.iterdir() if path.suffix != ".json")
    content = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes({"cut": content[: len(content) - 7], "empty": b"", "noise": bytes(range(256))}[damage])
    with pytest.raises(DataError, match=victim.name.replace(".", r"\.")):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not an index"),
        ('{"weight_map": []}', "not an index"),
        ('{"weight_map": {}}', "not an index"),
        ("{", "not an index"),
        ("[" * 100_000, "not an index"),
        ('{"weight_map": {"a": 3}}', "names the file 3"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "same folder"),
        ('{"weight_map": {"a": "/etc/model.safetensors"}}', "same folder"),
        ('{"weight_map": {"a": "..\\\\model.safetensors"}}', "same folder"),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', "same folder"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "does not exist"),
        ('{"weight_map": {"elsewhere": "part.safetensors"}}', "but it is not"),
    ],
)
def test_an_index_that_lies(tmp_path: Path, content: str, message: str) -> None:
    save_file(STATE, tmp_path / "part.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("as_torch", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_no_code_runs(tmp_path: Path, name: str, as_torch: bool) -> None:
    evil = {"a": Touch(tmp_path / "ran")}
    if as_torch:
        torch.save(evil, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(evil))
    with pytest.raises(DataError, match="is damaged"):
        opened(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 3}, {3: torch.zeros(1)}])
def test_a_file_of_other_things(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="does not map names to tensors"):
        opened(tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A stand-in for the Hub: the folder that it serves, and the names of the files that were asked for."""
    from huggingface_hub.errors import EntryNotFoundError

    folder, asked = tmp_path / "served", list[str]()
    folder.mkdir()

    def download(repository: str, file: str, *, revision: str | None, token: str | None) -> str:
        assert (repository, revision, token) == ("someone/model", "main", "secret")
        asked.append(file)
        if not (folder / file).is_file():
            raise EntryNotFoundError(f"404 for {file}")
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return folder, asked


@pytest.mark.parametrize("form", ["safetensors", "shards of safetensors", "bin", "shards of bin"])
def test_from_the_hub(hub: tuple[Path, list[str]], form: str) -> None:
    folder, asked = hub
    write(folder, form)
    with open_weights("someone/model", revision="main", token="secret") as weights:
        assert torch.equal(weights["b.weight"], STATE["b.weight"])
    assert {path.name for path in folder.iterdir()} <= set(asked)


def test_not_on_the_hub(hub: tuple[Path, list[str]]) -> None:
    folder, _ = hub
    with (
        pytest.raises(DataError, match=r"someone/model, neither as a folder nor on the Hub: 404"),
        open_weights("someone/model", revision="main", token="secret"),
    ):
        pass
    write(folder, "shards of safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with (
        pytest.raises(DataError, match="404 for model-00002-of-00002"),
        open_weights("someone/model", revision="main", token="secret"),
    ):
        pass


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither as a folder nor on the Hub"):
        opened(tmp_path / "absent")
