"""Pictures of results."""

from __future__ import annotations

from pathlib import Path

from xmodular.files import written_beside
from xmodular.results import ADAPTERS, Results

_COLOURS = {
    "right": "#1b6ca8",
    "relative": "#6fa8dc",
    "source": "#e08e45",
    "majority": "#9aa0a6",
    "uniform": "#d3d6d9",
}
_LABELS = {
    "right": "own adapter",
    "relative": "relative's adapter",
    "source": "source adapter",
    "majority": "majority label",
    "uniform": "blind draw",
}


def plot(results: Results, path: Path, *, metric: str | None = None) -> None:
    """Grouped bars: one group per language, one bar per adapter or constant guess, with 95 % intervals.

    Args:
        results: what to draw.
        path: the picture; its suffix (.png, .svg, .pdf) decides the format.
        metric: which metric; the main one unless said. Perplexities are drawn on a logarithmic scale.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    name = metric or results.metrics()[0]
    languages = results.languages()
    adapters = [a for a in ADAPTERS if any(row.adapter == a and row.metric == name for row in results.rows)]
    figure = Figure(figsize=(max(6.0, 0.35 * len(languages) * len(adapters) + 2), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(adapters)
    for number, adapter in enumerate(adapters):
        found = [(place, results.value(code, adapter, name)) for place, code in enumerate(languages)]
        drawn = [(place, row) for place, row in found if row is not None]
        heights = [row.value for _, row in drawn]
        errors = [
            [0.0 if row.low is None else max(0.0, row.value - row.low) for _, row in drawn],
            [0.0 if row.high is None else max(0.0, row.high - row.value) for _, row in drawn],
        ]
        axes.bar(
            [place + (number - (len(adapters) - 1) / 2) * width for place, _ in drawn],
            heights,
            width,
            yerr=errors if any(map(any, errors)) else None,
            color=_COLOURS[adapter],
            label=_LABELS[adapter],
            error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
        )
    axes.set_xticks(range(len(languages)), languages, rotation=90 if len(languages) > 12 else 0)
    axes.set_ylabel(name)
    if name == "perplexity":
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1)
    axes.set_title(f"{results.rows[0].run}: {results.rows[0].task}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(adapters), frameon=False)
    with written_beside(path.parent) as folder:
        figure.savefig(folder / path.name, dpi=150)
