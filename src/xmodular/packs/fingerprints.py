"""The base of a language: the shape of the model, and fingerprints of the shared weights it was trained with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from xmodular.errors import InputError
from xmodular.weight_names import PACK_WORDS

# The precisions of packs and fingerprints, the widest first.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Elements that are cast and hashed at a time.
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Misfit:
    """One reason why a pack does not fit a model.

    Attributes:
        part: the part that differs: "shape", "frame", "words" or "tokenizer".
        message: the difference.
        forcible: whether the pack can still be installed, at the user's risk; not if shapes differ.
    """

    part: Literal["shape", "frame", "words", "tokenizer"]
    message: str
    forcible: bool


@dataclass(frozen=True)
class Base:
    """The model that a language was trained with.

    A fingerprint maps the name of a dtype to the SHA-256 of the tensors cast to it. A model in float32 has one for each
    of `DTYPES`, a 16-bit model only its own, so a model is recognised whichever of these dtypes it is loaded in.

    Attributes:
        name: the model's name on the Hub, or the name of its folder; None if unknown.
        shape: the fields of the configuration that must be equal.
        frame: fingerprint of the shared weights that no recipe changes, except the word embeddings.
        words: fingerprint of the word embeddings.
        rows: number of word embeddings.
        tokenizer: hash of the tokenizer, None if unknown.
    """

    name: str | None
    shape: dict[str, Any]
    frame: dict[str, str]
    words: dict[str, str]
    rows: int
    tokenizer: str | None

    @classmethod
    def of(
        cls,
        shape: Mapping[str, Any],
        frame: Mapping[str, Tensor],
        words: Tensor,
        *,
        name: str | None = None,
        tokenizer: str | None = None,
    ) -> Base:
        """The base that a model represents.

        Args:
            shape: fields of the configuration; values as in JSON. `hidden_size`, `num_hidden_layers` and
                `bottleneck_size` are among them.
            frame: the shared tensors by name.
            words: word embeddings, *shape: (rows, hidden)*.
            name: a name on the Hub or a folder; of a folder, only the last part of its path is kept.
            tokenizer: hash of the tokenizer.

        Raises:
            InputError: the tensors are not float32 or 16-bit floats, or have no data.
        """
        return cls(
            name=_public_name(name),
            shape={key: list(value) if isinstance(value, tuple) else value for key, value in shape.items()},
            frame=fingerprints(frame),
            words=fingerprints({PACK_WORDS: words}),
            rows=words.shape[0],
            tokenizer=tokenizer,
        )

    def misfits(
        self,
        shape: Mapping[str, Any],
        frame: Mapping[str, Tensor],
        words: Tensor | None,
        *,
        tokenizer: str | None = None,
    ) -> list[Misfit]:
        """All differences between a model and this base; nothing is hashed unless needed.

        Args:
            shape, frame, tokenizer: the model's, as for `of`.
            words: the model's word embeddings, *shape: (at least self.rows, hidden)*; rows beyond those of the base
                are not compared. None skips them and the tokenizer.
        """
        found = []
        for key in [*self.shape, *(key for key in shape if key not in self.shape)]:
            there, here = self.shape.get(key), shape.get(key)
            here = list(here) if isinstance(here, tuple) else here
            if there != here or isinstance(there, bool) != isinstance(here, bool):
                message = f"{key} is {there!r:.60} in the pack's base and {here!r:.60} in the model"
                found.append(Misfit("shape", message, False))
        if message := _difference("position embeddings and shared LayerNorms", self.frame, frame):
            found.append(Misfit("frame", message, True))
        if words is None:
            return found
        if words.shape[0] < self.rows:
            message = f"the pack's base has {self.rows} word embeddings, the model only {words.shape[0]}"
        else:
            message = _difference("word embeddings", self.words, {PACK_WORDS: words[: self.rows]})
        if message:
            found.append(Misfit("words", message, True))
        if self.tokenizer and tokenizer and self.tokenizer != tokenizer:
            found.append(Misfit("tokenizer", "the tokenizer differs from that of the pack's base", True))
        return found


def fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The fingerprint of tensors in each dtype not wider than theirs.

    Raises:
        InputError: there is no such dtype, or a tensor has no data.
    """
    names = _dtypes(tensors)
    if not names:
        kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}))
        raise InputError(f"weights in {kinds} cannot be fingerprinted: load the model in float32, bfloat16 or float16.")
    return {name: _digest(tensors, DTYPES[name]) for name in names}


def _dtypes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the dtypes that hold no more than the tensors do."""
    kinds = {tensor.dtype for tensor in tensors.values()}
    return [name for name, dtype in DTYPES.items() if kinds <= {dtype, torch.float32, torch.float64}]


def _digest(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    """SHA-256 over the tensors by name: a line with name and shape, then the values in row order, little-endian."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if tensor.is_meta:
            raise InputError(f"{name} has no data (it is on the meta device): load the weights first.")
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().reshape(-1)
        for chunk in flat.split(_CHUNK):
            digest.update(chunk.to("cpu", dtype).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _difference(what: str, there: Mapping[str, str], here: Mapping[str, Tensor]) -> str:
    """What to say of tensors that do not have a fingerprint in the widest dtype of both; "" if they have it."""
    common = [name for name in _dtypes(here) if name in there]
    if not common:
        kind = str(next(iter(here.values())).dtype).removeprefix("torch.")
        return (
            f"the {what} cannot be compared: the pack has {', '.join(there)} only, the model is {kind}; load the "
            "model in float32"
        )
    if _digest(here, DTYPES[common[0]]) != there[common[0]]:
        return f"the {what} differ from those that the language was trained with"
    return ""


def _public_name(name: str | None) -> str | None:
    """A name without the folders above it, which are this machine's affair."""
    if not name:
        return None
    path = Path(name)
    return path.resolve().name or None if path.is_absolute() or path.exists() or len(path.parts) > 2 else name
