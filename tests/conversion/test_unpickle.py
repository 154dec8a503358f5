"""Files of torch.save are read as data, whatever they say."""

from __future__ import annotations

import argparse
import collections
import enum
import io
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tests.conversion.support import assert_same_bytes
from xmodular.conversion.pickles import StandIn
from xmodular.conversion.stored import StoredTensor
from xmodular.conversion.unpickle import load
from xmodular.errors import DataError


class Call:
    """Unpickled, it calls a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class Choice(enum.Enum):
    GELU = "gelu"


class Settings:
    def __init__(self) -> None:
        self.heads = 4


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def archive(path: Path, data: bytes, **records: bytes) -> Path:
    """An archive with any pickle in it."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        for name, content in records.items():
            file.writestr(f"archive/data/{name.removeprefix('_')}", content)
    return path


@pytest.mark.parametrize("old", [False, True], ids=["archive", "older form"])
def test_tensors_come_back_bit_for_bit(old: bool, tmp_path: Path) -> None:
    whole = torch.randn(6, 8)
    tensors = {
        "whole": whole,
        "shared": whole,
        "column": whole[:, 2],
        "transposed": whole[1:4].T,
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "half": torch.tensor([1.5, float("nan"), float("inf")], dtype=torch.float16),
        "wide": torch.randn(5).to(torch.bfloat16),
        "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "double after three bytes": torch.randn(2, dtype=torch.float64),
        "numbers": torch.arange(4),
        "scalar": torch.tensor(7.0),
        "none": torch.empty(0, 4),
        "truth": torch.tensor([True, False]),
    }
    content = load(saved(tmp_path / "model.pt", tensors, _use_new_zipfile_serialization=not old))
    assert all(isinstance(value, StoredTensor) for value in content.values())
    assert_same_bytes(
        {name: value.read().reshape(-1) for name, value in content.items()},
        {name: tensor.detach().reshape(-1) for name, tensor in tensors.items()},
    )
    assert content["whole"].same_place(content["shared"])
    assert not content["whole"].same_place(content["transposed"])


def test_reading_does_not_change_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", {"a": torch.zeros(64)})
    before = path.read_bytes()
    load(path)["a"].read().fill_(1)
    assert path.read_bytes() == before


def test_plain_values_stay_and_objects_become_stand_ins(tmp_path: Path) -> None:
    content = {
        "plain": [1, 2.5, "x", None, True, (3,), {"k": b"v"}],
        "ordered": collections.OrderedDict(a=1),
        "namespace": argparse.Namespace(layers=12),
        "settings": Settings(),
        "choice": Choice.GELU,
        "number": numpy.float64(3.0),
        "array": numpy.arange(3),
        "set": {1},
    }
    for protocol in (2, 4, 5):
        read = load(saved(tmp_path / "model.pt", content, pickle_protocol=protocol))
        assert read["plain"][:6] == content["plain"][:6]
        assert read["ordered"] == {"a": 1}
        assert read["namespace"].kind == "argparse.Namespace"
        assert read["namespace"].state == {"layers": 12}
        assert read["settings"].state == {"heads": 4}
        assert read["choice"].args == ("gelu",)
        assert all(isinstance(read[name], StandIn) for name in ("number", "array", "choice"))


