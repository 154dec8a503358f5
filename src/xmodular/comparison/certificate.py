"""The certificate: the outcome for every part, as data, JSON and a table."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from xmodular.errors import DataError
from xmodular.files import write_json

# The parts that are not a language's, in the order of the table.
PARTS = ("embeddings", "encoder", "adapter norm", "lm head", "task head")
_FORMAT = 2
# What the configuration is called among the parts that may differ.
CONFIGURATION = "configuration"


@dataclass(frozen=True)
class Change:
    """A tensor or a language's own tokenizer that differs between the sides: its name, and the difference."""

    name: str
    reason: str


@dataclass(frozen=True)
class Part:
    """The outcome for one part: the embeddings, the encoder, a head, or a language.

    Attributes:
        name: one of `PARTS`, or a language's code.
        status: "identical", "changed", "added" (only b has it) or "removed" (only a has it).
        tensors: number of tensors on either side; the tokenizer of a language's own vocabulary counts as
            one.
        tensors_changed: number of tensors that are not identical.
        parameters: number of values in b's tensors, or in a's if b lacks them.
        difference: the largest absolute difference of two values; infinite where a NaN or an infinity is on one side
            only; None where no two values stand against each other.
        changes: the first few of the tensors that are not identical.
    """

    name: str
    status: str
    tensors: int
    tensors_changed: int
    parameters: int
    difference: float | None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class FieldChange:
    """A field of the configuration or the tokenizer that differs between the sides.

    Attributes:
        field: its name.
        a, b: its values; None where a side lacks it.
        part: "configuration", or the part or language it belongs to, which may be allowed to differ instead; None
            if it does not affect outputs.
    """

    field: str
    a: Any
    b: Any
    part: str | None = CONFIGURATION


@dataclass(frozen=True)
class Certificate:
    """The parts that are identical in two models or packs, and those that are not.

    Attributes:
        a, b: the two sides.
        parts: the parts that either side has, languages last.
        configuration: the fields that differ, except bookkeeping; those of the shared tokenizer begin
            with "tokenizer".
        allow: names of the parts that may differ.
    """

    a: str
    b: str
    parts: tuple[Part, ...]
    configuration: tuple[FieldChange, ...] = ()
    allow: tuple[str, ...] = ()

    @property
    def identical(self) -> set[str]:
        """Names of the parts that are identical, bit by bit."""
        return self._with("identical")

    @property
    def changed(self) -> set[str]:
        """Names of the parts that both sides have and that differ."""
        return self._with("changed")

    @property
    def added(self) -> set[str]:
        """Names of the parts that only b has."""
        return self._with("added")

    @property
    def removed(self) -> set[str]:
        """Names of the parts that only a has."""
        return self._with("removed")

    @property
    def ok(self) -> bool:
        """Whether all parts except the allowed ones, and all fields that affect outputs, are identical."""
        return not self.moved and not self.decisive

    @property
    def moved(self) -> set[str]:
        """Names of the parts whose weights or tokenizers differ although they may not."""
        return {part.name for part in self.parts} - self.identical - set(self.allow)

    @property
    def decisive(self) -> tuple[FieldChange, ...]:
        """The differences that change outputs for equal weights and ids, except the allowed ones."""
        if CONFIGURATION in self.allow:
            return ()
        return tuple(each for each in self.configuration if each.part is not None and each.part not in self.allow)

    def table(self) -> Table:
        """A table with a row for every part and the configuration below."""
        counts = [f"{len(self._with(status))} {status}" for status in ("identical", "changed", "added", "removed")]
        table = Table(
            title=Text(f"{self.a} -> {self.b}\n{', '.join(count for count in counts if not count.startswith('0 '))}"),
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("part")
        table.add_column("status")
        for heading in ("tensors", "parameters", "largest difference"):
            table.add_column(heading, justify="right")
        table.add_column("first changes", overflow="fold")
        for part in self.parts:
            changes = part.changes if part.status == "changed" else ()
            table.add_row(
                Text(part.name),
                f"{part.status} (allowed)" if part.status != "identical" and part.name in self.allow else part.status,
                f"{part.tensors_changed} of {part.tensors}" if part.status == "changed" else str(part.tensors),
                f"{part.parameters:,}",
                f"{part.difference:.3g}" if part.difference and part.status == "changed" else "",
                Text("\n".join(f"{change.name}: {change.reason}" for change in changes)),
                style=None if part.status == "identical" else "bold",
            )
        if self.configuration:
            lines = [f"{change.field}: {_brief(change.a)} -> {_brief(change.b)}" for change in self.configuration]
            table.caption = Text("\n".join(["Configuration:", *lines]))
            if self.decisive:
                fields = ", ".join(change.field for change in self.decisive)
                table.caption.append(f"\nWith these, the same weights compute something else: {fields}", style="bold")
        return table

    def to_json(self, path: Path | str) -> None:
        """Write the certificate."""
        content = {"format": _FORMAT, "ok": self.ok, **asdict(self)}
        for part in content["parts"]:
            if part["difference"] == math.inf:  # JSON has no such number
                part["difference"] = "inf"
        write_json(Path(path), content)

    @classmethod
    def from_json(cls, path: Path | str) -> Certificate:
        """Read a certificate.

        Raises:
            DataError: the file is not a certificate.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            parts = []
            for part in content["parts"]:
                difference = None if part["difference"] is None else float(part["difference"])
                changes = tuple(Change(**change) for change in part["changes"])
                parts.append(Part(**{**part, "difference": difference, "changes": changes}))
            configuration = tuple(FieldChange(**change) for change in content["configuration"])
            return cls(content["a"], content["b"], tuple(parts), configuration, tuple(content["allow"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a certificate of xmodular: {error!r}") from error

    def _with(self, status: str) -> set[str]:
        return {part.name for part in self.parts if part.status == status}


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
