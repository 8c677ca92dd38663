"""Learning curves over seeds, and imagined against true reward.

A curve is the mean over seeds with a band from the lowest to the highest seed: with a handful of seeds that
range says all there is, and assumes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from langevin.report.runs import Record, Run
from langevin.report.style import (
    FONT_POINTS,
    SeriesStyle,
    color,
    new_figure,
    series_style,
    style_axes,
    thousands,
)

SCORE = "evaluation/normalized_score"
TRUE_REWARD = "evaluation/reward_per_step"
IMAGINED_REWARD = "imagination/reward"
BAND = "Lines are means over seeds; bands reach from the lowest to the highest seed."
PANEL = (4.8, 3.0)
POINTS_DRAWN = 400


@dataclass(frozen=True)
class Curve:
    """One logged number over training: its mean and extremes over the seeds that logged it."""

    steps: Float[np.ndarray, " points"]
    seconds: Float[np.ndarray, " points"]
    mean: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    seeds: int


def curve_of(records: Sequence[Record], key: str, stage: str | None = None) -> Curve | None:
    """The curve of `key`, of one stage of training (default: the last stage that logged it); None if never
    logged.

    A value that is not finite (a seed that diverged) is left out; where no seed has one, the line has a gap.
    """
    is_number = lambda value: isinstance(value, int | float)
    rows = [record for record in records if is_number(record.get(key)) and is_number(record.get("step"))]
    if not rows:
        return None
    stage = rows[-1].get("stage") if stage is None else stage
    rows = [record for record in rows if record.get("stage") == stage]
    if not rows:
        return None
    by_step: dict[float, list[Record]] = {}
    for record in rows:
        by_step.setdefault(float(record["step"]), []).append(record)
    steps = sorted(by_step)
    summaries = []
    for step in steps:
        values = np.array([record[key] for record in by_step[step]], np.float64)
        values = values[np.isfinite(values)]
        seconds = np.mean([float(record.get("seconds", np.nan)) for record in by_step[step]])
        known = (values.mean(), values.min(), values.max()) if len(values) else (np.nan,) * 3
        summaries.append((seconds, *known))
    seconds, mean, low, high = np.array(summaries, np.float64).T
    return Curve(
        steps=np.array(steps, np.float64),
        seconds=seconds,
        mean=mean,
        low=low,
        high=high,
        seeds=len({record.get("seed", 0) for record in rows}),
    )


def draw_curve(ax: Axes, curve: Curve, style: SeriesStyle, label: str = "", against: str = "steps") -> None:
    """Mean line and band against "steps" or "seconds" (drawn in minutes); a lone point is a marker."""
    x = curve.steps if against == "steps" else curve.seconds / 60
    every = max(1, -(-len(x) // POINTS_DRAWN))
    keep = np.arange(len(x) - 1, -1, -every)[::-1]
    x, mean, low, high = (array[keep] for array in (x, curve.mean, curve.low, curve.high))
    ax.fill_between(x, low, high, color=style.color, alpha=0.16, linewidth=0)
    ax.plot(x, mean, color=style.color, linestyle=style.dash, linewidth=1.6, label=label)
    finite = np.flatnonzero(np.isfinite(mean))
    if len(finite):
        last = finite[-1]
        ax.plot(x[last], mean[last], style.marker, color=style.color, markersize=4.5)
        if len(finite) == 1:
            ax.plot([x[last]] * 2, [low[last], high[last]], color=style.color, linewidth=1.6)


def learning_curves(
    runs: Sequence[Run],
    styles: Sequence[SeriesStyle] | None = None,
    *,
    against: str = "steps",
    legend: bool = True,
) -> Figure | None:
    """Normalised score of each run over gradient steps or minutes; None when no run logged an evaluation."""
    styles = styles or [series_style(index) for index in range(len(runs))]
    curves = [curve_of(run.metrics, SCORE) for run in runs]
    if not any(curves):
        return None
    figure = new_figure(*PANEL)
    ax = figure.subplots()
    xlabel = "gradient steps" if against == "steps" else "minutes since the run began"
    style_axes(ax, xlabel=xlabel, ylabel="normalised score")
    for run, curve, style in zip(runs, curves, styles, strict=True):
        if curve is not None:
            draw_curve(ax, curve, style, run.label, against)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, -5), max(high, 105))
    ax.set_xlim(left=0)
    for score, words in ((0, "random"), (100, "expert")):
        ax.axhline(score, color=color("muted"), linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        ax.annotate(
            words, (1, score), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
            ha="right", va="bottom", fontsize=FONT_POINTS - 1.5, color=color("muted"),
        )  # fmt: skip
    if against == "steps":
        ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    if legend:
        add_legend(ax)
    return figure


def imagined_and_true_reward(run: Run, *, legend: bool = True) -> Figure | None:
    """Reward per step that the world model predicts for the policy, against what the simulator pays it.

    None unless the run logged both. A gap that grows means that the policy exploits its model.
    """
    imagined, true = curve_of(run.metrics, IMAGINED_REWARD), curve_of(run.metrics, TRUE_REWARD)
    if imagined is None or true is None:
        return None
    figure = new_figure(*PANEL)
    ax = figure.subplots()
    style_axes(ax, xlabel="gradient steps", ylabel="reward per step", title=run.label)
    draw_curve(ax, imagined, IMAGINED_STYLE, "imagined by the model")
    draw_curve(ax, true, TRUE_STYLE, "paid by the simulator")
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    if legend:
        add_legend(ax)
    return figure


IMAGINED_STYLE = SeriesStyle("vermillion", (0, (5, 1.6)), "s")
TRUE_STYLE = SeriesStyle("ink", "-", "o")


def add_legend(ax: Axes) -> None:
    """A frameless legend above the axes, taken literally."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    legend = ax.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False,
        fontsize=FONT_POINTS - 1, handlelength=2.4, labelcolor=color("ink"), borderaxespad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
