"""Decision Transformer (Chen et al. 2021, "Decision Transformer: reinforcement learning via sequence modeling").

A causal transformer reads (return-to-go, observation, action) triples and gives the action that comes next. To act is
to command a return, and to take off it what is earned on the way (Algorithm 1).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from langevin.data.contexts import sample_contexts
from langevin.data.normalize import GaussianNormalizer, MinMaxNormalizer
from langevin.errors import require_at_least
from langevin.nets.dropout import dropout, split_or_none
from langevin.nets.mlp import Linear
from langevin.nets.normalization import LayerNorm
from langevin.nets.transformer import INITIAL_STD, Transformer, require_transformer, visible_slots
from langevin.policies.base import Metrics, Policy, SystemSpec
from langevin.policies.optimization import apply_gradient, init_optimizer


class ReturnRows(eqx.Module):
    """Flat rows with what was still to be earned from each on, and its place in its episode; raw units."""

    observations: Float[Array, "rows observation"]
    actions: Float[Array, "rows action"]
    returns_to_go: Float[Array, " rows"]
    steps: Int[Array, " rows"]


class ReturnContexts(eqx.Module):
    """Contexts on the leading axis; rows where the mask is False are no part of the episode."""

    observations: Float[Array, "batch context observation"]
    actions: Float[Array, "batch context action"]
    returns_to_go: Float[Array, "batch context"]
    steps: Int[Array, "batch context"]
    mask: Bool[Array, "batch context"]


def sample_return_contexts(
    data: ReturnRows, context: int, batch_size: int, *, key: Key[Array, ""]
) -> ReturnContexts:
    """`batch_size` contexts that end in any row."""
    rows, mask = sample_contexts(data.steps, context, batch_size, key=key)
    return ReturnContexts(
        data.observations[rows], data.actions[rows], data.returns_to_go[rows], data.steps[rows], mask
    )


class ReturnTransformer(eqx.Module):
    """Normalised returns-to-go, observations and actions -> what the actions should be, in (-1, 1)."""

    embed_return: Linear
    embed_observation: Linear
    embed_action: Linear
    embed_step: Float[Array, "steps width"]
    norm: LayerNorm
    transformer: Transformer
    head: Linear
    dropout: float = eqx.field(static=True)

    def __call__(
        self,
        returns_to_go: Float[Array, " context"],
        observations: Float[Array, "context observation"],
        actions: Float[Array, "context action"],
        steps: Int[Array, " context"],
        mask: Bool[Array, " context"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "context action"]:
        """The action of each row from the returns and observations up to it and the actions before it.

        Steps beyond the last that has an embedding share its.
        """
        input_key, blocks_key = split_or_none(key, 2)
        place = self.embed_step[jnp.minimum(steps, len(self.embed_step) - 1)]
        triples = jnp.stack(
            [
                self.embed_return(returns_to_go[:, None]) + place,
                self.embed_observation(observations) + place,
                self.embed_action(actions) + place,
            ],
            axis=1,
        )
        tokens = dropout(self.norm(triples.reshape(-1, place.shape[-1])), self.dropout, input_key)
        visible = visible_slots(len(tokens), jnp.repeat(mask, 3))
        read, _ = self.transformer(tokens, visible, key=blocks_key)
        return jnp.tanh(self.head(read.reshape(triples.shape)[:, 1]))  # at the observations' tokens


class DecisionTransformerState(eqx.Module):
    """The network, its optimiser, the normalisers, the unit of returns and what to ask for."""

    network: ReturnTransformer
    optimizer_state: optax.OptState
    observation_normalizer: GaussianNormalizer
    action_normalizer: MinMaxNormalizer
    """The bounds to [-1, 1]. Apart from the network, whose weights decay."""
    return_scale: Float[Array, ""]
    target_return: Float[Array, ""]


class DecisionTransformer(eqx.Module):
    """Decision Transformer with the paper's settings for the robots (Table 9).

    context: rows read. layers, heads, width, dropout: of the transformer. steps: embeddings of an episode's steps.
    learning_rate: AdamW's after `warmup_steps` updates of linear ramp. weight_decay: AdamW's, of all weights.
    gradient_clip: largest norm of a gradient. return_scale: reward units that are 1 to the network; none takes the
    largest size of a return in the data. target_return: what to ask for, in reward units; none takes the data's best.
    """

    context: int = eqx.field(static=True, default=20)
    layers: int = eqx.field(static=True, default=3)
    heads: int = eqx.field(static=True, default=1)
    width: int = eqx.field(static=True, default=128)
    dropout: float = eqx.field(static=True, default=0.1)
    steps: int = eqx.field(static=True, default=1000)
    learning_rate: float = eqx.field(static=True, default=1e-4)
    warmup_steps: int = eqx.field(static=True, default=10_000)
    weight_decay: float = eqx.field(static=True, default=1e-4)
    gradient_clip: float = eqx.field(static=True, default=0.25)
    return_scale: float | None = eqx.field(static=True, default=None)
    target_return: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        require_at_least(1, context=self.context, steps=self.steps, warmup_steps=self.warmup_steps)
        require_transformer(self.width, self.layers, self.heads, self.dropout)
        if self.return_scale is not None:
            require_at_least(1e-12, return_scale=self.return_scale)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """AdamW behind a clipped gradient; its rate rises to full in `warmup_steps` updates."""
        first = self.learning_rate / self.warmup_steps
        rate = optax.linear_schedule(first, self.learning_rate, max(self.warmup_steps - 1, 1))
        return optax.chain(
            optax.clip_by_global_norm(self.gradient_clip), optax.adamw(rate, weight_decay=self.weight_decay)
        )

    def init(self, spec: SystemSpec, data: ReturnRows, *, key: PRNGKeyArray) -> DecisionTransformerState:
        """A fresh network; units of returns and the target from the data, where they are not set."""
        return_key, observation_key, action_key, step_key, blocks_key, head_key = jax.random.split(key, 6)
        network = ReturnTransformer(
            embed_return=Linear(1, self.width, key=return_key),
            embed_observation=Linear(spec.observation_size, self.width, key=observation_key),
            embed_action=Linear(spec.action_size, self.width, key=action_key),
            embed_step=INITIAL_STD * jax.random.normal(step_key, (self.steps, self.width)),
            norm=LayerNorm(self.width),
            transformer=Transformer(
                self.width, self.layers, self.heads, self.dropout, jax.nn.relu, key=blocks_key
            ),
            head=Linear(self.width, spec.action_size, key=head_key),
            dropout=self.dropout,
        )
        returns = jnp.where(data.steps == 0, data.returns_to_go, -jnp.inf)
        largest = jnp.abs(data.returns_to_go).max()
        scale = jnp.where(largest > 0, largest, 1.0) if self.return_scale is None else self.return_scale
        target = returns.max() if self.target_return is None else self.target_return
        return DecisionTransformerState(
            network,
            init_optimizer(self.optimizer, network),
            spec.observation_normalizer,
            MinMaxNormalizer(spec.action_low, spec.action_high),
            jnp.asarray(scale, jnp.float32),
            jnp.asarray(target, jnp.float32),
        )

    def loss(
        self,
        network: ReturnTransformer,
        state: DecisionTransformerState,
        batch: ReturnContexts,
        *,
        key: PRNGKeyArray | None,
    ) -> Float[Array, ""]:
        """mean (a_t - network(R, s, a up to t))^2 over the real rows."""
        keys = None if key is None else jax.random.split(key, len(batch.mask))
        predicted = predict_actions(network, state, batch, keys)
        errors = jnp.square(predicted - batch.actions).mean(axis=-1)
        return jnp.sum(errors * batch.mask) / batch.mask.sum()

    def update(
        self, state: DecisionTransformerState, batch: ReturnContexts, *, key: PRNGKeyArray
    ) -> tuple[DecisionTransformerState, Metrics]:
        """One step of AdamW."""
        loss, gradient = eqx.filter_value_and_grad(self.loss)(state.network, state, batch, key=key)
        network, optimizer_state = apply_gradient(
            self.optimizer, state.network, gradient, state.optimizer_state
        )
        state = eqx.tree_at(lambda s: (s.network, s.optimizer_state), state, (network, optimizer_state))
        return state, {"actor/loss": loss}

    def policy(self, state: DecisionTransformerState) -> "DecisionTransformerPolicy":
        """The network asked for the target return."""
        state = eqx.tree_at(lambda s: s.optimizer_state, state, None)
        return DecisionTransformerPolicy(state, self.context)


def predict_actions(
    network: ReturnTransformer,
    state: DecisionTransformerState,
    batch: ReturnContexts,
    keys: Key[Array, " batch"] | None = None,
) -> Float[Array, "batch context action"]:
    """The network's actions at every row, in raw units; with keys, units are dropped."""

    def one(returns_to_go, observations, actions, steps, mask, key):
        return network(returns_to_go, observations, actions, steps, mask, key=key)

    predicted = jax.vmap(one)(
        batch.returns_to_go / state.return_scale,
        state.observation_normalizer.normalize(batch.observations),
        state.action_normalizer.normalize(batch.actions),
        batch.steps,
        batch.mask,
        keys,
    )
    return state.action_normalizer.denormalize(predicted)


