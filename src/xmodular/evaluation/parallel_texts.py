"""Sentences with translations, to be found by each other: from line-aligned text files or from tables of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from xmodular.addresses import spelled
from xmodular.console import console
from xmodular.errors import DataError, LanguageError
from xmodular.evaluation.test_data import language_in, named_place
from xmodular.languages import resolve, resolve_all
from xmodular.options import EvaluateOptions
from xmodular.rows import (
    SUFFIXES,
    BadRows,
    DataRow,
    InMemory,
    check_letters,
    hub_sources,
    is_absent,
    is_file,
    is_numbered,
    kind_of,
    read_rows,
)
from xmodular.rows.lines import decoded
from xmodular.rows.opening import files_in, matches, opened

_TEXT = (".txt", ".txt.gz")
CodeOf = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Parallel:
    """Sentences in several languages, of which those in the same place are translations of each other.

    Attributes:
        texts: by language, as many each; None where a translation is missing.
        files: the sources by language.
    """

    texts: Mapping[str, Sequence[str | None]]
    files: Mapping[str, str]

    @property
    def languages(self) -> list[str]:
        """The languages."""
        return list(self.texts)


class _Place(NamedTuple):
    """A file or data set; `name` is what it says of its language; `given` if the user says so."""

    name: str | None
    place: str
    given: bool = False


@dataclass(frozen=True)
class ParallelFinder:
    """Finds and reads sentences with translations.

    Attributes:
        options: the options that name the data.
        languages: of the models.
        code_of: maps a language's name to its name in the results; None if no model can read it.
        pivot: the language of the first column of a table without a header.
    """

    options: EvaluateOptions
    languages: Sequence[str]
    code_of: CodeOf
    pivot: str | None

    def read(self, named: Mapping[str, str] | None = None) -> list[Parallel]:
        """All data; line-aligned files belong together, and every table is for itself.

        Args:
            named: files by language, instead of the option `data`.

        Raises:
            DataError: no files, files of different length, two for a language, or a bad row.
            LanguageError: a language in `named` or the option `languages` that is not there.
        """
        if named is not None:
            places = [_Place(name, place, True) for name, place in named.items()]
        else:
            places = [each for part in self.options.data for each in self._of_part(part)]
        left_out: dict[str, None] = {}
        lines: dict[str, str] = {}
        tables: list[tuple[str | None, str]] = []
        for name, place, given in places:
            code = None if name is None else self.code_of(name)
            if name is not None and code is None and given:
                resolve(name, self.languages, fallback=self.options.fallback)  # an error that lists the languages
            if name is not None and code is None:
                left_out[name] = None
            elif isinstance(place, InMemory) or kind_of(place) != "txt":
                tables.append((code, place))
            elif code is None:
                raise DataError(f"{place}: name the file <language>.txt, or give it as <language>={place}.")
            elif code in lines:
                raise DataError(f"Two files for {code}: {lines[code]} and {place}.")
            else:
                lines[code] = place
        if left_out:
            console.print(f"Left out, not among the model's languages: {', '.join(left_out)}")
        if len(lines) == 1:
            raise DataError(f"{next(iter(lines.values()))} is alone: retrieval needs its translations in another file.")
        found = [self._aligned(lines)] if lines else []
        found += [self._table(code, place) for code, place in tables]
        if not found:
            raise DataError(f"None of the files is in one of the model's languages: {', '.join(self.languages)}.")
        return found

    def _of_part(self, part: str) -> list[_Place]:
        """The files of one part of the option `data`."""
        path = Path(part)
        if isinstance(part, InMemory):
            return [_Place(None, part)]
        if (pair := named_place(part, self.code_of)) is not None:
            return [_Place(*pair, True)]
        if part.startswith("hub:"):
            if "{" not in part:
                return [_Place(None, part)]
            found = hub_sources(part, self.options.languages or self.languages)
            return [_Place(name, place) for name, place in found.items()]
        if is_file(part):
            is_told = kind_of(part) == "txt" or self.code_of(language_in(path)) is not None
            return [_Place(language_in(path) if is_told else None, part)]
        if (inside := files_in(path)) is not None:
            paths = self._fitting(part, inside)
        elif (found_there := matches(part)) is None:
            raise DataError(f"There is no file or folder {part}.")
        elif not (paths := found_there):
            raise DataError(f"There are no files {part}.")
        return [_Place(None if self._is_called_by_split(each) else language_in(each), spelled(each)) for each in paths]

    def _is_called_by_split(self, path: Path) -> bool:
        """Whether a table is called like test.jsonl: its columns say which languages it is in."""
        return language_in(path) == self.options.split and f".{kind_of(path)}" in SUFFIXES

    def _fitting(self, folder: str, inside: Sequence[Path]) -> list[Path]:
        """The line-aligned files of a folder's content, or else the tables: those of the split, if there are some."""
        named = [each for each in inside if not each.name.startswith(".")]
        for suffixes in (_TEXT, SUFFIXES):
            fitting = [each for each in named if f".{kind_of(each)}" in suffixes]
            split = [
                each for each in fitting if f".{self.options.split}." in each.name or self._is_called_by_split(each)
            ]
            if fitting and not split:
                self.options.refuse(
                    ("split",), f"is not in {folder}: no file is called <language>.{self.options.split}.*."
                )
            if fitting:
                return split or fitting
        raise DataError(
            f"There are no files <language>.txt, nor <language>.tsv (or {', '.join(SUFFIXES)}), in {folder}."
        )

    def _aligned(self, files: Mapping[str, str]) -> Parallel:
        """Files of which line n of one translates line n of the others; a blank line is a missing translation."""
        texts = {code: _lines(place, self.options.skip_bad_rows) for code, place in files.items()}
        first, *others = files
        for code in others:
            if len(texts[code]) != len(texts[first]):
                raise DataError(
                    f"{files[first]} has {len(texts[first]):,} lines, {files[code]} {len(texts[code]):,}: line n of "
                    "one must translate line n of the other."
                )
        return Parallel(texts, files)

    def _table(self, code: str | None, place: str) -> Parallel:
        """A table with a column per language, or one of two columns without a header."""
        bad = BadRows(self.options.skip_bad_rows)
        columns: dict[tuple[str, ...], dict[str, str]] = {}
        texts: dict[str, list[str | None]] = {}
        count, fewest = 0, 1 if self.options.candidates == "all" else 2
        for row in map(partial(self._of_pair, code), self._rows(code, place, bad)):
            if (names := tuple(row.values)) not in columns:  # rows of JSON need not have all columns
                columns[names] = self._columns(row, 0 if columns else fewest)
            found: dict[str, str] = {}
            for name, language in columns[names].items():
                value = row.values[name]
                if not is_absent(value) and not isinstance(value, str):
                    bad.report(row.place, f"{name!r} is {value!r:.40}; it must be a text")
                elif not is_absent(value) and value.strip():
                    found[language] = value
            if len(found) < fewest:
                bad.report(row.place, "there are no two texts that translate each other")
                continue
            for language in dict.fromkeys([*texts, *found]):
                texts.setdefault(language, [None] * count).append(found.get(language))
            count += 1
        if said := bad.summary():
            console.print(f"{place}: {said}")
        if not count:
            raise DataError(f"{place} has no rows.")
        if len(texts) < 2:
            raise DataError(f"{place} has texts in {', '.join(texts)} only: translations are in two languages or more.")
        for name, language in {name: each for named in columns.values() for name, each in named.items()}.items():
            if language in texts:
                check_letters(place, name, language, (text or "" for text in texts[language]))
        return Parallel(texts, dict.fromkeys(texts, place))

    def _of_pair(self, code: str | None, row: DataRow) -> DataRow:
        """A row that vectors are fine-tuned on, under the languages of its two texts; any other as it is."""
        values = row.values
        if self.options.columns or not {"text", "positive"} <= values.keys():
            return row
        other = values.get("positive_language")
        languages = [values.get("language") or (code if other else self.pivot), other or code]
        codes = [self.code_of(name) if isinstance(name, str) else None for name in languages]
        if None in codes or codes[0] == codes[1]:
            raise DataError(
                f"{row.place}: `text` and `positive` must be in two languages of the model, which the columns "
                f"`language` and `positive_language` name; they are in {languages[0]} and {languages[1]}."
            )
        return replace(row, values={str(codes[0]): values["text"], str(codes[1]): values["positive"]})

    def _rows(self, code: str | None, place: str, bad: BadRows) -> Iterator[DataRow]:
        """The rows of a table; of one without a header, under the languages that its columns are in."""
        if code is None or self.options.columns or isinstance(place, InMemory) or kind_of(place) != "tsv":
            yield from read_rows(place, bad)
            return
        with opened(place, place) as file:
            lines = list(decoded(file))
        heading = lines[0][1].split("\t") if lines else []
        if len(heading) != 2 or sum(self.code_of(name.strip()) is not None for name in heading) == 2:
            yield from read_rows(place, bad)
            return
        if self.pivot in (None, code):
            raise DataError(
                f"{place} has no header that names its languages, and what the first column is in is not known: give "
                "--pivot <language>."
            )
        for number, text, wrong in lines:
            parts = text.split("\t")
            if wrong or len(parts) != 2:
                bad.report(f"{place}:{number}", wrong or f"it has {len(parts)} columns, the first line 2")
            else:
                yield DataRow({str(self.pivot): parts[0], code: parts[1]}, f"{place}:{number}")

    def _columns(self, row: DataRow, fewest: int) -> dict[str, str]:
        """The language of each column that has one; an error if these are too few."""
        named = {column: name for name, column in (self.options.columns or {}).items()}
        found: dict[str, str] = {}
        for column in row.values:
            asked = column in named or not (named or is_numbered(column))
            code = self.code_of(named.get(column, column)) if asked else None
            if code is not None and code in found.values():
                raise DataError(f"{row.place}: two columns are in {code}; there may be only one per language.")
            if code is not None:
                found[column] = code
        if len(found) < fewest:
            bare = "" if self.options.task else "A model without a task head is scored by retrieval of translations. "
            raise DataError(
                f"{row.place}: {bare}The columns are {', '.join(map(str, row.values))}; two of them must be called as "
                "languages of the model, or named with --columns en=<column>,de=<column>."
                + (" For another task, fine-tune it first (xmodular finetune)." if bare else "")
            )
        return found


def chosen(found: Sequence[Parallel], options: EvaluateOptions, pivot: str | None) -> list[Parallel]:
    """The data with the languages of the option `languages`, and the pivot, only.

    Raises:
        LanguageError: one of them is in no data.
    """
    if not options.languages:
        return list(found)
    there = dict.fromkeys(code for each in found for code in each.languages)
    kept = {*resolve_all(options.languages, there), pivot}
    parts = [
        Parallel({code: texts for code, texts in each.texts.items() if code in kept}, each.files) for each in found
    ]
    if not (parts := [each for each in parts if len(each.texts) > 1]):
        raise LanguageError(f"--languages {','.join(options.languages)} leaves no two languages to compare.")
    return parts


def _lines(place: str, skip: bool) -> list[str | None]:
    """The lines of a file, with None for blank ones."""
    bad, found = BadRows(skip), list[str | None]()
    with opened(place, place) as file:
        for number, text, wrong in decoded(file):
            if wrong:
                bad.report(f"{place}:{number}", wrong)
            found.append(None if wrong or not text.strip() else text.strip())
    if said := bad.summary():
        console.print(f"{place}: {said}")
    return found
