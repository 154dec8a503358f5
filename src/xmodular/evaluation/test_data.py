"""Test data by language: from folders, globs, files, data sets, or passed by language."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from xmodular.addresses import spelled
from xmodular.console import console
from xmodular.errors import DataError
from xmodular.languages import resolve, resolve_all
from xmodular.options import EvaluateOptions
from xmodular.rows import SUFFIXES, InMemory, Knows, files_in, hub_sources, is_file, kind_of, matches
from xmodular.tasks import Example, Task
from xmodular.tasks.examples import content_hash, load
from xmodular.tasks.label_counts import label_names_of, labelled, no_labels, some

_TEXT = (".txt", ".txt.gz")
_OUTSIDE = "O"  # the tag that says nothing


@dataclass(frozen=True)
class TestSet:
    """The test data of one language.

    Attributes:
        language: a model's code, or the given name if no model has the language.
        files: the sources of the rows.
        examples: the rows, with this language; none for perplexity.
        units: the unit number of each row; rows that are not independent of each other share it.
        joined: the same over all sets, so that a row's translations share it too.
        parallel: whether most of these are also in another set.
        content: checksum of all rows in its file (see `content_hash`); None for text.
    """

    __test__ = False  # pytest's

    language: str
    files: tuple[str, ...]
    examples: tuple[Example, ...] = ()
    units: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    parallel: bool = False
    content: str | None = None


class _Found(NamedTuple):
    """A file or data set; `name` is its language's name, None if its rows name it."""

    name: str | None
    place: str


@dataclass(frozen=True)
class Finder:
    """Finds and reads test data.

    Attributes:
        options: the options that name the data.
        task: the task of the rows; None for text.
        languages: of the models.
        code_of: maps a language's name to its name in the results; None if no model can read it.
        labels: labels of the models; ``-`` and ``-1`` do not count as labels unless they are among these.
        usual: the columns that the models were trained with (see `examples`).
    """

    options: EvaluateOptions
    task: Task | None
    languages: Sequence[str]
    code_of: Callable[[str], str | None]
    labels: Collection[str] = ()
    usual: Mapping[str, str] = field(default_factory=dict)

    def sets(self, named: Mapping[str, str] | None = None) -> list[TestSet]:
        """Read all test data.

        Args:
            named: files by language, instead of the option `data`.

        Raises:
            DataError: no files, two for a language, none that a model can read, or a file with a
                bad row or no rows.
            LanguageError: a language in `named` or the option `languages` that is not there.
        """
        if named is not None:
            places = [self._given(name, place) for name, place in named.items()]
        else:
            places = [each for part in self.options.data for each in self._of_part(part)]
        left_out: dict[str, None] = {}
        found: list[TestSet] = []
        pending: list[TestSet] = []
        for name, place in places:
            if name is None and self.task is not None:
                found += self._by_column(place, self.task, left_out)
            elif self.task is None and isinstance(place, InMemory):
                raise DataError(f"{place} are rows in memory; perplexity needs text files.")
            elif name is None:
                raise DataError(
                    f"{place}: perplexity needs text files called <language>.<anything>.txt, or given as "
                    "<language>=<file>."
                )
            elif (code := self.code_of(name)) is None:
                left_out[name] = None
            else:
                pending.append(TestSet(code, (place,)))
        sets: dict[str, TestSet] = {}
        for each in (*found, *pending):
            if (old := sets.setdefault(each.language, each)) is not each:
                raise DataError(f"Two files for {each.language}: {old.files[0]} and {each.files[0]}.")
        if left_out:
            console.print(f"Left out, not among the model's languages: {', '.join(left_out)}")
        if not sets:
            raise DataError(f"None of the files is in one of the model's languages: {', '.join(self.languages)}.")
        if self.options.languages:
            sets = {code: sets[code] for code in resolve_all(self.options.languages, sets)}
        return [self._read(each) for each in sets.values()]

    def _of_part(self, part: str) -> list[_Found]:
        """The files, or data sets, of one part of the option `data`."""
        if isinstance(part, InMemory):
            return [_Found(None, part)]
        if (pair := named_place(part, self.code_of)) is not None:
            return [self._given(*pair)]
        if part.startswith("hub:"):
            return _data_sets(part, self.options.languages or self.languages)
        path, suffixes = Path(part), _TEXT if self.task is None else SUFFIXES
        if is_file(part):
            return [_Found(language_in(path) if self.task is None else None, part)]
        if (paths := files_in(path)) is not None:
            split = "" if self.task is None else f".{self.options.split}"
            paths = [each for each in paths if _is_of(each.name, split, suffixes)]
            if not paths:
                raise DataError(
                    f"There are no files <language>{split}{suffixes[0]} (or {', '.join(suffixes[1:])}) in {part}."
                )
        elif (paths := matches(part)) is None:
            raise DataError(f"There is no file or folder {part}.")
        elif not paths:
            raise DataError(f"There are no files {part}.")
        return [_Found(language_in(each), spelled(each)) for each in paths]

    def _given(self, name: str, place: str) -> _Found:
        """A file given together with its language.

        Raises:
            LanguageError: no model can read that language.
        """
        if self.code_of(name) is None:
            resolve(name, self.languages, fallback=self.options.fallback)  # raises an error that lists the languages
        return _Found(name, place)

    def _load(self, place: str, task: Task, knows: Knows | None = None) -> list[Example]:
        """The rows of a file that have a label."""
        found = load(
            task,
            place,
            columns=self.options.columns or {},
            usual=self.usual,
            skip_bad_rows=self.options.skip_bad_rows,
            knows=knows,
        )
        return labelled(found, place, no_labels(found, self.labels))

    def _by_column(self, place: str, task: Task, left_out: dict[str, None]) -> list[TestSet]:
        """The languages of a file, from its rows or else its name."""
        grouped: dict[str, list[Example]] = {}
        by_name = language_in(Path(place))
        found = self._load(place, task, lambda name: self.code_of(name) is not None)
        for example in found:
            name = example.language or (by_name if self.code_of(by_name) is not None else None)
            if name is None:
                raise DataError(
                    f"{example.place}: the row has no language: give --data <language>={place}, begin the file's "
                    "name with one of the model's languages, as <language>.<anything>, or name its column with "
                    "--columns language=<column>."
                )
            if (code := self.code_of(name)) is None:
                left_out[name] = None
            else:
                grouped.setdefault(code, []).append(replace(example, language=code))
        content = content_hash(found)
        return [TestSet(code, (place,), tuple(own), content=content) for code, own in grouped.items()]

    def _read(self, each: TestSet) -> TestSet:
        """A set with its rows."""
        if self.task is None or each.examples:
            return each
        found = self._load(each.files[0], self.task)
        examples = tuple(replace(example, language=each.language) for example in found)
        return replace(each, examples=examples, content=content_hash(found))


