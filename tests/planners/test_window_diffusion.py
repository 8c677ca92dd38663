"""The diffusion of windows that planners share: scales, contexts, guidance, plans that are drawn and renewed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import WindowBatch
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.prediction import DDPM
from langevin.nets.contextual_unet import ContextualUNet
from langevin.planners.receding import RecedingPlanner
from langevin.planners.window_diffusion import Chain, Scale, WindowDiffusion, WindowTraining
from langevin.training.programs import COMPILE_QUICKLY

HORIZON, SIZE, ACTION = 6, 3, 2
TRAINING = WindowTraining(
    process="ddpm", chain=Chain(8, predicts="clean"), normalizer="gaussian", horizon=HORIZON, width=8,
    multipliers=(1, 1), contexts=2, batch_size=4, first_action_weight=10.0,
)  # fmt: skip
RNG = np.random.default_rng(0)
OBSERVATIONS = (5 + 3 * RNG.normal(size=(64, SIZE))).astype(np.float32)
ACTIONS = RNG.uniform(-2, 1, (64, ACTION)).astype(np.float32)


@pytest.fixture(scope="module")
def state():
    make = eqx.filter_jit(TRAINING.init, compiler_options=COMPILE_QUICKLY)
    return make(jnp.asarray(OBSERVATIONS), jnp.asarray(ACTIONS), key=jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    mask = np.ones((4, HORIZON), bool)
    mask[3, 4:] = False
    rows = RNG.integers(0, 50, 4)[:, None] + np.arange(HORIZON)
    return WindowBatch(
        jnp.asarray(OBSERVATIONS[rows]),
        jnp.asarray(ACTIONS[rows]),
        jnp.zeros((4, HORIZON)),
        jnp.asarray(mask),
    )


def test_rows_are_z_scored_and_their_range_is_that_of_the_data(state):
    scale = state.scale
    rows = scale.rows(jnp.asarray(OBSERVATIONS), jnp.asarray(ACTIONS))
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(scale.low, rows.min(0), atol=1e-6)
    np.testing.assert_allclose(scale.high, rows.max(0), atol=1e-6)
    np.testing.assert_allclose(scale.observations(rows), OBSERVATIONS, rtol=1e-5)
    np.testing.assert_allclose(scale.actions(rows), ACTIONS, atol=1e-5)


def test_an_absent_context_has_no_say_and_a_present_one_has(state):
    network = state.diffusion.network
    rows, noise = jax.random.normal(jax.random.key(1), (HORIZON, 2 * SIZE + ACTION + 1)), jnp.float32(0.1)
    say = lambda values, present: np.asarray(network.told(jnp.array(values), jnp.array(present))(rows, noise))
    np.testing.assert_array_equal(say([0.3, 9.0], [True, False]), say([0.3, -5.0], [True, False]))
    assert np.abs(say([0.3, 9.0], [True, True]) - say([0.3, -5.0], [True, True])).max() > 1e-6
    assert np.abs(say([0.3, 9.0], [True, False]) - say([0.3, 9.0], [False, False])).max() > 1e-6


def test_contexts_are_left_out_independently_of_one_another():
    """All three of them for an eighth of the samples at one half."""
    present = np.asarray(WindowTraining().drawn_contexts(jnp.zeros((40_000, 3)), key=jax.random.key(0)))
    shares = np.bincount(present @ [1, 2, 4], minlength=8) / len(present)
    np.testing.assert_allclose(shares, 1 / 8, atol=0.008)


def test_the_first_action_counts_tenfold_and_held_and_padded_entries_never(state, batch):
    """A network that says 0 everywhere: a clean sample's error is then the sample itself."""
    silent = jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if eqx.is_array(leaf) else leaf, state.diffusion.network
    )
    found = TRAINING.loss(silent, state.scale, batch, jnp.zeros((4, 2)), key=jax.random.key(2))
    clean = np.asarray(state.scale.rows(batch.observations, batch.actions))
    counted = np.broadcast_to(np.asarray(batch.mask)[:, :, None], clean.shape).copy()
    counted[:, 0, :SIZE] = False
    weights = np.ones(clean.shape)
    weights[:, 0, SIZE:] = 10
    expected = (weights * clean**2)[counted].sum() / counted.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class Telling(ContextualUNet):
    """In place of the network: everywhere the sum of the contexts that are present."""

    def __init__(self):
        self.unet, self.embeddings = None, (None, None)  # pyright: ignore[reportAttributeAccessIssue]

    def told(self, values, present):
        return lambda rows, noise: jnp.full((HORIZON, SIZE + ACTION), jnp.where(present, values, 0.0).sum())


