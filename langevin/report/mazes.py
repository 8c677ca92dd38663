"""Pictures of mazes: rollouts of a world model, plans and the paths that were driven.

Positions are in metres, which are cells. A path is legal when none of its states lies inside a wall;
illegal paths are drawn last and in a second colour, so that a few among many are seen.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from langevin.envs.mazes import Maze
from langevin.report.style import FONT_POINTS, color, new_figure

LEGAL, ILLEGAL, GOAL = "blue", "vermillion", "green"
PANEL_INCHES = 3.5
MOST_PANELS = 6


def draw_maze(ax: Axes, maze: Maze) -> None:
    """Walls in grey, the goal as a star, equal axes without ticks."""
    rows, columns = maze.shape
    extent = (-columns / 2, columns / 2, -rows / 2, rows / 2)
    shades = ListedColormap([color("ground"), color("wall")])
    ax.imshow(
        maze.walls.astype(float),
        cmap=shades,
        vmin=0,
        vmax=1,
        extent=extent,
        interpolation="nearest",
        zorder=0,
    )
    ax.plot(
        *maze.goal,
        "*",
        markersize=13,
        color=color(GOAL),
        markeredgecolor=color("ground"),
        markeredgewidth=0.8,
        zorder=9,
    )
    # Half of the outer wall says "wall" as well as all of it, and leaves the ways more room.
    ax.set(xlim=(extent[0] + 0.5, extent[1] - 0.5), ylim=(extent[2] + 0.5, extent[3] - 0.5))
    ax.set(aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def legal_paths(maze: Maze, positions: Float[np.ndarray, "paths steps 2"]) -> Bool[np.ndarray, " paths"]:
    """Which paths have no state inside a wall. States that are not numbers end a path and are not counted."""
    return (maze.legal(positions) | np.isnan(positions).any(axis=-1)).all(axis=-1)


def draw_paths(
    ax: Axes,
    maze: Maze,
    positions: Float[np.ndarray, "paths steps 2"],
    legal: Bool[np.ndarray, " paths"] | None = None,
) -> None:
    """The maze with paths over it, a dot at each start; `legal` is computed when not given."""
    draw_maze(ax, maze)
    legal = legal_paths(maze, positions) if legal is None else legal
    alpha = float(np.clip(12 / np.sqrt(max(len(positions), 1)) / 2, 0.35, 0.9))
    for chosen, name, zorder in ((legal, LEGAL, 3), (~legal, ILLEGAL, 4)):
        lines = LineCollection(
            list(positions[chosen]), colors=color(name), linewidths=0.9, alpha=alpha, zorder=zorder
        )
        ax.add_collection(lines, autolim=False)
        ax.plot(
            *positions[chosen, 0].T,
            "o",
            color=color(name),
            markersize=2.6,
            markeredgewidth=0,
            zorder=zorder + 2,
        )


def two_panel_rollouts(
    maze: Maze,
    left: Float[np.ndarray, "left_paths left_steps 2"],
    right: Float[np.ndarray, "right_paths right_steps 2"],
    *,
    titles: tuple[str, str] = ("Ensemble", "Refined"),
    legal: tuple[Bool[np.ndarray, " left_paths"], Bool[np.ndarray, " right_paths"]] | None = None,
) -> Figure:
    """Ensemble rollouts left, refined rollouts right (DyDiff, figures 8 and 9), with the legal counted."""
    masks = legal or (legal_paths(maze, left), legal_paths(maze, right))
    rows, columns = maze.shape
    height = PANEL_INCHES * (rows - 1) / (columns - 1)
    figure = new_figure(2 * PANEL_INCHES + 0.3, height + 0.75)
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.05})
    for ax, positions, mask, title in zip(panels, (left, right), masks, titles, strict=True):
        draw_paths(ax, maze, positions, mask)
        share = 100 * mask.mean() if len(mask) else 0.0
        _title(ax, title, f"{mask.sum()} of {len(mask)} paths legal ({share:.0f}%)")
    _legend(
        figure,
        [
            Line2D([], [], color=color(LEGAL), label="legal"),
            Line2D([], [], color=color(ILLEGAL), label="through a wall"),
            Line2D([], [], color=color("muted"), marker="o", markersize=4, linestyle="none", label="start"),
            _goal_handle(),
        ],
    )
    return figure


def plans_and_paths(
    maze: Maze,
    plans: Float[np.ndarray, "episodes horizon 2"],
    executed: Float[np.ndarray, "episodes steps 2"],
    titles: Sequence[str] | None = None,
) -> Figure:
    """One small maze an episode (six at most): the plan dashed, the driven path solid.

    States that are not numbers end a path, so that episodes of different lengths fit one array.
    """
    count = min(len(plans), MOST_PANELS)
    across = min(count, 3)
    down = -(-count // across)
    rows, columns = maze.shape
    size = 2.4
    figure = new_figure(size * across + 0.2, down * (size * (rows - 1) / (columns - 1) + 0.25) + 0.35)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for ax in panels[count:]:
        ax.set_visible(False)
    for episode, ax in enumerate(panels[:count]):
        draw_maze(ax, maze)
        ax.plot(*executed[episode].T, color=color(LEGAL), linewidth=1.5, alpha=0.9, zorder=3)
        ax.plot(
            *plans[episode].T, color=color("vermillion"), linewidth=1.3, linestyle=(0, (3, 1.5)), zorder=4
        )
        ax.plot(*executed[episode, 0], "o", color=color("ink"), markersize=4, zorder=6)
        _title(ax, titles[episode] if titles else f"episode {episode + 1}")
    _legend(
        figure,
        [
            Line2D([], [], color=color("vermillion"), linestyle=(0, (3, 1.5)), label="plan"),
            Line2D([], [], color=color(LEGAL), label="driven path"),
            Line2D([], [], color=color("ink"), marker="o", markersize=4, linestyle="none", label="start"),
            _goal_handle(),
        ],
    )
    return figure


def _title(ax: Axes, name: str, detail: str = "") -> None:
    ax.set_title(
        name, loc="left", fontsize=FONT_POINTS + 0.5, fontweight="bold", color=color("ink"), parse_math=False
    )
    if detail:
        ax.set_title(detail, loc="right", fontsize=FONT_POINTS - 0.5, color=color("muted"), parse_math=False)


def _goal_handle() -> Line2D:
    return Line2D([], [], color=color(GOAL), marker="*", markersize=10, linestyle="none", label="goal")


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False,
        fontsize=FONT_POINTS - 0.5, labelcolor=color("muted"), handlelength=2,
    )  # fmt: skip
