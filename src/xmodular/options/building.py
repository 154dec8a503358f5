"""Convert loose values to an options object, and an options object to names and values for JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from xmodular.errors import ConfigurationError, did_you_mean
from xmodular.hub import on_hub
from xmodular.options.declaring import Identify, Options, flag_of
from xmodular.options.yaml_file import by_field_name, read_yaml

T = TypeVar("T", bound=Options)

KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}


def build(options: type[T], values: Mapping[str, Any]) -> T:
    """Make an options object from a table of names and values.

    Args:
        options: the options of a verb.
        values: field names (with dashes or underscores) to values; text is converted to the field's type.

    Raises:
        ConfigurationError: an unknown name (the message gives the nearest), a missing name, or a wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(options)}
    hints = typing.get_type_hints(options)
    given: dict[str, Any] = {}
    for name, value in options.completed(by_field_name(values)).items():
        if name not in fields:
            hint = did_you_mean(name, fields, f"the options are: {', '.join(fields)}.", 0.5)
            raise ConfigurationError(f"Unknown option {name!r} for {options.__name__}; {hint}")
        given[name] = _coerce(name, hints[name], value)
    if given.get("revision") is not None:
        given |= _pinned(options.of_revision, given, given["revision"])
    needed = [name for name in dict.fromkeys([*options.first, *fields]) if fields[name].default is dataclasses.MISSING]
    if missing := [fields[name] for name in needed if name not in given]:
        raise ConfigurationError(f"Missing: {'; '.join(map(_wanted, missing))}.")
    return options(**given)


def _wanted(field: dataclasses.Field[Any]) -> str:
    """A required option, with the first sentence of its help."""
    name = field.name if field.metadata["positional"] else flag_of(field.name)
    return f"{name} ({field.metadata['help'].partition('. ')[0].rstrip('.')})"


def _pinned(field: str, given: Mapping[str, Any], revision: str) -> dict[str, Any]:
    """Add the revision to the names in the field that the option `revision` applies to.

    Raises:
        ConfigurationError: one is a local path, or already has another revision.
    """
    if not given.get(field):
        raise ConfigurationError(f"--revision {revision} applies to a name on the Hub; none is given.")
    names = given[field] if isinstance(given[field], tuple) else (given[field],)
    pinned = []
    for name in names:
        if Path(name).exists():
            raise ConfigurationError(f"--revision {revision} applies to a name on the Hub; {name} is a local path.")
        bare, own = on_hub(name)
        if own not in (None, revision):
            raise ConfigurationError(f"--revision {revision} contradicts {name}.")
        pinned.append(f"{bare}@{revision}")
    return {field: tuple(pinned) if isinstance(given[field], tuple) else pinned[0]}


def as_record(options: Any) -> dict[str, Any]:
    """The options as JSON-able names and values, such that `build` of the record gives equal options.

    A function is recorded by its name.
    """
    record = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        elif value is not None and not isinstance(value, bool | int | float | str):  # a function, or an object
            own = value if hasattr(value, "__qualname__") else type(value)
            value = f"{own.__module__}:{own.__qualname__}"
        record[field.name] = value
    return record


def kind_of(hint: Any) -> Any:
    """The type of an option, without None."""
    if hint != Identify and typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def _coerce(name: str, hint: Any, value: Any) -> Any:
    """Bring `value` to the type `hint` of option `name`."""
    if value is None and kind_of(hint) is not hint:
        return None
    hint = kind_of(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint == Identify:
        return _identify(name, value)
    if origin is Literal:
        if value not in arguments:
            raise ConfigurationError(f"{name} must be one of {', '.join(map(str, arguments))}; got {value!r}.")
        return value
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            raise ConfigurationError(f"{name} must be a list, or text with commas; got {value!r}.{_quotes(value)}")
        return tuple(
            _coerce(name, arguments[0], part.strip() if type(part) is str else part) for part in parts if part != ""
        )
    if origin is not None and issubclass(origin, Mapping):
        return _coerce_mapping(name, value, text=arguments[1] is str)
    if hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
        raise ConfigurationError(
            f"{name} must be {KINDS[hint]}; got {value!r:.60}.{_quotes(value) if hint is str else ''}"
        )
    if isinstance(value, (str, Path)):
        _check_characters(name, str(value))
    if hint is str and isinstance(value, str):
        return value  # unchanged: a name for rows in memory is a str that carries the rows
    try:
        if hint is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        if hint in (str, Path) and not isinstance(value, (str, Path)):
            raise ValueError
        return hint(value)
    except (TypeError, ValueError):
        shown = " ".join(f"{value!r}".split())  # the text of a table has several lines
        raise ConfigurationError(f"{name} must be {KINDS[hint]}; got {shown:.60}.") from None


def _quotes(value: Any) -> str:
    """What to do about a truth value that may have been meant as a word: YAML reads the Norwegian `no` as false."""
    return " In YAML, words such as no, on and off need quotes." if isinstance(value, bool) else ""


def _identify(name: str, value: Any) -> Any:
    """A switch with an optional value; in Python also an object that identifies languages."""
    if isinstance(value, str) and value.strip().casefold() in ("true", "false"):
        return value.strip().casefold() == "true"
    if isinstance(value, bool | str) or callable(value) or hasattr(value, "spans"):
        return value
    raise ConfigurationError(f"{name} must be true, false, or the name of an identifier; got {value!r:.60}.")


def _check_characters(name: str, text: str) -> None:
    """Raises ConfigurationError if a text has characters that neither file names nor UTF-8 can have."""
    try:
        text.encode("utf-8", "surrogateescape")  # as Python represents file names that are not UTF-8
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{name} contains an unpaired surrogate, which is not a character: {text!r:.60}."
        ) from None
    if "\0" in text:
        raise ConfigurationError(f"{name} contains a null character: {text!r:.60}.")


def _coerce_mapping(name: str, value: Any, *, text: bool) -> dict[str, Any]:
    """A table of names and values. With `text`, all values are kept as text; otherwise they are YAML."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",") if part]
        if any(not separator for _, separator, _ in parts):
            raise ConfigurationError(f"{name} must have the form key=value,key=value; got {value!r}.")
        pairs = [(key.strip(), each.strip()) for key, _, each in parts]
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = next(key for key, _ in pairs if [each for each, _ in pairs].count(key) > 1)
            raise ConfigurationError(f"{name} gives {twice!r} twice: {', '.join(v for k, v in pairs if k == twice)}.")
        if not text:
            import yaml

            try:
                return {key: read_yaml(each) for key, each in value.items()}
            except yaml.YAMLError as error:
                raise ConfigurationError(
                    f"{name} is {value!r:.60}, which has a value that is not valid YAML: {error}"
                ) from None
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a table of names and values; got {value!r}.")
    return {_as_text(name, key): _as_text(name, each) for key, each in value.items()} if text else dict(value)


def _as_text(name: str, value: Any) -> str:
    """Text, or a number as text; YAML's booleans and null are errors, as they may be meant as words (no, off, ~)."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigurationError(f"{name} contains {value!r} where a name is needed; in YAML, write it in quotes.")
    return str(value)
