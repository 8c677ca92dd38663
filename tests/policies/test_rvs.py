"""RvS: its loss in NumPy, which outcomes are drawn, and that what is commanded comes about."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.policies.rvs import OutcomeBatch, RvS, sample_outcomes
from langevin.training.algorithms import rvs
from tests.policies import by_hand
from tests.policies.toy_episodes import bandit, joined, line, system_of_log

LEARNER = RvS(learning_rate=1e-2, width=16, depth=1, dropout=0.0)


def config(condition, **settings):
    return rvs.RvSConfig(steps=300, condition=condition, batch_size=64, learner=LEARNER, **settings)


def learn(settings, trajectories, task=None):
    """The state after training, and the stage."""
    stage = rvs.stages(settings, system_of_log(trajectories, task))[0]
    data = rvs.prepare(settings, trajectories)

    @eqx.filter_jit
    def train(data, key):
        def update(state, step):
            return stage.update(state, data, {}, step=step, key=jax.random.fold_in(key, step))

        return jax.lax.scan(update, stage.init(data, {}, key=key), jnp.arange(settings.steps))[0]

    return train(data, jax.random.key(0)), stage


def act(policy, observations):
    return np.asarray(policy.act(jnp.asarray(observations), None, key=jax.random.key(0))[0])


def test_the_loss_is_the_squared_error_of_the_action_given_both_z_scored():
    batch = by_hand.make_batch()
    outcomes = np.linspace(-3, 5, by_hand.ROWS, dtype=np.float32)[:, None]
    data = rvs.Outcomes(
        batch.observations, batch.actions, jnp.asarray(outcomes), jnp.arange(by_hand.ROWS), jnp.zeros(1)
    )
    state = LEARNER.init(by_hand.make_spec(), data, key=jax.random.key(0))
    inputs = [by_hand.standard(batch.observations), (outcomes - outcomes.mean()) / outcomes.std()]
    predicted = by_hand.squashed(by_hand.forward(state.actor.network, np.concatenate(inputs, axis=1)))
    expected = ((predicted - np.asarray(batch.actions)) ** 2).mean()
    rows = OutcomeBatch(batch.observations, batch.actions, data.outcomes)
    np.testing.assert_allclose(LEARNER.loss(state.actor, state, rows, key=None), expected, rtol=1e-5)


def test_dropout_is_on_in_training_and_off_at_act_time():
    learner = dataclasses.replace(LEARNER, dropout=0.5)
    settings = dataclasses.replace(config("return"), learner=learner)
    data = rvs.prepare(settings, bandit())
    spec = dataclasses.replace(by_hand.make_spec(), observation_size=2, action_size=1)
    spec = eqx.tree_at(
        lambda s: (s.action_low, s.action_high, s.observation_normalizer), spec,
        (-jnp.ones(1), jnp.ones(1), GaussianNormalizer.fit(data.observations)),
    )  # fmt: skip
    state = learner.init(spec, data, key=jax.random.key(0))
    batch = sample_outcomes(data, 16, key=jax.random.key(0))
    losses = {float(learner.loss(state.actor, state, batch, key=jax.random.key(seed))) for seed in range(4)}
    assert len(losses) == 4
    policy = learner.policy(state, state.command)
    np.testing.assert_array_equal(act(policy, batch.observations), act(policy, batch.observations))


def test_a_goal_is_a_place_the_rest_of_the_episode_came_to_each_equally_likely():
    data = rvs.prepare(config("goal"), line(episodes=2, length=4))
    numbered = eqx.tree_at(lambda d: d.observations, data, jnp.arange(8.0)[:, None] * jnp.ones(4))
    numbered = eqx.tree_at(lambda d: d.outcomes, numbered, jnp.arange(1.0, 9.0)[:, None] * jnp.ones(2))
    batch = sample_outcomes(numbered, 20_000, key=jax.random.key(0))
    rows, goals = np.asarray(batch.observations[:, 0], int), np.asarray(batch.outcomes[:, 0], int)
    counts = np.zeros((8, 9))
    np.add.at(counts, (rows, goals), 1)
    for row in range(8):
        end = 4 if row < 4 else 8
        later = counts[row, row + 1 : end + 1]
        assert counts[row].sum() == later.sum(), "never before the row, never of another episode"
        assert later.min() > 0.85 * later.mean()


def test_the_places_are_those_that_the_rows_led_to():
    data, log = rvs.prepare(config("goal"), line()), line()
    np.testing.assert_array_equal(data.outcomes, log.next_observations[:, :2])


def test_a_high_command_gives_the_action_that_earns_and_a_low_one_the_one_that_does_not():
    log = bandit(length=1)
    state, stage = learn(config("return"), log)
    states = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    for command, action in ((1.0, 0.5), (0.0, -0.5)):
        np.testing.assert_allclose(act(LEARNER.policy(state, jnp.full(1, command)), states), action, atol=0.1)
    # Half of the episodes earn 1, so the best decile does: the policy of the stage asks for that.
    np.testing.assert_allclose(act(stage.policy(state, {}), states), 0.5, atol=0.1)


def test_the_command_is_the_best_decile_of_the_episodes_or_what_is_set():
    states, rewards = np.zeros((11, 2, 2)), np.arange(11.0)
    log = joined(states, np.zeros((11, 1)), rewards)
    np.testing.assert_allclose(rvs.prepare(config("return"), log).command, [9.0])
    np.testing.assert_allclose(rvs.prepare(config("return", target_reward=3.5), log).command, [3.5])


def test_the_commanded_side_is_reached():
    """The U-Maze's goal lies on the left; where goals are shown, each observation says which side."""
    state, stage = learn(config("goal"), line(), get_task("pointmaze/umaze"))
    middle = np.zeros((5, 4), np.float32)
    np.testing.assert_allclose(act(stage.policy(state, {}), middle)[:, 0], -0.8, atol=0.15)
    right = LEARNER.policy(state, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(act(right, middle)[:, 0], 0.8, atol=0.15)
    shown = rvs.stages(config("goal"), system_of_log(line(), get_task("pointmaze/multi-umaze")))[0]
    sides = np.array([-1.0, 1.0, 1.0, -1.0, 1.0], np.float32)
    both = np.concatenate([middle, sides[:, None], np.zeros((5, 1), np.float32)], axis=1)
    np.testing.assert_allclose(act(shown.policy(state, {}), both)[:, 0], 0.8 * sides, atol=0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (config("goal"), "task logged has no goal to command"),
        (config("goal", target_reward=1.0), "task logged has no goal"),
    ],
)
def test_a_goal_needs_a_task_that_has_one(settings, message):
    with pytest.raises(UsageError, match=message):
        rvs.stages(settings, system_of_log(bandit()))


def test_a_target_reward_is_refused_where_a_goal_is_commanded():
    with pytest.raises(UsageError, match="target_reward is commanded with"):
        rvs.stages(config("goal", target_reward=1.0), system_of_log(line(), get_task("pointmaze/umaze")))


@pytest.mark.parametrize("settings", [{"width": 0}, {"depth": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_bad_settings_are_refused_by_name(settings):
    with pytest.raises(UsageError, match=f"{next(iter(settings))} must be at least"):
        RvS(**settings)
