"""Subgoals by graph search over the data (Li et al. 2023, "Hierarchical diffusion for offline decision making", HDMI).

Logged episodes wander. Between two places that the data visit, the shortest way may be stitched from several episodes:
a graph of landmarks, states of the data themselves, joined where some episode went from one to the other in a fixed
number of steps, knows it. What a high level learns from is such shortest ways and not what was logged.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from langevin.data.trajectories import Trajectories
from langevin.errors import DatasetError, require_at_least

NOWHERE = -9999
"""What scipy writes for a node that has no predecessor."""


@dataclass(frozen=True)
class LandmarkGraph:
    """Places of the data, and how many jumps the shortest way from one to another has.

    states: of the landmarks, raw units. jumps: infinite where there is no way. before: the last landmark but one of
    the shortest way, by start and end.
    """

    states: Float[np.ndarray, "landmarks observation"]
    jumps: Float[np.ndarray, "landmarks landmarks"]
    before: Int[np.ndarray, "landmarks landmarks"]

    def way(self, start: int, end: int) -> list[int]:
        """Landmarks of the shortest way, both ends counted. There must be one."""
        way = [end]
        while way[-1] != start:
            way.append(int(self.before[start, way[-1]]))
        return way[::-1]


def landmarks_of(
    states: Float[np.ndarray, "rows dimension"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " landmarks"]:
    """Rows that lie far from one another: each next one is the farthest from all before it (Gonzalez 1985)."""
    count = min(count, len(states))
    chosen = np.empty(count, int)
    chosen[0] = rng.integers(len(states))
    nearest = np.full(len(states), np.inf)
    for index in range(1, count):
        nearest = np.minimum(nearest, np.square(states - states[chosen[index - 1]]).sum(axis=1))
        chosen[index] = nearest.argmax()
    return chosen


def landmark_graph(
    trajectories: Trajectories,
    size: int,
    jump: int,
    landmarks: int,
    *,
    candidates: int = 20_000,
    seed: int = 0,
) -> LandmarkGraph:
    """The graph of a dataset's first `size` observation dimensions; the same for the same seed.

    jump: steps of an episode that join two landmarks. landmarks: how many, chosen far apart among `candidates` states.
    Each state counts as the landmark nearest to it, every dimension in units of its standard deviation.

    **Raises:** `DatasetError` when no episode is longer than a jump.
    """
    require_at_least(2, landmarks=landmarks)
    require_at_least(1, jump=jump)
    rng = np.random.default_rng(seed)
    states = trajectories.observations[:, :size]
    first = np.nonzero(stays_in_episode(trajectories, jump))[0]
    if not first.size:
        raise DatasetError(
            f"no episode has more than {jump} steps, so no two states are a jump of {jump} apart"
        )
    scale = states.std(axis=0)
    scaled = states / np.where(scale > 0, scale, 1)
    shown = rng.permutation(len(states))[:candidates]
    places = shown[landmarks_of(scaled[shown], landmarks, rng)]
    _, nearest = KDTree(scaled[places]).query(scaled, workers=-1)
    nearest = np.asarray(nearest)
    here, there = nearest[first], nearest[first + jump]
    moved = here != there
    edges = np.unique(np.stack([here[moved], there[moved]]), axis=1)
    graph = csr_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(len(places),) * 2)
    jumps, before = dijkstra(graph, return_predecessors=True)
    return LandmarkGraph(states[places], jumps, before)


def stays_in_episode(trajectories: Trajectories, jump: int) -> Bool[np.ndarray, " rows"]:
    """Rows after which the episode goes on for at least `jump` steps."""
    lengths = trajectories.episode_lengths()
    left = np.repeat(trajectories.episode_ends, lengths) - np.arange(trajectories.transitions)
    return left > jump


def shortest_ways(
    graph: LandmarkGraph, rows: int, count: int, *, seed: int = 0
) -> tuple[Float[np.ndarray, "ways rows observation"], Int[np.ndarray, " ways"]]:
    """Shortest ways between landmarks drawn at random, of at most `rows` states, the last one repeated; their lengths.

    Starts are drawn evenly, then ends evenly among those within reach, so that near and far goals are both met.

    **Raises:** `DatasetError` when no landmark leads to another.
    """
    rng = np.random.default_rng(seed)
    within = (graph.jumps > 0) & (graph.jumps < rows)
    starts = np.flatnonzero(within.any(axis=1))
    if not starts.size:
        raise DatasetError("no landmark leads to another one; use fewer landmarks or a longer jump")
    ways = np.empty((count, rows, graph.states.shape[1]), np.float32)
    lengths = np.empty(count, np.int32)
    for index, start in enumerate(rng.choice(starts, count)):
        way = graph.way(int(start), int(rng.choice(np.flatnonzero(within[start]))))
        lengths[index] = len(way)
        ways[index] = graph.states[way + [way[-1]] * (rows - len(way))]
    return ways, lengths
