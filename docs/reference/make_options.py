"""Write options.md from the options dataclasses, so that it says what the commands take.

python docs/reference/make_options.py
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from pathlib import Path

from xmodular import cli

VERBS = {name: record for name, record, *_ in cli._VERBS}
HEAD = """\
# Options

Written by `python docs/reference/make_options.py` from the dataclasses in `xmodular.options`.

The name in the first column is the keyword in Python and the key in a YAML file; the flag is the same with dashes
(`--output-dir`), and dashes are as good in YAML. Lists are written with commas on the command line, or the flag is
repeated, or the values follow each other (`--train data/*.jsonl`); a flag that takes one value may stand once. Switches
have a negative form (`--no-overwrite`). Options that several verbs share come last.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for verb, record in VERBS.items():
        parts.append(f"\n## {verb}\n\n{_escaped(inspect.getdoc(record) or '')}\n")
        parts.append("\n| option | type | default | |\n| --- | --- | --- | --- |\n")
        hints = typing.get_type_hints(record)
        own = record.__annotations__
        for field in sorted(
            dataclasses.fields(record), key=lambda field: (not _required(field), field.name not in own)
        ):
            name = f"`{field.name}`" + (" (positional)" if field.metadata["positional"] else "")
            text = _escaped(field.metadata["help"])
            parts.append(f"| {name} | {_kind(hints[field.name])} | {_default(field)} | {text} |\n")
    return "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING


def _kind(hint: object) -> str:
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _kind(next(part for part in arguments if part is not type(None)))
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is not None:
        return "name=value,..."
    return {int: "whole number", float: "number", str: "text", Path: "path", bool: "switch"}[hint]


def _default(field: dataclasses.Field) -> str:
    if _required(field):
        return "required"
    if field.default in (None, (), ""):
        return "–"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    value = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"`{value}`"


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(page(), encoding="utf-8")
