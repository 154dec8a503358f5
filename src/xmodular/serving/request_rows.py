"""The body of a request as rows of a model's task: a text, a list, or rows with the task's fields."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from xmodular.errors import DataError
from xmodular.prediction import Predictor
from xmodular.rows import BadRows, DataRow, half_surrogate, is_absent
from xmodular.serving.refusals import RefusalError
from xmodular.tasks import Example, Task
from xmodular.tasks.examples import examples as to_examples

# What messages say of the command line's --columns, which requests have not.
_OF_FLAGS = re.compile(r"[;:] (?:name (?:its|the) column|choose) with --columns [^ ]+(?: or --columns [^ ]+)?")
_MEMBERS = ("rows", "language", "model", "probabilities")


@dataclass(frozen=True)
class Limits:
    """What a request may have.

    Attributes:
        body: bytes.
        rows: rows.
        characters: characters of each text.
        seconds: time until it is given up.
        head_seconds: time that its headers may take.
        connections: connections that are open at once.
    """

    body: int = 1_000_000
    rows: int = 256
    characters: int = 20_000
    seconds: float = 30.0
    head_seconds: float = 10.0
    connections: int = 1024


@dataclass(frozen=True)
class Asked:
    """A request's body.

    Attributes:
        rows: texts and mappings.
        language: of rows that do not name one; None if it is not given.
        model: the model's name; None if it is not given.
        probabilities: whether the probabilities of all candidates are asked for.
        single: whether the body is one row, without a list around it.
    """

    rows: Sequence[Any]
    language: str | None = None
    model: str | None = None
    probabilities: bool = False
    single: bool = False


def read_json(body: bytes) -> Any:
    """What a body holds.

    Raises:
        RefusalError: it is not JSON in UTF-8 (400).
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RefusalError(400, f"The body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}.") from None
    except RecursionError:
        raise RefusalError(400, "The body is not JSON that can be read: it is nested too deeply.") from None
    except ValueError as error:
        said = str(error) if not body.startswith(b"\xef\xbb\xbf") else "it begins with a byte order mark"
        raise RefusalError(400, f"The body is not JSON: {said:.200}.") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(name for name, _ in pairs if [each for each, _ in pairs].count(name) > 1)
        raise ValueError(f"{twice!r:.60} appears twice in one object")
    return table


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_table)


def asked_in(content: Any, limits: Limits) -> Asked:
    """The rows that a body asks for, and what it says of them.

    Args:
        content: the JSON value: a text; a list of rows; an object with `rows`; or an object that is one row. Such an
            object may also have `model` and `probabilities`.
        limits: what it may have.

    Raises:
        RefusalError: it is none of these (422), or has too many rows (413).
    """
    if isinstance(content, str):
        return Asked([content], single=True)
    if isinstance(content, list):
        asked = Asked(content)
    elif isinstance(content, dict) and "rows" in content:
        if unknown := [name for name in content if name not in _MEMBERS]:
            raise RefusalError(
                422, f"There is no {unknown[0]!r:.60} beside 'rows'; there may be {_listed(_MEMBERS[1:])}."
            )
        rows = content["rows"]
        if not isinstance(rows, list):
            raise RefusalError(422, f"'rows' must be a list of texts and objects; it is {_kind(rows)}.")
        asked = Asked(rows, **_settings(content), language=_text(content, "language"))
    elif isinstance(content, dict):
        row = {name: value for name, value in content.items() if name not in ("model", "probabilities")}
        return Asked([row], **_settings(content), single=True)
    else:
        raise RefusalError(422, f"The body must be a text, a list of rows or an object; it is {_kind(content)}.")
    if not asked.rows:
        raise RefusalError(422, "There are no rows; a request needs at least one.")
    if len(asked.rows) > limits.rows:
        raise RefusalError(413, f"The request has {len(asked.rows):,} rows; it may have {limits.rows:,}.")
    return asked


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    probabilities = content.get("probabilities", False)
    if not isinstance(probabilities, bool):
        raise RefusalError(422, f"'probabilities' must be true or false; it is {_kind(probabilities)}.")
    return {"model": _text(content, "model"), "probabilities": probabilities}


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise RefusalError(422, f"{name!r} must be a name; it is {_kind(value)}.")
    return None if value is None else value.strip()


