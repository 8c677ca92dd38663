"""DMEMM's losses by hand, what they leave alone, and that plans come to obey a linear system."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import WindowBatch
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.training import DiffusionOptimizer
from langevin.errors import UsageError
from langevin.planners.dmemm import DMEMMTraining, predicted_returns, transition_errors
from langevin.planners.dual_guidance import DualGuidance
from langevin.planners.mechanism import Mechanism
from langevin.planners.window_diffusion import Chain, Scale, WindowState, WindowTraining
from langevin.training.programs import COMPILE_QUICKLY
from tests.planners.small_mechanism import ACTION, ACTIONS, OBSERVATIONS, SIZE, linear_mechanism, mechanism
from tests.policies.by_hand import forward

HORIZON, CHANNELS, WINDOWS = 6, SIZE + ACTION, 4
WINDOW_TRAINING = WindowTraining(
    process="ddpm", chain=Chain(10, predicts="noise"), normalizer="gaussian", horizon=HORIZON, goal_size=1,
    shortest=2, width=8, multipliers=(1,), kernel=3, batch_size=WINDOWS, first_action_weight=3.0,
)  # fmt: skip
TRAINING = DMEMMTraining(WINDOW_TRAINING)
MECHANISM = mechanism()
KEY = jax.random.key(5)
WEIGHTS = jnp.array([1.0, 0.3, 0.05, 0.7])


def compiled(function):
    return eqx.filter_jit(function, compiler_options=COMPILE_QUICKLY)


@pytest.fixture(scope="module")
def network():
    """With a last layer large enough to matter."""
    state = WINDOW_TRAINING.init(jnp.asarray(OBSERVATIONS), jnp.asarray(ACTIONS), key=jax.random.key(0))
    return eqx.tree_at(lambda n: n.unet.last.weight, state.diffusion.network, replace_fn=lambda x: 100 * x)


@pytest.fixture(scope="module")
def batch():
    """The last window is padded after four rows."""
    rows = np.array([3, 40, 77, 120])[:, None] + np.arange(HORIZON)
    mask = np.ones((WINDOWS, HORIZON), bool)
    mask[3, 4:] = False
    rewards = np.random.default_rng(2).normal(size=(WINDOWS, HORIZON)).astype(np.float32)
    arrays = OBSERVATIONS[rows], ACTIONS[rows], rewards, mask
    return WindowBatch(*map(jnp.asarray, arrays))


def examples_and_noised(training, network, batch):
    known_key, _, noise_key = jax.random.split(KEY, 3)
    examples = training.windows.examples(MECHANISM.scale, batch, key=known_key)
    return examples, training.noised(network, examples, key=noise_key)


def silu(x):
    return x / (1 + np.exp(-x))


def elite_means(rows):
    """The z-scored state after each row: the mean of members 2 and 0, from inputs clipped to the data."""
    scales = MECHANISM.dynamics.scales
    part = lambda normalizer: [np.asarray(leaf, np.float64) for leaf in (normalizer.mean, normalizer.std)]
    (centre, spread), (action_centre, action_spread) = (
        part(MECHANISM.scale.observation),
        part(MECHANISM.scale.action),
    )
    observations = np.clip(
        rows[..., :SIZE] * spread + centre, scales.observation_low, scales.observation_high
    )
    actions = np.clip(rows[..., SIZE:] * action_spread + action_centre, scales.action_low, scales.action_high)
    mean, std = part(scales.observation)
    action_mean, action_std = part(scales.action)
    inputs = np.concatenate([(observations - mean) / std, (actions - action_mean) / action_std], axis=-1)
    network = MECHANISM.dynamics.members.networks.network
    change = np.mean([forward(network, inputs, silu, member)[..., :SIZE] for member in (2, 0)], axis=0)
    change_mean, change_std = part(scales.change)
    return (observations + change * change_std + change_mean - mean) / std


def rewards_by_hand(rows):
    scale, reward = MECHANISM.scale, MECHANISM.reward
    rows = np.clip(rows, scale.low, scale.high)
    observations = rows[..., :SIZE] * np.asarray(scale.observation.std) + np.asarray(scale.observation.mean)
    actions = rows[..., SIZE:] * np.asarray(scale.action.std) + np.asarray(scale.action.mean)
    normalizer = reward.observation_normalizer
    standard = (observations - np.asarray(normalizer.mean)) / np.asarray(normalizer.std)
    return forward(reward.network, np.concatenate([standard, actions], axis=-1), np.tanh)[..., 0]


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({}, 4),
        ({"transition_weight": 0.0}, 4),
        ({"reward_weight": 0.0, "level_weights": False}, 4),
        ({"judged_share": 0.5}, 2),
    ],
)
def test_the_loss_is_equation_12_by_hand(network, batch, changes, judged):
    """Eq. 11 over all windows, Eqs. 9 and 10 over those judged, each divided by its number of counted entries."""
    training = dataclasses.replace(TRAINING, **changes)
    found, parts = compiled(training.loss)(network, batch, WEIGHTS, MECHANISM, key=KEY)
    examples, noised = compiled(examples_and_noised)(training, network, batch)
    clean, held, values = (
        np.asarray(leaf, np.float64) for leaf in (examples.clean, examples.constraints.held, examples.clean)
    )
    held, valid = held.astype(bool), np.asarray(batch.mask)
    assert held[:, 0, :SIZE].all()
    assert (held[:, 1:].sum(axis=(1, 2)) == 1).all(), "one position at the goal"
    counted = valid[:, :, None] & ~held
    outputs, noises, rows = (
        np.asarray(leaf, np.float64) for leaf in (noised.outputs, noised.noises, noised.rows)
    )
    weights = np.asarray(WEIGHTS)[:, None, None] * np.ones(clean.shape)
    weights[:, 0, SIZE:] *= 3
    expected = (weights * (outputs - noises) ** 2)[counted].sum() / counted.sum()  # Eq. 11
    np.testing.assert_allclose(parts["planner/denoising"], expected, rtol=1e-5)

    kept = np.asarray(training.process.schedule.kept, np.float64)[np.asarray(noised.steps)]
    root, noise = np.sqrt(kept)[:, None, None], np.sqrt(1 - kept)[:, None, None]
    np.testing.assert_allclose(rows, np.where(held, values, root * clean + noise * noises), atol=1e-5)
    estimates = np.where(held, values, (rows - noise * outputs) / root)
    levels = kept if training.level_weights else np.ones(WINDOWS)
    entries = counted[:judged].sum()
    errors = (
        estimates[:, 1:, :SIZE] - elite_means(estimates[:, :-1])
    ) ** 2  # scales of rows and models are one
    transition = sum(levels[w] * errors[w][counted[w, 1:, :SIZE]].sum() for w in range(judged)) / entries
    reward = -sum(levels[w] * rewards_by_hand(estimates)[w][valid[w]].sum() for w in range(judged)) / entries
    if training.transition_weight:
        np.testing.assert_allclose(parts["planner/transition"], transition, rtol=2e-5)
    if training.reward_weight:
        np.testing.assert_allclose(parts["planner/reward"], reward, rtol=2e-5, atol=1e-6)
    total = expected + training.transition_weight * transition + training.reward_weight * reward
    np.testing.assert_allclose(found, total, rtol=2e-5)
    named = {"planner/transition": training.transition_weight, "planner/reward": training.reward_weight}
    assert set(parts) == {"planner/denoising", "planner/loss", *(name for name, on in named.items() if on)}


@pytest.mark.parametrize("predicts", ["noise", "clean"])
def test_with_everything_off_the_loss_is_diffusers_on_the_same_chain(network, batch, predicts):
    windows = dataclasses.replace(WINDOW_TRAINING, chain=Chain(10, predicts=predicts))
    plain = DMEMMTraining(windows, return_weights=False, transition_weight=0.0, reward_weight=0.0)
    nobody = Mechanism(None, None, MECHANISM.scale)
    ones = jnp.ones(WINDOWS)
    found, parts = compiled(plain.loss)(network, batch, ones, nobody, key=KEY)
    expected = compiled(windows.loss)(network, MECHANISM.scale, batch, key=KEY)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert set(parts) == {"planner/denoising", "planner/loss"}


def test_a_clean_predictions_estimate_is_the_prediction_with_what_is_held(network, batch):
    training = DMEMMTraining(dataclasses.replace(WINDOW_TRAINING, chain=Chain(10, predicts="clean")))
    examples, noised = examples_and_noised(training, network, batch)
    estimates = training.estimates(network, examples, noised)
    held = np.asarray(examples.constraints.held)
    np.testing.assert_allclose(estimates, np.where(held, examples.clean, noised.outputs), atol=1e-6)


def test_held_and_padded_entries_neither_pull_nor_are_pulled(network, batch):
    """The gradient of both losses by the estimates: none at padding; and held entries are the data's."""
    examples, noised = examples_and_noised(TRAINING, network, batch)
    estimates = TRAINING.estimates(network, examples, noised)
    held = np.asarray(examples.constraints.held)
    np.testing.assert_allclose(np.asarray(estimates)[held], np.asarray(examples.clean)[held], atol=1e-6)
    for loss in (transition_errors, predicted_returns):
        gradient = np.asarray(
            jax.grad(lambda rows, loss=loss: loss(MECHANISM, rows, examples).sum())(estimates)
        )
        assert np.all(gradient[3, 4:] == 0)
        assert np.abs(gradient[3, 1:4]).max() > 0
    spoiled = jax.grad(lambda values: loss_of_outputs(noised._replace(outputs=values), network, examples))(
        noised.outputs
    )
    assert np.all(np.asarray(spoiled)[held] == 0)
    assert np.abs(np.asarray(spoiled)[~held]).max() > 0


