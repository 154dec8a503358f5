"""A page in one file: style and script are inside, nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_STYLE = (_HERE / "style.css").read_text(encoding="utf-8")
# Of bars and marks by name, as light pages and pictures have them; the style has the dark ones too.
COLOURS = dict(re.findall(r"--(c\d): (#[0-9a-f]{6});", _STYLE[: _STYLE.index("@media")]))


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: its text.
        note: additional text in small print.
        key: the sort key, a number or text; default: the text.
        strong: whether it is emphasised.
    """

    text: str
    note: str = ""
    key: float | str | None = None
    strong: bool = False


def document(title: str, subtitle: str, body: str) -> str:
    """The whole page.

    Args:
        title, subtitle: text.
        body: HTML.
    """
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n<main>\n{body}\n</main>\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def section(title: str, body: str, *, lead: str = "") -> str:
    """A titled part of the page.

    Args:
        title: text.
        body: HTML.
        lead: a sentence on how to read it; text.
    """
    said = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def panels(parts: Mapping[str, str], *, always_named: bool = False) -> str:
    """Tabs that show one part at a time; without JavaScript, all parts are shown.

    Args:
        parts: HTML by name.
        always_named: whether a single part gets a heading too.
    """
    if len(parts) == 1:
        ((name, body),) = parts.items()
        return f"<h3>{escape(name)}</h3>{body}" if always_named else body
    shown = "".join(
        f'<div class="panel" data-name="{escape(name)}"><h3>{escape(name)}</h3>{body}</div>'
        for name, body in parts.items()
    )
    return f'<div class="panels"><div class="tabs" role="tablist"></div>{shown}</div>'


def card(
    title: str, note: str, figure: str, caption: str, more: Sequence[tuple[str, str]], *, warning: str = ""
) -> str:
    """A box with one large figure, a warning if there is one, and a few small figures."""
    small = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in more)
    warned = f'<p class="warning">{escape(warning)}</p>' if warning else ""
    return (
        f'<article class="card"><h3>{escape(title)}</h3><p class="note">{escape(note)}</p>'
        f'<p class="figure">{escape(figure)}<span>{escape(caption)}</span></p>{warned}<dl>{small}</dl></article>'
    )


def table(heading: Sequence[str], lines: Sequence[Sequence[Cell]], foot: Sequence[Cell] = ()) -> str:
    """A table that can be sorted by clicking a column heading; the first column holds names, the others numbers."""
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in heading)
    body = "".join(f"<tr>{_cells(line)}</tr>" for line in lines)
    last = f"<tfoot><tr>{_cells(foot)}</tr></tfoot>" if foot else ""
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>{last}'
        "</table></div>"
    )


def _cells(line: Sequence[Cell]) -> str:
    shown = []
    for number, cell in enumerate(line):
        tag = 'th scope="row"' if number == 0 else "td"
        key = cell.text if cell.key is None else cell.key
        note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
        strong = ' class="best"' if cell.strong else ""
        shown.append(
            f'<{tag}{strong} data-key="{escape(str(key))}"><span>{escape(cell.text)}</span>{note}</{tag.split()[0]}>'
        )
    return "".join(shown)


def facts(content: Any) -> str:
    """Nested names and values as HTML: mappings as lists, lists of mappings as tables."""
    if isinstance(content, Mapping):
        entries = "".join(
            f"<div><dt>{escape(str(name))}</dt><dd>{facts(value)}</dd></div>" for name, value in content.items()
        )
        return f'<dl class="facts">{entries}</dl>'
    if isinstance(content, list) and content and all(isinstance(each, Mapping) for each in content):
        names = list(dict.fromkeys(name for each in content for name in each))
        heads = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in names)
        lines = "".join(
            "<tr>" + "".join(f"<td>{facts(each.get(name))}</td>" for name in names) + "</tr>" for each in content
        )
        return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'
    if isinstance(content, list):
        return escape(", ".join(map(str, content))) or "–"
    return "–" if content is None else escape(str(content))
