"""Each rule says "ended" exactly when gymnasium's environment does."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.dynamics.termination import first_terminal, termination_rule
from langevin.errors import UsageError

LOCOMOTION = {"hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "halfcheetah": "HalfCheetah-v5"}


@pytest.mark.parametrize("task", LOCOMOTION)
def test_rule_agrees_with_the_environment_along_random_episodes(task):
    environment = gymnasium.make(LOCOMOTION[task])
    environment.action_space.seed(0)
    observations, terminations = [], []
    environment.reset(seed=0)
    for _ in range(600):
        observation, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
        observations.append(observation)
        terminations.append(terminated)
        if terminated or truncated:
            environment.reset()
    predicted = jax.jit(termination_rule(task))(jnp.asarray(np.array(observations), jnp.float32))
    np.testing.assert_array_equal(predicted, terminations)
    assert any(terminations) == (task != "halfcheetah"), "the episodes must hold the ends they test"


@pytest.mark.parametrize("task", ["hopper", "walker2d"])
def test_rule_agrees_with_the_environment_across_its_thresholds(task):
    environment = gymnasium.make(LOCOMOTION[task]).unwrapped
    environment.reset(seed=0)
    rule = termination_rule(task)
    outcomes = []
    for height in (0.65, 0.75, 0.85, 1.2, 1.95, 2.05):
        for angle in (-1.1, -0.9, -0.21, -0.19, 0.0, 0.19, 0.21, 0.9, 1.1):
            for joint in (0.0, 99.0, 101.0, -101.0):
                position, velocity = np.zeros(environment.model.nq), np.zeros(environment.model.nv)
                position[1:4] = height, angle, joint
                environment.set_state(position, velocity)
                predicted = bool(rule(jnp.asarray(environment._get_obs(), jnp.float32)))
                assert predicted == (not environment.is_healthy), (height, angle, joint)
                outcomes.append(predicted)
    assert True in outcomes
    assert False in outcomes


def test_a_diverged_state_is_an_end_where_states_can_be_unhealthy():
    diverged = jnp.full((2, 17), jnp.nan)
    assert bool(jnp.all(termination_rule("walker2d")(diverged)))
    assert bool(jnp.all(termination_rule("hopper")(diverged[:, :11])))


def test_mazes_never_end():
    rule = termination_rule("pointmaze/umaze")
    assert not bool(jnp.any(rule(100.0 * jax.random.normal(jax.random.key(0), (5, 7, 4)))))


def test_shifted_variants_share_their_family_rule():
    assert termination_rule("hopper/foot_friction") is termination_rule("hopper")


def test_unknown_family_names_its_neighbour():
    with pytest.raises(UsageError, match="hopper"):
        termination_rule("hoper/medium")


def test_a_trajectory_is_valid_through_its_first_terminal_step():
    terminals = jnp.array([[0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1]], bool)
    expected = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(first_terminal(terminals), np.array(expected, bool))
