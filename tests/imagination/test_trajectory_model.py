"""The trajectory diffusion model: what its loss counts, what a refinement keeps, and that it learns a known law."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import WindowBatch, Windows
from langevin.diffusion.heun import Churn
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.diffusion.training import DiffusionOptimizer
from langevin.imagination.refinement import Refinement
from langevin.imagination.trajectory_model import TrajectoryModel, TrajectoryModelTraining, known_entries
from langevin.training.programs import COMPILE_QUICKLY

HORIZON, STEP, UPDATES = 16, 0.3, 1500
TRAINING = TrajectoryModelTraining(
    optimizer=DiffusionOptimizer(learning_rate=5e-3, decay_steps=UPDATES, average_decay=0.98),
    width=16, multipliers=(1,), batch_size=32,
)  # fmt: skip
SCHEDULE = KarrasSchedule(steps=8, highest=10.0)


def drive(starts, actions):
    """s' = s + STEP a."""
    moved = starts[:, None] + STEP * np.cumsum(actions[:, :-1], axis=1)
    return np.concatenate([starts[:, None], moved], axis=1)


def random_drives(count, seed):
    """Pushes that last a few steps, from starts in [-1, 1]."""
    rng = np.random.default_rng(seed)
    actions = np.repeat(rng.uniform(-1, 1, (count, HORIZON // 4, 1)), 4, axis=1)
    return drive(rng.uniform(-1, 1, (count, 1)), actions).astype(np.float32), actions.astype(np.float32)


@pytest.fixture(scope="module")
def windows():
    observations, actions = random_drives(500, 0)
    return Windows(
        observations=jnp.asarray(observations.reshape(-1, 1)),
        actions=jnp.asarray(actions.reshape(-1, 1)),
        rewards=jnp.zeros(500 * HORIZON),
        starts=jnp.arange(500, dtype=jnp.int32) * HORIZON,
        lengths=jnp.full(500, HORIZON, jnp.int32),
        horizon=HORIZON,
    )


@pytest.fixture(scope="module")
def fresh(windows):
    return eqx.filter_jit(TRAINING.init, compiler_options=COMPILE_QUICKLY)(windows, key=jax.random.key(0))


@pytest.fixture(scope="module")
def trained(windows, fresh) -> tuple[TrajectoryModel, dict]:
    @eqx.filter_jit
    def train(state, windows, key):
        def update(state, step):
            return TRAINING.update(state, windows, step=step, key=jax.random.fold_in(key, step))

        return jax.lax.scan(update, state, jnp.arange(UPDATES))

    state, metrics = train(fresh, windows, jax.random.key(0))
    return TRAINING.finish(state), metrics


@eqx.filter_jit
def refine(model, starts, actions, strength, seed, churn=0.0, method="heun"):
    refinement = Refinement(Sampler(method, SCHEDULE, Churn(churn)))
    keys = jax.random.split(jax.random.key(seed), len(starts))
    states = jnp.repeat(starts[:, None], HORIZON, axis=1)
    one = lambda states, actions, key: model.refine(states, actions, refinement, strength, key=key)
    return jax.vmap(one)(states, actions, keys)


def test_everything_known_is_held_and_shown_at_every_row():
    start, actions = jnp.array([0.1, 0.2]), jnp.arange(4.0)[:, None]
    constraint, condition = known_entries(start, actions)
    assert np.asarray(constraint.held).astype(int).tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(condition, [[0.1, 0.2, t] for t in range(4)])
    applied = np.asarray(constraint.apply(jnp.full((4, 3), 9.0)))
    np.testing.assert_allclose(applied, [[0.1, 0.2, 0], [9, 9, 1], [9, 9, 2], [9, 9, 3]])


@pytest.fixture(scope="module")
def batch():
    """Two windows, the second padded after five rows."""
    observations, actions = random_drives(2, 1)
    mask = np.ones((2, HORIZON), bool)
    mask[1, 5:] = False
    return WindowBatch(
        jnp.asarray(observations), jnp.asarray(actions), jnp.zeros((2, HORIZON)), jnp.asarray(mask)
    )


@eqx.filter_jit
def loss_and_gradient(bias, state, batch):
    """The loss as a function of a constant output: a network whose last layer's weights are zero."""
    network = state.diffusion.network

    def loss(bias):
        constant = eqx.tree_at(
            lambda n: (n.last.weight, n.last.bias), network, (0 * network.last.weight, bias)
        )
        return TRAINING.loss(constant, state, batch, key=jax.random.key(4))

    return jax.value_and_grad(loss)(bias)


def spoil(batch, field, rows):
    return eqx.tree_at(lambda b: getattr(b, field), batch, getattr(batch, field).at[rows].set(0.77))


def test_padding_the_start_and_the_actions_never_enter_the_loss(fresh, batch):
    bias = jnp.array([0.3, -0.2])
    value, gradient = loss_and_gradient(bias, fresh, batch)
    assert gradient[0] != 0
    assert gradient[1] == 0, "the network's word on actions does not count"
    for field, rows in {
        "observations": (1, slice(5, None)),
        "actions": (slice(None), slice(None)),
    }.items():
        spoiled, spoiled_gradient = loss_and_gradient(bias, fresh, spoil(batch, field, rows))
        assert spoiled == value, field
        np.testing.assert_array_equal(spoiled_gradient, gradient)
    first = spoil(batch, "observations", (slice(None), 0))
    assert loss_and_gradient(bias, fresh, first)[0] == value, "the first state is given, not learned"
    last_real = spoil(batch, "observations", (1, 4))
    assert loss_and_gradient(bias, fresh, last_real)[0] != value, "the last real row does count"


def test_the_condition_is_dropped_as_often_as_stated(fresh, batch):
    """Where it is dropped, a network that cannot listen does no worse and no better."""
    window = jax.tree.map(lambda leaf: leaf[:1], batch)
    deaf = deafened(fresh.diffusion.network)

    @eqx.filter_jit
    def heard(probability):
        training = dataclasses.replace(TRAINING, drop_probability=probability)

        def one(key):
            return [training.loss(n, fresh, window, key=key) for n in (fresh.diffusion.network, deaf)]

        whole, without = jax.lax.map(one, jax.random.split(jax.random.key(0), 200))
        return (jnp.abs(whole - without) > 1e-6 * whole).mean()  # beyond rounding

    assert heard(1.0) == 0
    assert abs(heard(0.25) - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 200)


def deafened(network):
    """The network without its weights on the condition at data scale (channels after the two noisy ones)."""
    first = network.down[0][0]
    kernel = first.first.convolution.weight.at[:, 2:].set(0.0)
    shortcut = first.residual.weight.at[:, 2:].set(0.0)
    return eqx.tree_at(
        lambda n: (n.down[0][0].first.convolution.weight, n.down[0][0].residual.weight), network,
        (kernel, shortcut),
    )  # fmt: skip


def test_at_strength_zero_the_view_at_data_scale_is_not_used(trained):
    model, _ = trained
    deaf = eqx.tree_at(lambda m: m.network, model, deafened(model.network))
    observations, actions = random_drives(32, 2)
    starts, actions = jnp.asarray(observations[:, 0]), jnp.asarray(actions)
    answers = {
        (name, strength): np.asarray(refine(which, starts, actions, strength, 0))
        for name, which in (("whole", model), ("deaf", deaf))
        for strength in (0.0, 1.0)
    }
    np.testing.assert_array_equal(answers["whole", 0.0], answers["deaf", 0.0])
    assert np.abs(answers["whole", 1.0] - answers["deaf", 1.0]).max() > 0.1


@pytest.mark.parametrize(("strength", "churn"), [(0.0, 0.0), (1.0, 0.0), (0.5, 20.0)])
def test_a_refinement_keeps_its_start_exactly_and_stays_within_the_data(trained, windows, strength, churn):
    model, _ = trained
    observations, actions = random_drives(32, 3)
    starts = jnp.asarray(observations[:, 0]).at[0].set(7.0)  # beyond all data
    refined = refine(model, starts, jnp.asarray(3 * actions), strength, 1, churn)
    np.testing.assert_array_equal(refined[:, 0], starts)
    low, high = windows.observations.min(), windows.observations.max()
    assert np.all((refined[:, 1:] >= low - 1e-5) & (refined[:, 1:] <= high + 1e-5))


def test_a_trained_model_follows_the_law_where_it_obeys_the_actions(trained):
    model, metrics = trained
    loss = np.asarray(metrics["world_model/loss"])
    assert loss[-50:].mean() < 0.3 * loss[:5].mean()
    observations, actions = random_drives(32, 4)
    starts, actions = jnp.asarray(observations[:, 0]), jnp.asarray(actions)
    refined = np.asarray(refine(model, starts, actions, 1.0, 2))
    spread = observations[:, 1:].std()
    error = np.sqrt(np.square(refined - observations)[:, 1:].mean())
    assert error < 0.4 * spread
    half = HORIZON // 2
    travelled = [np.ravel(states[:, -1] - states[:, half]) for states in (refined, observations)]
    assert np.corrcoef(*travelled)[0, 1] > 0.9, "where the actions push, the states go"


@pytest.mark.parametrize("method", ["dpm_solver", "ddim"])
def test_every_sampler_keeps_what_is_known_and_follows_the_same_law(trained, method):
    model, _ = trained
    observations, actions = random_drives(32, 4)
    starts, actions = jnp.asarray(observations[:, 0]), jnp.asarray(actions)
    refined = np.asarray(refine(model, starts, actions, 1.0, 2, method=method))
    np.testing.assert_array_equal(refined[:, 0], starts)
    error = np.sqrt(np.square(refined - observations)[:, 1:].mean())
    assert error < 0.4 * observations[:, 1:].std()


def test_the_finished_model_is_the_average_of_the_weights(fresh):
    other = jax.tree.map(
        lambda leaf: leaf + 1 if eqx.is_inexact_array(leaf) else leaf, fresh.diffusion.average
    )
    state = eqx.tree_at(lambda s: s.diffusion.average, fresh, other)
    assert eqx.tree_equal(TRAINING.finish(state).network, other)


def test_renoising_brings_a_wrong_rollout_nearer_to_the_law_and_leaves_a_true_one_near_it(trained):
    model, _ = trained
    observations, actions = random_drives(32, 5)
    noise = 0.3 * np.random.default_rng(0).normal(size=observations.shape).astype(np.float32)
    noise[:, 0] = 0.0

    @eqx.filter_jit
    def renoise(model, states, actions):
        refinement = Refinement(Sampler("ddim", KarrasSchedule(4, 0.3)), 1)
        one = lambda states, actions, key: model.refine(states, actions, refinement, 1.0, key=key)
        return jax.vmap(one)(states, actions, jax.random.split(jax.random.key(0), len(states)))

    def error(states):
        return np.sqrt(np.square(np.asarray(states) - observations).mean())

    mended = error(renoise(model, jnp.asarray(observations + noise), jnp.asarray(actions)))
    kept = error(renoise(model, jnp.asarray(observations), jnp.asarray(actions)))
    assert mended < 0.7 * error(observations + noise)
    assert kept < 0.6 * error(observations + noise)
