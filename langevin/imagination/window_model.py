"""A diffusion model of whole windows of experience, state, action, reward and terminal, told nothing.

Two of DyDiff's rivals draw from it. **MTDiff-s** (He et al. 2023, "Diffusion model is an effective planner and data
synthesizer for multi-task reinforcement learning") draws windows once, as the data have them, and adds them to
the data. **Policy-guided diffusion** (Jackson et al. 2024) draws them every epoch, guided by the policy of the day.

From the papers: windows of states, actions and rewards in one sample, noised together; none of it conditioned on
returns; successors are the next rows. What had to be chosen: MTDiff conditions on a demonstration that says which of
many tasks is meant, and where there is one task there is nothing to say. Its network is a transformer and its diffusion
a DDPM of 200 steps; here both are DyDiff's, a temporal U-Net and EDM, so that a comparison is of what is done with the
model and not of the model. It has no terminals (its tasks never end); here they are one more channel, as in
policy-guided diffusion.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import MinMaxNormalizer
from langevin.data.sampling import Windows, sample_windows, windows_of
from langevin.data.trajectories import Trajectories
from langevin.diffusion.constraints import unconstrained
from langevin.diffusion.edm import EDM
from langevin.diffusion.heun import Churn, heun_sample
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.schedules import KarrasSchedule
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.diffusion.unconditional import unconditional_denoiser, unconditional_loss
from langevin.errors import require_at_least
from langevin.imagination.worlds import Imagined, World
from langevin.nets.temporal_unet import TemporalUNet, require_channels
from langevin.policies.base import Metrics, Policy


class ExperienceWindows(eqx.Module):
    """Windows whose rows are [observation, action, reward, terminal]."""

    windows: Windows
    observation_size: int = eqx.field(static=True)


def experience_windows(trajectories: Trajectories, horizon: int) -> ExperienceWindows:
    """Every window of `horizon` rows at stride 1, and those that a terminal cuts short.

    Were each window full, a terminal could only stand in its last row, which has no successor, and no transition cut
    from a window would ever be terminal. Rows after the terminal repeat it, and are learned: a model that never learned
    them would draw anything there, and what stands there decides what stands before.
    """
    windows = windows_of(trajectories, horizon)
    lengths = trajectories.episode_lengths()
    row, first = np.arange(trajectories.transitions), np.repeat(trajectories.episode_starts, lengths)
    left = np.repeat(trajectories.episode_ends, lengths) - row
    terminated = np.repeat(trajectories.terminations[trajectories.episode_ends - 1], lengths)
    cut = np.flatnonzero(terminated & (left < horizon) & (row != first))
    columns = (trajectories.rewards[:, None], trajectories.terminations[:, None])
    rows = np.concatenate([trajectories.observations, trajectories.actions, *columns], axis=1)
    windows = Windows(
        observations=jnp.asarray(rows, jnp.float32),
        actions=windows.actions,
        rewards=windows.rewards,
        starts=jnp.concatenate([windows.starts, jnp.asarray(cut, jnp.int32)]),
        lengths=jnp.concatenate([windows.lengths, jnp.asarray(left[cut], jnp.int32)]),
        horizon=horizon,
    )
    return ExperienceWindows(windows, trajectories.observation_size)


class WindowModel(eqx.Module):
    """A trained diffusion model of windows: network, normaliser of a row's columns to [-1, 1], EDM constants."""

    network: TemporalUNet
    normalizer: MinMaxNormalizer
    observation_size: int = eqx.field(static=True)
    edm: EDM

    @property
    def observations(self) -> slice:
        """Columns of a row that hold the observation."""
        return slice(0, self.observation_size)

    @property
    def actions(self) -> slice:
        """Columns of a row that hold the action."""
        return slice(self.observation_size, self.normalizer.low.size - 2)

    def sample(
        self,
        count: int,
        horizon: int,
        schedule: KarrasSchedule,
        churn: Churn,
        guide: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """Draw `count` windows as trajectories, raw units, within the data's range; `guide` changes the denoiser."""
        denoiser = guide(unconditional_denoiser(self.edm, self.network))
        free = unconstrained(horizon, self.normalizer.low.size)

        def one(key: PRNGKeyArray) -> Float[Array, "horizon channels"]:
            return heun_sample(denoiser, free, schedule, churn, key=key)

        rows = jax.vmap(one)(jax.random.split(key, count))
        rows = jnp.clip(self.normalizer.denormalize(rows), self.normalizer.low, self.normalizer.high)
        before_last = rows[:, :-1]
        return Imagined(
            rows[..., self.observations],
            rows[..., self.actions],
            before_last[..., -2],
            before_last[..., -1] > 0.5,
        )


class WindowWorld(World):
    """The model as a world: windows as the data have them, whatever policy asks and from wherever."""

    model: WindowModel
    schedule: KarrasSchedule
    churn: Churn

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """One window for each of `starts`, which serve as their number alone."""
        return self.model.sample(len(starts), horizon, self.schedule, self.churn, key=key)


class WindowModelState(eqx.Module):
    """A diffusion model of windows in training."""

    diffusion: DiffusionState
    normalizer: MinMaxNormalizer
    observation_size: int = eqx.field(static=True)


class WindowModelTraining(eqx.Module):
    """How the model is built and trained.

    width, multipliers, kernel: of the temporal U-Net. batch_size: windows an update.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    width: int = eqx.field(static=True, default=32)
    multipliers: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 4))
    kernel: int = eqx.field(static=True, default=5)
    batch_size: int = eqx.field(static=True, default=32)
    edm: EDM = EDM()

    def __check_init__(self):
        require_at_least(1, batch_size=self.batch_size)
        require_channels(self.width, self.multipliers, self.kernel)

    def init(self, data: ExperienceWindows, *, key: PRNGKeyArray) -> WindowModelState:
        """A fresh network, and a normaliser fitted to the data."""
        rows = data.windows.observations
        channels = rows.shape[-1]
        network = TemporalUNet(channels, channels, self.width, self.multipliers, kernel=self.kernel, key=key)
        return WindowModelState(
            self.optimizer.init(network), MinMaxNormalizer.fit(rows), data.observation_size
        )

    def update(
        self, state: WindowModelState, data: ExperienceWindows, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[WindowModelState, Metrics]:
        """Draw a batch of windows and take one gradient step on their rows, the terminal's repetitions among them."""
        batch_key, loss_key = jax.random.split(key)
        batch = sample_windows(data.windows, self.batch_size, key=batch_key)
        known = batch.mask | (batch.observations[..., -1] > 0.5)
        rows = state.normalizer.normalize(batch.observations)
        diffusion, loss = self.optimizer.update(
            state.diffusion,
            lambda network: unconditional_loss(self.edm, network, rows, known, key=loss_key),
            step=step,
        )
        return eqx.tree_at(lambda s: s.diffusion, state, diffusion), {"world_model/loss": loss}

    def finish(self, state: WindowModelState) -> WindowModel:
        """The model with averaged weights."""
        return WindowModel(state.diffusion.average, state.normalizer, state.observation_size, self.edm)
