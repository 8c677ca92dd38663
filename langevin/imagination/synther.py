"""SynthER (Lu et al. 2023, "Synthetic experience replay"): a diffusion model of single transitions.

The model knows no policy and no start: it draws whole rows (s, a, r, s', terminal) as the data have them, so a learner
fed by it sees more of the same distribution. An unconditional EDM, each row a sample of its own.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, sample_transitions
from langevin.diffusion.constraints import unconstrained
from langevin.diffusion.edm import EDM
from langevin.diffusion.heun import Churn, heun_sample
from langevin.diffusion.schedules import KarrasSchedule
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.diffusion.unconditional import unconditional_denoiser, unconditional_loss
from langevin.errors import require_at_least
from langevin.imagination.worlds import Imagined, Steps, World
from langevin.nets.residual_mlp import ResidualMLP
from langevin.policies.base import Metrics, Policy


class TransitionScales(eqx.Module):
    """Between transitions in raw units and the rows that are diffused: [s, a, r, s'] z-scored, then the terminal.

    The terminal stays 0 or 1, and a sampled one is rounded at 0.5 (SynthER's code). low, high: the least and the
    greatest value of each column in the data, beyond which no sample goes.
    """

    normalizer: GaussianNormalizer
    low: Float[Array, " column"]
    high: Float[Array, " column"]
    observation_size: int = eqx.field(static=True)

    @property
    def channels(self) -> int:
        """Of a row."""
        return self.low.size + 1

    @staticmethod
    def fit(transitions: Transitions) -> "TransitionScales":
        """Statistics of each column over the data."""
        columns = columns_of(transitions)
        normalizer = GaussianNormalizer.fit(columns)
        return TransitionScales(
            normalizer, columns.min(axis=0), columns.max(axis=0), transitions.observations.shape[-1]
        )

    def to_rows(self, transitions: Transitions) -> Float[Array, "batch channels"]:
        """Transitions as the model sees them."""
        columns = self.normalizer.normalize(columns_of(transitions))
        return jnp.concatenate([columns, transitions.terminations[:, None]], axis=-1)

    def to_transitions(self, rows: Float[Array, "batch channels"]) -> Transitions:
        """What the model drew, in raw units and within the data's range."""
        columns = jnp.clip(self.normalizer.denormalize(rows[:, :-1]), self.low, self.high)
        size = self.observation_size
        return Transitions(
            observations=columns[:, :size],
            actions=columns[:, size : -size - 1],
            rewards=columns[:, -size - 1],
            terminations=(rows[:, -1] > 0.5).astype(jnp.float32),
            next_observations=columns[:, -size:],
        )


def columns_of(transitions: Transitions) -> Float[Array, "rows column"]:
    """[s, a, r, s'] side by side."""
    rewards = transitions.rewards[:, None]
    return jnp.concatenate(
        [transitions.observations, transitions.actions, rewards, transitions.next_observations], axis=-1
    )


class TransitionModel(eqx.Module):
    """A trained diffusion model of transitions."""

    network: ResidualMLP
    scales: TransitionScales
    edm: EDM

    def sample(self, count: int, schedule: KarrasSchedule, churn: Churn, *, key: PRNGKeyArray) -> Transitions:
        """Draw `count` transitions, raw units."""
        denoiser = unconditional_denoiser(self.edm, self.network)
        free = unconstrained(1, self.scales.channels)

        def one(key: PRNGKeyArray) -> Float[Array, " channels"]:
            return heun_sample(denoiser, free, schedule, churn, key=key)[0]

        return self.scales.to_transitions(jax.vmap(one)(jax.random.split(key, count)))


class TransitionWorld(World):
    """The model as a world: transitions that stand alone, whatever policy asks and from wherever."""

    model: TransitionModel
    schedule: KarrasSchedule
    churn: Churn

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """As many transitions as trajectories of `horizon` states would have; `starts` serve as their number alone."""
        shape = len(starts), horizon - 1
        drawn = self.model.sample(math.prod(shape), self.schedule, self.churn, key=key)
        before, actions, arrivals = (
            leaf.reshape(*shape, -1) for leaf in (drawn.observations, drawn.actions, drawn.next_observations)
        )
        return Imagined(
            jnp.concatenate([before, arrivals[:, -1:]], axis=1),
            jnp.concatenate([actions, actions[:, -1:]], axis=1),
            drawn.rewards.reshape(shape),
            drawn.terminations.reshape(shape) > 0.5,
            Steps(arrivals, jnp.ones(shape, bool)),
        )


class TransitionModelState(eqx.Module):
    """A diffusion model of transitions in training."""

    diffusion: DiffusionState
    scales: TransitionScales


class TransitionModelTraining(eqx.Module):
    """How the model is built and trained.

    width, blocks: of the residual network. batch_size: transitions an update. edm: z-scored data have a standard
    deviation of 1.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    width: int = eqx.field(static=True, default=1024)
    blocks: int = eqx.field(static=True, default=6)
    batch_size: int = eqx.field(static=True, default=1024)
    edm: EDM = EDM(sigma_data=1.0)

    def __check_init__(self):
        require_at_least(1, width=self.width, blocks=self.blocks, batch_size=self.batch_size)

    def init(self, transitions: Transitions, *, key: PRNGKeyArray) -> TransitionModelState:
        """A fresh network, and scales fitted to the data."""
        scales = TransitionScales.fit(transitions)
        network = ResidualMLP(scales.channels, scales.channels, self.width, self.blocks, key=key)
        return TransitionModelState(self.optimizer.init(network), scales)

    def update(
        self,
        state: TransitionModelState,
        transitions: Transitions,
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[TransitionModelState, Metrics]:
        """Draw a batch of transitions and take one gradient step."""
        batch_key, loss_key = jax.random.split(key)
        batch = sample_transitions(transitions, self.batch_size, key=batch_key)
        rows = state.scales.to_rows(batch)[:, None]
        valid = jnp.ones(rows.shape[:2], bool)
        diffusion, loss = self.optimizer.update(
            state.diffusion,
            lambda network: unconditional_loss(self.edm, network, rows, valid, key=loss_key),
            step=step,
        )
        return TransitionModelState(diffusion, state.scales), {"world_model/loss": loss}

    def finish(self, state: TransitionModelState) -> TransitionModel:
        """The model with averaged weights."""
        return TransitionModel(state.diffusion.average, state.scales, self.edm)
