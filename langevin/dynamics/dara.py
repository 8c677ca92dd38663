"""DARA (Liu et al. 2022, "Dynamics-aware reward augmentation"): source rewards less what the target would not allow."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.dynamics.domain_classifier import DomainState, DomainTraining


class DARA(eqx.Module):
    """Two classifiers, and how much a transition that the target would not make is charged.

    weight: eta. limit: of the charge before the weight, in nats. classifiers: how both are trained.
    """

    weight: float = eqx.field(static=True, default=0.1)
    limit: float = eqx.field(static=True, default=10.0)
    classifiers: DomainTraining = DomainTraining(width=256, input_noise=0.1)

    def init(self, source: Transitions, target: Transitions, *, key: PRNGKeyArray) -> "DARAState":
        """Fresh classifiers of (s, a, s') and of (s, a)."""
        full_key, partial_key = jax.random.split(key)
        return DARAState(
            self.classifiers.init(source, target, True, key=full_key),
            self.classifiers.init(source, target, False, key=partial_key),
        )

    def update(
        self,
        state: "DARAState",
        source: Transitions,
        target: Transitions,
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple["DARAState", dict[str, Float[Array, ""]]]:
        """One gradient step of each."""
        full_key, partial_key = jax.random.split(key)
        full, metrics = self.classifiers.update(state.full, source, target, step=step, key=full_key)
        partial, others = self.classifiers.update(state.partial, source, target, step=step, key=partial_key)
        named = {f"{name}_of_actions": value for name, value in others.items()}
        return DARAState(full, partial), metrics | named

    def rewards(self, state: "DARAState", rows: Transitions) -> Float[Array, " rows"]:
        """r - eta clip(log p_s(s,a,s') / p_t(s,a,s') - log p_s(s,a) / p_t(s,a)) (Eq. 11), for source rows."""
        difference = state.partial.classifier.logit(rows) - state.full.classifier.logit(rows)
        return rows.rewards - self.weight * jnp.clip(difference, -self.limit, self.limit)


class DARAState(eqx.Module):
    """Both classifiers in training."""

    full: DomainState
    """Of (s, a, s')."""
    partial: DomainState
    """Of (s, a)."""