@pytest.mark.parametrize("old", [False, True], ids=["archive", "older form"])
@pytest.mark.parametrize("kind", ["system", "eval", "touch", "import", "partial", "torch"])
def test_no_function_in_the_file_is_called(kind: str, old: bool, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    calls = {
        "system": Call(os.system, f"touch {trap}"),
        "eval": Call(eval, f"open({str(trap)!r}, 'w')"),
        "touch": Call(Path.touch, trap),
        "import": Call(__import__, "antigravity"),
        "partial": Call(getattr, Call(__import__, "os"), "system"),
        "torch": Call(torch.hub.load, "somebody/something", "model"),
    }
    content = {"a": torch.ones(2), "trap": calls[kind]}
    read = load(saved(tmp_path / "model.pt", content, _use_new_zipfile_serialization=not old))
    assert not trap.exists()
    assert isinstance(read["trap"], StandIn)
    assert read["a"].read().tolist() == [1, 1]


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        _global("torch._utils", "_rebuild_tensor_v2") + b"}X\x01\x00\x00\x00aK\x01sb.",
        _global("collections", "OrderedDict") + b"}X\x01\x00\x00\x00aK\x01sb.",
        _global("os", "system") + b"}X\x01\x00\x00\x00aK\x01sb.",
        b"X\x01\x00\x00\x00aQ.",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02N" + b"r\xff\xff\xff\x7f.",
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
        b"",
        b".",
        b"(" * 50,
    ],
)
def test_hostile_pickles_are_errors(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.pt is damaged"):
        load(archive(tmp_path / "model.pt", data))


def _tensor_pickle(numel: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if isinstance(obj, Storage) else None

    stream = io.BytesIO()
    arguments = (Storage(), offset, shape, stride, False, collections.OrderedDict())
    Pickler(stream, 2).dump({"a": Call(torch._utils._rebuild_tensor_v2, *arguments)})
    return stream.getvalue()


def test_a_well_formed_hand_made_file_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt", _tensor_pickle(4, (2, 2), (2, 1)), _0=struct.pack("<4f", 1, 2, 3, 4))
    assert load(path)["a"].read().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("numel", "shape", "stride", "offset"),
    [
        (10**12, (10**12,), (1,), 0),
        (4, (10**12,), (1,), 0),
        (4, (10**12,), (0,), 0),
        (4, (2, 2), (2, 2), 0),
        (4, (4,), (1,), 1),
        (4, (-4,), (1,), 0),
        (4, (4,), (-1,), 3),
        (4, (4,), (), 0),
        (4, (4,), (1,), -1),
        (4, (2.0,), (1,), 0),
        (-4, (4,), (1,), 0),
        (3, (3,), (1,), 0),
    ],
)
def test_false_sizes_cost_no_memory(
    numel: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    path = archive(tmp_path / "model.pt", _tensor_pickle(numel, shape, stride, offset), _0=bytes(16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"storage|shape"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": "b" * 1000}))
    with pytest.raises(DataError, match="compressed"):
        load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"0 data\.pkl"):
        load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickle.dumps({}, 2))
        file.writestr("a/byteorder", "big")
    with pytest.raises(DataError, match="byte order"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", b"\x80\x02K\x01.", bytes(1000)])
def test_other_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.pt is damaged or not a file of torch\.save"):
        load(tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"no file .*other\.pt"):
        load(tmp_path / "other.pt")


def test_the_older_form_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "model.pt", {"a": torch.randn(5), "b": torch.randn(3)}, _use_new_zipfile_serialization=False
    )
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"model\.pt"):
            load(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(DataError, match="follow"):
        load(path)


# --- small files that describe large things ---


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _nested(depth: int, leaf: bytes = b"K\x01", first: int = 0) -> bytes:
    """A tuple of the same tuple twice, and so on: 2^depth leaves in five bytes a level."""
    steps = [leaf + b"q" + bytes([first])]
    for level in range(first, first + depth):
        steps.append(b"0h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]))
    return b"".join(steps)


_DEEP = _nested(60)
_BOMBS = {
    "key of a storage": b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _DEEP + _text("cpu") + b"K\x01tQ.",
    "key of a table": b"}" + _DEEP + b"K\x01s.",
    "keys of a table": b"}(" + _DEEP + b"K\x01u.",
    "key of a new table": b"(" + _DEEP + b"K\x01d.",
    "frozen set as a key": b"}(" + _DEEP + b"\x91K\x01s.",
    "arguments of a call": _DEEP + b"K\x01R.",
    "callee": _DEEP + b")R.",
    "name": _DEEP + _DEEP[:2] + b"\x93.",
    "state of a tuple": _DEEP + b"}b.",
    "shape": b"ctorch._utils\n_rebuild_tensor_v2\n(N" + b"K\x00" + _DEEP + _DEEP[:2] + b"tR.",
    "number as a key": b"}\x8a\x09" + b"\xff" * 8 + b"\x00K\x01s.",
    "float as a key": b"}G" + bytes(8) + b"K\x01s.",
    "wide number": b"\x8b" + struct.pack("<i", 10_000) + b"\x01" * 10_000 + b".",
    "long number as text": b"L" + b"9" * 4_000 + b"L\n.",
    "memo": b"N" + b"p2305843009213693951\n.",
    "depth": b"]" * 1_000 + b")R.",
}


@pytest.mark.parametrize("name", _BOMBS)
def test_bombs_of_a_few_bytes_are_errors(name: str, tmp_path: Path) -> None:
    """On a machine that hashes, compares or prints these whole, the test would never end."""
    path = archive(tmp_path / "model.pt", b"\x80\x04" + _BOMBS[name])
    with pytest.raises(DataError, match="damaged") as caught:
        load(path)
    assert len(str(caught.value)) < len(str(path)) + 400


def test_keys_of_the_older_form_are_not_hashed(tmp_path: Path) -> None:
    whole = saved(tmp_path / "model.pt", {"a": 1}, _use_new_zipfile_serialization=False).read_bytes()
    keys = b"\x80\x02]q\x00."  # the list of storages comes last
    assert whole.endswith(keys)
    (tmp_path / "model.pt").write_bytes(whole.removesuffix(keys) + b"\x80\x02]" + _DEEP + b"a.")
    with pytest.raises(DataError, match="list of storages"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "data",
    [
        _DEEP + b".",
        b"(" + _DEEP + b"\x91.",
        b"\x8f(" + _DEEP + b"\x90.",
        b"]" + _DEEP + b"a.",
        b"cargparse\nNamespace\n" + _DEEP + b"\x81" + _DEEP[:2] + b"b.",
        b"]" * 20_000 + b"a" * 19_999 + b".",
        b"cos\nsystem\n" + b")R" * 20_000 + b".",
        b"cos\nsystem\n)Rq\x00h\x00b.",
    ],
)
def test_what_is_deep_or_its_own_part_is_kept_unread(data: bytes, tmp_path: Path) -> None:
    content = load(archive(tmp_path / "model.pt", b"\x80\x04" + data))
    assert len(repr(content) if isinstance(content, StandIn) else "") < 100


def test_a_call_keeps_its_arguments_by_reference(tmp_path: Path) -> None:
    """Each call of four bytes with the same thousand arguments: copied, they would fill the memory."""
    arguments = b"(" + b"N" * 1_000 + b"tq\x00"
    call = b"h\x01h\x00R"
    data = b"\x80\x02" + arguments + b"0ca\nb\nq\x010](" + call * 1_000 + b"e."
    content = load(archive(tmp_path / "model.pt", data))
    assert len(content) == 1_000
    assert all(each.args is content[0].args for each in content)


def test_a_pickle_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmodular.conversion.pickles._MOST_BYTES", 100)
    assert load(archive(tmp_path / "model.pt", b"N0" * 40 + b"N.")) is None
    with pytest.raises(DataError, match="more than 100 bytes"):
        load(archive(tmp_path / "model.pt", b"N0" * 60 + b"N."))
