"""Write a language pack, atomically."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from xmodular.errors import PackError, listed
from xmodular.files import folder_beside, let_read, sha256_of
from xmodular.languages import names_of
from xmodular.options import PRECISIONS
from xmodular.outputs import check_replaceable
from xmodular.packs import manifest
from xmodular.packs.fingerprints import DTYPES, Base
from xmodular.packs.manifest import ADAPTER, CARD, EMBEDDINGS, FILES, MANIFEST, TOKENIZER
from xmodular.packs.pack import Pack, of_manifest
from xmodular.packs.pack_card import pack_card
from xmodular.weight_names import PACK_BIAS, PACK_WORDS


def write_pack(
    folder: str | Path,
    *,
    language: str,
    adapter: Mapping[str, Tensor],
    base: Base,
    embeddings: Mapping[str, Tensor] | None = None,
    tokenizer: str | None = None,
    precision: Literal["keep", "fp32", "bf16", "fp16"] = "keep",
    licence: str | None = None,
    note: str | None = None,
    scores: Iterable[Mapping[str, Any]] = (),
    overwrite: bool = False,
) -> Pack:
    """Write a language as a pack.

    Args:
        folder: the pack's folder.
        language: code of the language.
        adapter: `layer.{N}.dense1.weight`, *(bottleneck, hidden)*, `layer.{N}.dense1.bias`, *(bottleneck,)*,
            `layer.{N}.dense2.weight`, *(hidden, bottleneck)*, `layer.{N}.dense2.bias`, *(hidden,)*, for every layer.
        base: the model that the language was trained with.
        embeddings: the language's own vocabulary: `word_embeddings.weight`, *(rows, hidden)*, and optionally
            `lm_head.bias`, *(rows,)*.
        tokenizer: the text of that vocabulary's `tokenizer.json`; required with `embeddings`.
        precision: "keep" stores the weights as they are; fp32, bf16 or fp16 converts them.
        licence: an SPDX identifier, such as "cc-by-4.0".
        note: where the language's text came from, how the adapter was trained.
        scores: rows of values, which are shown on the model card.
        overwrite: whether to replace a pack in `folder`.

    Raises:
        PackError: before anything is written: `folder` is in use, a tensor is missing, unknown or has another shape,
            or a value is too large for the precision.
    """
    target = Path(folder)

    def check() -> None:
        check_target(target, overwrite=overwrite)

    check()
    if (embeddings is None) != (tokenizer is None):
        raise PackError("A language's own vocabulary needs both embeddings and a tokenizer; only one is given.")
    tensors = {ADAPTER: dict(adapter)} | ({EMBEDDINGS: dict(embeddings)} if embeddings is not None else {})
    dtype = _dtype(tensors, precision)
    rows = None
    if embeddings is not None:
        table = embeddings.get(PACK_WORDS)
        if table is None:
            raise PackError(f"embeddings lack {PACK_WORDS!r}.")
        rows = table.shape[0]
    content: dict[str, Any] = {
        "format": manifest.FORMAT,
        "version": manifest.VERSION,
        "language": language,
        "names": names_of(language),
        "base": asdict(base),
        "dtype": dtype,
        "vocabulary": rows,
        "licence": licence,
        "note": note,
        "scores": [dict(row) for row in scores],
        "created": datetime.now(timezone.utc).strftime(manifest.TIME),
        "writer": _writer(),
        "files": {name: {"size": 0, "sha256": "0" * 64} for name in [*tensors, *([TOKENIZER] if tokenizer else [])]},
        "checksum": "0" * 64,
    }
    found = list(manifest.problems(content))
    if not found:
        found = list(_tensor_problems(tensors, manifest.tensor_shapes(content)))
    if found:
        raise PackError(f"The language pack cannot be written:{listed(found)}")
    stored = {name: _cast(part, dtype) for name, part in tensors.items()}
    with folder_beside(target, check) as beside:
        for name, part in stored.items():
            save_file(part, beside / name, metadata={"format": "pt"})
        let_read(beside / name for name in stored)
        if tokenizer is not None:
            (beside / TOKENIZER).write_text(tokenizer, encoding="utf-8", newline="")
        for name, record in content["files"].items():
            record |= {"size": (beside / name).stat().st_size, "sha256": sha256_of(beside / name)}
        content["checksum"] = manifest.checksum(content)
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        if len(text.encode()) > manifest.MAX_MANIFEST:
            raise PackError(f"Note and scores are too long: {MANIFEST} may have {manifest.MAX_MANIFEST:,} bytes.")
        (beside / MANIFEST).write_text(text, encoding="utf-8")
        (beside / CARD).write_text(pack_card(of_manifest(target, content)), encoding="utf-8")
        of_manifest(beside, content).check()
    return of_manifest(target, content)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a pack may be written here.

    Raises:
        PackError: there are files that are not part of a pack, or `overwrite` is False.
    """

    def is_pack(folder: Path) -> bool:
        return (folder / MANIFEST).is_file()

    check_replaceable(target, "a language pack", is_pack, FILES.__contains__, overwrite=overwrite, error=PackError)


def _dtype(tensors: Mapping[str, Mapping[str, Tensor]], precision: str) -> str:
    """The name of the dtype to store in."""
    if precision in PRECISIONS:
        return PRECISIONS[precision]
    if precision != "keep":
        raise PackError(f"precision is {precision!r}: it must be one of keep, {', '.join(PRECISIONS)}.")
    kinds = {tensor.dtype for part in tensors.values() for tensor in part.values()}
    name = next((name for name, dtype in DTYPES.items() if kinds == {dtype}), None)
    if name is None:
        shown = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds)) or "nothing"
        raise PackError(f"The weights are in {shown}, but a pack has one precision. Choose {' or '.join(PRECISIONS)}.")
    return name


def _tensor_problems(
    tensors: Mapping[str, Mapping[str, Tensor]], implied: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> Iterable[str]:
    for name, shapes in implied.items():
        part = tensors[name]
        for key, shape in shapes.items():
            if key not in part:
                if key != PACK_BIAS:
                    yield f"{key} is missing"
            elif tuple(part[key].shape) != shape:
                yield f"{key} has shape {tuple(part[key].shape)}; the base requires {shape}"
        for key in part:
            if key not in shapes:
                yield f"{key} does not belong in {name}"


def _cast(tensors: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """The tensors on the CPU in a dtype, each with memory of its own.

    Raises:
        PackError: a value is not finite, or is not after the cast.
    """
    cast = {}
    for key, tensor in tensors.items():
        stored = tensor.detach().to("cpu", DTYPES[dtype], copy=True).contiguous()
        if not tensor.isfinite().all():
            raise PackError(f"{key} has infinite or NaN values: the model is damaged, or its training diverged.")
        if not stored.isfinite().all():
            worst = tensor.detach().abs().max().item()
            raise PackError(
                f"{key} has values up to {worst:.4g}, too large for {dtype} (at most "
                f"{torch.finfo(DTYPES[dtype]).max:.4g}): choose another precision."
            )
        cast[key] = stored
    return cast


def _writer() -> str:
    """This program's name and, if it is installed, its version."""
    try:
        return f"xmodular {importlib.metadata.version('xmodular')}"
    except importlib.metadata.PackageNotFoundError:
        return "xmodular"