class Episode(eqx.Module):
    """The last rows of the episode so far, newest last, and what is still to be earned."""

    contexts: ReturnContexts
    return_to_go: Float[Array, " batch"]
    age: Int[Array, ""]
    """Steps since the episode began."""


class DecisionTransformerPolicy(Policy):
    """Acts for the return that is left of the target (Algorithm 1, evaluation)."""

    state: DecisionTransformerState
    context: int = eqx.field(static=True)

    def start(self, batch_size: int) -> Episode:
        """No rows yet, and all of the target still to be earned."""
        size = self.state.observation_normalizer.mean.size
        action_size = self.state.action_normalizer.low.size
        shape = batch_size, self.context
        contexts = ReturnContexts(
            jnp.zeros((*shape, size)),
            jnp.zeros((*shape, action_size)),
            jnp.zeros(shape),
            jnp.zeros(shape, jnp.int32),
            jnp.zeros(shape, bool),
        )
        return Episode(contexts, jnp.full(batch_size, self.state.target_return), jnp.int32(0))

    def act(
        self, observations: Float[Array, "batch observation"], memory: Episode, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], Episode]:
        """The action at the newest row, whose own action nothing has read yet; the key is not used."""
        batch, action_size = len(observations), self.state.action_normalizer.low.size
        newest = ReturnContexts(
            observations[:, None],
            jnp.zeros((batch, 1, action_size)),
            memory.return_to_go[:, None],
            jnp.full((batch, 1), memory.age),
            jnp.ones((batch, 1), bool),
        )
        contexts = jax.tree.map(
            lambda past, now: jnp.concatenate([past[:, 1:], now], axis=1), memory.contexts, newest
        )
        actions = predict_actions(self.state.network, self.state, contexts)[:, -1]
        contexts = eqx.tree_at(lambda c: c.actions, contexts, contexts.actions.at[:, -1].set(actions))
        return actions, Episode(contexts, memory.return_to_go, memory.age + 1)

    def observe(self, memory: Episode, rewards: Float[Array, " batch"]) -> Episode:
        """What was earned is no longer to be earned."""
        return Episode(memory.contexts, memory.return_to_go - rewards, memory.age)
