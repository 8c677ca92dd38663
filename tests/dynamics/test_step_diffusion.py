"""ADEPT's world model on systems whose law is known, and its loss against NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.diffusion.training import DiffusionOptimizer
from langevin.dynamics.step_diffusion import (
    NoiseNetwork,
    StepDiffusion,
    StepDiffusionTraining,
    StepScales,
    one_step_errors,
)
from langevin.errors import UsageError
from langevin.nets.embeddings import SinusoidalEmbedding
from langevin.nets.mlp import MLP

NOISE = 0.3
ROWS = 4_000


def linear_system():
    """s' = 0.8 s + 0.5 a + 0.3 z, paid s'; an episode ends where s' > 1."""
    rng = np.random.default_rng(0)
    before, action = rng.normal(size=(ROWS, 1)), rng.uniform(-1, 1, (ROWS, 1))
    after = 0.8 * before + 0.5 * action + NOISE * rng.normal(size=(ROWS, 1))
    ends = (after[:, 0] > 1).astype(np.float32)
    return Transitions(
        *(jnp.asarray(rows, jnp.float32) for rows in (before, action, after[:, 0], ends, after))
    )


DATA = linear_system()


@eqx.filter_jit
def trained(training, state, data, weigh, steps, key):
    """The state after `steps` gradient steps on batches that `weigh` weighs."""
    arrays, rest = eqx.partition(state, eqx.is_array)

    def update(arrays, key):
        rows_key, fit_key = jax.random.split(key)
        rows = jax.random.randint(rows_key, (training.batch_size,), 0, data.size)
        batch = jax.tree.map(lambda leaf: leaf[rows], data)
        state, loss = training.fit(eqx.combine(arrays, rest), batch, weigh(batch), key=fit_key)
        return eqx.filter(state, eqx.is_array), loss

    arrays, losses = jax.lax.scan(update, arrays, jax.random.split(key, steps))
    return eqx.combine(arrays, rest), losses


def by_region(inside, outside, batch):
    """One weight for the rows that begin above 1.5, another for the others."""
    return jnp.where(batch.observations[:, 0] > 1.5, inside, outside)


def weighing(inside, outside):
    return jax.tree_util.Partial(by_region, jnp.float32(inside), jnp.float32(outside))


evenly = weighing(1.0, 1.0)


@pytest.fixture(scope="module", params=[("next_state", 10), ("change", 50)], ids=lambda param: param[0])
def model(request):
    target, diffusion_steps = request.param
    training = StepDiffusionTraining(
        DiffusionOptimizer(learning_rate=4e-3, warmup_steps=50, average_decay=0.98),
        target=target, diffusion_steps=diffusion_steps, width=32, depth=2, guidance=0.0,
    )  # fmt: skip
    state = training.init(DATA, key=jax.random.key(0))
    state, _ = trained(training, state, DATA, evenly, 1_500, jax.random.key(1))
    return training.model(state)


@eqx.filter_jit
def draw(model, before, action, key):
    return model.next_observations(before, action, key=key)


def drawn_std(schedule, std):
    """Of the samples that exact noise would give of a Gaussian: Eq. 1's variances fall short of it in few steps."""
    betas, kept, variance = np.asarray(schedule.betas), np.asarray(schedule.kept, np.float64), 1.0
    for k in reversed(range(len(betas))):
        before = kept[k - 1] if k else 1.0
        clean = np.sqrt(kept[k]) * std**2 / (kept[k] * std**2 + 1 - kept[k])
        slope = (np.sqrt(before) * betas[k] * clean + np.sqrt(1 - betas[k]) * (1 - before)) / (1 - kept[k])
        variance = slope**2 * variance + betas[k] * (1 - before) / (1 - kept[k])
    return np.sqrt(variance)


