"""Packs that are damaged, mixed up or hostile: always a clear error or the same language, never a changed model."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.packs.samples import OWN_ROWS, content_of, samples, sealed, small_model, write
from xmodular.errors import PackError, XmodularError
from xmodular.packs import read_pack
from xmodular.packs.manifest import problems

NAMES = ("german", "swahili", "own")
DATA = ("pack.json", "adapter.safetensors", "tokenizer.json", "embeddings.safetensors")


def cases(count: int) -> Callable[[Any], Any]:
    """So many cases, the same in every run."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


@lru_cache
def model() -> Any:
    """The one model that all cases try to change."""
    return small_model()


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in tensors.items()}


def state() -> tuple[Any, ...]:
    """All of the model that a pack could change."""
    return bits(model().state_dict()), copy.deepcopy(model().config.to_dict()), model().languages


def language_state(code: str) -> dict[str, bytes]:
    """A language's part of the model, without its code."""
    parts = {name: tensor for name, tensor in model().state_dict().items() if f".{code}" in name}
    return {name.replace(f".{code}", ""): content for name, content in bits(parts).items()}


@lru_cache
def expected(name: str) -> dict[str, bytes]:
    """A sample's part of the model once it is installed."""
    with tempfile.TemporaryDirectory() as folder:
        code = model().load_language(write(Path(folder, name), samples()[name]))
    installed = language_state(code)
    model().remove_language(code)
    return installed


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def attempt(files: dict[str, bytes], sample: str) -> str | None:
    """Try to install a folder with these files.

    Returns:
        The error's message, after which the model is as before, bit by bit; None if it installed the sample's weights.
        Either way nothing is written anywhere near.
    """
    expected(sample)
    before = state()
    with tempfile.TemporaryDirectory() as temporary:
        sandbox = Path(temporary)
        folder = write(sandbox / "inner" / "pack", files)
        there = tree(sandbox)
        try:
            code = model().load_language(folder)
        except XmodularError as error:
            message = str(error)
            assert message
            assert message.isprintable() or "\n" in message
        else:
            message = None
            assert language_state(code) == expected(sample)
            model().remove_language(code)
        assert tree(sandbox) == there
    assert state() == before
    return message


def resealed(files: dict[str, bytes], manifest: dict[str, Any]) -> dict[str, bytes]:
    """The files with a manifest whose sizes and hashes fit them all: the work of somebody who means it."""
    for name, record in manifest["files"].items():
        if name in files and isinstance(record, dict):
            record |= {"size": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    return {**files, "pack.json": sealed(manifest)}


def with_file(sample: str, name: str, data: bytes) -> dict[str, bytes]:
    """A sample with one file replaced, and a manifest that knows the new one."""
    return resealed({**samples()[sample], name: data}, content_of(sample))


def data_files(sample: str) -> list[str]:
    return [name for name in DATA if name in samples()[sample]]


@st.composite
def files_of_samples(draw: Any) -> tuple[str, str]:
    """A sample and one of its files, the card left out: people edit it."""
    sample = draw(st.sampled_from(NAMES))
    return sample, draw(st.sampled_from(data_files(sample)))


def test_the_samples_are_sound() -> None:
    for name in NAMES:
        assert attempt(samples()[name], name) is None


@cases(200)
@given(files_of_samples(), st.data())
def test_truncated(chosen: tuple[str, str], data: Any) -> None:
    sample, name = chosen
    whole = samples()[sample][name]
    cut = data.draw(st.integers(0, len(whole) - 1))
    message = attempt({**samples()[sample], name: whole[:cut]}, sample)
    only_the_newline = name == "pack.json" and cut == len(whole) - 1
    assert (message is None) == only_the_newline
    assert message is None or name in message


@cases(300)
@given(files_of_samples(), st.data())
def test_flipped(chosen: tuple[str, str], data: Any) -> None:
    sample, name = chosen
    damaged = bytearray(samples()[sample][name])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    message = attempt({**samples()[sample], name: bytes(damaged)}, sample)
    assert message is not None
    assert name in message


@cases(60)
@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sets(st.sampled_from(DATA), min_size=1, max_size=3))
def test_mixed(sample: str, other: str, names: set[str]) -> None:
    """Files of one pack among those of another."""
    taken = {name: samples()[other][name] for name in names if name in samples()[other]}
    mixed = {**samples()[sample], **taken}
    if mixed["pack.json"] == samples()[other]["pack.json"]:
        sample = other
    declared = {name: mixed.get(name) for name in content_of(sample)["files"]}
    whole = declared == {name: samples()[sample][name] for name in declared}
    assert (attempt(mixed, sample) is None) == whole


