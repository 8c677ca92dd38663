"""Diffusion of windows of behaviour, from which every planner here draws its plans (Janner et al. 2022, Diffuser).

Rows are [observation, action], or the observation alone, normalised. What is known of a plan (`known_ends`) is held
while sampling, shown to the network beside the noisy rows, and never counted in a loss. Numbers about the whole window,
such as its return, can be told as contexts, each left out independently in training (classifier-free guidance).
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer, MinMaxNormalizer
from langevin.data.sampling import WindowBatch
from langevin.diffusion.chain_sampler import ChainSampler
from langevin.diffusion.constraints import Constraint, mean_of_counted
from langevin.diffusion.ddpm import ScheduleName, named_schedule
from langevin.diffusion.edm import EDM
from langevin.diffusion.guidance import with_presence
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.prediction import DDPM
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.errors import require_at_least, require_between
from langevin.nets.contextual_unet import ContextualUNet
from langevin.nets.temporal_unet import require_channels
from langevin.planners.known_ends import endpoints, first_state

Normalizer = GaussianNormalizer | MinMaxNormalizer


class Chain(eqx.Module):
    """Settings of a DDPM: its steps, their schedule, and what the network predicts."""

    steps: int = eqx.field(static=True, default=20)
    schedule: ScheduleName = eqx.field(static=True, default="cosine")
    predicts: Literal["noise", "clean"] = eqx.field(static=True, default="clean")

    def __check_init__(self):
        require_at_least(1, steps=self.steps)

    def ddpm(self) -> DDPM:
        """The chain itself."""
        return DDPM(named_schedule(self.schedule, self.steps), self.predicts)


class Scale(eqx.Module):
    """Between raw units and a window's rows, and the range of the data in both."""

    observation: Normalizer
    action: Normalizer
    low: Float[Array, " channels"]
    high: Float[Array, " channels"]

    @staticmethod
    def fit(
        observations: Float[Array, "rows observation"],
        actions: Float[Array, "rows action"],
        normalizer: type[GaussianNormalizer] | type[MinMaxNormalizer],
    ) -> "Scale":
        """Statistics and range of the rows."""
        observation, action = normalizer.fit(observations), normalizer.fit(actions)
        ends = [
            jnp.concatenate([observation.normalize(end(observations, 0)), action.normalize(end(actions, 0))])
            for end in (jnp.min, jnp.max)
        ]
        return Scale(observation, action, *ends)

    def rows(
        self, observations: Float[Array, "*batch observation"], actions: Float[Array, "*batch action"]
    ) -> Float[Array, "*batch channels"]:
        """Raw observations and actions as rows of a window."""
        return jnp.concatenate(
            [self.observation.normalize(observations), self.action.normalize(actions)], axis=-1
        )

    def observations(self, rows: Float[Array, "*batch channels"]) -> Float[Array, "*batch observation"]:
        """Raw observations of a window's rows."""
        return self.observation.denormalize(rows[..., : self.observation_size])

    def actions(self, rows: Float[Array, "*batch channels"]) -> Float[Array, "*batch action"]:
        """Raw actions of a window's rows."""
        return self.action.denormalize(rows[..., self.observation_size :])

    def clip(self, rows: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """Rows within the data's range."""
        channels = rows.shape[-1]
        return jnp.clip(rows, self.low[:channels], self.high[:channels])

    @property
    def observation_size(self) -> int:
        return jax.tree.leaves(self.observation)[0].shape[-1]

    @property
    def action_size(self) -> int:
        return jax.tree.leaves(self.action)[0].shape[-1]


class WindowDiffusion(eqx.Module):
    """A trained diffusion model of windows.

    horizon: rows of a window. stride: environment steps from one row to the next. plans_actions: whether rows hold
    actions after the observation.
    """

    network: ContextualUNet
    process: EDM | DDPM
    scale: Scale
    horizon: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    plans_actions: bool = eqx.field(static=True)

    @property
    def channels(self) -> int:
        """Of a row."""
        return self.scale.observation_size + self.plans_actions * self.scale.action_size

    def known(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"] | None = None,
        goal_row: Int[Array, ""] | None = None,
    ) -> tuple[Constraint, Float[Array, "horizon conditions"]]:
        """What is held of a plan that begins here, and is at the goal in its row; raw units."""
        start = self.scale.observation.normalize(observation)
        if goal is None or goal_row is None:
            return first_state(start, self.horizon, self.channels)
        padded = jnp.zeros_like(observation).at[: goal.size].set(goal)
        goal = self.scale.observation.normalize(padded)[: goal.size]
        return endpoints(start, goal, goal_row, self.horizon, self.channels)

    def denoiser(
        self,
        condition: Float[Array, "horizon conditions"],
        contexts: Float[Array, " contexts"] | None = None,
        weight: float = 0.0,
    ) -> Denoiser:
        """D(x | contexts), and guided by them: (1 + w) D(x | contexts) - w D(x | none) (Ho & Salimans 2022, Eq. 6).

        contexts: None tells none. weight: w; 0 is the conditional model and -1 the model that is told nothing. A
        DDPM's predictions are clipped to the data's range; noises may be mixed as clean samples, for each is a linear
        map of the other and the weights sum to 1.
        """
        values = jnp.zeros(len(self.network.embeddings)) if contexts is None else contexts
        condition = with_presence(condition, True)
        told, untold = (
            self.network.told(values, jnp.full(values.shape, there))
            for there in (contexts is not None, False)
        )

        def denoise(noisy, time):
            clean = self.process.denoise(told, noisy, time, condition)
            if weight:
                free = self.process.denoise(untold, noisy, time, condition)
                clean = clean + weight * (clean - free)
            return self.scale.clip(clean) if isinstance(self.process, DDPM) else clean

        return denoise

    def draw(
        self,
        constraint: Constraint,
        denoiser: Denoiser,
        sampler: Sampler | ChainSampler,
        guess: Float[Array, "horizon channels"] | None = None,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """One plan's rows, within the data's range but for what is held; a chain's sampler can renew a guess of it."""
        if guess is None:
            rows = sampler.draw(denoiser, constraint, key=key)
        else:
            assert isinstance(sampler, ChainSampler), "only a chain renews a plan"
            rows = sampler.draw(denoiser, constraint, guess=guess, key=key)
        return constraint.apply(self.scale.clip(rows))


class WindowState(eqx.Module):
    """A diffusion model of windows in training."""

    diffusion: DiffusionState
    scale: Scale


class Examples(eqx.Module):
    """Windows as a loss takes them: clean rows, which of them are real, what is held, and the condition beside."""

    clean: Float[Array, "batch horizon channels"]
    valid: Bool[Array, "batch horizon"]
    constraints: Constraint
    conditions: Float[Array, "batch horizon conditions"]

    @property
    def counted(self) -> Bool[Array, "batch horizon channels"]:
        """Entries that are neither padded nor held."""
        return self.valid[:, :, None] & ~self.constraints.held


class WindowTraining(eqx.Module):
    """How a diffusion model of windows is built and trained.

    process: "edm", or "ddpm" with the steps of `chain`. horizon: rows of a window. stride: environment steps from one
    row to the next. goal_size: how many leading observation dimensions are a goal's position; 0 plans without one.
    shortest: the earliest row a goal is asked for; half of the windows have it in the last row, half anywhere from
    `shortest` on, so that a plan can arrive early or be renewed on the way. plans_actions: whether rows hold actions.
    first_action_weight: how much more the error of the action that will be taken counts (Diffuser: 10). contexts: how
    many numbers about a window the network can be told, each left out with `drop_probability`.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    process: Literal["edm", "ddpm"] = eqx.field(static=True, default="edm")
    edm: EDM = EDM()
    chain: Chain = Chain()
    normalizer: Literal["gaussian", "minmax"] = eqx.field(static=True, default="minmax")
    horizon: int = eqx.field(static=True, default=128)
    stride: int = eqx.field(static=True, default=1)
    goal_size: int = eqx.field(static=True, default=0)
    shortest: int = eqx.field(static=True, default=16)
    plans_actions: bool = eqx.field(static=True, default=True)
    first_action_weight: float = eqx.field(static=True, default=1.0)
    contexts: int = eqx.field(static=True, default=0)
    drop_probability: float = eqx.field(static=True, default=0.5)
    width: int = eqx.field(static=True, default=32)
    multipliers: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 4))
    kernel: int = eqx.field(static=True, default=5)
    batch_size: int = eqx.field(static=True, default=32)

    def __check_init__(self):
        require_channels(self.width, self.multipliers, self.kernel)
        require_at_least(1, batch_size=self.batch_size, shortest=self.shortest, stride=self.stride)
        require_at_least(2, horizon=self.horizon)
        require_at_least(0, first_action_weight=self.first_action_weight)
        require_between(0, 1, drop_probability=self.drop_probability)

    @property
    def steps(self) -> int:
        """Environment steps that a window spans, both ends counted."""
        return (self.horizon - 1) * self.stride + 1

    def diffusion(self) -> EDM | DDPM:
        """The process that noises."""
        return self.edm if self.process == "edm" else self.chain.ddpm()

    def init(
        self,
        observations: Float[Array, "rows observation"],
        actions: Float[Array, "rows action"],
        *,
        key: PRNGKeyArray,
    ) -> WindowState:
        """A fresh network, and scales fitted to the data."""
        size, action_size = observations.shape[-1], actions.shape[-1]
        channels = size + self.plans_actions * action_size
        conditions = size + 1 + (self.goal_size + 2 if self.goal_size else 0)
        network = ContextualUNet(
            channels + conditions, channels, self.contexts, self.width, self.multipliers,
            kernel=self.kernel, key=key,
        )  # fmt: skip
        return WindowState(self.optimizer.init(network), self.scale(observations, actions))

    def scale(
        self, observations: Float[Array, "rows observation"], actions: Float[Array, "rows action"]
    ) -> Scale:
        """The units of a plan's rows, fitted to the data."""
        kind = GaussianNormalizer if self.normalizer == "gaussian" else MinMaxNormalizer
        return Scale.fit(observations, actions, kind)

    def examples(self, scale: Scale, batch: WindowBatch, *, key: PRNGKeyArray) -> Examples:
        """Windows of raw rows as a loss takes them, each with a goal row of its own if there are goals."""
        clean = scale.rows(batch.observations, batch.actions)
        size = scale.observation_size
        clean = clean if self.plans_actions else clean[..., :size]
        horizon, channels = clean.shape[1:]
        if self.goal_size == 0:
            known = lambda rows, goal_row: first_state(rows[0, :size], horizon, channels)
        else:
            known = lambda rows, goal_row: endpoints(
                rows[0, :size], rows[goal_row, : self.goal_size], goal_row, horizon, channels
            )
        goal_rows = self.goal_rows(batch.mask.sum(axis=1), key=key)
        constraints, conditions = jax.vmap(known)(clean, goal_rows)
        conditions = jax.vmap(lambda condition: with_presence(condition, True))(conditions)
        return Examples(clean, batch.mask, constraints, conditions)

    def goal_rows(self, lengths: Int[Array, " batch"], *, key: PRNGKeyArray) -> Int[Array, " batch"]:
        """Half of them last, half anywhere from the shortest on."""
        row_key, last_key = jax.random.split(key)
        earliest = jnp.minimum(self.shortest, lengths - 1)
        anywhere = jax.random.randint(row_key, lengths.shape, earliest, lengths)
        return jnp.where(jax.random.bernoulli(last_key, 0.5, lengths.shape), lengths - 1, anywhere)

    def drawn_contexts(
        self, contexts: Float[Array, "batch contexts"], *, key: PRNGKeyArray
    ) -> Bool[Array, "batch contexts"]:
        """Which contexts are told: each is left out independently of the others."""
        return jax.random.bernoulli(key, 1 - self.drop_probability, contexts.shape)

    def loss(
        self,
        network: ContextualUNet,
        scale: Scale,
        batch: WindowBatch,
        contexts: Float[Array, "batch contexts"] | None = None,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """The mean denoising error over what is neither held nor padded.

        batch: windows of `horizon` rows, already at their stride.
        """
        known_key, drop_key, error_key = jax.random.split(key, 3)
        examples = self.examples(scale, batch, key=known_key)
        contexts = jnp.zeros((batch.mask.shape[0], 0)) if contexts is None else contexts
        present = self.drawn_contexts(contexts, key=drop_key)
        errors = denoising_errors(self.diffusion(), network, examples, contexts, present, key=error_key)
        weights = jnp.ones(errors.shape[1:]).at[0, scale.observation_size :].set(self.first_action_weight)
        return mean_of_counted(weights * errors, examples.counted)

    def update(
        self,
        state: WindowState,
        batch: WindowBatch,
        contexts: Float[Array, "batch contexts"] | None = None,
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[WindowState, Float[Array, ""]]:
        """One gradient step; the loss before it."""
        diffusion, loss = self.optimizer.update(
            state.diffusion,
            lambda network: self.loss(network, state.scale, batch, contexts, key=key),
            step=step,
        )
        return WindowState(diffusion, state.scale), loss

    def finish(self, state: WindowState) -> WindowDiffusion:
        """The model with averaged weights."""
        return WindowDiffusion(
            state.diffusion.average, self.diffusion(), state.scale, self.horizon, self.stride,
            self.plans_actions,
        )  # fmt: skip


def denoising_errors(
    process: EDM | DDPM,
    network: ContextualUNet,
    examples: Examples,
    contexts: Float[Array, "batch contexts"],
    present: Bool[Array, "batch contexts"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "batch horizon channels"]:
    """Square errors of every entry at a noise level drawn for each window, weighted as the process weighs levels."""

    def one(clean, constraint, condition, contexts, present, key):
        told = network.told(contexts, present)
        return process.square_error(told, clean, constraint, condition, key=key)

    keys = jax.random.split(key, contexts.shape[0])
    return jax.vmap(one)(examples.clean, examples.constraints, examples.conditions, contexts, present, keys)


def every_row(batch: WindowBatch, stride: int) -> WindowBatch:
    """The rows of a batch that are `stride` apart."""
    return jax.tree.map(lambda rows: rows[:, ::stride], batch)