@pytest.mark.parametrize(("state", "action"), [(1.0, 0.5), (-1.0, -0.5), (0.5, -1.0), (0.0, 1.0)])
def test_it_draws_from_the_law_of_the_next_state_given_state_and_action(model, state, action):
    """The data's next states spread 0.9 about 0 in all; given state and action they spread 0.3 about their mean, of
    which ten denoising steps keep 0.22 and fifty 0.28."""
    drawn = np.asarray(
        draw(model, jnp.full((2_000, 1), state), jnp.full((2_000, 1), action), jax.random.key(2))
    )
    assert float(DATA.next_observations.std()) > 0.85
    assert drawn.mean() == pytest.approx(0.8 * state + 0.5 * action, abs=0.08)
    scale = float(model.scales.diffused.std[0])
    expected = scale * drawn_std(model.schedule, NOISE / scale)
    assert drawn.std() == pytest.approx(expected, rel=0.15)
    assert expected == pytest.approx({10: 0.22, 50: 0.284}[model.schedule.steps], abs=0.005)


def test_reward_and_ending_are_read_off_the_next_state(model):
    after = jnp.linspace(-1.5, 1.5, 41)[:, None]
    rewards, endings = model.outcomes(jnp.zeros((41, 1)), jnp.zeros((41, 1)), after)
    np.testing.assert_allclose(rewards, after[:, 0], atol=0.1)
    clear = np.abs(after[:, 0] - 1) > 0.15
    np.testing.assert_array_equal(np.asarray(endings)[clear], after[clear, 0] > 1)


def test_its_errors_are_those_of_an_exact_model(model):
    """A sample errs by the noise's variance and by its own; the change's is 0.04 + 0.25 / 3 + 0.09."""
    errors = eqx.filter_jit(one_step_errors)(model, DATA, key=jax.random.key(3))
    scale = float(model.scales.diffused.std[0])
    error = NOISE**2 + (scale * drawn_std(model.schedule, NOISE / scale)) ** 2
    change = 0.04 + 0.25 / 3 + NOISE**2
    assert float(errors["world_model/change_error"]) == pytest.approx(error / change, rel=0.1)
    assert float(errors["world_model/reward_error"]) == pytest.approx(
        error / float(DATA.rewards.var()), rel=0.15
    )
    assert 0 < float(errors["world_model/ending_error"]) < 0.15


def sees_flag():
    """A noise network without hidden layers whose answer is 2 where it is told state and action, else 5."""
    network = MLP(1 + 16 + 3, 1, 1, 0, key=jax.random.key(0))
    weight = jnp.zeros((20, 1)).at[-1].set(-3.0)
    network = eqx.tree_at(
        lambda n: (n.layers[0].weight, n.layers[0].bias), network, (weight, jnp.array([5.0]))
    )
    return NoiseNetwork(network, SinusoidalEmbedding(16))


@pytest.mark.parametrize("guidance", [0.0, 0.1, 2.0])
def test_guidance_leads_away_from_what_is_predicted_without_state_and_action(guidance):
    training = StepDiffusionTraining(width=8, depth=1)
    state = training.init(DATA, key=jax.random.key(0))
    networks = eqx.tree_at(lambda n: n.noise, state.diffusion.network, sees_flag())
    model = StepDiffusion(networks, state.scales, training.schedule, guidance, True)
    condition = state.scales.condition(jnp.ones((3, 1)), jnp.ones((3, 1)))
    found = model.noise(jnp.zeros((3, 1)), jnp.int32(4), condition)
    np.testing.assert_allclose(found, (1 + guidance) * 2 - guidance * 5, rtol=1e-6)


@pytest.mark.parametrize("target", ["next_state", "change"])
def test_what_is_diffused_leads_back_to_the_next_state(target):
    scales = StepScales.fit(DATA, target)
    diffused = scales.to_diffused(DATA.observations, DATA.next_observations)
    np.testing.assert_allclose([diffused.mean(), diffused.std()], [0, 1], atol=1e-4)
    np.testing.assert_allclose(
        scales.from_diffused(DATA.observations, diffused), DATA.next_observations, atol=1e-5
    )
    np.testing.assert_allclose(
        [scales.diffused_low[0], scales.diffused_high[0]], [diffused.min(), diffused.max()]
    )


