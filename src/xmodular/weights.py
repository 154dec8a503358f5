"""The tensors of a saved model, read one by one.

A model's folder holds one file of weights or several (shards) with an index, as safetensors or in PyTorch's own
format. Whoever reads them here sees names and tensors, and memory holds what is asked for: all formats are mapped,
not loaded.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xmodular.errors import DataError

# Where weights lie, in the order in which a folder is searched.
_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


class Weights:
    """Names and tensors of a saved model; made by `open_weights`.

    Attributes:
        source: the folder or repository they come from.
        names: of all tensors.
    """

    def __init__(self, source: str, readers: dict[str, Callable[[], Tensor]]) -> None:
        self.source = source
        self.names = tuple(readers)
        self._readers = readers

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, on the CPU. It is the file itself, mapped: clone it before writing into it.

        Raises:
            DataError: there is no tensor of that name, or it cannot be read.
        """
        if name not in self._readers:
            raise DataError(f"{self.source} has no weight {name!r}; it has {len(self)}, the first is {self.names[:1]}.")
        try:
            return self._readers[name]()
        except (SafetensorError, RuntimeError, OSError) as error:
            raise DataError(f"{self.source}: the weight {name!r} cannot be read: {error}") from error

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape; its values are not read."""
        return tuple(self[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        """The tensor's dtype; its values are not read."""
        return self[name].dtype


@contextmanager
def open_weights(
    source: str | Path, *, revision: str | None = None, token: str | bool | None = None
) -> Iterator[Weights]:
    """The weights of a saved model, open for reading one by one.

    Args:
        source: model folder, or repository on the Hub. In both ``model.safetensors`` is taken first, then its shards,
            then ``pytorch_model.bin``, then its shards. Files of PyTorch are read without running code in them.
        revision: branch, tag or commit on the Hub.
        token: access token of the Hub; None takes the saved one.

    Raises:
        DataError: there are no weights, a file is damaged, or an index names a file that is not there or lies outside
            the folder.
    """
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists():
            raise DataError(f"{source} is a file; give the model's folder.")
        folder = _fetch(str(source), revision, token)
    with ExitStack() as stack:
        yield Weights(str(source), _readers(folder, stack))


def size_of_weights(source: Any, **where: Any) -> int | None:
    """Bytes of the files that a model's weights are read from; None where there are none.

    Args:
        source: model folder, or repository on the Hub, from which they are fetched.
        where: as for transformers' `cached_file`.

    Raises:
        DataError: an index is damaged, or a file of PyTorch is packed.
    """
    from transformers.utils import cached_file

    options = {**where, "force_download": False}
    quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    for name in _FILES:
        try:
            path = cached_file(str(source), name, **options, **quietly)
        except (OSError, ValueError):  # no such repository
            return None
        if path is None:
            continue
        names = dict.fromkeys(_read_index(Path(path)).values()) if name.endswith(".index.json") else (name,)
        found = [cached_file(str(source), each, **options, **quietly) for each in names]
        files = [Path(each) for each in found if each is not None]
        for file in files:
            _check_unpacked(file)
        return sum(file.stat().st_size for file in files)
    return None


def _check_unpacked(path: Path) -> None:
    """Check that an archive of PyTorch is as `torch.save` writes it: a few packed bytes may stand for any number.

    Raises:
        DataError: it is packed.
    """
    if path.suffix == ".bin" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
        if any(record.compress_type or record.compress_size != record.file_size for record in records):
            raise DataError(f"{path} has packed records, which torch.save never writes.")


def _readers(folder: Path, stack: ExitStack) -> dict[str, Callable[[], Tensor]]:
    name = next((name for name in _FILES if (folder / name).is_file()), None)
    if name is None:
        raise DataError(f"{folder} holds no weights: none of {', '.join(_FILES)} is there.")
    if not name.endswith(".index.json"):
        return _open(folder / name, stack)
    places = _read_index(folder / name)
    shards = {}
    for file in dict.fromkeys(places.values()):
        if not (folder / file).is_file():
            raise DataError(f"{folder / name} names the file {file}, which is not there.")
        shards[file] = _open(folder / file, stack)
    for weight, file in places.items():
        if weight not in shards[file]:
            raise DataError(f"{folder / name} says that {weight!r} is in {file}, which does not hold it.")
    return {weight: shards[file][weight] for weight, file in places.items()}


def _read_index(path: Path) -> dict[str, str]:
    """From the names of the weights to the names of their files."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(places, dict) or not places:
            raise ValueError("its weight_map is no table of names and files, or an empty one")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is not an index of weights: {error!r}") from error
    suffix = path.name.removesuffix(".index.json").rpartition(".")[2]
    for file in places.values():
        if not isinstance(file, str) or file != Path(file).name or "\\" in file or not file.endswith(f".{suffix}"):
            raise DataError(f"{path} names the file {file!r}; it must be a .{suffix} file in the same folder.")
    return places


def _open(path: Path, stack: ExitStack) -> dict[str, Callable[[], Tensor]]:
    """Readers of all tensors in one file."""
    if path.suffix == ".safetensors":
        try:
            file = stack.enter_context(safe_open(path, framework="pt", device="cpu"))
            names = file.keys()
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is damaged, or no safetensors file: {error}") from error
        return {name: lambda name=name: file.get_tensor(name) for name in names}  # type: ignore[misc]
    _check_unpacked(path)
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # unpickling damaged bytes can end in any of them
        raise DataError(f"{path} is damaged, or holds more than tensors: {error}") from error
    wrong = [name for name, value in content.items() if not isinstance(value, Tensor)] if _is_state(content) else None
    if wrong is None or wrong:
        raise DataError(f"{path} is no table of names and tensors{f': {wrong[0]!r} is none' if wrong else ''}.")
    return {name: lambda tensor=tensor: tensor for name, tensor in content.items()}  # type: ignore[misc]


def _is_state(content: object) -> bool:
    return isinstance(content, dict) and all(isinstance(name, str) for name in content)


def _fetch(repository: str, revision: str | None, token: str | bool | None) -> Path:
    """The folder with the weights of a Hub repository, downloaded if need be."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    def download(file: str) -> Path:
        return Path(hf_hub_download(repository, file, revision=revision, token=token))

    cause: Exception | None = None
    try:
        for name in _FILES:
            try:
                path = download(name)
            except EntryNotFoundError as error:
                cause = error
                continue
            if name.endswith(".index.json"):
                for file in dict.fromkeys(_read_index(path).values()):
                    download(file)
            return path.parent
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        cause = error
    raise DataError(f"No weights at {repository}, neither as a folder nor on the Hub: {cause}") from cause