@cases(60)
@given(files_of_samples(), st.sampled_from((*DATA, "adapter.bin", "Adapter.safetensors", "adapter")), st.booleans())
def test_files_renamed(chosen: tuple[str, str], name: str, everywhere: bool) -> None:
    """On disk alone, or in the manifest too."""
    sample, old = chosen
    files = dict(samples()[sample])
    files[name] = files.pop(old)
    manifest = content_of(sample)
    if everywhere and old in manifest["files"] and "pack.json" in files and name != "pack.json":
        manifest["files"][name] = manifest["files"].pop(old)
        files = resealed(files, manifest)
    assert (attempt(files, sample) is None) == (name == old)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON document."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    made = copy.copy(value)
    made[path[0]] = replaced(value[path[0]], path[1:], new)
    return made


VALUES = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**200, 0.5, -0.0, 1e308, "", "x", "../x", "0" * 64, "\x1b[31m"),
    *("\ud800", [], [[]], [{}], [1, "a"], {}, {"a": {}}, {"size": 1, "sha256": "0" * 64}, "fp32", 10**300),
)
PLACES = [(name, path) for name in ("german", "own") for path in places(content_of(name))]
# Where another value of the right type may stand: nothing that is checked against weights or model depends on it. With
# a vocabulary of its own, the base's is not compared.
FREE = [("language",), ("licence",), ("note",), ("scores",), ("writer",), ("created",), ("names",), ("base", "name")]
FREE += [("base", "tokenizer"), ("base", "words"), ("base", "rows")]


@cases(400)
@given(st.sampled_from(PLACES), st.sampled_from(VALUES), st.booleans())
def test_values_retyped(place: tuple[str, tuple[Any, ...]], value: Any, seal: bool) -> None:
    sample, path = place
    damaged = replaced(content_of(sample), path, value)
    seal = seal and path != ("checksum",)
    text = sealed(damaged) if seal else json.dumps(damaged).encode()
    message = attempt({**samples()[sample], "pack.json": text}, sample)
    same = json.dumps(damaged) == json.dumps(content_of(sample))
    if message is None and not same:
        assert seal
        assert any(path[: len(free)] == free for free in FREE)
    if message is not None and path and path[0] not in ("language", "base", "files", "vocabulary"):
        assert "pack.json" in message


@cases(60)
@given(st.sampled_from(NAMES), st.randoms(use_true_random=False), st.sampled_from((None, 0, 1, 7)))
def test_reordered(sample: str, order: random.Random, indent: int | None) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(part) for part in value]
        if not isinstance(value, dict):
            return value
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    text = json.dumps(shuffled(content_of(sample)), indent=indent).encode()
    files = {**samples()[sample], "pack.json": text}
    with tempfile.TemporaryDirectory() as folder:
        one, other = (read_pack(write(Path(folder), each)) for each in (files, samples()[sample]))
        assert one == other
    assert attempt(files, sample) is None


@cases(40)
@given(st.sampled_from(NAMES), st.one_of(st.integers(-3, 2**70), st.sampled_from((None, "1", 1.0, True, [1], "2"))))
def test_versions(sample: str, version: Any) -> None:
    message = attempt({**samples()[sample], "pack.json": sealed({**content_of(sample), "version": version})}, sample)
    if type(version) is int and version == 1:
        assert message is None
    else:
        assert message is not None
        assert ("newer xmodular" in message) == (type(version) is int and version > 1)


@cases(60)
@given(st.sampled_from(NAMES), st.text(min_size=1, max_size=20), st.sampled_from(("", "base", "names", "files")))
def test_unknown_keys(sample: str, key: str, where: str) -> None:
    damaged = content_of(sample)
    table = damaged[where] if where else damaged
    known = key in table
    table.setdefault(key, {"size": 1, "sha256": "0" * 64})
    assert (attempt({**samples()[sample], "pack.json": sealed(damaged)}, sample) is None) == known


@pytest.mark.parametrize("key", ["format", "language", "size", "base"])
def test_a_key_twice(key: str) -> None:
    text = samples()["german"]["pack.json"].decode()
    line = next(line for line in text.splitlines() if f'"{key}":' in line)
    value = '{"a": 1},' if line.rstrip().endswith("{") else line.split(":", 1)[1].rstrip().rstrip(",") + ","
    damaged = text.replace(line, f'"{key}": {value}\n{line}', 1)
    assert "twice" in (attempt({**samples()["german"], "pack.json": damaged.encode()}, "german") or "")