def _is_of(name: str, split: str, suffixes: Sequence[str]) -> bool:
    """Whether a file's name is of a split and ends in one of the suffixes, in letters of any size."""
    kind = kind_of(name)
    stem = name[: name.lower().rfind(f".{kind}")]
    return f".{kind}" in suffixes and not name.startswith(".") and stem.endswith(split)


def _data_sets(part: str, languages: Sequence[str]) -> list[_Found]:
    if "{" not in part:
        return [_Found(None, part)]
    sources = hub_sources(part, languages)
    if lacking := [code for code in languages if code not in sources]:
        console.print(f"Left out, not in {part}: {', '.join(lacking)}")
    return [_Found(code, source) for code, source in sources.items()]


def named_place(part: str, code_of: Callable[[str], str | None]) -> tuple[str, str] | None:
    """Language and file of ``<language>=<file>``; None of a place, whose path may have an equals sign in it."""
    name, separator, place = (each.strip() for each in part.partition("="))
    if not separator or part.startswith("hub:") or Path(part).exists() or matches(part):
        return None
    return (name, place) if code_of(name) is not None or Path(place).exists() else None


def language_in(path: Path) -> str:
    """What a file's name says of its language."""
    return path.name.split(".", 1)[0]


def check_known_labels(sets: Sequence[TestSet], labels: Sequence[str], run: str) -> None:
    """Warn about gold labels that a model lacks. Rows with such labels are scored as wrong.

    Args:
        sets: the test data.
        labels: the model's.
        run: the model's name.

    Raises:
        DataError: a file has none of the model's labels, so the column or the spelling must be wrong.
    """
    files: dict[str, list[Example]] = {}
    for each in sets:
        files.setdefault(each.files[0], []).extend(each.examples)
    known = set(labels)
    for file, examples in files.items():
        rows = [label_names_of(example) for example in examples]
        there = {name for row in rows for name in row}
        telling = there - {_OUTSIDE} if isinstance(examples[0].gold, tuple) else there
        if there and not (telling or there) & known:
            raise DataError(
                f"{file}: none of its labels is known to the model. It has {some(there)}; {run} has "
                f"{', '.join(labels)}. Choose another column with --columns."
            )
        if lacking := there - known:
            count = sum(not known.issuperset(row) for row in rows)
            console.print(
                f"{file}: {count:,} of {len(rows):,} rows have labels that {run} does not know, and count as "
                f"wrong: {some(lacking)}"
            )
