"""The comparison: every tensor of both sides, by name, in its part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmodular.certificate.record import CONFIGURATION, PARTS, Certificate, Change, FieldChange, Part
from xmodular.certificate.sides import Side, Source, matched, open_side, part_of, same_bits
from xmodular.console import progress
from xmodular.errors import ConfigurationError, DataError, LanguageError, speaking
from xmodular.languages import resolve
from xmodular.options import DiffOptions, build
from xmodular.tasks import given_model
from xmodular.vocabulary import fingerprint, is_with_tokenizer, load_tokenizer

# A part shows so many of its changes.
_SHOWN = 3
# Values that are subtracted at a time.
_CHUNK = 1 << 20
# Integers as wide as the floats whose bits they show.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Fields that say how a configuration came here, not what the model is; languages are compared by their ids.
_BOOKKEEPING = {"transformers_version", "dtype", "torch_dtype", "languages"}


@speaking
def diff(a: Source, b: Source, **options: Any) -> Certificate:
    """Compare two models or packs language by language, bit by bit.

    Two tensors are identical if dtype, shape and all bytes are. A bare encoder is compared with the encoder of a task
    model, a language pack with its language in a model, and two packs with each other, whatever their codes.

    Args:
        a, b: model or pack: a folder or a name on the Hub; or a model object.
        options: the other fields of `DiffOptions`: `allow`, the parts that may differ (languages in any spelling, or
            names of `PARTS`), and `output`, a JSON file.

    Returns:
        The certificate; its `ok` says whether all that is not allowed to differ is identical.

    Raises:
        ConfigurationError: there is neither model nor pack, or `allow` names no part.
        DataError: weights are missing or damaged.
        LanguageError: a pack is compared with a model that has no such language.
        PackError: a pack is damaged.
    """
    values = {"a": given_model(a)[1], "b": given_model(b)[1], **options}
    return _diff(build(DiffOptions, values), a, b)


def _diff(options: DiffOptions, a: Source, b: Source) -> Certificate:
    if options.output is not None and options.output.is_dir():
        raise ConfigurationError(f"{options.output} is a folder; the comparison goes to a JSON file.")
    with ExitStack() as stack:
        first, second = stack.enter_context(open_side(a)), stack.enter_context(open_side(b))
        codes = dict.fromkeys([*first.languages, *second.languages])
        allow = {_allowed(name, list(codes)) for name in options.allow}
        first, second = matched(first, second)
        if allow & {first.pack, second.pack}:  # a pack's part may go by the other side's code
            allow.add(first.languages[0])
        parts = tuple(_compare(first, second))
        fields = tuple(_compare_fields(first, second))
    certificate = Certificate(options.a, options.b, parts, fields, tuple(sorted(allow)))
    if options.output is not None:
        certificate.to_json(options.output)
    return certificate


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
            text = "another content" if len(there) == 2 else f"only in {there[0]}"
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
        What is different, None if no bit is; and the largest absolute difference of two values, infinite where a NaN
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


def _compare_fields(a: Side, b: Side) -> Iterator[FieldChange]:
    for name in dict.fromkeys([*a.fields, *b.fields]):
        left, right = a.fields.get(name), b.fields.get(name)
        if left != right and name not in _BOOKKEEPING and not name.startswith("_"):
            yield FieldChange(name, left, right)
    if a.shared and b.shared and a.shared != b.shared:
        left, right = _tokenizer(a.shared), _tokenizer(b.shared)
        if left != right:  # where one lacks it, it is not known to be another
            yield FieldChange("tokenizer" if left and right else "tokenizer of one side only", left, right)
    if {"classifier", "qa_outputs"} & _heads(a) & _heads(b):
        names = [side.fields.get("id2label") or {} for side in (a, b)]
        left, right = ({str(number): label for number, label in each.items()} for each in names)
        if left != right:
            yield FieldChange("labels", left, right)
    codes = [side.fields.get("languages", ()) for side in (a, b)]
    orders = [[code for code in own if code in other] for own, other in (codes, codes[::-1])]
    if orders[0] != orders[1]:
        yield FieldChange("order of languages", *orders)
    ids = [{code: id_ for id_, code in enumerate(side.fields.get("languages", ()))} for side in (a, b)]
    for code in dict.fromkeys([*ids[0], *ids[1]]):
        if ids[0].get(code) != ids[1].get(code):
            yield FieldChange(f"language id of {code}", ids[0].get(code), ids[1].get(code))


def _heads(side: Side) -> set[str]:
    return {name.split(".")[0] for name in side.readers}


def _tokenizer(source: str) -> str | None:
    """The hash of the tokenizer that lies with a model, None if there is none.

    Raises:
        DataError: there is one in a folder, and it cannot be read.
    """
    folder = Path(source)
    if not is_with_tokenizer(source):
        return None
    try:
        return fingerprint(load_tokenizer(source))
    except DataError:
        if folder.is_dir():
            raise
        return None
