"""The files of a run over shards: which there are, and what the output of each is called."""

from __future__ import annotations

from dataclasses import dataclass

from xmodular.errors import ConfigurationError, DataError
from xmodular.rows import format_of, kind_of
from xmodular.rows.opening import files_below
from xmodular.rows.writers import WRITTEN


@dataclass(frozen=True)
class Shard:
    """A file to predict.

    Attributes:
        name: of its output, below the folder of the output.
        source: path or address of the file.
        state: its size and last change; a changed file is another one.
    """

    name: str
    source: str
    state: str


def shards_of(source: str, pattern: str | None) -> list[Shard]:
    """The files to predict, by the names of their outputs.

    Args:
        source: a folder, a file, or a pattern with ``*``.
        pattern: the last part of the output's names, such as ``*.parquet``, where ``*`` is the file's name without
            suffixes; None: the name and the format of the file, or ``.jsonl`` if that is not a format of outputs.

    Raises:
        DataError: there is no file, or one is of an unknown kind.
        ConfigurationError: two files would have one output.
    """
    found: dict[str, Shard] = {}
    for name, (place, state) in files_below(source).items():
        kind = kind_of(name)
        if format_of(name) is None and kind != "txt":
            raise DataError(
                f"{place} is of an unknown kind; with a pattern, such as '{source}/*.jsonl', only some files are read."
            )
        folder, slash, last = name.rpartition("/")
        packing = last[last.lower().rindex(f".{kind}") + len(kind) + 1 :]
        stem = last[: -len(packing) - len(kind) - 1]
        if pattern is not None:
            last = pattern.replace("*", stem)
        elif kind not in WRITTEN or kind == "conll":  # the words alone would be written as CoNLL
            last = f"{stem}.jsonl{packing}"
        shard = Shard(f"{folder}{slash}{last}", place, state)
        if (other := found.setdefault(shard.name, shard)) is not shard:
            raise ConfigurationError(f"{other.source} and {place} would both be predicted into {shard.name}.")
    return [found[name] for name in sorted(found)]