OUTSIDE = (
    *("../x", "../../x", "/tmp/x", "..", ".", "", "a/b", "adapter.safetensors/../x", "..\\x", "C:\\x", "\x00"),
    *("~/x", "pack.json", "README.md", "con", "adapter.safetensors\n", "ADAPTER.SAFETENSORS", "​adapter.safetensors"),
)


@cases(60)
@given(st.sampled_from(NAMES), st.sampled_from(OUTSIDE), st.sampled_from(("more", "instead", "tensor", "language")))
def test_names_that_lead_outside(sample: str, name: str, where: str) -> None:
    manifest, files = content_of(sample), dict(samples()[sample])
    if where == "more":
        manifest["files"][name] = dict(manifest["files"]["adapter.safetensors"])
    elif where == "instead":
        manifest["files"][name] = manifest["files"].pop("adapter.safetensors")
    elif where == "language":
        manifest["language"] = name
    else:
        header, body = parts(files["adapter.safetensors"])
        header[name] = header.pop("layer.0.dense1.bias")
        files["adapter.safetensors"] = joined(header, body)
        files = resealed(files, manifest)
    if where != "tensor":
        files["pack.json"] = sealed(manifest)
    message = attempt(files, sample)
    assert (message is None) == (where == "language" and name == "con")


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file."""
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@cases(200)
@given(
    st.sampled_from(("adapter.safetensors", "embeddings.safetensors")),
    st.data(),
    st.sampled_from(("shape", "dtype", "offsets", "name", "more", "less", "longer", "shorter")),
)
def test_tensors_that_are_others(name: str, data: Any, change: str) -> None:
    """Headers that lie, with sizes and checksums that fit."""
    header, body = parts(samples()["own"][name])
    keys = sorted(set(header) - {"__metadata__"})
    key = data.draw(st.sampled_from(keys))
    size = st.sampled_from((0, 1, 2, 4, 8, 9, 32, 64, 2**31, 2**53, 2**63 - 1))
    tensor, before = header[key], copy.deepcopy(header)
    if change == "shape":
        tensor["shape"] = data.draw(st.lists(size, max_size=3))
    elif change == "dtype":
        tensor["dtype"] = data.draw(st.sampled_from(("F16", "BF16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "X")))
    elif change == "offsets":
        tensor["data_offsets"] = [data.draw(size), data.draw(size)]
    elif change == "name":
        header[data.draw(st.sampled_from([*keys, "x", "layer.2.dense1.bias", "a.b", ""]))] = header.pop(key)
    elif change == "more":
        header["x"] = {"dtype": "F32", "shape": [2], "data_offsets": [len(body), len(body) + 8]}
        body += bytes(8)
    elif change == "less":
        del header[key]
    elif change == "longer":
        body += bytes(data.draw(st.integers(1, 64)))
    else:
        body = body[: data.draw(st.integers(0, len(body) - 1))]
    message = attempt(with_file("own", name, joined(header, body)), "own")
    same = header == before and body == parts(samples()["own"][name])[1]
    assert (message is None) == same
    assert message is None or name in message


@pytest.mark.parametrize("name", ["adapter.safetensors", "embeddings.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("known", [True, False], ids=["known", "swapped"])
def test_pickles(name: str, protocol: int, known: bool, tmp_path: Path) -> None:
    """Under the names of other files, padded to the size that is due; in the manifest, or put there later."""
    marker = tmp_path / "ran"

    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (marker,)

    padded = pickle.dumps(Touch(), protocol).ljust(len(samples()["own"][name]), b"\0")
    pickle.loads(padded)
    assert marker.exists()  # it does what it says
    marker.unlink()
    files = with_file("own", name, padded) if known else {**samples()["own"], name: padded}
    assert name in (attempt(files, "own") or "")
    pack = read_pack(write(tmp_path / "pack", samples()["own"]))
    (pack.folder / name).write_bytes(padded)
    with pytest.raises(PackError, match=name):
        {"tokenizer.json": pack.tokenizer_json, "adapter.safetensors": pack.adapter}.get(name, pack.embeddings)()
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"null", b"[]", b"{}", b"1", b'"x"', b"\xff\xfe", b'{"a": NaN}', b"{" * 9, b"\xef\xbb\xbf{}"),
        *(b"[" * 500_000, b'{"a":' * 150_000, b"1" * 5_000, b'{"format": 1e999}', b" " * (1 << 20) + b"{}"),
    ],
    ids=range(15),
)
@pytest.mark.parametrize("name", ["pack.json", "tokenizer.json", "header"])
def test_documents_that_are_none(text: bytes, name: str) -> None:
    if name == "header":
        files = with_file("own", "adapter.safetensors", joined(text, parts(samples()["own"]["adapter.safetensors"])[1]))
    elif name == "tokenizer.json":
        files = with_file("own", name, text)
    else:
        files = {**samples()["own"], name: text}
    assert attempt(files, "own") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"added_tokens": [{"id": OWN_ROWS, "content": "x"}]},
        {"added_tokens": [{"id": -1, "content": "x"}]},
        {"added_tokens": [{"content": "x"}]},
        {"added_tokens": 7},
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["x", 0.0]] * (OWN_ROWS + 1)}},
        {"model": {"type": "WordLevel", "unk_token": "x", "vocab": {"x": OWN_ROWS}}},
        {"model": {"type": "WordLevel", "unk_token": "x", "vocab": {"x": "0"}}},
        {"model": {"type": "Unigram", "unk_id": 99, "vocab": [["x", 0.0]]}},
        {"model": None},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    ],
)
def test_tokenizers_that_do_not_fit_their_embeddings(change: dict[str, Any]) -> None:
    tokenizer = json.loads(samples()["own"]["tokenizer.json"]) | change
    assert attempt(with_file("own", "tokenizer.json", json.dumps(tokenizer).encode()), "own") is not None


@pytest.mark.parametrize(
    ("sizes", "vocabulary"),
    [
        ({"hidden_size": 65_536, "bottleneck_size": 65_536}, None),
        ({"num_hidden_layers": 1024, "bottleneck_size": 65_536}, None),
        ({"num_hidden_layers": 10**9}, None),
        ({"hidden_size": 10**400}, None),
        ({"bottleneck_size": 2**40}, None),
        ({}, 2**20),
        ({}, 2**40),
        ({"hidden_size": 8192, "bottleneck_size": 8192, "num_hidden_layers": 16}, None),
        ({"hidden_size": 4096}, 2**18),
    ],
)
def test_absurd_sizes_are_refused_unread(sizes: dict[str, int], vocabulary: int | None, tmp_path: Path) -> None:
    """Sparse files cost the attacker nothing; they must cost us nothing either."""
    sample = "german" if vocabulary is None else "own"
    manifest = content_of(sample)
    manifest["base"]["shape"] |= sizes
    manifest["vocabulary"] = vocabulary
    name = "adapter.safetensors" if vocabulary is None else "embeddings.safetensors"
    manifest["files"][name]["size"] = 1 << 42
    folder = write(tmp_path / "pack", {**samples()[sample], "pack.json": sealed(manifest)})
    with (folder / name).open("r+b") as file:
        file.truncate(1 << 42)
    with pytest.raises(PackError):
        model().load_language(folder)


@pytest.mark.parametrize(("dtype", "fits"), [("float32", False), ("bfloat16", True)])
def test_sizes_that_multiply_to_absurd_ones(dtype: str, fits: bool) -> None:
    """Each may be possible; it is their product that fills a memory."""
    content = content_of("own") | {"dtype": dtype}
    content["base"]["shape"] |= {"hidden_size": 1024}
    content["vocabulary"] = 600_000
    assert list(problems(content)) == (
        []
        if fits
        else ["base.shape, vocabulary and dtype imply embeddings of 2,460,000,000 bytes; at most 2,147,483,648"]
    )


def test_everything_wrong_is_listed_at_once(tmp_path: Path) -> None:
    files = dict(samples()["own"])
    files["adapter.safetensors"] = files["adapter.safetensors"][:-1]
    files["tokenizer.json"] = b"x" + files["tokenizer.json"][1:]
    del files["embeddings.safetensors"]
    with pytest.raises(PackError) as caught:
        read_pack(write(tmp_path, files)).check()
    assert all(name in str(caught.value) for name in files if name not in ("pack.json", "README.md"))
    assert "embeddings.safetensors is missing" in str(caught.value)
    damaged = content_of("german") | {"dtype": "int8", "scores": 3, "created": "yesterday"}
    with pytest.raises(PackError) as caught:
        read_pack(write(tmp_path, {"pack.json": sealed(damaged)}))
    assert all(word in str(caught.value) for word in ("dtype", "scores", "created"))


def test_files_that_are_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "pack", samples()["german"])
    (folder / "adapter.safetensors").unlink()
    os.mkfifo(folder / "adapter.safetensors")  # reading it would wait for ever
    with pytest.raises(PackError, match="missing"):
        read_pack(folder).check()
    (folder / "pack.json").unlink()
    os.mkfifo(folder / "pack.json")
    with pytest.raises(PackError, match="is not a language pack"):
        read_pack(folder)
