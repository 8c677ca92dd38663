"""Figures of a dataset: returns, lengths, where it has been, and how its actions lie between their bounds."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from langevin.envs.mazes import Maze
from langevin.report.mazes import draw_maze
from langevin.report.style import FONT_POINTS, color, new_figure, style_axes, thousands
from langevin.report.table import MINUS

PANEL = (4.8, 2.7)
FEWEST_BINS, MOST_BINS = 8, 40
CELL_PARTS = 12
"""Squares along a maze's cell in which positions are counted."""
SPARK_BINS = 32
MOST_SPARKS = 48


def histogram(
    values: Shaped[np.ndarray, " episodes"], xlabel: str, marks: Mapping[str, float] | None = None
) -> Figure:
    """Episodes by a number each has, with named vertical lines at `marks`."""
    figure = new_figure(*PANEL)
    ax = figure.subplots()
    style_axes(ax, xlabel=xlabel, ylabel="episodes")
    low, high = float(values.min()), float(values.max())
    bins = int(np.clip(2 * np.sqrt(len(values)), FEWEST_BINS, MOST_BINS))
    if np.issubdtype(values.dtype, np.integer):
        width = max(1, int(np.ceil((high - low + 1) / bins)))
        edges = np.arange(low - 0.5, high + width + 0.5, width)
    else:
        edges = np.linspace(low, high, bins + 1) if high > low else np.array([low - 0.5, low + 0.5])
    ax.hist(values, bins=edges.tolist(), color=color("blue"), alpha=0.85, linewidth=0)
    if high == low:
        ax.set_xlim(low - 5, high + 5)
    _mark(ax, marks or {}, low, high)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    return figure


def positions_in_maze(maze: Maze, positions: Float[np.ndarray, "rows 2"]) -> Figure:
    """How often each part of a maze was visited, on a logarithmic scale of colour; positions in metres."""
    rows, columns = maze.shape
    height = 3.5 * (rows - 1) / (columns - 1)
    figure = new_figure(4.6, height + 0.3)
    ax = figure.subplots()
    draw_maze(ax, maze)
    counts, x_edges, y_edges = np.histogram2d(
        *positions.T,
        bins=(columns * CELL_PARTS, rows * CELL_PARTS),
        range=((-columns / 2, columns / 2), (-rows / 2, rows / 2)),
    )
    seen = np.ma.masked_equal(counts.T, 0)
    image = ax.imshow(
        seen,
        origin="lower",
        extent=(x_edges[0], x_edges[-1], y_edges[0], y_edges[-1]),
        cmap=LinearSegmentedColormap.from_list("visits", [color("sky"), color("blue"), color("vermillion")]),
        norm=LogNorm(1, max(float(counts.max()), 2)),
        interpolation="nearest",
        zorder=2,
    )
    bar = figure.colorbar(image, ax=ax, shrink=0.8, aspect=28, pad=0.03)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.ax.tick_params(colors=color("muted"), labelsize=FONT_POINTS - 1, length=2, which="both")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    bar.set_label("visits", color=color("muted"), fontsize=FONT_POINTS)
    return figure


def saturation(
    low: Float[np.ndarray, " action"], high: Float[np.ndarray, " action"], names: Sequence[str]
) -> Figure:
    """Share of rows at the lower (left) and at the upper bound (right) of each dimension of the action."""
    size = len(low)
    figure = new_figure(PANEL[0], 0.9 + 0.24 * max(size, 3))
    ax = figure.subplots()
    style_axes(ax, xlabel="share of the rows at the lower (left) and at the upper bound (right)")
    places = np.arange(size)
    ax.barh(places, -100 * low, color=color("vermillion"), height=0.62)
    ax.barh(places, 100 * high, color=color("blue"), height=0.62)
    ax.axvline(0, color=color("muted"), linewidth=0.8)
    most = max(float(100 * np.concatenate([low, high]).max()), 1.0)
    ax.set_xlim(-1.25 * most, 1.25 * most)
    for place in range(size):
        for share, side in ((low[place], -1), (high[place], 1)):
            ax.annotate(
                f"{100 * share:.1f}%", (side * 100 * share, place), xytext=(3 * side, 0), textcoords="offset points",
                ha="right" if side < 0 else "left", va="center", fontsize=FONT_POINTS - 1.5, color=color("muted"),
            )  # fmt: skip
    ax.set_yticks(places, names, parse_math=False)
    ax.set_ylim(size - 0.4, -0.6)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}%"))
    ax.grid(axis="y", visible=False)
    return figure


def histogram_sparks(values: Float[np.ndarray, "rows columns"], names: Sequence[str]) -> str:
    """A small histogram of every column with its range in words, as HTML; the first `MOST_SPARKS` of many."""
    drawn = [_spark(values[:, place], names[place]) for place in range(min(len(names), MOST_SPARKS))]
    more = len(names) - len(drawn)
    words = f'<p class="note">The first {len(drawn)} of {len(names)} are shown.</p>' if more else ""
    return f'<div class="sparks">{"".join(drawn)}</div>{words}'


def _spark(values: Float[np.ndarray, " rows"], name: str) -> str:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return (
            '<div class="spark"><svg viewBox="0 0 160 40" aria-hidden="true"><path fill="var(--vermillion)" '
            f'd="M79 4h2v34h-2z"/></svg>{escape(name)}<br><b>always {_number(low)}</b></div>'
        )
    counts, _ = np.histogram(values, bins=SPARK_BINS, range=(low, high))
    heights = 34 * counts / counts.max()
    width = 160 / SPARK_BINS
    bars = "".join(
        f"M{place * width:.1f} {38 - height:.1f}h{width - 0.6:.1f}v{height:.1f}h-{width - 0.6:.1f}z"
        for place, height in enumerate(heights)
        if height
    )
    return (
        '<div class="spark"><svg viewBox="0 0 160 40" preserveAspectRatio="none" aria-hidden="true">'
        f'<path fill="var(--blue)" d="{bars}"/></svg>{escape(name)}<br><b>{_number(low)} to {_number(high)}</b></div>'
    )


def _mark(ax, marks: Mapping[str, float], low: float, high: float) -> None:
    """Lines where a mark lies in sight of the values; far ones would squeeze the histogram into a corner."""
    reach = 1.5 * max(high - low, 1.0)
    for name, place in marks.items():
        if low - reach <= place <= high + reach:
            ax.axvline(place, color=color("muted"), linewidth=0.9, linestyle=(0, (2, 2)), zorder=3)
            ax.annotate(
                name, (place, 1), xycoords=("data", "axes fraction"), xytext=(2, 1), textcoords="offset points",
                ha="left", va="bottom", fontsize=FONT_POINTS - 1.5, color=color("muted"), annotation_clip=False,
            )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)
