"""How an option is declared: a field with its help, its default and its limits, in a dataclass for each verb."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from xmodular.errors import ConfigurationError

Trainable = Literal["shared", "all", "adapters", "head", "all-but-adapters"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Packing = Literal["fill", "documents", "lines"]
WeightPrecision = Literal["keep", "fp32", "bf16", "fp16"]
RunPrecision = Literal["keep", "auto", "fp32", "bf16", "fp16"]
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as torch calls them
Fallback = Literal["relative"]
Pooling = Literal["first", "mean"]
StartRows = Literal["pieces", "random"]
Schedule = Literal["linear", "polynomial", "cosine", "wsd", "constant"]
Place = str  # a folder, a file or a name on the Hub, for which Python may give a `Path` too

RUN_PRECISION = (
    "keep the weights' precision, or run the model in fp32, bf16 or fp16; auto: bf16 where the processor computes it "
    "fast and 99.5 % of the predictions for some of the rows are the same as in fp32, else fp32."
)
REVISION = "Branch, tag or commit of the {} on the Hub; the same as writing name@revision."

Check = Callable[[float], "str | None"]  # what is wrong with a number


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    check: Check | None = None,
    *,
    positional: bool = False,
) -> Any:
    """A field of a class of options.

    Args:
        help: what it means, in sentences; the help of its flag and of its keyword.
        default: without one the option is required.
        check: what its values are held against; None and tables are not checked.
        positional: on the command line it is an argument without a flag.
    """
    return dataclasses.field(default=default, metadata={"help": help, "check": check, "positional": positional})


def at_least(least: float) -> Check:
    """Refuses smaller numbers."""
    return lambda value: None if value >= least else f"must be at least {least}"


def between(low: float, high: float) -> Check:
    """Refuses numbers outside, and what is none."""
    return lambda value: None if low <= value <= high else f"must be between {low} and {high}"


def positive(value: float) -> str | None:
    """Refuses zero, negative numbers and infinity."""
    return None if 0 < value < math.inf else "must be positive"


def not_negative(value: float) -> str | None:
    """Refuses negative numbers and infinity."""
    return None if 0 <= value < math.inf else "must be a number from 0 up"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a verb, and what the command line knows of it.

    Attributes:
        verb: its name on the command line.
        home: module and name of its function, which is imported when it is called.
        example: a command line, for the help.
        first: those that matter most, which come first in the help.
        headings: those at which a group of options begins in the help, and its heading.
        of_revision: the option that `revision`, where there is one, is about.
    """

    # Without annotations, for these are no fields.
    verb = home = example = ""
    first = tuple[str, ...]()
    headings = dict[str, str]()
    of_revision = "model"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, check = getattr(self, field.name), field.metadata["check"]
            if check is not None and value is not None and (wrong := check(value)) is not None:
                raise ConfigurationError(f"{field.name} {wrong}; got {value}.")

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Loose values with those that they stand for."""
        return dict(values)

    @classmethod
    def groups(cls) -> dict[str, list[dataclasses.Field[Any]]]:
        """All options in the order of the help, by heading: the first ones, the verb's own, those that it shares."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        groups = {"": [fields.pop(name) for name in cls.first]}
        for owner in cls.__mro__:
            heading = "Further options"
            for name in inspect.get_annotations(owner):
                heading = vars(owner)["headings"].get(name, heading) if "headings" in vars(owner) else heading
                if name in fields:
                    groups.setdefault(heading, []).append(fields.pop(name))
        return groups


def usual(options: Options) -> dict[str, Any]:
    """The defaults of all options by name."""
    return {field.name: field.default for field in dataclasses.fields(options)}


def flag_of(name: str) -> str:
    """An option as it is written on the command line."""
    return f"--{name.replace('_', '-')}"
