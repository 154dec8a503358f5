"""The command line: a table of verbs, each a thin command around the function of that name.

Flags, types and help come from the verb's options. A function is imported only when its command runs, so that help
appears at once.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from xmodular import __version__
from xmodular.beforehand import look
from xmodular.console import terminal
from xmodular.errors import ConfigurationError, StorageError, XmodularError, of_system, visible
from xmodular.flags import gathered, kinds_of, no_flag, parameters_of
from xmodular.options import (
    KINDS,
    VERBS,
    DemoOptions,
    Options,
    PredictOptions,
    RowsOptions,
    TrainingOptions,
    build,
    read_options_file,
)
from xmodular.options.declaring import from_file

_GROUPS = {"pack": "Language packs: one language in a small folder, for all models with the same base."}


def _show_fillings(fillings: Any) -> int:
    for filling in fillings:
        typer.echo(visible(f"{filling.mask}\t{filling.probability:.3f}\t{filling.piece}\t{filling.text}"))
    return 0


def _show_table(answer: Any) -> int:
    """Print a result that has a table; its `ok`, if it has one, determines the exit status."""
    terminal(width=None if sys.stdout.isatty() else 120).print(answer.table())
    return 0 if getattr(answer, "ok", True) else 1


def _gate_status(results: Any) -> int:
    """What `evaluate` prints is printed already; a gate that failed determines the exit status."""
    return 0 if results.passed else 1


# What verbs do with their answer, such as printing it on stdout; each gives back the exit status.
_SHOWN = {
    "fill_mask": _show_fillings,
    "pack_verify": _show_table,
    "pack_list": _show_table,
    "diff": _show_table,
    "evaluate": _gate_status,
    "donors": _show_table,
    "trim": _show_table,
    "export": _show_table,
    "models": _show_table,
    "recipes": _show_table,
}

_UsageError: Any = typer.BadParameter.__bases__[0]  # of click, which typer may have inside


class _Group(TyperGroup):
    """A group of commands; unknown names are answered with similar ones."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("--help", "--version"):
            _fail(no_flag(args[0], ("--help", "--version")))
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            near = difflib.get_close_matches(args[0].casefold(), self.commands, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"the commands are {', '.join(self.commands)}."
            _fail(ConfigurationError(f"There is no command {args[0]!r:.60}; {hint}"))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Modular multilingual encoders: pretrain, fine-tune in one language, evaluate in the others.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"xmodular {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_show_version, help="Show the version."),
) -> None:
    """Keeps the verbs as subcommands, and makes the streams accept any text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that is not UTF-8 shows missing characters as \\u0448
            stream.reconfigure(errors="backslashreplace")


class _Verb(TyperCommand):
    """A command that gathers its flags before parsing, and whose help does not break words in narrow windows."""

    options: type[Options]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.rich_markup_mode = None  # plain lines: rich's table truncates long cells
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                is_argument = parameter.param_type_name == "argument"
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
                groups.setdefault(panel, []).append(record)
        for panel, records in groups.items():
            with formatter.section(panel):
                formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            args = gathered(args, self.options)
            return super().parse_args(ctx, list(args))
        except XmodularError as error:
            _fail(error)
        except _UsageError as error:
            _fail(ConfigurationError(self._said(error.format_message(), args)))

    def _said(self, message: str, args: Sequence[str]) -> str:
        """The parser's message, with the value that it is about."""
        if extra := re.search(r"unexpected extra argument\S* \((.*)\)", message, re.DOTALL):
            return f"{extra[1]!r:.80} does not belong to an option: give values as --name value."
        if flag := re.match("Invalid value for '(--[a-z-]+)'", message):
            value = next((word[len(flag[1]) + 1 :] for word in args if word.startswith(f"{flag[1]}=")), "")
            kind = kinds_of(self.options)[flag[1][2:].replace("-", "_")]
            return f"{flag[1]} must be {KINDS[kind]}; got {value!r:.60}."
        return message


def _fail(error: XmodularError) -> NoReturn:
    """End with the error message on one line, with its parts joined."""
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines() if line.strip()]
    parts = "; ".join(line.rstrip(".") for line in lines[1:])
    typer.secho(f"Error: {' '.join([*lines[:1], *([f'{parts}.'] if parts else [])])}", err=True, fg="red")
    raise typer.Exit(2) from None


def _stop(options: Any) -> NoReturn:
    """End after Ctrl-C with a message that says how to continue."""
    said = "nothing was changed."
    if isinstance(options, TrainingOptions):
        folder = options.output_dir
        found = [path for pattern in ("", "seed-*/") for path in folder.glob(f"{pattern}checkpoints/checkpoint-*")]
        again = "the same command without --overwrite" if options.overwrite else "the same command"
        if found:
            newest = max(found, key=lambda path: path.stat().st_mtime)
            said = f"{again} continues from the last checkpoint, {newest}."
        else:
            said = "there is no checkpoint yet (--save-every), so the same command starts from the beginning."
    elif isinstance(options, RowsOptions) and options.output != "-":
        place = options.place if isinstance(options, PredictOptions) and options.engine is not None else None
        if place is not None and ("://" in place or Path(place, "_predict").is_dir()):
            said = f"the same command continues; finished files are in {place}, and stay."
        folder = Path(options.output if options.shard_rows is not None else f"{options.output}.parts")
        folder = folder if folder.is_dir() else Path(f"{options.output}.parts")
        if any(folder.glob("part-*.jsonl")):
            said = f"the same command continues after the finished rows, which are in {folder}."
    elif isinstance(options, DemoOptions) and options.model is not None:
        said = (
            f"the same command{' without --overwrite' if options.overwrite else ''} continues in {options.output_dir}."
        )
    elif isinstance(options, DemoOptions):
        again = "the same command" if options.overwrite else "the same command with --overwrite"
        said = f"{again} starts over in {options.output_dir}."
    typer.secho(visible(f"Interrupted: {said}"), err=True, fg="red")
    raise typer.Exit(130) from None


def _command(options: type[Options]) -> Any:
    """A function with one optional parameter per option, which typer turns into a command."""

    def command(config: Path | None, **given: Any) -> None:
        made: Any = None
        try:
            filed = read_options_file(config) if config is not None else {}
            flags = {name: value for name, value in given.items() if value is not None}
            module, name = options.home.split(":")
            with from_file(filed.keys() - flags.keys()):
                made = build(options, {**filed, **flags})
                look(made)
                answer = getattr(importlib.import_module(module), name)(**vars(made))
            status = _SHOWN[name](answer) if name in _SHOWN else 0
            sys.stdout.flush()
        except XmodularError as error:
            _fail(error)
        except OSError as error:
            if (said := of_system(error)) is None:
                raise
            with contextlib.suppress(OSError, ValueError):  # the rest of its buffer must not fail again at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _fail(StorageError(said))
        except KeyboardInterrupt:
            _stop(made)
        raise typer.Exit(status)

    parameters = parameters_of(options)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _add_verbs() -> None:
    groups: dict[str, typer.Typer] = {}
    for options in VERBS:
        group, _, name = options.verb.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(cls=_Group, no_args_is_help=True, rich_markup_mode="rich")
            app.add_typer(groups[group], name=group, help=_GROUPS[group])
        home = groups[group] if group else app
        verb_class = type("Verb", (_Verb,), {"options": options})
        said = f"{inspect.getdoc(options)}\n\nExample: {options.example}"
        home.command(name, cls=verb_class, help=said)(_command(options))


_add_verbs()
