"""The public function of a verb: its signature and the help of its keywords, made from the verb's options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

from xmodular.errors import speaking
from xmodular.options import Options, build, kind_of
from xmodular.options.declaring import Identify
from xmodular.outputs import held

R = TypeVar("R")

_WIDTH = 112  # of a docstring
_FLAG = re.compile("--([a-z]+(?:-[a-z]+)*)")  # in a help text; here it is a keyword


class _Shown(str):
    """The text of an annotation, which signatures show without quotes."""

    def __repr__(self) -> str:
        return str(self)


def verb(
    options: type[Options],
    *positional: str,
    objects: Mapping[str, Callable[[Any], tuple[Any, Any]]] = types.MappingProxyType({}),
    rows: Mapping[str, Callable[[Any, str], Any]] = types.MappingProxyType({}),
    holds: str | None = None,
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make the public function of a verb from one that takes its options as an object.

    The public function takes each option as a keyword. Its signature and the ``Args`` of its docstring come from the
    options, except those that the docstring explains itself. It raises failures to read or write as `StorageError`.

    Args:
        options: the verb's options.
        positional: the options that may be given by position, in this order.
        objects: for each option that may also be an object, such as a model: a function that returns the object (None
            if there is none) and the option's value. The function gets the objects after its options, in this order.
        rows: for each option that may be rows in memory: a function that turns them and the option's name into a name
            for the rows. Text and None stay unchanged.
        holds: the option with the output, which is locked against other processes.
    """
    fields = {field.name: field for group in options.groups().values() for field in group}
    fields = {name: fields[name] for name in dict.fromkeys([*positional, *fields])}

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD if name in positional else inspect.Parameter.KEYWORD_ONLY,
                default=_default(field),
                annotation=_Shown(_type(options, field, {**objects, **rows})),
            )
            for name, field in fields.items()
        ]
        others = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
        leading = inspect.Signature([*parameters[: len(positional)], others])

        @speaking
        @functools.wraps(function)
        def called(*args: Any, **keywords: Any) -> R:
            try:
                values = leading.bind(*args, **keywords).arguments
            except TypeError as error:
                raise TypeError(f"{function.__name__}(): {error}") from None
            values |= values.pop("options", {})
            handed = []
            for name, read in objects.items():
                given = None
                if name in values and (values[name] is not None or fields[name].default is not None):
                    given, values[name] = read(values[name])
                handed.append(given)
            for name, named in rows.items():
                if values.get(name) is None:
                    values.pop(name, None)
                elif not isinstance(values[name], str):
                    values[name] = named(values[name], name)
            made = build(options, values)
            output = None if holds is None else getattr(made, holds)
            with nullcontext() if output in (None, "-") else held(output):
                return function(made, *handed)

        public: Any = called
        public.__signature__ = inspect.Signature(
            parameters, return_annotation=_Shown(function.__annotations__["return"])
        )
        public.__doc__ = _explained(inspect.getdoc(function) or "", fields)
        public.options = options
        return called

    return decorate


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is dataclasses.MISSING:
        return inspect.Parameter.empty
    return str(field.default) if isinstance(field.default, Path) else field.default


def _type(options: type[Options], field: dataclasses.Field[Any], readers: Mapping[str, Callable[..., Any]]) -> str:
    """The values that an option accepts, as the text of an annotation."""
    if field.name in readers:  # as annotated in its reader
        shown = str(next(iter(inspect.signature(readers[field.name]).parameters.values())).annotation)
    else:
        hint = typing.get_type_hints(options, localns={"Place": Path})[field.name]
        shown = _taken(kind_of(hint))
    return f"{shown} | None" if field.default is None and shown != "Any" else shown


def _taken(kind: Any) -> str:
    """The values that `build` accepts for a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind == Identify:
        return "bool | str | Any"
    if origin is Literal:
        return "Literal[" + ", ".join(f'"{each}"' for each in arguments) + "]"
    if origin is tuple:
        return f"str | Sequence[{_taken(arguments[0])}]"
    if origin is not None:
        return f"str | Mapping[{', '.join(map(_taken, arguments))}]"
    return "str | Path" if kind is Path else "Any" if kind is Any else kind.__name__


def _explained(doc: str, fields: Mapping[str, dataclasses.Field[Any]]) -> str:
    """The docstring with all options in its ``Args``: first those that it explains itself, then the others."""
    before, _, after = doc.partition("\nArgs:\n")
    own, _, rest = after.partition("\n\n")
    if not after:  # there are no Args
        before, _, rest = doc.partition("\n\n")
        before += "\n"
    named = {name for names in re.findall(r"^    (\w[\w, ]*):", own, re.MULTILINE) for name in names.split(", ")}
    lines = [own.rstrip()] if own else []
    for name, field in fields.items():
        if name not in named:
            text = _FLAG.sub(lambda flag: f"`{flag[1].replace('-', '_')}`", field.metadata["help"])
            lines.append(textwrap.fill(f"    {name}: {text}", _WIDTH, subsequent_indent=" " * 8))
    return "\n".join([f"{before}\nArgs:", *lines, "", rest]).rstrip()
