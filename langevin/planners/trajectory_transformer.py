"""Trajectory Transformer (Janner et al. 2021, "Offline reinforcement learning as one big sequence modeling problem").

Transitions as tokens, a GPT that says which comes next, and a beam search that plans with it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.contexts import sample_contexts
from langevin.data.discretize import Discretizer
from langevin.errors import UsageError, require_at_least
from langevin.nets.transformer import require_transformer
from langevin.planners.beam_search import BeamSearch
from langevin.planners.token_model import TokenModel, next_token_loss
from langevin.policies.base import Metrics, Policy
from langevin.policies.optimization import apply_gradient, init_optimizer

ENVIRONMENTS_AT_ONCE = 32
"""Plans searched for side by side: the beams of a hundred environments would not fit a small memory."""


class TokenRows(eqx.Module):
    """Flat rows of tokens, their places in their episodes, and the bins."""

    tokens: Int[Array, "rows kinds"]
    steps: Int[Array, " rows"]
    discretizer: Discretizer


class TrajectoryTransformerState(eqx.Module):
    """The model, its optimiser and the bins."""

    model: TokenModel
    optimizer_state: optax.OptState
    discretizer: Discretizer


class TrajectoryTransformer(eqx.Module):
    """How the model is built and trained.

    context: transitions of a sequence. layers, heads, width, dropout: of the transformer. batch_size: sequences a
    gradient step. learning_rate: AdamW's after `warmup_steps` updates of linear ramp; with `decay_steps` (none: all of
    a training's; 0: it stays) it falls from there by a cosine to a tenth at that update. weight_decay: AdamW's.
    gradient_clip: largest norm of a gradient.
    """

    context: int = eqx.field(static=True, default=10)
    layers: int = eqx.field(static=True, default=4)
    heads: int = eqx.field(static=True, default=4)
    width: int = eqx.field(static=True, default=128)
    dropout: float = eqx.field(static=True, default=0.1)
    batch_size: int = eqx.field(static=True, default=256)
    learning_rate: float = eqx.field(static=True, default=6e-4)
    warmup_steps: int = eqx.field(static=True, default=2_000)
    decay_steps: int | None = eqx.field(static=True, default=None)
    weight_decay: float = eqx.field(static=True, default=0.1)
    gradient_clip: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        require_at_least(1, context=self.context, batch_size=self.batch_size, warmup_steps=self.warmup_steps)
        require_transformer(self.width, self.layers, self.heads, self.dropout)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """AdamW behind a clipped gradient. Matrices decay; places, biases and norms do not."""
        warmup = (
            min(self.warmup_steps, max(self.decay_steps // 10, 1)) if self.decay_steps else self.warmup_steps
        )
        rate = optax.warmup_constant_schedule(0.0, self.learning_rate, warmup)
        if self.decay_steps:
            rate = optax.warmup_cosine_decay_schedule(
                0.0, self.learning_rate, warmup, max(self.decay_steps, warmup + 1), self.learning_rate / 10
            )
        return optax.chain(
            optax.clip_by_global_norm(self.gradient_clip),
            optax.adamw(rate, b2=0.95, weight_decay=self.weight_decay, mask=decaying),
        )

    def init(self, data: TokenRows, *, key: PRNGKeyArray) -> TrajectoryTransformerState:
        """A fresh model."""
        kinds, bins = data.discretizer.centers.shape
        model = TokenModel(
            kinds, bins, self.context, self.width, self.layers, self.heads, self.dropout, key=key
        )
        return TrajectoryTransformerState(model, init_optimizer(self.optimizer, model), data.discretizer)

    def loss(
        self,
        model: TokenModel,
        tokens: Int[Array, "batch context kinds"],
        mask: Array,
        *,
        key: PRNGKeyArray | None,
    ) -> Float[Array, ""]:
        """mean -log p of the tokens that follow real ones (Eq. 1)."""

        def one(tokens, mask, key):
            return next_token_loss(model(tokens, mask, key=key), tokens, mask)

        keys = None if key is None else jax.random.split(key, len(tokens))
        totals, counts = jax.vmap(one)(tokens, mask, keys)
        return totals.sum() / counts.sum()

    def update(
        self, state: TrajectoryTransformerState, data: TokenRows, *, key: PRNGKeyArray
    ) -> tuple[TrajectoryTransformerState, Metrics]:
        """Draw a batch of contexts and take one step of AdamW."""
        batch_key, loss_key = jax.random.split(key)
        rows, mask = sample_contexts(data.steps, self.context, self.batch_size, key=batch_key)
        loss, gradient = eqx.filter_value_and_grad(self.loss)(
            state.model, data.tokens[rows], mask, key=loss_key
        )
        model, optimizer_state = apply_gradient(self.optimizer, state.model, gradient, state.optimizer_state)
        return TrajectoryTransformerState(model, optimizer_state, state.discretizer), {
            "world_model/loss": loss
        }


def decaying(model: TokenModel) -> TokenModel:
    """Which parameters decay: the matrices of the blocks and the heads."""
    none = jax.tree.map(lambda leaf: False, model)
    blocks = jax.tree.map(lambda leaf: leaf.ndim > 1, model.transformer)
    return eqx.tree_at(lambda m: (m.transformer, m.heads), none, (blocks, True))


class Plan(eqx.Module):
    """The transitions before now, newest last, and the plan that is followed."""

    past: Int[Array, "batch history kinds"]
    planned: Int[Array, "batch horizon kinds"]
    age: Int[Array, ""]
    """Steps since the episode began."""


class TrajectoryTransformerPolicy(Policy):
    """Plans by beam search and takes the plan's first actions.

    history: transitions before now that the model reads. replan_every: environment steps from one plan to the next; in
    between, the plan's further actions are taken.
    """

    model: TokenModel
    discretizer: Discretizer
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    search: BeamSearch
    history: int = eqx.field(static=True)
    replan_every: int = eqx.field(static=True)

    @property
    def actions(self) -> slice:
        """Where the actions stand in a transition."""
        return slice(self.model.kinds - 2 - self.action_low.size, self.model.kinds - 2)

    def start(self, batch_size: int) -> Plan:
        """No past, and no plan."""
        past = jnp.zeros((batch_size, self.history, self.model.kinds), jnp.int32)
        planned = jnp.zeros((batch_size, self.search.horizon, self.model.kinds), jnp.int32)
        return Plan(past, planned, jnp.int32(0))

    def act(
        self, observations: Float[Array, "batch observation"], memory: Plan, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], Plan]:
        """Plan when it is time to, then follow the plan.

        Until `observe` says what was earned, the reward in the new row of the past is the one that was planned.
        """
        size = observations.shape[1]
        seen = self.discretizer.of(slice(0, size)).encode(observations)
        row = memory.age % self.replan_every
        planned = jax.lax.cond(row == 0, lambda: self.plan(seen, memory, key=key), lambda: memory.planned)
        taken = planned[:, row].at[:, :size].set(seen)
        past = jnp.concatenate([memory.past[:, 1:], taken[:, None]], axis=1)
        actions = self.discretizer.of(self.actions).decode(taken[:, self.actions])
        return jnp.clip(actions, self.action_low, self.action_high), Plan(past, planned, memory.age + 1)

    def observe(self, memory: Plan, rewards: Float[Array, " batch"]) -> Plan:
        """Writes what was earned into the newest row of the past."""
        earned = self.discretizer.of(slice(-2, -1)).encode(rewards[:, None])[:, 0]
        return Plan(memory.past.at[:, -1, -2].set(earned), memory.planned, memory.age)

    def plan(
        self, observations: Int[Array, "batch observation"], memory: Plan, *, key: PRNGKeyArray
    ) -> Int[Array, "batch horizon kinds"]:
        """The best sequence found for every system."""
        mask = jnp.arange(self.history) >= self.history - memory.age
        slot = self.history * self.model.kinds

        def one(inputs):
            observation, past, key = inputs
            reading = self.model.read(past, mask)
            return self.search.plan(
                self.model, reading, slot, observation, self.discretizer.centers, key=key
            )[0]

        keys = jax.random.split(key, len(observations))
        return jax.lax.map(one, (observations, memory.past, keys), batch_size=ENVIRONMENTS_AT_ONCE)


def require_plan_fits(context: int, history: int, horizon: int, replan_every: int) -> None:
    """Raises UsageError for a past and a plan that are longer than the model's context, or a plan followed too long."""
    require_at_least(1, history=history, replan_every=replan_every)
    if history + horizon > context:
        raise UsageError(
            f"history and search.horizon must fit the model's context together, got {history} + {horizon} > {context}; "
            "shorten the plan or lengthen model.context"
        )
    if replan_every > horizon:
        raise UsageError(f"replan_every must be at most search.horizon ({horizon}), got {replan_every}")