def forward(network, x):
    """A network with silu in float64."""
    *hidden, last = [
        (np.asarray(at.weight, np.float64), np.asarray(at.bias, np.float64)) for at in network.layers
    ]
    for weight, bias in hidden:
        x = x @ weight + bias
        x = x / (1 + np.exp(-x))
    return x @ last[0] + last[1]


def row_losses(training, networks, scales, batch, key):
    """|eps - eps_theta|^2 + (r - r_eta)^2 + cross-entropy of each row, with the draws that the key gives."""
    step_key, noise_key, drop_key = jax.random.split(key, 3)
    steps = np.asarray(jax.random.randint(step_key, (batch.size,), 0, training.diffusion_steps))
    noise = np.asarray(jax.random.normal(noise_key, batch.observations.shape), np.float64)
    present = np.asarray(jax.random.bernoulli(drop_key, 1 - training.drop_probability, (batch.size,)))
    before, action, after = (
        np.asarray(rows, np.float64) for rows in (batch.observations, batch.actions, batch.next_observations)
    )
    standard = lambda normalizer, rows: (rows - np.asarray(normalizer.mean)) / np.asarray(normalizer.std)
    clean = standard(scales.diffused, after - before)
    share = np.arange(training.diffusion_steps + 1) / training.diffusion_steps
    cosine = np.cos((share + training.offset) / (1 + training.offset) * np.pi / 2) ** 2
    kept = np.cumprod(1 - np.minimum(1 - cosine[1:] / cosine[:-1], 0.999))[steps][:, None]
    noisy = np.sqrt(kept) * clean + np.sqrt(1 - kept) * noise
    frequencies = np.geomspace(1e-2, 1.0, 8)
    times = np.concatenate(
        [np.sin(steps[:, None] * frequencies), np.cos(steps[:, None] * frequencies)], axis=1
    )
    told = np.concatenate([standard(scales.observation, before), action, np.ones((batch.size, 1))], axis=1)
    predicted = forward(
        networks.noise.network, np.concatenate([noisy, times, present[:, None] * told], axis=1)
    )
    outcome = forward(
        networks.outcome,
        np.concatenate([standard(scales.observation, before), action, standard(scales.observation, after)], axis=1),
    )  # fmt: skip
    rewards = standard(scales.reward, np.asarray(batch.rewards, np.float64)[:, None])[:, 0]
    ends, logits = np.asarray(batch.terminations, np.float64), outcome[:, 1]
    entropy = np.log1p(np.exp(-logits)) * ends + np.log1p(np.exp(logits)) * (1 - ends)
    return ((noise - predicted) ** 2).mean(axis=1) + (rewards - outcome[:, 0]) ** 2 + entropy


def small_problem():
    training = StepDiffusionTraining(width=8, depth=1, drop_probability=0.4)
    state = training.init(DATA, key=jax.random.key(0))
    batch = jax.tree.map(lambda leaf: leaf[:12], DATA)
    weights = jnp.asarray(np.random.default_rng(1).exponential(size=12), jnp.float32)
    return training, state.diffusion.network, state.scales, batch, weights, jax.random.key(5)


def test_the_loss_is_the_weighted_mean_of_the_rows_losses():
    training, networks, scales, batch, weights, key = small_problem()
    expected = np.mean(np.asarray(weights) * row_losses(training, networks, scales, batch, key))
    np.testing.assert_allclose(training.loss(networks, scales, batch, weights, key=key), expected, rtol=1e-5)


