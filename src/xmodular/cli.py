"""The command line: a table of verbs, each a thin command over the function of that name.

Flags, types and help come from the verb's options; the function is imported when its command runs, so that help
appears at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import inspect
import io
import os
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Optional

import typer
from typer.core import TyperCommand, TyperGroup

from xmodular import __version__
from xmodular.beforehand import look
from xmodular.console import terminal
from xmodular.errors import ConfigurationError, StorageError, XmodularError, of_system, visible
from xmodular.options import (
    KINDS,
    ConvertOptions,
    DemoOptions,
    DiffOptions,
    EvaluateOptions,
    ExtendOptions,
    FillMaskOptions,
    FinetuneOptions,
    ModelsOptions,
    PackInstallOptions,
    PackListOptions,
    PackRemoveOptions,
    PackSaveOptions,
    PackVerifyOptions,
    PredictOptions,
    PretrainOptions,
    RecipesOptions,
    TrainingOptions,
    UpcycleOptions,
    build,
    read_config,
)

# Verb, its options, where its function is, and an example for the help.
_VERBS: tuple[tuple[str, type, str, str], ...] = (
    (
        "pretrain",
        PretrainOptions,
        "xmodular.training:pretrain",
        "xmodular pretrain --text corpus/text --output-dir runs/base --preset mini --vocab-size 16000",
    ),
    (
        "extend",
        ExtendOptions,
        "xmodular.training:extend",
        "xmodular extend --model runs/base --language gsw --text gsw.txt --init-from de --output-dir runs/gsw",
    ),
    (
        "finetune",
        FinetuneOptions,
        "xmodular.training:finetune",
        "xmodular finetune --model runs/base --train en_XX.train.jsonl --language en --output-dir runs/topic",
    ),
    (
        "evaluate",
        EvaluateOptions,
        "xmodular.evaluation:evaluate",
        "xmodular evaluate --model runs/topic --data corpus/topic --output-dir runs/topic/eval",
    ),
    (
        "predict",
        PredictOptions,
        "xmodular.prediction:predict",
        "xmodular predict --model runs/topic --input reviews.csv --language de --output labelled.csv",
    ),
    (
        "fill-mask",
        FillMaskOptions,
        "xmodular.prediction:fill_mask",
        'xmodular fill-mask --model runs/base --language sw "Habari ya <mask>?"',
    ),
    (
        "pack save",
        PackSaveOptions,
        "xmodular.sharing:pack_save",
        "xmodular pack save --model runs/base --language gsw --output-dir packs/gsw",
    ),
    (
        "pack install",
        PackInstallOptions,
        "xmodular.sharing:pack_install",
        "xmodular pack install packs/gsw --model runs/topic",
    ),
    (
        "pack verify",
        PackVerifyOptions,
        "xmodular.sharing:pack_verify",
        "xmodular pack verify packs/gsw --model runs/topic",
    ),
    ("pack list", PackListOptions, "xmodular.sharing:pack_list", "xmodular pack list packs"),
    (
        "pack remove",
        PackRemoveOptions,
        "xmodular.sharing:pack_remove",
        "xmodular pack remove --model runs/topic --language gsw",
    ),
    ("diff", DiffOptions, "xmodular.certificate:diff", "xmodular diff runs/base runs/topic --allow encoder"),
    (
        "convert",
        ConvertOptions,
        "xmodular.conversion:convert",
        "xmodular convert xmod.base/model.pt --output-dir xmod-base",
    ),
    (
        "upcycle",
        UpcycleOptions,
        "xmodular.conversion:upcycle",
        "xmodular upcycle --model intfloat/multilingual-e5-base --languages de,sw,mt --output-dir e5-modular",
    ),
    ("recipes", RecipesOptions, "xmodular.recipes:recipes", "xmodular recipes xnli"),
    ("models", ModelsOptions, "xmodular.catalogue:models", "xmodular models --language gsw"),
    ("demo", DemoOptions, "xmodular.demo.run:run", "xmodular demo --output-dir demo"),
)


_GROUPS = {"pack": "Language packs: one language in a small folder, for every model of the same base."}


def _show_fillings(fillings: Any) -> int:
    for filling in fillings:
        typer.echo(visible(f"{filling.mask}\t{filling.probability:.3f}\t{filling.piece}\t{filling.text}"))
    return 0


def _show_table(answer: Any) -> int:
    """Print an answer that has a table; its `ok`, where it has one, is the exit status."""
    terminal(width=None if sys.stdout.isatty() else 120).print(answer.table())
    return 0 if getattr(answer, "ok", True) else 1


# What the verbs that answer with something to read print on stdout; each gives back the exit status.
_SHOWN = {
    "fill_mask": _show_fillings,
    "pack_verify": _show_table,
    "pack_list": _show_table,
    "diff": _show_table,
    "models": _show_table,
    "recipes": _show_table,
}

_UsageError: Any = typer.BadParameter.__bases__[0]  # of click, which typer may have inside


class _Group(TyperGroup):
    """Commands, whose names are spelled right or answered with the nearest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("--help", "--version"):
            _fail(_no_flag(args[0], ("--help", "--version")))
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            near = difflib.get_close_matches(args[0].casefold(), self.commands, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self.commands)}."
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
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_show_version, help="Print the version."),
) -> None:
    """Keeps the verbs as subcommands, and lets any stream take any text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that is not UTF-8 shows what it lacks as \\u0448
            stream.reconfigure(errors="backslashreplace")


def _takes(options: type) -> dict[str, Literal["one", "several", "none"]]:
    """How many values each flag of a verb takes."""
    answer: dict[str, Literal["one", "several", "none"]] = {"--config": "one", "--help": "none"}
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        if not field.metadata["positional"]:
            flag, kind = f"--{field.name.replace('_', '-')}", _kind(hints[field.name])
            origin = typing.get_origin(kind)
            is_list = origin is tuple or (inspect.isclass(origin) and issubclass(origin, Mapping))
            answer[flag] = "none" if kind is bool else "several" if is_list else "one"
            if kind is bool:
                answer[f"--no-{flag[2:]}"] = "none"
    return answer


def _gathered(words: Sequence[str], options: type) -> list[str]:
    """The words of a command line, in which every flag stands once.

    Values of a flag that takes several may follow each other (as a shell writes what ``*.jsonl`` stands for), or stand
    behind a flag each; they are joined with commas. Words behind another flag's value, or behind that of any flag of a
    verb with arguments of its own, stay where they are.

    Raises:
        ConfigurationError: a flag that takes one value has two, one has none, or a switch is turned on and off.
    """
    takes = _takes(options)
    has_arguments = any(field.metadata["positional"] for field in dataclasses.fields(options))
    given: dict[str, list[str]] = {}
    rest: list[str] = []
    last: str | None = None  # the flag whose values the words are
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, is_joined, value = word.partition("=")
        if word == "--":
            rest += [word, *waiting]
            break
        if flag not in takes:  # a value, an argument of the verb, or a mistake
            if _LOOKS_LIKE_A_FLAG.match(word):
                raise _no_flag(word, takes)
            if last is None or has_arguments:
                rest.append(word)
            else:
                given[last].append(word)
            continue
        last = None if takes[flag] == "none" else flag
        if last is None:
            given[flag] = []
            rest.append(word)
        elif is_joined or (waiting and waiting[0].partition("=")[0] not in takes):
            given.setdefault(flag, []).append(value if is_joined else waiting.pop(0))
        else:  # the parser would take the next flag for the value
            raise ConfigurationError(f"{flag} needs a value{f'; {waiting[0]} follows it' if waiting else ''}.")
    for flag, values in given.items():
        if len(values) > 1 and takes[flag] == "one":
            raise ConfigurationError(f"{flag} takes one value; it is given {len(values)}: {', '.join(values):.200}.")
        if f"--no-{flag[2:]}" in given:
            raise ConfigurationError(f"{flag} and --no-{flag[2:]} exclude each other.")
    gathered = [f"{flag}={','.join(values)}" for flag, values in given.items() if values]
    return [*gathered, *rest]


_LOOKS_LIKE_A_FLAG = re.compile("--?[A-Za-z]")


def _no_flag(word: str, flags: Iterable[str]) -> ConfigurationError:
    """The error for a flag that is none, with those that are spelled like it or begin with it."""
    name = word.partition("=")[0].strip("-").replace("_", "-").casefold()
    known = [flag for flag in flags if not flag.startswith("--no-")]
    near = sorted((flag for flag in known if flag[2:].startswith(name)), key=len)
    near = near or [f"--{each}" for each in difflib.get_close_matches(name, [flag[2:] for flag in known], cutoff=0.5)]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else "--help lists those that there are."
    return ConfigurationError(f"There is no option {word.partition('=')[0]:.60}; {hint}")


class _Verb(TyperCommand):
    """A command whose flags are gathered before they are parsed, and whose help cuts no word in narrow windows."""

    options: type

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.rich_markup_mode = None  # plain lines: rich's table cuts what is longer than one of its columns
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            args = _gathered(args, self.options)
            return super().parse_args(ctx, list(args))
        except XmodularError as error:
            _fail(error)
        except _UsageError as error:
            _fail(ConfigurationError(self._said(error.format_message(), args)))

    def _said(self, message: str, args: Sequence[str]) -> str:
        """What the parser says, with the value that it says it of."""
        if extra := re.search(r"unexpected extra argument\S* \((.*)\)", message, re.DOTALL):
            return f"{extra[1]!r:.80} stands behind no option: values are given as --name value."
        if flag := re.match("Invalid value for '(--[a-z-]+)'", message):
            value = next((word[len(flag[1]) + 1 :] for word in args if word.startswith(f"{flag[1]}=")), "")
            kind = _kind(typing.get_type_hints(self.options)[flag[1][2:].replace("-", "_")])
            return f"{flag[1]} must be {KINDS[kind]}; got {value!r:.60}."
        return message


def _fail(error: XmodularError) -> NoReturn:
    """End with what is wrong, in one line: its parts stand one after another."""
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines() if line.strip()]
    parts = "; ".join(line.rstrip(".") for line in lines[1:])
    typer.secho(f"Error: {' '.join([*lines[:1], *([f'{parts}.'] if parts else [])])}", err=True, fg="red")
    raise typer.Exit(2) from None


def _stop(options: Any) -> NoReturn:
    """End after Ctrl-C with what there is, and how to go on."""
    said = "nothing was changed."
    if isinstance(options, TrainingOptions):
        folder = options.output_dir
        found = [path for pattern in ("", "seed-*/") for path in folder.glob(f"{pattern}checkpoints/checkpoint-*")]
        again = "the same command without --overwrite" if options.overwrite else "the same command"
        if found:
            newest = max(found, key=lambda path: path.stat().st_mtime)
            said = f"{again} goes on from the last checkpoint, {newest}."
        else:
            said = "there is no checkpoint yet (--save-every), so the same command starts at the first step."
    elif isinstance(options, PredictOptions) and options.output != "-":
        folder = Path(options.output if options.shard_rows is not None else f"{options.output}.parts")
        folder = folder if folder.is_dir() else Path(f"{options.output}.parts")
        if any(folder.glob("part-*.jsonl")):
            said = f"the same command goes on after the rows that are done, which are in {folder}."
    elif isinstance(options, DemoOptions) and options.model is not None:
        said = f"the same command{' without --overwrite' if options.overwrite else ''} goes on in {options.output_dir}."
    elif isinstance(options, DemoOptions):
        again = "the same command" if options.overwrite else "the same command with --overwrite"
        said = f"{again} starts over in {options.output_dir}."
    typer.secho(visible(f"Interrupted: {said}"), err=True, fg="red")
    raise typer.Exit(130) from None


def _command(options: type, target: str) -> Any:
    """A function with one optional parameter per option, which typer turns into a command."""

    def command(config: Path | None, **given: Any) -> None:
        made: Any = None
        try:
            values = read_config(config) if config is not None else {}
            values.update({name: value for name, value in given.items() if value is not None})
            made = build(options, values)
            look(made)
            module, name = target.split(":")
            answer = getattr(importlib.import_module(module), name)(**vars(made))
            status = _SHOWN[name](answer) if name in _SHOWN else 0
            sys.stdout.flush()
        except XmodularError as error:
            _fail(error)
        except OSError as error:
            if (said := of_system(error)) is None:
                raise
            with contextlib.suppress(OSError, ValueError):  # what is left in it must not fail again at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _fail(StorageError(said))
        except KeyboardInterrupt:
            _stop(made)
        raise typer.Exit(status)

    hints = typing.get_type_hints(options)
    parameters = [
        _parameter(field.name, _flag_type(hints[field.name]), _declaration(field, hints[field.name]))
        for field in sorted(dataclasses.fields(options), key=lambda field: _rank(field, options))
    ]
    config = typer.Option(None, "--config", help="YAML file of options; flags override it.")
    parameters.append(_parameter("config", Optional[Path], config))  # noqa: UP045 (typer reads it at run time)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _rank(field: dataclasses.Field[Any], options: type) -> int:
    """Required options first, then the verb's own, then those it shares with others."""
    if field.default is dataclasses.MISSING:
        return 0
    return 1 if field.name in options.__annotations__ else 2


