"""The picture of what the off-dynamics planner is told: whether both systems' data overlap, and whom to believe."""

from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from langevin.planners.off_dynamics_contexts import BOUNDS, ContextName
from langevin.planners.off_dynamics_diagnostics import Diagnostics
from langevin.report.style import FONT_POINTS, color, new_figure, series_style, style_axes

SYSTEMS = ("source", "target")
LABELS: dict[ContextName, tuple[str, str]] = {
    "dynamics": ("Dynamics score", "source's dynamics … target's dynamics"),
    "inverse": ("Inverse-dynamics error", "as the target would act … otherwise"),
}


def contexts_figure(diagnostics: Diagnostics) -> tuple[Figure, str]:
    """Both contexts' histograms and the classifier's calibration, of the first of the stacked seeds; and a caption."""
    first: Any = jax.tree.map(lambda leaf: np.asarray(leaf)[0], diagnostics)
    figure = new_figure(9.6, 3.0)
    score, error, calibration = figure.subplots(1, 3)
    draw_histograms(score, first.dynamics, "dynamics")
    draw_histograms(error, first.inverse, "inverse")
    draw_calibration(calibration, first)
    caption = (
        "What the planner is told of the windows of both datasets, and whether the classifier can be believed "
        f"(one seed): {first.saturated:.0%} of the scores are at an end; of {int(first.counted.sum()):,} rows, half of "
        f"them the target's and set aside, it tells {first.accuracy:.0%} apart. The inverse model leaves "
        f"{first.unexplained:.0%} of the target's actions unexplained."
    )
    return figure, caption


def draw_histograms(ax: Axes, shares: np.ndarray, name: ContextName) -> None:
    """The share of each dataset's windows, as steps over the context's bounds."""
    title, label = LABELS[name]
    style_axes(ax, title=title, xlabel=label, ylabel="share of windows")
    edges = np.linspace(*BOUNDS[name], shares.shape[1] + 1)
    for index, (system, share) in enumerate(zip(SYSTEMS, shares, strict=True)):
        style = series_style(index)
        ax.stairs(share, edges, color=style.color, fill=True, alpha=0.25)
        ax.stairs(share, edges, color=style.color, linestyle=("-", "--")[index], linewidth=1.2, label=system)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=FONT_POINTS - 1, labelcolor=color("ink"))


def draw_calibration(ax: Axes, found: Diagnostics) -> None:
    """How often a row was the target's against what the classifier said; a point's size is its rows."""
    style_axes(ax, title="Classifier", xlabel="predicted p(target)", ylabel="share that was the target's")
    filled = np.asarray(found.counted) > 0
    style = series_style(2)
    sizes = 8 + 90 * np.sqrt(found.counted[filled] / found.counted.sum())
    ax.plot([0, 1], [0, 1], color=color("muted"), linewidth=0.8, linestyle="--")
    ax.plot(found.predicted[filled], found.observed[filled], color=style.color, linewidth=1)
    ax.scatter(found.predicted[filled], found.observed[filled], s=sizes, color=style.color, zorder=3)
    ax.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06))
