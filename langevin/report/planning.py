"""What a planner's decisions are worth by how fast they are made: the picture of `langevin bench planning`."""

from typing import Any

from matplotlib.figure import Figure

from langevin.report.style import FONT_POINTS, color, new_figure, series_style, style_axes

POINTS = 2.0
"""Of score: a faster way that loses no more is as good."""
LABEL_OFFSETS = ((5, -11), (-13, 5), (-13, -11), (5, 5))
"""Of a sampler's numbers of calls from its dots, in points: those of equal samplers stay apart."""


def near_the_full_chain(result: dict[str, Any]) -> dict[str, Any] | None:
    """The fastest way, for one environment, within `POINTS` of the first one's score; None without scores."""
    full = result["ways"][0].get("normalized_score")
    if full is None:
        return None
    good = [row for row in result["ways"] if row["normalized_score"]["iqm"] >= full["iqm"] - POINTS]
    return max(good, key=lambda row: row["single_decisions_per_second"])


def planning_figure(result: dict[str, Any]) -> Figure:
    """Score against decisions a second for one environment, a line for each sampler, numbers of calls beside dots.

    A score's 95% interval is the bar through it. The ways that no other beats in both are ringed (the Pareto front).
    Without scores: decisions against calls.
    """
    figure = new_figure(6.4, 3.8)
    ax = figure.subplots()
    scored = "normalized_score" in result["ways"][0]
    task = result["task"]
    style_axes(
        ax,
        xlabel="decisions per second, one environment" if scored else "network calls of a plan",
        ylabel="normalised score" if scored else "decisions per second, one environment",
        title=f"{result['algorithm']}, {task}",
    )
    methods = list(dict.fromkeys(row["method"] for row in result["ways"]))
    front = pareto(result["ways"]) if scored else []
    for index, method in enumerate(methods):
        rows = sorted(
            (row for row in result["ways"] if row["method"] == method), key=lambda row: row["calls"]
        )
        style = series_style(index)
        places = [place(row, scored) for row in rows]
        ax.plot(
            *zip(*places, strict=True), color=style.color, marker=style.marker, markersize=4.5, linewidth=1.1,
            linestyle=style.dash, label=method,
        )  # fmt: skip
        for row, (x, y) in zip(rows, places, strict=True):
            if scored:
                ax.annotate(
                    str(row["calls"]), (x, y), LABEL_OFFSETS[index % len(LABEL_OFFSETS)],
                    textcoords="offset points", color=style.color, fontsize=FONT_POINTS - 2,
                )  # fmt: skip
                low, high = row["normalized_score"]["ci95"]
                if low is not None:
                    ax.vlines(x, low, high, color=style.color, linewidth=1.1, alpha=0.5)
            if row in front:
                ax.plot(x, y, "o", markersize=10, markerfacecolor="none", markeredgecolor=color("ink"))
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    if not scored:
        ax.set_yscale("log")
    figure.legend(
        frameon=False,
        fontsize=FONT_POINTS - 1,
        labelcolor=color("ink"),
        ncols=len(methods),
        loc="outside lower center",
    )
    return figure


def place(row: dict[str, Any], scored: bool) -> tuple[float, float]:
    """Where a way stands in the picture."""
    speed = row["single_decisions_per_second"]
    return (speed, row["normalized_score"]["iqm"]) if scored else (float(row["calls"]), speed)


def pareto(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ways that no other way beats in speed without losing score."""
    return [
        row
        for row in rows
        if not any(
            place(other, True) != place(row, True)
            and all(theirs >= ours for theirs, ours in zip(place(other, True), place(row, True), strict=True))
            for other in rows
        )
    ]
