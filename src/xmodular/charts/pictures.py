"""Charts as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from xmodular.errors import ConfigurationError
from xmodular.files import written_file

_SUFFIXES = (".png", ".svg", ".pdf")


class Point(NamedTuple):
    """A value with its interval."""

    value: float
    low: float | None
    high: float | None


@contextmanager
def _picture(path: Path, title: str, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes to draw on; then it is written.

    Names are shown as they are: between two dollar signs matplotlib would see a formula, or an error in one.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix not in _SUFFIXES:
        raise ConfigurationError(f"A picture must end in {', '.join(_SUFFIXES)}; got {path.name!r}.")
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        yield figure, axes
        axes.set_title(title)
        with written_file(path) as new:
            figure.savefig(new, dpi=150)


def bar_picture(
    path: Path,
    title: str,
    groups: Sequence[str],
    series: Mapping[str, tuple[str, Sequence[Point | None]]],
    *,
    axis: str,
    limits: tuple[float, float] | None = None,
) -> None:
    """Grouped bars with intervals.

    Args:
        path: the picture file; its suffix (.png, .svg, .pdf) decides the format.
        title: over it.
        groups: names of the groups.
        series: name to colour and one value per group, which may be None.
        axis: name of the value axis.
        limits: limits of the value axis; without them it is logarithmic.
    """
    bars = len(groups) * len(series)
    width = min(max(6.0, 2 + bars * (0.22 if bars < 60 else 0.1)), 40.0)
    thick = 0.8 / len(series)
    with _picture(path, title, width, 4.0) as (figure, axes):
        for number, (name, (colour, points)) in enumerate(series.items()):
            drawn = [(place, point) for place, point in enumerate(points) if point is not None]
            errors = [
                [0.0 if p.low is None else max(0.0, p.value - p.low) for _, p in drawn],
                [0.0 if p.high is None else max(0.0, p.high - p.value) for _, p in drawn],
            ]
            axes.bar(
                [place + (number - (len(series) - 1) / 2) * thick for place, _ in drawn],
                [point.value for _, point in drawn],
                thick,
                yerr=errors if any(map(any, errors)) else None,
                color=colour,
                label=name,
                error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
            )
        axes.set_xticks(range(len(groups)), groups, rotation=90 if len(groups) > 12 else 0)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_ylabel(axis)
        if limits is None:
            axes.set_yscale("log")
        else:
            axes.set_ylim(*limits)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=min(len(series), 4), frameon=False)


def heat_picture(
    path: Path,
    title: str,
    lines: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    axes_names: tuple[str, str],
) -> None:
    """A table of coloured cells.

    Args:
        path: as for `bar_picture`.
        title: over it.
        lines, columns: names.
        values: by line and column; None leaves a cell empty.
        texts: the texts of the cells.
        axes_names: names of the two axes.
    """
    import numpy as np

    grid = np.array([[np.nan if value is None else value for value in line] for line in values], dtype=float)
    grid[~np.isfinite(grid)] = np.nan
    there = grid[~np.isnan(grid)]
    low, high = (there.min(), there.max()) if there.size else (0.0, 1.0)
    with _picture(path, title, 0.55 * len(columns) + 2, 0.5 * len(lines) + 1.8) as (figure, axes):
        image = axes.imshow(grid, cmap="Blues", aspect="auto")
        for (line, column), value in np.ndenumerate(grid):
            colour = "white" if value > low + 0.6 * (high - low) else "black"
            axes.text(column, line, texts[line][column], ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 8 else 0)
        axes.set_yticks(range(len(lines)), lines)
        axes.set_ylabel(axes_names[0])
        axes.set_xlabel(axes_names[1])
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01)
