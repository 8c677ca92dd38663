"""How far a world model can be trusted: figures and table of fidelity.json.

Two numbers always stand together: the position error against the simulator under the same actions, and the
legal share, the part of the rollouts with no state inside a wall. A model that ignores the actions is legal
and wrong; a model that obeys them through a wall is right until the wall.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from langevin.report.curves import PANEL, add_legend
from langevin.report.style import FONT_POINTS, SeriesStyle, color, new_figure, style_axes

Fidelity = dict[str, Any]
ENSEMBLE = SeriesStyle("vermillion", (0, (5, 1.6)), "s")
REFINED = tuple(
    SeriesStyle(name, "-", marker)
    for name, marker in (("green", "^"), ("blue", "o"), ("purple", "D"), ("ink", "v"))
)


def curve_styles(curves: Sequence[dict]) -> dict[str, SeriesStyle]:
    """A style for each label, the same in every panel: the ensemble dashed, refined ones by their number.

    Labels that name no iteration, or the same one twice, are styled in order.
    """
    labels = list(dict.fromkeys(str(curve.get("label", "")) for curve in curves))
    refined = [label for label in labels if not label.lower().startswith("ensemble")]
    iterations = [re.search(r"refined\D*(\d+)", label) for label in refined]
    places = [int(found[1]) if found else place for place, found in enumerate(iterations)]
    places = places if len(set(places)) == len(places) else range(len(refined))
    styles = {label: refinement_style(place) for label, place in zip(refined, places, strict=True)}
    return {label: styles.get(label, ENSEMBLE) for label in labels}


def policies_of(curves: Sequence[dict]) -> list[str]:
    """The policies that have curves, in order of appearance."""
    return list(dict.fromkeys(str(curve.get("policy", "")) for curve in curves))


def policy_words(policy: str) -> str:
    """What the reader should think of when a row says `data` (the logged actions replayed), `drawn` or `medium`."""
    words = {"data": "the data's own actions", "drawn": "the actions that it drew"}
    return words.get(policy, f"{policy} policy")


def draw_error_by_step(ax: Axes, curves: Sequence[dict], styles: dict[str, SeriesStyle]) -> None:
    """Position error (maze cells, logarithmic axis) by step, with bands where the report has them.

    An entry's place is its step: the first is the start, whose error is zero and has no logarithm.
    """
    ax.set_yscale("log")
    for curve in curves:
        style, label = styles[str(curve.get("label", ""))], str(curve.get("label", ""))
        steps = np.arange(len(curve["error_by_step"]))
        error = _positive(curve["error_by_step"])
        if curve.get("low") is not None and curve.get("high") is not None:
            ax.fill_between(
                steps,
                _positive(curve["low"]),
                _positive(curve["high"]),
                color=style.color,
                alpha=0.14,
                linewidth=0,
            )
        ax.plot(steps, error, color=style.color, linestyle=style.dash, linewidth=1.6, label=label)
        if np.isfinite(error[-1]):
            ax.plot(steps[-1], error[-1], style.marker, color=style.color, markersize=4.5)
    ax.set_xlim(left=0)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def error_panel(fidelity: Fidelity, policy: str, *, legend: bool = False) -> Figure:
    """Error by horizon under one policy; the error axis is shared by the report's panels."""
    curves = fidelity["curves"]
    figure = new_figure(*PANEL)
    ax = figure.subplots()
    style_axes(ax, xlabel="step of the rollout", ylabel="position error (cells)", title=policy_words(policy))
    draw_error_by_step(ax, [c for c in curves if str(c.get("policy", "")) == policy], curve_styles(curves))
    ax.set_ylim(*_error_limits(curves))
    if legend:
        add_legend(ax)
    return figure


def error_by_horizon(fidelity: Fidelity) -> Figure | None:
    """All policies side by side, for a run's figures folder; None when the report has no curves."""
    curves = fidelity.get("curves", [])
    policies = policies_of(curves)
    if not policies:
        return None
    figure = new_figure(3.4 * len(policies) + 0.4, 3.3)
    panels = figure.subplots(1, len(policies), sharey=True, squeeze=False)[0]
    for place, (ax, policy) in enumerate(zip(panels, policies, strict=True)):
        ylabel = "position error (cells)" if place == 0 else ""
        style_axes(ax, xlabel="step of the rollout", ylabel=ylabel, title=policy_words(policy))
        draw_error_by_step(
            ax, [c for c in curves if str(c.get("policy", "")) == policy], curve_styles(curves)
        )
    panels[0].set_ylim(*_error_limits(curves))
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=4,
        frameon=False,
        fontsize=FONT_POINTS,
        labelcolor=color("ink"),
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def groups_of(rows: Sequence[dict]) -> list[tuple[str, str]]:
    """The (data, policy) pairs of the rows, in order of appearance."""
    return list(dict.fromkeys((str(row.get("data", "")), row["policy"]) for row in rows))