def test_the_gradient_is_the_weighted_mean_of_the_rows_gradients():
    """By finite differences of the loss worked out in float64, in the last bias of each network."""
    training, networks, scales, batch, weights, key = small_problem()
    gradient = eqx.filter_grad(training.loss)(networks, scales, batch, weights, key=key)
    for where in (lambda n: n.noise.network.layers[-1].bias, lambda n: n.outcome.layers[-1].bias):
        found, bias = np.asarray(where(gradient)), np.asarray(where(networks), np.float64)
        for place in range(bias.size):
            values = []
            for sign in (1, -1):
                moved = bias.copy()
                moved[place] += sign * 1e-4
                changed = eqx.tree_at(where, networks, moved)
                values.append(
                    np.mean(np.asarray(weights) * row_losses(training, changed, scales, batch, key))
                )
            np.testing.assert_allclose(found[place], (values[0] - values[1]) / 2e-4, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", ["next_state", "change"])
def test_predictions_are_held_in_the_datas_range_when_they_are_clipped(target):
    """Networks that were never trained draw far from the data."""
    held, loose, free = (
        StepDiffusionTraining(target=target, width=8, depth=1, clip=clip, clip_estimates=estimates)
        for clip, estimates in [(True, True), (False, True), (False, False)]
    )
    state = held.init(DATA, key=jax.random.key(0))
    far = eqx.tree_at(lambda s: s.diffusion.average.outcome.layers[-1].bias, state, jnp.array([50.0, 0.0]))
    low = min(float(DATA.next_observations.min()), float(DATA.observations.min()))
    high = max(float(DATA.next_observations.max()), float(DATA.observations.max()))
    before, action = DATA.observations[:500], DATA.actions[:500]
    drawn = draw(held.model(far), before, action, jax.random.key(1))
    assert low <= float(drawn.min())
    assert float(drawn.max()) <= high
    rewards, _ = held.model(far).outcomes(before, action, drawn)
    assert float(rewards.max()) == float(DATA.rewards.max())
    spread = [
        float(jnp.abs(draw(model.model(far), before, action, jax.random.key(1))).max())
        for model in (held, loose, free)
    ]
    assert spread[0] <= max(high, -low)
    assert spread[1] == pytest.approx(spread[0], rel=0.5 if target == "next_state" else 2.0)
    assert spread[2] > 1.5 * max(high, -low), "nothing is held"
    rewards, _ = free.model(far).outcomes(before, action, drawn)
    assert float(rewards.max()) > 2 * float(DATA.rewards.max())


def winding():
    """s' = s + sin(2 s), paid that change: more than a handful of units follow everywhere."""
    before = np.random.default_rng(0).uniform(-3, 3, (ROWS, 1))
    zeros, change = np.zeros(ROWS), np.sin(2 * before)
    rows = before, zeros[:, None], change[:, 0], zeros, before + change
    return Transitions(*(jnp.asarray(row, jnp.float32) for row in rows))


def test_a_refit_weighted_to_a_region_makes_the_model_better_there_than_one_that_is_not():
    data = winding()
    training = StepDiffusionTraining(
        DiffusionOptimizer(learning_rate=1e-2, warmup_steps=1, average_decay=0.95), width=12, depth=2, guidance=0.0
    )  # fmt: skip
    state = training.init(data, key=jax.random.key(0))
    state, _ = trained(training, state, data, evenly, 500, jax.random.key(1))
    region = jax.tree.map(lambda leaf: leaf[data.observations[:, 0] > 1.5], data)
    errors = {}
    for name, weigh in (("even", evenly), ("region", weighing(3.88, 0.04))):  # a quarter of the rows: mean 1
        refitted, _ = trained(training, state, data, weigh, 500, jax.random.key(2))
        found = eqx.filter_jit(one_step_errors)(training.model(refitted), region, key=jax.random.key(3))
        errors[name] = float(found["world_model/change_error"]), float(found["world_model/reward_error"])
    assert errors["region"][0] < 0.6 * errors["even"][0], errors
    assert errors["region"][1] < 0.6 * errors["even"][1], errors


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"diffusion_steps": 0}, "diffusion_steps must be at least 1, got 0"),
        ({"drop_probability": 1.5}, r"drop_probability must lie between 0 and 1, got 1\.5"),
        ({"guidance": -0.1}, r"guidance must be at least 0, got -0\.1"),
        ({"offset": -1.0}, r"offset must be at least 0, got -1\.0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        StepDiffusionTraining(**settings)
