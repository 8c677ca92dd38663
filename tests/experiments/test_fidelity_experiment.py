"""Which windows of the data a world model is examined on."""

import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError
from langevin.evaluation.fidelity import Refinements
from langevin.experiments.fidelity import ensemble_then, whole_windows


def episodes(lengths):
    """The observation is 1000 times the episode plus the step, the action a thousandth of it."""
    steps = np.concatenate([1000.0 * index + np.arange(length) for index, length in enumerate(lengths)])
    ends = np.cumsum(lengths)
    truncations = np.zeros(len(steps), bool)
    truncations[ends - 1] = True
    return Trajectories(
        steps[:, None], steps[:, None] / 1e6, np.zeros(len(steps)), np.zeros(len(steps), bool), truncations,
        steps[:, None] + 1, ends, [-1.0], [1.0],
    )  # fmt: skip


def test_windows_are_whole_and_their_actions_follow_their_start():
    """Of episodes of 30, 4 and 9 rows, a horizon of 10 fits the first alone."""
    starts, actions = whole_windows(episodes([30, 4, 9]), 10, 8)
    assert starts.shape == (8, 1)
    assert actions.shape == (8, 10, 1)
    assert (np.asarray(starts) <= 20).all()
    expected = np.asarray(starts)[:, None] + np.arange(10)[None, :, None]
    np.testing.assert_allclose(np.asarray(actions) * 1e6, expected, atol=1e-2)


def test_no_window_fits_when_every_episode_is_shorter_than_the_horizon():
    with pytest.raises(
        UsageError, match="no episode is as long as the horizon of 10 steps; use longer episodes"
    ):
        whole_windows(episodes([9, 4]), 10, 8)


def test_the_ensemble_of_one_stands_before_the_refinements_of_another():
    def filled(value):
        rows = [jnp.full((1, 2, 1), value + index) for index in range(3)]
        return Refinements(rows, rows)

    both = ensemble_then(filled(0.0), filled(10.0))
    for rows in (both.observations, both.actions):
        assert [float(row[0, 0, 0]) for row in rows] == [0.0, 11.0, 12.0]
