"""The dynamics diffusion model of DyDiff: states of a whole trajectory, given its first state and all its actions.

One network serves every conditioning strength. It always sees the known entries (s_0 and the actions) clean in
the noisy input, as the paper does; beside them it sees them once more at data scale, and that second view is
dropped with some probability in training (classifier-free). At sampling, strength 0 leaves it out (the paper's
model: it prefers likely paths), 1 gives it (the model obeys the actions), between them the two are mixed.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import MinMaxNormalizer
from langevin.data.sampling import WindowBatch, Windows, sample_windows
from langevin.diffusion.constraints import Constraint
from langevin.diffusion.edm import EDM, edm_loss
from langevin.diffusion.guidance import guided_denoiser, with_presence
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.errors import require_at_least
from langevin.imagination.refinement import Refinement
from langevin.nets.temporal_mixer import TemporalMixer, require_mixer
from langevin.nets.temporal_unet import TemporalUNet, require_channels
from langevin.policies.base import Metrics

NetworkName = Literal["unet", "mixer"]
TrajectoryNetwork = TemporalUNet | TemporalMixer


class TrajectoryModel(eqx.Module):
    """A trained dynamics diffusion model: network, normalisers to [-1, 1], and the EDM constants."""

    network: TrajectoryNetwork
    observation_normalizer: MinMaxNormalizer
    action_normalizer: MinMaxNormalizer
    edm: EDM = EDM()

    def refine(
        self,
        observations: Float[Array, "horizon observation"],
        actions: Float[Array, "horizon action"],
        refinement: Refinement,
        strength: float,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon observation"]:
        """The states of one rollout corrected under its actions, raw units, clipped to the data's range."""
        actions = jnp.clip(self.action_normalizer.normalize(actions), -1, 1)
        states = self.observation_normalizer.normalize(observations)
        constraint, condition = known_entries(states[0], actions)
        denoiser = guided_denoiser(self.edm, self.network, condition, strength)
        rollout = jnp.concatenate([states, actions], axis=-1)
        corrected = refinement(denoiser, constraint, rollout, key=key)[:, : states.shape[1]]
        corrected = self.observation_normalizer.denormalize(jnp.clip(corrected, -1, 1))
        return corrected.at[0].set(observations[0])


def known_entries(
    start: Float[Array, " observation"], actions: Float[Array, "horizon action"]
) -> tuple[Constraint, Float[Array, "horizon conditions"]]:
    """What a trajectory is told, as held entries and as the condition beside them: s_0 and every action.

    Rows are [observation, action]. In the condition s_0 is repeated at every row, so that each part of a
    convolutional network sees it.
    """
    horizon = actions.shape[0]
    rows = jnp.broadcast_to(start, (horizon, start.size))
    held_observations = jnp.broadcast_to(jnp.arange(horizon)[:, None] == 0, rows.shape)
    held = jnp.concatenate([held_observations, jnp.ones(actions.shape, bool)], axis=-1)
    values = jnp.concatenate([rows, actions], axis=-1)
    return Constraint(held, values), values


class TrajectoryModelState(eqx.Module):
    """A dynamics diffusion model in training."""

    diffusion: DiffusionState
    observation_normalizer: MinMaxNormalizer
    action_normalizer: MinMaxNormalizer


class MixerForm(eqx.Module):
    """Size of the mixer: channels of a row, layers, and by how much each layer's two networks widen what they mix."""

    width: int = eqx.field(static=True, default=128)
    layers: int = eqx.field(static=True, default=3)
    widening: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        require_mixer(self.width, self.layers, self.widening)


class TrajectoryModelTraining(eqx.Module):
    """How the model is built and trained.

    network: "unet" (the paper's) or "mixer". width, multipliers, kernel: of the temporal U-Net. mixer: of the mixer.
    batch_size: windows an update. drop_probability: how often the condition at data scale is left out.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    network: NetworkName = eqx.field(static=True, default="unet")
    width: int = eqx.field(static=True, default=32)
    multipliers: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 4))
    kernel: int = eqx.field(static=True, default=5)
    mixer: MixerForm = MixerForm()
    batch_size: int = eqx.field(static=True, default=32)
    drop_probability: float = eqx.field(static=True, default=0.25)
    edm: EDM = EDM()

    def __check_init__(self):
        require_at_least(1, batch_size=self.batch_size)
        require_channels(self.width, self.multipliers, self.kernel)

    def init(self, windows: Windows, *, key: PRNGKeyArray) -> TrajectoryModelState:
        """A fresh network, and normalisers fitted to the data."""
        channels = windows.observations.shape[-1] + windows.actions.shape[-1]
        network = self.build(2 * channels + 1, channels, windows.horizon, key=key)
        return TrajectoryModelState(
            self.optimizer.init(network),
            MinMaxNormalizer.fit(windows.observations),
            MinMaxNormalizer.fit(windows.actions),
        )

    def build(
        self, in_channels: int, out_channels: int, horizon: int, *, key: PRNGKeyArray
    ) -> TrajectoryNetwork:
        """A fresh network."""
        if self.network == "mixer":
            form = self.mixer
            return TemporalMixer(
                in_channels, out_channels, horizon, form.width, form.layers, form.widening, key=key
            )
        return TemporalUNet(
            in_channels, out_channels, self.width, self.multipliers, kernel=self.kernel, key=key
        )

    def loss(
        self,
        network: TrajectoryNetwork,
        state: TrajectoryModelState,
        batch: WindowBatch,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """DyDiff's Eq. 4: the denoising error on the states after the first, valid rows only."""
        drop_key, loss_key = jax.random.split(key)
        observations = state.observation_normalizer.normalize(batch.observations)
        actions = state.action_normalizer.normalize(batch.actions)
        present = jax.random.bernoulli(drop_key, 1 - self.drop_probability, batch.mask.shape[:1])
        constraints, conditions = jax.vmap(known_entries)(observations[:, 0], actions)
        conditions = jax.vmap(with_presence)(conditions, present)
        clean = jnp.concatenate([observations, actions], axis=-1)
        return edm_loss(self.edm, network, clean, batch.mask, constraints, conditions, key=loss_key)

    def update(
        self, state: TrajectoryModelState, windows: Windows, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[TrajectoryModelState, Metrics]:
        """Draw a batch of windows and take one gradient step."""
        batch_key, loss_key = jax.random.split(key)
        batch = sample_windows(windows, self.batch_size, key=batch_key)
        diffusion, loss = self.optimizer.update(
            state.diffusion, lambda network: self.loss(network, state, batch, key=loss_key), step=step
        )
        return eqx.tree_at(lambda s: s.diffusion, state, diffusion), {"world_model/loss": loss}

    def finish(self, state: TrajectoryModelState) -> TrajectoryModel:
        """The model with averaged weights."""
        return TrajectoryModel(
            state.diffusion.average, state.observation_normalizer, state.action_normalizer, self.edm
        )
