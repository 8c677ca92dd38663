"""The model of whole windows: what it is shown, that it draws a known law, and that a policy bends what it draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import MinMaxNormalizer
from langevin.data.trajectories import Trajectories
from langevin.diffusion.heun import Churn
from langevin.diffusion.schedules import KarrasSchedule
from langevin.diffusion.training import DiffusionOptimizer
from langevin.errors import UsageError
from langevin.imagination.policy_guided import PolicyGuidedWorld, density_of
from langevin.imagination.window_model import WindowModel, WindowModelTraining, experience_windows
from langevin.policies.base import Policy
from langevin.training.programs import COMPILE_QUICKLY

HORIZON, LENGTH, EPISODES, PUSH, UPDATES = 8, 16, 200, 0.3, 1_200
TRAINING = WindowModelTraining(
    optimizer=DiffusionOptimizer(learning_rate=5e-3, decay_steps=UPDATES, average_decay=0.98),
    width=16, multipliers=(1,), batch_size=32,
)  # fmt: skip
SCHEDULE = KarrasSchedule(steps=12, highest=10.0)
DRAWN = 400


def log_of(lengths, terminated, states=None):
    """s' = s + PUSH a, paid 2 s + 5; episodes of these lengths, those that end by themselves and those that are cut."""
    rng = np.random.default_rng(0)
    observations, actions, after = [], [], []
    for length in lengths:
        pushes = np.repeat(rng.uniform(-1, 1, -(-length // 4)), 4)[:length]
        path = rng.uniform(-1, 1) + PUSH * np.concatenate([[0], np.cumsum(pushes)])
        observations.append(path[:-1])
        after.append(path[1:])
        actions.append(pushes)
    observations, actions, after = (
        np.concatenate(parts).astype(np.float32)[:, None] for parts in (observations, actions, after)
    )
    ends, rows = np.cumsum(lengths), int(np.sum(lengths))
    terminations, truncations = np.zeros((2, rows), bool)
    terminations[ends[terminated] - 1] = True
    truncations[ends[~np.asarray(terminated)] - 1] = True
    return Trajectories(
        observations=observations, actions=actions, rewards=2 * observations[:, 0] + 5, next_observations=after,
        terminations=terminations, truncations=truncations, episode_ends=ends,
        action_low=-np.ones(1, np.float32), action_high=np.ones(1, np.float32), metadata={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return experience_windows(log_of([LENGTH] * EPISODES, np.arange(EPISODES) % 2 == 0), HORIZON)


@pytest.fixture(scope="module")
def model(data) -> WindowModel:
    @eqx.filter_jit
    def train(state, data, key):
        def update(state, step):
            return TRAINING.update(state, data, step=step, key=jax.random.fold_in(key, step))

        return jax.lax.scan(update, state, jnp.arange(UPDATES))

    init = eqx.filter_jit(TRAINING.init, compiler_options=COMPILE_QUICKLY)
    state, metrics = train(init(data, key=jax.random.key(0)), data, jax.random.key(0))
    loss = np.asarray(metrics["world_model/loss"])
    assert loss[-50:].mean() < 0.4 * loss[:5].mean()
    return TRAINING.finish(state)


class Push(Policy):
    """Always the same action, certain or with a spread."""

    action: jax.Array
    spread: jax.Array | None = None

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return jnp.broadcast_to(self.action, (observations.shape[0], 1)), None


class SpreadPush(Push):
    def log_prob(self, observations, actions):
        return jax.scipy.stats.norm.logpdf(actions, self.action, self.spread).sum(-1)


@eqx.filter_jit
def imagine(model, policy, strength, spread=0.3):
    world = PolicyGuidedWorld(model, SCHEDULE, Churn(), strength, spread)
    return world.imagine(policy, jnp.zeros((DRAWN, 1)), HORIZON, key=jax.random.key(1))


@pytest.fixture(scope="module")
def unguided(model):
    return imagine(model, Push(jnp.zeros(1)), 0.0)


def test_windows_stay_in_their_episode_and_a_terminal_may_stand_anywhere():
    data = experience_windows(log_of([5, 4, 2], [True, False, True]), 3)
    windows = sorted(zip(np.asarray(data.windows.starts), np.asarray(data.windows.lengths), strict=True))
    first = [(0, 3), (1, 3), (2, 3), (3, 2), (4, 1)]  # ends by itself: also the two it cuts short
    second = [(5, 3), (6, 3)]  # cut by the clock: nothing is known of what follows
    third = [(9, 2), (10, 1)]  # shorter than a window
    assert windows == first + second + third
    rows = np.asarray(data.windows.observations)
    assert rows.shape == (11, 4)
    np.testing.assert_allclose(rows[:, 2], 2 * rows[:, 0] + 5, rtol=1e-5)
    assert np.flatnonzero(rows[:, 3]).tolist() == [4, 10]


def test_drawn_windows_obey_the_law_and_are_paid_by_it(unguided):
    states, actions = np.asarray(unguided.observations), np.asarray(unguided.actions)
    valid = np.asarray(unguided.valid)
    error = (states[:, 1:] - states[:, :-1] - PUSH * actions[:, :-1])[..., 0]
    # a transition that ends its episode leads nowhere: the row after it repeats it
    going_on = valid & ~np.asarray(unguided.terminations)
    spread = states.std()
    assert np.median(np.abs(error[going_on])) < 0.1 * spread
    whole = going_on.all(axis=1)
    travelled, pushed = states[whole, -1, 0] - states[whole, 0, 0], PUSH * actions[whole, :-1, 0].sum(axis=1)
    assert np.corrcoef(travelled, pushed)[0, 1] > 0.85, "where the actions push, the states go"
    assert 0.7 < np.polyfit(pushed, travelled, 1)[0] < 1.3
    paid, due = np.asarray(unguided.rewards)[valid], (2 * states[:, :-1, 0] + 5)[valid]
    assert np.median(np.abs(paid - due)) < 0.2 * due.std()
    assert np.corrcoef(paid, due)[0, 1] > 0.9
    assert np.asarray(unguided.rewards).shape == (DRAWN, HORIZON - 1)


def test_drawn_windows_are_spread_and_end_as_the_datas(data, unguided):
    rows = np.asarray(data.windows.observations)
    states, actions = np.asarray(unguided.observations), np.asarray(unguided.actions)
    assert abs(states.mean() - rows[:, 0].mean()) < 0.25 * rows[:, 0].std()
    assert np.isclose(states.std(), rows[:, 0].std(), rtol=0.15)
    assert np.isclose(actions.std(), rows[:, 1].std(), rtol=0.15)
    # Of the 25 windows of two episodes, 7 have the terminal in a row that has a successor.
    ends = np.asarray(unguided.terminations).any(axis=1).mean()
    assert abs(ends - 7 / 25) < 0.1


def test_no_draw_leaves_the_datas_range_and_what_never_varies_is_kept(data, model):
    rows = data.windows.observations.at[:, 3].set(0.0)
    never_ends = eqx.tree_at(lambda m: m.normalizer, model, MinMaxNormalizer.fit(rows))
    found = imagine(never_ends, Push(jnp.zeros(1)), 0.0)
    assert not np.asarray(found.terminations).any(), "without a terminal in the data there is none"
    columns = found.observations[..., 0], found.actions[..., 0], found.rewards
    for drawn, column in zip(columns, rows.T, strict=False):
        assert column.min() - 1e-5 <= drawn.min() < drawn.max() <= column.max() + 1e-5


@pytest.mark.parametrize("kind", [Push, SpreadPush])
def test_guided_actions_go_to_the_policy_and_the_states_follow(model, unguided, kind):
    policy = kind(jnp.array([0.6]), jnp.float32(0.3))
    guided = imagine(model, policy, 3.0)
    valid = np.asarray(guided.valid) & np.asarray(unguided.valid)
    away = [np.abs(np.asarray(found.actions)[:, :-1, 0] - 0.6)[valid].mean() for found in (unguided, guided)]
    assert away[1] < 0.5 * away[0]
    travelled = [
        (np.asarray(found.observations)[:, 4, 0] - np.asarray(found.observations)[:, 0, 0])[
            valid[:, 4]
        ].mean()
        for found in (unguided, guided)
    ]
    assert travelled[1] > travelled[0] + 4 * PUSH * 0.3


def test_without_strength_the_policy_is_not_asked(model, unguided):
    other = imagine(model, Push(jnp.array([0.9])), 0.0)
    assert eqx.tree_equal(other, unguided)


def test_a_policy_with_a_density_is_asked_for_it_and_one_without_has_a_gaussian_in_the_actions_range(model):
    low, high = jnp.array([-2.0, -4.0, 0.0, 0.0]), jnp.array([2.0, 4.0, 1.0, 1.0])
    model = eqx.tree_at(lambda m: m.normalizer, model, MinMaxNormalizer(low, high))
    rows, actions = jnp.zeros((3, 4)), jnp.array([[0.0], [0.25], [0.5]])
    gaussian = density_of(Push(jnp.array([2.0])), model, 0.5, key=jax.random.key(0))
    # The action 2 is 0.5 where -4 ... 4 is -1 ... 1.
    np.testing.assert_allclose(gaussian(rows, actions), [-0.5, -0.125, 0.0], atol=1e-6)
    own = density_of(SpreadPush(jnp.array([2.0]), jnp.float32(1.0)), model, 0.5, key=jax.random.key(0))
    np.testing.assert_allclose(np.diff(own(rows, actions)), np.diff([-2.0, -0.5, 0.0]), atol=1e-5)


def test_a_model_that_cannot_be_built_is_refused():
    with pytest.raises(UsageError, match="batch_size must be at least 1, got 0"):
        WindowModelTraining(batch_size=0)
    with pytest.raises(UsageError, match="kernel must be odd"):
        WindowModelTraining(kernel=4)
