"""Rows of JSON Lines, of a JSON list of objects, and of SQuAD's nested layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from xmodular.errors import DataError
from xmodular.rows.lines import TOO_LONG, lines, not_utf8, whole, without_mark
from xmodular.rows.row import BadRows, DataRow, half_surrogate

# JSON spells surrogates only like this, and only then must the values be looked through.
_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_LAYOUTS = 'a list of objects, {"data": [...]} of objects, or SQuAD\'s {"data": [{"paragraphs": [...]}]}'
_TWICE = "a name occurs twice in the object"


class _Doubled(dict[str, Any]):
    """An object in which a name occurs twice, so that one value is lost."""


def json_lines(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[DataRow]:
    """One row per line that is not blank."""
    decode = json.JSONDecoder(object_pairs_hook=_object).decode
    for number, raw in lines(file):
        here = f"{place}:{number}"
        if raw is None:
            bad.report(here, TOO_LONG)
            continue
        if not raw.strip():
            continue
        try:
            values = decode(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            bad.report(here, not_utf8(error))
        except json.JSONDecodeError as error:
            bad.report(here, f"not JSON ({error.msg} at column {error.pos + 1})")
        except (ValueError, RecursionError) as error:
            bad.report(here, _unread(error))
        else:
            yield from _row(values, here, language, bad, looked_through=_ESCAPE.search(raw) is None)


def json_file(file: Any, place: str, language: str | None, bad: BadRows) -> Iterator[DataRow]:
    """The rows of a JSON file: one per object of a list, or one per question of SQuAD's layout.

    Raises:
        DataError: the file is not JSON, or has another layout.
    """
    raw = without_mark(whole(file))
    try:
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{place}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x}).") from None
    except json.JSONDecodeError as error:
        hint = " A file with one object per line is JSON Lines: name it .jsonl." if error.msg == "Extra data" else ""
        raise DataError(f"{place}:{error.lineno}: not JSON ({error.msg} at column {error.colno}).{hint}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: {_unread(error)}.") from None
    if isinstance(content, _Doubled):
        raise DataError(f"{place}: {_TWICE}.")
    entries = content.get("data") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        keys = f" with {', '.join(list(content)[:9])}" if isinstance(content, dict) else ""
        raise DataError(f"{place} must be {_LAYOUTS}; it is {_kind(content)}{keys:.200}.")
    looked_through = _ESCAPE.search(raw) is None
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, dict) and "paragraphs" in entry:
            yield from _article(entry, f"{place} data[{number - 1}]", language, bad, looked_through)
        else:
            yield from _row(entry, f"{place} row {number}", language, bad, looked_through)


def _article(
    article: dict[str, Any], place: str, language: str | None, bad: BadRows, looked_through: bool
) -> Iterator[DataRow]:
    """A row per question, with the article's title and the paragraph's context."""
    title = {"title": article["title"]} if "title" in article else {}
    if isinstance(article, _Doubled):
        bad.report(place, _TWICE)
        return
    if not isinstance(article["paragraphs"], list):
        bad.report(place, f"'paragraphs' must be a list; it is {_kind(article['paragraphs'])}")
        return
    for number, paragraph in enumerate(article["paragraphs"]):
        here = f"{place}.paragraphs[{number}]"
        if isinstance(paragraph, _Doubled):
            bad.report(here, _TWICE)
            continue
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(questions, list):
            bad.report(here, "a paragraph must be an object with 'context' and the list 'qas'")
            continue
        context = {"context": paragraph["context"]} if "context" in paragraph else {}
        for index, question in enumerate(questions):
            if isinstance(question, dict) and not isinstance(question, _Doubled):
                question = {**title, **context, **question}
            yield from _row(question, f"{here}.qas[{index}]", language, bad, looked_through)


def _row(values: Any, place: str, language: str | None, bad: BadRows, looked_through: bool) -> Iterator[DataRow]:
    if not isinstance(values, dict):
        bad.report(place, f"a row must be a JSON object; this one is {_kind(values)}")
    elif isinstance(values, _Doubled):
        bad.report(place, _TWICE)
    elif not looked_through and (column := half_surrogate(values)) is not None:
        bad.report(place, f"{column!r} has an unpaired surrogate, which is not a character")
    else:
        yield DataRow(values, place, language)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    return values if len(values) == len(pairs) else _Doubled(values)


def _unread(error: ValueError | RecursionError) -> str:
    return "JSON nested too deeply to be read" if isinstance(error, RecursionError) else f"not JSON ({error})"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
