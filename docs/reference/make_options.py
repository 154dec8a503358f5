"""Write options.md, which says what the commands take, and the stub that editors and type checkers read.

Both come from the dataclasses in `xmodular.options`: the stub by way of the signatures and docstrings of the verbs.

python docs/reference/make_options.py
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
import typing
from pathlib import Path

import xmodular
from xmodular import options as all_options
from xmodular.options import kind_of
from xmodular.options.declaring import Identify

VERBS = {record.verb: record for record in all_options.VERBS}
HEAD = """\
# Options

Written by `python docs/reference/make_options.py` from the dataclasses in `xmodular.options`.

The name in the first column is the keyword in Python and the key in a YAML file; the flag is the same with dashes
(`--output-dir`), and dashes are as good in YAML. Lists are written with commas on the command line, or the flag is
repeated, or the values follow each other (`--train data/*.jsonl`); a flag that takes one value may stand once. Switches
have a negative form (`--no-overwrite`). The options that matter most come first, those that several verbs share last.
"""


STUB = Path(xmodular.__file__).with_suffix(".pyi")
STUB_HEAD = """\
# Written by `python docs/reference/make_options.py` from the verbs and their options.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

"""


def page() -> str:
    """The whole page of options."""
    parts = [HEAD]
    for verb, record in VERBS.items():
        parts.append(f"\n## {verb}\n\n{_escaped(inspect.getdoc(record) or '')}\n")
        hints = typing.get_type_hints(record)
        parts.append("\n| option | type | default | |\n| --- | --- | --- | --- |\n")
        for field in (field for group in record.groups().values() for field in group):
            name = f"`{field.name}`" + (" (positional)" if field.metadata["positional"] else "")
            text = _escaped(field.metadata["help"])
            parts.append(f"| {name} | {_kind(kind_of(hints[field.name]))} | {_default(field)} | {text} |\n")
    return "".join(parts)


def stub() -> str:
    """The public names, with the signature and docstring of every verb."""
    lines: list[str] = []
    imported: dict[str, set[str]] = {}
    verbs = []
    for name in sorted(set(xmodular.__all__) - {"__version__"}):
        value = getattr(xmodular, name)
        if not hasattr(value, "options"):
            lines.append(f"from xmodular.{xmodular._HOMES[name]} import {name} as {name}\n")
            continue
        signature = inspect.signature(value)
        verbs.append(f"\n{_declaration(name, signature)}")
        annotations = (signature.return_annotation, *(each.annotation for each in signature.parameters.values()))
        known = inspect.unwrap(value).__globals__
        words = {word for each in annotations for word in re.findall(r"\w+", re.sub('"[^"]*"', "", each))}
        for word in words - set(xmodular.__all__):
            if isinstance(found := known.get(word), type) and found.__module__.startswith("xmodular."):
                imported.setdefault(found.__module__, set()).add(word)
    lines += [f"from {module} import {', '.join(sorted(names))}\n" for module, names in imported.items()]
    return f"{STUB_HEAD}{''.join(sorted(lines))}\n__version__: str\n{''.join(verbs)}"


def _declaration(name: str, signature: inspect.Signature) -> str:
    """A verb as it stands in the stub."""
    lines = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "    *,\n" not in lines:
            lines.append("    *,\n")
        default = parameter.default
        shown = "" if default is parameter.empty else f" = {json.dumps(default) if type(default) is str else default}"
        lines.append(f"    {parameter.name}: {parameter.annotation}{shown.replace(chr(39), chr(34))},\n")
    doc = textwrap.indent(inspect.getdoc(getattr(xmodular, name)) or "", "    ").lstrip()
    return f'def {name}(\n{"".join(lines)}) -> {signature.return_annotation}:\n    """{doc}\n    """\n'


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def _kind(hint: object) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if hint == Identify:
        return "switch or text"
    if origin is not None:
        return "name=value,..."
    return {int: "whole number", float: "number", str: "text", Path: "path", bool: "switch"}[hint]


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default in (None, (), ""):
        return "–"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    value = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"`{value}`"


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(page(), encoding="utf-8")
    STUB.write_text(stub(), encoding="utf-8")
