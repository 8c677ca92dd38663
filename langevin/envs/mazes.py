"""Walls and ways of the point mazes: cells, positions, legality, shortest paths, and how to follow them.

A cell is (row, column) from the upper left; a position is (x, y) in metres from the maze's centre, x to the
right and y up, one metre a cell (gymnasium-robotics' convention).
"""

from collections import deque
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from langevin.errors import UsageError

Cell = tuple[int, int]


@dataclass(frozen=True)
class Maze:
    """A grid of walls with a fixed goal.

    **Raises:** `UsageError` when the rows differ in length, the border is open, or the goal is a wall.
    """

    layout: tuple[str, ...]
    """One string a row from the top: `#` is a wall, `.` is free."""
    goal_cell: Cell

    def __post_init__(self):
        if len({len(row) for row in self.layout}) != 1 or set("".join(self.layout)) - set("#."):
            raise UsageError("a maze's rows must be equally long and made of '#' (wall) and '.' (free)")
        if not (self.walls[[0, -1]].all() and self.walls[:, [0, -1]].all()):
            raise UsageError("a maze's border must be walls all round")
        if not self.is_free(self.goal_cell):
            raise UsageError(f"the goal cell {self.goal_cell} is not a free cell of the maze")

    @cached_property
    def walls(self) -> Bool[np.ndarray, "rows columns"]:
        """True where a cell is a wall."""
        return np.array([[symbol == "#" for symbol in row] for row in self.layout])

    @cached_property
    def free_cells(self) -> tuple[Cell, ...]:
        """Cells without a wall, in reading order."""
        return tuple((int(row), int(column)) for row, column in np.argwhere(~self.walls))

    @cached_property
    def goal(self) -> Float[np.ndarray, "2"]:
        """Position of the goal: its cell's centre."""
        return self.cell_to_xy(np.array(self.goal_cell))

    @property
    def shape(self) -> tuple[int, int]:
        return self.walls.shape[0], self.walls.shape[1]

    def is_free(self, cell: Cell) -> bool:
        """Whether the cell lies in the grid and holds no wall."""
        row, column = cell
        inside = 0 <= row < self.shape[0] and 0 <= column < self.shape[1]
        return inside and not self.walls[row, column]

    def cell_to_xy(self, cells: Int[Any, "*batch 2"]) -> Float[Any, "*batch 2"]:
        """Centres of cells (row, column)."""
        rows, columns = self.shape
        xp = cells.__array_namespace__()
        return xp.stack([cells[..., 1] + 0.5 - columns / 2, rows / 2 - cells[..., 0] - 0.5], axis=-1)

    def xy_to_cell(self, positions: Float[Any, "*batch 2"]) -> Int[Any, "*batch 2"]:
        """Cells (row, column) that hold the positions; outside the maze, the nearest border cell."""
        rows, columns = self.shape
        xp = positions.__array_namespace__()
        row = xp.clip(xp.floor(rows / 2 - positions[..., 1]), 0, rows - 1)
        column = xp.clip(xp.floor(positions[..., 0] + columns / 2), 0, columns - 1)
        return xp.stack([row, column], axis=-1).astype(xp.int32)

    def legal(self, positions: Float[Any, "*batch 2"]) -> Bool[Any, "*batch"]:
        """Whether each point lies in a free cell; NumPy or JAX arrays, also inside jit.

        A position that is not a number is not legal.
        """
        xp = positions.__array_namespace__()
        finite = xp.isfinite(positions).all(axis=-1)
        cells = self.xy_to_cell(xp.where(finite[..., None], positions, 0.0))
        return finite & ~xp.asarray(self.walls)[cells[..., 0], cells[..., 1]]

    def distances(self, target: Cell) -> Int[np.ndarray, "rows columns"]:
        """Steps from every cell to the target through free cells; -1 for walls and cells cut off."""
        return _distances(self, target)

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Free cells beside this one: up, down, left, right."""
        row, column = cell
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        return [neighbour for neighbour in around if self.is_free(neighbour)]

    def shortest_path(self, start: Cell, target: Cell) -> list[Cell]:
        """Free cells from start to target, both included.

        **Raises:** `UsageError` when either is a wall or no way leads from one to the other.
        """
        for cell in (start, target):
            if not self.is_free(cell):
                raise UsageError(f"cell {cell} is not free; choose one of {self.free_cells}")
        distances = self.distances(target)
        if distances[start] < 0:
            raise UsageError(f"no way leads from cell {start} to cell {target}")
        path = [start]
        while path[-1] != target:
            path.append(min(self.neighbours(path[-1]), key=lambda cell: distances[cell]))
        return path


@cache
def _distances(maze: Maze, target: Cell) -> Int[np.ndarray, "rows columns"]:
    distances = np.full(maze.shape, -1)
    distances[target] = 0
    frontier = deque([target])
    while frontier:
        cell = frontier.popleft()
        for neighbour in maze.neighbours(cell):
            if distances[neighbour] < 0:
                distances[neighbour] = distances[cell] + 1
                frontier.append(neighbour)
    distances.setflags(write=False)
    return distances


def waypoint_action(
    observations: Float[Any, "*batch 4"], waypoints: Float[Any, "*batch 2"]
) -> Float[Any, "*batch 2"]:
    """D4RL's proportional-derivative law: clip(10 (waypoint - position) - velocity, -1, 1)."""
    return (10 * (waypoints - observations[..., :2]) - observations[..., 2:]).clip(-1, 1)


UMAZE = Maze(
    layout=(
        "#####",
        "#...#",
        "###.#",
        "#...#",
        "#####",
    ),
    goal_cell=(1, 1),
)

MEDIUM = Maze(
    layout=(
        "########",
        "#..##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#..#",
        "########",
    ),
    goal_cell=(6, 6),
)

LARGE = Maze(
    layout=(
        "############",
        "#....#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#...#",
        "############",
    ),
    goal_cell=(7, 9),
)
