"""Importance weights: how much more likely a policy is to act as logged than whoever made the log (ADEPT, Eq. 3)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.policies.base import Policy, has_density
from langevin.policies.gaussian import GaussianPolicy

BORROWED_STD = 0.2
"""Of the Gaussian around the action of a policy without a density, as a share of the action's half-range."""


def log_ratios(
    policy: Policy,
    behaviour: GaussianPolicy,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, " batch"]:
    """log pi(a | s) - log pi_D(a | s), never a ratio of densities: those overflow.

    A policy without a density is taken as a Gaussian of standard deviation `BORROWED_STD` around its action.
    """
    if has_density(policy):
        log_probs = policy.log_prob(observations, actions)
    else:
        chosen, _ = policy.act(observations, policy.start(observations.shape[0]), key=key)
        half_range = (behaviour.actor.action_high - behaviour.actor.action_low) / 2
        log_probs = jax.scipy.stats.norm.logpdf(actions, chosen, BORROWED_STD * half_range).sum(axis=-1)
    return log_probs - behaviour.log_prob(observations, actions)


def importance_weights(
    log_ratios: Float[Array, " batch"], least: float, most: float, least_share: float = 0.0
) -> Float[Array, " batch"]:
    """exp(log ratio), clipped to [least, most] while it is a logarithm, then divided by the batch's mean.

    least_share: an effective share below which all are taken to a power between 0 and 1, the largest that gives it; so
    a few rows never stand for the batch. 0 leaves them as they are.
    """
    clipped = jnp.clip(log_ratios, math.log(least), math.log(most))
    weights = jnp.exp(tempering(clipped, least_share) * clipped)
    return weights / weights.mean()


def tempering(logarithms: Float[Array, " batch"], least_share: float) -> Float[Array, ""]:
    """The largest power in [0, 1] of these weights whose effective share is no less than asked, to a millionth.

    The share falls as the power grows: from 1, where all weigh the same.
    """
    enough = lambda power: effective_share(jnp.exp(power * logarithms)) >= least_share

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        return jnp.where(enough(middle), middle, low), jnp.where(enough(middle), high, middle)

    low, _ = jax.lax.fori_loop(0, 20, halve, (jnp.float32(0), jnp.float32(1)))
    return jax.lax.stop_gradient(jnp.where(enough(1.0), 1.0, low))


def effective_share(weights: Float[Array, " batch"]) -> Float[Array, ""]:
    """(sum w)^2 / sum w^2 as a share of the rows: 1 where all weigh the same, 1/n where one has all the weight."""
    return weights.sum() ** 2 / (weights.size * jnp.square(weights).sum())
