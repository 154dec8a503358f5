"""Charts as HTML with inline SVG: positions are in per cent, so charts fit any width with the same font size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from xmodular.charts.scale import Scale

Shape = Literal["circle", "square", "diamond", "tick"]
Sample = tuple[str, Shape | Literal["bar"]]  # colour, and the shape drawn in it


@dataclass(frozen=True)
class Bar:
    """A bar from the origin to a value, with a whisker for its interval.

    Attributes:
        colour: name of one of the page's colours, such as "c1".
        value, low, high: its end, and its interval.
        text: its description.
    """

    colour: str
    value: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Mark:
    """A small mark at a value.

    Attributes:
        colour, value, text: as for a `Bar`.
        shape: its shape.
        low, high: its interval, if any.
    """

    colour: str
    value: float
    text: str
    shape: Shape = "circle"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: the text before it.
        note: additional text in small print.
        bars, marks: the things to draw.
        text: the text after it.
    """

    label: str
    note: str
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    text: str


@dataclass(frozen=True)
class Heat:
    """A table of coloured cells.

    Attributes:
        corner: the heading of the column of names.
        columns, lines: the names, each with a note.
        shares: by line and column, in [0, 1], from pale to dark; None leaves a cell empty.
        texts: the texts of the cells.
        marked: cells (line, column) with a frame.
    """

    corner: str
    columns: Sequence[tuple[str, str]]
    lines: Sequence[tuple[str, str]]
    shares: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    marked: frozenset[tuple[int, int]] = frozenset()


def chart(lines: Sequence[Line], scale: Scale, tick: Callable[[float], str], *, origin: float | None = None) -> str:
    """Lines with bars and marks on a common axis.

    Args:
        lines: from top to bottom.
        scale: the scale of the axis.
        tick: formats its tick labels.
        origin: where bars begin, drawn as a line; default: the low end of the axis.
    """
    start = scale.at(scale.low if origin is None else origin)
    last = len(scale.ticks) - 1
    ticks = "".join(
        f'<span class="{"first" if number == 0 else "last" if number == last else ""}" '
        f'style="left:{scale.at(value)}%">{escape(tick(value))}</span>'
        for number, value in enumerate(scale.ticks)
    )
    grid = "".join(
        f'<line class="grid" x1="{scale.at(value)}%" x2="{scale.at(value)}%" y1="0" y2="100%"/>'
        for value in scale.ticks
    )
    grid += f'<line class="origin" x1="{start}%" x2="{start}%" y1="0" y2="100%"/>'
    body = "".join(_line(line, scale, start, grid) for line in lines)
    axis = f'<div class="line axis" aria-hidden="true"><span></span><div class="ticks">{ticks}</div><span></span></div>'
    return f'<div class="chart">{axis}{body}</div>'


def _line(line: Line, scale: Scale, start: float, grid: str) -> str:
    thickness = 14 if len(line.bars) < 2 else 10
    height = max(1, len(line.bars)) * (thickness + 2) + 8
    drawn = []
    for number, bar in enumerate(line.bars):
        top = 4 + number * (thickness + 2) + 1
        end, middle = scale.at(bar.value), top + thickness / 2
        left, width = min(start, end), max(abs(end - start), 0.2)
        title = f"<title>{escape(bar.text)}</title>"
        drawn.append(
            f'<g>{title}<rect class="bar {bar.colour}" x="{left:g}%" y="{top}" width="{width:g}%" '
            f'height="{thickness}" rx="2"/>{_whisker(bar.low, bar.high, middle, scale)}</g>'
        )
    middle = height / 2
    for mark in line.marks:
        whisker = _whisker(mark.low, mark.high, middle, scale)
        title = f"<title>{escape(mark.text)}</title>"
        drawn.append(f"<g>{title}{whisker}{_mark(mark, scale.at(mark.value), middle)}</g>")
    said = "; ".join([*(bar.text for bar in line.bars), *(mark.text for mark in line.marks)])
    note = f"<small>{escape(line.note)}</small>" if line.note else ""
    return (
        f'<div class="line"><span class="label"><b>{escape(line.label)}</b>{note}</span>'
        f'<svg height="{height}" width="100%" role="img" aria-label="{escape(said)}">{grid}{"".join(drawn)}</svg>'
        f'<span class="num">{escape(line.text)}</span></div>'
    )


def _whisker(low: float | None, high: float | None, y: float, scale: Scale) -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    left, right = scale.at(low), scale.at(high)
    return (
        f'<line class="whisker" x1="{left}%" x2="{right}%" y1="{y}" y2="{y}"/>'
        f'<line class="whisker" x1="{left}%" x2="{left}%" y1="{y - 3}" y2="{y + 3}"/>'
        f'<line class="whisker" x1="{right}%" x2="{right}%" y1="{y - 3}" y2="{y + 3}"/>'
    )


def _mark(mark: Mark, place: float, y: float) -> str:
    """A mark; a nested drawing at its place lets shapes have sizes in pixels."""
    if mark.shape == "tick":
        return f'<line class="tick {mark.colour}" x1="{place}%" x2="{place}%" y1="{y - 8}" y2="{y + 8}"/>'
    if mark.shape == "circle":
        return f'<circle class="mark {mark.colour}" cx="{place}%" cy="{y}" r="4.5"/>'
    path = {"square": "M-4-4H4V4H-4Z", "diamond": "M0-5.5L5.5 0L0 5.5L-5.5 0Z"}[mark.shape]
    return f'<svg x="{place}%" y="{y}" overflow="visible"><path class="mark {mark.colour}" d="{path}"/></svg>'


def legend(entries: Mapping[str, Sample]) -> str:
    """The legend of bars and marks: name to colour and shape."""
    shown = []
    for name, (colour, shape) in entries.items():
        if shape == "bar":
            drawing = f'<rect class="bar {colour}" x="0" y="3" width="18" height="10" rx="2"/>'
        else:
            drawing = _mark(Mark(colour, 0, "", shape), 50, 8)
        shown.append(f'<span><svg width="18" height="16" aria-hidden="true">{drawing}</svg>{escape(name)}</span>')
    return f'<div class="legend">{"".join(shown)}</div>'


def ramp(low: str, high: str) -> str:
    """The legend of a `heat`: the meaning of the palest and the darkest colour."""
    return f'<div class="legend"><span>{escape(low)}<i class="ramp" aria-hidden="true"></i>{escape(high)}</span></div>'


def heat(content: Heat) -> str:
    """A table of coloured cells, with horizontal scrolling if it is wide."""
    columns = "".join(
        f'<th scope="col" title="{escape(note)}"><span>{escape(name)}</span></th>' for name, note in content.columns
    )
    lines = []
    for number, (name, note) in enumerate(content.lines):
        cells = []
        for column, (share, text) in enumerate(zip(content.shares[number], content.texts[number], strict=True)):
            if share is None:
                cells.append("<td></td>")
                continue
            kind = " ".join(
                each
                for each, holds in (("strong", share > 0.55), ("framed", (number, column) in content.marked))
                if holds
            )
            cells.append(f'<td class="{kind}" style="--v:{100 * share:.0f}%">{escape(text)}</td>')
        small = f"<small>{escape(note)}</small>" if note else ""
        lines.append(f'<tr><th scope="row"><b>{escape(name)}</b>{small}</th>{"".join(cells)}</tr>')
    head = f'<thead><tr><th scope="col">{escape(content.corner)}</th>{columns}</tr></thead>'
    return f'<div class="scroll"><table class="heat">{head}<tbody>{"".join(lines)}</tbody></table></div>'
