"""Verify language packs, compare them with a model, and list them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from xmodular.console import progress
from xmodular.errors import DataError, PackError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import PackListOptions, PackVerifyOptions
from xmodular.pack_verbs.pack_targets import tokenizer_hash
from xmodular.packs import Misfit, Pack, read_pack
from xmodular.saved_models import given_merged_model, load_saved
from xmodular.signatures import verb


@dataclass(frozen=True)
class Verification:
    """The result of verifying a language pack, possibly against a model.

    Attributes:
        source: location of the pack.
        pack: its description; None if it cannot be read.
        damage: problems with its files, in one text; None if there are none.
        model: the model it was compared with, if any.
        misfits: all reasons why it does not fit that model; None if they were not compared.
    """

    source: str
    pack: Pack | None
    damage: str | None
    model: str | None = None
    misfits: tuple[Misfit, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether the pack is undamaged and fits the model, if there is one."""
        return self.damage is None and not self.misfits

    def table(self) -> Table:
        """The verification as a table for the terminal."""
        table = Table(title=Text(f"Language pack {self.source}"), title_justify="left", show_header=False)
        if self.pack is not None:
            pack = self.pack
            table.add_row("language", Text(pack.title))
            table.add_row("base", Text(pack.base.name or "unknown"))
            table.add_row("weights", pack.dtype)
            own = f"its own, {pack.vocabulary:,} rows" if pack.vocabulary is not None else "the base's"
            table.add_row("vocabulary", own)
            table.add_row("licence", Text(pack.licence or "unknown"))
            table.add_row("written", Text(f"{pack.created} by {pack.writer}"))
        table.add_row("files", Text(self.damage or "sound", style="red" if self.damage else "green"))
        if self.misfits is not None:
            fit = Text("\n".join(misfit.message for misfit in self.misfits) or "fits")
            fit.stylize("red" if self.misfits else "green")
            table.add_row(Text(str(self.model)), fit)
        return table


def given_pack(pack: Pack | str | Path) -> tuple[Pack | None, str | Path]:
    """The pack if it is an object (else None), and its location."""
    return (pack, pack.folder) if isinstance(pack, Pack) else (None, pack)


@verb(PackVerifyOptions, "pack", objects={"pack": given_pack, "model": given_merged_model})
def pack_verify(options: PackVerifyOptions, opened: Pack | None, given: XmodPreTrainedModel | None) -> Verification:
    """Check a language pack: its format, checksums and, with a model, whether it fits that model.

    Args:
        pack, model: an object, a folder or a name on the Hub.

    Returns:
        The result; its `ok` tells whether there are no problems.

    Raises:
        ConfigurationError: there is no model.
    """
    pack = opened
    try:
        pack = pack if pack is not None else read_pack(options.pack)
        pack.check()
    except PackError as error:
        return Verification(options.pack, pack, str(error))
    if options.model is None:
        return Verification(options.pack, pack, None)
    model = given if given is not None else load_saved(options.model)
    found = model.misfits(pack, tokenizer_hash=tokenizer_hash(model))
    return Verification(options.pack, pack, None, options.model, tuple(found))


@dataclass(frozen=True)
class PackList:
    """The language packs in a folder.

    Attributes:
        folder: the folder.
        rows: a verification for each pack, by name of its folder.
    """

    folder: Path
    rows: tuple[Verification, ...]

    def table(self) -> Table:
        """A table with a row for each pack."""
        heading = ("folder", "language", "base", "weights", "vocabulary", "licence", "bytes", "files")
        table = Table(*heading, title=Text(f"Language packs in {self.folder}"), title_justify="left")
        for row in self.rows:
            pack, name = row.pack, Text(Path(row.source).name)
            state = Text("damaged", style="red") if row.damage else Text("sound", style="green")
            if pack is None:
                table.add_row(name, *[""] * 6, state)
                continue
            own = f"{pack.vocabulary:,} rows" if pack.vocabulary is not None else "base's"
            size = f"{sum(record.size for record in pack.files.values()):,}"
            base, licence = Text(pack.base.name or ""), Text(pack.licence or "")
            table.add_row(name, Text(pack.title), base, pack.dtype, own, licence, size, state)
        return table


@verb(PackListOptions, "folder")
def pack_list(options: PackListOptions) -> PackList:
    """List the language packs in a folder; damaged ones are listed as such.

    Args:
        folder: a folder with packs, or a single pack.

    Raises:
        DataError: there is no such folder.
    """
    where = options.folder
    if not where.is_dir():
        raise DataError(f"There is no folder {where}.")
    inside = [path for path in sorted(where.iterdir()) if not path.name.startswith(".")]
    found = [path for path in (where, *inside) if (path / "pack.json").is_file()]
    rows = []
    with progress("Checking packs", len(found)) as advance:
        for path in found:
            rows.append(pack_verify(path))
            advance(1)
    return PackList(where, tuple(rows))
