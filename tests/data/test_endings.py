"""How episodes end: what is suspicious, and what is not."""

import numpy as np
import pytest

from langevin.data.endings import at_time_limit, find_suspicious_ends, rows_into_resets
from langevin.data.trajectories import Trajectories


def walk(lengths, terminated=(), resets=(), seed=0):
    """Episodes of small steps away from the origin; those in `resets` are logged with the next one's first state."""
    rng = np.random.default_rng(seed)
    states = [rng.normal(0, 0.01, 3) + 0.1 * np.arange(length + 1)[:, None] for length in lengths]
    for episode in resets:
        states[episode][-1] = states[episode + 1][0]
    rows, ends = sum(lengths), np.cumsum(lengths)
    terminations, truncations = np.zeros(rows, bool), np.zeros(rows, bool)
    truncations[ends - 1] = True
    for episode in terminated:
        terminations[ends[episode] - 1], truncations[ends[episode] - 1] = True, False
    return Trajectories(
        observations=np.concatenate([state[:-1] for state in states]),
        next_observations=np.concatenate([state[1:] for state in states]),
        actions=rng.uniform(-1, 1, (rows, 2)),
        rewards=rng.normal(size=rows),
        terminations=terminations,
        truncations=truncations,
        episode_ends=ends,
        action_low=-np.ones(2),
        action_high=np.ones(2),
    )


LENGTHS = [20, 14, 20, 9, 17, 20, 12, 20, 15, 20, 8, 20]


def messages(data, **known):
    return [finding.message for finding in find_suspicious_ends(data, **known)]


def test_episodes_that_end_as_they_say_give_no_finding():
    assert messages(walk(LENGTHS, terminated=[1, 3, 4]), max_steps=20, can_terminate=True) == []
    assert messages(walk(LENGTHS)) == []
    assert messages(walk([1, 1, 1])) == []


@pytest.mark.parametrize("terminated", [[], [1, 6]])
def test_a_reset_logged_as_the_successor_is_found_at_terminations_and_time_limits(terminated):
    data = walk(LENGTHS, terminated=terminated, resets=[1, 6])
    assert rows_into_resets(data).tolist() == [33, 111]
    assert "2 ends of episodes, the first row 33, leap to where episodes begin" in messages(data)[0]


def test_a_reset_to_a_start_of_another_episode_is_found_by_the_range_of_starts():
    data = walk(LENGTHS)
    data.next_observations[33] = data.observations[data.episode_starts].mean(axis=0)
    assert rows_into_resets(data).tolist() == [33]


def test_a_stream_cut_into_episodes_without_a_reset_is_no_reset():
    """Point mazes are logged so: each episode begins where the one before ended."""
    steps = 0.1 * np.arange(61)[:, None] * np.ones(3)
    data = walk([20, 20, 20])
    data.observations[:], data.next_observations[:] = steps[:-1], steps[1:]
    assert rows_into_resets(data).size == 0


def test_terminations_at_the_time_limit_are_found():
    data = walk(LENGTHS, terminated=[0, 1, 2])
    assert at_time_limit(data, 20).tolist() == [True, False, True] + [False] * 9
    assert "2 episodes terminate after 20 steps, the task's time limit" in messages(data, max_steps=20)[0]


def test_an_unknown_time_limit_shows_as_several_terminations_at_the_greatest_length():
    assert "3 episodes terminate after 20 steps, the greatest length" in messages(walk(LENGTHS, [0, 2, 5]))[0]
    assert messages(walk(LENGTHS, [0, 2])) == []
    assert messages(walk([20] * 6, [0, 1, 2])) == []


def test_terminal_rows_whose_successor_was_not_logged_are_counted():
    data = walk(LENGTHS, terminated=[1])
    data.next_observations[33] = data.observations[33]
    assert "1 terminal rows, the first 33, repeat their observation" in messages(data)[0]


def test_a_task_with_terminal_states_and_none_logged_is_asked_about():
    data = walk(LENGTHS)
    assert "no episode terminates" in messages(data, max_steps=20, can_terminate=True)[0]
    assert messages(data, max_steps=20, can_terminate=False) == []
