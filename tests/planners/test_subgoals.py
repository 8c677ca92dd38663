"""Subgoals by graph search: ways that no episode went whole, stitched from several, and the shortest of them."""

import numpy as np
import pytest

from langevin.data.trajectories import Trajectories
from langevin.errors import DatasetError, UsageError
from langevin.planners.subgoals import landmark_graph, landmarks_of, shortest_ways, stays_in_episode


def walk(*episodes):
    """Episodes of positions on a line or a plane, a step a row; actions and rewards do not matter."""
    states = [np.asarray(episode, np.float32).reshape(len(episode), -1) for episode in episodes]
    lengths = [len(episode) - 1 for episode in states]
    rows = sum(lengths)
    ends = np.cumsum(lengths)
    return Trajectories(
        observations=np.concatenate([episode[:-1] for episode in states]),
        actions=np.zeros((rows, 1), np.float32),
        rewards=np.zeros(rows, np.float32),
        terminations=np.zeros(rows, bool),
        truncations=np.isin(np.arange(rows), ends - 1),
        next_observations=np.concatenate([episode[1:] for episode in states]),
        episode_ends=ends,
        action_low=-np.ones(1, np.float32),
        action_high=np.ones(1, np.float32),
    )


CORNER = [(x, 0) for x in range(9)]
UP = [(4, y) for y in range(9)]


def test_ways_are_stitched_from_episodes_that_cross():
    """One episode goes east, one north from its middle: nobody went from the west end to the north end."""
    graph = landmark_graph(walk(CORNER, UP), 2, 2, 100)
    index = {tuple(state): number for number, state in enumerate(graph.states)}
    west, north, east = index[(0, 0)], index[(4, 6)], index[(6, 0)]
    assert graph.jumps[west, north] == (4 + 6) / 2
    way = [tuple(graph.states[number]) for number in graph.way(west, north)]
    assert way == [(0, 0), (2, 0), (4, 0), (4, 2), (4, 4), (4, 6)]
    assert np.isinf(graph.jumps[east, west]), "nobody went back"


def test_a_detour_is_cut_short():
    """An episode that wanders off and comes back has its loop left out where another one went straight on."""
    detour = [(0, 0), (1, 0), (1, 1), (1, 2), (1, 1), (1, 0), (2, 0), (3, 0), (4, 0)]
    graph = landmark_graph(walk(detour), 2, 1, 100)
    index = {tuple(state): number for number, state in enumerate(graph.states)}
    way = [tuple(graph.states[number]) for number in graph.way(index[(0, 0)], index[(3, 0)])]
    assert way == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_a_jump_never_leaves_its_episode():
    data = walk(CORNER, UP)
    stays = stays_in_episode(data, 3)
    assert stays.tolist() == [True] * 5 + [False] * 3 + [True] * 5 + [False] * 3
    graph = landmark_graph(walk([(0, 0), (1, 0), (2, 0)], [(50, 0), (51, 0), (52, 0)]), 2, 1, 100)
    assert np.isinf(graph.jumps[graph.states[:, 0] < 10][:, graph.states[:, 0] > 10]).all()


def test_landmarks_lie_far_apart():
    """On a line of 101 points, 5 of them chosen from any start leave no gap above half the line, and 11 none above a
    fifth; the greedy choice is within twice the best."""
    line = np.arange(101.0)[:, None]
    for count, best in ((5, 12.5), (11, 5.0)):
        chosen = line[landmarks_of(line, count, np.random.default_rng(1))]
        assert np.abs(line - chosen.T).min(axis=1).max() <= 2 * best


def test_ways_for_training_are_shortest_ones_with_their_last_state_repeated():
    graph = landmark_graph(walk(CORNER, UP), 2, 2, 100)
    ways, lengths = shortest_ways(graph, 4, 500)
    assert ways.shape == (500, 4, 2)
    assert set(lengths) == {2, 3, 4}
    for way, length in zip(ways, lengths, strict=True):
        steps = np.abs(np.diff(way, axis=0)).sum(axis=1)
        np.testing.assert_array_equal(steps[: length - 1], 2)
        np.testing.assert_array_equal(steps[length - 1 :], 0)
    again, _ = shortest_ways(graph, 4, 500)
    np.testing.assert_array_equal(ways, again)


def test_data_without_a_way_are_refused():
    with pytest.raises(DatasetError, match="no episode has more than 20 steps"):
        landmark_graph(walk(CORNER), 2, 20, 10)
    with pytest.raises(DatasetError, match="no landmark leads to another one; use fewer landmarks"):
        shortest_ways(landmark_graph(walk([(0, 0), (0, 0), (0, 0)]), 2, 1, 10), 4, 5)
    with pytest.raises(UsageError, match="landmarks must be at least 2, got 1"):
        landmark_graph(walk(CORNER), 2, 1, 1)
