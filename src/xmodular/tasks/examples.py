"""Make a task's examples from rows: find fields, language and gold, and report bad rows."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from xmodular.configuration import XmodConfig
from xmodular.console import console, progress
from xmodular.errors import ConfigurationError, DataError
from xmodular.rows import BadRows, DataRow, Knows, columns_of, half_surrogate, is_absent, read_rows
from xmodular.tasks.label_counts import is_no_label
from xmodular.tasks.registry import TASKS
from xmodular.tasks.task import Example, Task
from xmodular.tasks.text_fields import whole

_OF_EVERY_TASK = ("id", "language")
# Of a file whose rows are to be in memory together: rows, and bytes of the file for each more; characters, and so many
# more for each byte. A row that is not packed has four bytes.
_MOST_ROWS, _MOST_TEXT = (2**19, 4), (2**27, 20)


def examples(
    task: Task,
    rows: Iterable[DataRow],
    bad: BadRows,
    *,
    columns: Mapping[str, str] = {},
    usual: Mapping[str, str] = {},
    language: str | None = None,
    gold: bool = True,
) -> Iterator[Example]:
    """The examples in some rows; each row is either yielded or reported as bad.

    Args:
        task: the task of the rows.
        rows: from `read_rows`, or from elsewhere.
        bad: receives the bad rows.
        columns: the columns of fields (`task.fields`, "id" or "language") with other names. Fields that are
            alternatives to a named one (a pair, if the column of ``text`` is named) are ignored.
        usual: the same, used if `columns` is empty and the first row has them (see `columns_of_training`).
        language: language of rows that do not name one; default: the one that the file's name begins with.
        gold: whether a row without gold is bad, unless its label is marked as missing (``-``, ``-1``). If False, gold
            is ignored.

    Raises:
        ConfigurationError: `columns` names a field that the task does not have.
        DataError: the first row lacks a column named in `columns`; or a row is bad and `bad` does not skip it.
    """
    fields = [*task.fields, *_OF_EVERY_TASK]
    for field in columns:
        if field not in fields:
            own = next((each for each, names in task.fields.items() if field in names), None)
            near = [own] if own else difflib.get_close_matches(field, fields, n=1)
            hint = f"did you mean {near[0]}={columns[field]}? " if near else ""
            raise ConfigurationError(
                f"columns: the task {task.name} has no field {field!r}; {hint}its fields are {', '.join(fields)}."
            )
    return _examples(task, rows, bad, columns, {} if columns else usual, language, gold)


def columns_of_training(config: XmodConfig, task: Task) -> dict[str, str]:
    """The columns of the fields in a model's training data, if `--columns` named them."""
    noted = config.task_columns
    named = noted.items() if isinstance(noted, Mapping) else ()
    return {field: name for field, name in named if isinstance(name, str) and field in (*task.fields, *_OF_EVERY_TASK)}


def load(
    task: Task,
    source: str | Path,
    *,
    columns: Mapping[str, str] = {},
    usual: Mapping[str, str] = {},
    language: str | None = None,
    skip_bad_rows: bool = False,
    knows: Knows | None = None,
) -> list[Example]:
    """All examples of a file or data set; prints how many bad rows were skipped.

    Examples with gold None come from rows whose label is marked as missing (see `labelled`).

    Args:
        task: what the rows are for.
        source: as for `read_rows`.
        columns: as for `examples`.
        usual: as for `examples`.
        language: as for `examples`.
        skip_bad_rows: skip bad rows instead of stopping at the first.
        knows: as for `read_rows`.

    Raises:
        ConfigurationError: as for `examples`.
        DataError: a bad row if they are not skipped, with file, line and reason; or there are no rows.
    """
    bad = BadRows(skip_bad_rows)
    rows = read_rows(source, bad, knows=knows, columns=columns.values())
    read = examples(task, rows, bad, columns=columns, usual=usual, language=language)
    found = list(_fitting(source, read))
    if not found:
        raise DataError(f"{source} has no rows." if not bad.count else f"{source} has no good rows. {bad.summary()}")
    if bad.count:
        console.print(bad.summary())
    return found


def _fitting(source: str | Path, found: Iterable[Example]) -> Iterator[Example]:
    """Examples that are to be in memory together, as long as their file can hold them.

    Raises:
        DataError: they are far more than what packed data unpack to.
    """
    path = Path(source)
    size = sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else [path]) if each.is_file())
    rows = characters = 0
    with progress(f"Reading {path.name}", None) as advance:
        for example in found:
            rows, characters = rows + 1, characters + sum(map(len, example.texts))
            if size and (
                rows > _MOST_ROWS[0] + size // _MOST_ROWS[1] or characters > _MOST_TEXT[0] + size * _MOST_TEXT[1]
            ):
                raise DataError(
                    f"{source} has {size:,} bytes, and more than {rows - 1:,} rows or {_MOST_TEXT[0]:,} characters are "
                    "compressed in them, far more than usual: convert it to JSON Lines first."
                )
            yield example
            if rows % 1000 == 0:
                advance(1000)


