"""Declare options: fields with help, default and limits, in one dataclass per verb."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

from xmodular.errors import ConfigurationError

Trainable = Literal["shared", "all", "adapters", "head", "all-but-adapters"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Packing = Literal["fill", "documents", "lines"]
WeightPrecision = Literal["keep", "fp32", "bf16", "fp16"]
RunPrecision = Literal["keep", "auto", "fp32", "bf16", "fp16"]
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # torch's names
Fallback = Literal["relative"]
Engine = Literal["local", "ray"]
Pooling = Literal["first", "mean"]
StartRows = Literal["pieces", "random"]
Schedule = Literal["linear", "polynomial", "cosine", "wsd", "constant"]
Identify = bool | str  # in Python also a function of texts, or an object with a method `spans`
NEUTRAL = "neutral"  # in place of languages to start from: an adapter that adds nothing at first
Place = str  # a folder, a file or a name on the Hub; in Python also a `Path`

RUN_PRECISION = (
    "keep the weights' precision, or run the model in fp32, bf16 or fp16; auto: bf16 where the processor computes it "
    "fast and 99.5 % of the predictions for some of the rows are the same as in fp32, else fp32."
)
IDENTIFY = (
    "Identify the language of rows that do not name one: py3langid (also without a value); spans, the language of "
    "each word, whose tokens are read by its adapter; fasttext:<file> or glotlid:<file>; a function of your own, "
    "<module>:<function>; or one of the last three asked word by word, such as spans:glotlid:<file>."
)
IDENTIFY_TEXT = (
    "Identify the language, as for predict; with spans, that of each word. --language is then for text that cannot be "
    "identified; default: the model's default language, else the one it was fine-tuned in, else English."
)
IDENTIFY_LANGUAGES = "Only these languages are identified, comma-separated; default: all of the model's."
RESIDENT_LANGUAGES = (
    "Most languages in memory; the others are read from the model's folder when rows need them, and those used last "
    "stay. Default: all."
)
REVISION = "Branch, tag or commit of the {} on the Hub; the same as writing name@revision."

Check = Callable[[float], "str | None"]  # returns the problem with a number, if any


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    check: Check | None = None,
    *,
    positional: bool = False,
) -> Any:
    """A field of a class of options.

    Args:
        help: its meaning, in sentences; shown for its flag and its keyword.
        default: its default; without one, the option is required.
        check: returns the problem with a value, or None; a value of None is not checked.
        positional: whether it is an argument without a flag on the command line.
    """
    return dataclasses.field(default=default, metadata={"help": help, "check": check, "positional": positional})


def at_least(least: float) -> Check:
    """Refuses smaller numbers."""
    return lambda value: None if value >= least else f"must be at least {least}"


def between(low: float, high: float) -> Check:
    """Refuses numbers outside this range, and NaN."""
    return lambda value: None if low <= value <= high else f"must be between {low} and {high}"


def positive(value: float) -> str | None:
    """Refuses zero, negative numbers and infinity."""
    return None if 0 < value < math.inf else "must be positive"


def not_negative(value: float) -> str | None:
    """Refuses negative numbers and infinity."""
    return None if 0 <= value < math.inf else "must be 0 or more"


class Idle(NamedTuple):
    """Options without effect in some combinations.

    Attributes:
        names: the options.
        when: whether they have none beside the others of a verb.
        why: what they need or are for, as the end of a sentence that begins with the option.
    """

    names: tuple[str, ...]
    when: Callable[[Any], bool]
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a verb, and how the command line shows it.

    Attributes:
        verb: its name on the command line.
        home: module and name of its function, which is imported when it is called.
        example: a command line, for the help.
        first: the most important options, which come first in the help.
        headings: the first option of each group in the help, with the group's heading.
        of_revision: the option that `revision` applies to, if the verb has it.
        idle: options that have no effect beside some others.
        only_for: options that have an effect only for a kind of models or tasks (see `Task.kinds`), and its name in
            messages.
    """

    # Without annotations: these are not fields.
    verb = home = example = ""
    first = tuple[str, ...]()
    headings = dict[str, str]()
    of_revision = "model"
    idle = tuple[Idle, ...]()
    only_for = tuple[tuple[tuple[str, ...], str, str], ...]()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, check = getattr(self, field.name), field.metadata["check"]
            if check is not None and value is not None and (wrong := check(value)) is not None:
                raise ConfigurationError(f"{field.name} {wrong}; got {value}.")
        for owner in reversed(type(self).__mro__):
            for names, when, why in vars(owner).get("idle", ()):
                if when(self):
                    self.refuse(names, why)

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Refuse options that have no effect, if they are given; those of a configuration file get a warning.

        Raises:
            ConfigurationError: one is given, not in a file.
        """
        for name in names:
            value, default = getattr(self, name), usual(self)[name]
            if value != default:
                said = f"{_as_given(name, value)} {why}"
                if name not in _OF_FILE.get():
                    raise ConfigurationError(said)
                if not _OF_FILE.get()[name]:
                    from xmodular.console import console

                    console.print(f"{said} In the configuration file, it has no effect.")
                _OF_FILE.get()[name] = True

    def check_kind(self, kinds: Collection[str], whose: str) -> None:
        """Refuse options that are only for other kinds of models or tasks.

        Args:
            kinds: the kinds that it is of.
            whose: a sentence, without its stop, that says so.

        Raises:
            ConfigurationError: one is given, not in a file.
        """
        for names, kind, called in self.only_for:
            if kind not in kinds:
                self.refuse(names, f"is for {called}; {whose}.")

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The loose values, plus any that they imply, such as those of a recipe."""
        return dict(values)

    @classmethod
    def groups(cls) -> dict[str, list[dataclasses.Field[Any]]]:
        """All options in the order of the help, by heading: the first ones, the verb's own, the shared ones."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        groups = {"": [fields.pop(name) for name in cls.first]}
        for owner in cls.__mro__:
            heading = "Further options"
            for name in inspect.get_annotations(owner):
                heading = vars(owner)["headings"].get(name, heading) if "headings" in vars(owner) else heading
                if name in fields:
                    groups.setdefault(heading, []).append(fields.pop(name))
        return groups


IDLE_IDENTIFYING = Idle(("threshold", "identify_languages"), lambda given: given.identify is False, "needs --identify.")
STRIDE_ONLY_FOR = (("stride",), "windows", "tag and qa")


def usual(options: Options) -> dict[str, Any]:
    """The defaults of all options by name."""
    return {field.name: field.default for field in dataclasses.fields(options)}


@contextlib.contextmanager
def from_file(names: Iterable[str]) -> Iterator[None]:
    """In this context, these options come from a configuration file, which may be for several uses."""
    before = _OF_FILE.set(dict.fromkeys(names, False))
    try:
        yield
    finally:
        _OF_FILE.reset(before)


# Options of the configuration file, and whether it was said that they have no effect.
_OF_FILE: ContextVar[dict[str, bool]] = ContextVar("options of a file", default={})  # noqa: B039 (never changed)


def _as_given(name: str, value: Any) -> str:
    """An option with its value, as on the command line."""
    if isinstance(value, bool):
        return flag_of(name if value else f"no_{name}")
    if isinstance(value, Mapping):
        value = [f"{key}={each}" for key, each in value.items()]
    shown = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return f"{flag_of(name)} {shlex.quote(shown):.80}"


def flag_of(name: str) -> str:
    """The command-line flag of an option."""
    return f"--{name.replace('_', '-')}"
