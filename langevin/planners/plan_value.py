"""What a plan is worth: the return that began with windows like it, learned beside their diffusion.

Of a *noised* plan and its step it is what guides Diffuser's samples (Janner et al. 2022, Section 3.2); of clean plans
alone it is what Diffusion Veteran chooses by (Lu et al. 2025).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.return_windows import ReturnWindows, sample_return_windows
from langevin.diffusion.ddpm import DiscreteSchedule
from langevin.diffusion.prediction import DDPM
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.errors import UsageError, require_between
from langevin.nets.temporal_encoder import TemporalEncoder
from langevin.nets.temporal_unet import require_channels
from langevin.planners.window_diffusion import Examples, Scale, WindowState, WindowTraining, every_row
from langevin.policies.base import Metrics


class PlanValue(eqx.Module):
    """J(tau_k, k), in standard deviations of the data's returns from their mean.

    returns: their mean and standard deviation, in reward units.
    """

    network: TemporalEncoder
    schedule: DiscreteSchedule
    returns: GaussianNormalizer

    def at(self, rows: Float[Array, "horizon channels"], step: Int[Array, ""]) -> Float[Array, ""]:
        """Of a plan that is noised as it is after that step of the chain."""
        return self.network(rows, jnp.log(self.schedule.noise_level(step)) / 4)

    def __call__(self, rows: Float[Array, "horizon channels"]) -> Float[Array, ""]:
        """Of a finished plan: at the chain's least noise."""
        return self.at(rows, jnp.int32(0))

    def expected_return(self, rows: Float[Array, "horizon channels"]) -> Float[Array, ""]:
        """Of a finished plan, discounted, in reward units."""
        return self.returns.denormalize(self(rows)[None])[0]


class ValueState(eqx.Module):
    """A value network in training, and the scale of the returns that it predicts."""

    learned: DiffusionState
    returns: GaussianNormalizer


class ValueTraining(eqx.Module):
    """How the value is built and trained.

    discount: of the return, per environment step, which is summed from a window's first row to the end of its episode.
    noised: whether windows are noised to a step drawn evenly, as a guide needs it, or clean, as a choice among finished
    plans does. width, multipliers, kernel: of the U-Net's encoder.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    discount: float = eqx.field(static=True, default=0.997)
    noised: bool = eqx.field(static=True, default=True)
    width: int = eqx.field(static=True, default=32)
    multipliers: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 4))
    kernel: int = eqx.field(static=True, default=5)

    def __check_init__(self):
        require_channels(self.width, self.multipliers, self.kernel)
        require_between(0, 1, discount=self.discount)

    def init(
        self, returns: Float[Array, " rows"], horizon: int, channels: int, *, key: PRNGKeyArray
    ) -> ValueState:
        """A fresh network, and the scale of the data's returns."""
        network = TemporalEncoder(
            channels, horizon, self.width, self.multipliers, kernel=self.kernel, key=key
        )
        return ValueState(self.optimizer.init(network), GaussianNormalizer.fit(returns[:, None]))

    def loss(
        self,
        network: TemporalEncoder,
        ddpm: DDPM,
        examples: Examples,
        targets: Float[Array, " batch"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """mean (J(tau_k, k) - R)^2, R normalised; what is held of a window is never noised."""
        value = PlanValue(network, ddpm.schedule, GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))

        def one(clean, constraint, target, key):
            if not self.noised:
                return (value(clean) - target) ** 2
            noisy, step, _ = ddpm.corrupted(clean, constraint, key=key)
            return (value.at(noisy, step) - target) ** 2

        keys = jax.random.split(key, targets.size)
        return jax.vmap(one)(examples.clean, examples.constraints, targets, keys).mean()

    def update(
        self,
        state: ValueState,
        ddpm: DDPM,
        examples: Examples,
        returns: Float[Array, " batch"],
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[ValueState, Float[Array, ""]]:
        """One gradient step; the loss before it. returns: in reward units."""
        targets = state.returns.normalize(returns[:, None])[:, 0]
        learned, loss = self.optimizer.update(
            state.learned, lambda network: self.loss(network, ddpm, examples, targets, key=key), step=step
        )
        return ValueState(learned, state.returns), loss

    def finish(self, state: ValueState, ddpm: DDPM) -> PlanValue:
        """The value with averaged weights."""
        return PlanValue(state.learned.average, ddpm.schedule, state.returns)


class ScaledValue(eqx.Module):
    """A value in training by itself, and the units of the windows that it is shown."""

    value: ValueState
    scale: Scale


class ValuedState(eqx.Module):
    """A diffusion of windows and the value of windows, in training."""

    windows: WindowState
    value: ValueState


def init_valued(
    training: WindowTraining, value: ValueTraining, data: ReturnWindows, *, key: PRNGKeyArray
) -> ValuedState:
    """Fresh networks, and scales of the data."""
    window_key, value_key = jax.random.split(key)
    windows = training.init(data.windows.observations, data.windows.actions, key=window_key)
    return ValuedState(windows, init_value(training, value, data, key=value_key).value)


def init_value(
    training: WindowTraining, value: ValueTraining, data: ReturnWindows, *, key: PRNGKeyArray
) -> ScaledValue:
    """A fresh network for windows as these are diffused, and scales of the data."""
    observations, actions = data.windows.observations, data.windows.actions
    channels = observations.shape[-1] + training.plans_actions * actions.shape[-1]
    fresh = value.init(data.returns, training.horizon, channels, key=key)
    return ScaledValue(fresh, training.scale(observations, actions))


def update_value(
    training: WindowTraining,
    value: ValueTraining,
    state: ScaledValue,
    data: ReturnWindows,
    *,
    step: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[ScaledValue, Metrics]:
    """Draw a batch of windows and take one gradient step on their value."""
    batch_key, known_key, value_key = jax.random.split(key, 3)
    batch, returns = sample_return_windows(data, training.batch_size, key=batch_key)
    examples = training.examples(state.scale, every_row(batch, training.stride), key=known_key)
    valued, loss = value.update(state.value, chain_of(training), examples, returns, step=step, key=value_key)
    return ScaledValue(valued, state.scale), {"value/loss": loss}


def update_valued(
    training: WindowTraining,
    value: ValueTraining,
    state: ValuedState,
    data: ReturnWindows,
    *,
    step: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[ValuedState, Metrics]:
    """Draw a batch of windows and take one gradient step on their diffusion and one on their value."""
    batch_key, window_key, known_key, value_key = jax.random.split(key, 4)
    batch, returns = sample_return_windows(data, training.batch_size, key=batch_key)
    batch = every_row(batch, training.stride)
    windows, window_loss = training.update(state.windows, batch, step=step, key=window_key)
    examples = training.examples(state.windows.scale, batch, key=known_key)
    valued, value_loss = value.update(
        state.value, chain_of(training), examples, returns, step=step, key=value_key
    )
    return ValuedState(windows, valued), {"planner/loss": window_loss, "value/loss": value_loss}


def chain_of(training: WindowTraining) -> DDPM:
    """The chain that noises. Raises UsageError for settings without one."""
    process = training.diffusion()
    if not isinstance(process, DDPM):
        raise UsageError(
            f"a planner without a goal takes a chain of steps: set planner.process to ddpm, not {training.process}"
        )
    return process
