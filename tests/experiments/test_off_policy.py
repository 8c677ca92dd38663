"""The true return that fitted-Q evaluation is held against."""

import jax.numpy as jnp
import numpy as np
import pytest

from langevin.envs.tasks import get_task
from langevin.experiments.off_policy import NEGLIGIBLE, steps_that_count, true_returns
from tests.known_models import Constant


def test_a_ball_at_rest_at_its_goal_earns_for_ever_and_not_until_the_mazes_clock():
    """1 a step: 1 / (1 - 0.99) = 100. The U-Maze's clock of 300 steps would leave 95.1."""
    task = get_task("pointmaze/umaze")
    assert task.maze is not None
    goal = task.maze.goal
    starts = np.array([[*goal, 0, 0]], np.float32)
    found = true_returns(Constant(jnp.zeros((2, 2))), task, starts, 0.99, seeds=2, episodes=3, seed=0)
    np.testing.assert_allclose(found, 100, rtol=NEGLIGIBLE)


@pytest.mark.parametrize(
    ("discount", "clock", "steps"), [(0.99, 300, 688), (0.99, 1000, 1000), (1.0, 300, 300)]
)
def test_an_episode_lasts_while_its_steps_count(discount, clock, steps):
    assert steps_that_count(discount, clock) == steps
