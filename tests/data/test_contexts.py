"""Contexts and returns-to-go against loops over episodes written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.contexts import (
    average_rewards_to_go,
    last_rows,
    returns_to_go,
    sample_contexts,
    steps_before,
)
from langevin.data.trajectories import Trajectories

LENGTHS = [3, 1, 5, 2]


@pytest.fixture(scope="module")
def trajectories():
    """Four episodes of different lengths; the first and the last terminate, the others are cut off."""
    rng, rows = np.random.default_rng(0), sum(LENGTHS)
    ends = np.cumsum(LENGTHS)
    terminations, truncations = np.zeros((2, rows), bool)
    terminations[ends[[0, 3]] - 1] = True
    truncations[ends[[1, 2]] - 1] = True
    states = [rng.normal(size=(length + 1, 2)) for length in LENGTHS]
    return Trajectories(
        observations=np.concatenate([path[:-1] for path in states]),
        actions=rng.uniform(-1, 1, (rows, 1)),
        rewards=rng.normal(size=rows),
        terminations=terminations,
        truncations=truncations,
        next_observations=np.concatenate([path[1:] for path in states]),
        episode_ends=ends,
        action_low=[-1],
        action_high=[1],
    )


def rows_of_episodes():
    ends = np.cumsum(LENGTHS)
    return [list(range(end - length, end)) for end, length in zip(ends, LENGTHS, strict=True)]


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_returns_to_go_are_the_discounted_sums_of_what_comes(trajectories, discount):
    expected = []
    for rows in rows_of_episodes():
        for row in rows:
            later = [other for other in rows if other >= row]
            expected.append(sum(discount ** (other - row) * trajectories.rewards[other] for other in later))
    np.testing.assert_allclose(returns_to_go(trajectories, discount), expected, rtol=1e-5, atol=1e-6)


def test_the_first_rows_return_to_go_is_the_episodes_return(trajectories):
    first = returns_to_go(trajectories)[trajectories.episode_starts]
    np.testing.assert_allclose(first, trajectories.episode_returns(), rtol=1e-6)


def test_places_in_the_episode_are_counted_from_its_start_and_its_end_is_known(trajectories):
    expected = [(step, rows[-1]) for rows in rows_of_episodes() for step, _ in enumerate(rows)]
    np.testing.assert_array_equal(steps_before(trajectories), [step for step, _ in expected])
    np.testing.assert_array_equal(last_rows(trajectories), [last for _, last in expected])


def test_what_a_terminated_episode_did_not_live_to_see_earned_nothing(trajectories):
    """The longest episode has 5 rows: an episode that fell after 3 has 2 steps without reward to average over."""
    expected = []
    for episode, rows in enumerate(rows_of_episodes()):
        for step, row in enumerate(rows):
            earned = sum(trajectories.rewards[row : rows[-1] + 1])
            steps = max(LENGTHS) if episode in (0, 3) else len(rows)
            expected.append(earned / (steps - step))
    np.testing.assert_allclose(average_rewards_to_go(trajectories), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1, 3, 4])
def test_a_context_never_leaves_its_episode_and_padding_is_on_the_left(trajectories, length):
    steps = jnp.asarray(steps_before(trajectories))
    rows, mask = sample_contexts(steps, length, 3000, key=jax.random.key(0))
    episode_of = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    found = {(tuple(row), tuple(real)) for row, real in zip(np.asarray(rows), np.asarray(mask), strict=True)}
    expected = set()
    for episode in rows_of_episodes():
        for end in range(1, len(episode) + 1):
            seen = episode[:end][-length:]
            padding = length - len(seen)
            expected.add((tuple([episode[0]] * padding + seen), (False,) * padding + (True,) * len(seen)))
    assert found == expected
    assert all(len(set(episode_of[list(row)])) == 1 for row, _ in found)
    last = np.bincount(np.asarray(rows)[:, -1], minlength=sum(LENGTHS))
    assert last.min() > 0.7 * last.mean(), "every row ends contexts equally often"
