"""Imagined transitions beside the simulator's own."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.experiments.imagined_steps import ImaginedSteps, steps_row, table
from langevin.imagination.worlds import Imagined, Steps

TASK = get_task("pointmaze/umaze")


@pytest.fixture(scope="module")
def true():
    """Two rollouts of four states in the simulator itself, with its rewards."""
    simulator = make_simulator(TASK, 2)
    states = [np.asarray(simulator.reset(np.random.default_rng(0)), np.float32)]
    actions = np.random.default_rng(1).uniform(-1, 1, (2, 4, 2)).astype(np.float32)
    rewards = []
    for step in range(3):
        after, reward = simulator.step(actions[:, step])[:2]
        states.append(after)
        rewards.append(reward)
    ends = jnp.zeros((2, 3), bool)
    return Imagined(
        jnp.asarray(np.stack(states, 1)),
        jnp.asarray(actions),
        jnp.asarray(np.stack(rewards, 1), jnp.float32),
        ends,
    )


def test_the_simulators_own_transitions_have_no_error(true):
    row = steps_row(TASK, true)
    assert row["shown"] == 1
    assert row["step"] > 0
    assert row["step_error"] < 1e-5
    assert row["reward_error"] < 1e-6


def test_a_state_that_is_moved_costs_the_step_that_leads_there_and_the_one_that_leaves(true):
    """Moved by half a cell the ball goes on from there as it would have (no wall is near): two steps of six are off."""
    moved = true.observations.at[0, 1, 1].add(0.05)
    row = steps_row(TASK, dataclasses.replace(true, observations=moved, rewards=true.rewards + 0.25))
    np.testing.assert_allclose(row["step_error"], 2 * 0.05 / 6, rtol=0.05)
    np.testing.assert_allclose(row["reward_error"], 0.25, rtol=1e-3)


def test_a_transition_that_stands_alone_is_held_against_where_its_own_action_leads(true):
    """The states wander, and are no successors of one another; said to stand still, each step is off by its length."""
    states = true.observations + 0.05 * jnp.arange(4)[None, :, None] * jnp.array([0.0, 1.0, 0.0, 0.0])
    steps = Steps(states[:, :-1], true.valid.at[0, 0].set(False))
    row = steps_row(TASK, dataclasses.replace(true, observations=states, steps=steps))
    np.testing.assert_allclose(row["shown"], 5 / 6)
    np.testing.assert_allclose(row["step_error"], row["step"], rtol=1e-6)


def test_what_a_learner_is_not_shown_does_not_count(true):
    """The first rollout halts at its first transition; whatever is wrong from there on is of no account."""
    spoiled = dataclasses.replace(
        true,
        observations=true.observations.at[0, 1:].add(1.0),
        terminations=true.terminations.at[0, 0].set(True),
    )
    row = steps_row(TASK, spoiled)
    assert row["shown"] == 0.5
    assert row["step_error"] < 1e-5


def test_the_table_has_a_row_a_world():
    row = {"world": "ensemble", "shown": 0.5, "step": 0.03, "step_error": 0.001, "step_error_90": 0.002}
    assert table([row | {"reward_error": 0.1}]).splitlines()[2] == (
        "| ensemble | 50% | 0.030 | 0.001 | 0.002 | 0.100 |"
    )


def test_a_folder_without_the_policies_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"holds no finished ensemble\+halt; run .*dydiff_gain with it first"
    ):
        ImaginedSteps(tmp_path).run()