SCALE = Scale(
    GaussianNormalizer(jnp.zeros(SIZE), jnp.ones(SIZE)), GaussianNormalizer(jnp.zeros(ACTION), jnp.ones(ACTION)),
    jnp.full(SIZE + ACTION, -2.0), jnp.full(SIZE + ACTION, 2.0),
)  # fmt: skip
TELLING = WindowDiffusion(Telling(), DDPM(Chain(8).ddpm().schedule, "clean"), SCALE, HORIZON, 1, True)


@pytest.mark.parametrize(
    ("contexts", "weight", "expected"),
    [(None, 0.0, 0.0), ([0.3, 0.4], 0.0, 0.7), ([0.3, 0.4], 0.9, 1.9 * 0.7), ([3.0, 0.4], 0.0, 2.0)],
)
def test_guidance_goes_past_what_is_told_by_its_weight_and_stays_in_the_range(contexts, weight, expected):
    """(1 + w) D(told) - w D(untold), with D(untold) = 0: a sign turned round would give 0.9 x less, not more."""
    condition = jnp.zeros((HORIZON, SIZE))
    contexts = None if contexts is None else jnp.array(contexts)
    denoise = TELLING.denoiser(condition, contexts, weight)
    found = denoise(jnp.ones((HORIZON, SIZE + ACTION)), jnp.int32(3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def policy(**settings):
    sampling = settings.pop("sampling", ChainSampling("ancestral", 8))
    return RecedingPlanner(
        TELLING, sampling.sampler(TELLING.process.schedule), -jnp.ones(ACTION), jnp.ones(ACTION),
        contexts=jnp.array([0.2, 0.3]), **settings,
    )  # fmt: skip


def test_a_plan_begins_where_each_system_is_and_its_actions_are_bounded():
    planner = eqx.tree_at(lambda p: p.contexts, policy(), jnp.array([0.7, 0.9]))
    observations = jnp.array([[0.1, 0.2, 0.3], [-1.0, 0.5, 0.0]])
    actions, memory = planner.act(observations, planner.start(2), key=jax.random.key(0))
    np.testing.assert_allclose(memory.rows[:, 0, :SIZE], observations)
    np.testing.assert_allclose(memory.rows[:, 1:], 1.6, rtol=1e-5)
    np.testing.assert_allclose(actions, 1.0)


def test_plans_are_renewed_only_when_due():
    planner = policy(replan_every=3)
    memory, starts = planner.start(1), []
    for step in range(7):
        _, memory = planner.act(jnp.full((1, SIZE), 0.1 * step), memory, key=jax.random.key(step))
        starts.append(float(memory.rows[0, 0, 0]))
    np.testing.assert_allclose(starts, [0, 0, 0, 0.3, 0.3, 0.3, 0.6], atol=1e-6)


def test_of_the_candidates_the_highest_ranked_is_followed():
    """Plans of a model that answers with its noise: all differ, and the rank is the last action."""

    class Echo(Telling):
        def told(self, values, present):
            return lambda rows, noise: rows[:, : SIZE + ACTION]

    echo = eqx.tree_at(lambda p: p.windows.network, policy(candidates=16), Echo())
    last = lambda rows: rows[-1, -1]
    key, observation = jax.random.key(3), jnp.zeros(SIZE)
    several = [float(last(echo.best(observation, None, key=key))) for key in jax.random.split(key, 16)]
    ranked = eqx.tree_at(lambda p: p.rank, echo, last, is_leaf=lambda leaf: leaf is None)
    best = float(last(ranked.best(observation, None, key=jax.random.key(3))))
    assert best > np.mean(several) + np.std(several)


def test_a_renewed_plan_begins_at_what_is_left_of_the_last_one():
    """One renewed step of a model that answers with what it sees: the guess shows through, its rows moved on."""

    class Echo(Telling):
        def told(self, values, present):
            return lambda rows, noise: rows[:, : SIZE + ACTION]

    warm = policy(sampling=ChainSampling("ddim", 8, renewed_steps=1), replan_every=2)
    warm = eqx.tree_at(lambda p: p.windows.network, warm, Echo())
    rows = jnp.linspace(-1.0, 1.0, HORIZON)[None, :, None] * jnp.ones((1, 1, SIZE + ACTION))
    memory = eqx.tree_at(lambda m: (m.rows, m.age), warm.start(1), (rows, jnp.int32(2)))
    renewed = warm.renew(jnp.zeros((1, SIZE)), memory, key=jax.random.key(0))
    left = np.asarray(rows)[0, [2, 3, 4, 5, 5, 5], -1]
    assert np.corrcoef(np.asarray(renewed)[0, :, -1], left)[0, 1] > 0.9
    fresh = warm.renew(jnp.zeros((1, SIZE)), warm.start(1), key=jax.random.key(0))
    assert np.abs(np.asarray(fresh)[0, :, -1] - left).max() > 0.3
