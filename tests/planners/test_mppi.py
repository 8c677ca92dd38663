"""MPPI in systems whose best plan is known: exponential tilting has a closed form for a linear return."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.planners.mppi import ActionPlan, MPPIPolicy, Search
from tests.known_models import distance_reward, linear_ensemble, linear_reward, never

STEP = 0.1
LAW = linear_ensemble(*[((0, STEP, 0), (0, 0, -20))] * 2)
"""s' = s + 0.1 a, and both members know it."""


def policy(reward, *, termination=never, bound=1.0, **settings):
    return MPPIPolicy(LAW, reward, jnp.full(1, -bound), jnp.full(1, bound), termination, Search(**settings))


@eqx.filter_jit
def act(policy, observations, memory, seed=0):
    return policy.act(observations, memory, key=jax.random.key(seed))


def test_on_a_linear_return_the_plan_is_the_noise_tilted_by_its_covariance():
    """With return c.a and noise N(0, C), weights exp(c.a / lambda) move the mean to C c / lambda. Three steps from s
    pay s0 + s1 + s2: c = 0.1 (2, 1, 0), so the last action moves by its correlation with the others alone."""
    planner = policy(
        linear_reward(1.0, 0.0), horizon=3, candidates=20_000, temperature=0.03, noise=0.1, correlation=0.5
    )
    covariance = 0.1**2 * np.array([[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]])
    tilted = covariance @ (STEP * np.array([2, 1, 0])) / 0.03
    actions, memory = act(planner, jnp.array([[0.7]]), planner.start(1))
    np.testing.assert_allclose(actions[0], tilted[0], atol=4e-3)
    np.testing.assert_allclose(memory.actions[0, :, 0], tilted[[1, 2, 2]], atol=4e-3)


def test_candidates_are_the_last_plan_with_noise_of_that_spread_in_half_ranges_and_within_the_bounds():
    planner = policy(
        linear_reward(1.0, 0.0), bound=4.0, horizon=3, candidates=20_000, noise=0.1, correlation=0.8
    )
    plan = ActionPlan(jnp.array([[[0.0], [1.0], [-2.0]]]))
    tried = np.asarray(planner.candidates(plan, key=jax.random.key(0)))[0, :, :, 0]
    np.testing.assert_allclose(tried.mean(axis=0), [0.0, 1.0, -2.0], atol=0.01)
    correlations = [[1, 0.8, 0.64], [0.8, 1, 0.8], [0.64, 0.8, 1]]
    np.testing.assert_allclose(np.cov(tried.T), 0.4**2 * np.array(correlations), atol=0.005)
    edge = planner.candidates(ActionPlan(jnp.full((1, 3, 1), 4.0)), key=jax.random.key(0))
    assert float(edge.max()) == 4.0


def test_a_bandits_best_action_is_found_in_a_few_steps():
    """Paid -|a - 0.6|, whatever the state: from the middle of the range the plan comes to 0.6 and stays."""
    planner = policy(distance_reward(0.0, 1.0, 0.6), horizon=1, candidates=256, temperature=0.02, noise=0.3)
    memory = planner.start(1)
    for seed in range(4):
        actions, memory = act(planner, jnp.zeros((1, 1)), memory, seed)
    np.testing.assert_allclose(actions[0, 0], 0.6, atol=0.05)


def test_the_search_starts_from_the_last_plan_one_step_on():
    """With next to no noise the plan cannot change: what was planned is done, one action after the other."""
    planner = policy(linear_reward(1.0, 0.0), horizon=3, candidates=4, noise=1e-6)
    memory = ActionPlan(jnp.array([[[0.1], [0.2], [0.3]], [[-0.5], [0.0], [0.5]]]))
    done = []
    for _ in range(4):
        actions, memory = act(planner, jnp.zeros((2, 1)), memory)
        done.append(np.asarray(actions)[:, 0])
    np.testing.assert_allclose(np.transpose(done), [[0.1, 0.2, 0.3, 0.3], [-0.5, 0.0, 0.5, 0.5]], atol=1e-5)


def test_rewards_after_a_terminal_do_not_count():
    """From 0.25 up at 1 a step, s is 0.25, 0.35, 0.45 …; the transition that arrives above 0.4 ends it."""
    planner = policy(linear_reward(1.0, 0.0), termination=lambda before, actions, after: after[..., 0] > 0.4,
                     horizon=4, candidates=1)  # fmt: skip
    candidates = jnp.array([1.0, -1.0])[None, :, None, None] * jnp.ones((1, 2, 4, 1))
    returns = planner.returns(jnp.array([[0.25]]), candidates, key=jax.random.key(0))
    np.testing.assert_allclose(returns[0], [0.25 + 0.35, 0.25 + 0.15 + 0.05 - 0.05], rtol=1e-4)


def drive(planner, *, warm, steps=40):
    """Sum of -|s - 1| on the way from 0 to 1, with the plan kept from step to step or forgotten."""

    def advance(carry, key):
        state, memory = carry
        actions, memory = planner.act(state, memory if warm else planner.start(8), key=key)
        return (state + STEP * actions, memory), -jnp.abs(state - 1.0).mean()

    first = jnp.zeros((8, 1)), planner.start(8)
    _, rewards = jax.lax.scan(advance, first, jax.random.split(jax.random.key(1), steps))
    return rewards.sum()


def test_it_beats_its_own_noise_and_keeping_the_plan_beats_forgetting_it():
    """The best there is: full speed for ten steps, then standing, costs 1 + 0.9 + … + 0.1 = 5.5."""
    planner = policy(distance_reward(1.0, 0.0, 1.0), horizon=8, candidates=32, temperature=0.05, noise=0.4)
    blind = dataclasses.replace(planner, search=dataclasses.replace(planner.search, temperature=1e6))
    run = eqx.filter_jit(drive)
    kept, forgotten = float(run(planner, warm=True)), float(run(planner, warm=False))
    noise = float(run(blind, warm=True))
    assert -7.5 < kept <= -5.5 + 1e-3
    assert kept > forgotten + 1 > noise + 5


def test_each_system_of_a_batch_has_a_search_of_its_own():
    planner = policy(distance_reward(1.0, 0.0, 1.0), horizon=4, candidates=256, temperature=0.02, noise=0.5)
    actions, _ = act(planner, jnp.array([[0.0], [2.0]]), planner.start(2))
    assert actions[0, 0] > 0.2
    assert actions[1, 0] < -0.2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"temperature": 0.0}, r"temperature must be greater than 0, got 0\.0"),
        ({"noise": -0.1}, r"noise must be greater than 0, got -0\.1"),
        ({"correlation": 1.0}, r"correlation must lie between 0 and 0\.999, got 1\.0"),
    ],
)
def test_a_search_that_cannot_work_is_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Search(**settings)
