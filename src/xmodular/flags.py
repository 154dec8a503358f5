"""The command-line flags of a verb, made from its options: number of values, type and help of each."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, Optional

import typer

from xmodular.errors import ConfigurationError
from xmodular.options import Options, kind_of
from xmodular.options.declaring import Identify, flag_of

Takes = Literal["one", "several", "none", "any"]


def kinds_of(options: type[Options]) -> dict[str, Any]:
    """The types of the options by name, without None."""
    return {name: kind_of(hint) for name, hint in typing.get_type_hints(options).items()}


def takes_of(options: type[Options]) -> dict[str, Takes]:
    """How many values each flag of a verb takes; "any" is one or none."""
    answer: dict[str, Takes] = {"--config": "one", "--help": "none"}
    kinds = kinds_of(options)
    for field in fields(options):
        if not field.metadata["positional"]:
            flag, kind = flag_of(field.name), kinds[field.name]
            origin = typing.get_origin(kind)
            is_list = origin is tuple or (inspect.isclass(origin) and issubclass(origin, Mapping))
            answer[flag] = "none" if kind is bool else "any" if kind == Identify else "several" if is_list else "one"
            if kind in (bool, Identify):
                answer[f"--no-{flag[2:]}"] = "none"
    return answer


def gathered(words: Sequence[str], options: type[Options]) -> list[str]:
    """The words of a command line, with every flag only once.

    The values of a flag that takes several may follow each other (as when a shell expands ``*.jsonl``), or the flag
    may be repeated; they are joined with commas. All other words stay where they are: those after the value of another
    flag and, if the verb has positional arguments, those after the value of any flag.

    Raises:
        ConfigurationError: a flag that takes one value has two, one has none, or a switch is turned on and off.
    """
    takes = takes_of(options)
    has_arguments = any(field.metadata["positional"] for field in fields(options))
    given: dict[str, list[str]] = {}
    rest: list[str] = []
    last: str | None = None  # the flag that the words belong to
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, is_joined, value = word.partition("=")
        if word == "--":
            rest += [word, *waiting]
            break
        if flag not in takes:  # a value, a positional argument or a mistake
            if _LOOKS_LIKE_A_FLAG.match(word):
                raise no_flag(word, takes)
            if last is None or has_arguments:
                rest.append(word)
            else:
                given[last].append(word)
            continue
        last = None if takes[flag] == "none" else flag
        if takes[flag] == "any" and not is_joined and not _is_value(waiting, has_arguments):
            is_joined, value = "=", "true"
        if last is None:
            given[flag] = []
            is_any = takes.get(f"--{flag[5:]}") == "any"  # --no-identify: the parser knows only --identify=...
            rest.append(f"--{flag[5:]}=false" if is_any else word)
        elif is_joined or (waiting and waiting[0].partition("=")[0] not in takes):
            given.setdefault(flag, []).append(value if is_joined else waiting.pop(0))
        else:  # the parser would read the next flag as the value
            raise ConfigurationError(f"{flag} needs a value{f', but {waiting[0]} follows' if waiting else ''}.")
    for flag, values in given.items():
        if f"--no-{flag[2:]}" in given:
            raise ConfigurationError(f"{flag} and --no-{flag[2:]} cannot be used together.")
        if len(values) > 1 and takes[flag] in ("one", "any"):
            raise ConfigurationError(f"{flag} takes one value; got {len(values)}: {', '.join(values):.200}.")
    return [*(f"{flag}={','.join(values)}" for flag, values in given.items() if values), *rest]


def _is_value(waiting: Sequence[str], has_arguments: bool) -> bool:
    """Whether the next word is the value of a flag that may have none, not a flag or a positional argument."""
    if not waiting or waiting[0].startswith("--"):
        return False
    return not has_arguments or bool(_IDENTIFIER.fullmatch(waiting[0]))


_IDENTIFIER = re.compile(r"true|false|py3langid|spans|[\w.]+:\S+")
_LOOKS_LIKE_A_FLAG = re.compile("--?[A-Za-z]")


def no_flag(word: str, flags: Iterable[str]) -> ConfigurationError:
    """The error for an unknown flag, with flags that have a similar name or begin with it."""
    name = word.partition("=")[0].strip("-").replace("_", "-").casefold()
    known = [flag for flag in flags if not flag.startswith("--no-")]
    near = sorted((flag for flag in known if flag[2:].startswith(name)), key=len)
    near = near or [f"--{each}" for each in difflib.get_close_matches(name, [flag[2:] for flag in known], cutoff=0.5)]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else "--help lists the options."
    return ConfigurationError(f"There is no option {word.partition('=')[0]:.60}; {hint}")


def parameters_of(options: type[Options]) -> list[inspect.Parameter]:
    """An optional parameter for typer per option, in the order of the help, and one for the options file."""
    kinds = kinds_of(options)
    config = typer.Option(None, "--config", help="YAML file with options; flags override it.")
    parameters = [
        _parameter(field.name, _flag_type(kinds[field.name]), _declaration(field, kinds[field.name], heading or None))
        for heading, group in options.groups().items()
        for field in group
    ]
    return [*parameters, _parameter("config", Optional[Path], config)]  # noqa: UP045 (typer reads it at run time)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _declaration(field: Field[Any], kind: Any, panel: str | None) -> Any:
    """The flag of an option. All default to None, "not given"; the help shows the true default."""
    text = field.metadata["help"]
    if field.default is MISSING:
        text += " (required)"
    elif field.default not in (None, (), False, ""):
        default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        text += f" (default: {default})"
    declare: Any = typer.Argument if field.metadata["positional"] else typer.Option
    return declare(None, help=text, show_default=False, metavar=_choices(kind), rich_help_panel=panel)


def _choices(kind: Any) -> str | None:
    """The choices of an option, such as ``[fp32|bf16]``; None if it has no list of choices."""
    if typing.get_origin(kind) is tuple:
        inner = _choices(typing.get_args(kind)[0])
        return inner and f"{inner},..."
    return f"[{'|'.join(map(str, typing.get_args(kind)))}]" if typing.get_origin(kind) is Literal else None


def _flag_type(kind: Any) -> Any:
    """The type for typer: numbers and booleans stay as they are, the rest is text for `build`."""
    return Optional[kind if kind in (bool, int, float) else str]  # noqa: UP045
