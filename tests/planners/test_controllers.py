"""How a plan becomes an action: D4RL's PD law, or the plan's own actions."""

import jax.numpy as jnp
import numpy as np
import pytest

from langevin.planners.controllers import follow_actions, follow_inverse, follow_waypoints

PLANNED = jnp.array([[[0.0, 0.0, 9.0, 9.0], [0.1, -0.2, 0.5, -0.5], [0.3, 0.4, 1.0, 2.0]]])
ACTIONS = jnp.array([[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]])
NOW = jnp.array([[0.05, 0.05, 0.2, -0.1]])
LAST = jnp.array([2])


@pytest.mark.parametrize(
    ("row", "position", "velocity"),
    [(0, (0.1, -0.2), (0.5, -0.5)), (1, (0.3, 0.4), (1.0, 2.0)), (2, (0.3, 0.4), (0.0, 0.0))],
)
def test_the_law_pulls_to_the_next_planned_state_and_at_the_end_to_rest(row, position, velocity):
    """10 (position* - position) + (velocity* - velocity), worked out by hand."""
    expected = [
        10 * (position[0] - 0.05) + velocity[0] - 0.2,
        10 * (position[1] - 0.05) + velocity[1] + 0.1,
    ]
    found = follow_waypoints(NOW, PLANNED, jnp.array([row]), LAST)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_from_the_goals_row_on_the_goal_is_held_whatever_the_plan_does_after_it():
    for row in (1, 2):
        found = follow_waypoints(NOW, PLANNED, jnp.array([row]), jnp.array([1]))
        np.testing.assert_allclose(found[0], [10 * 0.05 - 0.2, -10 * 0.25 + 0.1], rtol=1e-5)


def test_a_system_that_is_where_the_plan_says_needs_no_force():
    found = follow_waypoints(PLANNED[:, 1], PLANNED, jnp.array([0]), LAST)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_a_plans_own_actions_are_taken_row_by_row():
    for row in range(3):
        found = follow_actions(ACTIONS, jnp.array([row]))
        np.testing.assert_array_equal(found, ACTIONS[:, row])


def test_a_learned_controller_is_asked_for_the_state_a_few_rows_on_or_the_goals():
    """One that answers with what it is asked for."""
    answer = lambda observation, wanted: wanted[:2] - observation[:2]
    for row, goal_row, asked in ((0, 2, 2), (1, 2, 2), (0, 1, 1)):
        found = follow_inverse(answer, NOW, PLANNED, jnp.array([row]), jnp.array([goal_row]), 2)
        np.testing.assert_allclose(found, PLANNED[:, asked, :2] - NOW[:, :2], atol=1e-6)


def test_each_system_follows_its_own_plan_at_its_own_row():
    now, planned, actions = (jnp.concatenate([part, -part]) for part in (NOW, PLANNED, ACTIONS))
    rows, goal_rows = jnp.array([1, 0]), jnp.array([2, 2])
    driven = follow_waypoints(now, planned, rows, goal_rows)
    taken = follow_actions(actions, rows)
    for system, row in ((0, 1), (1, 0)):
        sign = (-1) ** system
        alone = follow_waypoints(NOW, PLANNED, jnp.array([row]), LAST)[0]
        np.testing.assert_allclose(driven[system], sign * alone, rtol=1e-6)
        np.testing.assert_allclose(taken[system], sign * ACTIONS[0, row], rtol=1e-6)
