"""RvS (Emmons et al. 2022, "RvS: What is essential for offline RL via supervised learning?").

Behaviour cloning of what was done in view of what came of it: actions given the state and an outcome of the episode, a
return or a place it came to. To act is to command an outcome (Algorithm 1).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.errors import require_at_least
from langevin.nets.dropout import require_dropout
from langevin.nets.mlp import MLP
from langevin.policies.base import Metrics, Policy, SystemSpec
from langevin.policies.optimization import apply_gradient, init_optimizer


class Outcomes(eqx.Module):
    """Rows of data and what each came to: the outcome of a row is drawn from those of itself to `last_outcomes`.

    For a return that is the row itself; for a goal the rows to the end of its episode, each with the place it led to.
    """

    observations: Float[Array, "rows observation"]
    actions: Float[Array, "rows action"]
    outcomes: Float[Array, "rows outcome"]
    last_outcomes: Int[Array, " rows"]
    command: Float[Array, " outcome"]
    """What to ask for at act time, where the task does not say."""


class OutcomeBatch(eqx.Module):
    """Rows with one outcome each, in raw units."""

    observations: Float[Array, "batch observation"]
    actions: Float[Array, "batch action"]
    outcomes: Float[Array, "batch outcome"]


def sample_outcomes(data: Outcomes, batch_size: int, *, key: Key[Array, ""]) -> OutcomeBatch:
    """Rows uniform with replacement, each with an outcome uniform over its own (Algorithm 1, lines 3 and 4)."""
    row_key, outcome_key = jax.random.split(key)
    rows = jax.random.randint(row_key, (batch_size,), 0, data.last_outcomes.size)
    later = jax.random.randint(outcome_key, (batch_size,), rows, data.last_outcomes[rows] + 1)
    return OutcomeBatch(data.observations[rows], data.actions[rows], data.outcomes[later])


class RvSActor(eqx.Module):
    """(z-scored observation, z-scored outcome) -> action inside the bounds."""

    network: MLP
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    def __call__(
        self,
        observation: Float[Array, " observation"],
        outcome: Float[Array, " outcome"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " action"]:
        """The action that led from here to there; with a key, units are dropped."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        raw = self.network(jnp.concatenate([observation, outcome]), key=key)
        return low + (high - low) * (jnp.tanh(raw) + 1) / 2


class RvSState(eqx.Module):
    """The actor, its optimiser, the normalisers and what to ask for."""

    actor: RvSActor
    optimizer_state: optax.OptState
    observation_normalizer: GaussianNormalizer
    outcome_normalizer: GaussianNormalizer
    command: Float[Array, " outcome"]


class RvS(eqx.Module):
    """RvS with a deterministic actor.

    learning_rate: Adam's. width, depth: units and number of hidden layers. dropout: share of hidden units dropped in
    training.
    """

    learning_rate: float = eqx.field(static=True, default=1e-3)
    width: int = eqx.field(static=True, default=1024)
    depth: int = eqx.field(static=True, default=2)
    dropout: float = eqx.field(static=True, default=0.1)

    def __check_init__(self):
        require_at_least(1, width=self.width, depth=self.depth)
        require_dropout(self.dropout)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)

    def init(self, spec: SystemSpec, data: Outcomes, *, key: PRNGKeyArray) -> RvSState:
        """A fresh actor; outcomes are z-scored by the data's."""
        inputs = spec.observation_size + data.command.size
        network = MLP(inputs, spec.action_size, self.width, self.depth, jax.nn.relu, self.dropout, key=key)
        actor = RvSActor(network, spec.action_low, spec.action_high)
        return RvSState(
            actor,
            init_optimizer(self.optimizer, actor),
            spec.observation_normalizer,
            GaussianNormalizer.fit(data.outcomes),
            data.command,
        )

    def loss(
        self, actor: RvSActor, state: RvSState, batch: OutcomeBatch, *, key: PRNGKeyArray | None
    ) -> Float[Array, ""]:
        """mean (pi(s, outcome) - a)^2: maximum likelihood with a fixed spread (Eq. 1)."""
        observations = state.observation_normalizer.normalize(batch.observations)
        outcomes = state.outcome_normalizer.normalize(batch.outcomes)
        keys = None if key is None else jax.random.split(key, len(observations))
        actions = jax.vmap(lambda observation, outcome, key: actor(observation, outcome, key=key))(
            observations, outcomes, keys
        )
        return jnp.mean((actions - batch.actions) ** 2)

    def update(self, state: RvSState, batch: OutcomeBatch, *, key: PRNGKeyArray) -> tuple[RvSState, Metrics]:
        """One step of Adam (Algorithm 1, line 5)."""
        loss, gradient = eqx.filter_value_and_grad(self.loss)(state.actor, state, batch, key=key)
        actor, optimizer_state = apply_gradient(self.optimizer, state.actor, gradient, state.optimizer_state)
        state = eqx.tree_at(lambda s: (s.actor, s.optimizer_state), state, (actor, optimizer_state))
        return state, {"actor/loss": loss}

    def policy(self, state: RvSState, command: Float[Array, " outcome"] | None) -> "RvSPolicy":
        """The actor asked for one outcome; None where each observation shows what to ask for."""
        return RvSPolicy(state.actor, state.observation_normalizer, state.outcome_normalizer, command)


class RvSPolicy(Policy):
    """Acts for one commanded outcome, the same at every step; None where each observation shows its own, at its end."""

    actor: RvSActor
    observation_normalizer: GaussianNormalizer
    outcome_normalizer: GaussianNormalizer
    command: Float[Array, " outcome"] | None

    def start(self, batch_size: int) -> None:
        """Nothing to remember."""

    def act(
        self, observations: Float[Array, "batch observation"], memory: None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], None]:
        """The actor's action for every observation; the key is not used."""
        size = self.observation_normalizer.mean.size
        shown = observations[:, size:]
        commands = (
            shown
            if self.command is None
            else jnp.broadcast_to(self.command, (len(observations), self.command.size))
        )
        actions = jax.vmap(self.actor)(
            self.observation_normalizer.normalize(observations[:, :size]),
            self.outcome_normalizer.normalize(commands),
        )
        return actions, None