def _declaration(field: dataclasses.Field[Any], hint: Any) -> Any:
    """The flag of an option. All default to None, "not given"; the true default is for show."""
    text = field.metadata["help"]
    if field.default is dataclasses.MISSING:
        text += " (required)"
    elif field.default not in (None, (), False, ""):
        default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        text += f" (default: {default})"
    kind = typer.Argument if field.metadata["positional"] else typer.Option
    return kind(None, help=text, show_default=False, metavar=_choices(hint))


def _choices(hint: Any) -> str | None:
    """What an option of few values may be, as ``[fp32|bf16]``; None of any other."""
    kind = _kind(hint)
    if typing.get_origin(kind) is tuple:
        inner = _choices(typing.get_args(kind)[0])
        return inner and f"{inner},..."
    if typing.get_origin(kind) is not Literal:
        return None
    return f"[{'|'.join(map(str, typing.get_args(kind)))}]"


def _flag_type(hint: Any) -> Any:
    """The type typer is to read: numbers and truth values as such, all else as text for `build`."""
    kind = _kind(hint)
    return Optional[kind if kind in (bool, int, float) else str]  # noqa: UP045


def _kind(hint: Any) -> Any:
    """The type of an option, None aside."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def _add_verbs() -> None:
    groups: dict[str, typer.Typer] = {}
    for verb, options, target, example in _VERBS:
        group, _, name = verb.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(cls=_Group, no_args_is_help=True, rich_markup_mode="rich")
            app.add_typer(groups[group], name=group, help=_GROUPS[group])
        home = groups[group] if group else app
        verb_class = type("Verb", (_Verb,), {"options": options})
        home.command(name, cls=verb_class, help=f"{inspect.getdoc(options)}\n\nExample: {example}")(
            _command(options, target)
        )


_add_verbs()
