"""A language pack: its description, and its files, which are checked before they are read."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

from xmodular.errors import PackError, listed
from xmodular.files import sha256_of
from xmodular.packs import manifest
from xmodular.packs.fingerprints import DTYPES, Base, Misfit
from xmodular.packs.manifest import ADAPTER, EMBEDDINGS, MANIFEST, TOKENIZER
from xmodular.tokenizer_rules import problem
from xmodular.weight_names import PACK_BIAS

_CODES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # as safetensors calls them
_MAX_HEADER = 1 << 22
_MAX_TOKENIZER = 1 << 28


@dataclass(frozen=True)
class FileRecord:
    """The record of a file in `pack.json`: size in bytes and SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Pack:
    """A language pack; made by `read_pack` and `write_pack`.

    Attributes:
        folder: its folder.
        language: code of the language.
        names: its English and native name and its BCP-47 tag (`english`, `native`, `bcp47`), None where unknown.
        base: the model that it was trained with.
        dtype: of its weights: "float32", "bfloat16" or "float16".
        vocabulary: rows of its own word embeddings; None if it uses the base's.
        licence, note: from its creator.
        scores: rows of values, such as those of `xmodular.results`.
        created: time in UTC, such as "2025-01-31T12:00:00Z".
        writer: name and version of the program that wrote it.
        files: size and hash by name.
    """

    folder: Path
    language: str
    names: dict[str, str | None]
    base: Base
    dtype: str
    vocabulary: int | None
    licence: str | None
    note: str | None
    scores: tuple[dict[str, Any], ...]
    created: str
    writer: str
    files: dict[str, FileRecord]

    @property
    def title(self) -> str:
        """The code, with the English name if it is known."""
        name = self.names["english"]
        return f"{self.language} ({name})" if name else self.language

    def check(self) -> None:
        """Check all files: sizes, then checksums, then the names and shapes inside.

        Reading a file stops at the first problem, and it is never read into memory as a whole (except the tokenizer,
        whose size is limited).

        Raises:
            PackError: lists all problems.
        """
        found = [problem for name in self.files for problem in self._problems(name)]
        if found:
            raise PackError(f"The language pack {self.folder} is damaged:{listed(found)}")

    def adapter(self) -> dict[str, Tensor]:
        """The adapter's weights: `layer.{N}.dense1.weight`, *(bottleneck, hidden)*, and so on, in `dtype`.

        Raises:
            PackError: the file is not the one described by `pack.json`.
        """
        return self._tensors(ADAPTER)

    def embeddings(self) -> dict[str, Tensor]:
        """The language's own `word_embeddings.weight`, *(rows, hidden)*, and optionally `lm_head.bias`, *(rows,)*.

        Raises:
            PackError: the pack has none, or the file is not the one described by `pack.json`.
        """
        return self._tensors(EMBEDDINGS)

    def tokenizer_json(self) -> str:
        """The text of the language's own `tokenizer.json`.

        Raises:
            PackError: the pack has none, or the file is not the one described by `pack.json`.
        """
        return self._content(TOKENIZER).decode("utf-8")

    def misfits(
        self,
        shape: Mapping[str, Any],
        frame: Mapping[str, Tensor],
        words: Tensor,
        *,
        tokenizer: str | None = None,
    ) -> list[Misfit]:
        """All reasons why this pack does not fit a model; empty if it fits.

        Args:
            shape, frame, words, tokenizer: the model's, as for `Base.of`. For a pack with its own vocabulary,
                `words` and `tokenizer` are not compared.
        """
        if self.vocabulary is not None:
            return self.base.misfits(shape, frame, None)
        return self.base.misfits(shape, frame, words, tokenizer=tokenizer)

    def implausible(self) -> list[str]:
        """Files whose sizes in `pack.json` contradict shapes and dtype; the files themselves are not read."""
        sizes = ((name, record.size) for name, record in self.files.items())
        return [problem for name, size in sizes if (problem := self._size_problem(name, size))]

    def _problems(self, name: str) -> Iterator[str]:
        """What is wrong with one file; the cheap questions first, and no others after a wrong answer."""
        path, record = self.folder / name, self.files[name]
        try:
            if not path.is_file():
                yield f"{name} is missing"
                return
            size = path.stat().st_size
            if size != record.size:
                yield f"{name} has {size:,} bytes and should have {record.size:,}"
                return
            if wrong := self._size_problem(name, size):
                yield wrong
                return
            if sha256_of(path) != record.sha256:
                yield f"{name} does not have the checksum in {MANIFEST}: it is damaged, or another file"
                return
            yield from self._tokenizer_problems(path) if name == TOKENIZER else self._tensor_problems(path)
        except OSError as error:
            raise PackError(f"{path} cannot be read: {error.strerror or error}.") from error

    def _implied(self, name: str) -> dict[str, tuple[int, ...]]:
        """The tensors of a file."""
        return manifest.tensor_shapes({"base": {"shape": self.base.shape}, "vocabulary": self.vocabulary})[name]

    def _size_problem(self, name: str, size: int) -> str | None:
        if name == TOKENIZER:
            # A piece takes some tens of bytes; a table of characters some hundred thousand.
            most = min(_MAX_TOKENIZER, (1 << 22) + 256 * (self.vocabulary or 0))
            return f"{name} has {size:,} bytes; at most {most:,} are read" if size > most else None
        shapes = self._implied(name)
        bytes_each = DTYPES[self.dtype].itemsize
        # Only the last, a bias, may be missing.
        whole = bytes_each * sum(torch.Size(shape).numel() for shape in shapes.values())
        least = whole - (bytes_each * (self.vocabulary or 0) if name == EMBEDDINGS else 0)
        if not least <= size - 8 <= whole + _MAX_HEADER:
            return f"{name} has {size:,} bytes; its {self.dtype} tensors take {whole:,}"
        return None

    def _tensor_problems(self, path: Path) -> Iterator[str]:
        with path.open("rb") as file:
            (header,) = struct.unpack("<Q", file.read(8))
        if header > _MAX_HEADER:
            yield f"{path.name} has a header of {header:,} bytes: it is not a safetensors file of a pack"
            return
        try:
            with safe_open(path, framework="pt") as file:
                found = {key: (file.get_slice(key).get_dtype(), file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            yield f"{path.name} is not a safetensors file: {error!s:.200}"
            return
        wrong = list(self._header_problems(path.name, found))
        yield from wrong
        if not wrong:
            with safe_open(path, framework="pt") as file:
                for key in found:
                    if not file.get_tensor(key).isfinite().all():
                        yield f"{path.name} has infinite or NaN values in {key}"

    def _header_problems(self, name: str, found: Mapping[str, tuple[str, list[int]]]) -> Iterator[str]:
        shapes = self._implied(name)
        for key, shape in shapes.items():
            if key not in found:
                if key != PACK_BIAS:
                    yield f"{name} lacks {key}"
            elif found[key] != (_CODES[self.dtype], list(shape)):
                dtype, there = found[key]
                yield f"{name} has {key} as {dtype} {there!s:.60}; it should be {_CODES[self.dtype]} {list(shape)}"
        for key in found:
            if key not in shapes:
                yield f"{name} has {ascii(key)[:60]}, which does not belong there"

    def _tokenizer_problems(self, path: Path) -> Iterator[str]:
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            yield f"{path.name} is not UTF-8: {error.reason}"
            return
        if wrong := problem(text, self.vocabulary or 0):
            yield f"{path.name} is refused: {wrong}"

    def _content(self, name: str) -> bytes:
        """The bytes of a file, which are those that `pack.json` describes."""
        if name not in self.files:
            raise PackError(f"The language pack {self.folder} has no {name}: it has no vocabulary of its own.")
        record = self.files[name]
        try:
            with (self.folder / name).open("rb") as file:
                content = file.read(record.size + 1)
        except OSError as error:
            raise PackError(f"{self.folder / name} cannot be read: {error.strerror or error}.") from error
        if len(content) != record.size or hashlib.sha256(content).hexdigest() != record.sha256:
            raise PackError(f"{self.folder / name} is not the file described by {MANIFEST}: it is damaged.")
        return content

    def _tensors(self, name: str) -> dict[str, Tensor]:
        content = self._content(name)
        try:
            tensors = safetensors_torch.load(content)
        except SafetensorError as error:
            raise PackError(f"{self.folder / name} is not a safetensors file: {error!s:.200}.") from None
        found = {key: (_code(tensor.dtype), list(tensor.shape)) for key, tensor in tensors.items()}
        if wrong := list(self._header_problems(name, found)):
            raise PackError(f"The language pack {self.folder} is damaged:{listed(wrong)}")
        return {key: tensors[key] for key in self._implied(name) if key in tensors}


def of_manifest(folder: Path, content: Mapping[str, Any]) -> Pack:
    """The pack in a folder whose checked `pack.json` is given."""
    own = {key: content[key] for key in ("language", "names", "dtype", "vocabulary", "licence", "note")}
    return Pack(
        folder=folder,
        **own,
        base=Base(**content["base"]),
        scores=tuple(content["scores"]),
        created=content["created"],
        writer=content["writer"],
        files={name: FileRecord(**content["files"][name]) for name in sorted(content["files"])},
    )


def _code(dtype: torch.dtype) -> str:
    return next((_CODES[name] for name, each in DTYPES.items() if each == dtype), str(dtype))