def examples_of(asked: Asked, predictor: Predictor, limits: Limits) -> list[Example]:
    """The rows as examples of a model's task, whose languages have no problem.

    Args:
        asked: what the request asks for.
        predictor: the model.
        limits: what a row may have.

    Raises:
        RefusalError: a row does not suit the task, or its language is unknown (422); or a text is too long (413).
    """
    task = predictor.task
    if asked.probabilities and task.probabilities is None:
        raise RefusalError(422, f"'probabilities' is true, but {task.name} has no list of candidates: leave it out.")
    rows = []
    for number, row in enumerate(asked.rows):
        place = "the row" if asked.single else f"rows[{number}]"
        rows.append(DataRow(_values(row, place, task, predictor.usual, limits), place))
    try:
        found = list(to_examples(task, rows, BadRows(), usual=predictor.usual, language=asked.language, gold=False))
    except DataError as error:
        raise RefusalError(422, _OF_FLAGS.sub("", str(error))) from None
    for example in found:
        if example.language is None and predictor.adapters.problem(None) is not None:
            raise RefusalError(
                422,
                f"{example.place} has no 'language', which this server does not identify: give one of "
                f"{_listed(predictor.model.languages)}.",
            )
        if problem := predictor.adapters.problem(example.language):
            raise RefusalError(422, f"{example.place}: {problem}")
        if (longest := max(map(len, example.texts))) > limits.characters:
            raise RefusalError(
                413, f"{example.place} has a text of {longest:,} characters; it may have {limits.characters:,}."
            )
    return found


def _values(row: Any, place: str, task: Task, usual: Mapping[str, str], limits: Limits) -> Mapping[str, Any]:
    """The values of a row by field.

    Raises:
        RefusalError: it has nothing that the task reads.
    """
    if isinstance(row, str):
        if "text" not in task.fields:
            raise RefusalError(422, f"{place} is a text, but a row for {task.name} is an object: {needs(task)}.")
        row = {"text": row}
    if not isinstance(row, dict):
        raise RefusalError(422, f"{place} must be a text or an object; it is {_kind(row)}.")
    if half_surrogate(row) is not None:
        raise RefusalError(422, f"{place} has an unpaired surrogate, which is not a character.")
    names = {field: {usual.get(field, field), *task.fields[field]} for field in list(task.fields)[:-1]}
    there = {field for field, own in names.items() if any(not is_absent(row.get(name)) for name in own)}
    # Without alternatives; multiple choice checks its own fields.
    needed = tuple(name for name in ("question", "context") if name in task.fields and name in task.sample)
    if not any(there.issuperset(group) for group in _groups(task) or [needed]):
        raise RefusalError(422, f"{place} has {_listed(list(row)[:10]) or 'nothing'}, but {needs(task)}.")
    return row


def _groups(task: Task) -> list[tuple[str, ...]]:
    """Groups of fields, one of which a row must have; of choices in columns of their own, two are enough."""
    return [group[:2] for group in task.alternatives]


def needs(task: Task) -> str:
    """What a row of a task has, in words."""
    groups = _groups(task) or [()]
    always = [name for name in task.sample if not any(name in group for group in task.alternatives)]
    ways = [" and ".join(f"'{name}'" for name in (*always, *group)) for group in groups]
    return f"a row for {task.name} has {', or '.join(ways)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{name!r:.60}" if not name.isidentifier() else name for name in names)


def _kind(value: Any) -> str:
    """A value in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value!r:.40}"
    if isinstance(value, str):
        return f"the text {value!r:.40}"
    return "a list" if isinstance(value, list) else "an object"
