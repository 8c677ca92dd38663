"""ADEPT's world model (Fang & Lan 2024, Sections 4.1, 4.2): a diffusion model of one transition, and of its outcome.

Where an ensemble predicts a Gaussian, a conditional diffusion model can draw from any distribution of the next state.
Reward and ending are read off the next state by a second network: what ends an episode is a thing of the state
reached. Both losses take a weight for each row, by which ADEPT fits them anew to where its policy goes.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, sample_transitions
from langevin.diffusion.ddpm import DiscreteSchedule, cosine_schedule
from langevin.diffusion.guidance import guided_noise
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.errors import require_at_least, require_between
from langevin.nets.embeddings import SinusoidalEmbedding
from langevin.nets.mlp import MLP

TIME_SIZE = 16
Target = Literal["next_state", "change"]


class StepScales(eqx.Module):
    """Statistics and range of each dimension, between the environment's units and the networks'.

    diffused: of what is diffused, the next observation or its change (`target`). Ranges are the dataset's.
    """

    observation: GaussianNormalizer
    diffused: GaussianNormalizer
    reward: GaussianNormalizer
    observation_low: Float[Array, " observation"]
    observation_high: Float[Array, " observation"]
    diffused_low: Float[Array, " observation"]
    diffused_high: Float[Array, " observation"]
    reward_low: Float[Array, ""]
    reward_high: Float[Array, ""]
    target: Target = eqx.field(static=True)

    @staticmethod
    def fit(transitions: Transitions, target: Target) -> "StepScales":
        """Statistics and range of the rows; works inside jit."""
        before, after = transitions.observations, transitions.next_observations
        rows = after - before if target == "change" else after
        diffused = GaussianNormalizer.fit(rows)
        return StepScales(
            observation=GaussianNormalizer.fit(before),
            diffused=diffused,
            reward=GaussianNormalizer.fit(transitions.rewards[:, None]),
            observation_low=jnp.minimum(before.min(axis=0), after.min(axis=0)),
            observation_high=jnp.maximum(before.max(axis=0), after.max(axis=0)),
            diffused_low=diffused.normalize(rows.min(axis=0)),
            diffused_high=diffused.normalize(rows.max(axis=0)),
            reward_low=transitions.rewards.min(),
            reward_high=transitions.rewards.max(),
            target=target,
        )

    def to_diffused(
        self, before: Float[Array, "*batch observation"], after: Float[Array, "*batch observation"]
    ) -> Float[Array, "*batch observation"]:
        """x_0: the z-scored next observation, or its z-scored change."""
        return self.diffused.normalize(after - before if self.target == "change" else after)

    def from_diffused(
        self, before: Float[Array, "*batch observation"], diffused: Float[Array, "*batch observation"]
    ) -> Float[Array, "*batch observation"]:
        """The next observation of an x_0, raw units."""
        rows = self.diffused.denormalize(diffused)
        return before + rows if self.target == "change" else rows

    def condition(
        self, observations: Float[Array, "batch observation"], actions: Float[Array, "batch action"]
    ) -> Float[Array, "batch condition"]:
        """What the noise network is told: z-scored observation, action as it is, and a flag that both are there."""
        flag = jnp.ones((observations.shape[0], 1))
        return jnp.concatenate([self.observation.normalize(observations), actions, flag], axis=-1)


class NoiseNetwork(eqx.Module):
    """eps_theta(x_k, k, s, a): the noise in a noisy next state."""

    network: MLP
    embedding: SinusoidalEmbedding

    def __call__(
        self,
        noisy: Float[Array, "batch observation"],
        steps: Int[Array, " batch"],
        condition: Float[Array, "batch condition"],
    ) -> Float[Array, "batch observation"]:
        times = jax.vmap(self.embedding)(steps.astype(jnp.float32))
        return jax.vmap(self.network)(jnp.concatenate([noisy, times, condition], axis=-1))


class StepNetworks(eqx.Module):
    """What is trained: the noise network, and r_eta(s, a, s'), the z-scored reward and the logit of an ending."""

    noise: NoiseNetwork
    outcome: MLP


class StepDiffusion(eqx.Module):
    """A world model of one transition; raw units in and out.

    guidance: w of (1 + w) eps(s, a) - w eps(nothing). clip: whether next states and rewards are held in the dataset's
    range. clip_estimates: whether every estimate of a next state on the way to it is, of which the paper says nothing.
    """

    networks: StepNetworks
    scales: StepScales
    schedule: DiscreteSchedule
    guidance: float = eqx.field(static=True)
    clip: bool = eqx.field(static=True)
    clip_estimates: bool = eqx.field(static=True, default=True)

    def noise(
        self,
        noisy: Float[Array, "batch observation"],
        step: Int[Array, ""],
        condition: Float[Array, "batch condition"],
    ) -> Float[Array, "batch observation"]:
        """Guided noise.

        The paper's Eq. 2 is eps(nothing) + w (eps(s, a) - eps(nothing)), which with its w = 0.1 would hardly look at
        state and action; what is meant is the other convention, (1 + w) eps(s, a) - w eps(nothing).
        """
        steps = jnp.broadcast_to(step, noisy.shape[:1])
        told = self.networks.noise(noisy, steps, condition)
        if self.guidance == 0:
            return told
        untold = self.networks.noise(noisy, steps, jnp.zeros_like(condition))
        return guided_noise(told, untold, self.guidance)

    def next_observations(
        self,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "batch observation"]:
        """A next observation for each row, by K denoising steps (subroutine PE)."""
        condition = self.scales.condition(observations, actions)
        first_key, chain_key = jax.random.split(key)

        def denoise(noisy: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
            step, key = inputs
            clean = self.schedule.clean_of(noisy, step, self.noise(noisy, step, condition))
            if self.clip_estimates:
                # The first step of a cosine schedule leaves so little of the data that the noise's error is magnified
                # some 200 times here.
                clean = jnp.clip(clean, self.scales.diffused_low, self.scales.diffused_high)
            mean, std = self.schedule.posterior(clean, noisy, step)  # Eq. 1
            return mean + std * jax.random.normal(key, noisy.shape), None

        # A scan, as no gradient goes through it: unrolled, it would be compiled once for each of its steps.
        steps = jnp.arange(self.schedule.steps, dtype=jnp.int32)[::-1]
        keys = jax.random.split(chain_key, self.schedule.steps)
        diffused, _ = jax.lax.scan(denoise, jax.random.normal(first_key, observations.shape), (steps, keys))
        after = self.scales.from_diffused(observations, diffused)
        if not self.clip:
            return after
        return jnp.clip(after, self.scales.observation_low, self.scales.observation_high)

    def outcomes(
        self,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        next_observations: Float[Array, "batch observation"],
    ) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
        """Rewards, and whether each transition ends its episode: more likely than not."""
        predicted = predict_outcomes(
            self.networks.outcome, self.scales, observations, actions, next_observations
        )
        rewards = self.scales.reward.denormalize(predicted[:, :1])[:, 0]
        if self.clip:
            rewards = jnp.clip(rewards, self.scales.reward_low, self.scales.reward_high)
        return rewards, predicted[:, 1] > 0


def predict_outcomes(
    network: MLP,
    scales: StepScales,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
    next_observations: Float[Array, "batch observation"],
) -> Float[Array, "batch 2"]:
    """z-scored reward and logit of an ending."""
    inputs = [
        scales.observation.normalize(observations),
        actions,
        scales.observation.normalize(next_observations),
    ]
    return jax.vmap(network)(jnp.concatenate(inputs, axis=-1))


class StepDiffusionState(eqx.Module):
    """A world model in training."""

    diffusion: DiffusionState
    scales: StepScales
    updates: Int[Array, ""]
    """Gradient steps so far, refits included."""


class StepDiffusionTraining(eqx.Module):
    """How the world model is built, trained and sampled.

    target: what is diffused. The paper's is the next state; its change is small against it, so that the same error
    of the noise costs less. diffusion_steps, offset: K and s of the cosine schedule. drop_probability: how often
    state and action are left out in training. guidance, clip, clip_estimates: see StepDiffusion. width, depth: of both
    networks. batch_size: transitions an update.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    target: Target = eqx.field(static=True, default="change")
    diffusion_steps: int = eqx.field(static=True, default=10)
    offset: float = eqx.field(static=True, default=1e-4)
    drop_probability: float = eqx.field(static=True, default=0.1)
    guidance: float = eqx.field(static=True, default=0.1)
    clip: bool = eqx.field(static=True, default=True)
    clip_estimates: bool = eqx.field(static=True, default=True)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=3)
    batch_size: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        require_at_least(
            1, diffusion_steps=self.diffusion_steps, batch_size=self.batch_size, width=self.width, depth=self.depth
        )  # fmt: skip
        require_at_least(0, offset=self.offset, guidance=self.guidance)
        require_between(0, 1, drop_probability=self.drop_probability)

    @property
    def schedule(self) -> DiscreteSchedule:
        """Cosine, no rate above 0.999."""
        return cosine_schedule(self.diffusion_steps, self.offset)

    def init(self, transitions: Transitions, *, key: PRNGKeyArray) -> StepDiffusionState:
        """Fresh networks, and the data's scales."""
        noise_key, outcome_key = jax.random.split(key)
        observation, action = transitions.observations.shape[-1], transitions.actions.shape[-1]
        inputs = observation + TIME_SIZE + observation + action + 1
        noise = MLP(inputs, observation, self.width, self.depth, jax.nn.silu, key=noise_key)
        outcome = MLP(2 * observation + action, 2, self.width, self.depth, jax.nn.silu, key=outcome_key)
        embedding = SinusoidalEmbedding(TIME_SIZE, lowest_frequency=1e-2, highest_frequency=1.0)
        return StepDiffusionState(
            self.optimizer.init(StepNetworks(NoiseNetwork(noise, embedding), outcome)),
            StepScales.fit(transitions, self.target),
            jnp.int32(0),
        )

    def loss(
        self,
        networks: StepNetworks,
        scales: StepScales,
        batch: Transitions,
        weights: Float[Array, " batch"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """mean w_i (|eps - eps_theta|^2 + (r - r_eta)^2 + cross-entropy of the ending) (Eq. 3, subroutine IWU).

        The paper prints no term for the ending, which r_eta predicts as well.
        """
        step_key, noise_key, drop_key = jax.random.split(key, 3)
        clean = scales.to_diffused(batch.observations, batch.next_observations)
        steps = jax.random.randint(step_key, weights.shape, 0, self.diffusion_steps)
        noise = jax.random.normal(noise_key, clean.shape)
        noisy = jax.vmap(self.schedule.noised)(clean, steps, noise)
        condition = scales.condition(batch.observations, batch.actions)
        present = jax.random.bernoulli(drop_key, 1 - self.drop_probability, weights.shape)
        predicted = networks.noise(noisy, steps, present[:, None] * condition)
        noise_error = jnp.square(noise - predicted).mean(axis=-1)

        outcome = predict_outcomes(
            networks.outcome, scales, batch.observations, batch.actions, batch.next_observations
        )
        reward_error = jnp.square(scales.reward.normalize(batch.rewards[:, None])[:, 0] - outcome[:, 0])
        ending_error = optax.sigmoid_binary_cross_entropy(outcome[:, 1], batch.terminations)
        return jnp.mean(weights * (noise_error + reward_error + ending_error))

    def fit(
        self,
        state: StepDiffusionState,
        batch: Transitions,
        weights: Float[Array, " batch"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[StepDiffusionState, Float[Array, ""]]:
        """One gradient step on a weighted batch; returns the loss before it."""
        loss = lambda networks: self.loss(networks, state.scales, batch, weights, key=key)
        diffusion, value = self.optimizer.update(state.diffusion, loss, step=state.updates)
        return StepDiffusionState(diffusion, state.scales, state.updates + 1), value

    def update(
        self, state: StepDiffusionState, transitions: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[StepDiffusionState, dict[str, Float[Array, ""]]]:
        """One gradient step on a batch of rows that all weigh the same: IWU(pi_D)."""
        batch_key, loss_key = jax.random.split(key)
        batch = sample_transitions(transitions, self.batch_size, key=batch_key)
        state, loss = self.fit(state, batch, jnp.ones(self.batch_size), key=loss_key)
        return state, {"world_model/loss": loss}

    def model(self, state: StepDiffusionState) -> StepDiffusion:
        """The world model with averaged weights."""
        return StepDiffusion(
            state.diffusion.average,
            state.scales,
            self.schedule,
            self.guidance,
            self.clip,
            self.clip_estimates,
        )


def one_step_errors(
    model: StepDiffusion, transitions: Transitions, *, key: PRNGKeyArray
) -> dict[str, Float[Array, ""]]:
    """How wrong single predictions are on these rows.

    change_error: squared error of a sampled next state as a share of the variance of the change, mean over
    dimensions; 0 is perfect, 1 no better than standing still at the mean change, 2 a draw from all changes.
    reward_error: of the outcome of the sampled state, as a share of the rewards' variance. ending_error: share of
    rows whose ending, or going on, is predicted wrongly.
    """
    before, after = transitions.observations, transitions.next_observations
    sampled = model.next_observations(before, transitions.actions, key=key)
    rewards, endings = model.outcomes(before, transitions.actions, sampled)
    variance = jnp.square(GaussianNormalizer.fit(after - before).std)
    return {
        "world_model/change_error": (jnp.square(sampled - after).mean(axis=0) / variance).mean(),
        "world_model/reward_error": jnp.square(rewards - transitions.rewards).mean()
        / jnp.square(model.scales.reward.std[0]),
        "world_model/ending_error": jnp.mean(endings != (transitions.terminations > 0), dtype=jnp.float32),
    }
