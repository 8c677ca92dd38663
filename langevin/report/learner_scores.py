"""Scores of many learners on many datasets as one picture: a panel a system, a line a dataset, a mark a learner."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from langevin.report.style import FONT_POINTS, color, new_figure, series_style, style_axes

Cells = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""The summaries of finished runs, by learner and dataset."""
Published = Mapping[str, Mapping[str, Sequence[float | int]]]
"""Mean and standard deviation that others report, by learner and dataset."""
PANEL_WIDTH = 3.4
ROW_HEIGHT = 0.75
SPREAD = 0.7
"""The share of a dataset's line over which its learners' marks are spread."""


def learner_scores(cells: Cells, datasets: Sequence[str], published: Published) -> Figure:
    """Interquartile means with their 95% intervals (filled), and published means (hollow) on the same lines."""
    systems: dict[str, list[str]] = {}
    for dataset in datasets:
        systems.setdefault(dataset.split("/")[0], []).append(dataset)
    tallest = max(map(len, systems.values()))
    figure = new_figure(PANEL_WIDTH * len(systems), 1.1 + ROW_HEIGHT * tallest)
    for ax, (system, rows) in zip(
        figure.subplots(1, len(systems), squeeze=False)[0], systems.items(), strict=True
    ):
        draw_system(ax, cells, rows, published)
        style_axes(ax, xlabel="normalised score", title=system)
        ax.set_yticks(range(len(rows)), [row.split("/", 1)[1].removesuffix("-v0") for row in rows])
        ax.set_ylim(tallest - 0.5, -0.5)
    figure.legend(
        handles=legend_of(list(cells), bool(published)), loc="outside lower center", ncols=len(cells) + bool(published),
        frameon=False, fontsize=FONT_POINTS, labelcolor=color("ink"),
    )  # fmt: skip
    return figure


def draw_system(ax: Axes, cells: Cells, rows: Sequence[str], published: Published) -> None:
    """All marks of one panel, the learners of a dataset one below the other."""
    for index, learner in enumerate(cells):
        style = series_style(index)
        offset = SPREAD * ((index + 0.5) / len(cells) - 0.5)
        for row, dataset in enumerate(rows):
            if dataset in published.get(learner, {}):
                mean, _ = published[learner][dataset]
                ax.plot(mean, row + offset, style.marker, markersize=4.5, color=style.color, fillstyle="none")
            if dataset in cells[learner]:
                score = cells[learner][dataset]["normalized_score"]
                ax.plot(score["iqm"], row + offset, style.marker, markersize=4.5, color=style.color)
                ax.plot(score["ci95"], [row + offset] * 2, color=style.color, linewidth=1.4)


def legend_of(learners: Sequence[str], published: bool) -> list[Line2D]:
    """A filled mark for every learner, and one hollow one for all that is published."""
    styles = [series_style(index) for index in range(len(learners))]
    marks = [
        Line2D([], [], color=style.color, marker=style.marker, markersize=4.5, label=learner)
        for learner, style in zip(learners, styles, strict=True)
    ]
    hollow = Line2D(
        [],
        [],
        color=color("muted"),
        marker="o",
        markersize=4.5,
        fillstyle="none",
        linestyle="none",
        label="published",
    )
    return marks + [hollow] * published