def loss_of_outputs(noised, network, examples):
    estimates = TRAINING.estimates(network, examples, noised)
    return (
        transition_errors(MECHANISM, estimates, examples).sum()
        - predicted_returns(MECHANISM, estimates, examples).sum()
    )


@pytest.mark.parametrize("estimator", ["posterior_mean", "proposition_1"])
def test_each_modulation_alone_pulls_at_the_network(network, batch, estimator):
    """Windows of no weight leave only Eq. 9, and only Eq. 10."""
    for name in ("transition_weight", "reward_weight"):
        off = {"transition_weight": 0.0, "reward_weight": 0.0} | {name: 1.0}
        training = dataclasses.replace(TRAINING, estimator=estimator, judged_share=0.5, **off)
        gradient = compiled(
            eqx.filter_grad(lambda n, t=training: t.loss(n, batch, 0 * WEIGHTS, MECHANISM, key=KEY)[0])
        )(network)
        sizes = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient.unet)]
        assert min(sizes) > 0, "every layer"


def test_proposition_1_enters_the_loss_as_its_estimates_each_as_much_as_another(network, batch):
    """As the paper has it: only the posterior mean counts by abar_k."""
    training = dataclasses.replace(TRAINING, estimator="proposition_1", reward_weight=0.0)
    examples, noised = compiled(examples_and_noised)(training, network, batch)
    estimates = compiled(training.estimates)(network, examples, noised)
    errors = np.asarray(transition_errors(MECHANISM, estimates, examples), np.float64)
    _, parts = compiled(training.loss)(network, batch, WEIGHTS, MECHANISM, key=KEY)
    np.testing.assert_allclose(parts["planner/transition"], errors.sum() / examples.counted.sum(), rtol=1e-4)
    unbiased = compiled(TRAINING.estimates)(network, examples, noised)
    assert np.abs(np.asarray(unbiased) - np.asarray(estimates)).max() > 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"windows": WindowTraining()}, 'process must be "ddpm".*got "edm"'),
        (
            {"windows": dataclasses.replace(WINDOW_TRAINING, plans_actions=False)},
            "plans_actions must be true",
        ),
        ({"windows": dataclasses.replace(WINDOW_TRAINING, contexts=2)}, "contexts must be 0.*got 2"),
        ({"transition_weight": -0.1}, "transition_weight must be at least 0"),
        ({"least_weight": 1.5}, "least_weight must lie between 0 and 1"),
        ({"judged_share": -0.5}, "judged_share must lie between 0 and 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        DMEMMTraining(**settings)


GAIN = np.array([[0.0, -0.6], [0.6, 0.0], [0.9, 0.0]])


def circling(windows, key):
    """Windows of the linear system below from random starts under random actions, as z-scored rows."""
    start_key, action_key = jax.random.split(key)
    scales = LINEAR.dynamics.scales
    unit, drift = scales.change.std / scales.observation.std, scales.change.mean / scales.observation.std

    def advance(state, action):
        after = (
            state
            + drift
            + unit * (jnp.concatenate([state, action], axis=-1) @ jnp.asarray(GAIN, jnp.float32))
        )
        return after, jnp.concatenate([state, action], axis=-1)

    start = 0.7 * jax.random.normal(start_key, (windows, SIZE))
    actions = jax.random.uniform(action_key, (HORIZON, windows, ACTION), minval=-1.5, maxval=1.5)
    _, rows = jax.lax.scan(advance, start, actions)
    return jnp.moveaxis(rows, 0, 1)


LINEAR = linear_mechanism(GAIN, np.array([0.05, 0.05]), np.zeros(CHANNELS))


def test_plans_obey_a_linear_system_more_than_those_of_the_same_network_unmodulated():
    """Same windows, keys and updates; few of them, so that the data alone have not taught it all there is."""
    windows = dataclasses.replace(
        WINDOW_TRAINING, chain=Chain(10, predicts="clean"), goal_size=0, batch_size=32, first_action_weight=1.0,
        optimizer=DiffusionOptimizer(5e-3, warmup_steps=10, average_decay=0.9),
    )  # fmt: skip
    scale: Scale = LINEAR.scale
    first = windows.init(jnp.asarray(OBSERVATIONS), jnp.asarray(ACTIONS), key=jax.random.key(0))

    @compiled
    def trained(training):
        def update(state, step):
            window_key, loss_key = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
            rows = circling(32, window_key)
            batch = WindowBatch(
                scale.observations(rows), scale.actions(rows), jnp.zeros((32, HORIZON)),
                jnp.ones((32, HORIZON), bool),
            )  # fmt: skip
            return training.update(state, batch, jnp.ones(32), LINEAR, step=step, key=loss_key)

        return jax.lax.scan(update, WindowState(first.diffusion, scale), jnp.arange(300))[0]

    @compiled
    def violation(state, guidance):
        """Root mean square of z-scored states from where the system would be, over 64 plans."""
        model = windows.finish(state)
        sampler = ChainSampling(steps=10).sampler(
            windows.chain.ddpm().schedule, guidance.guide(LINEAR, windows.chain.ddpm().schedule)
        )

        def plan(row, key):
            constraint, condition = model.known(scale.observations(row))
            return sampler.draw(model.denoiser(condition), constraint, key=key)

        starts = circling(64, jax.random.key(9))[:, 0]
        rows = jax.vmap(plan)(starts, jax.random.split(jax.random.key(2), 64))
        after = jax.vmap(lambda plan: LINEAR.successors(plan[:-1])[0])(rows)
        return jnp.sqrt(jnp.square(jax.vmap(LINEAR.states)(rows)[:, 1:] - after).mean())

    plain = DMEMMTraining(windows, transition_weight=0.0, reward_weight=0.0)
    alone = violation(trained(plain), DualGuidance(0.0))
    taught = trained(dataclasses.replace(plain, transition_weight=1.0))
    assert float(violation(taught, DualGuidance(0.001, reward_weight=0.0))) < 0.7 * float(alone)
