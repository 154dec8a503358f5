"""Addresses of files elsewhere, told apart from paths of this machine."""

from __future__ import annotations

import re
from pathlib import Path

# A Path keeps only one of the two slashes. Names of data sets begin with hub:; a single letter with a colon is a drive
# on Windows.
_ADDRESS = re.compile(r"(?!hub:)([a-z][a-z0-9+.-]+):(/{1,2})(.*)", re.DOTALL)
_OF_PATHS = ("file", "local")  # the schemes of addresses of files on this machine


def address(source: str | Path) -> str | None:
    """The address of a remote file or folder; None for a local path."""
    if not (found := _ADDRESS.match(str(source))):
        return None
    scheme, slashes, place = found.groups()
    return f"{scheme}://{'/' if scheme in _OF_PATHS and slashes == '/' else ''}{place}"


def spelled(place: str | Path) -> str:
    """An address with both slashes, or a path."""
    return address(place) or str(place)


def without_scheme(source: str) -> str:
    """The path in the address of a file on this machine; anything else unchanged."""
    scheme, _, place = (address(source) or "").partition("://")
    return place if scheme in _OF_PATHS else source
