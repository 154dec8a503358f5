"""Read files of options (YAML or JSON), and single values in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xmodular.errors import ConfigurationError, in_one_line, of_system

_MOST_YAML, _MOST_VALUES = 2**18, 20_000  # limits of a file of options: bytes, and values


def read_options_file(path: Path) -> dict[str, Any]:
    """Read a YAML (or JSON) file of options.

    Raises:
        ConfigurationError: no such file, its content is not a table of names and values, or a name appears twice.
    """
    import yaml

    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_YAML + 1)
        if len(raw) > _MOST_YAML:
            raise ConfigurationError(f"{path} is larger than {_MOST_YAML:,} bytes: it cannot be a file of options.")
        content = read_yaml(raw.decode("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        said = of_system(error) or f"{path} is not UTF-8."
        raise ConfigurationError(f"The configuration file cannot be read: {said}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-13-45 is a ValueError
        raise ConfigurationError(f"{path} is not valid YAML: {in_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path} must contain names and values, one option per line; it contains {content!r:.60}."
        )
    try:
        return by_field_name(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def read_yaml(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        yaml.YAMLError: it is not valid, a table has a name twice (YAML's reader would take the last one), or its
            repeated references would become too large.
    """
    import yaml

    class Reader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} appears twice", key.start_mark)
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(text, Reader)
    except (ValueError, RecursionError, OverflowError) as error:  # an impossible date, an endless number
        raise yaml.YAMLError(f"a value cannot be read: {error!s:.200}") from error
    if _size_written_out(content) > _MOST_VALUES:
        raise yaml.YAMLError(f"it has more than {_MOST_VALUES:,} values once its references are expanded")
    return content


def _size_written_out(content: Any) -> int:
    """The number of values, with references (``*name``) counted each time; stops at a limit.

    A few lines can expand to more than fits in memory.
    """
    waiting, count = [content], 0
    while waiting and count <= _MOST_VALUES:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, str | bytes):
            count += len(value) // 100
    return count


def by_field_name(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by field name, with dashes as underscores.

    Raises:
        ConfigurationError: a name appears twice, once in each spelling.
    """
    named: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in named:
            raise ConfigurationError(f"{name} is given twice, as {named[name]!r:.60} and as {value!r:.60}.")
        named[name] = value
    return named
