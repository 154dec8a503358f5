"""The comparison: every tensor of both sides, by name and part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmodular.comparison.certificate import CONFIGURATION, PARTS, Certificate, Change, FieldChange, Part
from xmodular.comparison.fields import compare_fields, reading_of
from xmodular.comparison.sides import Side, Source, matched, open_side, part_of, same_bits
from xmodular.console import progress
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.languages import resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import DiffOptions
from xmodular.outputs import table_in
from xmodular.saved_models import given_merged_model
from xmodular.signatures import verb
from xmodular.vocabulary import is_with_tokenizer, load_tokenizer

# The number of changes shown per part.
_SHOWN = 3
# Values that are subtracted at a time.
_CHUNK = 1 << 20
# Integers as wide as the floats whose bits they show.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _side(given: XmodPreTrainedModel | str | Path) -> tuple[Source, str]:
    """A side as given, and its name."""
    model, name = given_merged_model(given)
    return given if model is None else model, name


@verb(DiffOptions, "a", "b", objects={"a": _side, "b": _side}, holds="output")
def diff(options: DiffOptions, a: Source, b: Source) -> Certificate:
    """Compare two models or packs language by language, bit by bit.

    Two tensors are identical if dtype, shape and all bytes are. A bare encoder is compared with the encoder of a task
    model, a language pack with its language in a model, and two packs with each other, even if their codes differ.

    Args:
        a, b: model or pack: a folder or a name on the Hub; or a model object.
        allow: the parts that may differ: languages in any spelling, or names of `PARTS`.

    Returns:
        The certificate; its `ok` tells whether everything that may not differ is identical.

    Raises:
        ConfigurationError: there is neither model nor pack, or `allow` names no part.
        DataError: weights are missing or damaged, or loading gives other weights than the files: two tensors have one
            name, or a shard, an adapter of PEFT or a distributed checkpoint adds to them.
        LanguageError: a pack is compared with a model that has no such language.
        PackError: a pack is damaged.
    """
    if options.output is not None:
        _check_output(options.output, options)
    certificate = _compared(options, a, b)
    if options.output is not None:
        certificate.to_json(options.output)
    return certificate


def _check_output(output: Path, options: DiffOptions) -> None:
    """Raises ConfigurationError if the comparison cannot be written there."""
    if output.is_dir():
        raise ConfigurationError(f"{output} is a folder; --output must be a JSON file.")
    if output.exists() and not options.overwrite:
        raise ConfigurationError(f"{output} already exists; --overwrite replaces it.")
    if output.exists() and "parts" not in table_in(output):
        raise ConfigurationError(f"{output} is not replaced: it is not a comparison written by xmodular.")


def _compared(options: DiffOptions, a: Source, b: Source) -> Certificate:
    with ExitStack() as stack:
        first, second = stack.enter_context(open_side(a)), stack.enter_context(open_side(b))
        codes = dict.fromkeys([*first.languages, *second.languages])
        allow = {_allowed(name, list(codes)) for name in options.allow}
        first, second = matched(first, second)
        if allow & {first.pack, second.pack}:  # a pack's part may go by the other side's code
            allow.add(first.languages[0])
        parts = tuple(_compare(first, second))
        differing = {part.name for part in parts if part.status != "identical"}
        fields = (*compare_fields(first.fields, second.fields, differing), *_compare_tokenizers(first, second))
    return Certificate(options.a, options.b, parts, fields, tuple(sorted(allow)))


def _allowed(name: str, codes: Sequence[str]) -> str:
    """The part that `name` means."""
    spelled = name.strip().replace("-", " ").replace("_", " ").casefold()
    if spelled in (*PARTS, CONFIGURATION):
        return spelled
    try:
        return resolve(name, codes)
    except LanguageError as error:
        known = ", ".join((*PARTS, CONFIGURATION))
        raise ConfigurationError(f"allow has {name!r}, neither a part ({known}) nor a language: {error}") from None


@dataclass
class _Tally:
    """What is known of a part while its tensors pass by."""

    tensors: int = 0
    only_a: int = 0
    only_b: int = 0
    parameters: int = 0
    difference: float | None = None
    changes: list[Change] = field(default_factory=list)

    def part(self, name: str) -> Part:
        if self.tensors == self.only_a:
            status = "removed"
        elif self.tensors == self.only_b:
            status = "added"
        else:
            status = "changed" if self.changes else "identical"
        shown = tuple(self.changes[:_SHOWN])
        return Part(name, status, self.tensors, len(self.changes), self.parameters, self.difference, shown)


def _compare(a: Side, b: Side) -> Iterator[Part]:
    """All parts that either side has, those of `PARTS` first."""
    tallies: dict[str, _Tally] = {name: _Tally() for name in (*PARTS, *a.languages, *b.languages)}
    for code in dict.fromkeys([*a.tokenizers, *b.tokenizers]):
        tally = tallies[code]
        tally.tensors += 1
        tally.only_a += code not in b.tokenizers
        tally.only_b += code not in a.tokenizers
        if a.tokenizers.get(code) != b.tokenizers.get(code):
            there = [name for name, side in (("a", a), ("b", b)) if code in side.tokenizers]
            text = "different content" if len(there) == 2 else f"only in {there[0]}"
            tally.changes.append(Change(f"tokenizer.{code}.json", text))
    names = dict.fromkeys([*a.readers, *b.readers])
    with progress("Comparing", len(names)) as advance:
        for name in names:
            part = part_of(name, biases=a.predicts and b.predicts)
            tally = tallies.setdefault(part, _Tally())
            first, second = a.reader(name), b.reader(name)
            tally.tensors += 1
            if first is not None and second is not None:
                left, right = first(), second()
                reason, difference = compare_tensors(left, right)
                if difference is not None:
                    tally.difference = max(difference, tally.difference or 0.0)
                tally.parameters += right.numel()
            else:
                reason = "only in a" if second is None else "only in b"
                tally.only_a += second is None
                tally.only_b += first is None
                tally.parameters += sum(reader().numel() for reader in (first, second) if reader is not None)
            if reason is not None:
                tally.changes.append(Change(name, reason))
            advance(1)
    yield from (tally.part(name) for name, tally in tallies.items() if tally.tensors)


def compare_tensors(a: Tensor, b: Tensor) -> tuple[str | None, float | None]:
    """How two tensors differ, and by how much.

    Returns:
        What differs, None if no bit does; and the largest absolute difference of two values, infinite where a NaN
        or an infinity is on one side only, None where no two values stand against each other.
    """
    if same_bits(a, b):
        return None, 0.0
    if a.shape != b.shape:
        reason = f"shape {tuple(a.shape)} became {tuple(b.shape)}"
        rows = min(len(a), len(b)) if a.dim() and a.dim() == b.dim() and a.shape[1:] == b.shape[1:] else 0
        if not rows:
            return reason, None
        inner, difference = compare_tensors(a[:rows], b[:rows])
        return f"{reason}, of the first {rows:,} rows {inner or 'all identical'}", difference
    count, difference = 0, 0.0
    for x, y in zip(a.reshape(-1).split(_CHUNK), b.reshape(-1).split(_CHUNK), strict=True):
        left, right = x.double(), y.double()
        same = (left == right) | (left.isnan() & right.isnan())
        if a.dtype == b.dtype:
            bits = _BITS[a.element_size()]
            count += int((x.view(bits) != y.view(bits)).sum())
        else:
            count += int((~same).sum())
        gap = (left - right).abs()
        gap = gap.masked_fill(gap.isnan(), math.inf).masked_fill(same, 0.0)
        difference = max(difference, float(gap.max()))
    reason = f"{count:,} of {a.numel():,} values differ"
    reason += f", by {difference:.3g} at most" if difference else " in their bits only" if count else ""
    if a.dtype != b.dtype:
        reason = f"{a.dtype} became {b.dtype}, {reason}".replace("torch.", "")
    return reason, difference


def _compare_tokenizers(a: Side, b: Side) -> Iterator[FieldChange]:
    """The differences between the shared tokenizers of both sides, or that one side has none."""
    if not a.shared or not b.shared or a.shared == b.shared:
        return
    left, right = _reading(a), _reading(b)
    if not left or not right:
        if left or right:
            hashes = [None if each is None else each["tokenizer"] for each in (left, right)]
            yield FieldChange("tokenizer of one side only", hashes[0], hashes[1], None)  # it may be the same
        return
    yield from compare_fields(left, right, frozenset())


def _reading(side: Side) -> dict[str, Any] | None:
    """The settings of the tokenizer next to a model; None if there is none.

    Raises:
        DataError: there is one in a folder, and it cannot be read.
    """
    source = str(side.shared)
    if side.config is None or not is_with_tokenizer(source):
        return None
    try:
        return reading_of(load_tokenizer(source), side.config)
    except DataError:
        if Path(source).is_dir():
            raise
        return None