def row_hashes(examples: Iterable[Example]) -> list[bytes]:
    """A checksum of each example's texts and gold, independent of file and format."""
    parts = (json.dumps([each.texts, each.gold], ensure_ascii=False) for each in examples)
    return [hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest() for part in parts]


def content_hash(examples: Iterable[Example]) -> str:
    """A checksum of some examples' texts and gold, independent of their order."""
    return hashlib.sha256(b"".join(sorted(row_hashes(examples)))).hexdigest()


def _examples(
    task: Task,
    rows: Iterable[DataRow],
    bad: BadRows,
    columns: Mapping[str, str],
    usual: Mapping[str, str],
    language: str | None,
    gold: bool,
) -> Iterator[Example]:
    rows = iter(rows)
    if (first := next(rows, None)) is None:
        return
    usual = {field: name for field, name in usual.items() if name in first.values}
    fields = {**task.fields, **{field: (field,) for field in _OF_EVERY_TASK}}
    if not gold:
        del fields[_gold_of(task)]
    named = {**usual, **columns}
    if any(field in named for group in task.alternatives for field in group):
        for group in task.alternatives:
            if not any(field in named for field in group):
                fields = {field: there for field, there in fields.items() if field not in group}
    names = {
        field: (columns[field],) if field in columns else (usual[field], *there) if field in usual else there
        for field, there in fields.items()
    }
    for number, row in enumerate(chain([first], rows)):
        if missing := [columns[field] for field in names if field in columns and columns[field] not in row.values]:
            near = difflib.get_close_matches(missing[0], row.values, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            reason = f"there is no column {missing[0]!r}; the columns are {columns_of(row.values)}{hint}"
            if number == 0:
                raise DataError(f"{row.place}: {reason.rstrip('?')}{'?' if near else '.'}")
            bad.report(row.place, reason)
            continue
        try:
            example = _example(task, row, names, language, gold)
        except ValueError as error:
            bad.report(row.place, str(error))
        else:
            yield example


def _example(
    task: Task, row: DataRow, names: Mapping[str, tuple[str, ...]], language: str | None, gold: bool
) -> Example:
    """The example of a row.

    Raises:
        ValueError: what is wrong with it.
    """
    there: dict[str, str] = {}
    for field, columns in names.items():
        column = next((name for name in columns if not is_absent(row.values.get(name))), None)
        if column is not None:
            there[field] = column
    values = {field: row.values[column] for field, column in there.items()}
    if (column := half_surrogate({there[field]: value for field, value in values.items()})) is not None:
        raise ValueError(f"{column!r} has an unpaired surrogate, which is not a character")
    own_id, own_language = _id(values.pop("id", None)), _language(values.pop("language", None))
    read = [field for field in names if field not in (*_OF_EVERY_TASK, _gold_of(task))]
    if not any(field in values for field in read):
        raise ValueError(_no_columns(task, row, {field: names[field] for field in read}, gold))
    try:
        texts, right = task.parse(values)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')} (the row has {columns_of(row.values)})") from None
    field = _gold_of(task)
    none = any(name in row.without_class for name in names.get(field, ())) or is_no_label(values.get(field))
    if gold and right is None and not none:
        there_is = [name for name in names[field] if name in row.values]
        wrong = (
            f"{there_is[0]!r} is empty" if there_is else f"there is no column {' or '.join(map(repr, names[field]))}"
        )
        raise ValueError(
            f"{wrong}, the field for the gold; name another column with --columns {field}=<column> (the row has "
            f"{columns_of(row.values)})"
        )
    return Example(texts, right, row.place, own_id, own_language or language or row.language)


def _gold_of(task: Task) -> str:
    """The field with the right answer."""
    return list(task.fields)[-1]


def _no_columns(task: Task, row: DataRow, read: Mapping[str, Sequence[str]], gold: bool) -> str:
    """The message for a row without any of the task's fields: they have other names, or it suits another task."""
    if empty := [name for names in read.values() for name in names if name in row.values]:
        return f"{empty[0]!r} is empty (the row has {columns_of(row.values)})"
    fields = list(read)
    first = next((group for group in task.alternatives if group[0] in read), fields)
    answer = [_gold_of(task)] if gold else []
    shown = ",".join(f"{field}=<column>" for field in (*first[:2], *answer))
    telling = {name: each.name for each in TASKS.values() for name in each.telling}
    if other := next((telling[name] for name in row.values if telling.get(name, task.name) != task.name), None):
        return (
            f"the task {task.name} does not fit {columns_of(row.values)}: use xmodular finetune --task {other}, "
            f"or name the columns with --columns {shown} for this task"
        )
    if len(task.alternatives) == 1:  # the other fields may be missing
        fields = [*first, *answer]
    return (
        f"the task {task.name} needs {', '.join(map(repr, fields[:4]))}, but the row has {columns_of(row.values)}: "
        f"name the columns with --columns {shown}"
    ) + (", or choose another task with xmodular finetune --task" if gold else "")


def _id(value: Any) -> str | None:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"'id' must be a text or a number; it is {value!r:.60}")
    return None if value is None else str(whole(value))


def _language(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"'language' must be a code or a name; it is {value!r:.60}")
    return (value or "").strip() or None
