"""Text from data sets on the Hub (or in a folder that ``datasets`` opens), streamed or downloaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from xmodular.errors import DataError, LanguageError
from xmodular.hub import hub_source
from xmodular.languages import filled
from xmodular.rows.hub_rows import opened_data_set, read_data_set
from xmodular.rows.row import LANGUAGE_CODE
from xmodular.text.counts import LineCounts
from xmodular.text.raw_lines import digest, no_field, row_lines

_ROWS_A_STEP = 256


@dataclass(frozen=True)
class HubText:
    """The rows of one data set as text; each row is a document.

    Attributes:
        name: repository on the Hub, or a local folder.
        config: its configuration, if it has several.
        split: its split, such as "train" or "train[:1%]".
        field: the column with the text.
        streaming: stream in every pass; otherwise download first.
        most: number of rows to read, from the first; None reads all.
        key: hash of the content of the data set's files.
    """

    name: str
    config: str | None
    split: str
    field: str
    streaming: bool
    most: int | None
    key: str

    def __str__(self) -> str:
        return f"{self.name} ({self.config + ', ' if self.config else ''}{self.split})"

    def content(self) -> list[object]:
        """Everything that determines the raw lines, as JSON values."""
        return [self.key, self.split, self.field, self.most]

    def read(self, counts: LineCounts, max_line: int) -> Iterator[str | None]:
        """The raw lines, and None after every row.

        Args:
            counts: counts rows without text.
            max_line: most characters per line; longer lines are split.

        Raises:
            DataError: the data set cannot be read, or lacks the split or the column.
        """
        for values in read_data_set(self._batches(), str(self), counted=False):
            for value in values:
                yield from row_lines(value, counts, max_line)

    def _batches(self) -> Iterator[list[Any]]:
        import datasets

        name, where = hub_source(self.name)
        data = datasets.load_dataset(name, self.config, split=self.split, streaming=self.streaming, **where)
        left = self.most
        for batch in data.iter(_ROWS_A_STEP):
            if self.field not in batch:
                raise DataError(no_field(f"The data set {self}", self.field, list(batch)))
            values = list(islice(batch[self.field], left))
            yield values
            if left is not None and (left := left - len(values)) <= 0:
                return


def find_dataset(
    name: str,
    languages: Sequence[str],
    *,
    config: str | None = None,
    split: str = "train",
    field: str = "text",
    streaming: bool = False,
    most: int | None = None,
) -> dict[str, tuple[HubText, ...]]:
    """The text of some languages in a data set.

    Args:
        name: repository on the Hub, or a local folder.
        languages: codes of the model's languages. In `config` and `split`, ``{language}`` stands for the code and
            ``{subtag}`` for its first part: "de" of "de_DE".
        config: configuration of the data set.
        split: its split.
        field: the column with the text.
        streaming: stream in every pass, instead of downloading first. Local files are always streamed.
        most: number of rows to read per language.

    Raises:
        DataError: there is no such data set or configuration, or neither is specific to a language.
        LanguageError: no language is named, or one is not a code.
    """
    import datasets

    if not languages:
        raise LanguageError(f"Name the languages to read from the data set {name}, such as --languages de_DE,sw_KE.")
    if wrong := [code for code in languages if not LANGUAGE_CODE.fullmatch(code)]:
        raise LanguageError(f"A data set's languages are named by codes such as de_DE or de; not {', '.join(wrong)}.")
    if len(set(languages)) > 1 and not any("{" in text for text in (config or "", split)):
        raise DataError(
            f"All {len(languages)} languages would get the same text: put {{language}} or {{subtag}} into "
            f"--dataset-config or --dataset-split."
        )
    found: dict[str, tuple[HubText, ...]] = {}
    for code in dict.fromkeys(languages):
        own_config, own_split = config and filled(config, code), filled(split, code)
        where = f"{name}, configuration {own_config}" if own_config else name
        builder = opened_data_set(name, where, datasets.load_dataset_builder, own_config)
        key, local = _key(builder)
        # The library does not notice that a local data set has changed since it was copied to its cache.
        found[code] = (HubText(name, own_config, own_split, field, streaming or local, most, key),)
    return found


def _key(builder: Any) -> tuple[str, bool]:
    """A hash of a data set's content, and whether its files are local.

    The addresses of files on the Hub name the commit, so they are as good as the content; local files are read.
    """
    files = [str(file) for part in (builder.config.data_files or {}).values() for file in part]
    local = [Path(file) for file in files if Path(file).is_file()]
    parts = [builder.hash, builder.config_id, *files, *(digest(path) for path in local)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest(), bool(local)
