"""The tensors of a saved model, read one by one.

A model's folder has one weights file or several (shards) with an index, as safetensors or in PyTorch's own
format. Here they are read as names and tensors, and only what is requested is in memory: all formats are mapped,
not loaded.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xmodular.errors import DataError, StorageError, in_one_line, of_system
from xmodular.hub import on_hub, refusal

# Files of weights, in the order in which they are looked for.
_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# What torch's distributed checkpoints are made of; transformers loads these in place of all others.
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")


class Weights:
    """Names and tensors of a saved model; made by `open_weights`.

    Attributes:
        source: the folder or repository they come from.
        files: paths of the files that were opened, an index first.
        names: of all tensors.
        metadata: other entries of the index of the shards; empty without an index.
    """

    def __init__(
        self,
        source: str,
        readers: dict[str, Callable[[], Tensor]],
        metadata: Mapping[str, Any] | None = None,
        files: tuple[Path, ...] = (),
    ) -> None:
        self.source, self.files = source, files
        self.names = tuple(readers)
        self.metadata = dict(metadata or {})
        self._readers = readers

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, on the CPU. It is the file itself, mapped: clone it before writing into it.

        Raises:
            DataError: there is not a tensor of that name, or it cannot be read.
        """
        if name not in self._readers:
            raise DataError(f"{self.source} has no weight {name!r}; it has {len(self)}; the first is {self.names[:1]}.")
        try:
            return self._readers[name]()
        except (SafetensorError, RuntimeError, OSError) as error:
            raise DataError(f"{self.source}: the weight {name!r} cannot be read: {in_one_line(error)}") from error

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
        source: model folder, or repository on the Hub. In both, ``model.safetensors`` is preferred, then its shards,
            then ``pytorch_model.bin``, then its shards. PyTorch files are read without running code in them.
        revision: branch, tag or commit on the Hub.
        token: access token for the Hub; None uses the saved one.

    Raises:
        DataError: there are no weights, a file is damaged, an index names a file that is not there or lies outside the
            folder, or a shard has weights that the index does not list there, which would be loaded all the same.
    """
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists():
            raise DataError(f"{source} is a file; give the model's folder.")
        name, pinned = on_hub(source)
        folder = _fetch(name, revision or pinned, token)
    with ExitStack() as stack:
        readers, metadata = _readers(folder, stack)
        yield Weights(str(source), readers, metadata, weight_files(folder))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that a model's weights are read from, an index and its shards; empty if there are none.

    Raises:
        DataError: an index is damaged, or names a file that lies outside the folder.
    """
    name = next((name for name in _FILES if (folder / name).is_file()), None)
    return () if name is None else (folder / name, *(folder / shard for shard in _shards(folder / name)))


def size_of_weights(source: Any, **where: Any) -> int | None:
    """Total size in bytes of the files that a model's weights are read from; None if there are none.

    Args:
        source: model folder, or repository on the Hub, from which they are fetched.
        where: as for transformers' `cached_file`.

    Raises:
        DataError: an index is damaged, or a PyTorch file is compressed.
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
        names = _shards(Path(path)) or (name,)
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
            raise DataError(f"{path} has compressed records, which torch.save never writes.")


def _readers(folder: Path, stack: ExitStack) -> tuple[dict[str, Callable[[], Tensor]], dict[str, Any]]:
    if foreign := next((path.name for path in folder.iterdir() if _DISTRIBUTED.fullmatch(path.name)), None):
        raise DataError(
            f"{folder} holds {foreign}, a part of a distributed checkpoint, which would be loaded instead of "
            f"{_FILES[0]}: move it elsewhere, or save the model again."
        )
    name = next((name for name in _FILES if (folder / name).is_file()), None)
    if name is None and (folder / "adapter_config.json").is_file():
        raise DataError(
            f"{folder} is an adapter of PEFT, without the weights of its model: save the merged model first, with "
            "merge_and_unload() and save_pretrained()."
        )
    if name is None:
        raise DataError(f"{folder} has no weights: none of {', '.join(_FILES)} exists.")
    if not name.endswith(".index.json"):
        return _open(folder / name, stack), {}
    places, metadata = _read_index(folder / name)
    shards = {}
    for file in dict.fromkeys(places.values()):
        if not (folder / file).is_file():
            raise DataError(f"{folder / name} names the file {file}, which does not exist.")
        shards[file] = _open(folder / file, stack)
    for weight, file in places.items():
        if weight not in shards[file]:
            raise DataError(f"{folder / name} says that {weight!r} is in {file}, but it is not.")
    for file, found in shards.items():
        if other := next((weight for weight in found if places.get(weight) != file), None):
            raise DataError(
                f"{folder / file} has {other!r}, which {name} does not list there, but which would be loaded all the "
                "same. Save the model again."
            )
    return {weight: shards[file][weight] for weight, file in places.items()}, metadata


def _shards(path: Path) -> tuple[str, ...]:
    """The names of the files in an index; none if the file is not an index but the weights themselves."""
    return tuple(dict.fromkeys(_read_index(path)[0].values())) if path.name.endswith(".index.json") else ()


def _read_index(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The file of each weight, by name; and the other entries of the index."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        places, metadata = content["weight_map"], content.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not a table")
        if not isinstance(places, dict) or not places:
            raise ValueError("its weight_map is not a table of names and files, or is empty")
    except OSError as error:
        raise StorageError(f"The weights cannot be read: {of_system(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is not an index of weights: {in_one_line(error)}") from error
    suffix = path.name.removesuffix(".index.json").rpartition(".")[2]
    for file in places.values():
        if not isinstance(file, str) or file != Path(file).name or "\\" in file or not file.endswith(f".{suffix}"):
            raise DataError(f"{path} names the file {file!r}; it must be a .{suffix} file in the same folder.")
    return places, metadata


def _open(path: Path, stack: ExitStack) -> dict[str, Callable[[], Tensor]]:
    """Readers of all tensors in one file."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise StorageError(f"The weights cannot be read: {of_system(error)}") from error
    if path.suffix == ".safetensors":
        try:
            file = stack.enter_context(safe_open(path, framework="pt", device="cpu"))
            names = file.keys()
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is damaged or not a safetensors file: {in_one_line(error)}") from error
        return {name: lambda name=name: file.get_tensor(name) for name in names}  # type: ignore[misc]
    _check_unpacked(path)
    try:
        # Files from before torch 1.6 are not zip archives and cannot be mapped.
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # unpickling damaged bytes can end in any of them
        raise DataError(f"{path} is damaged or contains more than tensors: {in_one_line(error)}") from error
    wrong = [name for name, value in content.items() if not isinstance(value, Tensor)] if _is_state(content) else None
    if wrong is None or wrong:
        raise DataError(f"{path} does not map names to tensors{f': {wrong[0]!r} is not a tensor' if wrong else ''}.")
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
            for shard in _shards(path):
                download(shard)
            return path.parent
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        cause = error
    said = refusal(repository, cause) if cause is not None else "none found"
    raise DataError(f"No weights found for {repository}, neither as a folder nor on the Hub: {said}.") from cause
