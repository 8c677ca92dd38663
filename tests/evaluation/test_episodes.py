"""Episodes of many policies at once, against a simulator stepped by hand."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.evaluation.episodes import run_episodes
from langevin.policies.base import Policy, heeds_rewards

SEEDS, EPISODES, STEPS = 3, 4, 60


class Pull(Policy):
    """Pulls to a point, harder with every step it remembers; shakes if told to."""

    point: Any
    shake: Any

    def start(self, batch_size):
        return jnp.zeros(batch_size)

    def act(self, observations, memory, *, key):
        strength = 2 + 0.02 * memory[:, None]
        force = strength * (self.point - observations[:, :2]) - 0.3 * observations[:, 2:]
        force += self.shake * jax.random.normal(key, force.shape)
        return jnp.clip(force, -1, 1), memory + 1


def policies(shake=0.0):
    """One a seed: each pulls to another point of the U-Maze's upper arm and right side."""
    points = jnp.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    return eqx.filter_vmap(lambda point: Pull(point, jnp.float32(shake)))(points)


def east(observations, actions, next_observations):
    return next_observations[..., 0] > 0.5


def distance(observations, actions, next_observations):
    return -((next_observations[..., 0] + 1.0) ** 2) + actions[..., 0]


@pytest.fixture(scope="module")
def task():
    """The U-Maze with a clock of 60 steps, a reward that tells every step apart, and an end in the east."""
    return dataclasses.replace(
        get_task("pointmaze/umaze"), max_steps=STEPS, termination=east, reward=distance
    )


@pytest.fixture(scope="module")
def found(task):
    return run_episodes(policies(), task, seeds=SEEDS, episodes=EPISODES, seed=5, keep_observations=True)


def test_returns_lengths_and_paths_equal_a_simulator_stepped_by_hand(task, found):
    """Episode by episode, one system at a time; the reward of the ending step counts, none after it does."""
    starts = make_simulator(task, SEEDS * EPISODES).reset(np.random.default_rng(5))
    starts = starts.reshape(SEEDS, EPISODES, 4)
    ended = 0
    for seed in range(SEEDS):
        policy = jax.tree.map(lambda leaf, seed=seed: leaf[seed], policies())
        for episode in range(EPISODES):
            simulator = make_simulator(task, 1, threads=1)
            simulator.set_state(starts[seed, episode][None])
            observation, memory = starts[seed, episode][None], policy.start(1)
            total, path = 0.0, [observation[0]]
            while len(path) <= STEPS:
                action, memory = policy.act(jnp.asarray(observation), memory, key=jax.random.key(0))
                observation, reward, termination = simulator.step(np.asarray(action))
                total += float(reward[0])
                path.append(observation[0])
                if termination[0]:
                    ended += 1
                    break
            assert found.lengths[seed, episode] == len(path) - 1
            np.testing.assert_allclose(found.returns[seed, episode], total, rtol=1e-4)
            np.testing.assert_allclose(found.observations[seed, episode, : len(path)], path, atol=1e-3)
            rest = found.observations[seed, episode, len(path) :]
            np.testing.assert_allclose(rest, np.broadcast_to(path[-1], rest.shape), atol=1e-3)
    assert 0 < ended < SEEDS * EPISODES, "some must end and some must not"


def test_an_episode_stops_at_its_terminal_or_the_clock(found):
    terminal = (found.observations[:, :, 1:, 0] > 0.5).any(axis=-1)
    assert (found.lengths[~terminal] == STEPS).all()
    on_the_way = (found.lengths > 1) & (found.lengths < STEPS)
    assert terminal[on_the_way].all()
    assert on_the_way.any()
    assert not terminal.all()


def test_a_path_ends_in_its_terminal_state(found):
    ended = found.lengths < STEPS
    assert (found.observations[ended][:, -1, 0] > 0.5).all()
    assert (found.observations[~ended][:, 1:-1, 0] <= 0.5).all()


def test_no_two_episodes_of_any_seed_start_alike(found):
    starts = found.observations[:, :, 0].reshape(-1, 4)
    assert len(np.unique(starts, axis=0)) == SEEDS * EPISODES


def test_the_same_seed_gives_the_same_result_and_another_seed_another(task):
    """Policies that draw noise included; observations are kept only when asked for."""
    shaking = policies(0.5)
    first, again, other = (
        run_episodes(shaking, task, seeds=SEEDS, episodes=EPISODES, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.returns, again.returns)
    assert not np.isclose(first.returns, other.returns).any()
    assert first.observations is None
    assert first.returns.shape == first.lengths.shape == (SEEDS, EPISODES)


def test_when_all_have_ended_nothing_is_stepped_further(task):
    """Everyone starts west of 2: the first step ends all."""
    at_once = dataclasses.replace(task, termination=lambda before, actions, after: after[..., 0] < 2)
    found = run_episodes(policies(), at_once, seeds=SEEDS, episodes=2, seed=0, keep_observations=True)
    assert (found.lengths == 1).all()
    assert found.observations.shape == (SEEDS, 2, 2, 4)


class Earner(Policy):
    """Stands still, and remembers what it is told of."""

    unit: Any

    def start(self, batch_size):
        return jnp.zeros(batch_size), jnp.zeros((batch_size, 2))

    def act(self, observations, memory, *, key):
        told, _ = memory
        return 0 * observations[:, :2] + 0.1 * told[:, None] / (1 + jnp.abs(told[:, None])), (
            told,
            observations[:, :2],
        )

    def observe(self, memory, rewards):
        told, at = memory
        return told + self.unit * rewards, at


def test_a_policy_is_told_of_each_reward_of_its_own_systems_and_acts_on_it(task):
    """By hand, one system at a time; seeds that take rewards by another sign are driven the other way."""
    units = jnp.array([1.0, -1.0])
    earners = eqx.filter_vmap(Earner)(units)
    short = dataclasses.replace(task, max_steps=10)
    found = run_episodes(earners, short, seeds=2, episodes=2, seed=3)
    starts = make_simulator(short, 4).reset(np.random.default_rng(3)).reshape(2, 2, 4)
    for seed, episode in np.ndindex(2, 2):
        simulator = make_simulator(short, 1, threads=1)
        simulator.set_state(starts[seed, episode][None])
        told, total = 0.0, 0.0
        for _ in range(10):
            force = np.full((1, 2), 0.1 * told / (1 + abs(told)), np.float32)
            _, reward, termination = simulator.step(force)
            told, total = told + float(units[seed] * reward[0]), total + float(reward[0])
            if termination[0]:
                break
        assert told != 0
        np.testing.assert_allclose(found.returns[seed, episode], total, rtol=1e-4)


def test_a_policy_that_does_not_heed_rewards_is_told_nothing(task, monkeypatch):
    monkeypatch.setattr("langevin.evaluation.episodes.observe_all", None)
    assert not heeds_rewards(policies())
    run_episodes(policies(), dataclasses.replace(task, max_steps=2), seeds=SEEDS, episodes=1, seed=0)