def distinct_rows(rows: Sequence[dict]) -> list[dict]:
    """The rows without repeated ensembles: those have no conditioning strength, so one stands for all."""
    seen: set[tuple] = set()
    kept = []
    for row in rows:
        same = (
            row.get("data"),
            row["policy"],
            row.get("halted"),
            row["legal"],
            *sorted(row["error"].items()),
        )
        if row["model"] == "ensemble" and same in seen:
            continue
        kept.append(row)
        seen |= {same} if row["model"] == "ensemble" else set()
    return kept


def last_step(rows: Sequence[dict]) -> str:
    """The longest horizon that the rows report an error for, as its key."""
    return max((step for row in rows for step in row["error"]), key=int)


def trade_off_panel(rows: Sequence[dict], data: str, policy: str, *, legend: bool = False) -> Figure | None:
    """Legal share against final error of the rollouts as the models draw them, not held where they leave the data;
    marks grow with the conditioning strength. The best corner is the upper left.

    None unless refined rollouts were measured at two strengths at least (then there is no line to draw).
    """
    rows = [
        row for row in rows
        if (str(row.get("data", "")), row["policy"]) == (data, policy) and not row.get("halted")
    ]  # fmt: skip
    refined = [row for row in rows if row["model"] != "ensemble" and row.get("strength") is not None]
    if len({row["strength"] for row in refined}) < 2:
        return None
    horizon = last_step(rows)
    figure = new_figure(*PANEL)
    ax = figure.subplots()
    title = f"{policy_words(policy)}, {data} data" if data else policy_words(policy)
    style_axes(
        ax, xlabel=f"position error at step {horizon} (cells)", ylabel="legal rollouts (%)", title=title
    )
    for row in rows:
        if row["model"] == "ensemble" and horizon in row["error"]:
            ax.plot(
                row["error"][horizon], 100 * row["legal"], ENSEMBLE.marker,
                color=ENSEMBLE.color, markersize=6.5, label="ensemble", clip_on=False, zorder=4,
            )  # fmt: skip
    for refinement in sorted({row["refinement"] for row in refined}):
        line = sorted(
            (row for row in refined if row["refinement"] == refinement and horizon in row["error"]),
            key=lambda row: row["strength"],
        )
        style = refinement_style(refinement)
        x, y = [row["error"][horizon] for row in line], [100 * row["legal"] for row in line]
        ax.plot(
            x, y, style.dash, color=style.color, linewidth=1.3, clip_on=False, zorder=3, marker=style.marker,
            markersize=0, label=f"refined, k = {refinement}",
        )  # fmt: skip
        for place, (row_x, row_y) in enumerate(zip(x, y, strict=True)):
            size = 3 + 5 * place / max(len(x) - 1, 1)
            ax.plot(
                row_x,
                row_y,
                style.marker,
                color=style.color,
                markersize=size,
                markeredgewidth=0,
                clip_on=False,
            )
    ax.set_xlim(left=0, right=1.05 * ax.get_xlim()[1])
    ax.set_ylim(0, 104)
    if legend:
        add_legend(ax)
    return figure


def refinement_style(refinement: int) -> SeriesStyle:
    """The style of rollouts after `refinement` iterations, the same in every figure."""
    return REFINED[int(refinement) % len(REFINED)]


def _positive(values: Sequence[float | int]) -> np.ndarray:
    """Zeros (the first step's error may be one) have no place on a logarithmic axis: leave them out."""
    array = np.asarray(values, np.float64)
    return np.where(array > 0, array, np.nan)


def _error_limits(curves: Sequence[dict]) -> tuple[float, float]:
    values = np.concatenate([_positive(curve["error_by_step"]) for curve in curves])
    values = values[np.isfinite(values)]
    if not len(values):
        return 1e-3, 1.0
    return float(values.min() / 1.6), float(max(values.max() * 1.8, values.min() * 10))
