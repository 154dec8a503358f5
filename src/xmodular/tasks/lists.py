"""Fields that are lists or objects, where a table has only texts: there they are JSON, as `predict` writes them."""

from __future__ import annotations

import json
from typing import Any

from xmodular.rows import half_surrogate


def listed(value: Any) -> Any:
    """The list or object that a text spells in JSON, None for an empty text; anything else as it is.

    Raises:
        ValueError: there is half a surrogate pair in it.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    if value.lstrip()[0] not in "[{":
        return value
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if half_surrogate({"": read}) is not None:  # which JSON's escapes can spell
        raise ValueError(f"{value!r:.60} has half a surrogate pair in it, which is no character.")
    return read


def no_list(field: str, value: Any) -> ValueError:
    """The error for a field that is no list."""
    spelled = ' (where a table has lists, they are JSON: ["a", "b"])' if isinstance(value, str) else ""
    return ValueError(f"{field!r} must be a list; it is {value!r:.60}{spelled}.")
