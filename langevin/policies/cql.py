"""CQL (Kumar et al. 2020, "Conservative Q-learning for offline reinforcement learning"), its CQL(H) over SAC.

The critics are pushed down where the policy and chance would act and up where the data acted, so that an action
nobody tried is not believed to be better than those that were.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.nets.ensemble import Ensemble
from langevin.policies.base import Learner, Metrics, SystemSpec
from langevin.policies.critics import action_values, bellman_loss
from langevin.policies.gaussian import GaussianPolicy, SquashedGaussianActor, sample_actions
from langevin.policies.optimization import apply_gradient
from langevin.policies.sac import SAC, SACState

LARGEST_MULTIPLIER = 1e6

Penalty = Callable[..., Float[Array, " critics"]]
"""`penalty(critics, actor, observations, next_observations, actions, key=key)`, one number for each critic."""


class CQLState(eqx.Module):
    """SAC's state and the logarithm of the penalty's Lagrange multiplier (which stays 0 without a gap)."""

    base: SACState
    log_multiplier: Float[Array, ""]
    multiplier_optimizer: optax.OptState


class CQL(Learner):
    """CQL(H) with the official settings.

    base: the SAC it stands on. weight: of the penalty (alpha in the paper). samples: actions drawn from each of the
    three proposals for its logsumexp. gap: tau of the Lagrangian form (Eq. 30), where the multiplier of the penalty
    rises while the penalty is above the gap; none keeps the weight as it is.
    """

    base: SAC = SAC(depth=3, actor_learning_rate=1e-4, entropy_in_targets=False)
    weight: float = eqx.field(static=True, default=5.0)
    samples: int = eqx.field(static=True, default=10)
    gap: float | None = eqx.field(static=True, default=None)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> CQLState:
        """A fresh SAC, multiplier 1."""
        log_multiplier = jnp.zeros(())
        return CQLState(
            self.base.init(spec, key=key), log_multiplier, self.base.critic_optimizer.init(log_multiplier)
        )

    def penalty(
        self,
        critics: Ensemble,
        actor: SquashedGaussianActor,
        observations: Float[Array, "batch observation"],
        next_observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " critics"]:
        """mean over the batch of log sum_a exp Q_i(s, a) - Q_i(s, a_data) (Eq. 4)."""
        soft_maximum = self.soft_maximum(critics, actor, observations, next_observations, key=key)
        return (soft_maximum - action_values(critics, observations, actions)).mean(axis=1)

    def soft_maximum(
        self,
        critics: Ensemble,
        actor: SquashedGaussianActor,
        observations: Float[Array, "batch observation"],
        next_observations: Float[Array, "batch observation"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "critics batch"]:
        """log sum_a exp Q_i(s, a), what is pushed down.

        The sum is over `samples` actions each of a uniform proposal, the policy in s and the policy in s', every
        exponential divided by its proposal's density (appendix F). As in the authors' code it is a sum, not a mean:
        the difference is a constant, which only the Lagrangian's gap would feel.
        """
        proposed, log_densities = self.proposals(actor, observations, next_observations, key=key)
        repeated = jnp.tile(observations, (self.samples, 1))

        def values_of(actions: Float[Array, "samples batch action"]) -> Float[Array, "critics samples batch"]:
            found = action_values(critics, repeated, actions.reshape(-1, actions.shape[-1]))
            return found.reshape(len(found), self.samples, -1)

        # Proposal by proposal: what the critics keep for their gradient is smaller then, and nearer.
        values = jnp.stack([values_of(actions) for actions in proposed], axis=1)
        return jax.nn.logsumexp(values - log_densities, axis=(1, 2))

    def proposals(
        self,
        actor: SquashedGaussianActor,
        observations: Float[Array, "batch observation"],
        next_observations: Float[Array, "batch observation"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "proposals samples batch action"], Float[Array, "proposals samples batch"]]:
        """Actions to push down, of each of the three proposals, and the log density each was drawn with."""
        uniform_key, now_key, next_key = jax.random.split(key, 3)
        low, high = actor.action_low, actor.action_high
        shape = (self.samples, observations.shape[0], low.size)
        uniform = jax.random.uniform(uniform_key, shape, minval=low, maxval=high)
        uniform_density = jnp.full(shape[:2], -jnp.log(high - low).sum())

        def drawn(observations: Float[Array, "batch observation"], key: PRNGKeyArray):
            keys = jax.random.split(key, self.samples)
            return jax.vmap(lambda key: sample_actions(actor, observations, key=key))(keys)

        now, now_density = drawn(observations, now_key)
        after, after_density = drawn(next_observations, next_key)
        return jnp.stack([uniform, now, after]), jnp.stack([uniform_density, now_density, after_density])

    def critic_loss(
        self,
        critics: Ensemble,
        state: CQLState,
        batch: Transitions,
        observations: Float[Array, "batch observation"],
        targets: Float[Array, " batch"],
        penalty: Penalty,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Metrics]:
        """sum_i mean (Q_i - y)^2 + multiplier (weight penalty_i - gap) (Eqs. 4, 30).

        Eq. 4 halves the squared error, the authors' code does not; its weights, which the presets have, go with that.
        """
        next_observations = state.base.normalizer.normalize(batch.next_observations)
        penalties = self.weight * penalty(
            critics, state.base.actor, observations, next_observations, batch.actions, key=key
        )
        loss, metrics = bellman_loss(critics, batch, observations, targets)
        excess = penalties if self.gap is None else penalties - self.gap
        total = loss + (_multiplier(state.log_multiplier) * excess).sum()
        return total, metrics | {"critic/penalty": penalties.mean()}

    def update(
        self, state: CQLState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[CQLState, Metrics]:
        """One step of critics, actor, temperature, targets and, with a gap, the multiplier."""
        return self.descend(state, batch, self.penalty, key=key)

    def descend(
        self, state: CQLState, batch: Transitions, penalty: Penalty, *, key: PRNGKeyArray
    ) -> tuple[CQLState, Metrics]:
        """The step, with the penalty that the critics are to pay."""
        target_key, penalty_key, actor_key = jax.random.split(key, 3)
        observations = state.base.normalizer.normalize(batch.observations)
        targets = jax.lax.stop_gradient(self.base.targets(state.base, batch, key=target_key))
        gradient, metrics = eqx.filter_grad(self.critic_loss, has_aux=True)(
            state.base.critics, state, batch, observations, targets, penalty, key=penalty_key
        )
        base, actor_metrics = self.base.improve(state.base, gradient, observations, key=actor_key)
        log_multiplier, multiplier_optimizer = state.log_multiplier, state.multiplier_optimizer
        if self.gap is not None:
            excess = metrics["critic/penalty"] - self.gap
            ascent = jax.grad(lambda log_multiplier: -_multiplier(log_multiplier) * excess)
            log_multiplier, multiplier_optimizer = apply_gradient(
                self.base.critic_optimizer, log_multiplier, ascent(log_multiplier), multiplier_optimizer
            )
        return CQLState(base, log_multiplier, multiplier_optimizer), metrics | actor_metrics

    def policy(self, state: CQLState) -> GaussianPolicy:
        """The actor, acting by samples."""
        return GaussianPolicy(state.base.actor, state.base.normalizer)


def _multiplier(log_multiplier: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.clip(jnp.exp(log_multiplier), 0, LARGEST_MULTIPLIER)
